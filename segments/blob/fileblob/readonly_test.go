package fileblob

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/akidb/akidb/segments/blob"
)

// tree is every name below dir with its time and mode.
func tree(t *testing.T, dir string) string {
	t.Helper()
	text := ""
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		text += path + " " + info.Mode().String() + " " + info.ModTime().String() + "\n"
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func mustOpenReadOnly(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := OpenReadOnly(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Looking at a store changes nothing in it, not even what the dead left, and
// sees what is written meanwhile.
func TestReadOnly(t *testing.T) {
	dir := t.TempDir()
	live := mustOpen(t, dir, nil)
	mustPut(t, live, "a/b", "1")
	dead := filepath.Join(dir, reserved, "tmp", "dead")
	if err := os.Mkdir(dead, 0o755); err != nil {
		t.Fatal(err)
	}
	before := tree(t, dir)
	s := mustOpenReadOnly(t, dir)
	if got := get(t, s, "a/b"); got != "1" {
		t.Errorf("got %q", got)
	}
	page, err := s.List(t.Context(), blob.Listing{})
	if err != nil || len(page.Objects) != 1 || page.Objects[0].Key != "a/b" {
		t.Errorf("got %+v, %v", page, err)
	}
	for _, key := range []string{"a/b", "c"} {
		if _, err := put(t.Context(), s, key, "2", blob.Condition{}); !errors.Is(err, errReadOnly) {
			t.Errorf("put: %v", err)
		}
		if err := s.Delete(t.Context(), key); !errors.Is(err, errReadOnly) {
			t.Errorf("delete: %v", err)
		}
	}
	if after := tree(t, dir); after != before {
		t.Errorf("before\n%safter\n%s", before, after)
	}
	mustPut(t, live, "a/b", "3")
	if got := get(t, s, "a/b"); got != "3" {
		t.Errorf("got %q", got)
	}
}

// A listing waits for whoever is at work in the tree.
func TestReadOnlyTakesTheLock(t *testing.T) {
	dir := t.TempDir()
	live := mustOpen(t, dir, nil)
	s := mustOpenReadOnly(t, dir)
	if err := live.lock.acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	taken := s.lock.flock(syscall.LOCK_EX | syscall.LOCK_NB)
	live.lock.release()
	if taken == nil {
		t.Error("both have the lock")
	}
}

// A copy without the store's own folder is read all the same, and is told from
// one that has gone.
func TestReadOnlyCopy(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "copy")
	if _, err := OpenReadOnly(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("it was made")
	}
	if err := os.MkdirAll(filepath.Join(dir, "a"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a", "b"), []byte("1"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenReadOnly(filepath.Join(dir, "a", "b")); err == nil {
		t.Error("a file was opened as a store")
	}
	s := mustOpenReadOnly(t, dir)
	page, err := s.List(t.Context(), blob.Listing{})
	if err != nil || len(page.Objects) != 1 || get(t, s, "a/b") != "1" || get(t, s, "a/c") != "" {
		t.Errorf("got %+v, %v", page, err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Get(t.Context(), "a/b"); !errors.Is(err, blob.ErrUnavailable) {
		t.Errorf("got %v, want %v", err, blob.ErrUnavailable)
	}
}
