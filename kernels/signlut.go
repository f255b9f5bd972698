package kernels

import "fmt"

// SignLUT builds the quantised look-up table of the sign codebook: sub-quantizer m covers the
// elements 4m..4m+3 of query, and entry c stands for the sum of those elements, each with a plus
// where its bit in c is set and a minus where not. The true inner product of query with a row of
// signs is then about scale · (sum of the row's entries) + bias, off by at most scale/2 for each
// sub-quantizer.
//
// query is finite, len(query) is a multiple of 4 and lut has 16 entries for each 4 elements. One scale serves all
// tables, chosen so that the widest spans 0..LUTMax. A query of zeros gives scale 0 and bias 0. Every
// level builds the same table, to the bit.
func SignLUT(query []float32, lut []byte) (scale, bias float32) {
	if len(query) == 0 || len(query)%4 != 0 || len(lut) != len(query)/4*LUTEntries {
		panic(fmt.Sprintf("BUG: kernels.SignLUT: %d elements, table of %d entries", len(query), len(lut)))
	}
	widest, total := signSpans(query)
	if widest == 0 {
		clear(lut)
		return 0, 0
	}
	signTables(query, lut, widest)
	return 2 * widest / LUTMax, -total
}
