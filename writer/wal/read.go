package wal

import (
	"bufio"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
)

// readAhead is what ReadFrom takes from a file at once: a few system calls for
// thousands of small records.
const readAhead = 256 << 10

// ReadFrom hands the durable records behind a position to fn, in order, until
// there are no more or fn returns false, which leaves that record unread. It
// returns the position behind the last one that was read: what to pass next
// time. The zero Position is the beginning of the log. A file that is gone is
// passed over: all of its records were released.
//
// It can run beside everything else. The record, its payload included, is valid
// only during the call of fn, which must not close the log. Damage is a
// *CorruptError; a position at which no record begins is one too.
func (l *Log) ReadFrom(from Position, fn func(Record) bool) (Position, error) {
	for {
		f, at, end, err := l.pin(from)
		if f == nil || err != nil {
			return from, err
		}
		next, more, err := l.readRecords(f, at, end, fn)
		l.unpin(f)
		if err != nil || !more {
			return next, err
		}
		from = next
	}
}

// pin finds the file that holds the first durable record behind a position,
// and keeps it from being removed or closed; nil if there is no such record.
func (l *Log) pin(from Position) (f *logFile, at, end Position, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing {
		return nil, at, end, ErrClosed
	}
	for _, f := range l.files {
		at, end := l.unread(f, from)
		if at < end {
			f.pending++
			l.workers.Add(1) // Close waits
			return f, Position{f.number, at}, Position{f.number, end}, nil
		}
	}
	return nil, at, end, nil
}

func (l *Log) unpin(f *logFile) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f.pending--
	if l.removable() != nil {
		l.kick()
	}
	l.workers.Done()
}

// unread is the range of a file that is durable and lies behind from; empty if
// at is not less than end. Callers hold mu.
func (l *Log) unread(f *logFile, from Position) (at, end int64) {
	switch {
	case f.number > l.synced.File || f.number < from.File:
		return 0, 0
	case f.number == l.synced.File:
		end = l.synced.Offset
	default:
		end = f.end
	}
	if at = fileHeaderBytes; f.number == from.File {
		at = max(at, from.Offset)
	}
	return at, end
}

// Behind is how many bytes of durable records lie behind a position.
func (l *Log) Behind(p Position) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var n int64
	for _, f := range l.files {
		at, end := l.unread(f, p)
		n += max(0, end-at)
	}
	return n
}

// Durable is the position behind the last record that is durable and applied.
func (l *Log) Durable() Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.synced
}

// Released is the sequence number up to which a collection's records are
// released; all ones for one that was dropped.
func (l *Log) Released(collection CollectionID) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.released[collection]
}

// readRecords reads the records of a file in [at, end), all of them durable.
func (l *Log) readRecords(f *logFile, at, end Position, fn func(Record) bool) (next Position, more bool, err error) {
	src := bufio.NewReaderSize(io.NewSectionReader(f.handle, at.Offset, end.Offset-at.Offset), readAhead)
	var head [headerBytes]byte
	var body []byte
	for at.Offset < end.Offset {
		corrupt := func(to int64, format string, args ...any) error {
			return &CorruptError{File: at.File, From: at.Offset, To: to, Cause: fmt.Sprintf(format, args...)}
		}
		if _, err := io.ReadFull(src, head[:]); err != nil {
			return at, false, l.readError(at, err)
		}
		seed := seedCRC(l.uuid, at)
		h, ok := decodeHeader(head[:], seed)
		if !ok {
			return at, false, corrupt(0, "no valid record header")
		}
		if err := h.check(at); err != nil {
			return at, false, corrupt(at.Offset+headerBytes, "%v", err)
		}
		size := h.recordBytes()
		if h.typ != typeBatch || size > end.Offset-at.Offset {
			return at, false, corrupt(end.Offset, "record of type %d and %d bytes, want one that ends by %d", h.typ, size, end.Offset)
		}
		body = slices.Grow(body[:0], int(size-headerBytes))[:size-headerBytes]
		if _, err := io.ReadFull(src, body); err != nil {
			return at, false, l.readError(at, err)
		}
		if got := crc32.Update(seed, castagnoli, body); got != h.bodyCRC {
			return at, false, corrupt(at.Offset+size, "record body checksum: got %08x, want %08x", got, h.bodyCRC)
		}
		if !fn(h.record(body)) {
			return at, false, nil
		}
		at.Offset += size
	}
	return at, true, nil
}

func (l *Log) readError(at Position, err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read wal record at %v: %w", at, err)
}
