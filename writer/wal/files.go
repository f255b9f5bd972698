package wal

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"path/filepath"
	"slices"
)

// install puts a file in place under its final name: header, body, zeros up to
// size, all durable before the name is. A body is followed by a mark that
// vouches for it. The file that had the name, if any, is replaced in one step.
func install(fsys FS, dir string, uuid UUID, number uint64, body []byte, size int64) (*logFile, error) {
	temp := filepath.Join(dir, tempName(number))
	handle, err := fsys.Create(temp)
	if err != nil {
		return nil, fmt.Errorf("create wal file: %w", err)
	}
	if err := fill(handle, uuid, number, body, size); err != nil {
		// The first error is the one that tells; the rest is tidying.
		_, _ = handle.Close(), fsys.Remove(temp)
		return nil, fmt.Errorf("prepare wal file %q of %d bytes: %w", fileName(number), size, err)
	}
	if err := fsys.Rename(temp, filepath.Join(dir, fileName(number))); err != nil {
		return nil, errors.Join(fmt.Errorf("put wal file in place: %w", err), handle.Close())
	}
	if err := fsys.SyncDir(dir); err != nil {
		// %v: the name is taken by now, so even a full disk is the end here.
		return nil, fmt.Errorf("sync wal directory: %v", errors.Join(err, handle.Close()))
	}
	return &logFile{
		number: number, handle: handle, capacity: size,
		end: fileHeaderBytes + int64(len(body)), lastSeq: map[CollectionID]uint64{},
	}, nil
}

// fill writes and syncs the content of a new file.
func fill(f File, uuid UUID, number uint64, body []byte, size int64) error {
	if err := f.Preallocate(size); err != nil {
		return err
	}
	if err := writeAt(f, encodeFileHeader(uuid, number), 0); err != nil {
		return err
	}
	end := fileHeaderBytes + int64(len(body))
	if err := writeAt(f, body, fileHeaderBytes); err != nil {
		return err
	}
	for off := end; off < size; {
		n := min(size-off, int64(len(zeros)))
		if err := writeAt(f, zeros[:n], off); err != nil {
			return err
		}
		off += n
	}
	if err := f.SyncData(); err != nil {
		return err
	}
	if len(body) == 0 {
		return nil
	}
	if err := writeAt(f, appendMark(nil, typeMark, uuid, Position{number, end}), end); err != nil {
		return err
	}
	return f.SyncData()
}

// writeAt holds a File to its word.
func writeAt(f File, b []byte, off int64) error {
	if len(b) == 0 {
		return nil
	}
	n, err := f.WriteAt(b, off)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return err
}

func removeFile(fsys FS, dir string, number uint64) error {
	if err := fsys.Remove(filepath.Join(dir, fileName(number))); err != nil {
		return fmt.Errorf("remove wal file: %w", err)
	}
	if err := fsys.SyncDir(dir); err != nil {
		return fmt.Errorf("sync wal directory: %w", err)
	}
	return nil
}

// kick asks the janitor to look again. Callers hold mu.
func (l *Log) kick() {
	l.janitorDue = true
	l.cond.Broadcast()
}

// janitorLoop prepares and removes files until the log closes or fails.
func (l *Log) janitorLoop() {
	defer l.workers.Done()
	for {
		l.mu.Lock()
		for !l.janitorDue && !l.closing && l.err == nil {
			l.cond.Wait()
		}
		if l.closing || l.err != nil {
			l.mu.Unlock()
			return
		}
		l.janitorDue = false
		l.janitorRuns++
		l.mu.Unlock()

		reaped := l.reap()
		l.mu.Lock()
		// On a full disk only a demand or freed space is reason to try again.
		hopeless := l.full != nil && l.wantBytes == 0 && !reaped
		l.mu.Unlock()
		if !hopeless {
			l.prepare()
		}

		l.mu.Lock()
		l.janitorDone++
		l.cond.Broadcast()
		l.mu.Unlock()
	}
}

