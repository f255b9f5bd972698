package writer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/internal/token"
	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/manifest"
)

// A snapshot is a pin in the manifest: taking one copies nothing, and the
// collector keeps what the pinned version names. Restoring one is a new version
// that names the same objects again, never a way back: versions, epochs and
// sequence numbers go on. A branch is a new collection that begins with the
// objects of a pinned version of another.

// maxPins bounds what every manifest of a collection carries along.
const maxPins = 1000

// snapshotFormat is the version of a snapshot's description. Version ledger:
//
//	1  first
const snapshotFormat = 1

// description is what lies at a snapshot's key, for people and tools; the
// manifest alone decides what is pinned.
type description struct {
	Format     int                 `json:"format"`
	SnapshotID string              `json:"snapshot_id"`
	Name       string              `json:"name,omitempty"`
	Collection manifest.Collection `json:"collection"`
	Manifest   manifest.Link       `json:"manifest"`
	Rows       uint64              `json:"rows"`
	CreatedAt  time.Time           `json:"created_at"`
}

// describe writes the description of a snapshot.
func (c *collection) describe(ctx context.Context, pin manifest.Pin) error {
	b, err := json.Marshal(description{
		Format: snapshotFormat, SnapshotID: pin.ID, Name: pin.Name, Collection: c.meta,
		Manifest: pin.Manifest, Rows: pin.Rows, CreatedAt: pin.CreatedAt,
	}, jsontext.WithIndent("  "))
	if err != nil {
		return err
	}
	b = append(b, '\n')
	_, err = c.w.cfg.Store.Put(ctx, manifest.SnapshotKey(c.meta.ID, pin.ID), bytes.NewReader(b), int64(len(b)), blob.Condition{})
	return err
}

// pin makes the newest version, which is flushed up to what was acknowledged
// before the call, one that is kept.
func (c *collection) pin(ctx context.Context, pin manifest.Pin) (manifest.Pin, error) {
	if err := c.flushTo(ctx, c.state().seq); err != nil {
		return pin, err
	}
	pin.CreatedAt = c.w.cfg.Now().UTC()
	err := c.change(ctx, "snapshot", func(cur manifest.Current, next *manifest.Snapshot) error {
		switch _, done := next.Pin(pin.ID); {
		case done: // by an attempt of which the answer was lost
			return errDone
		case len(next.Pins) >= maxPins:
			return httpapi.Conflict("too_many_snapshots", "collection %q has %d snapshots, which is the most", c.meta.Name, len(next.Pins))
		case pin.Name != "" && slices.ContainsFunc(next.Pins, func(p manifest.Pin) bool { return p.Name == pin.Name }):
			return httpapi.Conflict("name_taken", "collection %q already has a snapshot %q", c.meta.Name, pin.Name)
		}
		pin.Manifest, pin.Rows = cur.Manifest, next.Rows()
		next.Pins = append(next.Pins, pin)
		return nil
	})
	return pin, err
}

// errDone ends a change that was made already.
var errDone = errors.New("already so")

// change commits what edit makes of the newest version, which cur names. It is
// tried until it succeeds or edit refuses.
func (c *collection) change(ctx context.Context, worker string, edit func(cur manifest.Current, next *manifest.Snapshot) error) error {
	return c.changeAfter(ctx, worker, func() error { return nil }, edit)
}

// changeAfter is change for an edit that needs something to be done first, with
// no commit in between.
func (c *collection) changeAfter(ctx context.Context, worker string, first func() error, edit func(cur manifest.Current, next *manifest.Snapshot) error) error {
	if err := c.commits.acquire(ctx); err != nil {
		return err
	}
	defer c.commits.release()
	if err := first(); err != nil {
		return err
	}
	var refused error
	err := c.w.retry(ctx, worker, c.meta.Name, func() error {
		for {
			if err := c.refresh(ctx); err != nil {
				return err
			}
			err := c.commit(ctx, c.state().view, func(next *manifest.Snapshot) error {
				refused = edit(c.log.Current(), next)
				return refused
			})
			switch {
			case refused != nil: // an answer, not a failure
				return nil
			case !errors.Is(err, errMoved):
				return err
			}
		}
	})
	if errors.Is(refused, errDone) {
		refused = nil
	}
	return errors.Join(err, refused)
}

