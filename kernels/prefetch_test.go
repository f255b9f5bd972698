package kernels

import "testing"

// Prefetching never faults, wherever the bytes begin and end: here before a page that cannot be
// read.
func TestPrefetchTakesAnyBytes(t *testing.T) {
	Prefetch(nil)
	for _, size := range []int{1, 63, 64, 65, 4096} {
		b := atGuard("bytes", make([]byte, size))
		for first := range min(size, 70) {
			Prefetch(b[first:])
		}
	}
}
