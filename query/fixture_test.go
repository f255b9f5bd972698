package query

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/go-json-experiment/json"
	"github.com/valyala/fasthttp"

	"github.com/akidb/akidb/cache"
	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/internal/memtable"
	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/memblob"
	"github.com/akidb/akidb/segments/columns"
	"github.com/akidb/akidb/segments/ivfpq"
	"github.com/akidb/akidb/segments/manifest"
)

// fixture is a store with one collection, a writer just real enough to fill it
// through the same packages the real one uses, and a Service over both.
type fixture struct {
	t       testing.TB
	store   blob.Store
	writer  *testWriter
	service *Service
	router  *httpapi.Router
	now     time.Time // of the service's clock
	mu      sync.Mutex
	// degraded is what the service says it goes on without.
	degraded map[string]string
}

func (f *fixture) clock() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

// why is what the service says it goes on without component for.
func (f *fixture) why(component string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.degraded[component]
}

func (f *fixture) advance(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
}

func newFixture(t testing.TB, dim int, metric string) *fixture {
	t.Helper()
	f := &fixture{t: t, store: memblob.New(), now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC), degraded: map[string]string{}}
	f.writer = newTestWriter(t, f.store, "ID1", "movies", dim, metric)
	f.service = f.newService(f.writer)
	f.router = httpapi.NewRouter()
	f.service.Register(f.router)
	f.service.RegisterForwards(f.router)
	return f
}

func (f *fixture) newService(w Writer) *Service {
	f.t.Helper()
	ranges, err := cache.New(cache.Config{Bytes: 64 << 20}, f.store)
	if err != nil {
		f.t.Fatal(err)
	}
	s, err := New(Config{Store: f.store, Ranges: ranges, Writer: w, ResidentBytes: 64 << 20, Now: f.clock, Degraded: func(component, reason string) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.degraded[component] = reason
	}})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(ranges.Close)
	f.t.Cleanup(s.Close)
	return s
}

// inBubble runs fn with a service of its own, that has read nothing yet, in a
// bubble of testing/synctest. Segments have to be built before: the compressor
// makes channels that other tests share.
func (f *fixture) inBubble(t *testing.T, fn func(t *testing.T)) {
	t.Helper()
	f.call("POST", "/collections/movies/vectors/scroll", `{"limit":1,"include":["metadata"]}`, nil) // so does the decompressor
	synctest.Test(t, func(t *testing.T) {
		outer, service, router := f.t, f.service, f.router
		defer func() { f.t, f.service, f.router = outer, service, router }()
		f.t = t
		f.service = f.newService(f.writer)
		f.router = httpapi.NewRouter()
		f.service.Register(f.router)
		fn(t)
	})
}

// call sends a request through the routes and decodes the answer into out.
func (f *fixture) call(method, path, body string, out any) (status int, header *fasthttp.ResponseHeader) {
	f.t.Helper()
	var ctx fasthttp.RequestCtx
	ctx.Request.Header.SetMethod(method)
	ctx.Request.SetRequestURI("/api/v1" + path)
	if body != "" {
		ctx.Request.Header.SetContentType("application/json")
		ctx.Request.SetBodyString(body)
	}
	err := f.router.Serve(&ctx)
	var known *httpapi.Error
	if errors.As(err, &known) {
		if e, ok := out.(*httpapi.Error); ok {
			*e = *known
		}
		return known.Status, &ctx.Response.Header
	}
	if err != nil {
		f.t.Fatalf("%s %s: %v", method, path, err)
	}
	if _, isError := out.(*httpapi.Error); out != nil && !isError {
		if err := json.Unmarshal(ctx.Response.Body(), out, json.MatchCaseInsensitiveNames(true)); err != nil {
			f.t.Fatalf("%s %s: %v in %s", method, path, err, ctx.Response.Body())
		}
	}
	return ctx.Response.StatusCode(), &ctx.Response.Header
}

