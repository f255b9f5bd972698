package segments

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/memblob"
	"github.com/akidb/akidb/segments/ivfpq"
	"github.com/akidb/akidb/segments/manifest"
)

// TestFormatDocument holds FORMAT.md to the constants.
func TestFormatDocument(t *testing.T) {
	b, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(b)
	for _, want := range []string{
		fmt.Sprintf("header: %q, version u32", magic),
		fmt.Sprintf("┤ %d\n", headerSize),
		fmt.Sprintf("multiple of %d bytes", align),
		fmt.Sprintf("### Tail, the last %d bytes", tailSize),
		fmt.Sprintf("number of sections, at most %d ", maxSections),
		fmt.Sprintf("### Directory, %d bytes a section", tocEntrySize),
		fmt.Sprintf("| %d | properties | %d bytes", tagProperties, propertiesSize),
		fmt.Sprintf("| %d | centroids, version 1 only |", tagCentroids),
		fmt.Sprintf("| %d | quantizer, of a flat index |", tagQuantizer),
		fmt.Sprintf("| %d | pages, from version 3 |", tagPages),
		fmt.Sprintf("| %d | attributes, from version 3 | the directory of the attributes, below, if it has at most %d bytes", tagAttributes, directoryInFooter),
		fmt.Sprintf("| %d | attributes apart, from version 3 | %d bytes", tagAttributePlace, attributePlaceSize),
		fmt.Sprintf("| %d | lists | %d bytes a list (%d in version 1)", tagLists, listEntrySize, listEntrySizeV1),
		fmt.Sprintf("| %d | calibration | %d bytes an entry", tagCalibration, calibrationSize),
		fmt.Sprintf("| %d | wider calibration, from version 3 |", tagWider), fmt.Sprintf("entries u32, %d bytes an entry as in section %d", calibrationSize, tagCalibration),
		fmt.Sprintf("| %d | id fences | %d bytes and an id", tagIDFences, idFenceSize),
		fmt.Sprintf("| %d | data checksums | CRC32C u32 of every block of %d bytes", tagDataSums, dataBlockSize),
		fmt.Sprintf("in bytewise order, %d to a block", idBlockEntries),
		fmt.Sprintf("metric: %d l2, %d dot, %d cosine", ivfpq.L2, ivfpq.Dot, ivfpq.Cosine),
		fmt.Sprintf("kind: %d exact (no lists), %d flat (one list), %d ivf", ivfpq.Exact, ivfpq.Flat, ivfpq.IVF),
		"| 1 | first |", fmt.Sprintf("| %d | ", Version),
	} {
		if !strings.Contains(doc, want) {
			t.Errorf("FORMAT.md does not say %q", want)
		}
	}
}

// TestPropertiesGolden pins every field to its place.
func TestPropertiesGolden(t *testing.T) {
	got := fmt.Sprintf("%x", properties{
		rows: 0x01020304, dim: 0x0506, metric: ivfpq.Cosine, kind: ivfpq.IVF, quantizer: 0x51525354, residual: 0.5,
		listsEnd: 0x2122232425262728, dataSize: 0x3132333435363738, listCount: 0x41424344,
	}.encode())
	want := "03000000" + "04030201" + "06050000" + "03" + "03" + "0000" + "44434241" + "00800000" +
		"0000000000000000" + "2827262524232221" + "3837363534333231" + "00000000" + "54535251" + "000000000000e03f"
	if got != want {
		t.Errorf("properties\n got %s\nwant %s", got, want)
	}
}

var addFixture = flag.Bool("add-fixture", false, "write the fixture of the current version, if there is none yet")

// TestReadsEveryVersion opens the fixtures of all versions that were ever
// written. They are added to and never made again.
func TestReadsEveryVersion(t *testing.T) {
	const dim, n = 6, 150
	rows := makeRows(rand.New(rand.NewPCG(42, 1)), "id-", n, dim)
	if *addFixture {
		writeFixture(t, rows, dim)
	}
	dirs, err := filepath.Glob("testdata/compat/v*")
	if err != nil || len(dirs) < Version-ReadMinVersion+1 {
		t.Fatalf("%d fixtures, want one for each of versions %d to %d: %v", len(dirs), ReadMinVersion, Version, err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			var fix fixture
			b, err := os.ReadFile(filepath.Join(dir, "segment.json"))
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(b, &fix); err != nil {
				t.Fatal(err)
			}
			store := memblob.New()
			if b, err := os.ReadFile(filepath.Join(dir, "quantizer.ivq")); err == nil {
				put(t, store, manifest.QuantizerKey(testCollection, fix.Segment.Quantizer), b)
			}
			for _, name := range []string{"data.parquet", "index.ivf"} {
				b, err := os.ReadFile(filepath.Join(dir, name))
				if err != nil {
					t.Fatal(err)
				}
				put(t, store, manifest.SegmentPrefix(testCollection, fix.Segment.ID)+name, b)
			}
			if err := readAll(t.Context(), store, fix.Segment, quantizers(t, store, fix.Segment), rows, fix.Order, dim); err != nil {
				t.Fatal(err)
			}
			checkNearest(t, store, fix, rows, dim)
		})
	}
}

