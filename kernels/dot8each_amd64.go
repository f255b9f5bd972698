//go:build !noasm

package kernels

//go:noescape
func dot8EachAVX2(query *int8, rows **byte, dim, count int, out *int32)

// dot8Each has no kernel of its own above AVX2: rows at random are as fast as memory gives them.
func dot8Each(query []int8, rows []*byte, out []int32) {
	if level == Generic || !dot8SuitsAVX2(query) {
		dot8EachGeneric(query, rows, out)
		return
	}
	for len(out) > 0 {
		n := min(len(out), rowsPerCall(len(query)))
		dot8EachAVX2(&query[0], &rows[0], len(query), n, &out[0])
		rows, out = rows[n:], out[n:]
	}
}
