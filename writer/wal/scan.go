package wal

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"
	"slices"
)

// spanKind says what a stretch of a file is.
type spanKind uint8

const (
	spanRecord     spanKind = iota // a whole, valid batch
	spanMark                       // a mark, by a running log or a clean stop
	spanDamaged                    // a valid header whose body is not what it says
	spanImpossible                 // a valid header that no log of this version writes
	spanInvalid                    // no valid header; ends where the next one stands
	spanZero                       // nothing but zeros to the end of the file
)

var spanNames = [...]string{"record", "mark", "damaged", "impossible", "invalid", "zero"}

func (k spanKind) String() string { return spanNames[k] }

// span is a stretch [at.Offset, end) of a file. header and body are set where
// the kind has them.
type span struct {
	kind   spanKind
	at     Position
	end    int64
	header header
	body   []byte // aliases the file's bytes
	cause  string // of damage, for people
}

// claims reports whether the span shows that the byte at p was once synced.
func (s *span) claims(p Position) bool {
	return s.hasHeader() && s.kind != spanImpossible && s.header.synced.Compare(p) > 0
}

func (s *span) hasHeader() bool { return s.kind <= spanImpossible }

// nextSpan tells what stands at off in the file data. It never reads beyond
// data, never allocates by a length it has read, and always advances.
func nextSpan(data []byte, uuid UUID, file uint64, off int64) span {
	s := span{at: Position{File: file, Offset: off}, end: int64(len(data))}
	rest := data[off:]
	h, ok := decodeHeader(rest, seedCRC(uuid, s.at))
	if !ok {
		if isZero(rest) {
			s.kind = spanZero
			return s
		}
		s.kind, s.cause = spanInvalid, "no valid record header"
		s.end = nextHeader(data, uuid, file, off+alignBytes)
		return s
	}
	s.header = h
	if err := h.check(s.at); err != nil {
		s.kind, s.cause = spanImpossible, err.Error()
		s.end = nextHeader(data, uuid, file, off+alignBytes)
		return s
	}
	size := h.recordBytes()
	if size > int64(len(rest)) {
		s.kind = spanDamaged
		s.cause = fmt.Sprintf("record of %d bytes: only %d left in the file", size, len(rest))
		s.end = nextHeader(data, uuid, file, off+alignBytes)
		return s
	}
	s.end = off + size
	if h.typ != typeBatch {
		s.kind = spanMark
		return s
	}
	s.body = rest[headerBytes:size]
	if got := crc32.Update(seedCRC(uuid, s.at), castagnoli, s.body); got != h.bodyCRC {
		s.kind = spanDamaged
		s.cause = fmt.Sprintf("record body checksum: got %08x, want %08x", got, h.bodyCRC)
	}
	return s
}

// nextHeader returns the first offset from off on where a valid header stands,
// or the end of data.
func nextHeader(data []byte, uuid UUID, file uint64, off int64) int64 {
	for off < int64(len(data)) {
		i := bytes.Index(data[off:], []byte(recordMagic))
		if i < 0 {
			break
		}
		off += int64(i)
		if off%alignBytes == 0 {
			if _, ok := decodeHeader(data[off:], seedCRC(uuid, Position{File: file, Offset: off})); ok {
				return off
			}
		}
		off++
	}
	return int64(len(data))
}

func isZero(b []byte) bool {
	for len(b) > 0 {
		n := min(len(b), len(zeros))
		if !bytes.Equal(b[:n], zeros[:n]) {
			return false
		}
		b = b[n:]
	}
	return true
}

// zeros is what files are filled with, a stretch at a time.
var zeros = make([]byte, 256<<10)

// listFiles returns the numbers of the log files and of the temporary files in
// dir, both ascending. Every other name is none of our business.
func listFiles(fsys FS, dir string) (files, temps []uint64, err error) {
	names, err := fsys.List(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("list %q: %w", dir, err)
	}
	for _, name := range names {
		if n, ok := parseName(name, fileSuffix); ok {
			files = append(files, n)
		} else if n, ok := parseName(name, tempSuffix); ok {
			temps = append(temps, n)
		}
	}
	slices.Sort(files)
	slices.Sort(temps)
	return files, temps, nil
}

// readFile returns the content of file number in buf, which it grows if need
// be. limit keeps a reader from paying for a file no log writes.
func readFile(fsys FS, dir string, number uint64, buf []byte, limit int64) (_ []byte, err error) {
	name := filepath.Join(dir, fileName(number))
	f, err := fsys.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read wal file: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("read wal file %q: %w", name, err)
	}
	if size > maxFileBytes {
		return nil, &CorruptError{File: number, From: maxFileBytes, To: size, Cause: fmt.Sprintf("file of %d bytes, want at most %d", size, int64(maxFileBytes))}
	}
	size = min(size, limit)
	buf = slices.Grow(buf[:0], int(size))[:size]
	if n, err := f.ReadAt(buf, 0); int64(n) < size {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read wal file %q: got %d of %d bytes: %w", name, n, size, err)
	}
	return buf, nil
}
