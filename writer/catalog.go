package writer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/manifest"
	"github.com/akidb/akidb/writer/wal"
)

// catalog knows the collections of this Writer. Names are lower case and ids
// upper, so that one never passes for the other.
type catalog struct {
	mu      sync.RWMutex
	byName  map[string]*collection // nil while the collection is being created
	byID    map[string]*collection
	byLog   map[wal.CollectionID]*collection
	dropped map[string]*tombstone // by id
}

func newCatalog() *catalog {
	return &catalog{
		byName: map[string]*collection{}, byID: map[string]*collection{},
		byLog: map[wal.CollectionID]*collection{}, dropped: map[string]*tombstone{},
	}
}

// find returns a collection by name or id.
func (k *catalog) find(nameOrID string) (*collection, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	c := k.byName[nameOrID]
	if c == nil {
		c = k.byID[nameOrID]
	}
	if c == nil {
		return nil, notFound(nameOrID)
	}
	return c, nil
}

func notFound(nameOrID string) *httpapi.Error {
	return httpapi.NotFound("collection_not_found", "there is no collection %q", fmt.Sprintf("%.128s", strings.ToValidUTF8(nameOrID, "?")))
}

func (k *catalog) byWAL(id wal.CollectionID) *collection {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.byLog[id]
}

// all returns the collections, ordered by name.
func (k *catalog) all() []*collection {
	k.mu.RLock()
	defer k.mu.RUnlock()
	out := make([]*collection, 0, len(k.byID))
	for _, c := range k.byID {
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b *collection) int {
		return cmp.Or(cmp.Compare(a.meta.Name, b.meta.Name), cmp.Compare(a.meta.ID, b.meta.ID))
	})
	return out
}

// reserve takes a name for a collection to come.
func (k *catalog) reserve(name string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if c, taken := k.byName[name]; taken {
		e := httpapi.Conflict("name_taken", "there is already a collection %q", name)
		if c == nil {
			e = e.WithHint("it is being created right now")
		}
		return e
	}
	k.byName[name] = nil
	return nil
}

func (k *catalog) unreserve(name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.byName, name)
}

// add makes a collection known. Should two have one name, the older keeps it and
// the other answers to its id.
func (k *catalog) add(c *collection) (ownsName bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.byID[c.meta.ID], k.byLog[c.walID] = c, c
	if other := k.byName[c.meta.Name]; other != nil && other.meta.ID < c.meta.ID {
		return false
	}
	k.byName[c.meta.Name] = c
	return true
}

// remove forgets a collection; its name is free.
func (k *catalog) remove(c *collection, t *tombstone) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.byName[c.meta.Name] == c {
		delete(k.byName, c.meta.Name)
	}
	delete(k.byID, c.meta.ID)
	delete(k.byLog, c.walID)
	k.dropped[c.meta.ID] = t
}

func (k *catalog) tombstones() []*tombstone {
	k.mu.RLock()
	defer k.mu.RUnlock()
	out := make([]*tombstone, 0, len(k.dropped))
	for _, t := range k.dropped {
		out = append(out, t)
	}
	return out
}

func (k *catalog) mourn(t *tombstone) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.dropped[t.dropped.Collection.ID] = t
}

func (k *catalog) isDropped(id string) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.dropped[id] != nil
}

func (k *catalog) bury(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.dropped, id)
}

// create makes a collection. It goes on when ctx ends: the name stays taken
// until it is known whether there is such a collection.
func (w *Writer) create(ctx context.Context, meta manifest.Collection) (*collection, error) {
	if err := w.refusal(); err != nil {
		return nil, err
	}
	if !w.joined.Load() {
		return nil, fmt.Errorf("create collection %q: names are not known, for the store was away when the writer started: %w", meta.Name, blob.ErrUnavailable)
	}
	name := meta.Name
	if err := w.catalog.reserve(name); err != nil {
		return nil, err
	}
	meta.ID, meta.CreatedAt = w.cfg.NewID().String(), w.cfg.Now().UTC()
	return detached(ctx, w, func(ctx context.Context) (*collection, error) {
		c, err := w.createNow(ctx, &manifest.Snapshot{Collection: meta, SetDigest: new(manifest.SetDigest)})
		if err != nil {
			w.catalog.unreserve(name)
			return nil, fmt.Errorf("create collection %q: %w", name, err)
		}
		return c, nil
	})
}

// createNow makes the collection of which first is the first version. Its name
// is reserved.
func (w *Writer) createNow(ctx context.Context, first *manifest.Snapshot) (*collection, error) {
	meta := first.Collection
	walID, err := walCollection(meta.ID)
	if err != nil {
		return nil, err
	}
	if err := w.holdsStore(ctx); err != nil {
		return nil, err
	}
	log, err := manifest.Branch(ctx, w.cfg.Store, first, w.owner, w.manifestOptions(meta.Name)...)
	var unknown *manifest.UnknownError
	if errors.As(err, &unknown) {
		var made bool
		err = w.retry(ctx, "create", meta.Name, func() (err error) {
			made, err = log.Resolve(ctx, unknown)
			return err
		})
		if err == nil && !made {
			err = manifest.ErrExists
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", unknown, err)
		}
	} else if err != nil {
		return nil, err
	}
	snap := log.Snapshot()
	c := newCollection(w, snap.Collection, walID, snap.FlushedSeq)
	var view *segments.View
	err = w.retry(ctx, "create", meta.Name, func() (err error) {
		view, err = segments.OpenView(ctx, w.cfg.Ranges, snap, nil)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := c.adopt(log, view); err != nil {
		panic(fmt.Sprintf("BUG: a new collection: %v", err))
	}
	c.covered(log.Snapshot()) // before the log may have anything of it
	w.catalog.add(c)
	c.start()
	c.reportSize(ctx)
	w.cfg.Logger.Info("collection created", "collection", meta.Name, "id", meta.ID, "dimension", meta.Dimension, "metric", meta.Metric)
	return c, nil
}

// manifestOptions gives a manifest log this Writer's clock and patience.
func (w *Writer) manifestOptions(collection string) []manifest.Option {
	return []manifest.Option{
		manifest.WithClock(w.cfg.Now),
		manifest.WithWait(func(ctx context.Context, attempt int) error {
			w.cfg.Logger.Warn("the object store does not take a manifest; trying again", "collection", collection, "attempt", attempt+1)
			return w.pause(ctx, attempt, errManifest)
		}),
	}
}
