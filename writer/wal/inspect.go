package wal

import (
	"errors"
	"fmt"
)

// Entry is one stretch of a log file, as Inspect shows it.
type Entry struct {
	Position Position
	End      int64  // offset of the first byte behind it
	Kind     string // file, missing, record, mark, close, damaged, impossible, invalid or zero
	Synced   Position
	Record   Record // set for a record; Payload is valid only during the call
	Problem  string // what is wrong; "" if nothing is
}

// Inspect shows everything in the log in dir, in order, to people: damage is
// an entry like any other. It changes nothing, takes no lock and judges
// nothing; whether damage is a torn tail is for Open to say. An error from fn
// ends it and is returned.
func Inspect(fsys FS, dir string, fn func(Entry) error) error {
	numbers, _, err := listFiles(fsys, dir)
	if err != nil {
		return err
	}
	uuid, err := findUUID(fsys, dir, numbers)
	if err != nil {
		return err
	}
	var data []byte
	for i, number := range numbers {
		if i > 0 && number != numbers[i-1]+1 {
			e := Entry{Position: Position{File: numbers[i-1] + 1}, Kind: "missing", Problem: "file is missing"}
			if err := fn(e); err != nil {
				return err
			}
		}
		if data, err = readFile(fsys, dir, number, data, maxFileBytes); err != nil {
			return err
		}
		if err := inspectFile(data, uuid, number, fn); err != nil {
			return err
		}
	}
	return nil
}

func inspectFile(data []byte, uuid UUID, number uint64, fn func(Entry) error) error {
	e := Entry{Position: Position{File: number}, End: min(fileHeaderBytes, int64(len(data))), Kind: "file"}
	if err := checkFileHeader(data, uuid, number); err != nil {
		e.Problem = err.Error()
	}
	if err := fn(e); err != nil {
		return err
	}
	for off := int64(fileHeaderBytes); off < int64(len(data)); {
		sp := nextSpan(data, uuid, number, off)
		off = sp.end
		if err := fn(sp.entry()); err != nil {
			return err
		}
	}
	return nil
}

func (s *span) entry() Entry {
	e := Entry{Position: s.at, End: s.end, Kind: s.kind.String(), Problem: s.cause}
	if s.hasHeader() {
		e.Synced = s.header.synced
	}
	if s.kind == spanRecord {
		e.Record = s.header.record(s.body)
	}
	if s.kind == spanMark && s.header.typ == typeClose {
		e.Kind = "close"
	}
	return e
}

// checkFileHeader is nil if data begins as file number of log uuid does.
func checkFileHeader(data []byte, uuid UUID, number uint64) error {
	got, err := decodeFileHeader(data, number)
	if err == nil && got != uuid {
		err = &CorruptError{File: number, To: fileHeaderBytes, Cause: fmt.Sprintf("file of another log: got uuid %v, want %v", got, uuid)}
	}
	return err
}

// findUUID returns the identity of a log that may be damaged: that of the
// first whole file header or, if there is none, the bytes where it should be,
// provided that a record proves them right.
func findUUID(fsys FS, dir string, numbers []uint64) (UUID, error) {
	for _, n := range numbers {
		data, err := readFile(fsys, dir, n, nil, fileHeaderBytes)
		if err != nil {
			return UUID{}, err
		}
		uuid, err := decodeFileHeader(data, n)
		if err == nil || errors.Is(err, ErrVersion) {
			return uuid, err
		}
	}
	for _, n := range numbers {
		data, err := readFile(fsys, dir, n, nil, maxFileBytes)
		if err != nil {
			return UUID{}, err
		}
		if len(data) < fileHeaderBytes {
			continue
		}
		uuid := UUID(data[16:32])
		if nextHeader(data, uuid, n, fileHeaderBytes) < int64(len(data)) {
			return uuid, nil
		}
	}
	if len(numbers) == 0 {
		return UUID{}, nil
	}
	return UUID{}, fmt.Errorf("wal %q: no file header is readable and no record tells whose they are", dir)
}

// firstFollows returns where the first record of a file says that the file
// before it ended.
func firstFollows(data []byte, uuid UUID, number uint64) (Position, bool) {
	if len(data) < fileHeaderBytes+headerBytes {
		return Position{}, false
	}
	at := Position{File: number, Offset: fileHeaderBytes}
	h, ok := decodeHeader(data[fileHeaderBytes:], seedCRC(uuid, at))
	return h.synced, ok && h.check(at) == nil
}
