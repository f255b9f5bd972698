package query

import (
	"context"
	"math"
	"time"

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
	Segments     int       `json:"segments"`
	ListsProbed  int       `json:"lists_probed"`
	CodesScanned int       `json:"codes_scanned"`
	Reranked     int       `json:"reranked"` // rows scored in float32
	StoreGets    int64     `json:"store_gets"`
	StoreBytes   int64     `json:"store_bytes"`
	Rounds       int64     `json:"rounds"`          // waits for the store, one after the other
	HitRatio     float64   `json:"cache_hit_ratio"` // of bytes asked for, 1 when none were
	Cache        info.Tier `json:"cache"`           // hot: nothing came from the store
}

// stage is one line of an explanation.
type stage struct {
	Name   string  `json:"name"`
	TookMs float64 `json:"took_ms"`
	Rounds int64   `json:"rounds"` // of the searches that were answered together
	Detail string  `json:"detail,omitempty"`
}

// run is one search under way on one state.
type run struct {
	service *Service
	st      *state
	search  search
	metric  ivfpq.Metric
	usage   usage
	stages  []stage
	began   time.Time // of the current stage
	used    *cache.Usage
	rounds  int64 // of used, before the current stage
	best    best
	held    []*cache.Held[*segments.Resident] // by segment; nil for those that are not in memory
}

// searchAll answers searches on st: at most k hits for each in order, with ids,
// and metadata and vectors where asked for. Those that go through lists go
// through them together.
func (s *Service) searchAll(ctx context.Context, st *state, searches []search) ([][]hit, []*run, error) {
	metric, err := ivfpq.ParseMetric(st.collection().Metric)
	if err != nil {
		return nil, nil, err
	}
	runs, through := make([]*run, len(searches)), make([]*listSearch, len(searches))
	for i, q := range searches {
		r := &run{service: s, st: st, search: q, metric: metric, best: best{k: q.k, within: q.within(metric)}, began: s.cfg.Now(), used: cache.UsageOf(ctx)}
		defer r.release()
		if through[i], err = r.begin(ctx); through[i] != nil {
			defer through[i].release()
		}
		if err != nil {
			return nil, nil, err
		}
		runs[i] = r
	}
	if err := scanLists(ctx, through); err != nil {
		return nil, nil, err
	}
	hits := make([][]hit, len(searches))
	for i, l := range through {
		if err := l.finalists(ctx); err != nil {
			return nil, nil, err
		}
		if hits[i], err = runs[i].finish(ctx); err != nil {
			return nil, nil, err
		}
	}
	return hits, runs, nil
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
	r.stage("plan", explainPlan(exact, approximate))
	for _, p := range exact {
		if err := r.scanExact(ctx, p); err != nil {
			return nil, err
		}
	}
	r.stage("exact", "")
	return r.beginLists(approximate)
}

// stage closes a stage of the explanation.
func (r *run) stage(name, detail string) {
	now, rounds := r.service.cfg.Now(), int64(0)
	if r.used != nil {
		rounds = r.used.Rounds.Load()
	}
	r.stages = append(r.stages, stage{name, float64(now.Sub(r.began).Microseconds()) / 1000, rounds - r.rounds, detail})
	r.began, r.rounds = now, rounds
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

// exactRows is up to how many matching rows a filtered search scores them all:
// below it the lists that hold them cost more than they save.
const exactRows = 2048

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

// finish reads what the answer needs of the best hits and puts them in order.
func (r *run) finish(ctx context.Context) ([]hit, error) {
	r.best.prune()
	hits := r.best.hits
	if err := r.identify(ctx, hits); err != nil {
		return nil, err
	}
	sortHits(hits)
	hits = hits[:min(len(hits), r.search.k)]
	if err := r.fill(ctx, hits); err != nil {
		return nil, err
	}
	r.stage("rows", "")
	return hits, nil
}

// identify gives the stored hits their ids.
func (r *run) identify(ctx context.Context, hits []hit) error {
	var at []segments.Location
	var rest []int // positions of hits whose ids have to be read
	for i := range hits {
		h := &hits[i]
		switch {
		case h.tail:
		case r.resident(h.at.Segment) != nil:
			h.id = r.resident(h.at.Segment).ID(h.at.Ordinal)
		default:
			at, rest = append(at, h.at), append(rest, i)
		}
	}
	ids, err := r.st.view.IDs(ctx, at)
	if err != nil {
		return err
	}
	for i, pos := range rest {
		hits[pos].id = ids[i]
	}
	return nil
}

// inSegments returns where the hits lie that are not in the tail, and which
// they are.
func inSegments(hits []hit) (at []segments.Location, positions []int) {
	for i, h := range hits {
		if !h.tail {
			at = append(at, h.at)
			positions = append(positions, i)
		}
	}
	return at, positions
}

// fill adds what is wanted of the stored hits of an answer.
func (r *run) fill(ctx context.Context, hits []hit) error {
	at, stored := inSegments(hits)
	rows, err := r.st.readColumns(ctx, at, r.search.want)
	if err != nil {
		return err
	}
	for i, pos := range stored {
		hits[pos].metadata, hits[pos].vector, hits[pos].version = rows[i].metadata, rows[i].vector, rows[i].version
	}
	return nil
}
