package fileblob

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// flock is an exclusive lock on a file, among all goroutines of all processes.
// The kernel releases it when its holder dies.
type flock struct {
	file *os.File
	// taken has room for one: flock(2) does not exclude users of one descriptor.
	taken chan struct{}
}

func openFlock(path string) (*flock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	return newFlock(f), nil
}

func newFlock(f *os.File) *flock { return &flock{file: f, taken: make(chan struct{}, 1)} }

// acquire waits for the lock or the end of ctx.
func (l *flock) acquire(ctx context.Context) error {
	select {
	case l.taken <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	err := l.flock(syscall.LOCK_EX | syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return l.await(ctx)
	}
	if err != nil {
		<-l.taken
	}
	return err
}

// await waits in the kernel, on a goroutine of its own since that cannot be
// interrupted. When ctx ends first, that goroutine gives the lock back.
func (l *flock) await(ctx context.Context) error {
	outcome := make(chan error, 1)
	go func() { outcome <- l.flock(syscall.LOCK_EX) }()
	select {
	case err := <-outcome:
		if err != nil {
			<-l.taken
		}
		return err
	case <-ctx.Done():
		go func() {
			if <-outcome == nil {
				l.release()
			} else {
				<-l.taken
			}
		}()
		return ctx.Err()
	}
}

func (l *flock) release() {
	if err := l.flock(syscall.LOCK_UN); err != nil {
		panic(fmt.Sprintf("BUG: release of %s: %v", l.file.Name(), err))
	}
	<-l.taken
}

func (l *flock) close() error { return l.file.Close() }

func (l *flock) flock(how int) error { return flockFile(l.file, how) }

func flockFile(f *os.File, how int) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var errno error
	err = conn.Control(func(fd uintptr) {
		for {
			if errno = syscall.Flock(int(fd), how); errno != syscall.EINTR {
				return
			}
		}
	})
	return errors.Join(err, errno)
}

// holder is the folder of one open Store's temporary files. Others know that it
// is dead when they can lock its file.
type holder struct {
	dir  string
	file *os.File
}

// newHolder makes a folder in dir. The store's lock is held, so that nobody can
// take the new holder for a dead one before it has locked its file.
func newHolder(dir string) (*holder, error) {
	own, err := os.MkdirTemp(dir, "")
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(own, "holder"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, err
	}
	if err := flockFile(f, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return &holder{dir: own, file: f}, nil
}

func (h *holder) close() error {
	return errors.Join(os.RemoveAll(h.dir), h.file.Close())
}

// removeDead removes the folders in dir whose holders have died, and returns
// how many there were. The store's lock is held.
func removeDead(dir string) (count int, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		dead, err := removeIfDead(filepath.Join(dir, e.Name()))
		if err != nil {
			return count, err
		}
		if dead {
			count++
		}
	}
	return count, nil
}

func removeIfDead(dir string) (bool, error) {
	f, err := os.OpenFile(filepath.Join(dir, "holder"), os.O_RDWR, 0)
	if err != nil && !absent(err) {
		return false, err
	}
	if err == nil {
		defer f.Close()
		err := flockFile(f, syscall.LOCK_EX|syscall.LOCK_NB)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return true, os.RemoveAll(dir)
}

// timePrecision is what file times must at least be kept to: versions rely on
// it, and local file systems keep 1 ns to 100 ns.
const timePrecision = time.Microsecond

// probeTimes reports a file system whose file times are too coarse.
func (h *holder) probeTimes() error {
	want := time.Unix(1_000_000_000, 123_456_000)
	path := h.file.Name()
	if err := os.Chtimes(path, want, want); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if got := info.ModTime(); !got.Equal(want) {
		return fmt.Errorf("file system keeps modification times too coarsely: got %v, want %v", got.UTC(), want.UTC())
	}
	return nil
}