// testWriter keeps one collection: a memtable, and segments it flushes to.
type testWriter struct {
	t          testing.TB
	store      blob.Store
	log        *manifest.Log
	dim        int
	metric     ivfpq.Metric
	kind       ivfpq.Kind           // of segments; Auto chooses
	shared     *ivfpq.Quantizer     // what segments in lists are built with; the first of them trains it
	quantizers []manifest.Quantizer // of the segment last built

	mu    sync.Mutex
	epoch uint64
	table *memtable.Table
	seq   uint64
	rows  map[string]memtable.Op // the oracle: what a reader must see
	down  error                  // what Tail fails with
	asked int
}

func newTestWriter(t testing.TB, store blob.Store, id, name string, dim int, metric string) *testWriter {
	t.Helper()
	c := manifest.Collection{ID: id, Name: name, Dimension: dim, Metric: metric, CreatedAt: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	log, err := manifest.Create(t.Context(), store, c, "log-1")
	if err != nil {
		t.Fatal(err)
	}
	m, err := ivfpq.ParseMetric(metric)
	if err != nil {
		t.Fatal(err)
	}
	return &testWriter{t: t, store: store, log: log, dim: dim, metric: m, epoch: 1, table: memtable.New(dim, 0), rows: map[string]memtable.Op{}}
}

func (w *testWriter) Tail(_ context.Context, collection string, after uint64) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	if w.down != nil {
		return nil, w.down
	}
	if collection != w.log.Snapshot().Collection.ID {
		return nil, ErrNoCollection
	}
	return memtable.AppendDelta(nil, w.dim, w.table.Snapshot().Delta(w.epoch, w.log.Snapshot().Version, after)), nil
}

func (w *testWriter) Forward(ctx *fasthttp.RequestCtx) error {
	ctx.SetStatusCode(fasthttp.StatusTeapot)
	return nil
}

func (w *testWriter) apply(ops ...memtable.Op) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range ops {
		w.seq++
		ops[i].Seq = w.seq
		w.rows[ops[i].ID] = ops[i]
		if ops[i].Delete {
			delete(w.rows, ops[i].ID)
		}
	}
	w.table.Apply(ops)
}

func (w *testWriter) upsert(id string, vector []float32, metadata string) {
	op := memtable.Op{ID: id, Vector: vector}
	if metadata != "" {
		op.Metadata = []byte(metadata)
	}
	w.apply(op)
}

func (w *testWriter) delete(id string) { w.apply(memtable.Op{ID: id, Delete: true}) }

