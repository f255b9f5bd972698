package writer

import (
	"context"
	"errors"
	"fmt"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/segments/manifest"
)

// drop deletes a collection: it is gone once the manifest says so, and the
// name is free. Its objects are removed right after, or by a later sweep, or by
// the next process. It goes on when ctx ends.
func (w *Writer) drop(ctx context.Context, c *collection) error {
	if err := c.online(); err != nil {
		return err
	}
	if err := c.holdWrites(httpapi.Conflict("collection_deleting", "collection %q is being deleted", c.meta.Name)); err != nil {
		return err
	}
	w.releaseBranches(ctx, c)
	if n := c.branchCount(); n > 0 {
		c.resumeWrites()
		return httpapi.Conflict("collection_has_branches", "%d collections were branched from %q and still read its objects", n, c.meta.Name).
			WithHint("compact or delete those first")
	}
	_, err := detached(ctx, w, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, w.dropNow(ctx, c)
	})
	return err
}

func (w *Writer) dropNow(ctx context.Context, c *collection) error {
	c.cancel() // flush and compaction have nothing left to do
	<-c.idle
	if err := c.commits.acquire(ctx); err != nil {
		return err
	}
	defer c.commits.release()
	j := w.dead.begin(jobDrop, c.meta, 0, 0, 0)
	ctx = withJob(ctx, j)
	if err := w.retry(ctx, "drop", c.meta.Name, func() error { return c.commitDrop(ctx) }); err != nil {
		if errors.Is(err, manifest.ErrFenced) {
			w.fail(takeoverHint(err))
		}
		return fmt.Errorf("drop collection %q: %w", c.meta.Name, err)
	}
	if err := c.settled(ctx); err != nil {
		return err
	}
	j.done()
	w.dead.find(jobFlush, c.meta.ID).done()
	w.dead.find(jobCompact, c.meta.ID).done()
	t := &tombstone{current: c.log.Current(), dropped: c.log.Snapshot()}
	w.catalog.remove(c, t)
	w.log.Drop(c.walID)
	c.release()
	w.metrics.size.Remove(c.meta.Name)
	w.cfg.Logger.Info("collection dropped", "collection", c.meta.Name, "id", c.meta.ID)
	w.removeTombstones(ctx)
	return nil
}

// commitDrop makes the last commit of a collection. A start without the store
// must not take writes to it: that comes first.
func (c *collection) commitDrop(ctx context.Context) error {
	if err := c.w.local.drop(c.meta.ID); err != nil {
		return err
	}
	_, err := c.log.Commit(ctx, func(next *manifest.Snapshot) error {
		next.Dropped = true
		return nil
	})
	var unknown *manifest.UnknownError
	if errors.As(err, &unknown) {
		err = c.resolve(ctx, unknown)
	}
	return err
}

// settled waits until every write that was accepted has been applied.
func (c *collection) settled(ctx context.Context) error {
	for {
		c.mu.RLock()
		var any *write
		for _, any = range c.pending {
			break
		}
		c.mu.RUnlock()
		if any == nil {
			return nil
		}
		select {
		case <-any.applied:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
