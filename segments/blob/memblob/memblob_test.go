package memblob_test

import (
	"strings"
	"testing"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/blobtest"
	"github.com/akidb/akidb/segments/blob/memblob"
)

func TestConformance(t *testing.T) {
	blobtest.Run(t, func(*testing.T) blob.Store { return memblob.New() })
}

func TestVersionsAreUnique(t *testing.T) {
	s := memblob.New()
	seen := map[blob.Version]bool{}
	for range 10 {
		for _, key := range []string{"a", "b"} {
			version, err := s.Put(t.Context(), key, strings.NewReader("same"), 4, blob.Condition{})
			if err != nil || seen[version] {
				t.Fatalf("put %q: version %q came twice, or %v", key, version, err)
			}
			seen[version] = true
		}
	}
}
