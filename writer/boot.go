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
	if err := w.openDisk(); err != nil {
		return fmt.Errorf("open writer: %w", err)
	}
	// The log comes last, so the collections of its records are known; whether
	// that was too early shows when they are claimed.
	alone, err := w.reach(ctx)
	if err == nil && alone {
		err = w.meetAlone()
	}
	if err != nil {
		return fmt.Errorf("open writer: %w", err)
	}
	unknown := map[wal.CollectionID]int{}
	if err := w.openLog(func(rec wal.Record) error { return w.replay(&rec, unknown) }); err != nil {
		return fmt.Errorf("open writer: %w", err)
	}
	if err := w.wipeTemp(); err != nil {
		return fmt.Errorf("open writer: temporary files: %w", err)
	}
	own := w.claimEverything
	if alone {
		own = func(_ context.Context, unknown map[wal.CollectionID]int) error { return w.keepUnknown(unknown) }
	}
	if err := own(ctx, unknown); err != nil {
		return fmt.Errorf("open writer: %w", err)
	}
	w.joined.Store(!alone)
	w.metrics.watch(w.log, w.cfg.MaxLogBytes, w.unflushed.Load, w.dead.list)
	w.relieve()
	rec := w.log.Recovery()
	w.cfg.Logger.Info("writer is open", "owner", w.owner, "collections", len(w.catalog.all()),
		"clean", rec.Clean, "records", rec.Records, "torn_bytes", rec.TornBytes, "unflushed_bytes", w.unflushed.Load())
	return nil
}

// probePrefix is where the store is tried out.
const probePrefix = "probe/"

// probeStore refuses a store that would lose commits. It comes before anything
// is claimed in it, CLUSTER.json included, and is made once.
func (w *Writer) probeStore(ctx context.Context) error {
	if w.probed {
		return nil
	}
	err := blob.ProbeRace(ctx, w.cfg.Store, probePrefix)
	w.probed = err == nil
	return err
}

// claimEverything makes the store, and every collection in it, this log's.
func (w *Writer) claimEverything(ctx context.Context, unknown map[wal.CollectionID]int) error {
	if err := w.ownStore(ctx); err != nil {
		return err
	}
	if err := w.forgetUnknown(ctx, unknown); err != nil {
		return err
	}
	w.local.begin(w.cluster, unknownIDs(unknown))
	return w.claimAll(ctx)
}

// ownStore makes the store this log's, unless it is another's.
func (w *Writer) ownStore(ctx context.Context) error {
	if err := w.refuseHalfTakeover(ctx); err != nil {
		return err
	}
	began := w.cfg.Now()
	if err := w.claimStore(ctx, false); err != nil {
		return err
	}
	w.owns.ended(began)
	return nil
}

func unknownIDs(unknown map[wal.CollectionID]int) map[string]bool {
	out := map[string]bool{}
	for id := range unknown {
		out[ulid.ULID(id).String()] = true
	}
	return out
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
	found, err := w.readHeads(ctx)
	if err != nil {
		return err
	}
	for _, h := range found {
		if err := w.meet(h); err != nil {
			return err
		}
	}
	return nil
}

func (w *Writer) readHeads(ctx context.Context) ([]head, error) {
	ids, err := manifest.List(ctx, w.cfg.Store)
	if err != nil {
		return nil, err
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
	return found, g.Wait()
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
		w.catalog.mourn(&tombstone{current: h.current, dropped: h.snapshot})
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
	if !c.ready.Load() && rec.Epoch > c.epoch() { // the local catalog was not written since
		c.epochNow.Store(rec.Epoch)
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
	snap, err := log.Claim(ctx)
	if errors.Is(err, manifest.ErrFenced) {
		err = takeoverHint(err)
	}
	if err != nil {
		return fmt.Errorf("collection %q: %w", c.meta.Name, err)
	}
	view, err := segments.OpenView(ctx, c.w.cfg.Ranges, snap, nil)
	if err != nil {
		return fmt.Errorf("collection %q: %w", c.meta.Name, err)
	}
	if err := c.adopt(log, view); err != nil {
		return fmt.Errorf("collection %q: %w", c.meta.Name, err)
	}
	c.covered(snap)
	c.reportSize(ctx)
	return nil
}

// adopt makes a claimed manifest the collection's, between two writes if there
// are some. A commit that the last process had under way can have come through
// since it was read: what it covers is a prefix of what the log has.
func (c *collection) adopt(log *manifest.Log, view *segments.View) error {
	c.order.Lock()
	defer c.order.Unlock()
	if flushed := view.Snapshot.FlushedSeq; flushed >= c.nextSeq {
		if c.taken > 0 {
			return fmt.Errorf("the store has writes up to seq %d, and %d were taken up to seq %d while it was away: some would have the same numbers",
				flushed, c.taken, c.nextSeq-1)
		}
		c.release()
		c.mu.Lock()
		c.active = memtable.New(c.meta.Dimension, flushed)
		c.mu.Unlock()
		c.nextSeq = flushed + 1
	}
	c.log = log
	c.epochNow.Store(log.Current().Epoch)
	c.publish(view)
	c.ready.Store(true)
	return nil
}
