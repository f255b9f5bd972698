package kernels

import "math"

// signSpans returns the widest half of a table's span, and the sum of all of them in order. There
// is only this one: the sum is a chain of additions, and its order is part of the result.
func signSpans(query []float32) (widest, total float32) {
	for i := 0; i+4 <= len(query); i += 4 {
		half := spanGeneric((*[4]float32)(query[i:]))
		if half > widest {
			widest = half
		}
		total += half
	}
	return widest, total
}

// signTablesGeneric quantises the entries: (value + half) / scale, where value runs from -half to
// +half and scale is 2·widest/LUTMax.
func signTablesGeneric(query []float32, lut []byte, widest float32) {
	for i := 0; i+4 <= len(query); i += 4 {
		q := (*[4]float32)(query[i:])
		table := (*[LUTEntries]byte)(lut[4*i:])
		var value [LUTEntries]float32
		value[0] = spanGeneric(q) - (q[0] + q[1] + q[2] + q[3])
		for bit, x := range q {
			n := 1 << bit
			for c := range n {
				value[(c|n)&15] = value[c] + 2*x
			}
		}
		for c, v := range value {
			// Dividing by widest first cannot overflow, however small the query is.
			table[c] = byte(min(max(float32(v/widest*(LUTMax/2.0))+0.5, 0), LUTMax))
		}
	}
}

func spanGeneric(q *[4]float32) float32 { return abs(q[0]) + abs(q[1]) + abs(q[2]) + abs(q[3]) }

// abs has no branch: the signs of a query are as good as random.
func abs(x float32) float32 { return math.Float32frombits(math.Float32bits(x) &^ (1 << 31)) }
