// Package blobtest is the one suite that every implementation of blob.Store
// must pass: what a single caller sees, what races decide, and what listings
// say while the store changes.
//
//	func TestConformance(t *testing.T) {
//		blobtest.Run(t, func(t *testing.T) blob.Store { return memblob.New() })
//	}
package blobtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/akidb/akidb/segments/blob"
)

// Run runs every case as a subtest, each on a store of its own. open returns an
// empty store and closes it when its t is done. With -short, bodies stay small.
func Run(t *testing.T, open func(t *testing.T) blob.Store) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.run(t, fixture{open(t)}) })
	}
}

var cases = []struct {
	name string
	run  func(t *testing.T, f fixture)
}{
	{"RoundTrip", testRoundTrip},
	{"Overwrite", testOverwrite},
	{"NotFound", testNotFound},
	{"IfAbsent", testIfAbsent},
	{"IfMatch", testIfMatch},
	{"Ranges", testRanges},
	{"BadArguments", testBadArguments},
	{"BodyPosition", testBodyPosition},
	{"BodyTooShort", testBodyTooShort},
	{"Aliasing", testAliasing},
	{"Cancelled", testCancelled},
	{"BigBody", testBigBody},
	{"RaceIfAbsent", testRaceIfAbsent},
	{"RaceIfMatch", testRaceIfMatch},
	{"RaceCounter", testRaceCounter},
	{"RaceWholeBodies", testRaceWholeBodies},
	{"Probe", testProbe},
	{"List", testList},
	{"ListOracle", testListOracle},
	{"ListPages", testListPages},
	{"ListWhileChanging", testListWhileChanging},
	{"ListFolders", testListFolders},
}

// fixture adds to a store what tests do with it over and over.
type fixture struct{ blob.Store }

func (f fixture) mustPut(t *testing.T, key, body string) blob.Version {
	t.Helper()
	version, err := f.put(t.Context(), key, body, blob.Condition{})
	if err != nil {
		t.Fatal(err)
	}
	return version
}

func (f fixture) put(ctx context.Context, key, body string, cond blob.Condition) (blob.Version, error) {
	return f.Put(ctx, key, strings.NewReader(body), int64(len(body)), cond)
}

// wantBody checks the whole of an object through every way to see it.
func (f fixture) wantBody(t *testing.T, key, want string, version blob.Version) {
	t.Helper()
	b, v, err := f.Get(t.Context(), key)
	if err != nil || string(b) != want || v != version {
		t.Errorf("Get(%q) = %d bytes, version %q, %v; want %d bytes, version %q", key, len(b), v, err, len(want), version)
	}
	o, err := f.Stat(t.Context(), key)
	if wantObject := (blob.Object{Key: key, Size: int64(len(want)), Version: version}); err != nil || o != wantObject {
		t.Errorf("Stat(%q) = %+v, %v; want %+v", key, o, err, wantObject)
	}
	dst := make([]byte, len(want))
	if err := f.ReadRange(t.Context(), key, 0, dst); err != nil || string(dst) != want {
		t.Errorf("ReadRange(%q, 0, %d bytes) = %v, equal %t; want the body", key, len(want), err, string(dst) == want)
	}
}

// sentinels are the errors that callers tell apart, so only one at a time.
var sentinels = []error{
	blob.ErrNotFound, blob.ErrPrecondition, blob.ErrUnavailable, io.ErrUnexpectedEOF, context.Canceled,
}

// wantError checks for one of the sentinels.
func wantError(t *testing.T, what string, err, want error) {
	t.Helper()
	for _, sentinel := range sentinels {
		if errors.Is(err, sentinel) != (sentinel == want) {
			t.Errorf("%s: got %v, want %v and nothing else", what, err, want)
			return
		}
	}
}

// wantPlain checks for an error that is none of the sentinels, so that no
// caller takes a mistake of its own for a state of the store.
func wantPlain(t *testing.T, what string, err error) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: got no error", what)
	}
	wantError(t, what, err, nil)
}

