package blob_test

import (
	"io/fs"
	"testing"
	"unicode/utf8"

	"github.com/akidb/akidb/segments/blob"
)

// FuzzCheckKey: a key that passes is a path that stays where it is put, in a
// file system and in XML.
func FuzzCheckKey(f *testing.F) {
	for _, key := range []string{"a", "a/b", "", "/", "a//b", "..", "a/.", "\xff", "\x7f", "é", "\ufffe"} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if blob.CheckKey(key) != nil {
			return
		}
		if !fs.ValidPath(key) || key == "." || len(key) > 1024 || !utf8.ValidString(key) {
			t.Errorf("%q passed", key)
		}
		for _, r := range key {
			if r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0xfffe || r == 0xffff {
				t.Errorf("%q passed with %U", key, r)
			}
		}
	})
}
