package writer

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"math"

	"github.com/akidb/akidb/internal/memtable"
)

// scanner reads rows as nearly every client writes them, straight into
// operations, several times faster than a general decoder. It takes less than
// httpapi.DecodeJSON does, never more, and never reads anything else out of it:
// what it does not know, or finds at fault, it leaves to that one, which also
// says what is wrong. So there is one account of what is allowed, and errors do
// not depend on which of the two came first.
type scanner struct {
	batch *batch
	b     []byte
	at    int
}

// body reads a whole JSON body.
func (s *scanner) body() ([]memtable.Op, bool) {
	var ops []memtable.Op
	if !s.next('{') {
		return nil, false
	}
	if name, ok := s.text(); !ok || string(name) != "vectors" {
		s.at = 0
		op, ok := s.row()
		return append(ops, op), ok && s.atEnd()
	}
	if !s.next(':') || !s.next('[') {
		return nil, false
	}
	for {
		began := s.at
		op, ok := s.row()
		if !ok || len(ops) == s.batch.limits.BatchRows {
			return nil, false
		}
		if ops == nil { // rows are usually of about one size
			ops = make([]memtable.Op, 0, min(s.batch.limits.BatchRows, 1+len(s.b)/(s.at-began)))
		}
		ops = append(ops, op)
		if s.next(',') {
			continue
		}
		return ops, s.next(']') && s.next('}') && s.atEnd()
	}
}

// row reads {"id", "vector", "metadata"} in any order, and checks them.
func (s *scanner) row() (op memtable.Op, ok bool) {
	if !s.next('{') {
		return op, false
	}
	var hasID, hasMetadata bool
	for {
		name, ok := s.text()
		if !ok || !s.next(':') {
			return op, false
		}
		switch {
		case string(name) == "id" && !hasID:
			hasID, ok = true, s.id(&op)
		case string(name) == "vector" && op.Vector == nil:
			ok = s.vector(&op)
		case string(name) == "metadata" && !hasMetadata:
			hasMetadata, ok = true, s.metadata(&op)
		default:
			return op, false
		}
		if !ok {
			return op, false
		}
		if s.next(',') {
			continue
		}
		return op, s.next('}') && hasID && op.Vector != nil
	}
}

func (s *scanner) id(op *memtable.Op) bool {
	text, ok := s.text()
	if !ok || bytes.IndexByte(text, '\\') >= 0 || len(text) > s.batch.limits.IDBytes {
		return false
	}
	op.ID = string(text)
	return s.batch.limits.CheckID("", op.ID) == nil
}

func (s *scanner) vector(op *memtable.Op) bool {
	if s.next('[') {
		op.Vector = s.batch.newVector()
		for i := range op.Vector {
			if i > 0 && !s.next(',') {
				return false
			}
			s.space()
			value, size, ok := scanNumber(s.b[s.at:])
			if !ok {
				return false
			}
			op.Vector[i] = value
			s.at += size
		}
		return s.next(']') && s.batch.checkValues("", op.Vector) == nil
	}
	text, ok := s.text()
	if !ok {
		return false
	}
	text = bytes.TrimRight(text, "=")
	size := 4 * s.batch.meta.Dimension
	if len(text) != base64.RawStdEncoding.EncodedLen(size) {
		return false
	}
	if s.batch.raw == nil {
		s.batch.raw = make([]byte, size)
	}
	raw := s.batch.raw
	// Line breaks, which JSON forbids and Decode passes over, make it less.
	if n, err := base64.RawStdEncoding.Decode(raw, text); err != nil || n != size {
		return false
	}
	op.Vector = s.batch.newVector()
	for i := range op.Vector {
		op.Vector[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return s.batch.checkValues("", op.Vector) == nil
}

func (s *scanner) metadata(op *memtable.Op) bool {
	s.space()
	rest := s.b[s.at:]
	if bytes.HasPrefix(rest, []byte("null")) {
		s.at += len("null")
		return true
	}
	// If what is found is valid, a decoder finds the same.
	size := objectSize(rest)
	if size == 0 || size > s.batch.limits.MetadataBytes {
		return false
	}
	if _, err := checkMetadata(s.batch.limits, "", rest[:size]); err != nil {
		return false
	}
	op.Metadata = bytes.Clone(rest[:size])
	s.at += size
	return true
}

// objectSize is the length of the JSON object that b begins with, supposing
// that it is well-formed; 0 when there is none.
func objectSize(b []byte) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return i + 1
			}
		case '"':
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
		}
		if depth == 0 {
			return 0
		}
	}
	return 0
}

// text reads what is between two quotes, as it is.
func (s *scanner) text() ([]byte, bool) {
	if !s.next('"') {
		return nil, false
	}
	n := bytes.IndexByte(s.b[s.at:], '"')
	if n < 0 {
		return nil, false
	}
	text := s.b[s.at : s.at+n]
	s.at += n + 1
	return text, true
}

// next passes over space and then c, if that is what follows.
func (s *scanner) next(c byte) bool {
	s.space()
	if s.at < len(s.b) && s.b[s.at] == c {
		s.at++
		return true
	}
	return false
}

func (s *scanner) space() {
	for s.at < len(s.b) && s.b[s.at] <= ' ' {
		switch s.b[s.at] {
		case ' ', '\t', '\r', '\n':
			s.at++
		default:
			return
		}
	}
}

func (s *scanner) atEnd() bool {
	s.space()
	return s.at == len(s.b)
}
