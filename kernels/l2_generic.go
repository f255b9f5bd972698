package kernels

func l2RowsGeneric(query, rows, out []float32) {
	dim := len(query)
	for i := range out {
		out[i] = l2Generic(query, rows[i*dim:(i+1)*dim])
	}
}

func l2GatherGeneric(query, rows []float32, which []uint32, out []float32) {
	dim := len(query)
	for i, row := range which {
		start := int(row) * dim
		out[i] = l2Generic(query, rows[start:start+dim])
	}
}

// l2Generic keeps four sums so that additions do not wait for each other.
func l2Generic(a, b []float32) float32 {
	b = b[:len(a)]
	var s0, s1, s2, s3 float32
	i := 0
	for ; i+8 <= len(a); i += 8 {
		x, y := (*[8]float32)(a[i:]), (*[8]float32)(b[i:])
		d0, d1, d2, d3 := x[0]-y[0], x[1]-y[1], x[2]-y[2], x[3]-y[3]
		s0 += float32(d0 * d0)
		s1 += float32(d1 * d1)
		s2 += float32(d2 * d2)
		s3 += float32(d3 * d3)
		d0, d1, d2, d3 = x[4]-y[4], x[5]-y[5], x[6]-y[6], x[7]-y[7]
		s0 += float32(d0 * d0)
		s1 += float32(d1 * d1)
		s2 += float32(d2 * d2)
		s3 += float32(d3 * d3)
	}
	for ; i < len(a); i++ {
		d := a[i] - b[i]
		s0 += float32(d * d)
	}
	return (s0 + s1) + (s2 + s3)
}
