package query

import (
	"context"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/akidb/akidb/cache"
	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/columns"
	"github.com/akidb/akidb/segments/ivfpq"
)

const (
	defaultRecallSample = 100
	maxRecallSample     = 1000
	// recallTogether is how many searches of a sample run together.
	recallTogether = 32
	// recallPause is how many rows are compared with a sample before searches get
	// the cores to themselves for a moment.
	recallPause = 1 << 15
	// recallRows is how many rows of the tail are compared at a time.
	recallRows = 1024
)

// RecallRequest is the body of POST …/recall. Nil fields were not given.
type RecallRequest struct {
	Sample       *int           `json:"sample"`
	K            *int           `json:"k"`
	Filter       jsontext.Value `json:"filter"`
	TargetRecall *float64       `json:"target_recall"`
	NProbe       *int           `json:"nprobe"`
	Consistency  *string        `json:"consistency"`
	Token        *string        `json:"token"`
	AsOf         jsontext.Value `json:"as_of"`
	TimeoutMs    *int           `json:"timeout_ms"`
}

// RecallResponse is what searches found of what they should have. Recalls are
// shares of the true nearest rows, from 0 to 1.
type RecallResponse struct {
	Recall float64 `json:"recall"` // the mean
	// Confidence is where the mean of all rows as queries lies, 19 times of 20.
	Confidence      [2]float64 `json:"confidence_95"`
	Min             float64    `json:"min"`
	P1              float64    `json:"p1"` // one query in a hundred has no more
	P5              float64    `json:"p5"`
	P50             float64    `json:"p50"`
	Sampled         int        `json:"sampled"`
	K               int        `json:"k"`
	TargetRecall    float64    `json:"target_recall"`
	TookMs          float64    `json:"took_ms"`
	ManifestVersion uint64     `json:"manifest_version"`
	Usage           usage      `json:"usage"` // of the searches of the sample together
}

// Recall searches for a sample of the rows there are, each without itself, as
// any search would, and compares with the exact answers. Those take one pass
// over the vectors for the whole sample.
func (s *Service) Recall(ctx context.Context, collection string, req *RecallRequest) (*RecallResponse, Served, error) {
	// A search by vector, which has yet to be drawn, is parsed the same way.
	a, err := s.parse(&SearchRequest{
		Vector: httpapi.Vector{}, K: req.K, Filter: req.Filter, TargetRecall: req.TargetRecall, NProbe: req.NProbe,
		Consistency: req.Consistency, Token: req.Token, AsOf: req.AsOf, TimeoutMs: req.TimeoutMs,
	})
	if err != nil {
		return nil, Served{}, err
	}
	sample := defaultRecallSample
	if req.Sample != nil {
		sample = *req.Sample
	}
	if sample < 1 || sample > maxRecallSample {
		return nil, Served{}, httpapi.Unprocessable("out_of_range", "sample", "sample is %d, want 1 to %d", sample, maxRecallSample)
	}
	if sample*a.k > maxBatchResults {
		return nil, Served{}, httpapi.Unprocessable("out_of_range", "sample", "sample is %d and k %d, want a product of at most %d", sample, a.k, maxBatchResults)
	}
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	var resp *RecallResponse
	served, err := s.on(ctx, collection, a.freshness, func(ctx context.Context, _ *replica, st *state) (err error) {
		resp, err = s.recall(ctx, st, &a, sample)
		return err
	})
	return resp, served, err
}

