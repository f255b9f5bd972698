package query

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/valyala/fasthttp"
	"golang.org/x/sync/errgroup"

	"github.com/akidb/akidb/cache"
	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/segments/blob"
)

// Register adds the routes that read.
func (s *Service) Register(r *httpapi.Router) {
	r.Handle(fasthttp.MethodGet, "/collections", s.listCollections)
	r.Handle(fasthttp.MethodGet, "/collections/{c}", s.getCollection)
	r.Handle(fasthttp.MethodGet, "/collections/{c}/vectors/{id}", s.getVector)
	r.Handle(fasthttp.MethodPost, "/collections/{c}/vectors/scroll", s.scrollVectors)
	r.Handle(fasthttp.MethodPost, "/collections/{c}/vectors/count", s.countVectors)
	r.Handle(fasthttp.MethodPost, "/collections/{c}/search", s.searchOne)
	r.Handle(fasthttp.MethodPost, "/collections/{c}/search/batch", s.searchBatch)
}

// RegisterForwards adds the routes that write; they are the writer's to answer.
func (s *Service) RegisterForwards(r *httpapi.Router) {
	for _, route := range []struct{ method, path string }{
		{fasthttp.MethodPost, "/collections"},
		{fasthttp.MethodDelete, "/collections/{c}"},
		{fasthttp.MethodPost, "/collections/{c}/vectors"},
		{fasthttp.MethodPatch, "/collections/{c}/vectors/{id}"},
		{fasthttp.MethodDelete, "/collections/{c}/vectors/{id}"},
		{fasthttp.MethodPost, "/collections/{c}/vectors/delete"},
		{fasthttp.MethodPost, "/admin/collections/{c}/flush"},
		{fasthttp.MethodPost, "/admin/collections/{c}/compact"},
	} {
		r.Handle(route.method, route.path, func(ctx *fasthttp.RequestCtx) error {
			if s.cfg.Writer == nil {
				err := noWriter("a write")
				var known *httpapi.Error
				if errors.As(err, &known) {
					return known.WithApplied(httpapi.NotApplied)
				}
				return err
			}
			return s.cfg.Writer.Forward(ctx)
		})
	}
}

// on runs fn on a state of collection nameOrID that is as fresh as asked for,
// and says in the response what that was. A collection that was dropped and
// made anew under its name is found again; an object that vanished under a
// state that was just replaced makes fn run once more, on the next.
func (s *Service) on(ctx context.Context, resp *fasthttp.RequestCtx, nameOrID string, want Freshness, fn func(ctx context.Context, r *replica, st *state) error) error {
	for attempt := 0; ; attempt++ {
		r, err := s.catalog.find(ctx, nameOrID)
		if err != nil {
			return asHTTP(err)
		}
		st, served, err := r.acquire(ctx, want)
		if err == nil {
			setFreshness(resp, st, served)
			err = fn(ctx, r, st)
		}
		switch {
		case errors.Is(err, errGone):
			s.catalog.forget(r.id)
			if attempt == 0 {
				continue
			}
			return noSuchCollection(nameOrID)
		case errors.Is(err, blob.ErrNotFound) && attempt == 0:
			if err := r.refreshManifest(ctx); err != nil && !errors.Is(err, errGone) {
				return asHTTP(err)
			}
			continue
		}
		return asHTTP(err)
	}
}

func setFreshness(ctx *fasthttp.RequestCtx, st *state, served Served) {
	h := &ctx.Response.Header
	h.Set(httpapi.HeaderConsistency, string(served.Consistency))
	h.Set(httpapi.HeaderStalenessMs, strconv.FormatInt(served.Staleness.Milliseconds(), 10))
	h.Set(httpapi.HeaderManifestVersion, strconv.FormatUint(st.snapshot().Version, 10))
}

// collectionInfo is a collection as clients see it.
type collectionInfo struct {
	ID              string    `json:"collection_id"`
	Name            string    `json:"name"`
	Dimension       int       `json:"dimension"`
	Metric          string    `json:"metric"`
	VectorCount     uint64    `json:"vector_count"`
	UnindexedCount  uint64    `json:"unindexed_count"` // rows not in a segment yet
	SegmentCount    int       `json:"segment_count"`
	SizeBytes       int64     `json:"size_bytes"` // in the object store
	Tier            string    `json:"tier"`       // hot: the last search read nothing from the store
	ManifestVersion uint64    `json:"manifest_version"`
	Seq             uint64    `json:"seq"`
	CreatedAt       time.Time `json:"created_at"`
}