// takeSnapshot pins the collection as it is. With export it is also written as
// one Parquet file before the answer.
func (c *collection) takeSnapshot(ctx context.Context, name string, export bool) (manifest.Pin, error) {
	pin, err := c.pin(ctx, manifest.Pin{ID: c.w.cfg.NewID().String(), Name: name})
	if err != nil {
		return pin, err
	}
	if err := c.w.retry(ctx, "snapshot", c.meta.Name, func() error { return c.describe(ctx, pin) }); err != nil {
		return pin, err
	}
	c.w.cfg.Logger.Info("snapshot taken", "collection", c.meta.Name, "snapshot", pin.ID, "name", name, "version", pin.Manifest.Version, "rows", pin.Rows)
	if export {
		err = c.export(ctx, pin)
	}
	return pin, err
}

// snapshots are the pins that are no branch's, oldest first.
func (c *collection) snapshots() []manifest.Pin {
	_, snap := c.log.Newest()
	return slices.DeleteFunc(slices.Clone(snap.Pins), func(p manifest.Pin) bool { return p.Branch != "" })
}

// findSnapshot returns a snapshot by its id or name; "latest" is the newest.
func (c *collection) findSnapshot(idOrName string) (manifest.Pin, error) {
	if all := c.snapshots(); idOrName == "latest" && len(all) > 0 {
		return all[len(all)-1], nil
	}
	_, snap := c.log.Newest()
	if pin, ok := snap.NamedPin(idOrName); ok {
		return pin, nil
	}
	return manifest.Pin{}, httpapi.NotFound("snapshot_not_found", "collection %q has no snapshot %q", c.meta.Name, idOrName)
}

// dropSnapshot unpins a version. What only it named is removed after a grace.
func (c *collection) dropSnapshot(ctx context.Context, pin manifest.Pin) error {
	err := c.change(ctx, "snapshot", func(_ manifest.Current, next *manifest.Snapshot) error {
		next.Pins = slices.DeleteFunc(next.Pins, func(p manifest.Pin) bool { return p.ID == pin.ID })
		return nil
	})
	if err != nil {
		return err
	}
	for _, key := range []string{manifest.SnapshotKey(c.meta.ID, pin.ID), manifest.ExportKey(c.meta.ID, pin.ID)} {
		if err := c.w.retry(ctx, "snapshot", c.meta.Name, func() error { return c.w.cfg.Store.Delete(ctx, key) }); err != nil {
			return err
		}
	}
	return nil
}

// restore makes the rows those of a snapshot, and says with which write that
// happened. Writes are refused meanwhile; those before it are undone, those
// after it are not.
func (c *collection) restore(ctx context.Context, pin manifest.Pin) (token.Token, error) {
	if err := c.holdWrites(httpapi.Unavailable("restoring", time.Second, "collection %q is being restored from a snapshot", c.meta.Name)); err != nil {
		return token.Token{}, err
	}
	defer c.resumeWrites()
	// Until something is committed it can be given up, and is when the store is
	// away: writes must not wait for it.
	patience, cancel := context.WithTimeoutCause(ctx, c.w.cfg.WaitLimit, blob.ErrUnavailable)
	defer cancel()
	if err := c.settled(patience); err != nil {
		return token.Token{}, err
	}
	if err := c.flushTo(patience, c.state().seq); err != nil {
		return token.Token{}, err
	}
	old, err := c.w.readPinned(patience, "restore", c.meta.Name, pin)
	if err != nil {
		return token.Token{}, err
	}
	// The mark is what readers will wait for. Nothing may be committed between it
	// and the restore, or they would be content with less.
	mark := &write{kind: kindMark, evenHeld: true}
	var at token.Token
	c.countRestore()       // whoever has read rows by now
	defer c.countRestore() // and by then has read the wrong ones
	err = c.changeAfter(ctx, "restore", func() (err error) {
		at, err = c.apply(ctx, mark)
		return err
	}, func(_ manifest.Current, next *manifest.Snapshot) error {
		if _, pinned := next.Pin(pin.ID); !pinned {
			return httpapi.NotFound("snapshot_not_found", "collection %q has no snapshot %q any more", c.meta.Name, pin.ID)
		}
		c.revert(next, old)
		next.FlushedSeq = max(next.FlushedSeq, at.Seq)
		return nil
	})
	if err == nil {
		c.w.cfg.Logger.Info("snapshot restored", "collection", c.meta.Name, "snapshot", pin.ID, "from_version", pin.Manifest.Version, "token", at.String())
	}
	return at, err
}

