//go:build noasm || !(amd64 || arm64)

package kernels

func codebookSpans(query, codebook []float32) (widest, total float32) {
	return codebookSpansGeneric(query, codebook)
}

func codebookTables(query, codebook []float32, lut []byte, widest float32) {
	codebookTablesGeneric(query, codebook, lut, widest)
}
