//go:build !noasm

package kernels

import (
	"bytes"
	"unsafe"
)

// dot8Portable reports whether the kernel of this level cannot take the query.
func dot8Portable(query []int8) bool {
	return level == Generic || level != AVX512VNNI && !dot8SuitsAVX2(query)
}

// dot8SuitsAVX2 reports whether the kernels of AVX2 can take the query: they read whole vectors and
// have no opposite of -128. Codes that are quantised symmetrically have none.
func dot8SuitsAVX2(query []int8) bool {
	return len(query) >= 32 && bytes.IndexByte(unsafe.Slice((*byte)(unsafe.Pointer(&query[0])), len(query)), 0x80) < 0
}

// The kernels below work on count rows of dim elements: those that follow each other stride bytes
// apart from rows on, or, unless which is nil, the count that it names.

//go:noescape
func dot8VNNI(query *int8, rows *byte, dim, stride int, which *uint32, count int, out *int32)

//go:noescape
func dot8AVX2(query *int8, rows *byte, dim, stride int, which *uint32, count int, out *int32)

func dot8Rows(query []int8, rows []byte, stride int, out []int32) {
	if dot8Portable(query) {
		dot8RowsGeneric(query, rows, stride, out)
		return
	}
	dim, start := len(query), 0
	for len(out) > 0 {
		n := min(len(out), rowsPerCall(stride))
		switch level {
		case AVX512VNNI:
			dot8VNNI(&query[0], &rows[start], dim, stride, nil, n, &out[0])
		default:
			dot8AVX2(&query[0], &rows[start], dim, stride, nil, n, &out[0])
		}
		start, out = start+n*stride, out[n:]
	}
}

func dot8Gather(query []int8, rows []byte, stride int, which []uint32, out []int32) {
	if dot8Portable(query) {
		dot8GatherGeneric(query, rows, stride, which, out)
		return
	}
	dim := len(query)
	for len(out) > 0 {
		n := min(len(out), rowsPerCall(dim))
		switch level {
		case AVX512VNNI:
			dot8VNNI(&query[0], &rows[0], dim, stride, &which[0], n, &out[0])
		default:
			dot8AVX2(&query[0], &rows[0], dim, stride, &which[0], n, &out[0])
		}
		which, out = which[n:], out[n:]
	}
}