// readPinned reads a version that is pinned, until it succeeds.
func (w *Writer) readPinned(ctx context.Context, worker, collection string, pin manifest.Pin) (old *manifest.Snapshot, err error) {
	err = w.retry(ctx, worker, collection, func() (err error) {
		old, err = manifest.ReadBody(ctx, w.cfg.Store, pin.Manifest)
		return err
	})
	return old, err
}

// revert makes next name what old does, which is pinned.
func (c *collection) revert(next, old *manifest.Snapshot) {
	again := map[string]bool{}
	for o := range old.Objects() {
		again[o.Key] = true
	}
	var gone []string
	for o := range next.Objects() {
		if !again[o.Key] {
			gone = append(gone, o.Key)
		}
	}
	next.Garbage = slices.DeleteFunc(next.Garbage, func(g manifest.Garbage) bool { return again[g.Key] })
	next.Segments, next.Quantizers = slices.Clone(old.Segments), slices.Clone(old.Quantizers)
	next.Origins = slices.Clone(old.Origins)
	if old.SetDigest != nil {
		d := *old.SetDigest
		next.SetDigest = &d
	}
	c.retire(next, gone...)
}

// holdWrites refuses writes with an error, until resumeWrites. It fails when
// they are refused already.
func (c *collection) holdWrites(because error) error {
	c.order.Lock()
	defer c.order.Unlock()
	if c.refused == nil {
		c.refused = because
		return nil
	}
	return c.refused
}

func (c *collection) resumeWrites() {
	c.order.Lock()
	defer c.order.Unlock()
	c.refused = nil
}

func (c *collection) countRestore() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.restored++
}

// branch makes a collection that begins with the rows of c as they are now, or
// as they were in a snapshot. Nothing is copied: what the branch reads of c is
// pinned until the branch has rewritten or dropped it.
func (w *Writer) branch(ctx context.Context, c *collection, name string, from *manifest.Pin) (*collection, error) {
	if err := w.catalog.reserve(name); err != nil {
		return nil, err
	}
	b, err := w.branchNow(ctx, c, name, from)
	if err != nil {
		w.catalog.unreserve(name)
		return nil, err
	}
	return b, nil
}

func (w *Writer) branchNow(ctx context.Context, c *collection, name string, from *manifest.Pin) (*collection, error) {
	meta := c.meta
	meta.ID, meta.Name, meta.CreatedAt = w.cfg.NewID().String(), name, w.cfg.Now().UTC()
	pin := manifest.Pin{ID: w.cfg.NewID().String(), Branch: meta.ID}
	c.branching(pin.ID, true)
	defer c.branching(pin.ID, false)
	pin, err := c.pinFor(ctx, pin, from)
	if err != nil {
		return nil, err
	}
	old, err := w.readPinned(ctx, "branch", name, pin)
	if err != nil {
		return nil, err
	}
	first := &manifest.Snapshot{
		Collection: meta, FlushedSeq: old.FlushedSeq, SetDigest: old.SetDigest, Quantizers: old.Quantizers, Segments: old.Segments,
		Origins: append(slices.Clone(old.Origins), c.meta.ID),
	}
	forgetOrigins(first)
	return w.createNow(ctx, first)
}

// pinFor commits a branch's pin: on the version of a snapshot, which is pinned
// already, or on the newest.
func (c *collection) pinFor(ctx context.Context, pin manifest.Pin, from *manifest.Pin) (manifest.Pin, error) {
	if from == nil {
		return c.pin(ctx, pin)
	}
	pin.Manifest, pin.Rows, pin.CreatedAt = from.Manifest, from.Rows, c.w.cfg.Now().UTC()
	return pin, c.change(ctx, "branch", func(_ manifest.Current, next *manifest.Snapshot) error {
		if _, done := next.Pin(pin.ID); done {
			return errDone
		}
		if _, still := next.Pin(from.ID); !still {
			return httpapi.NotFound("snapshot_not_found", "collection %q has no snapshot %q any more", c.meta.Name, from.ID)
		}
		next.Pins = append(next.Pins, pin)
		return nil
	})
}

