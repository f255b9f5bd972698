package writer

import (
	"context"

	"github.com/akidb/akidb/internal/memtable"
)

// Tail returns the encoded memtable.Delta of everything after sequence number
// after that is not yet in a segment of the newest manifest: what a query
// process adds to the manifest it has. It does no I/O and waits for nothing.
func (w *Writer) Tail(ctx context.Context, collectionID string, after uint64) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c, err := w.catalog.find(collectionID)
	if err != nil {
		return nil, err
	}
	return memtable.AppendDelta(nil, c.meta.Dimension, c.state().delta(c.epoch(), after)), nil
}

// delta is the newest operation on every id touched after a sequence number,
// in order.
func (s state) delta(epoch, after uint64) memtable.Delta {
	after = max(after, s.base())
	d := memtable.Delta{Epoch: epoch, Version: s.view.Snapshot.Version, After: after, Upto: max(after, s.seq)}
	for i := len(s.tables) - 1; i >= 0; i-- {
		for _, op := range s.tables[i].Delta(epoch, d.Version, after).Ops {
			if !s.hidden(i, op.ID) {
				d.Ops = append(d.Ops, op)
			}
		}
	}
	return d
}
