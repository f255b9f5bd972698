// Package verify proves a store whole: that what every collection's CURRENT
// says can be read, to the last byte, and that nothing else is there.
//
// It trusts nothing but the hashes that lead down from CURRENT:
//
//	CURRENT (own checksum) → manifest body (SHA-256) → its parents, as far back as they are kept
//	manifest body → objects (size, CRC32C of the whole) → rows (set digest, ids, sequence numbers)
//	pins → their manifest bodies → their objects
//	listing → what nothing names: orphans
//
// It writes nothing. A writer may be at work meanwhile: a collection whose
// CURRENT moves under a check is checked again.
package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/manifest"
)

// Options says how thorough to be.
type Options struct {
	// Collections are the names or ids to look at; none means all.
	Collections []string
	// Shallow leaves the contents of objects unread: existence and size only.
	Shallow bool
	// OrphanGrace is how old an orphan may be that is not counted as a problem:
	// a running writer removes it by then. 0 means two hours.
	OrphanGrace time.Duration
	// Now is the clock that orphans are old by. Nil means time.Now.
	Now func() time.Time
	// Progress, if set, is told of every object that was read, one at a time.
	Progress func(collection, key string, size int64)
}

// Report is what was found.
type Report struct {
	Collections []Collection `json:"collections"`
	Problems    []Problem    `json:"problems"` // none: the store is whole
}

// Collection is what was looked at of one collection.
type Collection struct {
	ID       string `json:"collection_id"`
	Name     string `json:"name"`
	Dropped  bool   `json:"dropped,omitempty"`
	Version  uint64 `json:"manifest_version"`
	Epoch    uint64 `json:"epoch"`
	Owner    string `json:"owner"`          // uuid of the log that may commit
	Chain    int    `json:"versions"`       // manifest bodies that are kept and fit together, CURRENT's included
	Oldest   uint64 `json:"oldest_version"` // of them
	Pins     int    `json:"pins"`           // versions kept for snapshots and branches
	Segments int    `json:"segments"`       // of the newest version
	Rows     uint64 `json:"rows"`           // live
	Objects  int    `json:"objects"`        // that were checked, those of pins included
	Bytes    int64  `json:"bytes"`          // of them
	Digest   string `json:"set_digest"`     // of the live rows, as they were read; empty when they were not
	Orphans  int    `json:"orphans"`        // objects that no kept version names
	InFlight int    `json:"in_flight"`      // objects of the present epoch that no version names yet
	Foreign  int    `json:"foreign"`        // objects that are not of AkiDB's making
}

// Problem is one thing that is wrong.
type Problem struct {
	Collection string `json:"collection_id,omitempty"`
	Key        string `json:"key,omitempty"` // of the object
	What       string `json:"what"`
}

func (p Problem) String() string {
	switch {
	case p.Key != "":
		return p.Key + ": " + p.What
	case p.Collection != "":
		return fmt.Sprintf("collection %s: %s", p.Collection, p.What)
	}
	return p.What
}

