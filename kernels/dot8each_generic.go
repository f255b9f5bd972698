package kernels

import "unsafe"

func dot8EachGeneric(query []int8, rows []*byte, out []int32) {
	for i, row := range rows {
		out[i] = dot8Generic(query, unsafe.Slice(row, len(query)))
	}
}
