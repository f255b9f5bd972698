package query

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/akidb/akidb/internal/info"
	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/manifest"
)

// What a user wants of a collection's place is in its manifest; what a process
// has of it is its own affair. A process looks at the manifests of all
// collections now and then, not only when it is asked for one, so that each does
// what was asked of any.

const (
	// tierTick is how often memory is looked after.
	tierTick = time.Second
	// lookAfter is how old what is known of a collection gets without a read of
	// it. At most looksAtOnce of them are looked at in a tick, which bounds what
	// many collections cost: one small read each.
	lookAfter   = 5 * time.Second
	looksAtOnce = 8
	// listEvery is how often collections that nobody asked for are looked for.
	listEvery = 10 * time.Second
	// lookTimeout bounds both.
	lookTimeout = 5 * time.Second
)

// Start has the service look after its memory without being asked, until it is
// closed: it follows where collections are placed, and releases what is not
// searched any more.
func (s *Service) Start() {
	s.catalog.background(func(ctx context.Context) {
		ticks := time.NewTicker(tierTick)
		defer ticks.Stop()
		for {
			s.tick(ctx)
			select {
			case <-ctx.Done():
				return
			case <-ticks.C:
			}
		}
	})
}

// tick does what is due. Callers do not overlap.
func (s *Service) tick(ctx context.Context) {
	s.look(ctx)
	s.resident.only(s.catalog.present())
	s.resident.tick()
}

// look reads manifests that were not read for a while, those first that have
// waited longest. A store that is away is for those to report who need it.
func (s *Service) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	now := s.cfg.Now()
	if s.listed.IsZero() || now.Sub(s.listed) >= listEvery {
		if s.catalog.refresh(ctx) == nil {
			s.listed = now
		}
	}
	type look struct {
		*replica
		verifiedAt time.Time
	}
	var due []look
	for _, r := range s.catalog.present() {
		snap, verifiedAt := r.snapshot()
		if now.Sub(verifiedAt) >= lookAfter || r.state.Load() == nil && rankOf(snap) >= placed {
			due = append(due, look{r, verifiedAt})
		}
	}
	slices.SortFunc(due, func(a, b look) int { return a.verifiedAt.Compare(b.verifiedAt) })
	var g errgroup.Group
	for _, r := range due[:min(len(due), looksAtOnce)] {
		g.Go(func() error {
			if err := r.look(ctx); errors.Is(err, errGone) {
				s.catalog.forget(r.id)
			}
			return nil
		})
	}
	_ = g.Wait()
}

// look reads the manifest again, and opens a collection that is to be in memory.
func (r *replica) look(ctx context.Context) error {
	if r.state.Load() == nil {
		h, err := r.readHead(ctx)
		if err != nil || rankOf(h.snapshot) < placed {
			return err
		}
	}
	return r.refreshManifest(ctx)
}

// reportSizes says how many rows each collection has.
func (s *Service) reportSizes(report func(collection string, vectors uint64)) {
	newest := map[string]*replica{} // by name: one that was dropped may be known still, beside its namesake
	for _, r := range s.catalog.present() {
		if other := newest[r.name()]; other == nil || r.id > other.id {
			newest[r.name()] = r
		}
	}
	for name, r := range newest {
		report(name, r.rowCount())
	}
}

// tierCollector counts collections by tier when it is asked.
type tierCollector struct{ service *Service }

var tierDistribution = prometheus.NewDesc("akidb_tier_distribution_collections",
	"Collections by where this process finds their data: hot (in memory), warm (on its disk) or cold (in the object store).", []string{"tier"}, nil)

// Describe implements prometheus.Collector.
func (c tierCollector) Describe(out chan<- *prometheus.Desc) { out <- tierDistribution }

// Collect implements prometheus.Collector.
func (c tierCollector) Collect(out chan<- prometheus.Metric) {
	counts := map[info.Tier]int{info.Hot: 0, info.Warm: 0, info.Cold: 0}
	for _, r := range c.service.catalog.present() {
		counts[r.tier()]++
	}
	for tier, n := range counts {
		out <- prometheus.MustNewConstMetric(tierDistribution, prometheus.GaugeValue, float64(n), string(tier))
	}
}

// foundIn is where a search found its data, and when.
type foundIn struct {
	tier info.Tier
	at   time.Time
}

func (r *replica) searched(tier info.Tier) { r.lastTier.Store(&foundIn{tier, r.service.cfg.Now()}) }

// waited says whether the last search waited for the store, or has yet to come.
func (r *replica) waited() bool {
	found := r.lastTier.Load()
	return found == nil || found.tier == info.Cold
}

// tier is hot where all segments are in memory, otherwise what the last search
// showed, unless that was long ago.
func (r *replica) tier() info.Tier {
	st := r.state.Load()
	if st == nil {
		return info.Cold
	}
	if r.service.resident.wholly(st.view) {
		return info.Hot
	}
	if found := r.lastTier.Load(); found != nil && r.service.cfg.Now().Sub(found.at) < r.service.cfg.CoolAfter {
		return found.tier
	}
	return info.Cold
}

func samePlacement(a, b *manifest.Placement) bool {
	return a == nil && b == nil || a != nil && b != nil && *a == *b
}

// describe says how many bytes of a view are in memory, and how it is placed,
// nil where it is not.
func (r *residents) describe(view *segments.View) (bytes int64, placement *info.Placement) {
	r.mu.Lock()
	defer r.mu.Unlock()
	of := rankOf(view.Snapshot)
	var condition info.Condition
	for i, seg := range view.Segments {
		id := seg.Segment().ID
		size := r.hot.Size(id)
		bytes += size
		switch {
		case of < placed || !r.loadable(view, i) || condition == info.NoRoom:
		case size == 0 && r.warmth[id] != nil && r.warmth[id].refused:
			condition = info.NoRoom
		case size == 0:
			condition = info.Loading
		case of == unmovable && !r.pinned[id] && condition == "":
			condition = info.PinLimit
		}
	}
	if p := view.Snapshot.Placement; p != nil {
		placement = &info.Placement{Tier: info.Tier(p.Tier), Pinned: p.Pinned, Since: p.Since, Condition: condition}
	}
	return bytes, placement
}

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
	if err := replica.opened(ctx); err != nil { // it may be known by its manifest alone
		return unavailable("the collection cannot be opened now", err)
	}
	st := replica.state.Load()
	known := func(id string) bool {
		return slices.ContainsFunc(st.snapshot().Segments, func(seg manifest.Segment) bool { return seg.ID == id })
	}
	if slices.ContainsFunc(segmentIDs, func(id string) bool { return !known(id) }) {
		if err := replica.refreshManifest(ctx); err != nil {
			return unavailable("the manifest cannot be read now", err)
		}
		st = replica.state.Load()
	}
	return s.resident.warm(ctx, st.view, func(id string) bool { return slices.Contains(segmentIDs, id) })
}

// warm loads the segments of a view that which says, and waits for them.
func (r *residents) warm(ctx context.Context, view *segments.View, which func(id string) bool) error {
	done, count := make(chan error, len(view.Segments)), 0
	r.mu.Lock()
	now := r.service.cfg.Now()
	if r.rankFor(view) != keptOut {
		for i, seg := range view.Segments {
			id := seg.Segment().ID
			if !which(id) || !r.loadable(view, i) {
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
