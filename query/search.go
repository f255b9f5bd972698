package query

import (
	"context"
	"errors"
	"iter"
	"math"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/akidb/akidb/cache"
	"github.com/akidb/akidb/internal/info"
	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/ivfpq"
)

// search is one search, parsed and checked.
type search struct {
	vector       []float32
	k            int
	spare        int     // how many of the k are not the client's: no recall is planned for them
	filter       *filter // nil for none
	exact        bool
	targetRecall float32
	nprobe       int      // 0: chosen by targetRecall
	threshold    *float32 // the least score wanted, under l2 the greatest; nil for any
	want         included
	cold         bool // the search before this one waited for the store
}

// within is the greatest distance wanted.
func (q *search) within(metric ivfpq.Metric) float32 {
	if q.threshold == nil {
		return float32(math.Inf(1))
	}
	return metric.ScoreOf(*q.threshold) // which is its own inverse
}

// usage is what a search cost.
type usage struct {
	Segments     int `json:"segments"`
	ListsProbed  int `json:"lists_probed"`
	CodesScanned int `json:"codes_scanned"`
	Reranked     int `json:"reranked"` // rows scored in float32
	reads
	HitRatio float64   `json:"cache_hit_ratio"` // of bytes asked for, 1 when none were
	Cache    info.Tier `json:"cache"`           // hot: nothing came from the store
}

// stage is one line of an explanation. What was read is that of all searches
// that were answered together.
type stage struct {
	Name   string  `json:"name"`
	TookMs float64 `json:"took_ms"`
	reads
	Detail string `json:"detail,omitempty"`
}

// reads are reads of the store.
type reads struct {
	Rounds     int64 `json:"rounds"` // waits, one after the other
	StoreGets  int64 `json:"store_gets"`
	StoreBytes int64 `json:"store_bytes"`
}

func readsOf(u *cache.Usage) reads {
	if u == nil {
		return reads{}
	}
	return reads{u.Rounds.Load(), u.StoreGets.Load(), u.StoreBytes.Load()}
}

func (r reads) since(before reads) reads {
	return reads{r.Rounds - before.Rounds, r.StoreGets - before.StoreGets, r.StoreBytes - before.StoreBytes}
}

// run is one search under way on one state.
type run struct {
	service *Service
	st      *state
	search  search
	metric  ivfpq.Metric
	usage   usage
	stages  []stage
	began   time.Time    // of the current stage
	used    *cache.Usage // of all searches that are answered together; nil for none
	before  reads        // of used, before the current stage
	best    best
	exact   []part                            // segments whose rows are scored one and all
	held    []*cache.Held[*segments.Resident] // by segment; nil for those that are not in memory
}

// searchAll answers searches on st: at most k hits for each in order, with ids,
// and metadata and vectors where asked for. Those that go through lists go
// through them together.
//
// From the store that takes two rounds of reads: lists, with the vectors of
// segments that are scored one and all; then everything the answer may need of
// the rows that may be in it. More follow only where too few rows were found.
func (s *Service) searchAll(ctx context.Context, st *state, searches []search) ([][]hit, []*run, error) {
	metric, err := ivfpq.ParseMetric(st.collection().Metric)
	if err != nil {
		return nil, nil, err
	}
	runs, through := make([]*run, len(searches)), make([]*listSearch, len(searches))
	for i, q := range searches {
		r := &run{
			service: s, st: st, search: q, metric: metric, best: best{k: q.k, within: q.within(metric)},
			began: s.cfg.Now(), used: cache.UsageOf(ctx), before: readsOf(cache.UsageOf(ctx)),
		}
		defer r.release()
		if through[i], err = r.begin(ctx); through[i] != nil {
			defer through[i].release()
		}
		if err != nil {
			return nil, nil, err
		}
		runs[i] = r
	}
	if err := scan(ctx, runs, through); err != nil {
		return nil, nil, err
	}
	hits := make([][]hit, len(searches))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(finishParallel)
	for i, l := range through {
		finish := func() (err error) {
			hits[i], err = l.finish(ctx)
			return err
		}
		if runs[i].waits() && len(runs) > 1 {
			g.Go(finish)
		} else if err := finish(); err != nil {
			return nil, nil, errors.Join(err, g.Wait())
		}
	}
	return hits, runs, g.Wait()
}

// finishParallel is how many searches of a batch wait at once for the rows of
// their answers.
const finishParallel = 16

// waits says whether the search has waited for the store, or will have to.
func (r *run) waits() bool {
	return r.search.cold || r.used != nil && r.used.StoreGets.Load()+r.used.Joined.Load() > 0
}

