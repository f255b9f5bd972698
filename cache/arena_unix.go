//go:build unix

package cache

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// reserve maps more than it needs, to begin at a huge page: the system maps only what is touched.
func (a *Arena) reserve(size int) error {
	if size == 0 {
		return nil
	}
	mapped, err := unix.Mmap(-1, 0, size+hugePage, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	a.mapped = mapped
	skip := (hugePage - int(uintptr(unsafe.Pointer(&mapped[0]))%hugePage)) % hugePage
	a.bytes = mapped[skip : skip+size : skip+size]
	adviseHuge(a.bytes)
	return nil
}

func (a *Arena) free() {
	a.bytes = nil
	if a.mapped != nil {
		if err := unix.Munmap(a.mapped); err != nil {
			panic("BUG: unmap an arena: " + err.Error())
		}
		a.mapped = nil
	}
}
