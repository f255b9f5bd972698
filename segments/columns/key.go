package columns

import (
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// Key is where in a row's metadata a value is, as filters name it.
type Key struct{ path keyPath }

// ParseKey reads a key: "a.b", "a[].b", "a[0].b", "\"a.b\".c".
func ParseKey(key string) (Key, error) {
	if key == "" {
		return Key{}, errors.New("key is empty")
	}
	path, err := parseKeyPath(key)
	return Key{path}, err
}

// KeyValue is a string, a number or a boolean that a key led to.
type KeyValue struct {
	// JSON is its text as it is stored. It shares memory with the metadata.
	JSON jsontext.Value
	// Name is the same for values that a match finds equal, as 1 and 1.0 are, and
	// only for those.
	Name string
}

// Values calls yield with every string, number and boolean that k leads to,
// the elements of an array each, until yield returns false. A value that is
// there twice comes twice. metadata is as in [Filter.Match].
func (k Key) Values(metadata []byte, yield func(KeyValue) bool) {
	k.path.any(rawDocument(metadata), onElements(func(v rawValue) bool {
		name, ok := nameOf(v)
		return ok && !yield(KeyValue{jsontext.Value(v), name})
	}))
}

func nameOf(v rawValue) (string, bool) {
	switch v.kind() {
	case '"':
		text, ok := v.text()
		return `"` + string(text), ok
	case 't':
		return "true", true
	case 'f':
		return "false", true
	}
	n, ok := parseNumber(v)
	if !ok {
		return "", false
	}
	if n.isFloat {
		if whole := math.Trunc(n.float); whole != n.float || math.Abs(whole) >= 1<<64 {
			return strconv.FormatFloat(n.float, 'g', -1, 64), true
		}
		n = number{negative: n.float < 0, abs: uint64(math.Abs(n.float))}
	}
	if n.negative {
		return fmt.Sprintf("-%d", n.abs), true
	}
	return strconv.FormatUint(n.abs, 10), true
}
