package query

import (
	"context"
	"slices"

	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/columns"
)

// row is a stored row on its way to a client.
type row struct {
	id       string
	vector   []float32
	metadata []byte
	version  uint64 // sequence number of its last write
}

// included says what of a row a client wants besides its id.
type included struct{ metadata, vector, version bool }

// get returns one row by id.
func (st *state) get(ctx context.Context, id string) (row, bool, error) {
	if op, ok := st.tail.Get(id); ok {
		return row{id, op.Vector, op.Metadata, op.Seq}, !op.Delete, nil
	}
	at, found, err := st.view.Lookup(ctx, []string{id})
	if err != nil || !found[0] {
		return row{}, false, err
	}
	r, err := st.view.Row(ctx, at[0])
	return row{r.ID, r.Vector, r.Metadata, r.Seq}, err == nil, err
}

// count is how many rows match f, all when f is nil.
func (s *Service) count(ctx context.Context, st *state, f *filter) (uint64, error) {
	if f == nil {
		return st.rowCount(), nil
	}
	allowed, err := s.allowed(ctx, st, f)
	if err != nil {
		return 0, err
	}
	var n uint64
	for _, set := range allowed {
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
				out = append(out, row{op.ID, op.Vector, op.Metadata, op.Seq})
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
func (s *Service) scroll(ctx context.Context, st *state, f *filter, after string, limit int, want included) ([]row, bool, error) {
	allowed, err := s.allowed(ctx, st, f)
	if err != nil {
		return nil, false, err
	}
	var all []found
	for i, seg := range st.view.Segments {
		left := limit + 1
		err = seg.IDsAfter(ctx, after, func(id string, ordinal uint32) bool {
			if allowed[i] == nil || allowed[i].contains(ordinal) {
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
	rows, err := st.readRows(ctx, all, want)
	return rows, more, err
}

// readRows reads what is wanted of the rows that are in segments.
func (st *state) readRows(ctx context.Context, all []found, want included) ([]row, error) {
	var at []segments.Location
	for _, r := range all {
		if r.stored {
			at = append(at, r.at)
		}
	}
	stored, err := st.readColumns(ctx, at, want)
	if err != nil {
		return nil, err
	}
	out := make([]row, len(all))
	for i, r := range all {
		out[i] = r.row
		if r.stored {
			out[i], out[i].id = stored[0], r.id
			stored = stored[1:]
		}
	}
	return out, nil
}

// columns are those that hold what is wanted.
func (w included) columns() (out columns.Projection) {
	if w.metadata {
		out |= columns.ProjectMetadata
	}
	if w.vector {
		out |= columns.ProjectVector
	}
	if w.version {
		out |= columns.ProjectSeq
	}
	return out
}

// readColumns returns what is wanted of rows in segments, in one round of reads. Ids are left out.
func (st *state) readColumns(ctx context.Context, at []segments.Location, want included) ([]row, error) {
	read, err := st.view.RowsAt(ctx, at, want.columns())
	if err != nil {
		return nil, err
	}
	rows := make([]row, len(at))
	for i := range rows {
		rows[i] = st.included(read, i, want)
	}
	return rows, nil
}

// included is what is wanted of row i of those that were read.
func (st *state) included(read *segments.Rows, i int, want included) (out row) {
	if want.metadata {
		out.metadata = read.Metadata[i]
	}
	if want.vector {
		dim := st.collection().Dimension
		out.vector = read.Vectors[i*dim : (i+1)*dim : (i+1)*dim]
	}
	if want.version {
		out.version = read.Seqs[i]
	}
	return out
}