func (s *Service) recall(ctx context.Context, st *state, a *ask, sample int) (*RecallResponse, error) {
	began := s.cfg.Now()
	var used cache.Usage
	queries, err := s.draw(ctx, st, a.filter, sample)
	if err != nil {
		return nil, err
	}
	truth, err := s.truths(ctx, st, a.filter, a.k, queries)
	if err != nil {
		return nil, err
	}
	resp := &RecallResponse{
		Sampled: len(queries), K: a.k, TargetRecall: decimal(a.targetRecall), ManifestVersion: st.snapshot().Version,
		Recall: 1, Confidence: [2]float64{1, 1}, Min: 1, P1: 1, P5: 1, P50: 1, // where nothing can be missed
	}
	var recalls []float64
	for first := 0; first < len(queries); first += recallTogether {
		part := queries[first:min(first+recallTogether, len(queries))]
		searches := make([]search, len(part))
		for i, q := range part {
			searches[i] = a.search
			searches[i].vector, searches[i].want = q.vector, included{}
			searches[i].k, searches[i].spare = a.k+1, 1 // the row itself
		}
		hits, runs, err := s.searchAll(cache.WithUsage(ctx, &used), st, searches)
		if err != nil {
			return nil, err
		}
		for i, q := range part {
			resp.Usage.again(runs[i].usage)
			if found, wanted := q.score(hits[i], truth[first+i]); wanted > 0 {
				recalls = append(recalls, float64(found)/float64(wanted))
			}
		}
	}
	resp.summarize(recalls)
	resp.Usage.StoreGets, resp.Usage.StoreBytes, resp.Usage.HitRatio, resp.Usage.Cache = used.StoreGets.Load(), used.StoreBytes.Load(), used.HitRatio(), tierOf(&used)
	resp.TookMs = float64(s.cfg.Now().Sub(began).Microseconds()) / 1000
	return resp, nil
}

// decimal is the float64 that reads like x.
func decimal(x float32) float64 { return math.Round(float64(x)*1e6) / 1e6 }

// summarize fills in what recalls come to. Those of no query are left as they are.
func (r *RecallResponse) summarize(recalls []float64) {
	n := len(recalls)
	if n == 0 {
		return
	}
	slices.Sort(recalls)
	var sum, squares float64
	for _, x := range recalls {
		sum += x
		squares += x * x
	}
	at := func(share float64) float64 { return recalls[min(int(share*float64(n)), n-1)] }
	r.Recall, r.Min, r.P1, r.P5, r.P50 = sum/float64(n), recalls[0], at(0.01), at(0.05), at(0.5)
	half := 1.96 * math.Sqrt(max(squares/float64(n)-r.Recall*r.Recall, 0)/float64(n))
	r.Confidence = [2]float64{max(r.Recall-half, 0), min(r.Recall+half, 1)}
}

// subject is a row that is searched for.
type subject struct {
	at     segments.Location // where it is stored
	id     string            // of a row of the tail, which is not; else ""
	vector []float32
}

func (q *subject) is(h *hit) bool {
	if q.id != "" {
		return h.tail && h.id == q.id
	}
	return !h.tail && h.at == q.at
}

// score counts the hits other than q itself that are among the true nearest,
// whose distances truth has in order. A row as far as the last of them counts:
// which of several it is, is a matter of ids.
func (q *subject) score(hits []hit, truth []float32) (found, wanted int) {
	if len(truth) == 0 {
		return 0, 0
	}
	for i := range hits {
		if !q.is(&hits[i]) && hits[i].distance <= truth[len(truth)-1] {
			found++
		}
	}
	return min(found, len(truth)), len(truth)
}

// draw picks up to sample rows that match f, each as likely as any other.
func (s *Service) draw(ctx context.Context, st *state, f *filter, sample int) ([]subject, error) {
	sets, err := s.allowed(ctx, st, f)
	if err != nil {
		return nil, err
	}
	counts := make([]int, len(sets))
	total := 0
	for i, seg := range st.view.Segments {
		counts[i] = int(seg.Rows())
		if sets[i] != nil {
			counts[i] = sets[i].count()
		}
		total += counts[i]
	}
	tail := st.tailRows(f)
	picks := s.pick(total+len(tail), sample)
	var out []subject
	var at []segments.Location
	base := 0
	for i, set := range sets {
		for ; len(picks) > 0 && picks[0] < base+counts[i]; picks = picks[1:] {
			ordinal := uint32(picks[0] - base)
			if set != nil {
				ordinal = set.nth(picks[0] - base)
			}
			at = append(at, segments.Location{Segment: i, Ordinal: ordinal})
		}
		base += counts[i]
	}
	rows, err := st.view.RowsAt(ctx, at, columns.ProjectVector)
	if err != nil {
		return nil, err
	}
	dim := st.collection().Dimension
	for i, l := range at {
		out = append(out, subject{at: l, vector: rows.Vectors[i*dim : (i+1)*dim]})
	}
	for _, p := range picks {
		out = append(out, subject{id: tail[p-base].id, vector: tail[p-base].vector})
	}
	return out, nil
}

