//go:build !noasm

package kernels

//go:noescape
func codebookSpansNEON(query, codebook *float32, tables int) (widest, total float32)

//go:noescape
func codebookTablesNEON(query, codebook *float32, tables int, lut *byte, widest float32)

func codebookSpans(query, codebook []float32) (widest, total float32) {
	if level == Generic {
		return codebookSpansGeneric(query, codebook)
	}
	return codebookSpansNEON(&query[0], &codebook[0], len(query)/4)
}

func codebookTables(query, codebook []float32, lut []byte, widest float32) {
	if level == Generic {
		codebookTablesGeneric(query, codebook, lut, widest)
	} else {
		codebookTablesNEON(&query[0], &codebook[0], len(query)/4, &lut[0], widest)
	}
}