// flush moves the memtable to a segment, as the real writer does: delete
// vectors for what it supersedes, in the same commit.
func (w *testWriter) flush() {
	w.t.Helper()
	ctx := w.t.Context()
	w.mu.Lock()
	defer w.mu.Unlock()
	snap := w.table.Snapshot()
	view, err := segments.OpenView(ctx, blob.Direct(w.store), w.log.Snapshot(), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	rows := &segments.Rows{}
	var ids []string
	snap.Newest(0, func(op memtable.Op) bool {
		ids = append(ids, op.ID)
		if !op.Delete {
			rows.Append(columns.Row{ID: op.ID, Vector: op.Vector, Metadata: op.Metadata, Seq: op.Seq})
		}
		return true
	})
	gone, err := view.Superseded(ctx, ids)
	if err != nil {
		w.t.Fatal(err)
	}
	w.commit(func(next *manifest.Snapshot) {
		for i, rows := range gone {
			if rows != nil {
				w.markDeleted(ctx, &next.Segments[i], view.Segments[i].Deleted, rows)
			}
		}
		if rows.Len() > 0 {
			next.Segments = append(next.Segments, w.build(ctx, rows))
			next.Quantizers = w.quantizers
		}
		next.FlushedSeq = snap.Last()
	})
	w.table = memtable.New(w.dim, snap.Last())
}

// compact merges all segments into one.
func (w *testWriter) compact() {
	w.t.Helper()
	ctx := w.t.Context()
	w.mu.Lock()
	defer w.mu.Unlock()
	view, err := segments.OpenView(ctx, blob.Direct(w.store), w.log.Snapshot(), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	rows := &segments.Rows{}
	for _, seg := range view.Segments {
		err := seg.Scan(ctx, 0, seg.Rows(), columns.ProjectAll, func(first uint32, batch []columns.Row) error {
			for i, row := range batch {
				if seg.Deleted == nil || !seg.Deleted.Contains(first+uint32(i)) {
					row.Vector, row.Metadata = slices.Clone(row.Vector), slices.Clone(row.Metadata)
					rows.Append(row)
				}
			}
			return nil
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
	w.commit(func(next *manifest.Snapshot) {
		next.Segments = nil
		if rows.Len() > 0 {
			next.Segments = []manifest.Segment{w.build(ctx, rows)}
			next.Quantizers = w.quantizers
		}
	})
}

func (w *testWriter) commit(edit func(*manifest.Snapshot)) {
	w.t.Helper()
	if _, err := w.log.Commit(w.t.Context(), func(next *manifest.Snapshot) error { edit(next); return nil }); err != nil {
		w.t.Fatal(err)
	}
}

func (w *testWriter) markDeleted(ctx context.Context, seg *manifest.Segment, old, more *roaring.Bitmap) {
	w.t.Helper()
	all := more
	if old != nil {
		all = roaring.Or(old, more)
	}
	d, err := segments.PutDeletes(ctx, w.store, manifest.DeletesKey(w.log.Snapshot().Collection.ID, seg.ID, fmt.Sprint(w.seq)), all)
	if err != nil {
		w.t.Fatal(err)
	}
	seg.Deletes = d
}

func (w *testWriter) build(ctx context.Context, rows *segments.Rows) manifest.Segment {
	w.t.Helper()
	b, err := segments.Build(ctx, segments.BuildConfig{Dim: w.dim, Metric: w.metric, Seed: 1, Dir: w.t.TempDir(), Index: ivfpq.Config{Kind: w.kind, Quantizer: w.shared}}, rows)
	if err != nil {
		w.t.Fatal(err)
	}
	defer b.Close()
	collection, version, quantizer := w.log.Snapshot().Collection.ID, w.log.Snapshot().Version, ""
	switch z := b.Quantizer(); {
	case z == nil:
	case w.shared != nil:
		quantizer = w.quantizers[0].ID
	default:
		w.shared, quantizer = z, fmt.Sprintf("Q%d", version)
		q, err := segments.PutQuantizer(ctx, w.store, collection, quantizer, z)
		if err != nil {
			w.t.Fatal(err)
		}
		w.quantizers = append(w.quantizers, q)
	}
	id := fmt.Sprintf("S%d", version)
	if collection != "ID1" {
		id = collection + "-" + id // ids of segments are unique in a store
	}
	seg, err := b.Upload(ctx, w.store, collection, id, quantizer)
	if err != nil {
		w.t.Fatal(err)
	}
	return seg
}

// nearest is the oracle: the k best of the rows keep allows, ties by id.
func (w *testWriter) nearest(q []float32, k int, keep func(memtable.Op) bool) []hit {
	var all []hit
	for _, op := range w.rows {
		if keep == nil || keep(op) {
			all = append(all, hit{id: op.ID, distance: scoreOf(w.metric, q, op.Vector)})
		}
	}
	slices.SortFunc(all, func(a, b hit) int {
		order := cmp.Compare(a.distance, b.distance)
		if w.metric != ivfpq.L2 {
			order = -order
		}
		return cmp.Or(order, strings.Compare(a.id, b.id))
	})
	return all[:min(k, len(all))]
}

// scoreOf is ivfpq.Score; here distance holds a score.
func scoreOf(m ivfpq.Metric, q, v []float32) float32 { return ivfpq.Score(m, q, v) }

// clusters draws vectors around a few centres, as real embeddings lie.
type clusters struct {
	rng     *rand.Rand
	centres [][]float32
}

func newClusters(rng *rand.Rand, count, dim int) *clusters {
	c := &clusters{rng: rng}
	for range count {
		c.centres = append(c.centres, normal(rng, dim, 3))
	}
	return c
}

func normal(rng *rand.Rand, dim int, scale float64) []float32 {
	v := make([]float32, dim)
	for i := range v {
		v[i] = float32(rng.NormFloat64() * scale)
	}
	return v
}

func (c *clusters) draw() []float32 {
	v := slices.Clone(c.centres[c.rng.IntN(len(c.centres))])
	for i := range v {
		v[i] += float32(c.rng.NormFloat64())
	}
	return v
}
