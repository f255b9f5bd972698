package cache

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/memblob"
)

// TestFormatDocument holds FORMAT.md to the constants.
func TestFormatDocument(t *testing.T) {
	b, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		fmt.Sprintf("`%s%%08x%s`", slabPrefix, slabSuffix),
		fmt.Sprintf("a\n%dnd of `--disk-cache-bytes`, at least %d MiB and at most %d MiB", slabsWhenFull, leastSlab>>20, maxSlabBytes>>20),
		fmt.Sprintf("┤ %d\n", slabHeaderSize),
		fmt.Sprintf("┤ a multiple of %d\n", recordAlign),
		fmt.Sprintf("| 0 | 8 | magic `%s` |", slabMagic),
		fmt.Sprintf("| 8 | 4 | version, %d |", slabVersion),
		fmt.Sprintf("### Header of a record, %d bytes", recordHeaderSize),
		fmt.Sprintf("| 0 | 4 | magic `%s` |", recordMagic),
		fmt.Sprintf("| 4 | 1 | version, %d |", recordVersion),
		fmt.Sprintf("role: %d %s, %d %s, %d %s |", blob.Posting, blob.Posting, blob.Column, blob.Column, blob.Routing, blob.Routing),
		fmt.Sprintf("at most %d |", maxRecordKey),
		"| 1 | first |",
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("FORMAT.md does not say %q", want)
		}
	}
}

// TestSlabGolden pins every field to its place.
func TestSlabGolden(t *testing.T) {
	r := blob.Range{Key: "key", Offset: 0x0102030405060708, Length: 2, CRC32C: 0x11121314, Role: blob.Routing}
	got := fmt.Sprintf("%x", appendRecord(nil, 7, 64, r, []byte{0xaa, 0xbb}))
	want := "414b424b" + "01" + "02" + "0300" + "0807060504030201" + "02000000" + "14131211" + "65d7837d" + "6b6579" + "aabb" +
		strings.Repeat("00", 64-33)
	if got != want {
		t.Errorf("record\n got %s\nwant %s", got, want)
	}
	if got, want := fmt.Sprintf("%x", slabHeader(7)[:20]), "414b4442534c4142"+"01000000"+"07000000"+"15e220ad"; got != want {
		t.Errorf("slab\n got %s\nwant %s", got, want)
	}
}

var addFixture = flag.Bool("add-fixture", false, "write the fixture of the current version, if there is none yet")

// TestReadsEveryVersion opens the slabs of all versions that were ever written.
// Those are added to and never made again.
func TestReadsEveryVersion(t *testing.T) {
	const blocks = 5
	store := &spy{Store: memblob.New()}
	content := object(t, store, "a", 1<<20)
	readAll := func(c *Cache) {
		for i := range blocks {
			mustRead(t, c, rangeOf("a", content, i*100, 10+i), content[i*100:][:10+i])
			c.jobs.Wait()
			c.disk.settle()
		}
	}
	newest := filepath.Join("testdata", "compat", fmt.Sprintf("v%d", slabVersion))
	if _, err := os.Stat(newest); *addFixture && os.IsNotExist(err) {
		fs := newMemFS()
		c := diskSetup(t, fs, 16, store)
		readAll(c)
		c.Close()
		if err := os.MkdirAll(newest, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(newest, slabName(1)), fs.only(t).b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	slabs, err := filepath.Glob("testdata/compat/v*/" + slabName(1))
	if err != nil || len(slabs) < slabVersion {
		t.Fatalf("fixtures %q, %v, want one for each version", slabs, err)
	}
	for _, path := range slabs {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		fs := newMemFS()
		fs.files[slabName(1)] = &memFile{fs: fs, name: slabName(1), b: bytes.Clone(b)}
		c := diskSetup(t, fs, 16, store)
		before := store.count()
		readAll(c)
		if n := store.count() - before; n != 0 {
			t.Errorf("%s: %d of %d blocks came from the store", path, n, blocks)
		}
		c.Close()
	}
}
