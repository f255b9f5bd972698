package query

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/akidb/akidb/cache"
	"github.com/akidb/akidb/internal/telemetry"
	"github.com/akidb/akidb/segments"
)

const (
	// One search in so many is repeated exactly, …
	recallEvery = 1000
	// … but none for so long after another: reading a million vectors of 128
	// dimensions from memory takes about a second of one core.
	recallApart = 30 * time.Second
)

// liveRecall repeats a few of the searches that clients make exactly, in the
// background and as far as all vectors are in memory, and records what the
// searches had found.
type liveRecall struct {
	service *Service
	metric  *telemetry.Recall
	running atomic.Bool
	last    atomic.Int64 // when the last began, in Unix nanoseconds
}

func newLiveRecall(s *Service) *liveRecall {
	return &liveRecall{service: s, metric: telemetry.NewRecall(s.cfg.Registerer)}
}

// consider takes note of a search that was answered from a state.
func (l *liveRecall) consider(st *state, a *ask, r *run, hits []hit) {
	if r.usage.ListsProbed == 0 || a.group != nil || a.threshold != nil || l.service.random(recallEvery) != 0 {
		return
	}
	now := l.service.cfg.Now()
	if last := l.last.Load(); last != 0 && now.Sub(time.Unix(0, last)) < recallApart || !l.running.CompareAndSwap(false, true) {
		return
	}
	l.last.Store(now.UnixNano())
	found := make([]float32, len(hits))
	for i := range hits {
		found[i] = hits[i].distance
	}
	// The request's memory is its own again once it is answered.
	query := subject{at: segments.Location{Segment: -1}, vector: append([]float32(nil), a.vector...)}
	filter, k, mode := a.filter, a.k, a.mode()
	l.service.catalog.background(func(ctx context.Context) {
		defer l.running.Store(false)
		l.measure(ctx, st, query, filter, k, mode, found)
	})
}

func (l *liveRecall) measure(ctx context.Context, st *state, query subject, f *filter, k int, mode string, found []float32) {
	truths, err := l.service.truths(cache.WithBudget(ctx, &cache.Budget{}), st, f, k, []subject{query})
	var over *cache.OverBudgetError
	switch {
	case errors.As(err, &over):
		l.metric.Skipped("cold")
	case err != nil:
		l.metric.Skipped("error")
	case len(truths[0]) > 0:
		truth, hits := truths[0], 0
		for _, d := range found {
			if d <= truth[len(truth)-1] {
				hits++
			}
		}
		l.metric.Observe(mode, float64(min(hits, len(truth)))/float64(len(truth)))
	}
}
