package writer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sync/errgroup"

	"github.com/akidb/akidb/internal/memtable"
	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/manifest"
	"github.com/akidb/akidb/writer/wal"
)

// bootParallel is how many collections are read and claimed at once.
const bootParallel = 16

// boot brings the Writer to where the last process was: the store's collections
// claimed, what only the log holds in memtables.
func (w *Writer) boot(ctx context.Context) error {
	if err := w.probeStore(ctx); err != nil {
		return fmt.Errorf("open writer: %w", err)
	}
	if err := w.joinCluster(ctx); err != nil {
		return fmt.Errorf("open writer: %w", err)
	}
	// The log comes last, so the collections of its records are known; whether
	// that was too early shows when they are claimed.
	if err := w.readCollections(ctx); err != nil {
		return fmt.Errorf("open writer: %w", err)
	}
	unknown := map[wal.CollectionID]int{}
	if err := w.openLog(func(rec wal.Record) error { return w.replay(&rec, unknown) }); err != nil {
		return fmt.Errorf("open writer: %w", err)
	}
	if err := w.refuseHalfTakeover(ctx); err != nil {
		return fmt.Errorf("open writer: %w", err)
	}
	if err := w.claimStore(ctx, false); err != nil {
		return fmt.Errorf("open writer: %w", err)
	}
	if err := w.wipeTemp(); err != nil {
		return fmt.Errorf("open writer: temporary files: %w", err)
	}
	if err := w.forgetUnknown(ctx, unknown); err != nil {
		return fmt.Errorf("open writer: %w", err)
	}
	if err := w.claimAll(ctx); err != nil {
		return fmt.Errorf("open writer: %w", err)
	}
	w.metrics.watch(w.log, w.unflushed.Load)
	rec := w.log.Recovery()
	w.cfg.Logger.Info("writer is open", "owner", w.owner, "collections", len(w.catalog.all()),
		"clean", rec.Clean, "records", rec.Records, "torn_bytes", rec.TornBytes, "unflushed_bytes", w.unflushed.Load())
	return nil
}

// probePrefix is where the store is tried out.
const probePrefix = "probe/"

// probeStore refuses a store that would lose commits. It comes before anything
// is claimed in it, CLUSTER.json included.
func (w *Writer) probeStore(ctx context.Context) error {
	return blob.ProbeRace(ctx, w.cfg.Store, probePrefix)
}

func (w *Writer) openLog(replay func(wal.Record) error) error {
	cfg := w.cfg.WAL
	cfg.Applied = w.applied
	log, err := wal.Open(w.cfg.FS, filepath.Join(w.cfg.DataDir, "wal"), cfg, func(rec wal.Record, _ wal.Position) error { return replay(rec) })
	if err != nil {
		return err
	}
	w.log, w.owner = log, log.UUID().String()
	return nil
}

