//go:build noasm || !(amd64 || arm64)

package kernels

func dot8Rows(query []int8, rows []byte, stride int, out []int32) {
	dot8RowsGeneric(query, rows, stride, out)
}

func dot8Gather(query []int8, rows []byte, stride int, which []uint32, out []int32) {
	dot8GatherGeneric(query, rows, stride, which, out)
}
