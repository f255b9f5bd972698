package segments

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/akidb/akidb/segments/attributes"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/memblob"
	"github.com/akidb/akidb/segments/columns"
	"github.com/akidb/akidb/segments/ivfpq"
	"github.com/akidb/akidb/segments/manifest"
)

func parseFilter(t testing.TB, text string) *columns.Filter {
	t.Helper()
	f, err := columns.ParseFilter([]byte(text), columns.FilterLimits{})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// wantMatches compares Match with the rows that were put in.
func wantMatches(t *testing.T, v *View, filter string, rows []*Rows, orders [][]uint32) {
	t.Helper()
	f := parseFilter(t, filter)
	var which []int
	for i := range rows {
		which = append(which, i)
	}
	got, err := v.Match(t.Context(), which, f)
	if err != nil {
		t.Fatal(err)
	}
	for s := range rows {
		want := roaring.New()
		for o, in := range orders[s] {
			if f.Match(rows[s].IDs[in], rows[s].Metadata[in]) {
				want.Add(uint32(o))
			}
		}
		if !got[s].Equals(want) {
			t.Fatalf("%s in segment %d: %d rows, want %d", filter, s, got[s].GetCardinality(), want.GetCardinality())
		}
	}
}

var someFilters = []string{
	`{"must":{"key":"n","range":{"lt":40}}}`, `{"must_not":{"key":"n","range":{"lt":40}}}`, `{"must":{"is_empty":{"key":"n"}}}`,
	`{"should":[{"has_id":["id-7","id-8","nobody"]},{"key":"n","match":{"value":31}}]}`,
	`{"must":[{"key":"n","range":{"gte":5,"lt":9}},{"must_not":{"has_id":["id-7"]}}]}`,
	`{"must":{"key":"a[0].b","match":{"value":1}}}`, `{"must":[{"key":"a[0].b","match":{"value":1}},{"key":"n","range":{"lt":9}}]}`,
	`{"must":[{"key":"text","match":{"text":"word7"}}]}`, `{"must":[{"key":"text","match":{"text":"word7"}},{"key":"n","match":{"value":40}}]}`,
}

func TestMatch(t *testing.T) {
	const dim = 4
	store := memblob.New()
	var rows []*Rows
	var orders [][]uint32
	var segs []manifest.Segment
	for i, n := range []int{150, 2500} {
		rng := rand.New(rand.NewPCG(1, uint64(i)))
		r := makeRows(rng, "id-", n, dim)
		for j := range r.Metadata {
			if j%3 == 1 {
				r.Metadata[j] = fmt.Appendf(nil, `{"n":%d,"a":[{"b":%d}],"text":"%s word%d"}`, j, j%5, bytes.Repeat([]byte("long "), j%50), j%9)
			}
		}
		seg, order := build(t, store, fmt.Sprint("S", i), dim, []ivfpq.Kind{ivfpq.Exact, ivfpq.IVF}[i], r)
		rows, orders, segs = append(rows, r), append(orders, order), append(segs, seg)
	}
	v := open(t, store, dim, segs...)
	for _, filter := range someFilters {
		wantMatches(t, v, filter, rows, orders)
	}
	wantMatches(t, v, `{"must":{"key":"n","match":{"value":1}}}`, nil, nil)
}

// TestMatchWithoutAttributes: segments of older versions are scanned.
func TestMatchWithoutAttributes(t *testing.T) {
	const dim, n = 6, 150
	rows := makeRows(rand.New(rand.NewPCG(42, 1)), "id-", n, dim)
	for version := ReadMinVersion; version < 3; version++ {
		dir := fmt.Sprintf("testdata/compat/v%d", version)
		var fix fixture
		b, err := os.ReadFile(filepath.Join(dir, "segment.json"))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &fix); err != nil {
			t.Fatal(err)
		}
		store := memblob.New()
		for _, name := range []string{"data.parquet", "index.ivf", "quantizer.ivq"} {
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				continue // version 1 has no quantizer
			}
			key := manifest.SegmentPrefix(testCollection, fix.Segment.ID) + name
			if name == "quantizer.ivq" {
				key = manifest.QuantizerKey(testCollection, fix.Segment.Quantizer)
			}
			put(t, store, key, b)
		}
		v := open(t, store, dim, fix.Segment)
		if d, err := v.Segments[0].Attributes(t.Context()); d != nil || err != nil {
			t.Fatalf("version %d has attributes: %v", version, err)
		}
		for _, filter := range someFilters {
			wantMatches(t, v, filter, []*Rows{rows}, [][]uint32{fix.Order})
		}
	}
}

// rounds counts reads, and rounds of them.
type rounds struct {
	blob.RangeReader
	mu            sync.Mutex
	rounds, reads int
	objects       map[string]int
}

