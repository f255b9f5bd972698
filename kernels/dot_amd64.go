//go:build !noasm

package kernels

// The kernels below work on count rows of dim elements: those that follow each other from rows
// on, or, unless which is nil, the count that it names.

//go:noescape
func dotAVX2(query, rows *float32, dim int, which *uint32, count int, out *float32)

//go:noescape
func dotAVX512(query, rows *float32, dim int, which *uint32, count int, out *float32)

func dotRows(query, rows, out []float32) {
	if level == Generic {
		dotRowsGeneric(query, rows, out)
		return
	}
	dim := len(query)
	for len(out) > 0 {
		n := min(len(out), rowsPerCall(4*dim))
		switch level {
		case AVX2:
			dotAVX2(&query[0], &rows[0], dim, nil, n, &out[0])
		default:
			dotAVX512(&query[0], &rows[0], dim, nil, n, &out[0])
		}
		rows, out = rows[n*dim:], out[n:]
	}
}

func dotGather(query, rows []float32, which []uint32, out []float32) {
	if level == Generic {
		dotGatherGeneric(query, rows, which, out)
		return
	}
	dim := len(query)
	for len(out) > 0 {
		n := min(len(out), rowsPerCall(4*dim))
		switch level {
		case AVX2:
			dotAVX2(&query[0], &rows[0], dim, &which[0], n, &out[0])
		default:
			dotAVX512(&query[0], &rows[0], dim, &which[0], n, &out[0])
		}
		which, out = which[n:], out[n:]
	}
}
