package query

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/akidb/akidb/internal/memtable"
	"github.com/akidb/akidb/segments/columns"
	"github.com/akidb/akidb/segments/ivfpq"
)

// scalar is a value of a key as the oracles see it: decoded, without sort keys.
type scalar struct {
	kind   int // 0 false, 1 true, 2 number, 3 string
	number float64
	text   string
}

func (a scalar) compare(b scalar) int {
	return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.number, b.number), strings.Compare(a.text, b.text))
}

func (a scalar) String() string { return fmt.Sprintf("%d/%v/%.20q", a.kind, a.number, a.text) }

// scalarsAt are the values at a key of one or two names, distinct and in order.
func scalarsAt(metadata []byte, key string) (out []scalar) {
	var v any
	if metadata != nil {
		if err := json.Unmarshal(metadata, &v); err != nil {
			panic(err)
		}
	}
	for _, name := range strings.Split(key, ".") {
		o, _ := v.(map[string]any)
		v = o[name]
	}
	list, isList := v.([]any)
	if !isList {
		list = []any{v}
	}
	for _, v := range list {
		switch v := v.(type) {
		case bool:
			if v {
				out = append(out, scalar{kind: 1})
			} else {
				out = append(out, scalar{})
			}
		case float64:
			out = append(out, scalar{kind: 2, number: v})
		case string:
			out = append(out, scalar{kind: 3, text: v})
		}
	}
	slices.SortFunc(out, scalar.compare)
	return slices.Compact(out)
}

// oddMetadata draws metadata of every shape: values of all kinds, arrays, objects,
// null, nothing, and strings that are too long for an index.
func oddMetadata(rng *rand.Rand) string {
	value := func() string {
		switch rng.IntN(8) {
		case 0:
			return "null"
		case 1:
			return fmt.Sprint(rng.IntN(2) == 0)
		case 2, 3:
			return fmt.Sprint(rng.IntN(6) - 2)
		case 4:
			return fmt.Sprintf("%d.0", rng.IntN(3))
		case 5:
			return fmt.Sprintf(`"%s%d"`, strings.Repeat("long", 40), rng.IntN(3))
		default:
			return fmt.Sprintf(`"s%d"`, rng.IntN(4))
		}
	}
	var field string
	switch rng.IntN(6) {
	case 0:
		field = fmt.Sprintf("[%s,%s,%s]", value(), value(), value())
	case 1:
		field = `{"c":1}`
	case 2:
		return ""
	default:
		field = value()
	}
	return fmt.Sprintf(`{"a":%s,"o":{"b":%s},"n":%d,"t":["x","y%d"]}`, field, value(), rng.IntN(10), rng.IntN(3))
}

type facetAnswer struct {
	Hits []struct {
		Value any
		Count uint64
	}
}

// wantFacet compares a facet with a count over all rows.
func wantFacet(t *testing.T, f *fixture, key string, limit int, filter string, keep func(memtable.Op) bool) {
	t.Helper()
	counts := map[scalar]uint64{}
	for _, op := range f.writer.rows {
		if keep == nil || keep(op) {
			for _, v := range scalarsAt(op.Metadata, key) {
				counts[v]++
			}
		}
	}
	var want []scalar
	for v := range counts {
		want = append(want, v)
	}
	slices.SortFunc(want, func(a, b scalar) int { return cmp.Or(cmp.Compare(counts[b], counts[a]), a.compare(b)) })
	want = want[:min(len(want), limit)]
	body := fmt.Sprintf(`{"key":%q,"limit":%d`, key, limit)
	if filter != "" {
		body += `,"filter":` + filter
	}
	var got facetAnswer
	f.call("POST", "/collections/movies/facet", body+"}", &got)
	if len(got.Hits) != len(want) {
		t.Fatalf("facet of %q: %d values, want %d", key, len(got.Hits), len(want))
	}
	for i, h := range got.Hits {
		b, _ := json.Marshal(map[string]any{"a": h.Value})
		if v := scalarsAt(b, "a"); len(v) != 1 || v[0] != want[i] || h.Count != counts[want[i]] {
			t.Fatalf("facet of %q: hit %d is %v in %d rows, want %v in %d", key, i, h.Value, h.Count, want[i], counts[want[i]])
		}
	}
}

