package segments

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
	"pgregory.net/rapid"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/memblob"
	"github.com/akidb/akidb/segments/columns"
	"github.com/akidb/akidb/segments/ivfpq"
	"github.com/akidb/akidb/segments/manifest"
)

const testCollection = "COLLECTION"

// makeRows returns n rows of clustered vectors with ids in no order.
func makeRows(rng *rand.Rand, prefix string, n, dim int) *Rows {
	rows := &Rows{}
	centre := make([]float32, dim)
	for i := range n {
		if i%50 == 0 {
			for d := range centre {
				centre[d] = float32(rng.NormFloat64() * 10)
			}
		}
		v := make([]float32, dim)
		for d := range v {
			v[d] = centre[d] + float32(rng.NormFloat64())
		}
		var metadata []byte
		if i%3 != 0 {
			metadata = fmt.Appendf(nil, `{"n":%d}`, i)
		}
		rows.Append(columns.Row{ID: fmt.Sprintf("%s%d", prefix, (i*7919)%n), Vector: v, Metadata: metadata, Seq: uint64(1000 + i)})
	}
	return rows
}

// build makes a segment of rows in store and returns its manifest entry and its
// order.
func build(t testing.TB, store blob.Store, id string, dim int, kind ivfpq.Kind, rows *Rows) (manifest.Segment, []uint32) {
	t.Helper()
	lists := 0
	if rows.Len() < 1000 {
		lists = 5 // or there would be one, and nothing spilled
	}
	b, err := Build(t.Context(), BuildConfig{Dim: dim, Metric: ivfpq.L2, Seed: 7, Dir: t.TempDir(), Index: ivfpq.Config{Kind: kind, Lists: lists}}, rows)
	if err != nil {
		t.Fatal(err)
	}
	quantizer := ""
	if z := b.Quantizer(); z != nil {
		quantizer = quantizerOf(id)
		if _, err := PutQuantizer(t.Context(), store, testCollection, quantizer, z); err != nil {
			t.Fatal(err)
		}
	}
	seg, err := b.Upload(t.Context(), store, testCollection, id, quantizer)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	return seg, b.Order
}

// quantizerOf is the id that build gives to the quantizer of a segment.
func quantizerOf(segment string) string { return "Q" + segment }

// quantizers are the manifest's entries for those of segments that build made.
func quantizers(t testing.TB, store blob.Store, segs ...manifest.Segment) (out []manifest.Quantizer) {
	t.Helper()
	for _, seg := range segs {
		if seg.Quantizer == "" {
			continue
		}
		key := manifest.QuantizerKey(testCollection, seg.Quantizer)
		b, _, err := store.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		z, err := ivfpq.DecodeQuantizer(b)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, manifest.Quantizer{
			ID: seg.Quantizer, Rows: z.Rows, Lists: uint32(z.Lists()),
			Ref: manifest.Ref{Key: key, Size: int64(len(b)), CRC32C: crc32.Checksum(b, blob.Castagnoli)},
		})
	}
	return out
}

