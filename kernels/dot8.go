package kernels

import "fmt"

// MaxDot8Dim is the longest int8 row whose inner product cannot overflow an int32, whatever the
// codes are: 128 · 128 · 2^16 = 2^30.
const MaxDot8Dim = 1 << 16

// Dot8Rows writes to out[i] the inner product of two int8 vectors: query, and the first
// len(query) bytes of row i, which starts at rows[i*stride]. Exact for len(query) <= MaxDot8Dim.
//
// A query without -128 is faster at some levels: VPSIGNB of AVX2 cannot negate it.
//
// Rows are bytes because they are read from storage as they are; each byte is an int8.
func Dot8Rows(query []int8, rows []byte, stride int, out []int32) {
	checkDot8("Dot8Rows", len(query), stride)
	if len(out) > 0 && (len(out)-1)*stride+len(query) > len(rows) {
		panic(fmt.Sprintf("BUG: kernels.Dot8Rows: %d bytes are less than %d rows %d apart", len(rows), len(out), stride))
	}
	dot8Rows(query, rows, stride, out)
}

// Dot8Gather is Dot8Rows for chosen rows: out[i] belongs to the row at rows[which[i]*stride].
func Dot8Gather(query []int8, rows []byte, stride int, which []uint32, out []int32) {
	checkDot8("Dot8Gather", len(query), stride)
	if len(which) != len(out) {
		panic(fmt.Sprintf("BUG: kernels.Dot8Gather: %d rows wanted, %d results", len(which), len(out)))
	}
	for _, row := range which {
		if int(row)*stride+len(query) > len(rows) {
			panic(fmt.Sprintf("BUG: kernels.Dot8Gather: row %d, %d apart, is past %d bytes", row, stride, len(rows)))
		}
	}
	dot8Gather(query, rows, stride, which, out)
}

func checkDot8(kernel string, dim, stride int) {
	if dim == 0 || dim > MaxDot8Dim || stride < dim {
		panic(fmt.Sprintf("BUG: kernels.%s: rows of %d elements %d apart", kernel, dim, stride))
	}
}
