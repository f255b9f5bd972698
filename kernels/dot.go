package kernels

// DotRows writes to out[i] the inner product of query and row i of rows, which holds len(out)
// rows of len(query) elements one after the other.
func DotRows(query, rows, out []float32) {
	checkRows("DotRows", len(query), len(rows), len(out))
	dotRows(query, rows, out)
}

// DotGather is DotRows for chosen rows: out[i] belongs to row which[i].
func DotGather(query, rows []float32, which []uint32, out []float32) {
	checkGather("DotGather", len(query), len(rows), which, len(out))
	dotGather(query, rows, which, out)
}