// pick draws up to count different numbers below n, ascending (Floyd).
func (s *Service) pick(n, count int) []int {
	count = min(n, count)
	chosen := make(map[int]bool, count)
	out := make([]int, 0, count)
	for top := n - count; top < n; top++ {
		x := int(s.random(uint64(top + 1)))
		if chosen[x] {
			x = top
		}
		chosen[x] = true
		out = append(out, x)
	}
	slices.Sort(out)
	return out
}

// nth is the row with n others before it.
func (s rowSet) nth(n int) uint32 {
	for i, w := range s {
		if c := bits.OnesCount64(w); n >= c {
			n -= c
			continue
		}
		for ; n > 0; n-- {
			w &= w - 1
		}
		return uint32(i*64 + bits.TrailingZeros64(w))
	}
	panic(fmt.Sprintf("BUG: no row %d in a set of %d", n, s.count()))
}

// truths returns the distances of the k rows nearest to every query, without
// the query itself, ascending.
func (s *Service) truths(ctx context.Context, st *state, f *filter, k int, queries []subject) ([][]float32, error) {
	metric, err := ivfpq.ParseMetric(st.collection().Metric)
	if err != nil {
		return nil, err
	}
	near := make([]nearest, len(queries))
	for i := range near {
		near[i].k = k
	}
	var distances []float32
	dim := st.collection().Dimension
	for rows := range slices.Chunk(st.tailRows(f), recallRows) {
		vectors := make([]float32, 0, len(rows)*dim)
		for _, r := range rows {
			vectors = append(vectors, r.vector...)
		}
		distances = slices.Grow(distances[:0], len(rows))[:len(rows)]
		for i := range queries {
			ivfpq.Distances(metric, queries[i].vector, vectors, distances)
			for j, d := range distances {
				if d < near[i].limit() && queries[i].id != rows[j].id {
					near[i].add(d)
				}
			}
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	sets, err := s.allowed(ctx, st, f)
	if err != nil {
		return nil, err
	}
	for segment, seg := range st.view.Segments {
		allowed := sets[segment]
		var vectors []float32
		var ordinals []uint32
		looked := uint32(0)
		err = seg.Scan(ctx, 0, seg.Rows(), columns.ProjectVector, func(first uint32, rows []columns.Row) error {
			vectors, ordinals = vectors[:0], ordinals[:0]
			for i, row := range rows {
				if o := first + uint32(i); allowed == nil || allowed.contains(o) {
					vectors, ordinals = append(vectors, row.Vector...), append(ordinals, o)
				}
			}
			distances = slices.Grow(distances[:0], len(ordinals))[:len(ordinals)]
			for i := range queries {
				ivfpq.Distances(metric, queries[i].vector, vectors[:len(ordinals)*dim], distances)
				q := &queries[i]
				for j, d := range distances {
					if d < near[i].limit() && !(q.id == "" && q.at.Segment == segment && q.at.Ordinal == ordinals[j]) {
						near[i].add(d)
					}
				}
			}
			if looked += uint32(len(rows)); looked >= recallPause {
				looked = 0
				s.Quiet()
			}
			return ctx.Err()
		})
		if err != nil {
			return nil, err
		}
	}
	out := make([][]float32, len(near))
	for i := range near {
		out[i] = near[i].sorted()
	}
	return out, nil
}

// nearest keeps the k least of any number of distances.
type nearest struct {
	k    int
	kept []float32
	most float32 // the k-th, once there are k
}

// limit is what a distance has to be below to be kept.
func (n *nearest) limit() float32 {
	if len(n.kept) < n.k {
		return float32(math.Inf(1))
	}
	return n.most
}

func (n *nearest) add(d float32) {
	if d >= n.limit() {
		return
	}
	at, _ := slices.BinarySearch(n.kept, d)
	n.kept = slices.Insert(n.kept[:min(len(n.kept), n.k-1)], at, d)
	n.most = n.kept[len(n.kept)-1]
}

func (n *nearest) sorted() []float32 { return n.kept }
