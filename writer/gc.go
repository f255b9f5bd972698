package writer

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/manifest"
)

// garbage is what is known of the objects that the manifest lists as garbage.
// Losing it costs a delay, and a few deletes of what is not there.
type garbage struct {
	mu sync.Mutex
	// seen says since when readers have been shown a snapshot without the
	// object. The grace counts from then: a commit may have waited for hours
	// since it wrote down the time, and clocks of earlier processes may be wrong.
	seen map[string]time.Time
	// removed objects are gone and still listed: the next commit drops them.
	removed map[string]bool
}

// show takes note of what a published snapshot lists.
func (g *garbage) show(listed []manifest.Garbage, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	seen, removed := make(map[string]time.Time, len(listed)), map[string]bool{}
	for _, l := range listed {
		since, known := g.seen[l.Key]
		if !known {
			since = now
		}
		seen[l.Key] = since
		if g.removed[l.Key] {
			removed[l.Key] = true
		}
	}
	g.seen, g.removed = seen, removed
}

// due returns the keys whose grace is over, in order.
func (g *garbage) due(before time.Time) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var keys []string
	for k, since := range g.seen {
		if !g.removed[k] && !since.After(before) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

func (g *garbage) markRemoved(key string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.removed[key] = true
}

func (g *garbage) isRemoved(key string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.removed[key]
}

// collectGarbage removes what a committed manifest lists as garbage, once its
// grace is over. Nothing else is ever removed.
func (w *Writer) collectGarbage(ctx context.Context, c *collection) {
	due := c.garbage.due(w.cfg.Now().Add(-w.cfg.GarbageGrace))
	for _, key := range due {
		if err := w.cfg.Store.Delete(ctx, key); err != nil {
			if ctx.Err() == nil {
				w.metrics.workers.Ran("gc", err)
				w.cfg.Logger.Warn("garbage stays until the next try", "collection", c.meta.Name, "key", key, "error", err)
			}
			return
		}
		c.garbage.markRemoved(key)
	}
	if len(due) > 0 {
		w.metrics.workers.Ran("gc", nil)
	}
}

// forgetRemoved drops from next's garbage what was removed.
func (c *collection) forgetRemoved(next *manifest.Snapshot) {
	next.Garbage = slices.DeleteFunc(next.Garbage, func(g manifest.Garbage) bool { return c.garbage.isRemoved(g.Key) })
}

// tombstone is a collection that was dropped and of which something may be left.
type tombstone struct {
	current manifest.Current
	dropped *manifest.Snapshot
	emptied atomic.Bool // nothing is left but CURRENT and its body
}

// removeDropped removes the objects of a dropped collection. CURRENT and the
// body it names say that it was dropped, so they stay for the grace: until then
// a reader finds an answer, and a copy of the creation that was delayed on the
// way finds the id taken.
func (w *Writer) removeDropped(ctx context.Context, t *tombstone) error {
	id, store := t.dropped.Collection.ID, w.cfg.Store
	last := []string{manifest.CurrentKey(id), t.current.Manifest.Key}
	if !t.emptied.Load() {
		for o, err := range blob.Objects(ctx, store, blob.Listing{Prefix: manifest.CollectionPrefix(id)}) {
			if err == nil && !slices.Contains(last, o.Key) {
				err = store.Delete(ctx, o.Key)
			}
			if err != nil {
				return err
			}
		}
		t.emptied.Store(true)
	}
	if w.cfg.Now().Sub(t.dropped.CreatedAt) < w.cfg.GarbageGrace {
		return nil
	}
	for _, key := range last { // CURRENT before what it points at
		if err := store.Delete(ctx, key); err != nil {
			return err
		}
	}
	w.catalog.bury(id)
	return nil
}

// removeTombstones goes on with what earlier removals left.
func (w *Writer) removeTombstones(ctx context.Context) {
	for _, t := range w.catalog.tombstones() {
		if t.emptied.Load() && w.cfg.Now().Sub(t.dropped.CreatedAt) < w.cfg.GarbageGrace {
			continue
		}
		j := w.dead.begin(jobDrop, t.dropped.Collection, 0, 0, 0)
		if !j.ready() {
			continue
		}
		err := w.removeDropped(ctx, t)
		if ctx.Err() != nil {
			return
		}
		w.metrics.workers.Ran("drop", err)
		if err == nil {
			j.done()
		} else {
			j.failed(err)
			w.cfg.Logger.Warn("objects of a dropped collection stay until the next try", "collection", t.dropped.Collection.ID, "error", err)
		}
	}
}
