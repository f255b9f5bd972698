//go:build !noasm

package kernels

// The kernels below scan count blocks, the rows of which are numbered from first, and return how
// many they kept. est and rows have room for every row.

//go:noescape
func scan4AVX2(blocks *byte, count int, lut *byte, subQuantizers int, scan *Scan, mask *uint32, first int, est *float32, rows *uint32) int

//go:noescape
func scan4AVX512(blocks *byte, count int, lut *byte, subQuantizers int, scan *Scan, mask *uint32, first int, est *float32, rows *uint32) int

//go:noescape
func scan4VNNI(blocks *byte, count int, lut *byte, subQuantizers int, scan *Scan, mask *uint32, first int, est *float32, rows *uint32) int

func scan4(blocks, lut []byte, scan Scan, mask []uint32, est []float32, rows []uint32) int {
	if level == Generic {
		return scan4Generic(blocks, lut, scan, mask, est, rows)
	}
	subQuantizers := len(lut) / LUTEntries
	size := BlockSize(subQuantizers)
	kept := 0
	for b := 0; b < len(mask); {
		n := min(len(mask)-b, rowsPerCall(size))
		block, first := &blocks[b*size], b*BlockRows
		switch level {
		case AVX2:
			kept += scan4AVX2(block, n, &lut[0], subQuantizers, &scan, &mask[b], first, &est[kept], &rows[kept])
		case AVX512:
			kept += scan4AVX512(block, n, &lut[0], subQuantizers, &scan, &mask[b], first, &est[kept], &rows[kept])
		default:
			kept += scan4VNNI(block, n, &lut[0], subQuantizers, &scan, &mask[b], first, &est[kept], &rows[kept])
		}
		b += n
	}
	return kept
}