func testRoundTrip(t *testing.T, f fixture) {
	for key, body := range map[string]string{
		"empty":                    "",
		"one":                      "1",
		"folder/of/folders/x.json": `{"a":1}`,
		"odd &<>\"'+%2F*?#[]{} é世\U0001F600 name": "odd",
		strings.Repeat("k", 255):                  "the longest part",
		strings.Repeat("kkk/", 255) + "last":      "the longest key",
	} {
		version := f.mustPut(t, key, body)
		if version == "" {
			t.Errorf("Put(%q) returned no version", key)
		}
		f.wantBody(t, key, body, version)
		page, err := f.List(t.Context(), blob.Listing{Prefix: key})
		want := blob.Object{Key: key, Size: int64(len(body)), Version: version}
		if err != nil || len(page.Objects) != 1 || page.Objects[0] != want {
			t.Errorf("List(%q) = %+v, %v; want %+v", key, page, err, want)
		}
		if err := f.Delete(t.Context(), key); err != nil {
			t.Errorf("Delete: %v", err)
		}
		_, _, err = f.Get(t.Context(), key)
		wantError(t, "Get after Delete", err, blob.ErrNotFound)
	}
}

func testOverwrite(t *testing.T, f fixture) {
	seen := map[blob.Version]bool{}
	for _, body := range []string{"first", "second, longer", "3", "", "fifth"} {
		version := f.mustPut(t, "a/b", body)
		if seen[version] {
			t.Errorf("version %q came back for other content", version)
		}
		seen[version] = true
		f.wantBody(t, "a/b", body, version)
	}
}

func testNotFound(t *testing.T, f fixture) {
	f.mustPut(t, "there/is/one", "x")
	for _, key := range []string{"none", "there", "there/is", "there/is/none", "no/such/folder"} {
		_, _, err := f.Get(t.Context(), key)
		wantError(t, "Get "+key, err, blob.ErrNotFound)
		_, err = f.Stat(t.Context(), key)
		wantError(t, "Stat "+key, err, blob.ErrNotFound)
		wantError(t, "ReadRange "+key, f.ReadRange(t.Context(), key, 0, make([]byte, 1)), blob.ErrNotFound)
		wantError(t, "empty ReadRange "+key, f.ReadRange(t.Context(), key, 0, nil), blob.ErrNotFound)
		_, err = f.put(t.Context(), key, "y", blob.Condition{IfMatch: "0123"})
		wantError(t, "Put if-match "+key, err, blob.ErrNotFound)
		if err := f.Delete(t.Context(), key); err != nil {
			t.Errorf("Delete %s: got %v, want none", key, err)
		}
	}
	if _, _, err := f.Get(t.Context(), "there/is/one"); err != nil {
		t.Errorf("an object went with others that never were: %v", err)
	}
}

func testIfAbsent(t *testing.T, f fixture) {
	absent := blob.Condition{IfAbsent: true}
	version, err := f.put(t.Context(), "x/y", "first", absent)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.put(t.Context(), "x/y", "second", absent)
	wantError(t, "second put if-absent", err, blob.ErrPrecondition)
	f.wantBody(t, "x/y", "first", version)
	if err := f.Delete(t.Context(), "x/y"); err != nil {
		t.Fatal(err)
	}
	version, err = f.put(t.Context(), "x/y", "third", absent)
	if err != nil {
		t.Fatalf("put if-absent after delete: %v", err)
	}
	f.wantBody(t, "x/y", "third", version)
}

func testIfMatch(t *testing.T, f fixture) {
	v1 := f.mustPut(t, "x/y", "one")
	v2, err := f.put(t.Context(), "x/y", "two", blob.Condition{IfMatch: v1})
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.put(t.Context(), "x/y", "stale", blob.Condition{IfMatch: v1})
	wantError(t, "put if-match of an old version", err, blob.ErrPrecondition)
	f.wantBody(t, "x/y", "two", v2)
	if err := f.Delete(t.Context(), "x/y"); err != nil {
		t.Fatal(err)
	}
	_, err = f.put(t.Context(), "x/y", "late", blob.Condition{IfMatch: v2})
	wantError(t, "put if-match after delete", err, blob.ErrNotFound)
	_, _, err = f.Get(t.Context(), "x/y")
	wantError(t, "Get after refused put", err, blob.ErrNotFound)
}