// wantOrdered scrolls through all pages with between in between, and compares.
func wantOrdered(t *testing.T, f *fixture, key string, descending bool, limit int, filter string, keep func(memtable.Op) bool, between func()) {
	t.Helper()
	type place struct {
		value scalar
		has   bool
		id    string
	}
	var want []place
	for id, op := range f.writer.rows {
		if keep != nil && !keep(op) {
			continue
		}
		p := place{id: id}
		if all := scalarsAt(op.Metadata, key); len(all) > 0 {
			p.has, p.value = true, all[0]
			if descending {
				p.value = all[len(all)-1]
			}
		}
		want = append(want, p)
	}
	slices.SortFunc(want, func(a, b place) int {
		if a.has != b.has {
			if a.has {
				return -1
			}
			return 1
		}
		c := a.value.compare(b.value)
		if descending {
			c = -c
		}
		return cmp.Or(c, strings.Compare(a.id, b.id))
	})
	direction := "asc"
	if descending {
		direction = "desc"
	}
	cursor, got := "", 0
	for {
		body := fmt.Sprintf(`{"limit":%d,"include":["version","metadata"],"order_by":{"key":%q,"direction":%q}`, limit, key, direction)
		if filter != "" {
			body += `,"filter":` + filter
		}
		if cursor != "" {
			body += `,"cursor":"` + cursor + `"`
		}
		var page struct {
			Vectors []struct {
				ID      string
				Version uint64
			}
			Next *string `json:"next_cursor"`
		}
		f.call("POST", "/collections/movies/vectors/scroll", body+"}", &page)
		for _, v := range page.Vectors {
			if got == len(want) || v.ID != want[got].id || v.Version != f.writer.rows[v.ID].Seq {
				t.Fatalf("by %q %s: row %d is %q at %d, want %+v of %d", key, direction, got, v.ID, v.Version, want[min(got, len(want)-1)], len(want))
			}
			got++
		}
		if page.Next == nil {
			break
		}
		if len(page.Vectors) != limit {
			t.Fatalf("a page of %d of %d rows has a next one", len(page.Vectors), limit)
		}
		cursor = *page.Next
		between()
	}
	if got != len(want) {
		t.Fatalf("by %q %s: %d rows, want %d", key, direction, got, len(want))
	}
}

// TestFacetAndOrderEqualTheOracle drives upserts, deletes, flushes and compactions,
// also between the pages of one scroll.
func TestFacetAndOrderEqualTheOracle(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			f := newFixture(t, 2, "l2")
			rng := rand.New(rand.NewPCG(seed, 99))
			disturb := func() {
				switch rng.IntN(12) {
				case 0:
					f.writer.flush()
				case 1:
					f.writer.flush()
					f.writer.compact()
				}
			}
			for round := range 12 {
				for range 20 + rng.IntN(40) {
					id := fmt.Sprintf("id%d", rng.IntN(300))
					if rng.IntN(5) == 0 {
						f.writer.delete(id)
					} else {
						f.writer.upsert(id, []float32{1, float32(rng.IntN(9))}, oddMetadata(rng))
					}
				}
				disturb()
				if round == 6 {
					f.writer.flush()
				}
				n := rng.IntN(10)
				filter := fmt.Sprintf(`{"must":[{"key":"n","range":{"lt":%d}}]}`, n)
				keep := func(op memtable.Op) bool {
					v := scalarsAt(op.Metadata, "n")
					return len(v) > 0 && v[0].number < float64(n)
				}
				for _, key := range []string{"a", "o.b", "t", "n", "nobody"} {
					wantFacet(t, f, key, 1+rng.IntN(12), "", nil)
					wantFacet(t, f, key, 3, filter, keep)
					wantOrdered(t, f, key, rng.IntN(2) == 0, 5+rng.IntN(80), "", nil, disturb)
					wantOrdered(t, f, key, rng.IntN(2) == 0, 2+rng.IntN(9), filter, keep, disturb)
				}
			}
		})
	}
}

// TestOrderOfManyRows has values with more rows than are picked one by one, and a
// key that the index has left to metadata.
func TestOrderOfManyRows(t *testing.T) {
	f := newFixture(t, 2, "l2")
	f.writer.kind = ivfpq.Exact
	rng := rand.New(rand.NewPCG(5, 5))
	for i := range 16000 {
		f.writer.upsert(fmt.Sprintf("id%05d", i*7919%16000), []float32{1, 2}, fmt.Sprintf(`{"c":%d,"u":%d,"a":[%d,{"b":%d}]}`, rng.IntN(3), rng.IntN(1<<20), rng.IntN(5), i%7))
		if i == 9000 {
			f.writer.flush()
		}
	}
	f.writer.flush()
	for _, key := range []string{"c", "u", "a"} {
		for _, descending := range []bool{false, true} {
			wantOrdered(t, f, key, descending, 1000, "", nil, func() {})
			wantFacet(t, f, key, 10, "", nil)
		}
	}
	const filter = `{"must":[{"key":"u","range":{"lt":2000}}]}`
	wantOrdered(t, f, "c", false, 10, filter, func(op memtable.Op) bool { return scalarsAt(op.Metadata, "u")[0].number < 2000 }, func() {})
}

