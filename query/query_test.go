package query

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/valyala/fasthttp"
	"go.uber.org/goleak"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/internal/info"
	"github.com/akidb/akidb/internal/memtable"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/ivfpq"
	"github.com/akidb/akidb/segments/manifest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// fasthttp's housekeeping sleeps through a Close and ends by itself.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*HostClient).connsCleaner"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"))
}

type searchAnswer struct {
	Results []struct {
		ID       string
		Score    float32
		Metadata map[string]any
		Vector   []float32
	}
	ManifestVersion uint64 `json:"manifest_version"`
	Usage           usage
	Explain         []stage
}

func vectorJSONOf(v []float32) string {
	b, err := json.Marshal(httpapi.Vector(v))
	if err != nil {
		panic(err)
	}
	return string(b)
}

// wantHits compares an answer with the oracle's, ids and order included.
// Scores may differ in the last bits: a batch of rows is summed in the same
// order as one, so they do not.
func wantHits(t *testing.T, got searchAnswer, want []hit) {
	t.Helper()
	if len(got.Results) != len(want) {
		t.Fatalf("%d results, want %d", len(got.Results), len(want))
	}
	for i, w := range want {
		if g := got.Results[i]; g.ID != w.id || g.Score != w.distance {
			t.Fatalf("result %d is %q with %v, want %q with %v", i, g.ID, g.Score, w.id, w.distance)
		}
	}
}

// TestReadsEqualTheOracle drives random upserts, deletes and flushes, and after
// each compares every kind of read with the model.
func TestReadsEqualTheOracle(t *testing.T) {
	for _, metric := range []string{"l2", "cosine", "dot"} {
		for seed := range uint64(3) {
			t.Run(fmt.Sprintf("%s/%d", metric, seed), func(t *testing.T) {
				const dim = 6
				f := newFixture(t, dim, metric)
				rng := rand.New(rand.NewPCG(seed, 77))
				for range 60 {
					switch rng.IntN(6) {
					case 0:
						f.writer.flush()
					case 1:
						f.writer.delete(fmt.Sprintf("id%d", rng.IntN(200)))
					default:
						for range 1 + rng.IntN(20) {
							// Few distinct values, so that ties are common.
							v := make([]float32, dim)
							for i := range v {
								v[i] = float32(1 + rng.IntN(2))
							}
							f.writer.upsert(fmt.Sprintf("id%d", rng.IntN(200)), v, fmt.Sprintf(`{"n":%d}`, rng.IntN(10)))
						}
					}
					compareAll(t, f, rng)
				}
			})
		}
	}
}

func compareAll(t *testing.T, f *fixture, rng *rand.Rand) {
	t.Helper()
	w := f.writer
	q := normal(rng, w.dim, 2)
	k := 1 + rng.IntN(30)
	n := rng.IntN(10)
	keep := func(op memtable.Op) bool { return string(op.Metadata) == fmt.Sprintf(`{"n":%d}`, n) }
	filter := fmt.Sprintf(`{"must":[{"key":"n","match":{"value":%d}}]}`, n)

	var got searchAnswer
	f.call("POST", "/collections/movies/search", fmt.Sprintf(`{"vector":%s,"k":%d}`, vectorJSONOf(q), k), &got)
	wantHits(t, got, w.nearest(q, k, nil))
	f.call("POST", "/collections/ID1/search", fmt.Sprintf(`{"vector":%s,"k":%d,"filter":%s,"exact":true}`, vectorJSONOf(q), k, filter), &got)
	wantHits(t, got, w.nearest(q, k, keep))

	var told info.Collection
	f.call("GET", "/collections/movies", "", &told)
	if told.VectorCount != uint64(len(w.rows)) || told.Seq != w.seq {
		t.Fatalf("collection has %d rows at %d, want %d at %d", told.VectorCount, told.Seq, len(w.rows), w.seq)
	}
	var count struct{ Count int }
	f.call("POST", "/collections/movies/vectors/count", fmt.Sprintf(`{"filter":%s}`, filter), &count)
	matching := w.nearest(q, math.MaxInt, keep)
	if count.Count != len(matching) {
		t.Fatalf("count is %d, want %d", count.Count, len(matching))
	}
	if got, want := scrollIDs(t, f, "", 1+rng.IntN(50)), sortedIDs(w.nearest(q, math.MaxInt, nil)); !slices.Equal(got, want) {
		t.Fatalf("scrolled %v, want %v", got, want)
	}
	if got, want := scrollIDs(t, f, filter, 1+rng.IntN(5)), sortedIDs(matching); !slices.Equal(got, want) {
		t.Fatalf("scrolled %v, want %v", got, want)
	}
	for i := range 5 {
		id := fmt.Sprintf("id%d", (int(w.seq)*13+i*41)%200)
		var row struct {
			ID       string
			Vector   []float32
			Metadata map[string]any
		}
		status, _ := f.call("GET", "/collections/movies/vectors/"+id, "", &row)
		op, ok := w.rows[id]
		if ok != (status == fasthttp.StatusOK) || ok && (row.ID != id || !slices.Equal(row.Vector, op.Vector)) {
			t.Fatalf("row %q: status %d, %+v, want %v %v", id, status, row, ok, op)
		}
	}
}