// scan finds the candidates of every search, in lists and in the segments that
// are scored one and all. The two wait for the store at the same time.
func scan(ctx context.Context, runs []*run, through []*listSearch) error {
	exact := slices.DeleteFunc(slices.Clone(runs), func(r *run) bool { return len(r.exact) == 0 })
	if len(exact) == 0 {
		return scanLists(ctx, through)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return scanLists(ctx, through) })
	g.Go(func() error {
		for _, r := range exact {
			if err := r.scanExact(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	return g.Wait()
}

// hold takes hold of a segment that is in memory.
func (r *run) hold(segment int) *cache.Held[*segments.Resident] {
	if r.held == nil {
		r.held = make([]*cache.Held[*segments.Resident], len(r.st.view.Segments))
	}
	r.held[segment] = r.service.resident.get(r.st.view, segment)
	return r.held[segment]
}

// resident is a segment that is in memory and held, or nil.
func (r *run) resident(segment int) *segments.Resident {
	if r.held == nil || r.held[segment] == nil {
		return nil
	}
	return r.held[segment].Value
}

func (r *run) release() {
	for _, h := range r.held {
		if h != nil {
			h.Release()
		}
	}
}

// begin does what comes before the lists, and prepares the search of those.
func (r *run) begin(ctx context.Context) (*listSearch, error) {
	r.scanTail()
	r.stage("tail", "")
	exact, approximate, err := r.plan(ctx)
	if err != nil {
		return nil, err
	}
	r.exact = exact
	r.stage("plan", explainPlan(exact, approximate))
	return r.beginLists(approximate)
}

// stage closes a stage of the explanation.
func (r *run) stage(name, detail string) {
	now, used := r.service.cfg.Now(), readsOf(r.used)
	r.stages = append(r.stages, stage{name, float64(now.Sub(r.began).Microseconds()) / 1000, used.since(r.before), detail})
	r.began, r.before = now, used
}

// scanTail scores the rows that are not in the store yet, exactly.
func (r *run) scanTail() {
	var distances []float32
	dim := len(r.search.vector)
	for _, b := range r.st.tail.Blocks() {
		if cap(distances) < b.Count {
			distances = make([]float32, b.Count)
		}
		distances = distances[:b.Count]
		ivfpq.Distances(r.metric, r.search.vector, b.Vectors[:b.Count*dim], distances)
		for i, d := range distances {
			if !r.best.near(d) {
				continue
			}
			op, live := b.Live(i)
			if !live || r.search.filter != nil && !r.search.filter.Match(op.ID, op.Metadata) {
				continue
			}
			r.best.add(hit{distance: d, id: op.ID, tail: true, metadata: op.Metadata, vector: op.Vector, version: op.Seq})
		}
		r.usage.Reranked += b.Count
	}
}

// part is the work of one segment.
type part struct {
	segment int
	reader  *segments.Reader
	allowed rowSet // nil for all rows
	count   int    // allowed rows
}

// ordinals yields the allowed rows in order.
func (p part) ordinals() iter.Seq[uint32] {
	if p.allowed != nil {
		return slices.Values(p.allowed.ordinals())
	}
	return func(yield func(uint32) bool) {
		for o := range p.reader.Rows() {
			if !yield(o) {
				return
			}
		}
	}
}

// exactRows is up to how many matching rows a filtered search scores them all. A
// row costs about 0.8 µs when it is in memory; so many cost as much as the lists that
// a thousand rows of a million take, which is four times what a search without a
// filter does.
const exactRows = 512

// plan decides for every segment whether its rows are scored one and all, or
// found through the index. It goes by how many rows match, which the attributes
// tell exactly before a vector is read.
func (r *run) plan(ctx context.Context) (exact, approximate []part, err error) {
	allowed, err := r.service.allowed(ctx, r.st, r.search.filter)
	if err != nil {
		return nil, nil, err
	}
	for i, seg := range r.st.view.Segments {
		p := part{segment: i, reader: seg.Reader, allowed: allowed[i], count: int(seg.Rows())}
		if p.allowed != nil {
			p.count = p.allowed.count()
		}
		switch {
		case p.count == 0:
		case r.search.exact, p.reader.Kind() == ivfpq.Exact, r.search.filter != nil && p.count <= exactRows, p.count <= r.search.k:
			exact = append(exact, p)
		default:
			approximate = append(approximate, p)
		}
	}
	r.usage.Segments = len(exact) + len(approximate)
	return exact, approximate, nil
}
