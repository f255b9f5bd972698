package query

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/akidb/akidb/segments/columns"
)

// filterKey names the rows of a segment that match a filter. Neither changes,
// so an entry is never stale; whether a row still lives is not part of it.
type filterKey struct {
	segment string
	filter  [sha256.Size]byte
}

// filter is a parsed filter, its text and the digest of that; nil for none. The
// text may be as large as a request and goes with it: caches keep the digest.
type filter struct {
	*columns.Filter
	text   []byte
	digest [sha256.Size]byte
}

// allowed returns the live rows that match f, by segment; nil for all rows. The
// attributes of the segments tell, in two rounds of reads over all of them, and
// the result is remembered.
func (s *Service) allowed(ctx context.Context, st *state, f *filter) ([]rowSet, error) {
	out := make([]rowSet, len(st.view.Segments))
	var missing []int
	for i, seg := range st.view.Segments {
		out[i] = rowSet(st.live[i].bitmap())
		if f == nil {
			continue
		}
		set, ok := s.filters.get(filterKey{seg.Segment().ID, f.digest})
		if !ok {
			missing = append(missing, i)
			continue
		}
		out[i] = set.and(out[i])
	}
	if len(missing) == 0 {
		return out, nil
	}
	matching, err := st.view.Match(ctx, missing, f.Filter)
	if err != nil {
		return nil, err
	}
	for n, i := range missing {
		set := setOf(matching[n], st.view.Segments[i].Rows())
		s.filters.add(filterKey{st.view.Segments[i].Segment().ID, f.digest}, set)
		out[i] = set.and(out[i])
	}
	return out, nil
}

// setOf is a roaring bitmap of ordinals below rows as a rowSet.
func setOf(b *roaring.Bitmap, rows uint32) rowSet {
	set := newSet(rows)
	b.WriteDenseTo(set)
	return set
}

// bitmapOf is the other way round; nil, which has all rows, stays nil.
func bitmapOf(set rowSet) *roaring.Bitmap {
	if set == nil {
		return nil
	}
	return roaring.FromDense(set, true)
}

// explainPlan says what was decided: how many segments, and how many of their rows
// match, each way.
func explainPlan(exact, approximate []part) string {
	rows := func(parts []part) (n int) {
		for _, p := range parts {
			n += p.count
		}
		return n
	}
	return fmt.Sprintf("%d segments exact with %d rows, %d through lists with %d", len(exact), rows(exact), len(approximate), rows(approximate))
}

// filterCache keeps the results of filters, those used last, within a number of
// bytes.
type filterCache struct {
	mu    sync.Mutex
	lru   *simplelru.LRU[filterKey, rowSet]
	bytes int64
	limit int64
}

// filterCost is what an entry takes besides its words.
const filterCost = 256

func costOf(set rowSet) int64 { return int64(8*cap(set)) + filterCost }

func newFilterCache(limit int64) (*filterCache, error) {
	c := &filterCache{limit: limit}
	var err error
	c.lru, err = simplelru.NewLRU(int(limit/filterCost)+1, func(_ filterKey, set rowSet) { c.bytes -= costOf(set) })
	return c, err
}

func (c *filterCache) get(key filterKey) (rowSet, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lru.Get(key)
}

func (c *filterCache) add(key filterKey, set rowSet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if costOf(set) > c.limit || c.lru.Contains(key) {
		return // the same as what is there
	}
	c.lru.Add(key, set)
	for c.bytes += costOf(set); c.bytes > c.limit; {
		c.lru.RemoveOldest()
	}
}
