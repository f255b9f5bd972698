//go:build !noasm

package kernels

//go:noescape
func signTablesAVX2(query *float32, tables int, lut *byte, widest float32)

//go:noescape
func signTablesAVX512(query *float32, tables int, lut *byte, widest float32)

func signTables(query []float32, lut []byte, widest float32) {
	switch level {
	case Generic:
		signTablesGeneric(query, lut, widest)
	case AVX2:
		signTablesAVX2(&query[0], len(query)/4, &lut[0], widest)
	default:
		signTablesAVX512(&query[0], len(query)/4, &lut[0], widest)
	}
}
