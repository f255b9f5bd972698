package manifest

import (
	"bytes"
	"encoding"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
		case ft.Kind() == reflect.Struct && !ft.Implements(reflect.TypeFor[encoding.TextMarshaler]()):
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

// compat is what a fixture holds: its newest snapshot, and how many rows there
// are along its chain, newest first.
type compat struct {
	want *Snapshot
	rows []uint64
}

func fixtureID(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }

func fixtureTime(second int) time.Time {
	return time.Date(2026, 3, 14, 15, 9, second, 535897932, time.UTC)
}

// fixtures are those of format 1, 2, … in testdata/compat.
func fixtures() []compat {
	v1 := compat{rows: []uint64{990, 1005, 1005, 0}}
	v1.want = &Snapshot{
		Format: 1, Version: 4, Epoch: 2, CommitID: fixtureID(4), CreatedAt: fixtureTime(30),
		Parent: &Link{
			Version: 3, Key: "collections/films/manifest/0000000000000003-" + fixtureID(3),
			SHA256: "2cead8354e87355390e32241f0d4d7411ca571057024860836d9d0c8f1e2874c",
		},
		Collection: Collection{ID: "films", Name: "movies", Dimension: 768, Metric: "cosine", CreatedAt: fixtureTime(26)},
		FlushedSeq: 1<<60 + 1,
		Segments: []Segment{{
			ID: "s1", Rows: 1000, MinSeq: 1, MaxSeq: 1000,
			Data:    Ref{"collections/films/segments/s1/data.parquet", 3100000, 0xdeadbeef},
			Index:   Ref{"collections/films/segments/s1/index.ivf", 120000, 1},
			Footer:  Extent{119936, 64, 7},
			Deletes: &DeleteVector{Ref{"collections/films/segments/s1/deletes-u1", 20, 0xffffffff}, 10},
		}},
		Garbage: []Garbage{
			{"collections/films/segments/s0/data.parquet", 4, fixtureTime(26)},
			{"collections/films/segments/s0/index.ivf", 4, fixtureTime(26)},
		},
	}
	// The last commit of v2 is of a second quantizer, after a claim: segment s0
	// and its quantizer q0 went for s1 and q1; s2 has q2, and s3 is exact.
	v2 := compat{rows: []uint64{5597, 5, 5, 0}}
	v2.want = &Snapshot{
		Format: 2, Version: 4, Epoch: 2, CommitID: fixtureID(4), CreatedAt: fixtureTime(30),
		Parent: &Link{
			Version: 3, Key: "collections/films/manifest/0000000000000003-" + fixtureID(3),
			SHA256: "9d9e20c15aaa196d9f5a48745150757e8f1f0452b3ee3ce34938a7639e36b321",
		},
		Collection: Collection{ID: "films", Name: "movies", Dimension: 768, Metric: "cosine", CreatedAt: fixtureTime(26)},
		FlushedSeq: 1<<60 + 1,
		Quantizers: []Quantizer{
			{"q1", Ref{"collections/films/quantizers/q1.ivq", 70000, 0xfeedface}, 1<<33 + 1, 17},
			{"q2", Ref{"collections/films/quantizers/q2.ivq", 280000, 5}, 1 << 35, 70},
		},
		Segments: []Segment{
			{
				ID: "s1", Rows: 1000, MinSeq: 1, MaxSeq: 1000,
				Data:      Ref{"collections/films/segments/s1/data.parquet", 3100000, 0xdeadbeef},
				Index:     Ref{"collections/films/segments/s1/index.ivf", 120000, 1},
				Footer:    Extent{119936, 64, 7},
				Quantizer: "q1",
				Deletes:   &DeleteVector{Ref{"collections/films/segments/s1/deletes-u1", 20, 0xffffffff}, 10},
			},
			{
				ID: "s2", Rows: 4600, MinSeq: 1001, MaxSeq: 5600,
				Data:      Ref{"collections/films/segments/s2/data.parquet", 14000000, 6},
				Index:     Ref{"collections/films/segments/s2/index.ivf", 550000, 7},
				Footer:    Extent{549000, 1000, 8},
				Quantizer: "q2",
			},
			{
				ID: "s3", Rows: 7, MinSeq: 5601, MaxSeq: 1<<60 + 1,
				Data:   Ref{"collections/films/segments/s3/data.parquet", 9000, 9},
				Index:  Ref{"collections/films/segments/s3/index.ivf", 800, 10},
				Footer: Extent{700, 100, 11},
			},
		},
		Garbage: []Garbage{
			{"collections/films/quantizers/q0.ivq", 4, fixtureTime(26)},
			{"collections/films/segments/s0/data.parquet", 4, fixtureTime(26)},
			{"collections/films/segments/s0/index.ivf", 4, fixtureTime(26)},
		},
	}
	// The last commit of v3 is of a branch's first flush: segment s1 is its
	// origin's, s2 its own, and version 2 is pinned.
	v3 := compat{rows: []uint64{1007, 1000, 1000, 1000}}
	v3.want = &Snapshot{
		Format: 3, Version: 4, Epoch: 2, CommitID: fixtureID(4), CreatedAt: fixtureTime(30),
		Parent: &Link{
			Version: 3, Key: "collections/films/manifest/0000000000000003-" + fixtureID(3),
			SHA256: "ecfdefe2aed5dbc8f306df269434629015e68562d7b1ff19ac66914461c4a551",
		},
		Collection: Collection{ID: "films", Name: "movies", Dimension: 768, Metric: "cosine", CreatedAt: fixtureTime(26)},
		FlushedSeq: 1<<60 + 1,
		SetDigest:  &SetDigest{0x0123456789abcdef, 0xfedcba9876543210},
		Origins:    []string{"classics"},
		Segments: []Segment{
			{
				ID: "00000007-s1", Rows: 1000, MinSeq: 1, MaxSeq: 1000,
				Data:   Ref{"collections/classics/segments/00000007-s1/data.parquet", 3100000, 0xdeadbeef},
				Index:  Ref{"collections/classics/segments/00000007-s1/index.ivf", 120000, 1},
				Footer: Extent{119936, 64, 7},
			},
			{
				ID: "00000002-s2", Rows: 7, MinSeq: 5601, MaxSeq: 1<<60 + 1,
				Data:   Ref{"collections/films/segments/00000002-s2/data.parquet", 9000, 9},
				Index:  Ref{"collections/films/segments/00000002-s2/index.ivf", 800, 10},
				Footer: Extent{700, 100, 11},
			},
		},
		Pins: []Pin{{
			ID: "p1", Name: "first", Rows: 1000, CreatedAt: fixtureTime(29),
			Manifest: Link{Version: 2, Key: "collections/films/manifest/0000000000000002-" + fixtureID(2), SHA256: "59aa869856a697eaf977847c60c35e4dbcfdd20b5ca0be1ef3361438b04d84dd"},
		}},
	}
	v3.want.Ancestors = []Ancestor{{*v3.want.Parent, fixtureTime(29)}, {v3.want.Pins[0].Manifest, fixtureTime(28)}}
	// The last commit of v4 places the collection in memory, after a claim.
	v4 := compat{rows: []uint64{7, 7, 7, 0}}
	v4.want = &Snapshot{
		Format: 4, Version: 4, Epoch: 2, CommitID: fixtureID(4), CreatedAt: fixtureTime(30),
		Parent: &Link{
			Version: 3, Key: "collections/films/manifest/0000000000000003-" + fixtureID(3),
			SHA256: "46a97b477695dbd468c874a9a1f25a3f0d049f12096d8dd6ea32000ba7247623",
		},
		Collection: Collection{ID: "films", Name: "movies", Dimension: 768, Metric: "cosine", CreatedAt: fixtureTime(26)},
		Placement:  &Placement{Tier: Hot, Pinned: true, Since: fixtureTime(29)},
		FlushedSeq: 1<<60 + 1,
		SetDigest:  &SetDigest{0x0123456789abcdef, 0xfedcba9876543210},
		Segments: []Segment{{
			ID: "00000001-s1", Rows: 7, MinSeq: 5601, MaxSeq: 1<<60 + 1,
			Data:   Ref{"collections/films/segments/00000001-s1/data.parquet", 9000, 9},
			Index:  Ref{"collections/films/segments/00000001-s1/index.ivf", 800, 10},
			Footer: Extent{700, 100, 11},
		}},
	}
	v4.want.Ancestors = []Ancestor{{*v4.want.Parent, fixtureTime(29)}, {Link{
		Version: 2, Key: "collections/films/manifest/0000000000000002-" + fixtureID(2),
		SHA256: "55aa394845ec2b9287ed033af75f3eab94c04149dad9160da1f806f564dfdcfc",
	}, fixtureTime(28)}}
	return []compat{v1, v2, v3, v4}
}

// What a format looked like when it was new is read for ever.
func TestCompat(t *testing.T) {
	dirs, err := filepath.Glob("testdata/compat/*")
	if err != nil || len(dirs) != FormatVersion || len(fixtures()) != FormatVersion {
		t.Fatalf("fixtures: got %q, %v and %d in the test, want one for each of formats 1 to %d", dirs, err, len(fixtures()), FormatVersion)
	}
	for i, f := range fixtures() {
		format := i + 1
		t.Run(fmt.Sprintf("v%d", format), func(t *testing.T) {
			store := loadStore(t, fmt.Sprintf("testdata/compat/v%d", format))
			got, cur, err := Read(t.Context(), store, "films")
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, f.want) {
				t.Errorf("got\n%+v, want\n%+v", got, f.want)
			}
			if cur.Format != format || cur.Owner != "writer-1" || cur.Epoch != 2 || cur.CommitID != fixtureID(4) || cur.Manifest.Version != 4 {
				t.Errorf("CURRENT: got %+v", cur)
			}
			var rows []uint64
			for s, err := range History(t.Context(), store, cur) {
				if err != nil {
					t.Fatal(err)
				}
				if s.Format != format {
					t.Errorf("version %d: got format %d, want %d", s.Version, s.Format, format)
				}
				rows = append(rows, s.Rows())
			}
			if !slices.Equal(rows, f.rows) {
				t.Errorf("rows along the chain: got %v, want %v", rows, f.rows)
			}
		})
	}
}

