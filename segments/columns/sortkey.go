package columns

import (
	"bytes"
	"encoding/binary"
	"math"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// A sort key is a JSON value as bytes that compare as the values do: null, false,
// true, the numbers, the strings. Two values have one key exactly if no filter can
// tell them apart, so whoever has the keys of a row's values can judge it without
// its JSON.
//
// The first byte is the kind. A number follows as the largest float64 that is not
// above it, with its bits turned so that they sort, and what is missing to the
// number, 10 bytes without their trailing zeros; a string as its decoded bytes.
const (
	// KeyFilled stands for a value that is neither null nor [].
	KeyFilled byte = iota
	KeyNull
	KeyFalse
	KeyTrue
	KeyNumber
	KeyString
	// KeyLong stands for a string that is left out because it is long.
	KeyLong
	// KeyOther stands for an object, or an array in an array.
	KeyOther
)

// appendSortKey appends the key of v. Arrays, which are taken for their elements
// by whoever knows where they stand, get that of an object.
func appendSortKey(dst []byte, v rawValue) []byte {
	switch v.kind() {
	case 'n':
		return append(dst, KeyNull)
	case 'f':
		return append(dst, KeyFalse)
	case 't':
		return append(dst, KeyTrue)
	case '"':
		if text, ok := v.text(); ok {
			return append(append(dst, KeyString), text...)
		}
		return append(dst, KeyOther)
	}
	if n, ok := parseNumber(v); ok {
		return n.appendSortKey(dst)
	}
	return append(dst, KeyOther)
}

func (a number) appendSortKey(dst []byte) []byte {
	floor, rest := a.float, uint64(0)
	if !a.isFloat {
		floor = float64(a.abs) // nearest; up to 2^64, which is exact
		// What is compared are whole numbers, of which 2^64 alone does not fit.
		above := floor == 1<<64 || floor < 1<<64 && uint64(floor) > a.abs
		if a.negative {
			if !above && uint64(floor) < a.abs {
				floor = math.Nextafter(floor, math.Inf(1))
			}
			rest = uint64(floor) - a.abs // of at most 2^63: it fits
			floor = -floor
		} else {
			if above {
				floor = math.Nextafter(floor, 0)
			}
			rest = a.abs - uint64(floor)
		}
	}
	bits := math.Float64bits(floor + 0) // -0 is 0
	if bits>>63 == 1 {
		bits = ^bits
	} else {
		bits |= 1 << 63
	}
	var b [10]byte
	binary.BigEndian.PutUint64(b[:], bits)
	binary.BigEndian.PutUint16(b[8:], uint16(rest))
	return append(append(dst, KeyNumber), bytes.TrimRight(b[:], "\x00")...)
}

// AppendKeyJSON appends the value that a key of KeyNull to KeyString stands for:
// the shortest text of a number, a string with the fewest escapes.
func AppendKeyJSON(dst, key []byte) []byte {
	if len(key) == 0 {
		return append(dst, "null"...)
	}
	switch rest := key[1:]; key[0] {
	case KeyFalse:
		return append(dst, "false"...)
	case KeyTrue:
		return append(dst, "true"...)
	case KeyNumber:
		return appendKeyNumber(dst, rest)
	case KeyString:
		out, err := jsontext.AppendQuote(dst, rest)
		if err == nil {
			return out
		}
	}
	return append(dst, "null"...)
}

func appendKeyNumber(dst, rest []byte) []byte {
	var b [10]byte
	copy(b[:], rest)
	bits := binary.BigEndian.Uint64(b[:])
	if bits>>63 == 1 {
		bits &^= 1 << 63
	} else {
		bits = ^bits
	}
	floor, more := math.Float64frombits(bits), uint64(binary.BigEndian.Uint16(b[8:]))
	switch {
	case math.IsInf(floor, 1):
		return append(dst, "1e999"...) // more than a float64 holds, and read as such
	case math.IsInf(floor, -1):
		return append(dst, "-1e999"...)
	case floor == math.Trunc(floor) && floor >= 0 && floor < 1<<64:
		return strconv.AppendUint(dst, uint64(floor)+more, 10)
	case floor == math.Trunc(floor) && floor < 0 && floor >= -1<<63:
		return strconv.AppendInt(dst, int64(floor)+int64(more), 10)
	}
	format := byte('f')
	if abs := math.Abs(floor); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(dst, floor, format, -1, 64)
}

// ValidKey says whether b is a sort key of a value that can be told: null, a
// boolean, a number or a string.
func ValidKey(b []byte) bool {
	if len(b) == 0 {
		return false
	}
	switch b[0] {
	case KeyNull, KeyFalse, KeyTrue:
		return len(b) == 1
	case KeyNumber:
		return len(b) <= 11 && (len(b) == 1 || b[len(b)-1] != 0)
	}
	return b[0] == KeyString
}

// Step of a key goes to the member called Name of an object, or, with Each, to every
// element of an array, or else to the element numbered Index.
type Step struct {
	Name  string
	Each  bool
	Index int // -1 unless it is one element
}

// Steps are the steps of the key, outermost first.
func (k Key) Steps() []Step {
	out := make([]Step, len(k.path))
	for i, s := range k.path {
		out[i] = Step{Name: s.name, Each: s.each, Index: -1}
		if !s.each {
			out[i].Index = s.index
		}
	}
	return out
}

// First is the key of the first so many steps.
func (k Key) First(steps int) Key { return Key{k.path[:steps]} }

// String is the key, the same for all ways to write it.
func (k Key) String() string {
	var b []byte
	for i, s := range k.path {
		switch {
		case s.each:
			b = append(b, "[]"...)
		case s.index >= 0:
			b = append(strconv.AppendInt(append(b, '['), int64(s.index), 10), ']')
		default:
			if i > 0 {
				b = append(b, '.')
			}
			b = AppendKeyName(b, s.name)
		}
	}
	return string(b)
}

// AppendKeyName appends a name as it stands in a key, in quotes if it has to be.
// A name with a quote in it is in no key.
func AppendKeyName(dst []byte, name string) []byte {
	if name == "" || bytes.ContainsAny([]byte(name), ".[]") {
		return append(append(append(dst, '"'), name...), '"')
	}
	return append(dst, name...)
}

// SortKeys hands the sort keys of the booleans, numbers and strings that k leads
// to in a row's metadata to yield, those of arrays one by one, until it returns
// false. A key is valid until yield returns, and may come twice.
func (k Key) SortKeys(metadata []byte, yield func(key []byte) bool) {
	var key []byte
	k.path.any(rawDocument(metadata), onElements(func(v rawValue) bool {
		key = appendSortKey(key[:0], v)
		return key[0] >= KeyFalse && key[0] <= KeyString && !yield(key)
	}))
}

// A Walker is told what a document holds. Places in documents are numbered by
// the walker; 0 is the whole document.
type Walker interface {
	// Member is the place of a member of the objects at a place, Each that of the
	// elements of the arrays there that are objects. False leaves it out.
	Member(place int, name []byte) (member int, ok bool)
	Each(place int) (each int, ok bool)
	// Value is told of every value at a place, of an array's elements instead of
	// the array: its sort key, valid until Value returns. KeyFilled comes on top
	// of any that is neither null nor [].
	Value(place int, key []byte)
	// Shape is told that a place holds an array, an array with an array in it, or
	// something else.
	Shape(place int, shape Shape)
}

// Shape is what stands at a place.
type Shape uint8

// Shapes, to be ORed together.
const (
	ShapeArray  Shape = 1 << iota // an array
	ShapeNested                   // an array with an array in it
	ShapePlain                    // anything that is no array
)

// Walk tells w what metadata holds, every value once. Arrays in arrays are not
// entered.
func Walk(metadata []byte, w Walker) {
	d := walk{Walker: w}
	d.members(rawDocument(metadata), 0)
}

type walk struct {
	Walker
	key []byte // of the value being told
}

var filledKey = []byte{KeyFilled}

func (w *walk) members(v rawValue, place int) {
	if v.kind() != '{' {
		return
	}
	for it := v.iterate(); it.next(); {
		name, ok := it.name.text()
		if !ok {
			continue
		}
		if member, ok := w.Member(place, name); ok {
			w.value(it.value, member)
		}
	}
}

func (w *walk) value(v rawValue, place int) {
	if v.kind() != '[' {
		w.Shape(place, ShapePlain)
		if !isNull(v) {
			w.Value(place, filledKey)
		}
		w.scalar(v, place)
		w.members(v, place)
		return
	}
	shape := ShapeArray
	first := true
	each, entered := 0, false
	for it := v.iterate(); it.next(); {
		if first {
			w.Value(place, filledKey)
			first = false
		}
		w.scalar(it.value, place)
		switch it.value.kind() {
		case '[':
			shape |= ShapeNested
		case '{':
			if !entered {
				var ok bool
				if each, ok = w.Each(place); !ok {
					each = -1
				}
				entered = true
			}
			if each >= 0 {
				w.members(it.value, each)
			}
		}
	}
	w.Shape(place, shape)
}

func (w *walk) scalar(v rawValue, place int) {
	w.key = appendSortKey(w.key[:0], v)
	w.Value(place, w.key)
}
