package columns

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"
)

// rawValue is the text of one JSON value, without space around it. Filters walk
// it in place: decoding a document to test one field would cost many times more.
// The text was validated when it came in; on anything else walking ends early
// and never panics.
type rawValue []byte

// rawDocument is the value of a JSON text.
func rawDocument(b []byte) rawValue {
	start := skipSpace(b, 0)
	return rawValue(b[start:skipValue(b, start)])
}

// kind is the first byte: one of { [ " t f n, a digit, a minus, or 0 for
// nothing.
func (v rawValue) kind() byte {
	if len(v) == 0 {
		return 0
	}
	return v[0]
}

func (v rawValue) isNumber() bool {
	k := v.kind()
	return k == '-' || k >= '0' && k <= '9'
}

// text decodes a JSON string. Without escapes the result aliases v.
func (v rawValue) text() ([]byte, bool) {
	if len(v) < 2 || v[0] != '"' || v[len(v)-1] != '"' {
		return nil, false
	}
	inner := v[1 : len(v)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return inner, true
	}
	decoded, err := jsontext.AppendUnquote(nil, []byte(v))
	return decoded, err == nil
}

// field finds a member of an object. Names are unique: [ValidateMetadata] saw to
// it.
func (v rawValue) field(name string) (rawValue, bool) {
	for it := v.iterate(); it.next(); {
		if it.nameIs(name) {
			return it.value, true
		}
	}
	return nil, false
}

// rawIterator walks the members of an object or the elements of an array.
type rawIterator struct {
	b      []byte
	at     int
	object bool
	name   rawValue // quoted; only of an object
	value  rawValue
}

// iterate walks v; any other kind has nothing to walk.
func (v rawValue) iterate() rawIterator {
	k := v.kind()
	if k != '{' && k != '[' {
		return rawIterator{}
	}
	return rawIterator{b: v, at: 1, object: k == '{'}
}

func (it *rawIterator) next() bool {
	at := skipSpace(it.b, it.at)
	if at < len(it.b) && it.b[at] == ',' {
		at = skipSpace(it.b, at+1)
	}
	if it.object {
		if at >= len(it.b) || it.b[at] != '"' {
			return false
		}
		end := skipString(it.b, at)
		it.name = rawValue(it.b[at:end])
		at = skipSpace(it.b, end)
		if at >= len(it.b) || it.b[at] != ':' {
			return false
		}
		at = skipSpace(it.b, at+1)
	}
	end := skipValue(it.b, at)
	if end == at {
		return false
	}
	it.value, it.at = rawValue(it.b[at:end]), end
	return true
}

func (it *rawIterator) nameIs(name string) bool {
	q := it.name
	if len(q) == len(name)+2 && string(q[1:len(q)-1]) == name {
		return bytes.IndexByte(q, '\\') < 0 // else the name differs, once decoded
	}
	if bytes.IndexByte(q, '\\') < 0 {
		return false
	}
	text, ok := q.text()
	return ok && string(text) == name
}

func skipSpace(b []byte, at int) int {
	for at < len(b) && (b[at] == ' ' || b[at] == '\t' || b[at] == '\n' || b[at] == '\r') {
		at++
	}
	return at
}

// skipString returns where the string that starts at a quote ends.
func skipString(b []byte, at int) int {
	for at++; at < len(b); at++ {
		n := bytes.IndexByte(b[at:], '"')
		if n < 0 {
			return len(b)
		}
		at += n
		backslashes := 0
		for b[at-1-backslashes] == '\\' { // ends at the opening quote at the latest
			backslashes++
		}
		if backslashes%2 == 0 {
			return at + 1
		}
	}
	return len(b)
}

// skipValue returns where the value that starts at at ends; at itself if there
// is none.
func skipValue(b []byte, at int) int {
	if at >= len(b) {
		return at
	}
	switch b[at] {
	case '"':
		return skipString(b, at)
	case '{', '[':
		depth := 0
		for at < len(b) {
			switch b[at] {
			case '"':
				at = skipString(b, at)
				continue
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return at + 1
				}
			}
			at++
		}
		return at
	}
	for at < len(b) {
		switch b[at] {
		case ',', ':', '}', ']', ' ', '\t', '\n', '\r':
			return at
		}
		at++
	}
	return at
}
