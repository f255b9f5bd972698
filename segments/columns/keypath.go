package columns

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

// keyPath is where in a document a condition looks.
type keyPath []keyStep

// keyStep goes to a member of an object, to one element of an array, or, with
// each, to all of its elements.
type keyStep struct {
	name  string
	index int // -1 for a member
	each  bool
}

// parseKeyPath reads a key: member names joined by dots, each followed by any
// number of [] (every element) and [3] (that element). A name with a dot, a
// bracket or a quote in it is put into double quotes.
func parseKeyPath(key string) (keyPath, error) {
	var path keyPath
	for rest := key; ; {
		var name string
		if strings.HasPrefix(rest, `"`) {
			end := strings.IndexByte(rest[1:], '"')
			if end < 0 {
				return nil, errors.New("quote is not closed")
			}
			name, rest = rest[1:1+end], rest[end+2:]
		} else {
			end := strings.IndexAny(rest, `.["]`)
			if end < 0 {
				end = len(rest)
			}
			name, rest = rest[:end], rest[end:]
			if name == "" {
				return nil, errors.New("name is empty")
			}
		}
		path = append(path, keyStep{name: name, index: -1})
		for strings.HasPrefix(rest, "[") {
			end := strings.IndexByte(rest, ']')
			if end < 0 {
				return nil, errors.New("bracket is not closed")
			}
			step := keyStep{each: end == 1}
			if !step.each {
				n, ok := parseDigits([]byte(rest[1:end]))
				if !ok || n > math.MaxInt32 {
					return nil, fmt.Errorf("index is %q, want a number or nothing", rest[1:end])
				}
				step.index = int(n)
			}
			path, rest = append(path, step), rest[end+1:]
		}
		if rest == "" {
			return path, nil
		}
		if rest[0] != '.' {
			return nil, fmt.Errorf("%q follows a name, want a dot or a bracket", rest)
		}
		rest = rest[1:]
	}
}

// any calls test with every value the path leads to in v until one passes.
func (p keyPath) any(v rawValue, test func(rawValue) bool) bool {
	for i, step := range p {
		switch {
		case step.each:
			if v.kind() != '[' {
				return false
			}
			for it := v.iterate(); it.next(); {
				if p[i+1:].any(it.value, test) {
					return true
				}
			}
			return false
		case step.index >= 0:
			if v.kind() != '[' {
				return false
			}
			it := v.iterate()
			for n := 0; n <= step.index; n++ {
				if !it.next() {
					return false
				}
			}
			v = it.value
		default:
			if v.kind() != '{' {
				return false
			}
			var ok bool
			if v, ok = v.field(step.name); !ok {
				return false
			}
		}
	}
	return test(v)
}