func (r *rounds) ReadRanges(ctx context.Context, ranges []blob.Range) ([][]byte, error) {
	r.mu.Lock()
	r.rounds++
	r.reads += len(ranges)
	for _, rg := range ranges {
		r.objects[rg.Key]++
	}
	r.mu.Unlock()
	out := make([][]byte, len(ranges))
	for i, rg := range ranges {
		var err error
		if out[i], err = r.RangeReader.ReadRange(ctx, rg); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// TestMatchTakesTwoRounds: over any number of segments, and no row is read.
func TestMatchTakesTwoRounds(t *testing.T) {
	const dim, n = 4, 9000
	store := memblob.New()
	var segs []manifest.Segment
	for i := range 3 {
		r := makeRows(rand.New(rand.NewPCG(1, uint64(i))), fmt.Sprintf("s%d-", i), n, dim)
		for j := range r.Metadata {
			r.Metadata[j] = fmt.Appendf(nil, `{"n":%d,"c":"c%d","u":"user %d"}`, j, j%4, j*7919%n)
		}
		seg, _ := build(t, store, fmt.Sprint("S", i), dim, ivfpq.Exact, r)
		segs = append(segs, seg)
	}
	v := open(t, store, dim, segs...)
	for filter, most := range map[string]int{
		`{"must":{"key":"c","match":{"value":"c1"}}}`:                                                                              1, // its fences are in the directory
		`{"must":[{"key":"n","range":{"gte":100,"lt":8000}},{"key":"u","match":{"any":["user 3","user 8000"]}}]}`:                  2,
		`{"must_not":[{"key":"n","range":{"gte":100,"lt":8000}},{"key":"u","range":{"gt":"2024-01-01"}},{"is_null":{"key":"c"}}]}`: 2,
		`{"must":{"key":"nobody","match":{"value":1}}}`:                                                                            0,
	} {
		counted := &rounds{RangeReader: blob.Direct(store), objects: map[string]int{}}
		v.ranges = counted
		for i := range v.Segments {
			v.Segments[i].ranges = counted
		}
		if _, err := v.Match(t.Context(), []int{0, 1, 2}, parseFilter(t, filter)); err != nil {
			t.Fatal(err)
		}
		if counted.rounds > most {
			t.Errorf("%s: %d rounds of %d reads, want %d", filter, counted.rounds, counted.reads, most)
		}
		for key := range counted.objects {
			if filepath.Base(key) != "index.ivf" {
				t.Errorf("%s read %s", filter, key)
			}
		}
	}
}

// TestDirectoryThatLiesApart has more paths than fit into a footer.
func TestDirectoryThatLiesApart(t *testing.T) {
	const dim = 3
	store := memblob.New()
	rows := makeRows(rand.New(rand.NewPCG(2, 2)), "id-", 120, dim)
	for i := range rows.Metadata {
		var b bytes.Buffer
		for p := range 150 {
			fmt.Fprintf(&b, `,"a path with a long name %d":"%d and more"`, p, i*p)
		}
		rows.Metadata[i] = fmt.Appendf(nil, `{"n":%d%s}`, i, b.Bytes())
	}
	seg, order := build(t, store, "S", dim, ivfpq.Exact, rows)
	if seg.Footer.Length > 20<<10 {
		t.Fatalf("footer of %d bytes", seg.Footer.Length)
	}
	v := open(t, store, dim, seg)
	if v.Segments[0].footer.attributesAt.Length <= directoryInFooter {
		t.Fatal("the directory is in the footer")
	}
	wantMatches(t, v, `{"must":[{"key":"a path with a long name 7","match":{"value":"49 and more"}}]}`, []*Rows{rows}, [][]uint32{order})
}

// readAttributes reads all values of all keys, and panics at a wrong one.
func readAttributes(ctx context.Context, v *View, rows *Rows, order []uint32) error {
	r := v.Segments[0].Reader
	d, err := r.Attributes(ctx)
	if err != nil || d == nil {
		return err
	}
	for _, p := range d.Paths {
		key, err := columns.ParseKey(p.Name)
		if err != nil {
			panic(err)
		}
		a, known, err := r.Attribute(ctx, key)
		if err != nil {
			return err
		}
		if a == nil || !known {
			panic(fmt.Sprintf("wrong answer: %q is not known", p.Name))
		}
		for _, descending := range []bool{false, true} {
			var last []byte
			pairs := 0
			if err := a.Each(ctx, ScalarSpan, descending, func(v attributes.Value) bool {
				if last != nil && (bytes.Compare(last, v.Key) < 0) == descending {
					panic("wrong answer: values in disorder")
				}
				last = bytes.Clone(v.Key)
				v.Rows.Each(func(o uint32) bool {
					pairs++
					has := false
					key.SortKeys(rows.Metadata[order[o]], func(k []byte) bool { has = has || bytes.Equal(k, v.Key); return !has })
					if !has {
						panic(fmt.Sprintf("wrong answer: row %d has no %x at %q", o, v.Key, p.Name))
					}
					return true
				})
				return true
			}); err != nil {
				return err
			}
			if uint64(pairs) != p.Pairs {
				panic(fmt.Sprintf("wrong answer: %d pairs at %q, want %d", pairs, p.Name, p.Pairs))
			}
		}
		in, err := a.In(ctx, columns.Span{From: []byte{0}, To: []byte{255}})
		if err != nil {
			return err
		}
		if in.GetCardinality() < uint64(p.Rows) {
			panic("wrong answer: rows are missing in all of them")
		}
	}
	return nil
}
