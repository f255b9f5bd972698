package manifest

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/memblob"
)

// fields lists the names of everything t encodes, as FORMAT.md writes them.
func fields(t reflect.Type, prefix string) []string {
	var names []string
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		ft, path := f.Type, prefix+name
		if ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		if ft.Kind() == reflect.Slice {
			ft, path = ft.Elem(), path+"[]"
		}
		switch {
		case f.Anonymous:
			names = append(names, fields(ft, prefix)...)
		case ft.Kind() == reflect.Struct && ft != reflect.TypeFor[time.Time]():
			names = append(names, fields(ft, path+".")...)
		default:
			names = append(names, path)
		}
	}
	return names
}

// section returns the part of FORMAT.md under a heading.
func section(t *testing.T, heading string) string {
	t.Helper()
	b, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(b), "\n## "+heading+"\n")
	if !found {
		t.Fatalf("FORMAT.md has no section %q", heading)
	}
	rest, _, _ = strings.Cut(rest, "\n## ")
	return rest
}

// column returns the first column of the table in text, without its header.
func column(text string) []string {
	var names []string
	for _, m := range regexp.MustCompile("(?m)^\\| ([^|]+) \\|").FindAllStringSubmatch(text, -1) {
		names = append(names, strings.Trim(m[1], "`"))
	}
	return names[min(1, len(names)):]
}

func TestFormatDocument(t *testing.T) {
	for heading, typ := range map[string]reflect.Type{"CURRENT": reflect.TypeFor[Current](), "Body": reflect.TypeFor[Snapshot]()} {
		if got, want := column(section(t, heading)), fields(typ, ""); !slices.Equal(got, want) {
			t.Errorf("%s: FORMAT.md has\n%q, the code\n%q", heading, got, want)
		}
	}
	for heading, want := range map[string]string{
		"CURRENT":  fmt.Sprintf("At most %d bytes. It ends in exactly these %d bytes", MaxCurrentBytes, sealBytes),
		"Body":     fmt.Sprintf("At most %d bytes.", MaxBodyBytes),
		"Versions": fmt.Sprintf("| %d |", FormatVersion),
	} {
		if !strings.Contains(section(t, heading), want) {
			t.Errorf("%s: FORMAT.md does not say %q", heading, want)
		}
	}
	if n := len(column(section(t, "Versions"))); n != FormatVersion {
		t.Errorf("the ledger has %d versions, want %d", n, FormatVersion)
	}
	b, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, []byte("`"+idPattern.String()+"`")) {
		t.Errorf("FORMAT.md does not say that ids match %s", idPattern)
	}
}

// loadStore puts the files under dir into a store, by their paths.
func loadStore(t *testing.T, dir string) blob.Store {
	t.Helper()
	store, count := memblob.New(), 0
	root := os.DirFS(dir)
	err := fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(root, path)
		if err != nil {
			return err
		}
		count++
		_, err = store.Put(t.Context(), path, bytes.NewReader(b), int64(len(b)), blob.Condition{})
		return err
	})
	if err != nil || count == 0 {
		t.Fatalf("%s: %d files, %v", dir, count, err)
	}
	return store
}

// What format 1 looked like when it was new is read for ever.
func TestCompatV1(t *testing.T) {
	store := loadStore(t, "testdata/compat/v1")
	const id = "films"
	uuid := func(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }
	at := func(second int) time.Time { return time.Date(2026, 3, 14, 15, 9, second, 535897932, time.UTC) }
	got, cur, err := Read(t.Context(), store, id)
	if err != nil {
		t.Fatal(err)
	}
	want := &Snapshot{
		Format: 1, Version: 4, Epoch: 2, CommitID: uuid(4), CreatedAt: at(30),
		Parent: &Link{
			Version: 3, Key: "collections/films/manifest/0000000000000003-" + uuid(3),
			SHA256: "2cead8354e87355390e32241f0d4d7411ca571057024860836d9d0c8f1e2874c",
		},
		Collection: Collection{ID: id, Name: "movies", Dimension: 768, Metric: "cosine", CreatedAt: at(26)},
		FlushedSeq: 1<<60 + 1,
		Segments: []Segment{{
			ID: "s1", Rows: 1000, MinSeq: 1, MaxSeq: 1000,
			Data:    Ref{"collections/films/segments/s1/data.parquet", 3100000, 0xdeadbeef},
			Index:   Ref{"collections/films/segments/s1/index.ivf", 120000, 1},
			Footer:  Extent{119936, 64, 7},
			Deletes: &DeleteVector{Ref{"collections/films/segments/s1/deletes-u1", 20, 0xffffffff}, 10},
		}},
		Garbage: []Garbage{
			{"collections/films/segments/s0/data.parquet", 4, at(26)},
			{"collections/films/segments/s0/index.ivf", 4, at(26)},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v, want\n%+v", got, want)
	}
	if cur.Owner != "writer-1" || cur.Epoch != 2 || cur.CommitID != uuid(4) || cur.Manifest.Version != 4 {
		t.Errorf("CURRENT: got %+v", cur)
	}
	var rows []uint64
	for s, err := range History(t.Context(), store, cur) {
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, s.Rows())
	}
	if !slices.Equal(rows, []uint64{990, 1005, 1005, 0}) {
		t.Errorf("rows along the chain: got %v, want [990 1005 1005 0]", rows)
	}
}