// A checker that cannot fail proves nothing: rows that were replaced, or that do
// not match, must be missed.
func TestFacetCatchesPlantedBugs(t *testing.T) {
	f := newFixture(t, 2, "l2")
	f.writer.upsert("a", []float32{1, 1}, `{"k":"x"}`)
	f.writer.upsert("b", []float32{1, 1}, `{"k":["x","y","x"]}`)
	f.writer.flush()
	f.writer.upsert("a", []float32{1, 1}, `{"k":"z"}`)
	f.writer.delete("b")
	wantFacet(t, f, "k", 10, "", nil)
	view := f.service
	r, err := view.catalog.find(t.Context(), "movies")
	if err != nil {
		t.Fatal(err)
	}
	st := *r.state.Load()
	st.live = []*liveRows{{rows: 2}} // as if nothing had been replaced
	key, _ := columns.ParseKey("k")
	hits, err := f.service.facet(t.Context(), &st, nil, key, 10)
	if err != nil || len(hits) != 3 || hits[0].Count != 2 {
		t.Fatalf("%v, %v: the planted bug shows nothing", hits, err)
	}
}

func TestOrderedScrollRefuses(t *testing.T) {
	f := newFixture(t, 2, "l2")
	for i := range 3 {
		f.writer.upsert(fmt.Sprint("id", i), []float32{1, 1}, fmt.Sprintf(`{"k":%d}`, i))
	}
	var page struct {
		Next string `json:"next_cursor"`
	}
	f.call("POST", "/collections/movies/vectors/scroll", `{"limit":1,"order_by":"k"}`, &page)
	var byID struct {
		Next string `json:"next_cursor"`
	}
	f.call("POST", "/collections/movies/vectors/scroll", `{"limit":1}`, &byID)
	for body, want := range map[string]int{
		`{"order_by":"k","cursor":"` + page.Next + `"}`:                            200,
		`{"order_by":{"key":"k"},"cursor":"` + page.Next + `"}`:                    200,
		`{"order_by":null,"cursor":"` + byID.Next + `"}`:                           200,
		`{"order_by":{"key":"k","direction":"desc"},"cursor":"` + page.Next + `"}`: 422,
		`{"order_by":"j","cursor":"` + page.Next + `"}`:                            422,
		`{"cursor":"` + page.Next + `"}`:                                           422,
		`{"order_by":"k","cursor":"` + byID.Next + `"}`:                            422,
		`{"order_by":"k","cursor":"_w"}`:                                           422,
		`{"order_by":{"key":"k","direction":"up"}}`:                                422,
		`{"order_by":{"direction":"asc"}}`:                                         422,
		`{"order_by":"a..b"}`:                                                      422,
		`{"order_by":7}`:                                                           400,
		`{"order_by":{"key":"k","descending":true}}`:                               400,
		`{"order_by":"k","limit":0}`:                                               422,
	} {
		if status, _ := f.call("POST", "/collections/movies/vectors/scroll", body, nil); status != want {
			t.Errorf("%s: status %d, want %d", body, status, want)
		}
	}
	for body, want := range map[string]int{
		`{"key":"k"}`: 200, `{}`: 422, `{"key":""}`: 422, `{"key":"k","limit":0}`: 422, `{"key":"k","limit":10001}`: 422, `{"key":1}`: 400, `{"key":"k","filter":{"must":7}}`: 400,
		`{"key":"k","consistency":"sometimes"}`: 422, `{"key":"k","as_of":"2020-01-01T00:00:00Z"}`: 404,
	} {
		if status, _ := f.call("POST", "/collections/movies/facet", body, nil); status != want {
			t.Errorf("facet %s: status %d, want %d", body, status, want)
		}
	}
}

func FuzzOrderCursor(f *testing.F) {
	key, err := columns.ParseKey("k")
	if err != nil {
		f.Fatal(err)
	}
	o := &order{key: key}
	f.Add(o.encodeCursor(&standing{[]byte{columns.KeyString, 'a'}, "id"}))
	f.Add(o.encodeCursor(&standing{nil, "id"}))
	f.Add("_w")
	f.Fuzz(func(t *testing.T, cursor string) {
		at, err := o.decodeCursor(&cursor)
		if err != nil {
			return
		}
		again := o.encodeCursor(at)
		back, err := o.decodeCursor(&again)
		if err != nil || o.compare(*at, *back) != 0 {
			t.Fatalf("%q is %+v, and again %+v: %v", cursor, at, back, err)
		}
	})
}

func TestFilterCacheIsBoundedInBytes(t *testing.T) {
	c, err := newFilterCache(10_000)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		c.add(filterKey{segment: fmt.Sprint(i)}, newSet(uint32(64*i)))
		c.add(filterKey{segment: fmt.Sprint(i)}, newSet(uint32(64*i)))
		held := int64(0)
		for _, key := range c.lru.Keys() {
			set, _ := c.lru.Peek(key)
			held += costOf(set)
		}
		if held != c.bytes || held > 10_000 {
			t.Fatalf("%d bytes are held and %d counted, at most 10000 allowed", held, c.bytes)
		}
	}
	if _, ok := c.get(filterKey{segment: "99"}); !ok || c.lru.Len() < 5 {
		t.Errorf("%d entries, not the last", c.lru.Len())
	}
	c.add(filterKey{segment: "huge"}, newSet(1<<20))
	if _, ok := c.get(filterKey{segment: "huge"}); ok {
		t.Error("an entry above the bound is kept")
	}
}
