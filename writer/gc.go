package writer

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/manifest"
)

// garbage is what is known of objects that no version to come will name: those
// that the manifest lists, and loose ones, which it does not list because they
// were never committed or are manifest bodies. Losing it costs a delay, and a
// few deletes of what is not there.
type garbage struct {
	mu sync.Mutex
	// seen says since when an object is known to be garbage to readers too: a
	// snapshot without it was published, or it was found loose. The grace counts
	// from then, in this process: a commit may have waited for hours since it
	// wrote down the time, and clocks of earlier processes may be wrong.
	seen  map[string]time.Time
	loose map[string]bool // of seen
	// removed objects are gone and still listed: the next commit drops them.
	removed map[string]bool
	body    string              // of the newest snapshot that was shown
	pinned  map[string][]string // what each pin keeps, by its id, as of the last look
	kept    map[string]bool     // what all of pinned keep together; not changed once it is here
	look    time.Time           // when to look for orphans again
}

// show takes note of a snapshot that is being published.
func (g *garbage) show(s *manifest.Snapshot, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	seen, removed := make(map[string]time.Time, len(s.Garbage)), map[string]bool{}
	for k := range g.loose {
		seen[k] = g.seen[k]
	}
	for _, l := range s.Garbage {
		since, known := g.seen[l.Key]
		if !known {
			since = now
		}
		seen[l.Key] = since
		delete(g.loose, l.Key)
		if g.removed[l.Key] {
			removed[l.Key] = true
		}
	}
	g.seen, g.removed = seen, removed
	if body := manifest.BodyKey(s.Collection.ID, s.Version, s.CommitID); body != g.body {
		g.addLoose(now, g.body)
		g.body = body
	}
}

// abandon takes note of objects that were uploaded and will not be committed.
func (g *garbage) abandon(now time.Time, keys ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.addLoose(now, keys...)
}

