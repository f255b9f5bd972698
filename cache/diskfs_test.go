package cache

import (
	"bytes"
	"io"
	"maps"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
)

// memFS is a directory in memory that can be told to fail. It outlives the
// caches that use it, as a disk outlives processes.
type memFS struct {
	mu    sync.Mutex
	files map[string]*memFile
	total int64 // size of the file system
	// read and write, if set, may fail what is done to a file.
	read  func(name string, off int64, n int) error
	write func(name string, off int64, n int) error
	made  int64 // bytes written
}

func newMemFS() *memFS { return &memFS{files: map[string]*memFile{}, total: 1 << 40} }

type memFile struct {
	fs   *memFS
	name string
	b    []byte
}

func (m *memFS) Lock() (io.Closer, error) { return io.NopCloser(nil), nil }

func (m *memFS) List() ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Keys(m.files)), nil
}

func (m *memFS) Open(name string) (slabFile, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f, ok := m.files[name]; ok {
		return f, nil
	}
	return nil, os.ErrNotExist
}

func (m *memFS) Create(name string) (slabFile, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.files[name]; ok {
		return nil, os.ErrExist
	}
	m.files[name] = &memFile{fs: m, name: name}
	return m.files[name], nil
}

func (m *memFS) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.files, name)
	return nil
}

func (m *memFS) Free() (int64, int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.total - m.held(), m.total, nil
}

func (m *memFS) held() (n int64) {
	for _, f := range m.files {
		n += int64(len(f.b))
	}
	return n
}

func (f *memFile) Close() error { return nil }

func (f *memFile) Size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return int64(len(f.b)), nil
}

func (f *memFile) Truncate(n int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.b = f.b[:min(n, int64(len(f.b)))]
	return nil
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.fs.read != nil {
		if err := f.fs.read(f.name, off, len(p)); err != nil {
			return 0, err
		}
	}
	return bytes.NewReader(f.b).ReadAt(p, off)
}

// WriteAt writes as much as the file system has room for.
func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	var err error
	if f.fs.write != nil {
		err = f.fs.write(f.name, off, len(p))
	}
	if room := f.fs.total - f.fs.held(); int64(len(p)) > room {
		p, err = p[:room], syscall.ENOSPC
	} else if err != nil {
		p = p[:len(p)/2]
	}
	if grow := off + int64(len(p)) - int64(len(f.b)); grow > 0 {
		f.b = append(f.b, make([]byte, grow)...)
	}
	f.fs.made += int64(len(p))
	return copy(f.b[off:], p), err
}

// clone is the disk as it is at this moment: what kill -9 leaves.
func (m *memFS) clone() *memFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := &memFS{files: map[string]*memFile{}, total: m.total}
	for name, f := range m.files {
		out.files[name] = &memFile{fs: out, name: name, b: bytes.Clone(f.b)}
	}
	return out
}

// only is the name of the one slab there is.
func (m *memFS) only(t *testing.T) *memFile {
	t.Helper()
	if len(m.files) != 1 {
		t.Fatalf("%d files, want one slab", len(m.files))
	}
	for _, f := range m.files {
		return f
	}
	return nil
}
