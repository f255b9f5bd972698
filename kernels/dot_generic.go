package kernels

func dotRowsGeneric(query, rows, out []float32) {
	dim := len(query)
	for i := range out {
		out[i] = dotGeneric(query, rows[i*dim:(i+1)*dim])
	}
}

func dotGatherGeneric(query, rows []float32, which []uint32, out []float32) {
	dim := len(query)
	for i, row := range which {
		start := int(row) * dim
		out[i] = dotGeneric(query, rows[start:start+dim])
	}
}

// dotGeneric keeps four sums so that additions do not wait for each other.
func dotGeneric(a, b []float32) float32 {
	b = b[:len(a)]
	var s0, s1, s2, s3 float32
	i := 0
	for ; i+8 <= len(a); i += 8 {
		x, y := (*[8]float32)(a[i:]), (*[8]float32)(b[i:])
		s0 += float32(x[0] * y[0])
		s1 += float32(x[1] * y[1])
		s2 += float32(x[2] * y[2])
		s3 += float32(x[3] * y[3])
		s0 += float32(x[4] * y[4])
		s1 += float32(x[5] * y[5])
		s2 += float32(x[6] * y[6])
		s3 += float32(x[7] * y[7])
	}
	for ; i < len(a); i++ {
		s0 += float32(a[i] * b[i])
	}
	return (s0 + s1) + (s2 + s3)
}