func sortedIDs(hits []hit) []string {
	var ids []string
	for _, h := range hits {
		ids = append(ids, h.id)
	}
	slices.Sort(ids)
	return ids
}

func scrollIDs(t *testing.T, f *fixture, filter string, limit int) []string {
	t.Helper()
	var ids []string
	cursor := ""
	for {
		body := fmt.Sprintf(`{"limit":%d,"include":["vector","metadata"]`, limit)
		if filter != "" {
			body += `,"filter":` + filter
		}
		if cursor != "" {
			body += `,"cursor":"` + cursor + `"`
		}
		var page struct {
			Vectors []struct {
				ID     string
				Vector []float32
			}
			Next *string `json:"next_cursor"`
		}
		f.call("POST", "/collections/movies/vectors/scroll", body+"}", &page)
		for _, v := range page.Vectors {
			ids = append(ids, v.ID)
			if !slices.Equal(v.Vector, f.writer.rows[v.ID].Vector) {
				t.Fatalf("scrolled vector %v of %q", v.Vector, v.ID)
			}
		}
		if page.Next == nil {
			return ids
		}
		if len(page.Vectors) != limit {
			t.Fatalf("a page of %d of %d rows has a next one", len(page.Vectors), limit)
		}
		cursor = *page.Next
	}
}

// TestRecallOfIndexedSearch searches several IVF segments, some rows of which
// were replaced, at every filter selectivity, against the oracle.
func TestRecallOfIndexedSearch(t *testing.T) {
	const dim, n = 32, 12000
	for _, metric := range []string{"l2", "cosine", "dot"} {
		t.Run(metric, func(t *testing.T) {
			f := newFixture(t, dim, metric)
			f.writer.kind = ivfpq.IVF
			rng := rand.New(rand.NewPCG(4, 2))
			c := newClusters(rng, 60, dim)
			for i := range n {
				f.writer.upsert(fmt.Sprintf("id%d", i), c.draw(), fmt.Sprintf(`{"p":%d}`, rng.IntN(1000)))
				if i%4000 == 3999 {
					f.writer.flush()
				}
			}
			for i := range 500 {
				f.writer.upsert(fmt.Sprintf("id%d", i*7), c.draw(), fmt.Sprintf(`{"p":%d}`, rng.IntN(1000)))
				f.writer.delete(fmt.Sprintf("id%d", n-1-i*3))
			}
			for _, permille := range []int{1000, 500, 100, 20, 10, 1} {
				recall := recallAt(t, f, c, permille)
				t.Logf("recall@10 at %d of 1000 matching: %.4f", permille, recall)
				if recall < 0.95 {
					t.Errorf("recall@10 at %d of 1000 matching is %.4f, want 0.95", permille, recall)
				}
			}
		})
	}
}

