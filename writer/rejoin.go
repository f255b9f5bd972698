package writer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sync/errgroup"

	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/manifest"
	"github.com/akidb/akidb/writer/wal"
)

// bootPatience bounds how long a Writer that can start without the store waits
// for it.
const bootPatience = 10 * time.Second

// away tells a store that does not answer from one that answers badly.
func away(err error) bool {
	return errors.Is(err, blob.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)
}

// reach reads what the store has. alone says that it is away, and that the local
// catalog is there to start without it.
func (w *Writer) reach(ctx context.Context) (alone bool, err error) {
	w.local = newLocalCatalog(w.cfg.FS, w.cfg.DataDir)
	loaded := w.local.load()
	asking, cancel := ctx, context.CancelFunc(func() {})
	if loaded == nil {
		asking, cancel = context.WithTimeout(ctx, bootPatience)
	}
	defer cancel()
	if err = w.probeStore(asking); err == nil {
		err = w.joinCluster(asking)
	}
	if err == nil {
		err = w.readCollections(asking)
	}
	switch {
	case err == nil || ctx.Err() != nil || !away(err):
		return false, err
	case loaded != nil:
		return false, errors.Join(err, loaded)
	}
	id, markErr := os.ReadFile(filepath.Join(w.cfg.DataDir, markName))
	if markErr != nil {
		return false, errors.Join(err, markErr)
	}
	if got := strings.TrimSpace(string(id)); got != w.local.cluster {
		return false, fmt.Errorf("data directory %q belongs to cluster %q, its catalog to %q: %w", w.cfg.DataDir, got, w.local.cluster, err)
	}
	w.cfg.Logger.Warn("the object store is away: starting with what the data directory knows", "collections", len(w.local.known), "error", err)
	return true, nil
}

// meetAlone makes the collections known that the local catalog has. They go on in
// their last epoch until they can be claimed.
func (w *Writer) meetAlone() error {
	w.catalog = newCatalog()
	for _, k := range w.local.list() {
		walID, err := walCollection(k.Collection.ID)
		if err != nil {
			return fmt.Errorf("collection %q: id: %w", k.Collection.ID, err)
		}
		c := newCollection(w, k.Collection, walID, k.FlushedSeq)
		c.epochNow.Store(k.Epoch)
		// Version 1 is one that every reader has.
		c.view = &segments.View{Snapshot: &manifest.Snapshot{Version: 1, Epoch: k.Epoch, Collection: k.Collection, FlushedSeq: k.FlushedSeq}}
		w.catalog.add(c)
	}
	return nil
}

// keepUnknown refuses a log with records that nobody can say anything of. Those
// of a collection that was being dropped wait for the store to say.
func (w *Writer) keepUnknown(unknown map[wal.CollectionID]int) error {
	for id, records := range unknown {
		if name := ulid.ULID(id).String(); !w.local.isDropped(name) {
			return fmt.Errorf("the log holds %d records of collection %q, which the local catalog does not know, and the object store is away: %w",
				records, name, blob.ErrUnavailable)
		}
	}
	w.orphans = unknown
	return nil
}

// online is nil once the collection is claimed and its segments are open. Until
// then what needs the store is refused, and definitely not applied.
func (c *collection) online() error {
	if c.ready.Load() {
		return nil
	}
	return fmt.Errorf("collection %q is not claimed yet, for the store was away when the writer started: %w", c.meta.Name, blob.ErrUnavailable)
}

// rejoin claims what could not be claimed at the start, as soon as the store is
// there, until ctx ends. Whatever a start would refuse stops the Writer.
func (w *Writer) rejoin(ctx context.Context) {
	w.cfg.Degraded("ownership", "the object store was away at the start: collections are not claimed, nothing is flushed")
	for attempt := 0; ; attempt++ {
		err := w.rejoinOnce(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			w.joined.Store(true)
			w.wakeCompactor()
			w.cfg.Degraded("ownership", "")
			w.cfg.Logger.Info("the object store is there: every collection is claimed", "collections", len(w.catalog.all()))
			return
		case !away(err):
			w.fail(err)
			return
		}
		w.metrics.workers.Ran("claim", err)
		t := time.NewTimer(rand.N(min(w.cfg.RetryMost, w.cfg.RetryFirst<<min(attempt, 20)) + 1))
		select {
		case <-t.C:
		case <-w.storeUp:
		case <-ctx.Done():
		}
		t.Stop()
	}
}

func (w *Writer) rejoinOnce(ctx context.Context) error {
	if err := w.probeStore(ctx); err != nil {
		return err
	}
	if err := w.joinCluster(ctx); err != nil {
		return err
	}
	if err := w.ownStore(ctx); err != nil {
		return err
	}
	heads, err := w.readHeads(ctx)
	if err != nil {
		return err
	}
	if err := w.forgetUnknown(ctx, w.orphans); err != nil {
		return err
	}
	if err := w.compareHeads(heads); err != nil {
		return err
	}
	g, claiming := errgroup.WithContext(ctx)
	g.SetLimit(bootParallel)
	for _, c := range w.catalog.all() {
		if c.ready.Load() { // by an attempt before
			continue
		}
		g.Go(func() error {
			err := c.claim(claiming)
			if err == nil {
				c.start()
			}
			return err
		})
	}
	return g.Wait()
}

// compareHeads takes note of what the store has beyond what is known. It and the
// local catalog can differ in no other way while one log owns both.
func (w *Writer) compareHeads(heads []head) error {
	inStore := map[string]bool{}
	for _, h := range heads {
		if h.snapshot == nil {
			continue
		}
		id := h.snapshot.Collection.ID
		inStore[id] = !h.snapshot.Dropped
		if c, err := w.catalog.find(id); err == nil && c.meta.ID == id {
			continue
		}
		if w.catalog.isDropped(id) {
			continue
		}
		if err := w.meet(h); err != nil {
			return err
		}
	}
	for _, c := range w.catalog.all() {
		if !inStore[c.meta.ID] {
			return fmt.Errorf("collection %q, id %q, took writes while the object store was away, and the store does not have it", c.meta.Name, c.meta.ID)
		}
	}
	return nil
}
