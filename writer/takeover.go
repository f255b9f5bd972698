package writer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/manifest"
	"github.com/akidb/akidb/writer/wal"
)

// Takeover gives every collection of the store to the log in cfg.DataDir,
// whoever owns them now. It is for when that owner's log is lost: rows that
// only it held are lost, and should it still run, it stops at its next commit.
//
// The log must not hold records of a collection from a time when it owned it:
// they would come back and undo what was written since.
func Takeover(ctx context.Context, cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	w := newWriter(cfg.withDefaults())
	err := w.takeover(ctx)
	if err = errors.Join(err, w.Close(ctx)); err != nil {
		return withExitCode(fmt.Errorf("takeover: %w", err))
	}
	return nil
}

func (w *Writer) takeover(ctx context.Context) error {
	if err := w.joinCluster(ctx); err != nil {
		return err
	}
	held := map[wal.CollectionID]bool{}
	if err := w.openLog(func(rec wal.Record) error { held[rec.Collection] = true; return nil }); err != nil {
		return err
	}
	ids, err := manifest.List(ctx, w.cfg.Store)
	if err != nil {
		return err
	}
	var others []*manifest.Log
	for _, id := range ids {
		log, err := manifest.Open(ctx, w.cfg.Store, id, w.owner, w.manifestOptions(id)...)
		switch {
		case errors.Is(err, blob.ErrNotFound): // interrupted creation or removal
			continue
		case err != nil:
			return err
		case log.Current().Owner == w.owner:
			continue
		}
		walID, err := walCollection(id)
		if err != nil {
			return fmt.Errorf("collection %q: id: %w", id, err)
		}
		if held[walID] {
			return fmt.Errorf("the log in %q holds old records of collection %q: use an empty data directory", w.cfg.DataDir, id)
		}
		others = append(others, log)
	}
	if err := w.unseat(ctx); err != nil {
		return err
	}
	for _, log := range others {
		was := log.Current()
		if _, err := log.Takeover(ctx); err != nil {
			return err
		}
		w.cfg.Logger.Warn("collection taken over", "id", log.Snapshot().Collection.ID, "from", was.Owner, "epoch", was.Epoch)
	}
	return nil
}

// unseat claims the store, and waits until its former owner, should it still
// run or go on one day, cannot acknowledge anything without noticing.
func (w *Writer) unseat(ctx context.Context) error {
	former, _, err := w.readCluster(ctx)
	if err != nil {
		return err
	}
	if err := w.claimStore(ctx, true); err != nil {
		return err
	}
	if former.Writer == "" || former.Writer == w.owner {
		return nil
	}
	t := time.NewTimer(w.cfg.unseatWait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
