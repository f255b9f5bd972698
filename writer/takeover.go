package writer

import (
	"context"
	"errors"
	"fmt"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/manifest"
	"github.com/akidb/akidb/writer/wal"
	"github.com/akidb/akidb/writer/wal/ship"
)

// Takeover gives every collection of the store to the log in cfg.DataDir,
// whoever owns them now. It is for when that owner's log is lost: rows that it
// shipped to the store are recovered, those that only it held are lost. Should
// it still run, it stops at its next commit, and what it ships from here on is
// not recovered.
//
// It can be killed at any moment, and is then run again; until it has come to
// its end no Writer opens on the data directory.
//
// The log must not hold records of a collection from a time when it owned it:
// they would come back and undo what was written since.
func Takeover(ctx context.Context, cfg Config) ([]Recovered, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	w := newWriter(cfg.withDefaults())
	taken, err := w.takeover(ctx)
	if err = errors.Join(err, w.Close(ctx)); err != nil {
		return nil, withExitCode(fmt.Errorf("takeover: %w", err))
	}
	return taken, nil
}

func (w *Writer) takeover(ctx context.Context) ([]Recovered, error) {
	if err := w.probeStore(ctx); err != nil {
		return nil, err
	}
	if err := w.joinCluster(ctx); err != nil {
		return nil, err
	}
	held := map[wal.CollectionID]mark{}
	if err := w.openLog(func(rec wal.Record) error {
		held[rec.Collection] = mark{rec.Seq + uint64(rec.Count) - 1, rec.Epoch}
		return nil
	}); err != nil {
		return nil, err
	}
	ids, err := manifest.List(ctx, w.cfg.Store)
	if err != nil {
		return nil, err
	}
	note, err := w.readTakeover(ctx, w.owner)
	if err != nil {
		return nil, err
	}
	var others []*manifest.Log
	for _, id := range ids {
		log, err := manifest.Open(ctx, w.cfg.Store, id, w.owner, w.manifestOptions(id)...)
		switch {
		case errors.Is(err, blob.ErrNotFound): // interrupted creation or removal
			continue
		case err != nil:
			return nil, err
		case log.Current().Owner == w.owner:
			continue
		}
		walID, err := walCollection(id)
		if err != nil {
			return nil, fmt.Errorf("collection %q: id: %w", id, err)
		}
		if _, old := held[walID]; old {
			return nil, fmt.Errorf("the log in %q holds old records of collection %q: use an empty data directory", w.cfg.DataDir, id)
		}
		others = append(others, log)
		note.Collections[id] = takeoverOrigin{log.Current().Owner, log.Current().Epoch}
	}
	if err := w.writeTakeover(ctx, note); err != nil {
		return nil, err
	}
	if err := w.unseat(ctx); err != nil {
		return nil, err
	}
	for _, log := range others {
		was := log.Current()
		if _, err := log.Takeover(ctx); err != nil {
			return nil, err
		}
		w.cfg.Logger.Warn("collection taken over", "id", log.Snapshot().Collection.ID, "from", was.Owner, "epoch", was.Epoch)
	}
	taken, err := w.recoverShipped(ctx, note, held)
	if err != nil {
		return nil, err
	}
	if w.cfg.Ship { // before the old copy is forgotten
		if _, err := ship.New(w.log, w.cfg.Store, w.cfg.Now).Ship(ctx); err != nil {
			return nil, err
		}
	}
	return taken, w.cfg.Store.Delete(ctx, takeoverKey(w.owner))
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
	return sleep(ctx, w.cfg.unseatWait)
}
