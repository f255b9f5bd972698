//go:build !noasm

package kernels

// dot8Least is the shortest row that the kernels below can load.
const dot8Least = 16

// The kernels below work on count rows of dim elements: those that follow each other stride bytes
// apart from rows on, or, unless which is nil, the count that it names.

//go:noescape
func dot8DotProd(query *int8, rows *byte, dim, stride int, which *uint32, count int, out *int32)

//go:noescape
func dot8NEON(query *int8, rows *byte, dim, stride int, which *uint32, count int, out *int32)

func dot8Rows(query []int8, rows []byte, stride int, out []int32) {
	if level == Generic || len(query) < dot8Least {
		dot8RowsGeneric(query, rows, stride, out)
		return
	}
	dim, start := len(query), 0
	for len(out) > 0 {
		n := min(len(out), rowsPerCall(stride))
		switch level {
		case NEONDotProd:
			dot8DotProd(&query[0], &rows[start], dim, stride, nil, n, &out[0])
		default:
			dot8NEON(&query[0], &rows[start], dim, stride, nil, n, &out[0])
		}
		start, out = start+n*stride, out[n:]
	}
}

func dot8Gather(query []int8, rows []byte, stride int, which []uint32, out []int32) {
	if level == Generic || len(query) < dot8Least {
		dot8GatherGeneric(query, rows, stride, which, out)
		return
	}
	dim := len(query)
	for len(out) > 0 {
		n := min(len(out), rowsPerCall(dim))
		switch level {
		case NEONDotProd:
			dot8DotProd(&query[0], &rows[0], dim, stride, &which[0], n, &out[0])
		default:
			dot8NEON(&query[0], &rows[0], dim, stride, &which[0], n, &out[0])
		}
		which, out = which[n:], out[n:]
	}
}
