//go:build !noasm

package kernels

//go:noescape
func signTablesNEON(query *float32, tables int, lut *byte, widest float32)

func signTables(query []float32, lut []byte, widest float32) {
	if level == Generic {
		signTablesGeneric(query, lut, widest)
	} else {
		signTablesNEON(&query[0], len(query)/4, &lut[0], widest)
	}
}