func (r *replica) info(st *state) collectionInfo {
	c, snap := st.collection(), st.snapshot()
	return collectionInfo{
		ID: c.ID, Name: c.Name, Dimension: c.Dimension, Metric: c.Metric, CreatedAt: c.CreatedAt,
		VectorCount: st.rowCount(), UnindexedCount: uint64(len(st.tailRows(nil))),
		SegmentCount: len(snap.Segments), SizeBytes: snap.Bytes(), Tier: r.tier(),
		ManifestVersion: snap.Version, Seq: st.seq(),
	}
}

func (s *Service) listCollections(ctx *fasthttp.RequestCtx) error {
	c := httpapi.Context(ctx)
	all, err := s.catalog.all(c)
	if err != nil {
		return asHTTP(err)
	}
	infos := make([]collectionInfo, 0, len(all))
	for _, r := range all {
		st, _, err := r.acquire(c, Freshness{Consistency: Latest})
		if errors.Is(err, errGone) {
			s.catalog.forget(r.id)
			continue
		}
		if err != nil {
			return asHTTP(err)
		}
		infos = append(infos, r.info(st))
	}
	return httpapi.WriteJSON(ctx, fasthttp.StatusOK, struct {
		Collections []collectionInfo `json:"collections"`
	}{infos})
}

// queryFreshness reads consistency and token from the query string, where
// requests without a body carry them.
func queryFreshness(ctx *fasthttp.RequestCtx) (Freshness, error) {
	var consistency, token *string
	args := ctx.QueryArgs()
	if args.Has("consistency") {
		v := string(args.Peek("consistency"))
		consistency = &v
	}
	if args.Has("token") {
		v := string(args.Peek("token"))
		token = &v
	}
	return parseFreshness(consistency, token)
}

func (s *Service) getCollection(ctx *fasthttp.RequestCtx) error {
	name, err := httpapi.Param(ctx, "c")
	if err != nil {
		return err
	}
	want, err := queryFreshness(ctx)
	if err != nil {
		return err
	}
	return s.on(httpapi.Context(ctx), ctx, name, want, func(_ context.Context, r *replica, st *state) error {
		return httpapi.WriteJSON(ctx, fasthttp.StatusOK, r.info(st))
	})
}

// vectorJSON is a stored row as clients see it.
type vectorJSON struct {
	ID       string         `json:"id"`
	Vector   httpapi.Vector `json:"vector,omitempty"`
	Metadata jsontext.Value `json:"metadata,omitempty"`
}

func (s *Service) getVector(ctx *fasthttp.RequestCtx) error {
	name, err := httpapi.Param(ctx, "c")
	if err != nil {
		return err
	}
	id, err := httpapi.Param(ctx, "id")
	if err != nil {
		return err
	}
	want, err := queryFreshness(ctx)
	if err != nil {
		return err
	}
	return s.on(httpapi.Context(ctx), ctx, name, want, func(c context.Context, _ *replica, st *state) error {
		got, ok, err := st.get(c, id)
		if err != nil {
			return err
		}
		if !ok {
			return noSuchVector(st.collection().Name, id)
		}
		return httpapi.WriteJSON(ctx, fasthttp.StatusOK, struct {
			ID       string         `json:"id"`
			Vector   httpapi.Vector `json:"vector"`
			Metadata jsontext.Value `json:"metadata"`
		}{got.id, got.vector, jsonOrNull(got.metadata)})
	})
}

func jsonOrNull(b []byte) jsontext.Value {
	if b == nil {
		return jsontext.Value("null")
	}
	return b
}

