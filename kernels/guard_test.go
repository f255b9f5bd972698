//go:build unix

package kernels

import (
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// guards are buffers that end where a page begins that nobody may read, one for each argument of
// a kernel: a load past the end of an input is a fault and not a lucky guess.
var guards = map[string][]byte{}

// atGuard copies values to the end of the buffer of an argument. The copy holds until the next
// call for the same argument.
func atGuard[T any](argument string, values []T) []T {
	if len(values) == 0 {
		return values
	}
	size := len(values) * int(unsafe.Sizeof(values[0]))
	if len(guards[argument]) < size {
		guards[argument] = newGuarded(max(size, 1<<20))
	}
	buffer := guards[argument]
	copied := unsafe.Slice((*T)(unsafe.Pointer(&buffer[len(buffer)-size])), len(values))
	copy(copied, values)
	return copied
}

func newGuarded(size int) []byte {
	page := unix.Getpagesize()
	size = (size + page - 1) / page * page
	pages, err := unix.Mmap(-1, 0, size+page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		panic("no memory for a guarded buffer: " + err.Error())
	}
	if err := unix.Mprotect(pages[size:], unix.PROT_NONE); err != nil {
		panic("no guard page: " + err.Error())
	}
	return pages[:size:size]
}

func TestGuardedBufferEndsAtItsPage(t *testing.T) {
	values := []uint32{1, 2, 3}
	copied := atGuard("guard", values)
	if !slices.Equal(copied, values) {
		t.Errorf("copied %v, want %v", copied, values)
	}
	if end := uintptr(unsafe.Pointer(&copied[2])) + 4; end%uintptr(unix.Getpagesize()) != 0 {
		t.Errorf("the copy ends at %#x, which is not the end of a page", end)
	}
}
