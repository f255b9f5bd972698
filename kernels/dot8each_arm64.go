//go:build !noasm

package kernels

import "unsafe"

// dot8Each calls the kernel of consecutive rows for each: a call costs less than the cache miss.
func dot8Each(query []int8, rows []*byte, out []int32) {
	for i, row := range rows {
		dot8Rows(query, unsafe.Slice(row, len(query)), len(query), out[i:i+1])
	}
}
