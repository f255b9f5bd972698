package fileblob

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/akidb/akidb/segments/blob"
)

func mustOpen(t *testing.T, dir string, hook func(string)) *Store {
	t.Helper()
	if hook == nil {
		hook = func(string) {}
	}
	s, err := open(dir, hook)
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

func put(ctx context.Context, s *Store, key, body string, cond blob.Condition) (blob.Version, error) {
	return s.Put(ctx, key, strings.NewReader(body), int64(len(body)), cond)
}

func mustPut(t *testing.T, s *Store, key, body string) blob.Version {
	t.Helper()
	version, err := put(t.Context(), s, key, body, blob.Condition{})
	if err != nil {
		t.Fatal(err)
	}
	return version
}

func get(t *testing.T, s *Store, key string) string {
	t.Helper()
	b, _, err := s.Get(t.Context(), key)
	if err != nil && !errors.Is(err, blob.ErrNotFound) {
		t.Fatal(err)
	}
	return string(b)
}

// TestSteps checks the order in which a put and a delete reach the disk: the
// body before its name, and every folder before what is in it counts.
func TestSteps(t *testing.T) {
	var steps []string
	s := mustOpen(t, t.TempDir(), func(step string) { steps = append(steps, step) })
	want := func(want ...string) {
		t.Helper()
		if !slices.Equal(steps, want) {
			t.Errorf("got  %q\nwant %q", steps, want)
		}
		steps = nil
	}
	want("make .fileblob", "sync .", "make .fileblob/tmp", "sync .fileblob")
	if _, err := put(t.Context(), s, "a/b/c", "1", blob.Condition{IfAbsent: true}); err != nil {
		t.Fatal(err)
	}
	want("create temp", "sync temp", "make a", "sync .", "make a/b", "sync a", "publish", "published", "sync a/b")
	mustPut(t, s, "a/b/c", "2")
	want("create temp", "sync temp", "publish", "published", "sync a/b")
	mustPut(t, s, "a/d", "3")
	want("create temp", "sync temp", "publish", "published", "sync a")
	if err := s.Delete(t.Context(), "a/b/c"); err != nil {
		t.Fatal(err)
	}
	want("unlink", "sync a")
	if err := s.Delete(t.Context(), "a/b/c"); err != nil {
		t.Fatal(err)
	}
	want()
	if _, err := put(t.Context(), s, "a/d", "4", blob.Condition{IfAbsent: true}); !errors.Is(err, blob.ErrPrecondition) {
		t.Errorf("got %v, want %v", err, blob.ErrPrecondition)
	}
	want() // refused without writing anything
}

// TestListReadsOnlyWhatItNeeds counts the folders that listings look into.
func TestListReadsOnlyWhatItNeeds(t *testing.T) {
	var read []string
	s := mustOpen(t, t.TempDir(), func(step string) {
		if dir, ok := strings.CutPrefix(step, "list "); ok {
			read = append(read, dir)
		}
	})
	for _, key := range []string{"a/1/x", "a/2/x", "a/3/x", "b/1/x", "c/1/2/x", "c/y"} {
		mustPut(t, s, key, "")
	}
	for _, c := range []struct {
		listing blob.Listing
		want    []string
	}{
		{blob.Listing{Prefix: "a/2/"}, []string{"a/2/"}},
		{blob.Listing{Prefix: "a/2/x"}, []string{"a/2/"}},
		{blob.Listing{Prefix: "a/2"}, []string{"a/", "a/2/"}},
		{blob.Listing{Prefix: "b"}, []string{"", "b/", "b/1/"}},
		{blob.Listing{After: "b/1/x"}, []string{"", "b/", "b/1/", "c/", "c/1/", "c/1/2/"}},
		{blob.Listing{After: "b/2"}, []string{"", "b/", "c/", "c/1/", "c/1/2/"}},
		{blob.Listing{Delimiter: "/"}, []string{"", "a/", "a/1/", "b/", "b/1/", "c/", "c/1/", "c/1/2/"}},
		{blob.Listing{Delimiter: "/", After: "b/"}, []string{"", "b/", "b/1/", "c/", "c/1/", "c/1/2/"}},
		{blob.Listing{Limit: 1}, []string{"", "a/", "a/1/", "a/2/"}},
		{blob.Listing{Prefix: "../"}, nil},
		{blob.Listing{Prefix: ".fileblob/tmp/"}, nil},
	} {
		read = nil
		if _, err := s.List(t.Context(), c.listing); err != nil {
			t.Error(err)
		}
		if !slices.Equal(read, c.want) {
			t.Errorf("List(%+v) read %q, want %q", c.listing, read, c.want)
		}
	}
}

// TestVersionsNeverComeBack puts bodies of one size, for which the file system
// uses the same few inodes over and over, with a clock that jumps.
func TestVersionsNeverComeBack(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, nil)
	modified := func() time.Time {
		info, err := os.Stat(filepath.Join(dir, "k"))
		if err != nil {
			t.Fatal(err)
		}
		return info.ModTime()
	}
	seen := map[blob.Version]int{}
	mustPut(t, s, "k", "same")
	for i := range 60 {
		if i%10 == 5 { // what was stored last comes from the future
			future := time.Now().Add(time.Hour)
			if err := os.Chtimes(filepath.Join(dir, "k"), future, future); err != nil {
				t.Fatal(err)
			}
		}
		before := modified()
		version := mustPut(t, s, "k", "same")
		if now := modified(); !now.After(before) {
			t.Fatalf("put %d is of %v, not later than the %v of what it replaced", i, now, before)
		}
		if j, ok := seen[version]; ok {
			t.Fatalf("puts %d and %d have the same version %s", j, i, version)
		}
		seen[version] = i
		if o, err := s.Stat(t.Context(), "k"); err != nil || o.Version != version {
			t.Fatalf("Stat: got %+v, %v; want version %s", o, err, version)
		}
	}
}

