//go:build noasm || !(amd64 || arm64)

package kernels

func signTables(query []float32, lut []byte, widest float32) { signTablesGeneric(query, lut, widest) }
