package kernels

// L2Rows writes to out[i] the squared Euclidean distance between query and row i of rows,
// which holds len(out) rows of len(query) elements one after the other.
func L2Rows(query, rows, out []float32) {
	checkRows("L2Rows", len(query), len(rows), len(out))
	l2Rows(query, rows, out)
}

// L2Gather is L2Rows for chosen rows: out[i] belongs to row which[i].
func L2Gather(query, rows []float32, which []uint32, out []float32) {
	checkGather("L2Gather", len(query), len(rows), which, len(out))
	l2Gather(query, rows, which, out)
}
