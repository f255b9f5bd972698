//go:build noasm || !(amd64 || arm64)

package kernels

func dot8Each(query []int8, rows []*byte, out []int32) { dot8EachGeneric(query, rows, out) }
