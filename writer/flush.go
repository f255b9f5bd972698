package writer

import (
	"context"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"github.com/akidb/akidb/internal/memtable"
	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/columns"
	"github.com/akidb/akidb/segments/manifest"
)

// flushDue reports whether the flusher has something to do.
func (c *collection) flushDue() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.frozen != nil {
		return true
	}
	if c.active.Snapshot().Count() == 0 {
		return false
	}
	return c.active.Bytes() >= c.w.cfg.FlushBytes ||
		c.wanted > c.view.Snapshot.FlushedSeq ||
		c.w.cfg.Now().Sub(c.oldest) >= c.w.cfg.FlushAge
}

// flushLoop flushes whenever it is due, one memtable after the other, until ctx
// ends.
func (c *collection) flushLoop(ctx context.Context) {
	defer close(c.idle)
	for {
		select {
		case <-c.wake:
		case <-ctx.Done():
			return
		}
		for ctx.Err() == nil && c.flushDue() {
			err := c.flush(ctx)
			if ctx.Err() != nil {
				return
			}
			c.w.metrics.workers.Ran("flush", err)
			if err != nil { // final: everything else was tried again
				c.w.cfg.Logger.Error("flush failed", "collection", c.meta.Name, "error", err)
				return
			}
			c.reportSize(ctx)
			c.w.wakeCompactor()
		}
	}
}

// flushTo makes everything up to seq part of a committed manifest, and waits
// for it.
func (c *collection) flushTo(ctx context.Context, seq uint64) error {
	c.mu.Lock()
	c.wanted = max(c.wanted, seq)
	c.mu.Unlock()
	c.poke()
	for {
		c.mu.RLock()
		flushed, moved := c.view.Snapshot.FlushedSeq, c.moved
		c.mu.RUnlock()
		if flushed >= seq {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.idle: // the flusher is gone, for one of three reasons
			switch {
			case c.w.refusal() != nil:
				return c.w.refusal()
			case c.ctx.Err() != nil:
				return errGone
			}
			return errStopped
		}
	}
}

// flush moves one frozen memtable into the store. Each step is tried until it
// succeeds; what an earlier step made is kept.
func (c *collection) flush(ctx context.Context) error {
	table := c.freeze()
	if table == nil {
		return nil
	}
	snap := table.Snapshot()
	rows, ids := collect(snap, c.meta.Dimension)
	var segment *manifest.Segment
	if rows.Len() > 0 {
		s, err := c.store(ctx, "flush", c.w.builds, rows)
		if err != nil {
			return err
		}
		segment = s.segment
	}
	var p plan
	return c.w.retry(ctx, "flush", c.meta.Name, func() error {
		return c.commitFlush(ctx, &p, segment, ids, snap.Last())
	})
}

// collect takes the rows of a memtable, and every id it has something to say of.
func collect(snap memtable.Snapshot, dim int) (rows *segments.Rows, ids []string) {
	live := 0
	snap.Newest(0, func(op memtable.Op) bool {
		if !op.Delete {
			live++
		}
		return true
	})
	rows = &segments.Rows{Vectors: make([]float32, 0, live*dim)}
	snap.Newest(0, func(op memtable.Op) bool {
		ids = append(ids, op.ID)
		if !op.Delete {
			rows.Append(columns.Row{ID: op.ID, Vector: op.Vector, Metadata: op.Metadata, Seq: op.Seq})
		}
		return true
	})
	return rows, ids
}

// stored is a segment that was built and uploaded, and not yet committed.
type stored struct {
	segment *manifest.Segment
	order   []uint32 // order[ordinal] is the row's position in what was built
}

// store builds rows into a segment and uploads it under a fresh id. Attempts
// repeat the same bytes under the same keys.
func (c *collection) store(ctx context.Context, worker string, slots semaphore, rows *segments.Rows) (stored, error) {
	metric, err := segments.Metric(c.meta.Metric)
	if err != nil {
		return stored{}, err
	}
	id := c.w.cfg.NewID().String()
	cfg := segments.BuildConfig{
		Dim: c.meta.Dimension, Metric: metric, Seed: xxhash.Sum64String(id), Dir: c.w.tempDir(), Index: c.w.cfg.index,
	}
	cfg.Index.Workers = c.w.cfg.BuildWorkers
	var built *segments.Built
	err = c.w.retry(ctx, worker, c.meta.Name, func() (err error) {
		if err := slots.acquire(ctx); err != nil {
			return err
		}
		defer slots.release()
		built, err = segments.Build(ctx, cfg, rows)
		return err
	})
	if err != nil {
		return stored{}, err
	}
	defer func() {
		if err := built.Close(); err != nil {
			c.w.cfg.Logger.Warn("temporary files stay behind until the next start", "collection", c.meta.Name, "error", err)
		}
	}()
	var seg manifest.Segment
	err = c.w.retry(ctx, worker, c.meta.Name, func() (err error) {
		seg, err = built.Upload(ctx, c.w.cfg.Store, c.meta.ID, id)
		return err
	})
	if err != nil {
		return stored{}, err
	}
	return stored{segment: &seg, order: built.Order}, nil
}

// commitFlush adds segment, which may be nil, hides the rows that ids had in
// older segments, and moves FlushedSeq to last: one commit. It does nothing when
// an attempt of which the answer was lost turns out to have done it.
func (c *collection) commitFlush(ctx context.Context, p *plan, segment *manifest.Segment, ids []string, last uint64) error {
	if err := c.commits.acquire(ctx); err != nil {
		return err
	}
	defer c.commits.release()
	for {
		if err := c.refresh(ctx); err != nil {
			return err
		}
		view := c.state().view
		if view.Snapshot.FlushedSeq >= last {
			return nil
		}
		if p.view != view {
			hidden, err := view.Superseded(ctx, ids)
			if err != nil {
				return fmt.Errorf("find superseded rows: %w", err)
			}
			changes, err := c.hide(ctx, view, hidden)
			if err != nil {
				return err
			}
			*p = plan{view, changes}
		}
		err := c.commit(ctx, view, func(next *manifest.Snapshot) error {
			c.edit(next, p.changes)
			if segment != nil {
				next.Segments = append(next.Segments, *segment)
			}
			next.FlushedSeq = last
			return nil
		})
		if !errors.Is(err, errMoved) {
			return err
		}
	}
}
