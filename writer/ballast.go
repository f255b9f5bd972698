package writer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"

	"github.com/akidb/akidb/writer/wal"
)

// ballastName is the file in the data directory that is given up for a flush.
const ballastName = "ballast"

// Most of a disk that ballast and reserve may take, in hundredths.
const (
	ballastPercent = 3
	reservePercent = 2
)

// reserveBytes is what the log leaves free for everybody else's small files.
const reserveBytes = 64 << 20

// ballast is a file of real blocks that takes up room while there is plenty. A
// flush is what empties the log, and it needs room itself, to build a segment
// and, when the store is on the same disk, to upload it. So when the disk is
// nearly full and there is something to flush, the file goes.
//
// It stands between the log and its filesystem: room that was given back for a
// flush is nothing that the log may take.
type ballast struct {
	wal.FS
	dir  string
	size int64 // bytes; 0: there is none
	held atomic.Bool
}

// newBallast takes what an earlier process left.
func newBallast(fs wal.FS, dir string, size int64) *ballast {
	b := &ballast{FS: fs, dir: dir, size: size}
	b.held.Store(size == 0 || allocated(b.name()) >= size)
	return b
}

func (b *ballast) name() string { return filepath.Join(b.dir, ballastName) }

// allocated is how many bytes of blocks a file has; 0 if there is no such file.
func allocated(name string) int64 {
	info, err := os.Stat(name)
	if err != nil {
		return 0
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	return s.Blocks * 512
}

// FreeBytes is what is free once the ballast is in its place.
func (b *ballast) FreeBytes(dir string) (int64, error) {
	free, err := b.FS.FreeBytes(dir)
	if !b.held.Load() {
		free -= b.size
	}
	return free, err
}

// balance gives the ballast back when the disk is full and somebody needs room,
// and makes it anew when the disk is not.
func (b *ballast) balance(full, needed bool) error {
	switch held := b.held.Load(); {
	case b.size == 0:
	case held && full && needed:
		b.held.Store(false)
		if err := b.Remove(b.name()); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("give back %q: %w", b.name(), err)
		}
	case !held && !full:
		if err := b.fill(); err != nil {
			return fmt.Errorf("take up %d bytes with %q: %w", b.size, b.name(), err)
		}
		b.held.Store(true)
	}
	return nil
}

// fill makes the file, or leaves none.
func (b *ballast) fill() (err error) {
	f, err := b.Create(b.name())
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			_ = b.Remove(b.name()) // the first error tells
		}
	}()
	if err := f.Preallocate(b.size); err != nil {
		return err
	}
	if allocated(b.name()) >= b.size {
		return nil
	}
	zeros := make([]byte, 1<<20) // the filesystem reserves nothing: write
	for off := int64(0); off < b.size; off += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros[:min(int64(len(zeros)), b.size-off)], off); err != nil {
			return err
		}
	}
	return f.SyncData()
}

// openDisk measures the disk of the data directory and puts the ballast on it.
func (w *Writer) openDisk() error {
	if err := os.MkdirAll(w.cfg.DataDir, 0o755); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	capacity, err := wal.Capacity(w.cfg.DataDir)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if w.cfg.WAL.ReserveBytes == 0 {
		w.cfg.WAL.ReserveBytes = min(reserveBytes, capacity/100*reservePercent)
	}
	w.ballast = newBallast(w.cfg.FS, w.cfg.DataDir, min(w.cfg.BallastBytes, capacity/100*ballastPercent))
	w.cfg.FS = w.ballast
	return nil
}