// branching notes that a branch is being made, which its pin must outlast.
func (c *collection) branching(pin string, yes bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.branches == nil {
		c.branches = map[string]bool{}
	}
	if yes {
		c.branches[pin] = true
	} else {
		delete(c.branches, pin)
	}
}

// branchCount is how many collections may read objects of c.
func (c *collection) branchCount() int {
	_, snap := c.log.Newest()
	c.mu.RLock()
	n := len(c.branches)
	c.mu.RUnlock()
	for _, p := range snap.Pins {
		if p.Branch != "" {
			n++
		}
	}
	return n
}

// releaseBranches unpins what was pinned for branches that read nothing of c any
// more.
func (w *Writer) releaseBranches(ctx context.Context, c *collection) {
	if !w.joined.Load() {
		return // not every branch is known yet
	}
	_, snap := c.log.Newest()
	var done []string
	for _, pin := range snap.Pins {
		if pin.Branch == "" {
			continue
		}
		c.mu.RLock()
		beingMade := c.branches[pin.ID]
		c.mu.RUnlock()
		if beingMade {
			continue
		}
		needed, err := w.readsOf(ctx, pin.Branch, c.meta.ID)
		if err != nil {
			w.cfg.Logger.Warn("a branch's pin stays until the next try", "collection", c.meta.Name, "branch", pin.Branch, "error", err)
			return
		}
		if !needed {
			done = append(done, pin.ID)
		}
	}
	if len(done) == 0 {
		return
	}
	err := c.change(ctx, "branch", func(_ manifest.Current, next *manifest.Snapshot) error {
		next.Pins = slices.DeleteFunc(next.Pins, func(p manifest.Pin) bool { return slices.Contains(done, p.ID) })
		return nil
	})
	if err != nil && ctx.Err() == nil {
		w.cfg.Logger.Warn("a branch's pin stays until the next try", "collection", c.meta.Name, "error", err)
	}
}

// readsOf reports whether a branch, or a version of it that is pinned, names
// objects of a collection.
func (w *Writer) readsOf(ctx context.Context, branch, collection string) (bool, error) {
	b, err := w.catalog.find(branch)
	if err != nil {
		return false, nil // it was dropped, or never came to be
	}
	if err := b.online(); err != nil {
		return false, err
	}
	_, snap := b.log.Newest()
	if slices.Contains(snap.Origins, collection) {
		return true, nil
	}
	pinned, err := b.pinned(ctx, snap)
	for key := range pinned {
		if strings.HasPrefix(key, manifest.CollectionPrefix(collection)) {
			return true, err
		}
	}
	return false, err
}

// export writes a snapshot as one Parquet file, compressed, and as the latest
// export. The rows go through a local file: their number is not bounded by
// memory.
func (c *collection) export(ctx context.Context, pin manifest.Pin) error {
	snap, err := manifest.ReadBody(ctx, c.w.cfg.Store, pin.Manifest)
	if err != nil {
		return err
	}
	view, err := segments.OpenView(ctx, c.w.cfg.Ranges, snap, nil)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(c.w.tempDir(), "export-*.parquet")
	if err != nil {
		return fmt.Errorf("export collection %q: %w", c.meta.Name, err)
	}
	defer func() { _, _ = f.Close(), os.Remove(f.Name()) }()
	size, err := view.Export(ctx, f)
	if err != nil {
		return fmt.Errorf("export collection %q: %w", c.meta.Name, err)
	}
	for _, key := range []string{manifest.ExportKey(c.meta.ID, pin.ID), manifest.LatestExportKey(c.meta.ID)} {
		err := c.w.retry(ctx, "export", c.meta.Name, func() error {
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				return err
			}
			_, err := c.w.cfg.Store.Put(ctx, key, f, size, blob.Condition{})
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
