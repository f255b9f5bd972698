package ivfpq

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"sync"
)

// Router is what a searching process holds of one segment: small, immutable, and safe for any
// number of goroutines, each with a Query of its own.
type Router struct {
	*space
	centroids   []float32
	lists       []List
	calibration []Calibration
	origin      []float32
	rows        uint32
	queries     sync.Pool
}

// NewRouter checks that the parts belong together and keeps them; the caller must not change them
// any more. An index of Kind Exact has none.
func NewRouter(p Params, centroids []float32, lists []List, calibration []Calibration) (*Router, error) {
	if err := p.Validate(); err != nil {
		return nil, fmt.Errorf("open index: %w", err)
	}
	if err := checkParts(p, centroids, lists, calibration); err != nil {
		return nil, fmt.Errorf("open %v index: %w", p.Kind, err)
	}
	r := &Router{space: newSpace(p), centroids: centroids, lists: lists, calibration: calibration}
	for _, l := range lists {
		r.rows += l.Count
	}
	r.origin = originOf(r.codeDim, centroids, lists)
	return r, nil
}

func checkParts(p Params, centroids []float32, lists []List, calibration []Calibration) error {
	switch {
	case p.Kind == Exact && (len(lists) != 0 || len(calibration) != 0):
		return fmt.Errorf("%d lists and %d calibrations, want none", len(lists), len(calibration))
	case p.Kind == Flat && len(lists) != 1:
		return fmt.Errorf("%d lists, want 1", len(lists))
	case p.Kind == IVF && len(lists) == 0:
		return fmt.Errorf("no lists")
	case len(centroids) != len(lists)*CodeDim(p.Dim):
		return fmt.Errorf("%d centroid elements, want %d for %d lists of %d dimensions", len(centroids), len(lists)*CodeDim(p.Dim), len(lists), CodeDim(p.Dim))
	}
	next := uint64(0)
	for i, l := range lists {
		if uint64(l.First) != next {
			return fmt.Errorf("list %d starts at row %d, want %d", i, l.First, next)
		}
		next += uint64(l.Count)
	}
	if next > math.MaxUint32 {
		return fmt.Errorf("%d rows, want at most %d", next, uint32(math.MaxUint32))
	}
	if err := checkFinite(centroids); err != nil {
		return fmt.Errorf("centroids: %w", err)
	}
	return checkCalibration(len(lists), calibration)
}

// checkCalibration wants ascending recalls with effort that never falls.
func checkCalibration(lists int, calibration []Calibration) error {
	var last Calibration
	for i, c := range calibration {
		if !(c.Recall > last.Recall && c.Recall <= 1) || c.NProbe < max(last.NProbe, 1) || int(c.NProbe) > lists || c.Depth < max(last.Depth, 1) {
			return fmt.Errorf("calibration %d is %+v after %+v, want more recall for no less effort, within %d lists", i, c, last, lists)
		}
		last = c
	}
	return nil
}

// Lists are the lists of the index, in row order. The caller must not change them.
func (r *Router) Lists() []List { return r.lists }

// ListOf returns the list that holds a row, and false if there is no such row.
func (r *Router) ListOf(ordinal uint32) (list uint32, ok bool) {
	if ordinal >= r.rows {
		return 0, false
	}
	// The last list that starts at or before the row; empty ones start where the next does.
	after := sort.Search(len(r.lists), func(i int) bool { return r.lists[i].First > ordinal })
	return uint32(after - 1), true
}

// Finish is how many of the best refined candidates to score with Distances for an answer of k:
// the refine code has its true 10 nearest within its first 15 to 20 at recall 0.999.
func Finish(k int) int { return k + k/2 + 5 }

// calibratedK is the k that calibration measures.
const calibratedK = 10

// Plan returns how many lists to scan and how many candidates to refine for k results at a
// recall. For k above 10 both grow, by rules of thumb: neighbours further out lie in more lists,
// and in a larger crowd of estimates. A recall above what was calibrated multiplies the effort
// of the best calibration; recall 1 takes everything. Without lists both are 0.
func (r *Router) Plan(recall float32, k int) (nprobe, depth int) {
	k = max(k, 1)
	if len(r.lists) == 0 {
		return 0, 0
	}
	lists, rows := len(r.lists), int(r.rows)
	if recall >= 1 || len(r.calibration) == 0 {
		return lists, rows
	}
	at := slices.IndexFunc(r.calibration, func(c Calibration) bool { return c.Recall >= recall })
	effort := 1.0
	if at < 0 {
		at = len(r.calibration) - 1
		effort = min(float64((1-r.calibration[at].Recall)/(1-recall)), 1e6)
	}
	c := r.calibration[at]
	wider := max(float64(k)/calibratedK, 1)
	probes := float64(c.NProbe) * math.Pow(wider, probeGrowth) * effort
	wanted := float64(c.Depth) * math.Pow(wider, depthGrowth) * effort
	// Enough lists to have the candidates at all, were they of average size.
	probes = max(probes, float64(2*Finish(k))*float64(lists)/max(float64(rows), 1))
	depth = int(min(max(math.Ceil(wanted), float64(Finish(k))), float64(rows)))
	return int(min(math.Ceil(probes), float64(lists))), max(depth, 1)
}

// Growth of effort with k, as powers of k/10.
const (
	probeGrowth = 0.5
	depthGrowth = 0.85
)
