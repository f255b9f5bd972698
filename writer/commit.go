package writer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/columns"
	"github.com/akidb/akidb/segments/manifest"
)

// commit makes edit's change to the manifest that base is a view of, and shows
// readers the result. When it returns nil that has happened; errMoved says that
// base is outdated and the change has to be planned again, on c.view. Callers
// hold commits.
func (c *collection) commit(ctx context.Context, base *segments.View, edit func(next *manifest.Snapshot) error) error {
	_, err := c.log.Commit(ctx, func(next *manifest.Snapshot) error {
		if next.Version != base.Snapshot.Version {
			return errMoved
		}
		c.forgetRemoved(next)
		err := edit(next)
		forgetOrigins(next)
		return err
	})
	var unknown *manifest.UnknownError
	if errors.As(err, &unknown) {
		err = c.resolve(ctx, unknown)
	}
	if errors.Is(err, manifest.ErrFenced) {
		c.w.fail(takeoverHint(err))
	}
	if err != nil && !errors.Is(err, errMoved) {
		return err
	}
	// Also when the manifest has moved: by a commit of ours that was given up
	// while its outcome was unknown.
	if refreshed := c.refresh(ctx); refreshed != nil {
		return refreshed
	}
	return err
}

// forgetOrigins drops the origins of which next names nothing any more.
func forgetOrigins(next *manifest.Snapshot) {
	next.Origins = slices.DeleteFunc(next.Origins, func(origin string) bool { return !namesOf(next, origin) })
}

// namesOf reports whether s names an object of a collection.
func namesOf(s *manifest.Snapshot, collection string) bool {
	for o := range s.Objects() {
		if strings.HasPrefix(o.Key, manifest.CollectionPrefix(collection)) {
			return true
		}
	}
	return false
}

// objectID is an id for an object that is about to be made.
func (c *collection) objectID() string { return manifest.ObjectID(c.epoch(), c.w.cfg.NewID().String()) }

// resolve finds out what became of a commit; nil says that it was applied.
func (c *collection) resolve(ctx context.Context, unknown *manifest.UnknownError) error {
	var applied bool
	err := c.w.retry(ctx, "commit", c.meta.Name, func() (err error) {
		applied, err = c.log.Resolve(ctx, unknown)
		return err
	})
	if err == nil && !applied {
		err = errMoved
	}
	if err != nil {
		// The chain keeps the attempt in mind: its next commit begins with it.
		return fmt.Errorf("%w: %w", unknown, err)
	}
	return nil
}

// refresh makes readers see the newest committed snapshot. Callers hold commits.
func (c *collection) refresh(ctx context.Context) error {
	snap := c.log.Snapshot()
	c.mu.RLock()
	view := c.view
	c.mu.RUnlock()
	if view.Snapshot == snap {
		return nil
	}
	return c.w.retry(ctx, "commit", c.meta.Name, func() error {
		next, err := segments.OpenView(ctx, c.w.cfg.Ranges, snap, view)
		if err == nil {
			c.covered(snap)
			c.publish(next)
		}
		return err
	})
}

// change is what becomes of one segment in a commit.
type change struct {
	segment string
	// deletes replaces the segment's delete vector. Nil removes the segment:
	// none of its rows is left.
	deletes *manifest.DeleteVector
}

// plan is what a commit changes in older segments. It holds for one view, and
// as long as that is the newest, attempts share its uploads.
type plan struct {
	view    *segments.View
	made    bool // changes and gone are there
	changes []change
	gone    manifest.SetDigest // of the rows that changes hide
	// uploaded are delete vectors by their segment, also while not all are: an
	// attempt goes on where the one before it failed.
	uploaded map[string]*manifest.DeleteVector
}

// supersede finds the live rows of view whose id is among ids: their ordinals
// by segment, nil for none, and the digest of all of them.
func supersede(ctx context.Context, view *segments.View, ids []string) ([]*roaring.Bitmap, manifest.SetDigest, error) {
	hidden, gone := make([]*roaring.Bitmap, len(view.Segments)), manifest.SetDigest{}
	at, found, err := view.Lookup(ctx, ids)
	if err != nil {
		return nil, gone, err
	}
	var rows []segments.Location
	var rowIDs []string
	for i, l := range at {
		if !found[i] {
			continue
		}
		if hidden[l.Segment] == nil {
			hidden[l.Segment] = roaring.New()
		}
		hidden[l.Segment].Add(l.Ordinal)
		rows, rowIDs = append(rows, l), append(rowIDs, ids[i])
	}
	if view.Snapshot.SetDigest == nil {
		return hidden, gone, nil // nobody asks
	}
	read, err := view.RowsAt(ctx, rows, columns.ProjectSeq)
	if err != nil {
		return nil, gone, err
	}
	for i, seq := range read.Seqs {
		gone.Add(rowIDs[i], seq)
	}
	return hidden, gone, nil
}