// readCollections learns what the store has. Dropped collections, whose removal
// did not come to its end, are taken up again.
func (w *Writer) readCollections(ctx context.Context) error {
	ids, err := manifest.List(ctx, w.cfg.Store)
	if err != nil {
		return err
	}
	found := make([]head, len(ids))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(bootParallel)
	for i, id := range ids {
		g.Go(func() (err error) {
			found[i].snapshot, found[i].current, err = manifest.Read(ctx, w.cfg.Store, id)
			if errors.Is(err, blob.ErrNotFound) { // a creation or a removal that was interrupted
				found[i] = head{}
				return nil
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, h := range found {
		if err := w.meet(h); err != nil {
			return err
		}
	}
	return nil
}

// head is a collection as the store has it.
type head struct {
	snapshot *manifest.Snapshot
	current  manifest.Current
}

func (w *Writer) meet(h head) error {
	switch {
	case h.snapshot == nil:
		return nil
	case h.snapshot.Dropped:
		w.catalog.dropped[h.snapshot.Collection.ID] = &tombstone{current: h.current, dropped: h.snapshot}
		return nil
	}
	meta := h.snapshot.Collection
	walID, err := walCollection(meta.ID)
	if err != nil {
		return fmt.Errorf("collection %q: id: %w", meta.ID, err)
	}
	if !w.catalog.add(newCollection(w, meta, walID, h.snapshot.FlushedSeq)) {
		w.cfg.Logger.Error("two collections have one name; the later one answers to its id only", "name", meta.Name, "id", meta.ID)
	}
	return nil
}

// replay takes one record of the log: what the store has of it already is left
// out, except for its idempotency key.
func (w *Writer) replay(rec *wal.Record, unknown map[wal.CollectionID]int) error {
	c := w.catalog.byWAL(rec.Collection)
	if c == nil {
		unknown[rec.Collection]++
		return nil
	}
	next := rec.Seq + uint64(rec.Count)
	if rec.Seq > c.nextSeq && !rec.Gap {
		return fmt.Errorf("collection %q: the log goes on with seq %d, want %d: writes in between are lost", c.meta.Name, rec.Seq, c.nextSeq)
	}
	if next <= c.nextSeq && rec.IdempotencyKey == "" {
		return nil
	}
	wr, err := decodeRecord(rec, c.meta)
	if err != nil {
		return fmt.Errorf("collection %q: record of seq %d: %w", c.meta.Name, rec.Seq, err)
	}
	if wr.key != "" {
		c.keys.put(wr.key, wr.digest, answerOf(rec.Epoch, wr))
	}
	if next > c.nextSeq {
		c.absorb(slices.DeleteFunc(wr.ops, func(op memtable.Op) bool { return op.Seq < c.nextSeq }), next-1)
		c.nextSeq = next
	}
	return nil
}

// forgetUnknown gives up records of collections that the store does not have:
// they were dropped.
func (w *Writer) forgetUnknown(ctx context.Context, unknown map[wal.CollectionID]int) error {
	for _, id := range slices.SortedFunc(maps.Keys(unknown), func(a, b wal.CollectionID) int { return slices.Compare(a[:], b[:]) }) {
		name := ulid.ULID(id).String()
		snap, _, err := manifest.Read(ctx, w.cfg.Store, name)
		switch {
		case err == nil && !snap.Dropped:
			return fmt.Errorf("collection %q appeared while the log was being read: start again", name)
		case err != nil && !errors.Is(err, blob.ErrNotFound):
			return err
		}
		w.log.Drop(id)
		w.cfg.Logger.Info("records of a dropped collection are given up", "collection", name, "records", unknown[id])
	}
	return nil
}

// claimAll takes the next epoch of every collection for this log, and opens
// their segments.
func (w *Writer) claimAll(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(bootParallel)
	for _, c := range w.catalog.all() {
		g.Go(func() error { return c.claim(ctx) })
	}
	return g.Wait()
}

func (c *collection) claim(ctx context.Context) error {
	log, err := manifest.Open(ctx, c.w.cfg.Store, c.meta.ID, c.w.owner, c.w.manifestOptions(c.meta.Name)...)
	if err != nil {
		return err
	}
	c.log = log
	snap, err := log.Claim(ctx)
	if errors.Is(err, manifest.ErrFenced) {
		err = takeoverHint(err)
	}
	if err != nil {
		return fmt.Errorf("collection %q: %w", c.meta.Name, err)
	}
	c.forgetFlushed(snap.FlushedSeq)
	view, err := segments.OpenView(ctx, c.w.cfg.Ranges, snap, nil)
	if err != nil {
		return fmt.Errorf("collection %q: %w", c.meta.Name, err)
	}
	c.publish(view)
	c.w.log.Release(c.walID, snap.FlushedSeq)
	c.reportSize(ctx)
	return nil
}

// forgetFlushed drops from memory what the claim found flushed: a commit that
// the last process had under way can have come through since CURRENT was read.
// None of it may be flushed again, because it need not be what the collection
// holds: a restore can have undone it.
func (c *collection) forgetFlushed(seq uint64) {
	if seq <= c.active.Base() {
		return
	}
	replayed := c.active.Snapshot()
	c.release()
	c.nextSeq = max(c.nextSeq, seq+1)
	c.active = memtable.New(c.meta.Dimension, seq)
	replayed.Newest(0, func(op memtable.Op) bool {
		if op.Seq > seq {
			c.active.Apply([]memtable.Op{op})
		}
		return true
	})
	c.active.AdvanceTo(c.nextSeq - 1)
	c.w.unflushed.Add(c.active.Bytes())
}
