package query

import (
	"encoding/base64"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/valyala/fasthttp"
	"go.uber.org/goleak"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/internal/info"
	"github.com/akidb/akidb/internal/memtable"
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
		Version  uint64
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
	f.call("POST", "/collections/movies/search", fmt.Sprintf(`{"vector":%s,"k":%d,"include":["version"]}`, vectorJSONOf(q), k), &got)
	wantHits(t, got, w.nearest(q, k, nil))
	for _, r := range got.Results {
		if r.Version != w.rows[r.ID].Seq || r.Metadata != nil || r.Vector != nil {
			t.Fatalf("found %+v, want version %d and nothing else", r, w.rows[r.ID].Seq)
		}
	}
	got = searchAnswer{}
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
			Version  uint64
		}
		status, _ := f.call("GET", "/collections/movies/vectors/"+id, "", &row)
		op, ok := w.rows[id]
		if ok != (status == fasthttp.StatusOK) || ok && (row.ID != id || row.Version != op.Seq || !slices.Equal(row.Vector, op.Vector)) {
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
		body := fmt.Sprintf(`{"limit":%d,"include":["vector","version","metadata"]`, limit)
		if filter != "" {
			body += `,"filter":` + filter
		}
		if cursor != "" {
			body += `,"cursor":"` + cursor + `"`
		}
		var page struct {
			Vectors []struct {
				ID      string
				Vector  []float32
				Version uint64
			}
			Next *string `json:"next_cursor"`
		}
		f.call("POST", "/collections/movies/vectors/scroll", body+"}", &page)
		for _, v := range page.Vectors {
			ids = append(ids, v.ID)
			if op := f.writer.rows[v.ID]; !slices.Equal(v.Vector, op.Vector) || v.Version != op.Seq {
				t.Fatalf("scrolled vector %v of %q at version %d, want %v at %d", v.Vector, v.ID, v.Version, op.Vector, op.Seq)
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

// TestBatchAnswersAsOneByOne: searches that share passes over lists find what
// each finds alone, through lists that are read and through those in memory.
func TestBatchAnswersAsOneByOne(t *testing.T) {
	const dim, n, count = 16, 6000, 40
	f := newFixture(t, dim, "l2")
	f.writer.kind = ivfpq.IVF
	c := newClusters(rand.New(rand.NewPCG(6, 1)), 40, dim)
	for i := range n {
		f.writer.upsert(fmt.Sprintf("id%d", i), c.draw(), fmt.Sprintf(`{"p":%d}`, i%10))
		if i%3000 == 2999 {
			f.writer.flush()
		}
	}
	var searches []string
	for i := range count {
		filter := ""
		if i%4 == 3 {
			filter = `,"filter":{"must":[{"key":"p","range":{"lt":3}}]}`
		}
		searches = append(searches, fmt.Sprintf(`{"vector":%s,"k":%d%s}`, vectorJSONOf(c.draw()), 1+i, filter))
	}
	for range residentAfter + 2 {
		var together struct{ Responses []searchAnswer }
		f.call("POST", "/collections/movies/search/batch", `{"searches":[`+strings.Join(searches, ",")+`]}`, &together)
		if len(together.Responses) != count {
			t.Fatalf("%d responses, want %d", len(together.Responses), count)
		}
		for i, search := range searches {
			var alone searchAnswer
			f.call("POST", "/collections/movies/search", search, &alone)
			if got, want := fmt.Sprint(together.Responses[i].Results), fmt.Sprint(alone.Results); got != want {
				t.Fatalf("search %d: %s in a batch, %s alone", i, got, want)
			}
		}
	}
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

// TestAWriterWithoutTheCollectionIsNotDown: a collection is in the store a
// moment before its writer answers for it, and that must not make reads of all
// others stale.
func TestAWriterWithoutTheCollectionIsNotDown(t *testing.T) {
	f := newFixture(t, 2, "l2")
	f.writer.down = ErrNoCollection
	status, header := f.call("GET", "/collections/movies", "", nil)
	if got := string(header.Peek(httpapi.HeaderConsistency)); status != 200 || got != string(Eventual) {
		t.Fatalf("status %d, consistency %q; want 200, eventual", status, got)
	}
	if why := f.why("writer"); why != "" {
		t.Errorf("degraded: %s", why)
	}
	f.writer.down = nil
	f.writer.upsert("a", []float32{1, 1}, "")
	_, header = f.call("GET", "/collections/movies", "", nil)
	if got := string(header.Peek(httpapi.HeaderConsistency)); got != string(Latest) {
		t.Errorf("at once afterwards: consistency %q, want latest", got)
	}
}

// TestEventualReadsLearnOfADrop: they are served at once from what there was,
// and look afterwards.
func TestEventualReadsLearnOfADrop(t *testing.T) {
	f := newFixture(t, 2, "l2")
	f.writer.upsert("old", []float32{1, 1}, "")
	f.call("POST", "/collections/movies/vectors/count", `{}`, nil)
	f.writer.commit(func(next *manifest.Snapshot) { next.Dropped = true })
	f.advance(time.Minute)
	const body = `{"consistency":"eventual"}`
	if status, header := f.call("POST", "/collections/movies/vectors/count", body, nil); status != 200 || string(header.Peek(httpapi.HeaderStalenessMs)) != "60000" {
		t.Fatalf("status %d\n%s", status, header)
	}
	f.service.catalog.running.Wait() // for the look
	if status, _ := f.call("POST", "/collections/movies/vectors/count", body, nil); status != 404 {
		t.Fatalf("status %d, want 404", status)
	}
}

// TestEventualReadsOfRemovedObjects: a drop removes objects right away, under
// whoever has not heard of it.
func TestEventualReadsOfRemovedObjects(t *testing.T) {
	f := newFixture(t, 2, "l2")
	f.writer.upsert("old", []float32{1, 1}, "")
	f.writer.flush()
	f.call("POST", "/collections/movies/vectors/count", `{}`, nil) // opens the segment, reads no row
	gone := f.writer.log.Snapshot().Segments[0]
	f.writer.commit(func(next *manifest.Snapshot) { next.Dropped = true })
	for _, key := range []string{gone.Data.Key, gone.Index.Key} {
		if err := f.store.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	if status, _ := f.call("POST", "/collections/movies/search", `{"vector":[1,1],"consistency":"eventual"}`, nil); status != 404 {
		t.Fatalf("status %d, want 404", status)
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
		{"POST", "/collections/movies/search", `{"vector":[0,0,0]}`, 422, "zero_vector", "vector"},
		{"POST", "/collections/movies/search", `{"vector":[1,2,3],"as_of":null}`, 200, "", ""},
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
		{"POST", "/collections/movies/search", `{"vector":[1,2,3],"timeout_ms":600001}`, 422, "out_of_range", "timeout_ms"},
		{"POST", "/collections/movies/search", `{"vector":[1,2,3],"timeout_ms":9223372036854775807}`, 422, "out_of_range", "timeout_ms"}, // in nanoseconds it overflows
		{"POST", "/collections/movies/search", `{"vector":[1,2,3],"include":["all"]}`, 422, "unknown_include", "include[0]"},
		{"POST", "/collections/movies/search", `{"vector":[1,2,3],"consistency":"soon"}`, 422, "unknown_consistency", "consistency"},
		{"POST", "/collections/movies/search", `{"vector":[1,2,3],"token":"x"}`, 422, "invalid_token", "token"},
		{"POST", "/collections/movies/search", `{"vector":[1,2,3],"as_of":"?"}`, 422, "invalid_as_of", "as_of"},
		{"POST", "/collections/movies/search", `{"vector":[1,2,3],"filter":{"must":[{"key":"a","match":{"is":1}}]}}`, 400, "invalid_filter", "filter.must[0].match"},
		{"POST", "/collections/movies/search/batch", `{"searches":[]}`, 422, "out_of_range", "searches"},
		{"POST", "/collections/movies/search/batch", `{"searches":[` + strings.Repeat(`{"id":"a","k":10000},`, 10) + `{"id":"a","k":1}]}`, 422, "out_of_range", "searches"},
		{"POST", "/collections/movies/search/batch", `{}`, 422, "out_of_range", "searches"},
		{"POST", "/collections/movies/search/batch", `{"searches":[` + strings.Repeat(`{},`, 1000) + `{}]}`, 422, "out_of_range", "searches"},
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
	f.inBubble(t, func(t *testing.T) {
		var cold, hot searchAnswer
		f.call("POST", "/collections/movies/search", body, &cold)
		synctest.Wait() // until the cache has let in what was read
		f.call("POST", "/collections/movies/search", body, &hot)
		if cold.Usage.Cache != "cold" || cold.Usage.StoreGets == 0 || cold.Usage.Rounds == 0 || cold.Usage.StoreBytes == 0 {
			t.Errorf("first search: %+v", cold.Usage)
		}
		if u := hot.Usage; u.Cache != "hot" || u.StoreGets != 0 || u.Rounds != 0 || u.HitRatio != 1 || u.Segments != 1 || u.ListsProbed == 0 || u.CodesScanned == 0 || u.Reranked == 0 {
			t.Errorf("second search: %+v", u)
		}
		if len(hot.Explain) < 4 || len(hot.Results[0].Vector) != 4 || hot.Results[0].Metadata["a"] != 1.0 {
			t.Errorf("answer %+v", hot)
		}
		var told info.Collection
		if f.call("GET", "/collections/movies", "", &told); told.Tier != "hot" || told.SegmentCount != 1 || told.SizeBytes == 0 {
			t.Errorf("collection %+v", told)
		}
	})
}
