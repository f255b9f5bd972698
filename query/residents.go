package query

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/akidb/akidb/cache"
	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/manifest"
)

// residents are the segments whose lists and ids are in memory whole: those of
// collections that are placed there, and those that are searched again and
// again. The others are read list by list, through the cache of ranges.
//
// A segment's heat is how often it was searched, old searches counting less.
// When room is needed the coldest go, and only for what is hotter than they are
// together. What is placed goes before what is not, see rank.
//
// Segments are loaded one at a time, which bounds what is used beyond the budget
// to the one under way, and leaves the cores to searches.
type residents struct {
	hot     *cache.Hot[*segments.Resident]
	service *Service

	mu     sync.Mutex
	warmth map[string]*warmth // by segment
	shown  map[string]*segments.View
	pinned map[string]bool  // segments that nothing pushes out
	wishes map[string]*wish // by segment
	busy   bool             // somebody works on the wishes
}

const (
	// residentAfter is how many searches of a segment have it loaded: a single
	// question to a cold collection does not.
	residentAfter = 8
	// heatHalfLife is the time after which a search counts half. It is how long
	// those of a burst are remembered, and what a window is for residentAfter.
	heatHalfLife = 5 * time.Minute
	// maxWarmth bounds what is remembered of segments that are not in memory.
	// Beyond it the counts begin anew, which costs a delay.
	maxWarmth = 16 << 10
	// loadPause is how long after a load that failed, or for which there was no
	// room, another is not tried.
	loadPause = 2 * time.Second
	// pinnedShare is the part of the budget that pinned segments may take, so
	// that something is left for those that are searched.
	pinnedShare = 0.8
)

// errNoRoom: what is in memory is hotter, or placed there.
var errNoRoom = errors.New("no room in memory")

// warmth is what is known of a segment's use.
type warmth struct {
	heat      float64   // as of at
	at        time.Time // when heat was that
	used      time.Time // last search, or when it was asked for otherwise
	notBefore time.Time // when it may be loaded
	refused   bool      // the last time it was to be, there was no room
}

// add counts n searches by now.
func (w *warmth) add(now time.Time, n int64) {
	if passed := now.Sub(w.at); passed > 0 {
		w.heat *= math.Exp2(-float64(passed) / float64(heatHalfLife))
		w.at = now
	}
	if n > 0 {
		w.heat += float64(n)
		w.used = now
	}
}

// rank is who goes before whom where room is short.
type rank int

const (
	keptOut   rank = iota - 1 // placed elsewhere
	automatic                 // by use
	placed                    // hot by placement
	unmovable                 // and pinned, within pinnedShare
)

// wish is a segment to be loaded, and who waits for that.
type wish struct {
	view    *segments.View
	segment int // in view
	done    []chan<- error
}

func newResidents(s *Service, budget int64) *residents {
	return &residents{
		hot: cache.NewHot[*segments.Resident](budget), service: s, warmth: map[string]*warmth{},
		shown: map[string]*segments.View{}, pinned: map[string]bool{}, wishes: map[string]*wish{},
	}
}

// get returns a segment of view if it is in memory, retained, or nil. One that
// is searched often is loaded for those that follow.
func (r *residents) get(view *segments.View, segment int) *cache.Held[*segments.Resident] {
	reader := view.Segments[segment].Reader
	id := reader.Segment().ID
	if held := r.hot.Get(id); held != nil {
		return held
	}
	size := reader.ResidentSize()
	if size > r.hot.Budget() || !r.loadable(view, segment) {
		return nil
	}
	now := r.service.cfg.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.warmthOf(id, now)
	w.add(now, 1)
	of := r.rankFor(view)
	if of == keptOut || of == automatic && w.heat <= residentAfter-1 || now.Before(w.notBefore) {
		return nil
	}
	r.wish(view, segment, nil)
	return nil
}

// warmthOf returns what is known of a segment. Callers hold mu.
func (r *residents) warmthOf(id string, now time.Time) *warmth {
	w := r.warmth[id]
	if w == nil {
		if len(r.warmth) >= maxWarmth {
			maps.DeleteFunc(r.warmth, func(id string, _ *warmth) bool { return !r.hot.Has(id) })
		}
		w = &warmth{at: now}
		r.warmth[id] = w
	}
	return w
}

