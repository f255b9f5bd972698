package writer

import (
	"context"
	"time"

	"github.com/akidb/akidb/writer/wal/ship"
)

// shipLast bounds the last copy of the log, when the Writer closes.
const shipLast = 2 * time.Second

// startShipping sets the copying of the log going.
func (w *Writer) startShipping() {
	if !w.cfg.Ship {
		return
	}
	w.shipper = ship.New(w.log, w.cfg.Store, w.cfg.Now)
	w.metrics.watchShipping(w.shipper)
	if w.cfg.ShipEvery > 0 {
		w.background(w.shipLoop)
	}
}

// shipLoop copies the log every ShipEvery until ctx ends, and once more then:
// a disk can be lost after a stop, too. A failure is logged when it begins and
// when it ends.
func (w *Writer) shipLoop(ctx context.Context) {
	tick := time.NewTicker(w.cfg.ShipEvery)
	defer tick.Stop()
	failures := 0
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			if w.Err() == nil {
				w.shipTheRest(ctx)
			}
			return
		}
		objects, err := w.shipper.Ship(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			w.metrics.workers.Ran("ship", err)
			if failures == 0 {
				w.cfg.Logger.Warn("the log is not shipped to the store; losing the data directory costs more by the minute", "error", err)
			}
			_ = w.pause(ctx, failures, err)
			failures++
		default:
			if objects > 0 || failures > 0 {
				w.metrics.workers.Ran("ship", nil)
			}
			if failures > 0 {
				w.cfg.Logger.Info("the log is shipped to the store again", "failed_runs", failures)
			}
			failures = 0
		}
	}
}

func (w *Writer) shipTheRest(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shipLast)
	defer cancel()
	if _, err := w.shipper.Ship(ctx); err != nil {
		w.cfg.Logger.Warn("the end of the log is not shipped to the store", "error", err)
	}
}
