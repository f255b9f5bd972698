package wal

import "io"

// FS is all the log asks of a filesystem. OS is the real one; tests bring
// others that crash and fail.
//
// A full disk shows as an error that wraps ENOSPC, EDQUOT or ErrFull. Every
// other error of a call that changes something means the disk cannot be
// trusted any more.
type FS interface {
	// MkdirAll makes dir and its missing parents, durable when it returns.
	MkdirAll(dir string) error
	// Create makes an empty file, or empties the one that is there, and opens
	// it for reading and writing.
	Create(name string) (File, error)
	// Open opens a file for reading.
	Open(name string) (File, error)
	// OpenReadWrite opens a file that exists.
	OpenReadWrite(name string) (File, error)
	// Rename replaces newname atomically; durable after SyncDir.
	Rename(oldname, newname string) error
	// Remove deletes a file; durable after SyncDir.
	Remove(name string) error
	// List returns the names in dir, in any order.
	List(dir string) ([]string, error)
	// SyncDir makes the entries of dir durable.
	SyncDir(dir string) error
	// Lock takes the lock that name stands for, creating the file if need be,
	// and holds it until the closer is closed or the process ends. It does not
	// wait: ErrLocked if another holds it.
	Lock(name string) (io.Closer, error)
	// FreeBytes is what an unprivileged process can still write below dir.
	FreeBytes(dir string) (int64, error)
}

// File is an open file. A WriteAt that returns a nil error wrote everything.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Size is the length in bytes.
	Size() (int64, error)
	// Preallocate reserves blocks for the first size bytes, as far as the
	// filesystem can; what it reserves reads as zeros.
	Preallocate(size int64) error
	// SyncData makes the content durable, and the length if it changed.
	SyncData() error
}
