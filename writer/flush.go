package writer

import (
	"context"
	"errors"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/akidb/akidb/internal/memtable"
	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/columns"
	"github.com/akidb/akidb/segments/ivfpq"
	"github.com/akidb/akidb/segments/manifest"
)

// flushDue reports whether the flusher has something to do.
func (c *collection) flushDue() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if len(c.frozen) > 0 {
		return true
	}
	if empty(c.active) {
		return false
	}
	return c.wanted > c.view.Snapshot.FlushedSeq ||
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
			c.w.relieve()
			c.w.wakeCompactor()
		}
	}
}

// flushTo makes everything up to seq part of a committed manifest, and waits
// for it.
func (c *collection) flushTo(ctx context.Context, seq uint64) error {
	c.want(seq)
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

// want has everything up to seq flushed, whatever its age.
func (c *collection) want(seq uint64) {
	c.mu.Lock()
	c.wanted = max(c.wanted, seq)
	c.mu.Unlock()
	c.poke()
}

// flush moves one full memtable into the store. Each step is tried until it
// succeeds, as a dead letter if it must; what an earlier step made is kept.
func (c *collection) flush(ctx context.Context) error {
	c.coalesce()
	table := c.freeze()
	if table == nil {
		return nil
	}
	snap := table.Snapshot()
	rows, ids, added := collect(snap, c.meta.Dimension)
	j := c.w.dead.begin(jobFlush, c.meta, snap.Base()+1, snap.Last(), table.Bytes())
	ctx = withJob(ctx, j)
	var out stored
	if rows.Len() > 0 {
		view := c.state().view
		b := building{quantizer: epoch(view), collection: view.Snapshot.Rows() + uint64(rows.Len())}
		if outgrown(b.quantizer, b.collection) && c.enoughToTrain(rows.Len(), b.collection) {
			b.quantizer = nil // what was trained on the first few need not wait for a merge
		}
		defer c.hold(b.quantizer)()
		var err error
		if out, err = c.store(ctx, "flush", c.w.builds, rows, b); err != nil {
			return err
		}
	}
	var p plan
	err := c.w.retry(ctx, "flush", c.meta.Name, func() error {
		return c.commitFlush(ctx, &p, flushed{out, ids, added, snap.Last()})
	})
	if err == nil {
		j.done()
	}
	return err
}

// flushed is what a memtable became.
type flushed struct {
	stored
	ids   []string           // that it has something to say of
	added manifest.SetDigest // of its rows
	last  uint64             // sequence number
}

// collect takes the rows of a memtable and their digest, and every id it has
// something to say of.
func collect(snap memtable.Snapshot, dim int) (rows *segments.Rows, ids []string, digest manifest.SetDigest) {
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
			digest.Add(op.ID, op.Seq)
		}
		return true
	})
	return rows, ids, digest
}

// stored is a segment that was built and uploaded, and not yet committed.
type stored struct {
	segment *manifest.Segment // nil for none
	// quantizer was trained for the segment; nil if it has none or shares an
	// older one.
	quantizer *manifest.Quantizer
	order     []uint32 // order[ordinal] is the row's position in what was built
}

// store builds rows into a segment and uploads it under a fresh id. Attempts
// repeat the same bytes under the same keys.
func (c *collection) store(ctx context.Context, worker string, slots semaphore, rows *segments.Rows, b building) (stored, error) {
	metric, err := segments.Metric(c.meta.Metric)
	if err != nil {
		return stored{}, err
	}
	id := c.objectID()
	cfg := segments.BuildConfig{
		Dim: c.meta.Dimension, Metric: metric, Seed: xxhash.Sum64String(id), Dir: c.w.tempDir(), Index: c.w.cfg.index,
	}
	cfg.Index.Workers, cfg.Index.Priors, cfg.Index.CollectionRows = c.w.cfg.BuildWorkers, b.priors, b.collection
	if book := c.meta.Codebook; book != "" {
		if cfg.Index.Codebook, err = ivfpq.ParseCodebook(book); err != nil {
			return stored{}, err
		}
	}
	shared := ""
	if b.quantizer != nil {
		cfg.Index.Quantizer, shared = b.quantizer.Quantizer, b.quantizer.ID
	}
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
	out := stored{order: built.Order}
	z := built.Quantizer()
	switch {
	case z == nil:
		shared = ""
	case b.quantizer == nil || z != b.quantizer.Quantizer:
		shared = c.objectID()
		err = c.w.retry(ctx, worker, c.meta.Name, func() error {
			q, err := segments.PutQuantizer(ctx, c.w.cfg.Store, c.meta.ID, shared, z)
			out.quantizer = &q
			return err
		})
		if err != nil {
			return stored{}, err
		}
		c.w.cfg.Logger.Info("quantizer trained", "collection", c.meta.Name, "rows", z.Rows, "lists", z.Lists())
	}
	err = c.w.retry(ctx, worker, c.meta.Name, func() error {
		seg, err := built.Upload(ctx, c.w.cfg.Store, c.meta.ID, id, shared)
		out.segment = &seg
		return err
	})
	if err != nil {
		return stored{}, err
	}
	return out, nil
}

// add makes next name what was stored.
func (c *collection) add(next *manifest.Snapshot, out stored, at int) {
	if out.segment == nil {
		return
	}
	if out.quantizer != nil {
		next.Quantizers = append(next.Quantizers, *out.quantizer)
	}
	next.Segments = slices.Insert(next.Segments, at, *out.segment)
	c.retireQuantizers(next)
}

// commitFlush adds what was stored, hides the rows that its ids had in older
// segments, and moves FlushedSeq: one commit. It does nothing when an attempt
// of which the answer was lost turns out to have done it.
func (c *collection) commitFlush(ctx context.Context, p *plan, f flushed) error {
	if err := c.commits.acquire(ctx); err != nil {
		return err
	}
	defer c.commits.release()
	for {
		if err := c.refresh(ctx); err != nil {
			return err
		}
		view := c.state().view
		if view.Snapshot.FlushedSeq >= f.last {
			return nil
		}
		if err := c.replan(ctx, p, view, f.ids); err != nil {
			return err
		}
		err := c.commit(ctx, view, func(next *manifest.Snapshot) error {
			c.edit(next, p.changes)
			c.add(next, f.stored, len(next.Segments))
			next.FlushedSeq = f.last
			if d := next.SetDigest; d != nil {
				d.Subtract(p.gone)
				d.Union(f.added)
			}
			return nil
		})
		if !errors.Is(err, errMoved) {
			return err
		}
	}
}