// fold adds the uses of what is in memory to its heat. Callers hold mu.
func (r *residents) fold(now time.Time) {
	for id := range r.hot.Names() {
		r.warmthOf(id, now).add(now, r.hot.TakeUses(id))
	}
}

// rankFor is how segments of a view are treated: as the newest version of its
// collection says, which an earlier one that is read belongs to as well.
func (r *residents) rankFor(view *segments.View) rank {
	if shown := r.shown[view.Snapshot.Collection.ID]; shown != nil {
		view = shown
	}
	return rankOf(view.Snapshot)
}

// rankOf is what a collection's placement asks for.
func rankOf(s *manifest.Snapshot) rank {
	switch p := s.Placement; {
	case p == nil:
		return automatic
	case p.Tier != manifest.Hot:
		return keptOut
	case p.Pinned:
		return unmovable
	}
	return placed
}

// ranks returns the rank of every segment of a collection that is placed. A
// branch shares segments with what it was branched from: the higher one counts.
func (r *residents) ranks() map[string]rank {
	out := map[string]rank{}
	for _, view := range r.shown {
		of := rankOf(view.Snapshot)
		for _, seg := range view.Snapshot.Segments {
			if before, known := out[seg.ID]; !known || of > before {
				out[seg.ID] = of
			}
		}
	}
	return out
}

// fixPins decides which segments nothing pushes out: of those that are in memory
// and in a pinned collection, as many as pinnedShare has room for, those first
// that were pinned before. Callers hold mu.
func (r *residents) fixPins(ranks map[string]rank) {
	var wanted []string
	for id := range r.hot.Names() {
		if ranks[id] == unmovable {
			wanted = append(wanted, id)
		}
	}
	slices.SortFunc(wanted, func(a, b string) int {
		if r.pinned[a] != r.pinned[b] {
			if r.pinned[a] {
				return -1
			}
			return 1
		}
		return cmp.Compare(a, b)
	})
	room := r.pinBudget()
	clear(r.pinned)
	for _, id := range wanted {
		if size := r.hot.Size(id); size <= room {
			r.pinned[id] = true
			room -= size
		}
	}
}

func (r *residents) pinBudget() int64 { return int64(pinnedShare * float64(r.hot.Budget())) }

// effective is a segment's rank where room is short. Callers hold mu.
func (r *residents) effective(id string, ranks map[string]rank) rank {
	of := ranks[id]
	if of == unmovable && r.hot.Has(id) && !r.pinned[id] {
		return placed
	}
	return of
}

// room says which segments have to go for one that is to be loaded; false when
// there is nothing that it may push out. Callers hold mu.
func (r *residents) room(id string, size int64, ranks map[string]rank) (victims []string, ok bool) {
	missing := size - (r.hot.Budget() - r.hot.Bytes())
	if missing <= 0 {
		return nil, true
	}
	now := r.service.cfg.Now()
	r.fold(now)
	of := ranks[id]
	if of == unmovable {
		var taken int64
		for id := range r.pinned {
			taken += r.hot.Size(id)
		}
		if taken+size > r.pinBudget() {
			of = placed
		}
	}
	type candidate struct {
		id   string
		of   rank
		heat float64
	}
	var below []candidate
	for other := range r.hot.Names() {
		if theirs := r.effective(other, ranks); theirs < of || theirs == of && of < unmovable {
			w := r.warmthOf(other, now)
			w.add(now, 0)
			below = append(below, candidate{other, theirs, w.heat})
		}
	}
	slices.SortFunc(below, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.of, b.of), cmp.Compare(a.heat, b.heat), cmp.Compare(a.id, b.id))
	})
	w := r.warmthOf(id, now)
	w.add(now, 0)
	heat, peers := 0.0, false
	for _, c := range below {
		if missing <= 0 {
			break
		}
		if c.of == of {
			heat, peers = heat+c.heat, true
		}
		victims, missing = append(victims, c.id), missing-r.hot.Size(c.id)
	}
	if missing > 0 || peers && heat >= w.heat {
		return nil, false
	}
	return victims, true
}

// wish has a segment loaded, in the background, and tells done, which may be
// nil, when that has happened or failed. Callers hold mu.
func (r *residents) wish(view *segments.View, segment int, done chan<- error) {
	id := view.Segments[segment].Segment().ID
	w := r.wishes[id]
	if w == nil {
		w = &wish{view: view, segment: segment}
		r.wishes[id] = w
	}
	if done != nil {
		w.done = append(w.done, done)
	}
	if !r.busy {
		r.busy = true
		r.service.catalog.background(r.work)
	}
}