func recallAt(t *testing.T, f *fixture, c *clusters, permille int) float64 {
	t.Helper()
	filter := ""
	if permille < 1000 {
		filter = fmt.Sprintf(`,"filter":{"must":[{"key":"p","range":{"lt":%d}}]}`, permille)
	}
	keep := func(op memtable.Op) bool {
		var p int
		if _, err := fmt.Sscanf(string(op.Metadata), `{"p":%d}`, &p); err != nil {
			t.Fatal(err)
		}
		return p < permille
	}
	hits, total := 0, 0
	for range 40 {
		q := c.draw()
		want := f.writer.nearest(q, 10, keep)
		var got searchAnswer
		f.call("POST", "/collections/movies/search", fmt.Sprintf(`{"vector":%s%s}`, vectorJSONOf(q), filter), &got)
		if len(got.Results) != len(want) {
			t.Fatalf("%d results, want %d", len(got.Results), len(want))
		}
		for _, g := range got.Results {
			op, ok := f.writer.rows[g.ID]
			if !ok || !keep(op) || g.Score != scoreOf(f.writer.metric, q, op.Vector) {
				t.Fatalf("result %q with %v is not a matching row", g.ID, g.Score)
			}
			if slices.ContainsFunc(want, func(w hit) bool { return w.id == g.ID }) {
				hits++
			}
		}
		total += len(want)
	}
	return float64(hits) / float64(total)
}

// TestAlwaysKResults asks one probe for more rows than a list holds.
func TestAlwaysKResults(t *testing.T) {
	const dim, n = 8, 3000
	f := newFixture(t, dim, "l2")
	f.writer.kind = ivfpq.IVF
	c := newClusters(rand.New(rand.NewPCG(1, 1)), 30, dim)
	for i := range n {
		f.writer.upsert(fmt.Sprintf("id%d", i), c.draw(), "")
	}
	f.writer.flush()
	for _, k := range []int{1, 10, 500, 2999, 3000, 10000} {
		var got searchAnswer
		f.call("POST", "/collections/movies/search", fmt.Sprintf(`{"vector":%s,"k":%d,"nprobe":1,"include":[]}`, vectorJSONOf(c.draw()), k), &got)
		if len(got.Results) != min(k, n) {
			t.Errorf("k %d: %d results, want %d", k, len(got.Results), min(k, n))
		}
		seen := map[string]bool{}
		for _, r := range got.Results {
			if seen[r.ID] {
				t.Fatalf("k %d: %q twice", k, r.ID)
			}
			seen[r.ID] = true
		}
	}
}

func TestConsistency(t *testing.T) {
	f := newFixture(t, 2, "l2")
	w := f.writer
	search := func(extra string) (int, string, httpapi.Error, int) {
		t.Helper()
		var got searchAnswer
		body := fmt.Sprintf(`{"vector":[1,2]%s}`, extra)
		status, h := f.call("POST", "/collections/movies/search", body, &got)
		var e httpapi.Error
		if status != 200 {
			f.call("POST", "/collections/movies/search", body, &e)
		}
		return status, string(h.Peek("X-AkiDB-Consistency")), e, len(got.Results)
	}
	w.upsert("a", []float32{1, 2}, "")
	if status, given, _, n := search(""); status != 200 || given != "latest" || n != 1 {
		t.Fatalf("status %d, %s, %d results", status, given, n)
	}
	w.upsert("b", []float32{1, 3}, "")
	if _, given, _, n := search(`,"consistency":"eventual"`); given != "eventual" || n != 1 {
		t.Fatalf("eventual asked the writer: %s, %d results", given, n)
	}
	if status, given, _, n := search(`,"consistency":"eventual","token":"1.2"`); status != 200 || given != "latest" || n != 2 {
		t.Fatalf("token: status %d, %s, %d results", status, given, n)
	}
	asked := w.asked
	if _, given, _, _ := search(`,"token":"1.2"`); given != "token" || w.asked != asked {
		t.Fatalf("a token that was covered: %s, writer asked %d times", given, w.asked-asked)
	}
	if status, _, e, _ := search(`,"token":"1.3"`); status != 503 || e.Code != "token_not_visible" {
		t.Fatalf("a token of the future: status %d, %s", status, e.Code)
	}
	if status, given, _, n := search(`,"consistency":"strong"`); status != 200 || given != "strong" || n != 2 {
		t.Fatalf("strong: status %d, %s, %d results", status, given, n)
	}

	w.down = errors.New("connection refused")
	w.upsert("c", []float32{1, 4}, "")
	if status, given, _, n := search(""); status != 200 || given != "eventual" || n != 2 {
		t.Fatalf("writer down: status %d, %s, %d results", status, given, n)
	}
	if f.degraded["writer"] == "" {
		t.Error("reads without the writer are not said to be degraded")
	}
	if status, _, e, _ := search(`,"consistency":"strong"`); status != 503 || e.RetryAfter == 0 {
		t.Fatalf("writer down, strong: status %d, %+v", status, e)
	}
	asked = w.asked
	f.advance(100 * time.Millisecond)
	if search(""); w.asked != asked {
		t.Error("the writer was asked again at once after it failed")
	}
	w.down = nil
	f.advance(writerPause)
	if _, given, _, n := search(""); given != "latest" || n != 3 {
		t.Fatalf("writer back: %s, %d results", given, n)
	}
	if f.degraded["writer"] != "" {
		t.Error("the writer is back and said to be away")
	}
}

