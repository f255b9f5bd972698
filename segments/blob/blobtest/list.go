package blobtest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/akidb/akidb/segments/blob"
)

// testList spells out the cases that implementations get wrong.
func testList(t *testing.T, f fixture) {
	// In bytewise order, which is not the order of a directory tree: '-' and '.'
	// come before the slash, '0' comes after it.
	keys := []string{"a-b", "a.b", "a/b", "a/c/d", "a0", "b/x"}
	for _, key := range keys {
		f.mustPut(t, key, key)
	}
	for _, c := range []struct {
		name    string
		listing blob.Listing
		want    string // objects, then prefixes, then Next
	}{
		{"everything", blob.Listing{}, "a-b a.b a/b a/c/d a0 b/x | |"},
		{"by prefix", blob.Listing{Prefix: "a/"}, "a/b a/c/d | |"},
		{"by part of a name", blob.Listing{Prefix: "a/c"}, "a/c/d | |"},
		{"by a whole key", blob.Listing{Prefix: "a/b"}, "a/b | |"},
		{"by nothing", blob.Listing{Prefix: "a/b/"}, "| |"},
		{"folders", blob.Listing{Delimiter: "/"}, "a-b a.b a0 | a/ b/ |"},
		{"a folder", blob.Listing{Prefix: "a/", Delimiter: "/"}, "a/b | a/c/ |"},
		{"folders by prefix", blob.Listing{Prefix: "a", Delimiter: "/"}, "a-b a.b a0 | a/ |"},
		{"after a key", blob.Listing{After: "a.b"}, "a/b a/c/d a0 b/x | |"},
		{"after no key", blob.Listing{After: "a/bb"}, "a/c/d a0 b/x | |"},
		{"after everything", blob.Listing{After: "b/x"}, "| |"},
		{"after, before the prefix", blob.Listing{Prefix: "b/", After: "a"}, "b/x | |"},
		{"after, past the prefix", blob.Listing{Prefix: "a/", After: "b"}, "| |"},
		{"after the prefix", blob.Listing{Prefix: "a/", After: "a/"}, "a/b a/c/d | |"},
		{"after a folder", blob.Listing{Delimiter: "/", After: "a/"}, "a0 | b/ |"},
		{"after a key in a folder", blob.Listing{Delimiter: "/", After: "a/b"}, "a0 | b/ |"},
		{"just before a folder", blob.Listing{Delimiter: "/", After: "a"}, "a-b a.b a0 | a/ b/ |"},
		{"a short page", blob.Listing{Limit: 2}, "a-b a.b | | a.b"},
		{"a short page of folders", blob.Listing{Delimiter: "/", Limit: 3}, "a-b a.b | a/ | a/"},
	} {
		page, err := f.List(t.Context(), c.listing)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var objects []string
		for _, o := range page.Objects {
			objects = append(objects, o.Key)
		}
		got := strings.Join([]string{strings.Join(objects, " "), strings.Join(page.Prefixes, " "), page.Next}, " | ")
		if strings.Join(strings.Fields(got), " ") != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

// testListFolders checks that folders appear with their first object and go
// with their last.
func testListFolders(t *testing.T, f fixture) {
	check := func(want ...string) {
		t.Helper()
		page, err := f.List(t.Context(), blob.Listing{Delimiter: "/"})
		if err != nil || !slices.Equal(page.Prefixes, want) || len(page.Objects) > 0 {
			t.Errorf("got %+v, %v; want the folders %q", page, err, want)
		}
	}
	check()
	f.mustPut(t, "x/y/z/1", "1")
	f.mustPut(t, "x/y/2", "2")
	f.mustPut(t, "w/3", "3")
	check("w/", "x/")
	for _, key := range []string{"x/y/z/1", "w/3"} {
		if err := f.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	check("x/")
	if err := f.Delete(t.Context(), "x/y/2"); err != nil {
		t.Fatal(err)
	}
	check()
	f.mustPut(t, "x", "an object where a folder was")
}

// testListOracle compares pages with what a few lines of brute force say.
func testListOracle(t *testing.T, f fixture) {
	folder := 0
	rapid.Check(t, func(r *rapid.T) {
		folder++ // each example in a folder of its own
		base := fmt.Sprintf("example-%06d/", folder)
		stored := map[string]blob.Object{}
		for _, key := range rapid.SliceOfN(keyGenerator, 0, 12).Draw(r, "keys") {
			key = base + key
			if isFolderOf(stored, key) {
				continue
			}
			version := f.mustPut(t, key, key)
			stored[key] = blob.Object{Key: key, Size: int64(len(key)), Version: version}
		}
		for range 4 {
			l := blob.Listing{
				Prefix:    base + cut(r, "prefix"),
				After:     rapid.SampledFrom([]string{"", base, base, base}).Draw(r, "start") + cut(r, "after"),
				Delimiter: rapid.SampledFrom([]string{"", "/", "/", "a"}).Draw(r, "delimiter"),
				Limit:     rapid.IntRange(0, 4).Draw(r, "limit"),
			}
			wantPages(r, f, l, stored)
		}
	})
}

// keyGenerator draws keys of few parts, so that they share folders, with bytes
// on both sides of the slash and characters that encodings trip over.
var keyGenerator = rapid.Custom(func(r *rapid.T) string {
	part := rapid.SampledFrom([]string{"a", "a", "a", "a.b", "a-", "a0", "b", "a.b", "a-", "a0", "aa", "A", "z", "é", "世", "\U0001F600", "a b", "&<>", "%2F", "+", "~", ".x"})
	return strings.Join(rapid.SliceOfN(part, 1, 3).Draw(r, "parts"), "/")
})

// cut draws the beginning of a key, or none.
func cut(r *rapid.T, label string) string {
	key := []rune(keyGenerator.Draw(r, label))
	return string(key[:rapid.IntRange(0, len(key)).Draw(r, label+" length")])
}

// isFolderOf tells whether key and a stored key contradict each other.
func isFolderOf(stored map[string]blob.Object, key string) bool {
	for other := range stored {
		if strings.HasPrefix(other, key+"/") || strings.HasPrefix(key, other+"/") {
			return true
		}
	}
	return false
}

// tester is what *testing.T and *rapid.T have in common.
type tester interface {
	Helper()
	Context() context.Context
	Fatalf(format string, args ...any)
}

// wantPages follows a listing from page to page and compares it with the truth.
func wantPages(t tester, f fixture, l blob.Listing, stored map[string]blob.Object) {
	t.Helper()
	objects, prefixes := bruteForce(l, stored)
	var gotObjects []blob.Object
	var gotPrefixes []string
	for next := l; ; {
		page, err := f.List(t.Context(), next)
		if err != nil {
			t.Fatalf("List(%+v): %v", next, err)
		}
		if n := len(page.Objects) + len(page.Prefixes); n > next.Max() {
			t.Fatalf("List(%+v) returned %d entries", next, n)
		}
		gotObjects = append(gotObjects, page.Objects...)
		gotPrefixes = append(gotPrefixes, page.Prefixes...)
		if page.Next == "" {
			break
		}
		if page.Next <= next.After {
			t.Fatalf("List(%+v) goes on after %q", next, page.Next)
		}
		next.After = page.Next
	}
	if !slices.Equal(gotObjects, objects) {
		t.Fatalf("List(%+v): got objects %+v, want %+v", l, gotObjects, objects)
	}
	if !slices.Equal(gotPrefixes, prefixes) {
		t.Fatalf("List(%+v): got prefixes %q, want %q", l, gotPrefixes, prefixes)
	}
}

// bruteForce is all that the pages of l must add up to.
func bruteForce(l blob.Listing, stored map[string]blob.Object) (objects []blob.Object, prefixes []string) {
	for key, object := range stored {
		rest, ok := strings.CutPrefix(key, l.Prefix)
		if !ok {
			continue
		}
		if head, _, found := strings.Cut(rest, l.Delimiter); found && l.Delimiter != "" {
			if prefix := l.Prefix + head + l.Delimiter; prefix > l.After {
				prefixes = append(prefixes, prefix)
			}
		} else if key > l.After {
			objects = append(objects, object)
		}
	}
	slices.SortFunc(objects, func(a, b blob.Object) int { return strings.Compare(a.Key, b.Key) })
	slices.Sort(prefixes)
	return objects, slices.Compact(prefixes)
}

// testListPages lists more than a server returns at once.
func testListPages(t *testing.T, f fixture) {
	count := 1203
	if testing.Short() {
		count = 203
	}
	objects := make([]blob.Object, count)
	together(func(contender int) {
		for i := contender; i < count; i += contenders {
			key := fmt.Sprintf("pages/%d/%d", i%7, i)
			version, err := f.put(t.Context(), key, "x", blob.Condition{})
			if err != nil {
				t.Error(err)
			}
			objects[i] = blob.Object{Key: key, Size: 1, Version: version}
		}
	})
	stored := map[string]blob.Object{}
	for _, o := range objects {
		stored[o.Key] = o
	}
	for _, limit := range []int{0, 100, 1100} {
		wantPages(t, f, blob.Listing{Prefix: "pages/", Limit: limit}, stored)
		wantPages(t, f, blob.Listing{Prefix: "pages/", Limit: limit, Delimiter: "/"}, stored)
	}
	n := 0
	for o, err := range blob.Objects(t.Context(), f, blob.Listing{Prefix: "pages/3/", Limit: 10}) {
		if err != nil || o != stored[o.Key] {
			t.Fatalf("Objects: got %+v, %v; want %+v", o, err, stored[o.Key])
		}
		n++
	}
	if want := (count-4)/7 + 1; n != want {
		t.Errorf("Objects: got %d objects, want %d", n, want)
	}
}

// testListWhileChanging lists while every other contender puts, overwrites and
// deletes in the same folders. What is there all the time must be listed, what
// was deleted before must not, and order must hold.
func testListWhileChanging(t *testing.T, f fixture) {
	const turns = 8
	var always []string
	for i := range contenders {
		always = append(always, fmt.Sprintf("list/%02d/always", i))
		f.mustPut(t, always[i], "start")
	}
	together(func(i int) {
		for turn := range turns {
			if i%2 == 0 {
				change(t, f, i, turn)
			} else {
				wantAlways(t, f, always)
			}
		}
	})
	page, err := f.List(t.Context(), blob.Listing{Prefix: "list/"})
	if err != nil || len(page.Objects) != contenders {
		t.Errorf("in the end: got %d objects, %v; want %d", len(page.Objects), err, contenders)
	}
}

func change(t *testing.T, f fixture, i, turn int) {
	kept, passing := fmt.Sprintf("list/%02d/always", i), fmt.Sprintf("list/%02d/%d/passing", i, turn)
	for _, key := range []string{kept, passing} {
		if _, err := f.put(t.Context(), key, fmt.Sprint(turn), blob.Condition{}); err != nil {
			t.Error(err)
		}
	}
	if n, err := countUnder(t, f, passing); n != 1 || err != nil {
		t.Errorf("listed %q %d times after its put, %v", passing, n, err)
	}
	if err := f.Delete(t.Context(), passing); err != nil {
		t.Error(err)
	}
	if n, err := countUnder(t, f, passing); n != 0 || err != nil {
		t.Errorf("listed %q %d times after its delete, %v", passing, n, err)
	}
}

func countUnder(t *testing.T, f fixture, prefix string) (int, error) {
	page, err := f.List(t.Context(), blob.Listing{Prefix: prefix})
	return len(page.Objects), err
}

func wantAlways(t *testing.T, f fixture, always []string) {
	missing := slices.Clone(always)
	last := ""
	for o, err := range blob.Objects(t.Context(), f, blob.Listing{Prefix: "list/", Limit: 5}) {
		if err != nil {
			t.Error(err)
			return
		}
		if o.Key <= last {
			t.Errorf("listed %q after %q", o.Key, last)
		}
		last = o.Key
		missing = slices.DeleteFunc(missing, func(key string) bool { return key == o.Key })
	}
	if len(missing) > 0 {
		t.Errorf("not listed though never deleted: %q", missing)
	}
}