// work loads what is wished for until nothing is.
func (r *residents) work(ctx context.Context) {
	for {
		w := r.next()
		if w == nil {
			return
		}
		err := r.load(ctx, w)
		if !errors.Is(err, context.Canceled) && !errors.Is(err, errNoRoom) {
			r.service.workers.Ran("load", err)
		}
		r.finish(w, err)
	}
}

// next takes the wish that is best, and ends those that there is no room for.
func (r *residents) next() *wish {
	r.mu.Lock()
	defer r.mu.Unlock()
	now, ranks := r.service.cfg.Now(), r.ranks()
	ids := slices.SortedFunc(maps.Keys(r.wishes), func(a, b string) int {
		return cmp.Or(cmp.Compare(ranks[b], ranks[a]), cmp.Compare(r.warmthOf(b, now).heat, r.warmthOf(a, now).heat), cmp.Compare(b, a))
	})
	for _, id := range ids {
		w := r.wishes[id]
		delete(r.wishes, id)
		size := w.view.Segments[w.segment].ResidentSize()
		err := error(nil)
		switch {
		case r.hot.Has(id), ranks[id] == keptOut:
		case size > r.hot.Budget():
			err = errNoRoom
		default:
			if _, ok := r.room(id, size, ranks); ok {
				return w
			}
			err = errNoRoom
		}
		r.end(w, err, now)
	}
	r.busy = false
	return nil
}

// load reads a segment into memory and makes room for it.
func (r *residents) load(ctx context.Context, w *wish) error {
	reader := w.view.Segments[w.segment].Reader
	id, size := reader.Segment().ID, reader.ResidentSize()
	arena, err := cache.NewArena(int(size))
	if err != nil {
		return err
	}
	resident, err := w.view.LoadResident(cache.WithPassing(ctx), w.segment, arena.Bytes(), r.service.Quiet)
	if err != nil {
		arena.Release()
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	ranks := r.ranks()
	victims, ok := r.room(id, size, ranks)
	if !ok || ranks[id] == keptOut { // what was there has become hotter, or it was placed elsewhere meanwhile
		arena.Release()
		return errNoRoom
	}
	for _, victim := range victims {
		r.hot.Drop(victim)
	}
	now := r.service.cfg.Now()
	r.fold(now)
	if w := r.warmthOf(id, now); w.used.IsZero() {
		w.used = now // or it would be cold at once
	}
	r.hot.Put(id, resident, arena)
	r.fixPins(ranks)
	return nil
}

func (r *residents) finish(w *wish, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end(w, err, r.service.cfg.Now())
}

// end tells who waits for a wish what became of it. Callers hold mu.
func (r *residents) end(w *wish, err error, now time.Time) {
	id := w.view.Segments[w.segment].Segment().ID
	known := r.warmthOf(id, now)
	known.refused = errors.Is(err, errNoRoom)
	if err != nil {
		known.notBefore = now.Add(loadPause)
	}
	switch {
	case err == nil, errors.Is(err, errNoRoom), errors.Is(err, context.Canceled):
	case errors.Is(err, blob.ErrNotFound): // replaced by a compaction meanwhile
	default:
		r.service.cfg.Logger.Warn("segment not kept in memory", "segment", id, "err", err)
	}
	for _, done := range w.done {
		done <- err // it has room
	}
}

// show takes note of a collection's newest state. What it no longer has is
// dropped, and what took its place is loaded if that was in memory: a compaction
// does not make a hot collection cold.
func (r *residents) show(view *segments.View) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := view.Snapshot.Collection.ID
	old := r.shown[id]
	if old == view || old != nil && old.Snapshot.Version > view.Snapshot.Version {
		return
	}
	r.shown[id] = view
	if old == nil && rankOf(view.Snapshot) == automatic {
		return
	}
	ranks := r.ranks()
	if old != nil {
		r.inherit(old, view, ranks)
	}
	r.settle(view, ranks)
	r.fixPins(ranks)
}