func TestStalenessIsSaid(t *testing.T) {
	f := newFixture(t, 2, "l2")
	f.writer.upsert("a", []float32{1, 2}, "")
	f.writer.flush()
	f.service = f.newService(nil)
	f.router = httpapi.NewRouter()
	f.service.Register(f.router)
	get := func() (string, string) {
		_, h := f.call("POST", "/collections/movies/vectors/count", `{"consistency":"eventual"}`, nil)
		return string(h.Peek("X-AkiDB-Consistency")), string(h.Peek("X-AkiDB-Staleness-Ms"))
	}
	if c, s := get(); c != "eventual" || s != "0" {
		t.Fatalf("%s, %s ms", c, s)
	}
	f.advance(700 * time.Millisecond)
	if c, s := get(); c != "eventual" || s != "700" {
		t.Fatalf("%s, %s ms", c, s)
	}
	f.advance(700 * time.Millisecond) // older than a second: latest reads CURRENT
	_, h := f.call("POST", "/collections/movies/vectors/count", `{}`, nil)
	if c, s := string(h.Peek("X-AkiDB-Consistency")), string(h.Peek("X-AkiDB-Staleness-Ms")); c != "eventual" || s != "0" {
		t.Fatalf("latest without a writer: %s, %s ms", c, s)
	}
}

// TestADescriptionShowsTheNewestManifest: a client that has just flushed and
// looks at the collection must see the segment.
func TestADescriptionShowsTheNewestManifest(t *testing.T) {
	f := newFixture(t, 2, "l2")
	for i := range 5 {
		f.writer.upsert(fmt.Sprint(i), []float32{1, 2}, "")
		f.call("POST", "/collections/movies/vectors/count", "", nil) // the tail is known
		f.writer.flush()
		var told info.Collection
		f.call("GET", "/collections/movies", "", &told)
		if told.SegmentCount != i+1 || told.UnindexedCount != 0 || told.VectorCount != uint64(i+1) {
			t.Fatalf("after flush %d: %+v", i+1, told)
		}
	}
}

// TestATokenLooksAgain: a process without a writer that has just read CURRENT
// reads it again for a write it does not have.
func TestATokenLooksAgain(t *testing.T) {
	f := newFixture(t, 2, "l2")
	f.service = f.newService(nil)
	f.router = httpapi.NewRouter()
	f.service.Register(f.router)
	f.writer.upsert("a", []float32{1, 2}, "")
	f.writer.flush()
	f.call("POST", "/collections/movies/vectors/count", "", nil)
	f.writer.upsert("b", []float32{1, 2}, "")
	f.writer.flush()
	var n struct{ Count int }
	if status, _ := f.call("POST", "/collections/movies/vectors/count", `{"token":"1.2"}`, &n); status != 200 || n.Count != 2 {
		t.Fatalf("status %d, %d rows", status, n.Count)
	}
}

// TestTailIsNeverJoinedAcrossAGap lets the writer flush and forget between two
// reads, once and several times.
func TestTailIsNeverJoinedAcrossAGap(t *testing.T) {
	f := newFixture(t, 2, "l2")
	count := func() (n struct{ Count int }) {
		f.call("POST", "/collections/movies/vectors/count", `{}`, &n)
		return n
	}
	for i := range 30 {
		f.writer.upsert(fmt.Sprintf("id%d", i), []float32{float32(i), 1}, "")
		if i%3 == 0 {
			f.writer.flush()
		}
		if i%5 == 0 {
			if got := count(); got.Count != i+1 {
				t.Fatalf("%d rows after %d", got.Count, i+1)
			}
		}
	}
}