func TestKeysOfTheStoreItself(t *testing.T) {
	s := mustOpen(t, t.TempDir(), nil)
	for _, key := range []string{".fileblob", ".fileblob/lock", ".fileblob/tmp/x", "../outside"} {
		_, putErr := put(t.Context(), s, key, "x", blob.Condition{})
		_, _, getErr := s.Get(t.Context(), key)
		_, statErr := s.Stat(t.Context(), key)
		for _, err := range []error{putErr, getErr, statErr, s.Delete(t.Context(), key), s.ReadRange(t.Context(), key, 0, nil)} {
			if err == nil || !strings.Contains(err.Error(), "invalid key") {
				t.Errorf("%q: got %v, want an invalid key", key, err)
			}
		}
	}
	mustPut(t, s, ".fileblobs", "not the store's")
	mustPut(t, s, "a/.fileblob", "nor this")
	page, err := s.List(t.Context(), blob.Listing{})
	if err != nil || len(page.Objects) != 2 {
		t.Errorf("listed %+v, %v; want the two objects and nothing of the store's", page, err)
	}
}

func TestFolderOfAnotherKey(t *testing.T) {
	s := mustOpen(t, t.TempDir(), nil)
	mustPut(t, s, "a/b", "x")
	for key, want := range map[string]string{"a": "folder of other keys", "a/b/c": "folder of the key is an object"} {
		for _, cond := range []blob.Condition{{}, {IfAbsent: true}} {
			_, err := put(t.Context(), s, key, "y", cond)
			if err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, blob.ErrPrecondition) {
				t.Errorf("put %q: got %v, want %q", key, err, want)
			}
		}
	}
	if got := get(t, s, "a/b"); got != "x" {
		t.Errorf("a/b holds %q", got)
	}
}

// TestEmptyFoldersAreNothing has what a crash between making a folder and
// filling it leaves.
func TestEmptyFoldersAreNothing(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, nil)
	if err := os.MkdirAll(filepath.Join(dir, "a/b/c"), 0o755); err != nil {
		t.Fatal(err)
	}
	page, err := s.List(t.Context(), blob.Listing{Delimiter: "/"})
	if err != nil || len(page.Prefixes) > 0 {
		t.Errorf("listed %+v, %v", page, err)
	}
	if _, err := put(t.Context(), s, "a", "x", blob.Condition{IfAbsent: true}); err != nil {
		t.Error(err)
	}
}

// TestAStoreThatIsGoneIsUnavailable: a folder that was unmounted or moved away
// is not a store without objects.
func TestAStoreThatIsGoneIsUnavailable(t *testing.T) {
	replaced := map[string]func(dir string) error{
		"nothing":         func(string) error { return nil },
		"an empty folder": func(dir string) error { return os.Mkdir(dir, 0o755) },
		"a file":          func(dir string) error { return os.WriteFile(dir, nil, 0o644) },
	}
	for name, replace := range replaced {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "store")
			s := mustOpen(t, dir, nil)
			version := mustPut(t, s, "a/b", "x")
			if err := errors.Join(os.Rename(dir, dir+".away"), replace(dir)); err != nil {
				t.Fatal(err)
			}
			ctx := t.Context()
			for operation, do := range map[string]func() error{
				"get":           func() error { _, _, err := s.Get(ctx, "a/b"); return err },
				"stat":          func() error { _, err := s.Stat(ctx, "a/b"); return err },
				"read":          func() error { return s.ReadRange(ctx, "a/b", 0, make([]byte, 1)) },
				"list":          func() error { _, err := s.List(ctx, blob.Listing{Prefix: "a/"}); return err },
				"delete":        func() error { return s.Delete(ctx, "a/b") },
				"put":           func() error { _, err := put(ctx, s, "a/c", "y", blob.Condition{}); return err },
				"put if absent": func() error { _, err := put(ctx, s, "a/b", "y", blob.Condition{IfAbsent: true}); return err },
				"put if match":  func() error { _, err := put(ctx, s, "a/b", "y", blob.Condition{IfMatch: version}); return err },
			} {
				if err := do(); !errors.Is(err, blob.ErrUnavailable) || errors.Is(err, blob.ErrNotFound) {
					t.Errorf("%s: got %v, want unavailable", operation, err)
				}
			}
			if err := errors.Join(os.RemoveAll(dir), os.Rename(dir+".away", dir)); err != nil {
				t.Fatal(err)
			}
			if got := get(t, s, "a/b"); got != "x" {
				t.Errorf("back again: %q", got)
			}
		})
	}
}