// inherit gives the new segments of a view the heat of those that they replace,
// and has them loaded if those were in memory, or all others are.
func (r *residents) inherit(old, view *segments.View, ranks map[string]rank) {
	now := r.service.cfg.Now()
	r.fold(now)
	was := map[string]bool{}
	whole := r.wholly(old)
	for _, seg := range old.Segments {
		was[seg.Segment().ID] = true
	}
	var fresh []int
	for i, seg := range view.Segments {
		if id := seg.Segment().ID; was[id] {
			delete(was, id)
		} else {
			fresh = append(fresh, i)
		}
	}
	hottest, inMemory := warmth{at: now}, whole
	take := func(id string) {
		if w := r.warmth[id]; w != nil {
			w.add(now, 0)
			hottest.heat = max(hottest.heat, w.heat)
			if w.used.After(hottest.used) {
				hottest.used = w.used
			}
		}
	}
	for id := range was { // those that went
		inMemory = inMemory || r.hot.Has(id)
		take(id)
		r.forget(id, ranks)
	}
	if len(was) == 0 && whole { // a flush
		for _, seg := range old.Segments {
			take(seg.Segment().ID)
		}
	}
	for _, i := range fresh {
		id := view.Segments[i].Segment().ID
		if w := r.warmthOf(id, now); hottest.heat > w.heat {
			w.heat, w.at, w.used = hottest.heat, now, hottest.used
		}
		if inMemory && ranks[id] != keptOut && r.loadable(view, i) {
			r.wish(view, i, nil)
		}
	}
}

// loadable reports whether a segment has something worth keeping in memory, and
// is not left to other pods.
func (r *residents) loadable(view *segments.View, segment int) bool {
	reader := view.Segments[segment].Reader
	return reader.ResidentSize() > 0 && r.service.fleet.owns(view.Snapshot.Collection.ID, reader.Segment().ID)
}

// wholly reports whether a view has segments to keep in memory here, and all of
// them are.
func (r *residents) wholly(view *segments.View) bool {
	some := false
	for i, seg := range view.Segments {
		if !r.loadable(view, i) {
			continue
		}
		if !r.hot.Has(seg.Segment().ID) {
			return false
		}
		some = true
	}
	return some
}

// forget drops a segment that no collection has any more. Callers hold mu.
func (r *residents) forget(id string, ranks map[string]rank) {
	if _, elsewhere := ranks[id]; !elsewhere {
		r.hot.Drop(id)
		delete(r.pinned, id)
		delete(r.warmth, id)
	}
}

// hide forgets a collection that is gone.
func (r *residents) hide(collection string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.shown[collection]
	if old == nil {
		return
	}
	delete(r.shown, collection)
	ranks := r.ranks()
	for _, seg := range old.Segments {
		r.forget(seg.Segment().ID, ranks)
	}
}

// only forgets the collections that are not among those that are there.
func (r *residents) only(there []*replica) {
	ids := map[string]bool{}
	for _, replica := range there {
		ids[replica.id] = true
	}
	r.mu.Lock()
	var gone []string
	for id := range r.shown {
		if !ids[id] {
			gone = append(gone, id)
		}
	}
	r.mu.Unlock()
	for _, id := range gone {
		r.hide(id)
	}
}

// settle does what a view's placement asks for. Callers hold mu.
func (r *residents) settle(view *segments.View, ranks map[string]rank) {
	now := r.service.cfg.Now()
	for i, seg := range view.Segments {
		id := seg.Segment().ID
		switch has := r.hot.Has(id); {
		case has && ranks[id] == keptOut:
			r.hot.Drop(id)
			delete(r.pinned, id)
		case !has && ranks[id] >= placed && r.loadable(view, i) && !now.Before(r.warmthOf(id, now).notBefore):
			r.wish(view, i, nil)
		}
	}
}

// tick cools: what is there by use alone and was not searched for a while goes,
// and what is placed in memory and is not there is tried again.
func (r *residents) tick() {
	r.mu.Lock()
	defer r.mu.Unlock()
	now, ranks := r.service.cfg.Now(), r.ranks()
	r.fold(now)
	for id := range r.hot.Names() {
		if ranks[id] <= automatic && now.Sub(r.warmth[id].used) >= r.service.cfg.CoolAfter {
			r.hot.Drop(id)
		}
	}
	for _, view := range r.shown {
		r.settle(view, ranks)
	}
	r.fixPins(ranks)
	maps.DeleteFunc(r.warmth, func(id string, w *warmth) bool {
		return !r.hot.Has(id) && now.Sub(w.at) > 8*heatHalfLife
	})
}
