package query

import (
	"context"
	"errors"
	"sync"

	"github.com/akidb/akidb/cache"
	"github.com/akidb/akidb/segments"
)

// residents are the segments whose lists and ids are in memory whole: those
// that are searched again and again. The others are read list by list, through
// the cache of ranges.
type residents struct {
	hot     *cache.Hot[*segments.Resident]
	service *Service

	mu       sync.Mutex
	searched map[string]int // how often segments that are not in memory were searched
	loading  bool           // one at a time: loading must not crowd out searches
}

const (
	// residentAfter is how many searches of a segment have it loaded: a single
	// question to a cold collection does not.
	residentAfter = 8
	// maxSearched bounds searched. Beyond it the counts begin anew, which costs
	// a delay.
	maxSearched = 4096
)

func newResidents(s *Service, budget int64) (*residents, error) {
	hot, err := cache.NewHot[*segments.Resident](budget)
	return &residents{hot: hot, service: s, searched: map[string]int{}}, err
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
	if size == 0 || size > r.hot.Budget() {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.searched) >= maxSearched {
		clear(r.searched)
	}
	r.searched[id]++
	if r.searched[id] < residentAfter || r.loading {
		return nil
	}
	delete(r.searched, id)
	r.loading = true
	r.service.catalog.background(func(ctx context.Context) {
		err := r.load(ctx, view, segment, size)
		if err != nil && !errors.Is(err, context.Canceled) {
			r.service.cfg.Logger.Warn("segment not kept in memory", "segment", id, "err", err)
		}
		r.mu.Lock()
		r.loading = false
		r.mu.Unlock()
	})
	return nil
}

func (r *residents) load(ctx context.Context, view *segments.View, segment int, size int64) error {
	arena, err := cache.NewArena(int(size))
	if err != nil {
		return err
	}
	resident, err := view.LoadResident(ctx, segment, arena.Bytes())
	if err != nil {
		arena.Release()
		return err
	}
	r.hot.Put(view.Segments[segment].Reader.Segment().ID, resident, arena)
	return nil
}