func (s *Service) scrollVectors(ctx *fasthttp.RequestCtx) error {
	name, err := httpapi.Param(ctx, "c")
	if err != nil {
		return err
	}
	var req scrollRequest
	if err := httpapi.ReadJSON(ctx, &req); err != nil {
		return err
	}
	limit := defaultScrollLimit
	if req.Limit != nil {
		limit = *req.Limit
	}
	if limit < 1 || limit > s.cfg.Limits.BatchRows {
		return httpapi.Unprocessable("out_of_range", "limit", "limit is %d, want 1 to %d", limit, s.cfg.Limits.BatchRows)
	}
	after := ""
	if req.Cursor != nil {
		if after, err = decodeCursor(*req.Cursor); err != nil {
			return err
		}
	}
	withMetadata, withVector, err := parseInclude(req.Include)
	if err != nil {
		return err
	}
	f, err := s.parseFilter(req.Filter)
	if err != nil {
		return err
	}
	want, err := parseFreshness(req.Consistency, req.Token)
	if err != nil {
		return err
	}
	return s.on(httpapi.Context(ctx), ctx, name, want, func(c context.Context, _ *replica, st *state) error {
		rows, more, err := s.scroll(c, st, f, after, limit, withMetadata, withVector)
		if err != nil {
			return err
		}
		out := struct {
			Vectors []vectorJSON `json:"vectors"`
			Next    *string      `json:"next_cursor"`
		}{Vectors: make([]vectorJSON, len(rows))}
		for i, r := range rows {
			out.Vectors[i].ID = r.id
			if withVector {
				out.Vectors[i].Vector = r.vector
			}
			if withMetadata {
				out.Vectors[i].Metadata = jsonOrNull(r.metadata)
			}
		}
		if more {
			next := encodeCursor(rows[len(rows)-1].id)
			out.Next = &next
		}
		return httpapi.WriteJSON(ctx, fasthttp.StatusOK, out)
	})
}

func (s *Service) countVectors(ctx *fasthttp.RequestCtx) error {
	name, err := httpapi.Param(ctx, "c")
	if err != nil {
		return err
	}
	var req countRequest
	if err := httpapi.ReadJSON(ctx, &req); err != nil {
		return err
	}
	f, err := s.parseFilter(req.Filter)
	if err != nil {
		return err
	}
	want, err := parseFreshness(req.Consistency, req.Token)
	if err != nil {
		return err
	}
	return s.on(httpapi.Context(ctx), ctx, name, want, func(c context.Context, _ *replica, st *state) error {
		n, err := s.count(c, st, f)
		if err != nil {
			return err
		}
		return httpapi.WriteJSON(ctx, fasthttp.StatusOK, struct {
			Count uint64 `json:"count"`
		}{n})
	})
}

// resultJSON is one result of a search.
type resultJSON struct {
	ID       string         `json:"id"`
	Score    float32        `json:"score"`
	Metadata jsontext.Value `json:"metadata,omitempty"`
	Vector   httpapi.Vector `json:"vector,omitempty"`
}

// searchResponse answers one search.
type searchResponse struct {
	Results         []resultJSON `json:"results"`
	TookMs          float64      `json:"took_ms"`
	ManifestVersion uint64       `json:"manifest_version"`
	Usage           usage        `json:"usage"`
	Explain         []stage      `json:"explain,omitempty"`
}

func (s *Service) searchOne(ctx *fasthttp.RequestCtx) error {
	name, err := httpapi.Param(ctx, "c")
	if err != nil {
		return err
	}
	var req searchRequest
	if err := httpapi.ReadJSON(ctx, &req); err != nil {
		return err
	}
	a, err := s.parse(&req)
	if err != nil {
		return err
	}
	c, cancel := context.WithTimeout(httpapi.Context(ctx), a.timeout)
	defer cancel()
	return s.on(c, ctx, name, a.freshness, func(c context.Context, r *replica, st *state) error {
		resp, err := s.answer(c, r, st, a, "")
		if err != nil {
			return err
		}
		return httpapi.WriteJSON(ctx, fasthttp.StatusOK, resp)
	})
}

