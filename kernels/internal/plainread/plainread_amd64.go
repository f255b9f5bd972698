//go:build !noasm

package plainread

//go:noescape
func sumAVX2(data *byte, size int) uint64

//go:noescape
func sumAVX512(data *byte, size int) uint64

func sum(data []byte, wide bool) uint64 {
	switch {
	case len(data) == 0:
		return 0
	case wide:
		return sumAVX512(&data[0], len(data))
	}
	return sumAVX2(&data[0], len(data))
}
