package kernels

func signLUTGeneric(query []float32, lut []byte) (scale, bias float32) {
	var widest, total float32
	for i := 0; i+4 <= len(query); i += 4 {
		half := spanGeneric((*[4]float32)(query[i:]))
		widest = max(widest, half)
		total += half
	}
	if widest == 0 {
		clear(lut)
		return 0, 0
	}
	// An entry is (value + half) / scale, and value runs from -half to +half.
	scale = 2 * widest / 255
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
			table[c] = byte(min(max(float32(v/widest*127.5)+0.5, 0), 255))
		}
	}
	return scale, -total
}

func spanGeneric(q *[4]float32) float32 {
	return abs(q[0]) + abs(q[1]) + abs(q[2]) + abs(q[3])
}

func abs(x float32) float32 {
	if x < 0 {
		return -x
	}
	return x
}