// TestAnotherWriterReplacesTheTail takes a collection over with loss: rows that
// only the old writer knew must not survive in a reader.
func TestAnotherWriterReplacesTheTail(t *testing.T) {
	f := newFixture(t, 2, "l2")
	f.writer.upsert("kept", []float32{1, 1}, "")
	f.writer.flush()
	f.writer.upsert("lost", []float32{2, 2}, "")
	var n struct{ Count int }
	if f.call("POST", "/collections/movies/vectors/count", `{}`, &n); n.Count != 2 {
		t.Fatalf("%d rows before", n.Count)
	}
	f.writer.epoch, f.writer.seq, f.writer.table = 2, 1, memtable.New(2, 1)
	delete(f.writer.rows, "lost")
	f.writer.upsert("new", []float32{3, 3}, "")
	if got := scrollIDs(t, f, "", 10); !slices.Equal(got, []string{"kept", "new"}) {
		t.Fatalf("rows %v, want kept and new", got)
	}
}

func TestDroppedAndMadeAnew(t *testing.T) {
	f := newFixture(t, 2, "l2")
	f.writer.upsert("old", []float32{1, 1}, "")
	f.call("POST", "/collections/movies/vectors/count", `{}`, nil)
	f.writer.commit(func(next *manifest.Snapshot) { next.Dropped = true })
	f.writer.down = ErrNoCollection
	if status, _ := f.call("GET", "/collections/movies", "", nil); status != 404 {
		t.Fatalf("dropped: status %d", status)
	}
	*f.writer = *newTestWriter(t, f.store, "ID2", "movies", 3, "dot") //nolint:govet // no lock is held
	f.writer.upsert("new", []float32{1, 1, 1}, "")
	var told info.Collection
	if status, _ := f.call("GET", "/collections/movies", "", &told); status != 200 || told.ID != "ID2" || told.VectorCount != 1 {
		t.Fatalf("made anew: status %d, %+v", status, told)
	}
	var all struct{ Collections []info.Collection }
	if f.call("GET", "/collections", "", &all); len(all.Collections) != 1 || all.Collections[0].ID != "ID2" {
		t.Fatalf("collections %+v", all.Collections)
	}
}

// TestNamesakesAreNotListedTwice: a collection that was dropped and made anew is
// one, also for a process that cannot ask the writer and still knows the old one.
func TestNamesakesAreNotListedTwice(t *testing.T) {
	f := newFixture(t, 2, "l2")
	f.call("GET", "/collections", "", nil) // knows the old one
	f.writer.commit(func(next *manifest.Snapshot) { next.Dropped = true })
	newTestWriter(t, f.store, "ID2", "movies", 3, "dot")
	f.writer.down = errors.New("connection refused")
	var told info.Collection
	if f.call("GET", "/collections/movies", "", &told); told.ID != "ID2" {
		t.Fatalf("collection %+v", told)
	}
	var all struct{ Collections []info.Collection }
	if f.call("GET", "/collections", "", &all); len(all.Collections) != 1 || all.Collections[0].ID != "ID2" {
		t.Fatalf("collections %+v", all.Collections)
	}
}

