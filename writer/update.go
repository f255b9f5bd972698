package writer

import (
	"context"
	"errors"

	"github.com/akidb/akidb/internal/memtable"
	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/columns"
)

// row is what an id stands for at one moment.
type row struct {
	found    bool
	vector   []float32 // set when asked for
	metadata []byte    // set when asked for
	version  uint64    // sequence number of its last write; set when asked for
}

// want says what of a row is to be read.
type want struct{ vector, metadata, version bool }

func (w want) columns() (out columns.Projection) {
	if w.vector {
		out |= columns.ProjectVector
	}
	if w.metadata {
		out |= columns.ProjectMetadata
	}
	if w.version {
		out |= columns.ProjectSeq
	}
	return out
}

// rows returns what ids stand for in s, in their order.
func (s state) rows(ctx context.Context, ids []string, w want) ([]row, error) {
	out := make([]row, len(ids))
	var stored []string // ids the tables do not know
	var at []int        // their positions in ids
	for i, id := range ids {
		op, ok := s.newest(id)
		switch {
		case !ok:
			stored, at = append(stored, id), append(at, i)
		case !op.Delete:
			out[i] = row{found: true, vector: op.Vector, metadata: op.Metadata, version: op.Seq}
		}
	}
	where, found, err := s.view.Lookup(ctx, stored)
	if err != nil {
		return nil, err
	}
	locations, positions := make([]segments.Location, 0, len(stored)), make([]int, 0, len(stored))
	for i, ok := range found {
		if ok {
			out[at[i]].found = true
			locations, positions = append(locations, where[i]), append(positions, at[i])
		}
	}
	read, err := s.view.RowsAt(ctx, locations, w.columns())
	if err != nil {
		return nil, err
	}
	dim := s.view.Snapshot.Collection.Dimension
	for i, p := range positions {
		if w.metadata {
			out[p].metadata = read.Metadata[i]
		}
		if w.version {
			out[p].version = read.Seqs[i]
		}
		if w.vector {
			out[p].vector = read.Vectors[i*dim : (i+1)*dim]
		}
	}
	return out, nil
}

// update reads rows, lets decide say what to write, and writes it as if nobody
// else had written those ids in between: when somebody has, it starts again. So
// no update is ever lost, and what decide saw is what was replaced. When decide
// wants nothing written, the answer's token is that of the state it saw.
//
// Nothing is locked while rows are read: other writes go on.
func (c *collection) update(ctx context.Context, ids []string, need want, decide func([]row) (*write, error)) (answer, error) {
	if err := c.online(); err != nil {
		return answer{}, err
	}
	set := make(map[string]struct{}, len(ids))
	for _, id := range ids {
		set[id] = struct{}{}
	}
	for {
		s := c.state()
		rows, err := s.rows(ctx, ids, need)
		if err != nil {
			return answer{}, err
		}
		w, err := decide(rows)
		if err != nil {
			return answer{}, err
		}
		if len(w.ops) == 0 {
			t := answer{kind: w.kind, affected: w.affected}
			t.token.Epoch, t.token.Seq = c.epoch(), s.seq
			return t, nil
		}
		w.check = func() error { return c.unchanged(set, s.seq) }
		a := answerOf(c.epoch(), w)
		a.token, err = c.apply(ctx, w)
		if err == nil {
			return a, nil
		}
		var changed *changedError
		if !errors.As(err, &changed) {
			return answer{}, err
		}
		if changed.by != nil {
			select {
			case <-changed.by.applied:
			case <-ctx.Done():
				return answer{}, context.Cause(ctx)
			case <-c.w.done:
				return answer{}, errStopped
			}
		}
	}
}

// changedError: ids were written since they were read.
type changedError struct {
	by *write // under way and not yet visible; nil when it is
}

func (e *changedError) Error() string { return "rows were written since they were read" }

// unchanged reports a *changedError when one of ids was written after seq, or
// when that can no longer be told. Callers hold order.
func (c *collection) unchanged(ids map[string]struct{}, seq uint64) error {
	c.mu.RLock()
	for _, w := range c.pending {
		for i := range w.ops {
			if _, ok := ids[w.ops[i].ID]; ok {
				c.mu.RUnlock()
				return &changedError{by: w}
			}
		}
	}
	c.mu.RUnlock()
	s := c.state()
	if s.base() > seq { // a flush took part of what came after
		return &changedError{}
	}
	for id := range ids {
		if op, ok := s.newest(id); ok && op.Seq > seq {
			return &changedError{}
		}
	}
	return nil
}

// deleteIDs deletes those rows that exist, and match, in one record.
func (c *collection) deleteIDs(ctx context.Context, d deletion) (answer, error) {
	return c.update(ctx, d.ids, want{metadata: d.matches != nil}, func(rows []row) (*write, error) {
		return d.write(rows), nil
	})
}

// deletion is what deleteIDs is to do.
type deletion struct {
	ids     []string
	matches func(id string, metadata []byte) bool // nil for all
	request request
	already uint64 // rows that the request has deleted in earlier records
	partial bool   // more records of the request follow
}

// write makes the record of a deletion from what its ids stand for.
func (d deletion) write(rows []row) *write {
	w := &write{kind: kindDelete}
	if !d.partial {
		w.key, w.digest = d.request.key, d.request.digest
	}
	for i, r := range rows {
		if r.found && (d.matches == nil || d.matches(d.ids[i], r.metadata)) {
			w.ops = append(w.ops, memtable.Op{ID: d.ids[i], Delete: true})
		}
	}
	w.affected = d.already + uint64(len(w.ops))
	return w
}