// TestFailedSyncBreaksTheStore: what a directory shows after its sync failed may
// be gone after a crash, so nobody may see it as committed.
func TestFailedSyncBreaksTheStore(t *testing.T) {
	s := mustOpen(t, t.TempDir(), nil)
	mustPut(t, s, "a/b", "x")
	s.sync = func(string) error { return fmt.Errorf("sync: %w", syscall.EIO) }
	_, putErr := put(t.Context(), s, "a/b", "y", blob.Condition{})
	s.sync = syncPath
	_, _, getErr := s.Get(t.Context(), "a/b")
	_, listErr := s.List(t.Context(), blob.Listing{})
	_, statErr := s.Stat(t.Context(), "a/b")
	_, againErr := put(t.Context(), s, "c", "z", blob.Condition{})
	for i, err := range []error{putErr, getErr, listErr, statErr, againErr, s.Delete(t.Context(), "a/b")} {
		if !errors.Is(err, blob.ErrUnavailable) || !errors.Is(err, syscall.EIO) {
			t.Errorf("operation %d: got %v, want %v for %v", i, err, blob.ErrUnavailable, syscall.EIO)
		}
	}
}

func TestClassify(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EMFILE, syscall.EIO} {
		if err := classify(&os.PathError{Op: "write", Err: errno}); !errors.Is(err, blob.ErrUnavailable) || !errors.Is(err, errno) {
			t.Errorf("got %v, want %v for %v", err, blob.ErrUnavailable, errno)
		}
	}
	if err := classify(syscall.EACCES); errors.Is(err, blob.ErrUnavailable) {
		t.Errorf("got %v for a refusal", err)
	}
}

// TestLockHeldElsewhere has another descriptor hold the store's lock, as another
// process would: whoever waits can be called off, and the lock is not lost.
func TestLockHeldElsewhere(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, nil)
	other, err := openFlock(filepath.Join(dir, reserved, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.close()
	if err := other.acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	for i := range 3 { // one waits in the kernel, the others for the first
		go func() {
			_, err := put(ctx, s, fmt.Sprint("k", i), "x", blob.Condition{})
			failed <- err
		}()
	}
	cancel()
	for range 3 {
		if err := <-failed; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
	}
	done := make(chan error)
	go func() {
		_, err := put(context.Background(), s, "late", "x", blob.Condition{})
		done <- err
	}()
	other.release()
	if err := <-done; err != nil {
		t.Error(err)
	}
	page, err := s.List(t.Context(), blob.Listing{})
	if err != nil || len(page.Objects) != 1 {
		t.Errorf("listed %+v, %v; want only the put that was not called off", page, err)
	}
}

// TestOpenLeavesTheLivingAlone opens a store a second time while the first is
// in the middle of a body.
func TestOpenLeavesTheLivingAlone(t *testing.T) {
	dir := t.TempDir()
	first := mustOpen(t, dir, nil)
	reached, resume := make(chan struct{}), make(chan struct{})
	first.hook = func(step string) {
		if step == "sync temp" {
			close(reached)
			<-resume
		}
	}
	done := make(chan error)
	go func() {
		_, err := put(context.Background(), first, "k", "x", blob.Condition{IfAbsent: true})
		done <- err
	}()
	<-reached
	var steps []string
	second := mustOpen(t, dir, func(step string) { steps = append(steps, step) })
	if len(steps) > 0 {
		t.Errorf("open took %q though nobody had died", steps)
	}
	close(resume)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := get(t, second, "k"); got != "x" {
		t.Errorf("the second store sees %q", got)
	}
}

func TestOpenFailsClearly(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("opening a file as a store: got %v", err)
	}
}

// FuzzKeysStayInside: whatever the key, its file is in the store's directory
// and not among the store's own.
func FuzzKeysStayInside(f *testing.F) {
	for _, key := range []string{"a/b", "../a", ".fileblob/lock", "a/../../b", "/etc/passwd", "a\x00b", "."} {
		f.Add(key)
	}
	s := &Store{root: "/root/of/store"}
	f.Fuzz(func(t *testing.T, key string) {
		path, err := s.path(t.Context(), key)
		if err != nil {
			return
		}
		rel, err := filepath.Rel(s.root, path)
		if err != nil || rel != key || !filepath.IsLocal(rel) || strings.HasPrefix(rel+"/", reserved+"/") {
			t.Errorf("key %q lies at %q", key, path)
		}
	})
}