// TestAnObjectThatVanishedMeansANewerManifest deletes a segment that a newer
// manifest no longer names, under a reader that still does.
func TestAnObjectThatVanishedMeansANewerManifest(t *testing.T) {
	f := newFixture(t, 2, "l2")
	f.service = f.newService(nil)
	f.router = httpapi.NewRouter()
	f.service.Register(f.router)
	f.writer.upsert("a", []float32{1, 1}, "")
	f.writer.flush()
	f.call("POST", "/collections/movies/vectors/count", `{}`, nil) // opens the segment, reads no row
	old := f.writer.log.Snapshot().Segments[0]
	f.writer.upsert("b", []float32{2, 2}, "")
	f.writer.flush()
	f.writer.commit(func(next *manifest.Snapshot) { next.Segments = next.Segments[1:] })
	for _, key := range []string{old.Data.Key, old.Index.Key} {
		if err := f.store.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	var got searchAnswer
	f.call("POST", "/collections/movies/search", `{"vector":[1,1],"consistency":"eventual"}`, &got)
	if len(got.Results) != 1 || got.Results[0].ID != "b" {
		t.Fatalf("%+v", got.Results)
	}
	// The same with nothing newer is an error, never a partial answer.
	newest := f.writer.log.Snapshot().Segments[0]
	f.service = f.newService(nil)
	f.router = httpapi.NewRouter()
	f.service.Register(f.router)
	f.call("POST", "/collections/movies/vectors/count", `{}`, nil)
	if err := f.store.Delete(t.Context(), newest.Data.Key); err != nil {
		t.Fatal(err)
	}
	var ctx fasthttp.RequestCtx
	ctx.Request.Header.SetMethod("POST")
	ctx.Request.Header.SetContentType("application/json")
	ctx.Request.SetRequestURI("/api/v1/collections/movies/search")
	ctx.Request.SetBodyString(`{"vector":[1,1]}`)
	if err := f.router.Serve(&ctx); !errors.Is(err, blob.ErrNotFound) {
		t.Fatalf("a lost segment: %v", err)
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	f := newFixture(t, 3, "cosine")
	f.writer.upsert("a", []float32{1, 2, 3}, "")
	nan := base64.StdEncoding.EncodeToString([]byte{0, 0, 0xc0, 0x7f, 0, 0, 0, 0, 0, 0, 0, 0})
	for _, c := range []struct {
		method, path, body string
		status             int
		code, field        string
	}{
		{"POST", "/collections/films/search", `{"vector":[1,2,3]}`, 404, "collection_not_found", ""},
		{"GET", "/collections/films", "", 404, "collection_not_found", ""},
		{"POST", "/collections/movies/search", `{"vector":[1,2]}`, 422, "dimension_mismatch", "vector"},
		{"POST", "/collections/movies/search", `{"vector":[]}`, 422, "dimension_mismatch", "vector"},
		{"POST", "/collections/movies/search", `{"vector":[1,2,NaN]}`, 400, "malformed_json", "vector[2]"},
		{"POST", "/collections/movies/search", `{"vector":"` + nan + `"}`, 422, "not_finite", "vector[0]"},
		{"POST", "/collections/movies/search", `{"vector":[1,2,1e99]}`, 422, "not_finite", "vector[2]"},
		{"POST", "/collections/movies/search", `{}`, 422, "vector_or_id", "vector"},
		{"POST", "/collections/movies/search", ``, 422, "vector_or_id", "vector"},
		{"POST", "/collections/movies/vectors/count", ``, 200, "", ""},
		{"POST", "/collections/movies/search", `{"id":"a","vector":[1,2,3]}`, 422, "vector_or_id", "vector"},
		{"POST", "/collections/movies/search", `{"id":"nobody"}`, 404, "vector_not_found", ""},
		{"POST", "/collections/movies/search", `{"vector":[1,2,3],"k":0}`, 422, "invalid_k", "k"},
		{"POST", "/collections/movies/search", `{"vector":[1,2,3],"k":10001}`, 422, "invalid_k", "k"},
		{"POST", "/collections/movies/search", `{"vector":[1,2,3],"k":"ten"}`, 400, "wrong_type", "k"},
		{"POST", "/collections/movies/search", `{"vector":[1,2,3],"topk":1}`, 400, "unknown_field", "topk"},
		{"POST", "/collections/movies/search", `{"vector":[1,2,3],"target_recall":1.5}`, 422, "out_of_range", "target_recall"},
		{"POST", "/collections/movies/search", `{"vector":[1,2,3],"nprobe":0}`, 422, "out_of_range", "nprobe"},
		{"POST", "/collections/movies/search", `{"vector":[1,2,3],"timeout_ms":0}`, 422, "out_of_range", "timeout_ms"},
		{"POST", "/collections/movies/search", `{"vector":[1,2,3],"include":["all"]}`, 422, "unknown_include", "include[0]"},
		{"POST", "/collections/movies/search", `{"vector":[1,2,3],"consistency":"soon"}`, 422, "unknown_consistency", "consistency"},
		{"POST", "/collections/movies/search", `{"vector":[1,2,3],"token":"x"}`, 422, "invalid_token", "token"},
		{"POST", "/collections/movies/search", `{"vector":[1,2,3],"as_of":3}`, 422, "not_supported", "as_of"},
		{"POST", "/collections/movies/search", `{"vector":[1,2,3],"filter":{"must":[{"key":"a","match":{"is":1}}]}}`, 400, "invalid_filter", "filter.must[0].match"},
		{"POST", "/collections/movies/search/batch", `{"searches":[]}`, 422, "out_of_range", "searches"},
		{"POST", "/collections/movies/search/batch", `{"searches":[{"vector":[1,2,3]},{"vector":[1,2]}]}`, 422, "dimension_mismatch", "searches[1].vector"},
		{"POST", "/collections/movies/search/batch", `{"searches":[{"vector":[1,2,3],"k":-1}]}`, 422, "invalid_k", "searches[0].k"},
		{"POST", "/collections/movies/vectors/scroll", `{"limit":0}`, 422, "out_of_range", "limit"},
		{"POST", "/collections/movies/vectors/scroll", `{"cursor":"?"}`, 422, "invalid_cursor", "cursor"},
		{"POST", "/collections/movies/vectors/count", `{"filter":[]}`, 400, "invalid_filter", "filter"},
		{"GET", "/collections/movies/vectors/nobody", "", 404, "vector_not_found", ""},
		{"GET", "/collections/movies?consistency=soon", "", 422, "unknown_consistency", "consistency"},
	} {
		var e httpapi.Error
		status, _ := f.call(c.method, c.path, c.body, &e)
		if status != c.status || e.Code != c.code || e.Field != c.field {
			t.Errorf("%s %s %s: status %d, %s, field %q (%s); want %d, %s, %q", c.method, c.path, c.body, status, e.Code, e.Field, e.Message, c.status, c.code, c.field)
		}
	}
}

func TestBatchAnswersInOrder(t *testing.T) {
	f := newFixture(t, 2, "l2")
	var searches []string
	for i := range 50 {
		f.writer.upsert(fmt.Sprintf("id%d", i), []float32{float32(i), 0}, "")
		searches = append(searches, fmt.Sprintf(`{"vector":[%d,0],"k":1}`, i))
	}
	var got struct{ Responses []searchAnswer }
	f.call("POST", "/collections/movies/search/batch", `{"searches":[`+strings.Join(searches, ",")+`]}`, &got)
	for i, r := range got.Responses {
		if len(r.Results) != 1 || r.Results[0].ID != fmt.Sprintf("id%d", i) || r.Results[0].Score != 0 {
			t.Fatalf("response %d: %+v", i, r.Results)
		}
	}
	if len(got.Responses) != len(searches) {
		t.Fatalf("%d responses, want %d", len(got.Responses), len(searches))
	}
}

func TestWritesAreForwarded(t *testing.T) {
	f := newFixture(t, 2, "l2")
	if status, _ := f.call("POST", "/collections/movies/vectors", `{}`, nil); status != fasthttp.StatusTeapot {
		t.Fatalf("status %d is not the writer's", status)
	}
	f.router = httpapi.NewRouter()
	f.newService(nil).RegisterForwards(f.router)
	var e httpapi.Error
	if status, _ := f.call("POST", "/collections", `{}`, &e); status != 503 || e.Code != "no_writer" || e.Applied != httpapi.NotApplied {
		t.Fatalf("status %d, %+v", status, e)
	}
}

func TestSearchSaysWhatItCost(t *testing.T) {
	f := newFixture(t, 4, "l2")
	f.writer.kind = ivfpq.IVF
	c := newClusters(rand.New(rand.NewPCG(1, 1)), 10, 4)
	for i := range 2000 {
		f.writer.upsert(fmt.Sprintf("id%d", i), c.draw(), `{"a":1}`)
	}
	f.writer.flush()
	body := `{"vector":` + vectorJSONOf(c.draw()) + `,"include":["vector","metadata"],"explain":true}`
	var cold, hot searchAnswer
	f.call("POST", "/collections/movies/search", body, &cold)
	f.call("POST", "/collections/movies/search", body, &hot)
	if cold.Usage.Cache != "cold" || cold.Usage.StoreGets == 0 || cold.Usage.StoreBytes == 0 {
		t.Errorf("first search: %+v", cold.Usage)
	}
	if u := hot.Usage; u.Cache != "hot" || u.StoreGets != 0 || u.HitRatio != 1 || u.Segments != 1 || u.ListsProbed == 0 || u.CodesScanned == 0 || u.Reranked == 0 {
		t.Errorf("second search: %+v", u)
	}
	if len(hot.Explain) < 4 || len(hot.Results[0].Vector) != 4 || hot.Results[0].Metadata["a"] != 1.0 {
		t.Errorf("answer %+v", hot)
	}
	var told info.Collection
	if f.call("GET", "/collections/movies", "", &told); told.Tier != "hot" || told.SegmentCount != 1 || told.SizeBytes == 0 {
		t.Errorf("collection %+v", told)
	}
}