// A collection that an older program left behind goes on in the newest format.
func TestChainOfMixedFormats(t *testing.T) {
	store := loadStore(t, "testdata/compat/v1")
	l, err := Open(t.Context(), store, "films", "writer-1", testOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Claim(t.Context()); err != nil {
		t.Fatal(err)
	}
	v2 := fixtures()[1].want
	want, err := l.Commit(t.Context(), func(next *Snapshot) error {
		next.Quantizers = v2.Quantizers
		next.Segments = append(next.Segments, v2.Segments[1])
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if old := fixtures()[0].want; want.Format != FormatVersion || len(want.Segments) != 2 || !reflect.DeepEqual(want.Segments[0], old.Segments[0]) {
		t.Errorf("got %+v, want the newest format with the segment of format 1 as it was", want)
	}
	got, cur, err := Read(t.Context(), store, "films")
	if err != nil || !reflect.DeepEqual(got, want) || cur.Format != FormatVersion {
		t.Errorf("got %+v, %v with %+v, want %+v", got, err, cur, want)
	}
	var formats []int
	for s, err := range History(t.Context(), store, cur) {
		if err != nil {
			t.Fatal(err)
		}
		formats = append(formats, s.Format)
	}
	if !slices.Equal(formats, []int{4, 4, 1, 1, 1, 1}) {
		t.Errorf("formats along the chain: got %v, want [4 4 1 1 1 1]", formats)
	}
}