func testRanges(t *testing.T, f fixture) {
	body := "0123456789"
	f.mustPut(t, "r", body)
	f.mustPut(t, "empty", "")
	for _, c := range []struct {
		key         string
		off         int64
		length      int
		want        error
		description string
	}{
		{"r", 0, 10, nil, "everything"},
		{"r", 3, 4, nil, "the middle"},
		{"r", 9, 1, nil, "the last byte"},
		{"r", 4, 6, nil, "up to the exact end"},
		{"r", 0, 0, nil, "nothing"},
		{"r", 10, 0, nil, "nothing at the end"},
		{"empty", 0, 0, nil, "nothing of nothing"},
		{"r", 11, 0, io.ErrUnexpectedEOF, "nothing past the end"},
		{"r", 9, 2, io.ErrUnexpectedEOF, "across the end"},
		{"r", 0, 11, io.ErrUnexpectedEOF, "more than everything"},
		{"r", 10, 1, io.ErrUnexpectedEOF, "from the end"},
		{"r", 11, 1, io.ErrUnexpectedEOF, "past the end"},
		{"r", 1 << 40, 1, io.ErrUnexpectedEOF, "far past the end"},
		{"empty", 0, 1, io.ErrUnexpectedEOF, "something of nothing"},
	} {
		const guard = "guard"
		buffer := []byte(strings.Repeat("?", c.length) + guard)
		err := f.ReadRange(t.Context(), c.key, c.off, buffer[:c.length:c.length])
		if c.want == nil {
			if err != nil || string(buffer[:c.length]) != body[c.off:c.off+int64(c.length)] {
				t.Errorf("%s: got %q, %v", c.description, buffer[:c.length], err)
			}
		} else {
			wantError(t, c.description, err, c.want)
		}
		if string(buffer[c.length:]) != guard {
			t.Errorf("%s: wrote past the end of dst", c.description)
		}
	}
}

func testBadArguments(t *testing.T, f fixture) {
	ctx := t.Context()
	for _, key := range []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/..", "a/../b", "a/./b",
		"\xff", "a\x00b", "a\nb", strings.Repeat("k", 256), strings.Repeat("long/", 205) + "k",
	} {
		_, _, err := f.Get(ctx, key)
		wantPlain(t, "Get "+key, err)
		_, err = f.Stat(ctx, key)
		wantPlain(t, "Stat "+key, err)
		wantPlain(t, "ReadRange "+key, f.ReadRange(ctx, key, 0, make([]byte, 1)))
		_, err = f.put(ctx, key, "x", blob.Condition{})
		wantPlain(t, "Put "+key, err)
		wantPlain(t, "Delete "+key, f.Delete(ctx, key))
	}
	version := f.mustPut(t, "a", "x")
	_, err := f.put(ctx, "a", "y", blob.Condition{IfAbsent: true, IfMatch: version})
	wantPlain(t, "Put with both conditions", err)
	_, err = f.Put(ctx, "a", strings.NewReader("y"), -1, blob.Condition{})
	wantPlain(t, "Put of a negative size", err)
	wantPlain(t, "ReadRange from a negative offset", f.ReadRange(ctx, "a", -1, make([]byte, 1)))
	f.wantBody(t, "a", "x", version)
}