func (s *Service) searchBatch(ctx *fasthttp.RequestCtx) error {
	name, err := httpapi.Param(ctx, "c")
	if err != nil {
		return err
	}
	var req struct {
		Searches []searchRequest `json:"searches"`
	}
	if err := httpapi.ReadJSON(ctx, &req); err != nil {
		return err
	}
	if n := len(req.Searches); n < 1 || n > s.cfg.Limits.Searches {
		return httpapi.Unprocessable("out_of_range", "searches", "searches has %d entries, want 1 to %d", n, s.cfg.Limits.Searches)
	}
	asks := make([]ask, len(req.Searches))
	want, timeout := Freshness{Consistency: Eventual}, time.Duration(0)
	for i := range req.Searches {
		if asks[i], err = s.parse(&req.Searches[i]); err != nil {
			return below(fmt.Sprintf("searches[%d]", i), err)
		}
		want = strictest(want, asks[i].freshness)
		timeout = max(timeout, asks[i].timeout)
	}
	c, cancel := context.WithTimeout(httpapi.Context(ctx), timeout)
	defer cancel()
	return s.on(c, ctx, name, want, func(c context.Context, r *replica, st *state) error {
		out := struct {
			Responses []searchResponse `json:"responses"`
		}{make([]searchResponse, len(asks))}
		g, c := errgroup.WithContext(c)
		g.SetLimit(runtime.GOMAXPROCS(0))
		for i, a := range asks {
			g.Go(func() (err error) {
				prefix := fmt.Sprintf("searches[%d]", i)
				out.Responses[i], err = s.answer(c, r, st, a, prefix)
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		return httpapi.WriteJSON(ctx, fasthttp.StatusOK, out)
	})
}

// below puts an error's field below prefix.
func below(prefix string, err error) error {
	var known *httpapi.Error
	if errors.As(err, &known) {
		return known.WithFieldPrefix(prefix)
	}
	return err
}

// strictest is what satisfies both. Of two tokens the later write is wanted.
func strictest(a, b Freshness) Freshness {
	rank := map[Consistency]int{Eventual: 0, Latest: 1, Strong: 2}
	if rank[b.Consistency] > rank[a.Consistency] {
		a.Consistency = b.Consistency
	}
	if b.Token != nil && (a.Token == nil || b.Token.Seq > a.Token.Seq) {
		a.Token = b.Token
	}
	return a
}

// answer runs one search on a state.
func (s *Service) answer(ctx context.Context, r *replica, st *state, a ask, prefix string) (searchResponse, error) {
	began := s.cfg.Now()
	var used cache.Usage
	ctx = cache.WithUsage(ctx, &used)
	if err := s.resolveVector(ctx, st, &a, prefix); err != nil {
		return searchResponse{}, err
	}
	hits, run, err := s.search(ctx, st, a.search)
	if err != nil {
		return searchResponse{}, err
	}
	u := run.usage
	u.StoreGets, u.StoreBytes, u.HitRatio = used.StoreGets.Load(), used.StoreBytes.Load(), used.HitRatio()
	u.Cache = tierOf(&used)
	r.searched(u.Cache)
	took := s.cfg.Now().Sub(began)
	s.searches.Observe(u.Cache, a.mode(), took)
	resp := searchResponse{
		Results: make([]resultJSON, len(hits)), Usage: u, ManifestVersion: st.snapshot().Version,
		TookMs: math.Round(float64(took.Microseconds())) / 1000,
	}
	for i, h := range hits {
		res := resultJSON{ID: h.id, Score: run.metric.ScoreOf(h.distance)}
		if a.withMetadata {
			res.Metadata = jsonOrNull(h.metadata)
		}
		if a.withVector {
			res.Vector = h.vector
		}
		resp.Results[i] = res
	}
	if a.explain {
		resp.Explain = run.stages
	}
	return resp, nil
}

// tierOf says where a search found its data: hot when all of it was in memory.
func tierOf(u *cache.Usage) string {
	if u.StoreGets.Load() == 0 && u.Joined.Load() == 0 {
		return "hot"
	}
	return "cold"
}

func (a *ask) mode() string {
	switch {
	case a.exact:
		return "exact"
	case a.filter != nil:
		return "filtered"
	}
	return "approximate"
}

// resolveVector checks the vector against the collection, or takes the one of
// the row asked for by id.
func (s *Service) resolveVector(ctx context.Context, st *state, a *ask, prefix string) error {
	c := st.collection()
	field := "vector"
	if prefix != "" {
		field = prefix + ".vector"
	}
	if a.id != nil {
		got, ok, err := st.get(ctx, *a.id)
		if err != nil {
			return err
		}
		if !ok {
			return noSuchVector(c.Name, *a.id)
		}
		a.vector = got.vector
		return nil
	}
	if err := httpapi.CheckVector(field, a.vector, c.Dimension, c.Name); err != nil {
		return err
	}
	return nil
}
