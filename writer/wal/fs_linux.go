package wal

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

// SyncData is fdatasync. It is never repeated after a failure: the kernel
// reports a lost page once and then calls it clean.
func (f osFile) SyncData() error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) { // interrupted before it began
			return &fs.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
		}
	}
}

func (f osFile) Preallocate(size int64) error {
	err := unix.Fallocate(int(f.Fd()), 0, 0, size)
	if err == nil || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return nil // without it, writing the zeros reserves just as well
	}
	return &fs.PathError{Op: "fallocate", Path: f.Name(), Err: err}
}
