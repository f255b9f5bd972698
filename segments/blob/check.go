package blob

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxKeyBytes  = 1024 // what S3 allows
	maxPartBytes = 255  // what file systems allow a name
)

// CheckKey reports why key cannot name an object in every store. Stores call
// it on each operation, so that a key which works in one works in all.
func CheckKey(key string) error {
	switch {
	case key == "":
		return errors.New("invalid key: empty")
	case len(key) > maxKeyBytes:
		return fmt.Errorf("invalid key: got %d bytes, want at most %d", len(key), maxKeyBytes)
	case !utf8.ValidString(key):
		return errors.New("invalid key: not UTF-8")
	}
	// A listing travels as XML, which has no way to write these.
	if i := strings.IndexFunc(key, unprintable); i >= 0 {
		return fmt.Errorf("invalid key: unprintable character at byte %d", i)
	}
	for part := range strings.SplitSeq(key, "/") {
		if part == "" || part == "." || part == ".." {
			return fmt.Errorf("invalid key: part %q", part)
		}
		if len(part) > maxPartBytes {
			return fmt.Errorf("invalid key: got a part of %d bytes, want at most %d", len(part), maxPartBytes)
		}
	}
	return nil
}

func unprintable(r rune) bool {
	return unicode.IsControl(r) || r == '\uFFFE' || r == '\uFFFF'
}

// CheckPut reports why the arguments of a Put can never be right.
func CheckPut(key string, size int64, cond Condition) error {
	if size < 0 {
		return fmt.Errorf("invalid size: %d", size)
	}
	if cond.IfAbsent && cond.IfMatch != "" {
		return errors.New("invalid condition: both if-absent and if-match")
	}
	return CheckKey(key)
}

// CheckRead reports why the arguments of a ReadRange can never be right.
func CheckRead(key string, off int64) error {
	if off < 0 {
		return fmt.Errorf("invalid offset: %d", off)
	}
	return CheckKey(key)
}