// fixture is what a manifest would say of a stored segment, and the order its
// rows were put in.
type fixture struct {
	Segment manifest.Segment
	Order   []uint32
}

// checkNearest searches every row through the stored codes, which must still
// mean what they meant: a row is among the few nearest to itself once all
// candidates are refined.
func checkNearest(t *testing.T, store blob.Store, fix fixture, rows *Rows, dim int) {
	t.Helper()
	v := open(t, store, dim, fix.Segment)
	lists, err := v.AllLists(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	p := v.Segments[0].Postings()
	for ordinal, in := range fix.Order {
		q, err := p.Quantizer().Query(rows.Vectors[int(in)*dim : (int(in)+1)*dim])
		if err != nil {
			t.Fatal(err)
		}
		found := ivfpq.NewCandidates(2 * rows.Len())
		for _, probe := range q.Probe(len(lists)) {
			if err := q.ScanList(probe, p, lists[probe.List], nil, 0, found); err != nil {
				t.Fatal(err)
			}
		}
		if found.Count() != rows.Len() {
			t.Errorf("%d rows of %d in the lists", found.Count(), rows.Len())
		}
		nearest, err := found.Finalists(1, []ivfpq.Part{{Query: q, Postings: p, Data: lists}}) // Finish(1) of them
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(nearest, func(key uint64) bool { return ivfpq.RowOf(key).Ordinal == uint32(ordinal) }) {
			t.Errorf("row %d is not among the %d nearest to itself", ordinal, len(nearest))
		}
		q.Release()
	}
}

func writeFixture(t *testing.T, rows *Rows, dim int) {
	dir := fmt.Sprintf("testdata/compat/v%d", Version)
	if _, err := os.Stat(dir); err == nil {
		t.Fatalf("%s exists: a fixture is never made again", dir)
	}
	store := memblob.New()
	seg, order := build(t, store, "FIXTURE", dim, ivfpq.IVF, rows)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, ref := range map[string]manifest.Ref{"data.parquet": seg.Data, "index.ivf": seg.Index, "quantizer.ivq": quantizers(t, store, seg)[0].Ref} {
		b, _, err := store.Get(t.Context(), ref.Key)
		if err != nil {
			t.Fatal(err)
		}
		if crc32.Checksum(b, blob.Castagnoli) != ref.CRC32C {
			t.Fatalf("%q does not have its checksum", ref.Key)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	if err := json.MarshalWrite(&out, fixture{seg, order}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "segment.json"), out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestWiderCalibration: what is written is read, and no count of entries is
// believed beyond the bytes there are.
func TestWiderCalibration(t *testing.T) {
	want := []ivfpq.Curve{
		{K: 100, Points: []ivfpq.Calibration{{Recall: 0.9, NProbe: 1, Depth: 200}, {Recall: 0.95, NProbe: 2, Depth: 300}}},
		{K: 1000, Points: []ivfpq.Calibration{{Recall: 0.9, NProbe: 12, Depth: 2000}}},
	}
	stored := encodeWider(want)
	var f footer
	if err := f.parseWider(stored); err != nil || !slices.EqualFunc(f.wider, want, func(a, b ivfpq.Curve) bool { return a.K == b.K && slices.Equal(a.Points, b.Points) }) {
		t.Fatalf("got %+v, %v, want %+v", f.wider, err, want)
	}
	for size := 1; size < len(stored); size++ {
		var f footer
		if err := f.parseWider(stored[:size]); size != widerHeaderSize+2*calibrationSize && !errors.Is(err, blob.ErrCorrupt) {
			t.Errorf("%d of %d bytes: %v, want corrupt", size, len(stored), err)
		}
	}
	many := bytes.Repeat([]byte{100, 0, 0, 0, 0, 0, 0, 0}, maxCurves+1)
	huge := []byte{100, 0, 0, 0, 255, 255, 255, 255, 1, 2, 3}
	for name, b := range map[string][]byte{"many": many, "huge": huge} {
		var f footer
		if err := f.parseWider(b); !errors.Is(err, blob.ErrCorrupt) {
			t.Errorf("%s: %v, want corrupt", name, err)
		}
	}
}
