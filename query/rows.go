package query

import (
	"context"
	"slices"

	"github.com/akidb/akidb/segments"
)

// row is a stored row on its way to a client.
type row struct {
	id       string
	vector   []float32
	metadata []byte
}

// get returns one row by id.
func (st *state) get(ctx context.Context, id string) (row, bool, error) {
	if op, ok := st.tail.Get(id); ok {
		return row{id, op.Vector, op.Metadata}, !op.Delete, nil
	}
	at, found, err := st.view.Lookup(ctx, []string{id})
	if err != nil || !found[0] {
		return row{}, false, err
	}
	r, err := st.view.Row(ctx, at[0])
	return row{r.ID, r.Vector, r.Metadata}, err == nil, err
}

// count is how many rows match f, all when f is nil.
func (s *Service) count(ctx context.Context, st *state, f *filter) (uint64, error) {
	if f == nil {
		return st.rowCount(), nil
	}
	var n uint64
	for i := range st.view.Segments {
		set, err := s.allowed(ctx, st, i, f)
		if err != nil {
			return 0, err
		}
		n += uint64(set.count())
	}
	return n + uint64(len(st.tailRows(f))), nil
}

// tailRows are the rows of the tail that match f.
func (st *state) tailRows(f *filter) []row {
	var out []row
	for _, b := range st.tail.Blocks() {
		for i := range b.Count {
			if op, live := b.Live(i); live && (f == nil || f.Match(op.ID, op.Metadata)) {
				out = append(out, row{op.ID, op.Vector, op.Metadata})
			}
		}
	}
	return out
}

// found is a row of a scroll before its columns are read.
type found struct {
	row
	stored bool
	at     segments.Location
}

// scroll returns up to limit rows with ids above after that match f, in bytewise
// order of ids, and whether there are more. The order does not depend on where
// rows lie, so that flushes and compactions between two pages neither repeat
// nor skip a row.
func (s *Service) scroll(ctx context.Context, st *state, f *filter, after string, limit int, withMetadata, withVector bool) ([]row, bool, error) {
	var all []found
	for i, seg := range st.view.Segments {
		allowed, err := s.allowed(ctx, st, i, f)
		if err != nil {
			return nil, false, err
		}
		left := limit + 1
		err = seg.IDsAfter(ctx, after, func(id string, ordinal uint32) bool {
			if allowed == nil || allowed.contains(ordinal) {
				all = append(all, found{row: row{id: id}, stored: true, at: segments.Location{Segment: i, Ordinal: ordinal}})
				left--
			}
			return left > 0
		})
		if err != nil {
			return nil, false, err
		}
	}
	for _, r := range st.tailRows(f) {
		if r.id > after {
			all = append(all, found{row: r})
		}
	}
	slices.SortFunc(all, func(a, b found) int {
		if a.id < b.id {
			return -1
		}
		return 1 // live ids are distinct
	})
	more := len(all) > limit
	all = all[:min(len(all), limit)]
	rows, err := st.readRows(ctx, all, withMetadata, withVector)
	return rows, more, err
}

func (st *state) readRows(ctx context.Context, all []found, withMetadata, withVector bool) ([]row, error) {
	var at []segments.Location
	for _, r := range all {
		if r.stored {
			at = append(at, r.at)
		}
	}
	var metadata [][]byte
	var vectors []float32
	var err error
	if withMetadata {
		if metadata, err = st.view.Metadata(ctx, at); err != nil {
			return nil, err
		}
	}
	if withVector {
		if vectors, err = st.view.Vectors(ctx, at); err != nil {
			return nil, err
		}
	}
	out := make([]row, len(all))
	dim, next := st.collection().Dimension, 0
	for i, r := range all {
		out[i] = r.row
		if !r.stored {
			continue
		}
		if withMetadata {
			out[i].metadata = metadata[next]
		}
		if withVector {
			out[i].vector = vectors[next*dim : (next+1)*dim]
		}
		next++
	}
	return out, nil
}
