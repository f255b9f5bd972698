package wal

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// memFS is one process's view of a crashable in-memory disk. It can lie about
// syncs, run full, fail on demand and be killed.
type memFS struct {
	disk *vfs.MemFS

	// Consulted before every call that changes something, with the number of
	// the call; an error is returned instead of doing it. op is one of create,
	// write, preallocate, syncdata, rename, remove, syncdir.
	before func(op, name string, call int) error

	lieSyncData bool // about records; files are still prepared honestly
	lieSyncDir  bool
	renamed     map[string]bool // files opened under a temporary name and in place by now
	capacity    int64           // bytes of the disk; 0 is endless

	world sync.RWMutex // held for writing while the disk is copied
	mu    sync.Mutex
	calls int
	count map[string]int // calls by op
	dead  bool
	doom  bool // die instead of the next sync of records
	locks map[string]bool
}

var errDead = errors.New("the process was killed")

// errShort makes a write stop half way.
var errShort = errors.New("short write injected")

const testDir = "/wal"

func newMemFS() *memFS { return onDisk(vfs.NewCrashableMem()) }

// onDisk is a new process on an existing disk.
func onDisk(disk *vfs.MemFS) *memFS {
	return &memFS{disk: disk, count: map[string]int{}, locks: map[string]bool{}, renamed: map[string]bool{}}
}

// crash returns the disk as a power failure could leave it: of what was not
// synced, blocks, entries and removals survive with the given probability.
func (m *memFS) crash(rng *rand.Rand, percent int) *memFS {
	m.world.Lock()
	defer m.world.Unlock()
	clone := m.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng})
	live, _ := m.disk.List(testDir)
	left, _ := clone.List(testDir)
	slices.Sort(left)
	for _, name := range left {
		if !slices.Contains(live, name) && rng.IntN(100) < percent {
			_ = clone.Remove(filepath.Join(testDir, name))
		}
	}
	if d, err := clone.OpenDir(testDir); err == nil { // there is none before Open made it
		_, _ = d.Sync(), d.Close() // what is on the disk now stays as it is
	}
	c := onDisk(clone)
	c.lieSyncData, c.lieSyncDir = m.lieSyncData, m.lieSyncDir
	return c
}

// intercept makes before the hook of every call from now on.
func (m *memFS) intercept(before func(op, name string, call int) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.before = before
}

// kill makes every later call of this process fail.
func (m *memFS) kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dead = true
}

// killInSync kills the process once its next records are written and before
// they are synced.
func (m *memFS) killInSync() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.doom = true
}

func (m *memFS) calledTimes(op string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.count[op]
}

// change runs do unless the process is dead or a fault is injected.
func (m *memFS) change(op, name string, do func() error) error {
	m.mu.Lock()
	m.dead = m.dead || m.doom && op == "syncdata" && m.renamed[name]
	if m.dead {
		m.mu.Unlock()
		return errDead
	}
	m.calls++
	m.count[op]++
	call, before := m.calls, m.before
	m.mu.Unlock()
	if before != nil {
		if err := before(op, name, call); err != nil {
			return fmt.Errorf("%s %q: %w", op, name, err)
		}
	}
	m.world.RLock()
	defer m.world.RUnlock()
	return do()
}

func (m *memFS) MkdirAll(dir string) error {
	if err := m.disk.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	for d := dir; d != "/"; d = filepath.Dir(d) {
		f, err := m.disk.OpenDir(filepath.Dir(d))
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (m *memFS) Create(name string) (file File, err error) {
	err = m.change("create", name, func() error {
		f, err := m.disk.Create(name, vfs.WriteCategoryUnspecified)
		file = &memFile{m, f, name}
		m.setRenamed(name, false)
		return err
	})
	return file, err
}

func (m *memFS) Open(name string) (File, error) {
	f, err := m.disk.Open(name)
	return &memFile{m, f, name}, err
}

func (m *memFS) OpenReadWrite(name string) (File, error) {
	if _, err := m.disk.Stat(name); err != nil {
		return nil, err
	}
	f, err := m.disk.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	return &memFile{m, f, name}, err
}

func (m *memFS) Rename(oldname, newname string) error {
	return m.change("rename", newname, func() error {
		m.setRenamed(oldname, true)
		return m.disk.Rename(oldname, newname)
	})
}

func (m *memFS) setRenamed(name string, to bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.renamed[name] = to
}

// lies reports whether a sync of the file opened as name is not to happen.
func (m *memFS) lies(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lieSyncData && (m.renamed[name] || !strings.HasSuffix(name, tempSuffix))
}

func (m *memFS) Remove(name string) error {
	return m.change("remove", name, func() error { return m.disk.Remove(name) })
}

func (m *memFS) List(dir string) ([]string, error) {
	names, err := m.disk.List(dir)
	return slices.DeleteFunc(names, func(n string) bool { return n == "" }), err
}

func (m *memFS) SyncDir(dir string) error {
	return m.change("syncdir", dir, func() error {
		if m.lieSyncDir {
			return nil
		}
		f, err := m.disk.OpenDir(dir)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	})
}

func (m *memFS) Lock(name string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.locks[name] {
		return nil, fmt.Errorf("lock %q: %w", name, ErrLocked)
	}
	m.locks[name] = true
	return unlocker(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.locks, name)
	}), nil
}

type unlocker func()

func (u unlocker) Close() error { u(); return nil }

func (m *memFS) used() (bytes int64) {
	names, _ := m.disk.List(testDir)
	for _, name := range names {
		if info, err := m.disk.Stat(filepath.Join(testDir, name)); err == nil && !info.IsDir() {
			bytes += info.Size()
		}
	}
	return bytes
}

func (m *memFS) FreeBytes(string) (int64, error) {
	m.mu.Lock()
	capacity := m.capacity
	m.mu.Unlock()
	if capacity == 0 {
		return 1 << 40, nil
	}
	return capacity - m.used(), nil
}

func (m *memFS) setCapacity(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.capacity = bytes
}

type memFile struct {
	fs   *memFS
	f    vfs.File
	name string
}

func (f *memFile) ReadAt(b []byte, off int64) (int, error) { return f.f.ReadAt(b, off) }
func (f *memFile) Close() error                            { return f.f.Close() }

func (f *memFile) WriteAt(b []byte, off int64) (n int, err error) {
	err = f.fs.change("write", f.name, func() error {
		n, err = f.f.WriteAt(b, off)
		return err
	})
	if errors.Is(err, errShort) {
		n, _ = f.f.WriteAt(b[:len(b)/2], off)
	}
	return n, err
}

func (f *memFile) Size() (int64, error) {
	info, err := f.f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f *memFile) Preallocate(size int64) error {
	return f.fs.change("preallocate", f.name, func() error {
		have, err := f.Size()
		if err != nil {
			return err
		}
		if free, _ := f.fs.FreeBytes(testDir); free < size-have {
			return syscall.ENOSPC
		}
		return nil
	})
}

func (f *memFile) SyncData() error {
	return f.fs.change("syncdata", f.name, func() error {
		if f.fs.lies(f.name) {
			return nil
		}
		return f.f.SyncData()
	})
}

// readDisk and writeDisk get at the bytes of a file behind everyone's back.
func (m *memFS) readDisk(number uint64) []byte {
	data, err := readFile(m, testDir, number, nil, maxFileBytes)
	if err != nil {
		panic(err)
	}
	return data
}

func (m *memFS) writeDisk(name string, data []byte) {
	f, err := m.disk.Create(filepath.Join(testDir, name), vfs.WriteCategoryUnspecified)
	if err != nil {
		panic(err)
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		panic(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		panic(err)
	}
}
