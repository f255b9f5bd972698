package kernels

import "golang.org/x/sys/unix"

// hugeBytes returns memory as a segment has it: of huge pages where the system has them, because
// rows at random otherwise measure how long it takes to find a page.
func hugeBytes(size int) []byte {
	data, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		panic("no memory for a benchmark: " + err.Error())
	}
	_ = unix.Madvise(data, unix.MADV_HUGEPAGE) // without it the figures are worse and no less true
	return data
}
