package query

import (
	"context"

	"github.com/RoaringBitmap/roaring/v2"

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

// scroll returns up to limit rows that match f, in order by and after a row, nil
// for the beginning; and where the last stands, nil if there are no more. The order
// does not depend on where rows lie, so that flushes and compactions between two
// pages neither repeat nor skip a row.
func (s *Service) scroll(ctx context.Context, st *state, f *filter, by *order, after *standing, limit int, want included) ([]row, *standing, error) {
	allowed, err := s.allowed(ctx, st, f)
	if err != nil {
		return nil, nil, err
	}
	p := &page{order: by, after: after, want: limit + 1}
	if by == nil {
		err = p.rowsByID(ctx, st, allowed)
	} else {
		err = p.rowsByValue(ctx, st, allowed)
	}
	if err != nil {
		return nil, nil, err
	}
	for _, r := range st.tailRows(f) {
		p.add(ranked{standing{by.valueOf(r.metadata), r.id}, found{row: r}})
	}
	p.cut()
	var last *standing
	if len(p.rows) > limit {
		p.rows = p.rows[:limit]
		last = &p.rows[limit-1].standing
	}
	all := make([]found, len(p.rows))
	for i, r := range p.rows {
		all[i] = r.found
	}
	rows, err := st.readRows(ctx, all, want)
	return rows, last, err
}

func (p *page) rowsByID(ctx context.Context, st *state, allowed []rowSet) error {
	after := ""
	if p.after != nil {
		after = p.after.id
	}
	for i, seg := range st.view.Segments {
		rows := bitmapOf(allowed[i])
		if rows == nil {
			rows = roaring.New()
			rows.AddRange(0, uint64(seg.Rows()))
		}
		if err := eachID(ctx, seg.Reader, rows, after, p.want, func(id string, ordinal uint32) {
			p.add(stored(standing{id: id}, i, ordinal))
		}); err != nil {
			return err
		}
	}
	return nil
}

func (p *page) rowsByValue(ctx context.Context, st *state, allowed []rowSet) error {
	by, err := openAttributes(ctx, st, p.key)
	if err != nil {
		return err
	}
	for i, seg := range st.view.Segments {
		if err := p.orderedRows(ctx, by, i, seg.Reader, bitmapOf(allowed[i])); err != nil {
			return err
		}
	}
	return nil
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