// replan makes p the plan of hiding the live rows that ids have in view. Called
// again after it failed, it repeats nothing that was uploaded.
func (c *collection) replan(ctx context.Context, p *plan, view *segments.View, ids []string) error {
	if p.view != view {
		for _, d := range p.uploaded { // for a plan that was refused
			c.garbage.abandon(c.w.cfg.Now(), d.Key)
		}
		*p = plan{view: view, uploaded: map[string]*manifest.DeleteVector{}}
	}
	if p.made {
		return nil
	}
	hidden, gone, err := supersede(ctx, view, ids)
	if err != nil {
		return fmt.Errorf("find superseded rows: %w", err)
	}
	p.changes, err = c.hide(ctx, p, hidden)
	p.gone, p.made = gone, err == nil
	return err
}

// hide prepares the deletion of rows: hidden[i] are ordinals of the segment i of
// p's view, nil for none. Delete vectors are uploaded under fresh keys.
func (c *collection) hide(ctx context.Context, p *plan, hidden []*roaring.Bitmap) ([]change, error) {
	view := p.view
	var changes []change
	for i, rows := range hidden {
		if rows == nil || rows.IsEmpty() {
			continue
		}
		seg := view.Segments[i]
		if seg.Deleted != nil {
			rows = roaring.Or(rows, seg.Deleted)
		}
		ch := change{segment: seg.Segment().ID}
		if rows.GetCardinality() < uint64(seg.Rows()) {
			if p.uploaded[ch.segment] == nil {
				deletes, err := c.putDeletes(ctx, ch.segment, rows)
				if err != nil {
					return nil, err
				}
				p.uploaded[ch.segment] = deletes
			}
			ch.deletes = p.uploaded[ch.segment]
		}
		changes = append(changes, ch)
	}
	return changes, nil
}

func (c *collection) putDeletes(ctx context.Context, segment string, rows *roaring.Bitmap) (*manifest.DeleteVector, error) {
	key := manifest.DeletesKey(c.meta.ID, segment, c.objectID())
	return segments.PutDeletes(ctx, c.w.cfg.Store, key, rows)
}

// edit changes next as the changes say, and turns what is no longer named into
// garbage.
func (c *collection) edit(next *manifest.Snapshot, changes []change) {
	for _, ch := range changes {
		i := slices.IndexFunc(next.Segments, func(s manifest.Segment) bool { return s.ID == ch.segment })
		if i < 0 {
			panic(fmt.Sprintf("BUG: collection %q: version %d has no segment %q", c.meta.ID, next.Version, ch.segment))
		}
		if ch.deletes == nil {
			c.retire(next, objects(next.Segments[i])...)
			next.Segments = slices.Delete(next.Segments, i, i+1)
			continue
		}
		if old := next.Segments[i].Deletes; old != nil {
			c.retire(next, old.Key)
		}
		next.Segments[i].Deletes = ch.deletes
	}
}

// retire adds objects that next no longer names to its garbage. Those of an
// origin are the origin's business.
func (c *collection) retire(next *manifest.Snapshot, keys ...string) {
	for _, k := range keys {
		if !strings.HasPrefix(k, manifest.CollectionPrefix(c.meta.ID)) {
			continue
		}
		if !slices.ContainsFunc(next.Garbage, func(g manifest.Garbage) bool { return g.Key == k }) {
			next.Garbage = append(next.Garbage, manifest.Garbage{Key: k, Version: next.Version + 1, RetiredAt: c.w.cfg.Now().UTC()})
		}
	}
}

// objects are the keys of everything a segment consists of.
func objects(s manifest.Segment) []string {
	keys := []string{s.Data.Key, s.Index.Key}
	if s.Deletes != nil {
		keys = append(keys, s.Deletes.Key)
	}
	return keys
}
