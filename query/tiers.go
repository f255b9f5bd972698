package query

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/manifest"
)

// hotSegment is a segment in memory.
type hotSegment struct {
	collection string
	id         string
	heat       float64 // searches, older ones counting less
	bytes      int64
}

// hotList returns the segments in memory, hottest first.
func (s *Service) hotList() []hotSegment {
	r := s.resident
	r.mu.Lock()
	defer r.mu.Unlock()
	now := s.cfg.Now()
	r.fold(now)
	var out []hotSegment
	for collection, view := range r.shown {
		for _, seg := range view.Segments {
			if id := seg.Segment().ID; r.hot.Has(id) {
				out = append(out, hotSegment{collection, id, r.warmthOf(id, now).heat, r.hot.Size(id)})
			}
		}
	}
	slices.SortFunc(out, func(a, b hotSegment) int {
		return cmp.Or(cmp.Compare(b.heat, a.heat), cmp.Compare(a.collection, b.collection), cmp.Compare(a.id, b.id))
	})
	return out
}

// warmSegments loads segments of a collection into memory, within the budget,
// and returns when they are there. It fails with errNoRoom when some would push
// out what is hotter, after the others are loaded. Segments that the collection
// does not have any more are passed over, and so is a collection that is placed
// elsewhere. It may be given up: what it began goes on.
func (s *Service) warmSegments(ctx context.Context, collectionID string, segmentIDs []string) error {
	replica, err := s.catalog.find(ctx, collectionID)
	if err != nil {
		return err
	}
	view := replica.state.Load().view
	known := func(id string) bool {
		return slices.ContainsFunc(view.Snapshot.Segments, func(seg manifest.Segment) bool { return seg.ID == id })
	}
	if slices.ContainsFunc(segmentIDs, func(id string) bool { return !known(id) }) {
		if err := replica.refreshManifest(ctx); err != nil {
			return unavailable("the manifest cannot be read now", err)
		}
		view = replica.state.Load().view
	}
	return s.resident.warm(ctx, view, func(id string) bool { return slices.Contains(segmentIDs, id) })
}

// warm loads the segments of a view that which says, and waits for them.
func (r *residents) warm(ctx context.Context, view *segments.View, which func(id string) bool) error {
	done, count := make(chan error, len(view.Segments)), 0
	r.mu.Lock()
	now := r.service.cfg.Now()
	if r.rankFor(view) != keptOut {
		for i, seg := range view.Segments {
			id := seg.Segment().ID
			if !which(id) || !loadable(view, i) {
				continue
			}
			w := r.warmthOf(id, now)
			w.add(now, 0)
			w.heat, w.used = max(w.heat, residentAfter), now
			if !r.hot.Has(id) {
				r.wish(view, i, done)
				count++
			}
		}
	}
	r.mu.Unlock()
	var failed error
	full := 0
	for range count {
		select {
		case err := <-done:
			if errors.Is(err, errNoRoom) {
				full++
			} else if failed == nil {
				failed = err
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-r.service.background.Done():
			return context.Canceled
		}
	}
	if failed == nil && full > 0 {
		failed = fmt.Errorf("%d of %d segments: %w", full, count, errNoRoom)
	}
	return failed
}
