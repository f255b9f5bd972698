//go:build noasm || !(amd64 || arm64)

package kernels

func l2Rows(query, rows, out []float32) { l2RowsGeneric(query, rows, out) }

func l2Gather(query, rows []float32, which []uint32, out []float32) {
	l2GatherGeneric(query, rows, which, out)
}
