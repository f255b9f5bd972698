package query

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sync/errgroup"

	"github.com/akidb/akidb/segments/manifest"
)

// loadParallel is how many collections are read at once when names are listed:
// two small objects each.
const loadParallel = 64

// catalog knows the collections of the store by id and name. Names are only a
// hint where to look: every use of a collection goes through its replica, which
// knows whether it still exists. To know names takes the manifests of all
// collections; the segments of one are opened when it is asked for.
type catalog struct {
	service *Service

	mu    sync.Mutex
	byID  map[string]*replica
	names map[string]string // name → id
	// unreadable is why some collections are missing from the maps, nil when
	// none is.
	unreadable error
	// dropped are collections that will never be again. Their CURRENT stays in
	// the store as a tombstone; it need not be read twice.
	dropped map[string]bool

	listings rounds
	running  sync.WaitGroup // added to under mu while not closed
	closed   bool
}

func newCatalog(s *Service) *catalog {
	return &catalog{service: s, byID: map[string]*replica{}, names: map[string]string{}, dropped: map[string]bool{}}
}

// background runs fn until the service is closed.
func (c *catalog) background(fn func(context.Context)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.running.Go(func() { fn(c.service.background) })
}

// wait returns when nothing runs in the background any more, and sees to it
// that nothing new does.
func (c *catalog) wait() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.running.Wait()
}

// find returns a collection by name or id, with its segments open. An unknown one
// is looked for in the store before it is said not to exist.
func (c *catalog) find(ctx context.Context, nameOrID string) (*replica, error) {
	for attempt := 0; ; attempt++ {
		r := c.known(nameOrID)
		if r == nil {
			var err error
			if r, err = c.lookFor(ctx, nameOrID); err != nil {
				return nil, err
			}
		}
		err := r.opened(ctx)
		switch {
		case errors.Is(err, errGone):
			c.forget(r.id)
			if attempt > 0 {
				return nil, noSuchCollection(nameOrID)
			}
		case err != nil && mayServeStale(err):
			return nil, unavailable("the collection cannot be read from the store now", err)
		default:
			return r, err
		}
	}
}

// lookFor looks a collection up in the store: an id by its CURRENT, and names by
// reading all that are not known.
func (c *catalog) lookFor(ctx context.Context, nameOrID string) (*replica, error) {
	if _, err := ulid.ParseStrict(nameOrID); err == nil {
		r := c.replicas([]string{nameOrID})
		if len(r) == 1 {
			if _, err := r[0].readHead(ctx); err == nil {
				return c.adopt(r[0]), nil
			} else if !errors.Is(err, errGone) {
				return nil, unavailable("the collection cannot be read from the store now", err)
			}
		}
	}
	if err := c.refresh(ctx); err != nil {
		return nil, unavailable("collections cannot be listed now", err)
	}
	if r := c.known(nameOrID); r != nil {
		return r, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unreadable != nil {
		return nil, c.unreadable // it may be one of those
	}
	return nil, noSuchCollection(nameOrID)
}

// adopt makes r known, and returns the one that is known if another was faster.
func (c *catalog) adopt(r *replica) *replica {
	c.mu.Lock()
	defer c.mu.Unlock()
	if there := c.byID[r.id]; there != nil {
		return there
	}
	c.byID[r.id] = r
	return r
}

func (c *catalog) known(nameOrID string) *replica {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id, ok := c.names[nameOrID]; ok {
		return c.byID[id]
	}
	return c.byID[nameOrID]
}

// forget takes out a collection that turned out to be gone.
func (c *catalog) forget(id string) {
	c.mu.Lock()
	delete(c.byID, id)
	for name, of := range c.names {
		if of == id {
			delete(c.names, name)
		}
	}
	c.mu.Unlock()
	c.service.resident.hide(id)
}

// refresh reads which collections the store has. Callers share listings.
func (c *catalog) refresh(ctx context.Context) error {
	return c.listings.do(ctx, c.service.background, c.list)
}

func (c *catalog) list(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	ids, err := manifest.List(ctx, c.service.cfg.Store)
	if err != nil {
		return err
	}
	replicas := c.replicas(ids)
	failed := c.load(ctx, replicas)
	for _, id := range c.replace(replicas, failed) {
		c.service.resident.hide(id)
	}
	return nil
}

// replace makes replicas those that are known, but for the ones that could not
// be read, and returns the ids of others that were.
func (c *catalog) replace(replicas []*replica, failed []error) (gone []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.byID
	c.byID, c.names, c.unreadable = map[string]*replica{}, map[string]string{}, nil
	for i, r := range replicas {
		switch {
		case failed[i] == nil:
			if there := old[r.id]; there != nil {
				r = there // found by its id meanwhile
			}
			c.byID[r.id] = r
			// Ids ascend with time: of two namesakes the later one lives.
			c.names[r.name()] = r.id
		case errors.Is(failed[i], errDropped):
			c.dropped[r.id] = true
		case errors.Is(failed[i], errGone): // being created, or it never was
		default:
			c.unreadable = errors.Join(c.unreadable, fmt.Errorf("collection %q: %w", r.id, failed[i]))
		}
	}
	for id := range old {
		if c.byID[id] == nil {
			gone = append(gone, id)
		}
	}
	return gone
}

// replicas returns those of ids, without the dropped ones, making what is new.
func (c *catalog) replicas(ids []string) []*replica {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []*replica
	for _, id := range ids {
		switch {
		case c.dropped[id]:
		case c.byID[id] != nil:
			out = append(out, c.byID[id])
		default:
			out = append(out, &replica{id: id, service: c.service, past: newPast()})
		}
	}
	return out
}

// load reads the manifests of collections that were never read. The others are
// known by their names already, which do not change.
func (c *catalog) load(ctx context.Context, replicas []*replica) []error {
	failed := make([]error, len(replicas))
	var g errgroup.Group
	g.SetLimit(loadParallel)
	for i, r := range replicas {
		if r.head.Load() == nil {
			g.Go(func() error {
				_, failed[i] = r.readHead(ctx)
				return nil
			})
		}
	}
	_ = g.Wait()
	return failed
}

// present returns the collections that are known, in no order.
func (c *catalog) present() []*replica {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Values(c.byID))
}

// all returns every collection, by name.
func (c *catalog) all(ctx context.Context) ([]*replica, error) {
	if err := c.refresh(ctx); err != nil {
		return nil, unavailable("collections cannot be listed now", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unreadable != nil {
		return nil, c.unreadable
	}
	out := make([]*replica, 0, len(c.names))
	for _, id := range c.names { // not byID, which may still have a namesake that was dropped
		out = append(out, c.byID[id])
	}
	sort.Slice(out, func(i, j int) bool {
		return strings.Compare(out[i].name(), out[j].name()) < 0
	})
	return out, nil
}
