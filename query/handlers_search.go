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

// Result is one result of a search.
type Result struct {
	ID       string         `json:"id"`
	Score    float32        `json:"score"`
	Metadata jsontext.Value `json:"metadata,omitempty"`
	Vector   httpapi.Vector `json:"vector,omitempty"`
	Version  uint64         `json:"version,omitzero"`
}

// Group is the best results of one group.
type Group struct {
	Value   jsontext.Value `json:"group"`
	Results []Result       `json:"results"`
}

// SearchResponse answers one search: with results, or, where group_by was given, with groups.
type SearchResponse struct {
	Results         []Result `json:"results,omitzero"`
	Groups          []Group  `json:"groups,omitzero"`
	TookMs          float64  `json:"took_ms"`
	ManifestVersion uint64   `json:"manifest_version"`
	Usage           usage    `json:"usage"`
	Explain         []stage  `json:"explain,omitempty"`
}

// Search answers one search of a collection, given by its name or id. Errors
// are *httpapi.Error where the client is to be told something.
func (s *Service) Search(ctx context.Context, collection string, req *SearchRequest) (*SearchResponse, Served, error) {
	a, err := s.parse(req)
	if err != nil {
		return nil, Served{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	ctx = withBudget(ctx, []ask{a})
	var resp *SearchResponse
	served, err := s.on(ctx, collection, a.freshness, func(ctx context.Context, r *replica, st *state) error {
		answers, err := s.answer(ctx, r, st, []ask{a}, func(int) string { return "vector" })
		if err == nil {
			resp = &answers[0]
		}
		return err
	})
	return resp, served, err
}

// maxBatchResults bounds the results of one batch together: they are all held in
// memory until the last is there.
const maxBatchResults = 100_000

func (s *Service) searchBatch(ctx *fasthttp.RequestCtx) error {
	var req struct {
		Searches httpapi.List[SearchRequest] `json:"searches"`
	}
	req.Searches.Most = s.cfg.Limits.Searches
	name, err := readBody(ctx, &req)
	if err != nil {
		return err
	}
	if err := s.checkBatch(req.Searches.Count); err != nil {
		return err
	}
	responses, served, err := s.SearchBatch(httpapi.Context(ctx), name, req.Searches.Items)
	return answerJSON(ctx, struct {
		Responses []SearchResponse `json:"responses"`
	}{responses}, served, err)
}

func (s *Service) checkBatch(searches int) error {
	if searches < 1 || searches > s.cfg.Limits.Searches {
		return httpapi.Unprocessable("out_of_range", "searches", "searches has %d entries, want 1 to %d", searches, s.cfg.Limits.Searches)
	}
	return nil
}

// SearchBatch answers searches of a collection on one state of it, in order.
// Errors name the search they are about.
func (s *Service) SearchBatch(ctx context.Context, collection string, reqs []SearchRequest) ([]SearchResponse, Served, error) {
	asks, want, timeout, err := s.parseBatch(reqs)
	if err != nil {
		return nil, Served{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	ctx = withBudget(ctx, asks)
	responses := make([]SearchResponse, len(asks))
	served, err := s.on(ctx, collection, want, func(ctx context.Context, r *replica, st *state) error {
		g, ctx := errgroup.WithContext(ctx)
		share := (len(asks) + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0)
		for first := 0; first < len(asks); first += share {
			part := asks[first:min(first+share, len(asks))]
			g.Go(func() error {
				answers, err := s.answer(ctx, r, st, part, func(i int) string { return fmt.Sprintf("searches[%d].vector", first+i) })
				copy(responses[first:], answers)
				return err
			})
		}
		return g.Wait()
	})
	return responses, served, err
}

// parseBatch parses searches that are answered together, on a state as fresh as
// the strictest of them wants, in the time the most patient allows.
func (s *Service) parseBatch(reqs []SearchRequest) (asks []ask, want Freshness, timeout time.Duration, err error) {
	if err := s.checkBatch(len(reqs)); err != nil {
		return nil, want, 0, err
	}
	asks, want = make([]ask, len(reqs)), Freshness{Consistency: Eventual}
	results := 0
	for i := range reqs {
		if asks[i], err = s.parse(&reqs[i]); err != nil {
			return nil, want, 0, below(fmt.Sprintf("searches[%d]", i), err)
		}
		if f := asks[i].freshness; i > 0 && !sameMoment(f.AsOf, asks[0].freshness.AsOf) {
			return nil, want, 0, httpapi.Unprocessable("mixed_as_of", fmt.Sprintf("searches[%d].as_of", i), "searches[%d].as_of differs from that of searches[0]: a batch is of one version", i)
		}
		want = strictest(want, asks[i].freshness)
		timeout = max(timeout, asks[i].timeout)
		if results += asks[i].rows(); results > maxBatchResults {
			return nil, want, 0, httpapi.Unprocessable("out_of_range", "searches", "searches ask for more than %d results together", maxBatchResults).
				WithHint("lower k, or send several batches")
		}
	}
	return asks, want, timeout, nil
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
	a.AsOf = b.AsOf // all are the same
	return a
}

func sameMoment(a, b *moment) bool { return a == nil && b == nil || a != nil && b != nil && *a == *b }

// answer runs searches together on a state. What is read from the store for one
// of them counts for all. field names the vector of a search.
func (s *Service) answer(ctx context.Context, r *replica, st *state, asks []ask, field func(i int) string) ([]SearchResponse, error) {
	s.searching.Add(1)
	defer s.searching.Add(-1)
	began := s.cfg.Now()
	var used cache.Usage
	ctx = cache.WithUsage(ctx, &used)
	searches := make([]search, len(asks))
	for i := range asks {
		if err := s.resolveVector(ctx, st, &asks[i], field(i)); err != nil {
			return nil, err
		}
		asks[i].cold = r.waited()
		searches[i] = asks[i].first()
	}
	find := func(ctx context.Context, searches []search) ([][]hit, []*run, error) {
		return s.searchPods(ctx, st, searches, &used)
	}
	hits, runs, err := find(ctx, searches)
	if err != nil {
		return nil, err
	}
	grouped := make([][]*group, len(asks))
	for i := range asks {
		if asks[i].group == nil {
			continue
		}
		if grouped[i], err = asks[i].groupSearch(ctx, find, hits[i], runs[i]); err != nil {
			return nil, err
		}
	}
	took := s.cfg.Now().Sub(began)
	tier := tierOf(&used)
	r.searched(tier)
	out := make([]SearchResponse, len(asks))
	for i := range asks {
		u := runs[i].usage
		u.reads, u.HitRatio, u.Cache = readsOf(&used), used.HitRatio(), tier
		s.searches.Observe(string(tier), asks[i].mode(), took)
		out[i] = respond(&asks[i], runs[i], u, took)
		s.live.consider(st, &asks[i], runs[i], hits[i])
		if asks[i].group == nil {
			out[i].Results = results(&asks[i], runs[i].metric, hits[i])
			continue
		}
		out[i].Groups = make([]Group, len(grouped[i]))
		for j, g := range grouped[i] {
			out[i].Groups[j] = Group{g.value, results(&asks[i], runs[i].metric, g.hits)}
		}
	}
	return out, nil
}

// respond is the answer to one search, but for what was found.
func respond(a *ask, run *run, u usage, took time.Duration) SearchResponse {
	resp := SearchResponse{
		Usage: u, ManifestVersion: run.st.snapshot().Version,
		TookMs: math.Round(float64(took.Microseconds())) / 1000,
	}
	if a.explain {
		resp.Explain = run.stages
	}
	return resp
}

// results are hits as the client asked to see them.
func results(a *ask, metric ivfpq.Metric, hits []hit) []Result {
	out := make([]Result, len(hits))
	for i, h := range hits {
		out[i] = Result{ID: h.id, Score: metric.ScoreOf(h.distance)}
		if a.want.metadata {
			out[i].Metadata = jsonOrNull(h.metadata)
		}
		if a.want.vector {
			out[i].Vector = h.vector
		}
		if a.want.version {
			out[i].Version = h.version
		}
	}
	return out
}

// tierOf says where a search found its data: hot when all of it was in memory,
// cold when the store was waited for.
func tierOf(u *cache.Usage) info.Tier {
	switch {
	case u.StoreGets.Load() > 0 || u.Joined.Load() > 0:
		return info.Cold
	case u.DiskHits.Load() > 0:
		return info.Warm
	}
	return info.Hot
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
func (s *Service) resolveVector(ctx context.Context, st *state, a *ask, field string) error {
	c := st.collection()
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
