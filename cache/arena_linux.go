package cache

import "golang.org/x/sys/unix"

// adviseHuge is a wish: a system that does not grant it serves small pages.
func adviseHuge(b []byte) { _ = unix.Madvise(b, unix.MADV_HUGEPAGE) }
