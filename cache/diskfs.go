package cache

import (
	"io"
	"os"
	"path/filepath"
)

// diskFS is the directory of the disk tier, as far as the tier needs it. Tests
// put one in its place that fails.
type diskFS interface {
	// Lock takes the directory for this process, and makes it if need be.
	Lock() (io.Closer, error)
	List() (names []string, err error)
	Open(name string) (slabFile, error)
	Create(name string) (slabFile, error)
	Remove(name string) error
	// Free is how many bytes of the file system are free for us, and how many
	// it has.
	Free() (free, total int64, err error)
}

// slabFile is an open slab. Closing it under a read makes that fail, no worse.
type slabFile interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	Truncate(size int64) error
}

// osDir is a directory of the operating system.
type osDir string

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (d osDir) List() ([]string, error) {
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func (d osDir) Open(name string) (slabFile, error) {
	f, err := os.OpenFile(filepath.Join(string(d), name), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (d osDir) Create(name string) (slabFile, error) {
	f, err := os.OpenFile(filepath.Join(string(d), name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (d osDir) Remove(name string) error { return os.Remove(filepath.Join(string(d), name)) }
