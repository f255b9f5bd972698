//go:build noasm || !(amd64 || arm64)

package kernels

func dotRows(query, rows, out []float32) { dotRowsGeneric(query, rows, out) }

func dotGather(query, rows []float32, which []uint32, out []float32) {
	dotGatherGeneric(query, rows, which, out)
}
