package query

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/valyala/fasthttp"
	"golang.org/x/sync/errgroup"

	"github.com/akidb/akidb/cache"
	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/internal/info"
	"github.com/akidb/akidb/segments/ivfpq"
)

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
	var req searchRequest
	name, err := readBody(ctx, &req)
	if err != nil {
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

// maxBatchResults bounds the results of one batch together: they are all held in
// memory until the last is there.
const maxBatchResults = 100_000

func (s *Service) searchBatch(ctx *fasthttp.RequestCtx) error {
	var req struct {
		Searches httpapi.List[searchRequest] `json:"searches"`
	}
	req.Searches.Most = s.cfg.Limits.Searches
	name, err := readBody(ctx, &req)
	if err != nil {
		return err
	}
	if n := req.Searches.Count; n < 1 || n > s.cfg.Limits.Searches {
		return httpapi.Unprocessable("out_of_range", "searches", "searches has %d entries, want 1 to %d", n, s.cfg.Limits.Searches)
	}
	asks := make([]ask, len(req.Searches.Items))
	want, timeout, results := Freshness{Consistency: Eventual}, time.Duration(0), 0
	for i := range req.Searches.Items {
		if asks[i], err = s.parse(&req.Searches.Items[i]); err != nil {
			return below(fmt.Sprintf("searches[%d]", i), err)
		}
		want = strictest(want, asks[i].freshness)
		timeout = max(timeout, asks[i].timeout)
		if results += asks[i].k; results > maxBatchResults {
			return httpapi.Unprocessable("out_of_range", "searches", "searches ask for more than %d results together", maxBatchResults).
				WithHint("lower k, or send several batches")
		}
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
	s.searches.Observe(string(u.Cache), a.mode(), took)
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
func tierOf(u *cache.Usage) info.Tier {
	if u.StoreGets.Load() == 0 && u.Joined.Load() == 0 {
		return info.Hot
	}
	return info.Cold
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
	if c.Metric == ivfpq.Cosine.String() && !slices.ContainsFunc(a.vector, func(x float32) bool { return x != 0 }) {
		return httpapi.Unprocessable("zero_vector", field, "%s is all zeros and has no direction; collection %q compares by cosine", field, c.Name)
	}
	return nil
}