func testBodyPosition(t *testing.T, f fixture) {
	body := strings.NewReader("skipped|stored|left")
	if _, err := body.Seek(8, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	version, err := f.Put(t.Context(), "a", body, 6, blob.Condition{})
	if err != nil {
		t.Fatal(err)
	}
	f.wantBody(t, "a", "stored", version)
}

func testBodyTooShort(t *testing.T, f fixture) {
	version := f.mustPut(t, "a", "old")
	for _, key := range []string{"a", "b"} {
		_, err := f.Put(t.Context(), key, strings.NewReader("new"), 4, blob.Condition{})
		if err == nil {
			t.Errorf("Put(%q) of 3 bytes as 4: got no error", key)
		}
	}
	f.wantBody(t, "a", "old", version)
	_, err := f.Stat(t.Context(), "b")
	wantError(t, "Stat after failed Put", err, blob.ErrNotFound)
}

// testAliasing checks that neither bodies given nor bodies received are shared
// with the store.
func testAliasing(t *testing.T, f fixture) {
	given := []byte("original")
	version, err := f.Put(t.Context(), "a", bytes.NewReader(given), int64(len(given)), blob.Condition{})
	if err != nil {
		t.Fatal(err)
	}
	clear(given)
	received, _, err := f.Get(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	clear(received)
	f.wantBody(t, "a", "original", version)
}

func testCancelled(t *testing.T, f fixture) {
	version := f.mustPut(t, "a", "old")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	check := func(what string, err error) {
		t.Helper()
		wantError(t, what, err, context.Canceled)
	}
	_, _, err := f.Get(ctx, "a")
	check("Get", err)
	check("ReadRange", f.ReadRange(ctx, "a", 0, make([]byte, 1)))
	_, err = f.Stat(ctx, "a")
	check("Stat", err)
	_, err = f.List(ctx, blob.Listing{})
	check("List", err)
	_, err = f.put(ctx, "a", "new", blob.Condition{})
	check("Put", err)
	_, err = f.put(ctx, "a", "new", blob.Condition{IfMatch: version})
	check("Put if-match", err)
	check("Delete", f.Delete(ctx, "a"))
	f.wantBody(t, "a", "old", version)

	// A context that ends in the middle of a body.
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	body := &cancelling{ReadSeeker: strings.NewReader(strings.Repeat("x", 1<<20)), cancel: cancel}
	_, err = f.Put(ctx, "a", body, 1<<20, blob.Condition{})
	check("Put cut off", err)
	f.wantBody(t, "a", "old", version)
}

// cancelling is a body that cancels the put which reads it.
type cancelling struct {
	io.ReadSeeker
	cancel context.CancelFunc
}

func (c *cancelling) Read(p []byte) (int, error) {
	defer c.cancel()
	return c.ReadSeeker.Read(p[:min(len(p), 64<<10)])
}

// testBigBody writes more than S3 stores send in one piece.
func testBigBody(t *testing.T, f fixture) {
	size := 70 << 20
	if testing.Short() {
		size = 1 << 20
	}
	fill := func(seed byte) []byte {
		b := make([]byte, size)
		rand.NewChaCha8([32]byte{seed}).Read(b)
		return b
	}
	check := func(want []byte) {
		t.Helper()
		const window = 1 << 20
		got := make([]byte, window)
		for _, off := range []int{0, 16<<20 - window/2, size / 2, size - window} {
			off = min(off, size-window)
			if err := f.ReadRange(t.Context(), "big", int64(off), got); err != nil || !bytes.Equal(got, want[off:off+window]) {
				t.Errorf("ReadRange at %d: wrong bytes or %v", off, err)
			}
		}
		all, _, err := f.Get(t.Context(), "big")
		if err != nil || !bytes.Equal(all, want) {
			t.Errorf("Get: got %d bytes, %v; want the %d bytes put", len(all), err, size)
		}
	}
	put := func(b []byte, cond blob.Condition) (blob.Version, error) {
		return f.Put(t.Context(), "big", bytes.NewReader(b), int64(size), cond)
	}
	first, second := fill(1), fill(2)
	v1, err := put(first, blob.Condition{IfAbsent: true})
	if err != nil {
		t.Fatal(err)
	}
	check(first)
	_, err = put(second, blob.Condition{IfAbsent: true})
	wantError(t, "big put if-absent", err, blob.ErrPrecondition)
	_, err = put(second, blob.Condition{IfMatch: "0123"})
	wantError(t, "big put if-match of a version that never was", err, blob.ErrPrecondition)
	check(first)
	v2, err := put(second, blob.Condition{IfMatch: v1})
	if err != nil || v2 == v1 {
		t.Fatalf("big put if-match: version %q after %q, %v", v2, v1, err)
	}
	check(second)
}