// prepare makes sure that a next file is there and large enough. It runs in
// the janitor, or in Open before there is one.
func (l *Log) prepare() {
	l.mu.Lock()
	replaced, wanted := l.next, l.wantBytes
	l.wantBytes = 0 // who is refused asks again
	size := max(l.cfg.FileBytes, wanted)
	if l.err != nil || replaced != nil && replaced.capacity >= size {
		l.full = nil
		l.mu.Unlock()
		return
	}
	number := l.last + 1
	if replaced != nil {
		number = replaced.number
		l.next = nil // out of reach while it is being replaced
	}
	l.mu.Unlock()

	f, err := l.allocate(number, size)
	full := err
	if replaced == nil && isFull(err) && size > l.cfg.FileBytes {
		f, err = l.allocate(number, l.cfg.FileBytes)
	}
	if replaced == nil && isFull(err) {
		// A file with no room for records still lets the tail go once it is
		// flushed, and that is what frees the disk.
		f, err = install(l.fs, l.dir, l.uuid, number, nil, fileHeaderBytes)
	}
	if err != nil && !isFull(err) {
		l.poison(err)
		full = err
	}
	l.took(f, replaced, full)
}

// allocate installs an empty file unless that would eat into the reserve.
func (l *Log) allocate(number uint64, size int64) (*logFile, error) {
	if l.cfg.ReserveBytes > 0 {
		free, err := l.fs.FreeBytes(l.dir)
		if err != nil {
			return nil, fmt.Errorf("measure free space: %w", err)
		}
		if free-size < l.cfg.ReserveBytes {
			return nil, fmt.Errorf("%w: %d bytes free, want %d for a file and %d in reserve", ErrFull, free, size, l.cfg.ReserveBytes)
		}
	}
	return install(l.fs, l.dir, l.uuid, number, nil, size)
}

// took makes f, if there is one, the next file, in the place of replaced.
func (l *Log) took(f, replaced *logFile, full error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.full = full
	if full != nil && !errors.Is(full, ErrFull) {
		l.full = fmt.Errorf("%w: %w", ErrFull, full)
	}
	switch {
	case f == nil:
		l.next = replaced
	case replaced != nil:
		_ = replaced.handle.Close() // empty and already out of the directory
		l.files[len(l.files)-1] = f
		l.next = f
	default:
		l.files = append(l.files, f)
		l.next, l.last = f, f.number
	}
	if full == nil {
		l.stats.Prepared++
	}
	l.cond.Broadcast()
}

// Release says that the records of a collection up to seq, that one included,
// are safe elsewhere. A file goes when all of its records are released and no
// older file is left: the files that remain never have a hole between them.
// The removal happens in the background.
func (l *Log) Release(collection CollectionID, seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if seq > l.released[collection] {
		l.released[collection] = seq
		l.kick()
	}
}

// Drop releases everything a collection has, for good: its identifier is never
// used again and Enqueue refuses it.
func (l *Log) Drop(collection CollectionID) { l.Release(collection, math.MaxUint64) }

// Retry has the janitor look for room again if the last time there was none: of
// space that others gave back the log hears nothing.
func (l *Log) Retry() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.full != nil {
		l.want(0)
	}
}

// Holders returns the collections whose records are all that keeps the oldest
// files: as many files as hold the first n bytes of records.
func (l *Log) Holders(n int64) []CollectionID {
	l.mu.Lock()
	defer l.mu.Unlock()
	held := map[CollectionID]bool{}
	for _, f := range l.files {
		if n <= 0 {
			break
		}
		n -= f.end - fileHeaderBytes
		for c, seq := range f.lastSeq {
			if l.released[c] < seq {
				held[c] = true
			}
		}
	}
	return slices.Collect(maps.Keys(held))
}

// reap removes the oldest files as long as nobody needs them, and reports
// whether it removed any. Each removal is durable before the next, or a crash
// could bring back an old file behind a hole.
func (l *Log) reap() (reaped bool) {
	for {
		l.mu.Lock()
		f := l.removable()
		if f == nil {
			l.mu.Unlock()
			return reaped
		}
		l.files = l.files[1:]
		if l.tail == f {
			l.tail = nil
		}
		if l.marked == f {
			l.marked = nil
		}
		l.mu.Unlock()

		err := errors.Join(removeFile(l.fs, l.dir, f.number), f.handle.Close())
		if err != nil {
			l.poison(err)
			return reaped
		}
		reaped = true
		l.mu.Lock()
		l.stats.Removed++
		l.stats.RemovedBytes += f.end - fileHeaderBytes
		l.mu.Unlock()
	}
}

// removable returns the oldest file if it can go. The tail stays as long as it
// can take records, unless the disk is full and its space is needed more: then
// an empty successor keeps the identity of the log.
func (l *Log) removable() *logFile {
	if l.err != nil || len(l.files) < 2 {
		return nil
	}
	f := l.files[0]
	if f == l.next || f.pending > 0 || f == l.tail && l.full == nil {
		return nil
	}
	for c, seq := range f.lastSeq {
		if l.released[c] < seq {
			return nil
		}
	}
	return f
}
