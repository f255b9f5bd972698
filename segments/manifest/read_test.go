package manifest

import (
	"errors"
	"testing"

	"github.com/akidb/akidb/segments/blob"
)

// While CURRENT names what is known, it is all that is read.
func TestReadNewer(t *testing.T) {
	store, newest := chain(t, 3)
	read := func(commit string) (*Snapshot, Current, int) {
		t.Helper()
		before := store.gets
		s, c, err := ReadNewer(t.Context(), store, newest.Collection.ID, commit)
		if err != nil || c.CommitID != newest.CommitID {
			t.Fatalf("%+v: %v", c, err)
		}
		return s, c, store.gets - before
	}
	if s, _, gets := read(newest.CommitID); s != nil || gets != 1 {
		t.Errorf("the same commit: %+v in %d reads", s, gets)
	}
	for _, commit := range []string{"", "another"} {
		if s, _, gets := read(commit); s == nil || s.Version != newest.Version || gets != 2 {
			t.Errorf("after commit %q: %+v in %d reads", commit, s, gets)
		}
	}
	if _, _, err := ReadNewer(t.Context(), store, "nobody", newest.CommitID); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("no collection: %v", err)
	}
}