func open(t testing.TB, store blob.Store, dim int, segs ...manifest.Segment) *View {
	t.Helper()
	snap := &manifest.Snapshot{
		Collection: manifest.Collection{ID: testCollection, Dimension: dim, Metric: "l2"}, Segments: segs, Quantizers: quantizers(t, store, segs...),
	}
	v, err := OpenView(t.Context(), blob.Direct(store), snap, nil)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestSegmentHoldsWhatItWasBuiltFrom(t *testing.T) {
	for _, c := range []struct {
		kind   ivfpq.Kind
		n, dim int
	}{{ivfpq.Exact, 1, 1}, {ivfpq.Exact, 700, 3}, {ivfpq.Flat, 2500, 16}, {ivfpq.IVF, 3000, 24}, {ivfpq.Exact, 40, 1536}} {
		t.Run(fmt.Sprintf("%v_%dx%d", c.kind, c.n, c.dim), func(t *testing.T) {
			store := memblob.New()
			rows := makeRows(rand.New(rand.NewPCG(1, uint64(c.n))), "id-", c.n, c.dim)
			seg, order := build(t, store, "S", c.dim, c.kind, rows)
			v := open(t, store, c.dim, seg)
			r := v.Segments[0].Reader
			if r.Kind() != c.kind || int(r.Rows()) != c.n || seg.MinSeq != 1000 || seg.MaxSeq != uint64(999+c.n) {
				t.Fatalf("kind %v, %d rows, seqs %d to %d", r.Kind(), r.Rows(), seg.MinSeq, seg.MaxSeq)
			}
			var at []Location
			for o := range order {
				at = append(at, Location{0, uint32(o)})
			}
			checkPoints(t, v, rows, order, at)
			checkScan(t, r, rows, order, c.dim)
			checkLookup(t, r, rows, order)
			checkLists(t, v)
		})
	}
}

func checkPoints(t *testing.T, v *View, rows *Rows, order []uint32, at []Location) {
	t.Helper()
	dim := v.Snapshot.Collection.Dimension
	read, err := v.RowsAt(t.Context(), at, columns.ProjectAll)
	if err != nil {
		t.Fatal(err)
	}
	for o, in := range order {
		want, got := rows.row(int(in), dim), read.row(o, dim)
		if got.ID != want.ID || !bytes.Equal(got.Metadata, want.Metadata) || !slices.Equal(got.Vector, want.Vector) || got.Seq != want.Seq {
			t.Fatalf("row %d: got %+v, want %+v", o, got, want)
		}
	}
}

func checkScan(t *testing.T, r *Reader, rows *Rows, order []uint32, dim int) {
	t.Helper()
	seen := 0
	err := r.Scan(t.Context(), 0, r.Rows(), columns.ProjectAll, func(first uint32, batch []columns.Row) error {
		for i, got := range batch {
			want := rows.row(int(order[int(first)+i]), dim)
			if got.ID != want.ID || got.Seq != want.Seq || !slices.Equal(got.Vector, want.Vector) || !bytes.Equal(got.Metadata, want.Metadata) {
				return fmt.Errorf("row %d is %+v, want %+v", int(first)+i, got, want)
			}
			seen++
		}
		return nil
	})
	if err != nil || seen != rows.Len() {
		t.Fatalf("scanned %d of %d rows: %v", seen, rows.Len(), err)
	}
}

func checkLookup(t *testing.T, r *Reader, rows *Rows, order []uint32) {
	t.Helper()
	want := map[string]uint32{"": NoRow, "id": NoRow, "id-": NoRow, "zzz": NoRow, "id-999999": NoRow}
	for o, in := range order {
		want[rows.IDs[in]] = uint32(o)
	}
	ids := slices.Collect(maps.Keys(want))
	got, err := r.Lookup(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	for i, id := range ids {
		if got[i] != want[id] {
			t.Fatalf("id %q is row %d, want %d", id, got[i], want[id])
		}
	}
	sorted := slices.Sorted(slices.Values(rows.IDs))
	for _, after := range []string{"", sorted[0], sorted[len(sorted)/2], sorted[len(sorted)-1], "id-5~"} {
		var got []string
		if err := r.IDsAfter(t.Context(), after, func(id string, ordinal uint32) bool {
			if want[id] != ordinal {
				t.Fatalf("id %q is row %d, want %d", id, ordinal, want[id])
			}
			got = append(got, id)
			return true
		}); err != nil {
			t.Fatal(err)
		}
		from, exact := slices.BinarySearch(sorted, after)
		if exact {
			from++
		}
		if !slices.Equal(got, sorted[from:]) {
			t.Fatalf("%d ids after %q, want %d", len(got), after, len(sorted)-from)
		}
	}
}

func checkLists(t *testing.T, v *View) {
	t.Helper()
	r := v.Segments[0].Reader
	lists, err := v.AllLists(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if r.Kind() == ivfpq.Exact {
		if len(lists) != 0 || r.Postings() != nil {
			t.Fatalf("an exact index has %d lists", len(lists))
		}
		return
	}
	p := r.Postings()
	if len(lists) != p.Quantizer().Lists() || p.Rows() != r.Rows() {
		t.Fatalf("%d lists of %d rows, want %d of %d", len(lists), p.Rows(), p.Quantizer().Lists(), r.Rows())
	}
	for i, l := range p.Lists() {
		if want := p.Quantizer().ListSize(l); len(lists[i]) != want {
			t.Fatalf("list %d has %d bytes, want %d", i, len(lists[i]), want)
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	two := makeRows(rand.New(rand.NewPCG(1, 1)), "a", 2, 4)
	two.IDs[1] = two.IDs[0]
	short := makeRows(rand.New(rand.NewPCG(1, 1)), "a", 2, 4)
	short.Vectors = short.Vectors[:7]
	for name, rows := range map[string]*Rows{"no rows": {}, "an id twice": two, "short vectors": short} {
		dir := t.TempDir()
		if _, err := Build(t.Context(), BuildConfig{Dim: 4, Metric: ivfpq.L2, Dir: dir}, rows); err == nil {
			t.Errorf("%s: built", name)
		}
	}
}

// TestEveryFlippedBitIsDetected damages each byte of both objects in turn. A
// reader may only fail or answer as before.
func TestEveryFlippedBitIsDetected(t *testing.T) {
	const dim = 5
	store := memblob.New()
	rows := makeRows(rand.New(rand.NewPCG(3, 3)), "k", 90, dim)
	seg, order := build(t, store, "S", dim, ivfpq.IVF, rows)
	zs := quantizers(t, store, seg)
	for _, ref := range []manifest.Ref{seg.Data, seg.Index, zs[0].Ref} {
		whole := make([]byte, ref.Size)
		if err := store.ReadRange(t.Context(), ref.Key, 0, whole); err != nil {
			t.Fatal(err)
		}
		detected := 0
		for at := range whole {
			damaged := bytes.Clone(whole)
			damaged[at] ^= 1 << (at % 8)
			put(t, store, ref.Key, damaged)
			if readAll(t.Context(), store, seg, zs, rows, order, dim) != nil {
				detected++
			}
		}
		put(t, store, ref.Key, whole)
		// Padding and the header's spare bytes are read by nobody.
		if detected < len(whole)*8/10 {
			t.Errorf("%q: %d of %d flipped bits detected", ref.Key, detected, len(whole))
		}
		t.Logf("%q: %d of %d flips detected, the rest without effect", ref.Key, detected, len(whole))
	}
	if err := readAll(t.Context(), store, seg, zs, rows, order, dim); err != nil {
		t.Fatal(err)
	}
}

func put(t testing.TB, store blob.Store, key string, b []byte) {
	t.Helper()
	if _, err := store.Put(t.Context(), key, bytes.NewReader(b), int64(len(b)), blob.Condition{}); err != nil {
		t.Fatal(err)
	}
}

// readAll reads everything a segment holds and fails the test's way only by
// panicking: a wrong answer is a panic, a detected fault an error.
func readAll(ctx context.Context, store blob.Store, seg manifest.Segment, zs []manifest.Quantizer, rows *Rows, order []uint32, dim int) error {
	snap := &manifest.Snapshot{Collection: manifest.Collection{ID: testCollection, Dimension: dim, Metric: "l2"}, Segments: []manifest.Segment{seg}, Quantizers: zs}
	v, err := OpenView(ctx, blob.Direct(store), snap, nil)
	if err != nil {
		return err
	}
	r := v.Segments[0].Reader
	if err := r.Scan(ctx, 0, r.Rows(), columns.ProjectAll, func(first uint32, batch []columns.Row) error {
		for i, got := range batch {
			want := rows.row(int(order[int(first)+i]), dim)
			if got.ID != want.ID || got.Seq != want.Seq || !slices.Equal(got.Vector, want.Vector) || !bytes.Equal(got.Metadata, want.Metadata) {
				panic(fmt.Sprintf("wrong answer: row %d is %+v, want %+v", int(first)+i, got, want))
			}
		}
		return nil
	}); err != nil {
		return err
	}
	ordinals := make([]uint32, len(order))
	for o := range ordinals {
		ordinals[o] = uint32(len(order) - 1 - o)
	}
	points, err := r.RowsAt(ctx, ordinals, columns.ProjectAll)
	if err != nil {
		return err
	}
	for i, o := range ordinals {
		want, got := rows.row(int(order[o]), dim), points.row(i, dim)
		if got.ID != want.ID || got.Seq != want.Seq || !slices.Equal(got.Vector, want.Vector) || !bytes.Equal(got.Metadata, want.Metadata) {
			panic(fmt.Sprintf("wrong answer: row %d is %+v, want %+v", o, got, want))
		}
	}
	got, err := r.Lookup(ctx, rows.IDs)
	if err != nil {
		return err
	}
	for i, o := range got {
		if o == NoRow || order[o] != uint32(i) {
			panic(fmt.Sprintf("wrong answer: id %q is row %d", rows.IDs[i], o))
		}
	}
	if _, err = v.AllLists(ctx, 0); err != nil {
		return err
	}
	return readAttributes(ctx, v, rows, order)
}

func TestViewLooksUpLiveRowsOnly(t *testing.T) {
	const dim = 4
	ctx := t.Context()
	store := memblob.New()
	rng := rand.New(rand.NewPCG(5, 5))
	first, second := makeRows(rng, "a", 300, dim), makeRows(rng, "b", 200, dim)
	copy(second.IDs[:100], first.IDs[:100]) // the second replaces them
	s1, o1 := build(t, store, "S1", dim, ivfpq.Exact, first)
	s2, o2 := build(t, store, "S2", dim, ivfpq.Exact, second)

	before := open(t, store, dim, s1)
	gone, err := before.Superseded(ctx, second.IDs)
	if err != nil {
		t.Fatal(err)
	}
	if n := gone[0].GetCardinality(); n != 100 {
		t.Fatalf("%d rows superseded, want 100", n)
	}
	if s1.Deletes, err = PutDeletes(ctx, store, manifest.DeletesKey(testCollection, "S1", "x"), gone[0]); err != nil {
		t.Fatal(err)
	}
	snap := &manifest.Snapshot{Collection: before.Snapshot.Collection, Segments: []manifest.Segment{s1, s2}}
	v, err := OpenView(ctx, blob.Direct(store), snap, before)
	if err != nil {
		t.Fatal(err)
	}
	if v.Segments[0].data != before.Segments[0].data {
		t.Error("a segment known already was opened again")
	}
	want := map[string]Location{}
	for o, in := range o1 {
		if !gone[0].Contains(uint32(o)) {
			want[first.IDs[in]] = Location{0, uint32(o)}
		}
	}
	for o, in := range o2 {
		want[second.IDs[in]] = Location{1, uint32(o)}
	}
	if uint64(len(want)) != v.Snapshot.Rows() {
		t.Fatalf("%d live rows, want %d", v.Snapshot.Rows(), len(want))
	}
	ids := append(slices.Collect(maps.Keys(want)), "nobody")
	at, found, err := v.Lookup(ctx, ids)
	if err != nil {
		t.Fatal(err)
	}
	for i, id := range ids {
		l, ok := want[id]
		if found[i] != ok || at[i] != l {
			t.Fatalf("id %q: found %v at %v, want %v at %v", id, found[i], at[i], ok, l)
		}
	}
	row, err := v.Row(ctx, want[second.IDs[3]])
	if err != nil || row.ID != second.IDs[3] || row.Seq != second.Seqs[3] {
		t.Fatalf("row %+v, %v", row, err)
	}
}

func TestDeletesThatDisagreeWithTheManifest(t *testing.T) {
	const dim = 2
	store := memblob.New()
	seg, _ := build(t, store, "S", dim, ivfpq.Exact, makeRows(rand.New(rand.NewPCG(1, 2)), "a", 10, dim))
	for name, rows := range map[string]*roaring.Bitmap{"too many": roaring.BitmapOf(1, 2, 3), "a row the segment has not": roaring.BitmapOf(1, 10)} {
		d, err := PutDeletes(t.Context(), store, "deletes-"+name, rows)
		if err != nil {
			t.Fatal(err)
		}
		d.Count = 2
		bad := seg
		bad.Deletes = d
		snap := &manifest.Snapshot{Collection: manifest.Collection{ID: testCollection, Dimension: dim, Metric: "l2"}, Segments: []manifest.Segment{bad}}
		if _, err := OpenView(t.Context(), blob.Direct(store), snap, nil); !errors.Is(err, blob.ErrCorrupt) {
			t.Errorf("%s: %v, want ErrCorrupt", name, err)
		}
	}
}

// TestIDTable checks look-ups and the order of scans on ids of any shape,
// among them ids that are prefixes of each other and tables of many blocks.
func TestIDTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := rapid.MapOfN(rapid.StringMatching(`[a-c]{0,3}.{0,4}`), rapid.Just(true), 1, 3000).Draw(t, "ids")
		ids := slices.Collect(maps.Keys(set))
		blocks, fences, err := encodeIDTable(headerSize, ids)
		if err != nil {
			t.Fatal(err)
		}
		decoded, err := decodeFences(encodeFences(fences), uint32(len(ids)))
		if err != nil || !slices.Equal(decoded, fences) {
			t.Fatalf("fences did not survive: %v", err)
		}
		var got []string
		for _, f := range fences {
			b, err := f.open(blocks[f.offset-headerSize:][:f.length])
			if err != nil {
				t.Fatal(err)
			}
			for i := range b.count {
				if ids[b.ordinal(i)] != string(b.id(i)) {
					t.Fatalf("id %q has row %d", b.id(i), b.ordinal(i))
				}
				got = append(got, string(b.id(i)))
			}
		}
		if want := slices.Sorted(slices.Values(ids)); !slices.Equal(got, want) {
			t.Fatalf("ids in order %q, want %q", got, want)
		}
	})
}

func FuzzFooter(f *testing.F) {
	store := memblob.New()
	seg, _ := build(f, store, "S", 3, ivfpq.IVF, makeRows(rand.New(rand.NewPCG(9, 9)), "a", 200, 3))
	b := make([]byte, seg.Footer.Length)
	if err := store.ReadRange(context.Background(), seg.Index.Key, seg.Footer.Offset, b); err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		sections, err := splitFooter(b)
		if err != nil {
			return
		}
		// Past the checksums, each parser stands alone against its bytes.
		foot := &footer{}
		for tag, parse := range map[uint32]func([]byte) error{
			tagProperties: foot.parseProperties, tagCentroids: foot.parseCentroids, tagLists: foot.parseLists, tagQuantizer: foot.parseQuantizer,
			tagAttributePlace: foot.parseAttributePlace, tagCalibration: foot.parseCalibration, tagIDFences: foot.parseFences, tagDataSums: foot.parseDataSums,
		} {
			_ = parse(sections[tag])
		}
	})
}

func FuzzIDBlock(f *testing.F) {
	blocks, fences, err := encodeIDTable(headerSize, []string{"a", "b", "ccc"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(3), blocks, encodeFences(fences))
	f.Fuzz(func(t *testing.T, count uint32, block, fenceBytes []byte) {
		if decoded, err := decodeFences(fenceBytes, count); err == nil && len(decoded) == 0 && count != 0 {
			t.Fatal("no fences for some rows")
		}
		if count > idBlockEntries {
			return
		}
		b, err := fence{count: count}.open(block)
		if err != nil {
			return
		}
		for i := range b.count {
			_, _ = b.id(i), b.ordinal(i)
		}
		_ = b.search("b")
	})
}

var _ io.ReaderAt = dataReader{}