// Store checks the collections of a store. What is wrong is in the report; an
// error is for what could not be looked at.
func Store(ctx context.Context, store blob.Store, opts Options) (*Report, error) {
	if opts.OrphanGrace == 0 {
		opts.OrphanGrace = 2 * time.Hour
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	ids, err := manifest.List(ctx, store)
	if err != nil {
		return nil, err
	}
	report := &Report{Collections: []Collection{}, Problems: []Problem{}}
	wanted := slices.Clone(opts.Collections)
	for _, id := range ids {
		c := &check{store: store, opts: opts, id: id}
		for attempt := 0; ; attempt++ {
			*c = check{store: store, opts: opts, id: id}
			moved, err := c.run(ctx)
			if err != nil {
				return nil, fmt.Errorf("collection %s: %w", id, err)
			}
			if !moved || attempt == attempts {
				break
			}
		}
		if c.skipped {
			continue
		}
		wanted = slices.DeleteFunc(wanted, func(w string) bool { return w == c.found.ID || w == c.found.Name })
		report.Collections = append(report.Collections, c.found)
		report.Problems = append(report.Problems, c.problems...)
	}
	for _, w := range wanted {
		report.Problems = append(report.Problems, Problem{What: fmt.Sprintf("there is no collection %q", w)})
	}
	return report, nil
}

// attempts is how often a collection is checked again that a writer changed
// meanwhile. After that what was seen is reported as it was.
const attempts = 3

// check is that of one collection, once.
type check struct {
	store blob.Store
	opts  Options
	id    string

	cur      manifest.Current
	snap     *manifest.Snapshot
	found    Collection
	skipped  bool
	pinned   map[string]bool
	chain    map[string]time.Time // when the version of a body was replaced, by key
	mu       sync.Mutex
	checked  map[string]bool // objects that were, by key
	problems []Problem
}

// wrong takes note of a problem. What only says that the store cannot be
// reached is none, and is returned.
func (c *check) wrong(key string, err error) error {
	if errors.Is(err, blob.ErrUnavailable) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.problems = append(c.problems, Problem{Collection: c.id, Key: key, What: err.Error()})
	return nil
}

func (c *check) wrongf(key, format string, args ...any) {
	_ = c.wrong(key, fmt.Errorf(format, args...))
}

// run reports whether CURRENT was replaced while there were problems: they may
// be of a version that is no more.
func (c *check) run(ctx context.Context) (moved bool, err error) {
	c.checked, c.pinned, c.chain = map[string]bool{}, map[string]bool{}, map[string]time.Time{}
	c.found.ID = c.id
	c.snap, c.cur, err = manifest.Read(ctx, c.store, c.id)
	switch {
	case errors.Is(err, blob.ErrNotFound): // a creation or a removal that was interrupted
		c.skipped = true
		return false, nil
	case err != nil:
		return false, c.wrong(manifest.CurrentKey(c.id), err)
	}
	s := c.snap
	c.found.Name, c.found.Dropped, c.found.Version, c.found.Epoch = s.Collection.Name, s.Dropped, s.Version, s.Epoch
	c.found.Owner, c.found.Pins, c.found.Segments, c.found.Rows = c.cur.Owner, len(s.Pins), len(s.Segments), s.Rows()
	if w := c.opts.Collections; len(w) > 0 && !slices.Contains(w, c.id) && !slices.Contains(w, s.Collection.Name) {
		c.skipped = true
		return false, nil
	}
	for _, part := range []func(context.Context) error{c.history, c.objects, c.rows, c.pins, c.origins, c.listing} {
		if s.Dropped {
			break // its objects are being removed
		}
		if err := part(ctx); err != nil {
			return false, err
		}
	}
	if len(c.problems) == 0 {
		return false, nil
	}
	now, err := manifest.Peek(ctx, c.store, c.id)
	if errors.Is(err, blob.ErrNotFound) {
		return true, nil
	}
	return err == nil && now.CommitID != c.cur.CommitID, err
}

// history walks the chain as far back as it is kept.
func (c *check) history(ctx context.Context) error {
	child := c.snap
	for s, err := range manifest.History(ctx, c.store, c.cur) {
		switch {
		case errors.Is(err, blob.ErrNotFound):
			return nil // collected, and everything before it
		case err != nil:
			return c.wrong(child.Parent.Key, err)
		}
		if s.Version < c.snap.Version {
			c.chain[child.Parent.Key] = child.CreatedAt
		}
		c.found.Chain++
		c.found.Oldest = s.Version
		child = s
	}
	return nil
}

// objects checks what the newest version names.
func (c *check) objects(ctx context.Context) error {
	for o := range c.snap.Objects() {
		if err := c.object(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

// pins checks what pinned versions name.
func (c *check) pins(ctx context.Context) error {
	for _, pin := range c.snap.Pins {
		c.pinned[pin.Manifest.Key] = true
		s, err := manifest.ReadBody(ctx, c.store, pin.Manifest)
		if err != nil {
			if err := c.wrong(pin.Manifest.Key, fmt.Errorf("pinned by %s: %w", pin.ID, err)); err != nil {
				return err
			}
			continue
		}
		if s.Rows() != pin.Rows {
			c.wrongf(pin.Manifest.Key, "pinned by %s with %d rows, has %d", pin.ID, pin.Rows, s.Rows())
		}
		for o := range s.Objects() {
			c.pinned[o.Key] = true
			if err := c.object(ctx, o); err != nil {
				return err
			}
		}
	}
	return nil
}

// origins checks that what is another collection's is kept there.
func (c *check) origins(ctx context.Context) error {
	for _, origin := range c.snap.Origins {
		s, _, err := manifest.Read(ctx, c.store, origin)
		if err != nil {
			if err := c.wrong(manifest.CurrentKey(origin), fmt.Errorf("origin of collection %s: %w", c.id, err)); err != nil {
				return err
			}
			continue
		}
		kept := slices.ContainsFunc(s.Pins, func(p manifest.Pin) bool { return p.Branch != "" })
		if !kept {
			c.wrongf("", "objects of collection %s are read, and nothing keeps them there", origin)
		}
	}
	return nil
}

// readAtOnce is how much of an object is in memory while it is checked.
const readAtOnce = 4 << 20

// object checks one object, once: that it is there, its size, and unless the
// check is shallow every byte.
func (c *check) object(ctx context.Context, want manifest.Ref) error {
	if c.checked[want.Key] {
		return nil
	}
	c.checked[want.Key] = true
	got, err := c.store.Stat(ctx, want.Key)
	if err != nil {
		return c.wrong(want.Key, err)
	}
	if got.Size != want.Size {
		c.wrongf(want.Key, "has %d bytes, want %d", got.Size, want.Size)
		return nil
	}
	if !c.opts.Shallow {
		sum, err := checksum(ctx, c.store, want)
		if err != nil {
			return c.wrong(want.Key, err)
		}
		if sum != want.CRC32C {
			c.wrongf(want.Key, "has crc32c %08x, want %08x", sum, want.CRC32C)
		}
	}
	c.found.Objects++
	c.found.Bytes += want.Size
	if c.opts.Progress != nil {
		c.opts.Progress(c.found.Name, want.Key, want.Size)
	}
	return nil
}

// view opens the newest version as a reader would, which checks footers,
// quantizers and delete vectors against each other. It is nil when something in
// it cannot be opened.
func (c *check) view(ctx context.Context) (*segments.View, error) {
	view, err := segments.OpenView(ctx, blob.Direct(c.store), c.snap, nil)
	if err != nil {
		return nil, c.wrong("", err)
	}
	return view, nil
}