func (g *garbage) addLoose(now time.Time, keys ...string) {
	if g.loose == nil {
		g.loose = map[string]bool{}
	}
	for _, k := range keys {
		if _, known := g.seen[k]; !known && k != "" {
			g.seen[k], g.loose[k] = now, true
		}
	}
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

func (g *garbage) isLoose(key string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.loose[key]
}

func (g *garbage) markRemoved(key string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.loose[key] {
		delete(g.loose, key)
		delete(g.seen, key)
		return
	}
	g.removed[key] = true
}

func (g *garbage) isRemoved(key string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.removed[key]
}

// collectGarbage removes objects that no version can name any more, once their
// grace is over: what a committed manifest lists as garbage, and orphans. What a
// pin keeps stays. Nothing else is ever removed: no clock and no missing
// reference makes garbage of an object, only a commit that was read back.
func (w *Writer) collectGarbage(ctx context.Context, c *collection) {
	removed, err := c.removeDue(ctx)
	if err == nil {
		err = c.findOrphans(ctx)
	}
	switch {
	case ctx.Err() != nil:
	case err != nil:
		w.metrics.workers.Ran("gc", err)
		w.cfg.Logger.Warn("garbage stays until the next try", "collection", c.meta.Name, "error", err)
	case removed > 0:
		w.metrics.workers.Ran("gc", nil)
	}
}

func (c *collection) removeDue(ctx context.Context) (removed int, err error) {
	cur, snap := c.log.Newest()
	pinned, err := c.pinned(ctx, snap)
	if err != nil {
		return 0, err
	}
	due := c.garbage.due(c.w.cfg.Now().Add(-c.w.cfg.GarbageGrace))
	if len(due) == 0 {
		return 0, nil
	}
	named := map[string]bool{cur.Manifest.Key: true}
	for o := range snap.Objects() {
		named[o.Key] = true
	}
	for _, key := range due {
		if pinned[key] || named[key] && c.garbage.isLoose(key) {
			continue
		}
		if err := c.w.cfg.Store.Delete(ctx, key); err != nil {
			return removed, err
		}
		c.garbage.markRemoved(key)
		removed++
	}
	return removed, nil
}

// pinned returns what the pins of snap keep. Each is read once; what one kept
// that is gone gets a grace of its own.
func (c *collection) pinned(ctx context.Context, snap *manifest.Snapshot) (map[string]bool, error) {
	c.garbage.mu.Lock()
	known, kept := c.garbage.pinned, c.garbage.kept
	c.garbage.mu.Unlock()
	isNew := func(p manifest.Pin) bool { _, old := known[p.ID]; return !old }
	if kept != nil && len(known) == len(snap.Pins) && !slices.ContainsFunc(snap.Pins, isNew) {
		return kept, nil // it is asked for with every sweep, and pins seldom change
	}
	keys, byPin := map[string]bool{}, map[string][]string{}
	for _, pin := range snap.Pins {
		kept, ok := known[pin.ID]
		if !ok {
			var err error
			if kept, err = manifest.Pinned(ctx, c.w.cfg.Store, pin); err != nil {
				return nil, fmt.Errorf("read pinned version %d: %w", pin.Manifest.Version, err)
			}
		}
		byPin[pin.ID] = kept
		keys[manifest.SnapshotKey(c.meta.ID, pin.ID)], keys[manifest.ExportKey(c.meta.ID, pin.ID)] = true, true
		for _, k := range kept {
			keys[k] = true
		}
	}
	c.garbage.mu.Lock()
	defer c.garbage.mu.Unlock()
	for pin, kept := range c.garbage.pinned {
		if _, still := byPin[pin]; still {
			continue
		}
		for _, k := range kept {
			if _, known := c.garbage.seen[k]; known {
				c.garbage.seen[k] = c.w.cfg.Now()
			}
		}
	}
	c.garbage.pinned, c.garbage.kept = byPin, keys
	return keys, nil
}

// findOrphans looks now and then for what processes left that died, and for
// manifest bodies from before this one began. It is a listing of the whole
// collection, so it is rare.
func (c *collection) findOrphans(ctx context.Context) error {
	now := c.w.cfg.Now()
	c.garbage.mu.Lock()
	wait := now.Before(c.garbage.look)
	c.garbage.mu.Unlock()
	if wait {
		return nil
	}
	cur, snap := c.log.Newest()
	pinned, err := c.pinned(ctx, snap)
	if err != nil {
		return err
	}
	var found []string
	orphan := manifest.Orphans(cur, snap, pinned)
	for o, err := range blob.Objects(ctx, c.w.cfg.Store, blob.Listing{Prefix: manifest.CollectionPrefix(c.meta.ID)}) {
		if err != nil {
			return err
		}
		if orphan(o.Key) {
			found = append(found, o.Key)
		}
	}
	described := map[string]bool{}
	for o, err := range blob.Objects(ctx, c.w.cfg.Store, blob.Listing{Prefix: manifest.SnapshotsPrefix(c.meta.ID)}) {
		if err != nil {
			return err
		}
		described[o.Key] = true
		if !pinned[o.Key] && o.Key != manifest.LatestExportKey(c.meta.ID) {
			found = append(found, o.Key)
		}
	}
	for _, pin := range snap.Pins {
		if pin.Branch == "" && !described[manifest.SnapshotKey(c.meta.ID, pin.ID)] {
			if err := c.describe(ctx, pin); err != nil {
				return err
			}
		}
	}
	c.garbage.mu.Lock()
	defer c.garbage.mu.Unlock()
	c.garbage.addLoose(now, found...)
	c.garbage.look = now.Add(c.w.cfg.OrphanEvery)
	return nil
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
		err := removeAll(ctx, store, manifest.CollectionPrefix(id), func(key string) bool { return !slices.Contains(last, key) })
		if err == nil { // exports are copies, and stay
			err = removeAll(ctx, store, manifest.SnapshotsPrefix(id), func(key string) bool { return strings.HasSuffix(key, ".json") })
		}
		if err != nil {
			return err
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

// removeAll removes the objects below prefix that which holds for.
func removeAll(ctx context.Context, store blob.Store, prefix string, which func(key string) bool) error {
	for o, err := range blob.Objects(ctx, store, blob.Listing{Prefix: prefix}) {
		if err == nil && which(o.Key) {
			err = store.Delete(ctx, o.Key)
		}
		if err != nil {
			return err
		}
	}
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
