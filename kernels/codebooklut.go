package kernels

import "fmt"

// codebookSize is how many elements of a codebook belong to one sub-quantizer: an entry has 4.
const codebookSize = 4 * LUTEntries

// CodebookLUT builds the quantised look-up table of a learned codebook: sub-quantizer m covers
// the elements 4m..4m+3 of query, and codebook[64m+16d+c] is element d of its entry c. The inner
// product of query with a row of entries is then about scale · (sum of the row's table entries) +
// bias, off by at most scale/2 for each sub-quantizer.
//
// Both are finite, and so are the products of query with every entry and their differences;
// len(query) is a multiple of 4, and for each 4 elements codebook has 64 and lut 16. One scale
// serves all tables, chosen so that the widest spans 0..LUTMax. If no table spans anything the
// scale is 0, lut is clear, and the bias is the inner product. Every level builds the same table,
// to the bit.
func CodebookLUT(query, codebook []float32, lut []byte) (scale, bias float32) {
	tables := len(query) / 4
	if tables == 0 || len(query)%4 != 0 || len(codebook) != tables*codebookSize || len(lut) != tables*LUTEntries {
		panic(fmt.Sprintf("BUG: kernels.CodebookLUT: %d elements, codebook of %d, table of %d entries", len(query), len(codebook), len(lut)))
	}
	widest, bias := codebookSpans(query, codebook)
	if widest == 0 {
		clear(lut)
		return 0, bias
	}
	codebookTables(query, codebook, lut, widest)
	return widest / LUTMax, bias
}
