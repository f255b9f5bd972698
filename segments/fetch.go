package segments

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/columns"
)

// What a search fetches, it fetches across all segments at once: a round trip
// to the store costs the same for one range as for fifty.

// ListRef is a posting list of a view.
type ListRef struct {
	Segment int // index into View.Segments
	List    uint32
}

// Lists returns the stored bytes of posting lists, in the order asked for, in
// one round of reads. The bytes are shared and not to be written to.
func (v *View) Lists(ctx context.Context, refs []ListRef) ([][]byte, error) {
	ranges := make([]blob.Range, len(refs))
	for i, ref := range refs {
		ranges[i] = v.Segments[ref.Segment].listRange(ref.List)
	}
	out, err := blob.ReadRanges(ctx, v.ranges, ranges)
	if err != nil {
		return nil, fmt.Errorf("read posting lists: %w", err)
	}
	for i, ref := range refs {
		r := v.Segments[ref.Segment].Reader
		if r.footer.version > 1 {
			continue
		}
		list := r.footer.lists[ref.List]
		if out[i], err = r.postings.Quantizer().UpgradeV1(list.List, out[i]); err != nil {
			return nil, fmt.Errorf("posting list %d of segment %q: %w: %w", ref.List, r.segment.ID, err, blob.ErrCorrupt)
		}
	}
	return out, nil
}

// ListBytes has the bytes of a segment's posting lists, nil for those that are
// not at hand.
type ListBytes [][]byte

// List implements ivfpq.ListData.
func (l ListBytes) List(list uint32) []byte { return l[list] }

// listsAtOnce is how many lists of a segment are asked for in one call.
const listsAtOnce = 256

// AllLists reads every posting list of a segment.
func (v *View) AllLists(ctx context.Context, segment int) (ListBytes, error) {
	out := make(ListBytes, 0, len(v.Segments[segment].footer.lists))
	for len(out) < cap(out) {
		refs := make([]ListRef, min(listsAtOnce, cap(out)-len(out)))
		for i := range refs {
			refs[i] = ListRef{Segment: segment, List: uint32(len(out) + i)}
		}
		part, err := v.Lists(ctx, refs)
		if err != nil {
			return nil, err
		}
		out = append(out, part...)
	}
	return out, nil
}

// RowsAt reads the columns of the projection of rows, in the order asked for, in
// one round of reads over all segments. Columns that are not asked for are nil.
func (v *View) RowsAt(ctx context.Context, at []Location, want columns.Projection) (*Rows, error) {
	return v.RowsAtBySegment(ctx, at, func(int) columns.Projection { return want })
}

// RowsAtBySegment is RowsAt where every segment has its own projection: a column that is
// not asked for is zero in the rows of a segment, or nil if no segment has it.
func (v *View) RowsAtBySegment(ctx context.Context, at []Location, want func(segment int) columns.Projection) (*Rows, error) {
	of := make([]int, len(v.Segments)) // in parts, from 1
	var parts []rowsPart
	for i, l := range at {
		if of[l.Segment] == 0 {
			r := v.Segments[l.Segment].Reader
			parts = append(parts, rowsPart{reader: r, want: want(l.Segment), blocks: r.newBlocks()})
			of[l.Segment] = len(parts)
		}
		p := &parts[of[l.Segment]-1]
		p.ordinals, p.positions = append(p.ordinals, l.Ordinal), append(p.positions, i)
	}
	return readRows(ctx, v.ranges, parts, len(at), v.Snapshot.Collection.Dimension)
}

// RowsAt is View.RowsAt for rows of one segment.
func (r *Reader) RowsAt(ctx context.Context, ordinals []uint32, want columns.Projection) (*Rows, error) {
	part := rowsPart{reader: r, want: want, ordinals: ordinals, positions: make([]int, len(ordinals)), blocks: r.newBlocks()}
	for i := range part.positions {
		part.positions[i] = i
	}
	return readRows(ctx, r.ranges, []rowsPart{part}, len(ordinals), int(r.footer.dim))
}

// readRows reads count rows of vectors with dim dimensions in one round.
func readRows(ctx context.Context, from blob.RangeReader, parts []rowsPart, count, dim int) (*Rows, error) {
	if err := plan(ctx, parts); err != nil {
		return nil, err
	}
	var ranges []blob.Range
	var err error
	for i := range parts {
		if ranges, err = parts[i].blocks.appendRanges(ranges, parts[i].points.Spans()); err != nil {
			return nil, err
		}
	}
	got, err := blob.ReadRanges(ctx, from, ranges)
	if err != nil {
		return nil, fmt.Errorf("read rows: %w", err)
	}
	out := newRows(count, dim, parts)
	for i := range parts {
		p := &parts[i]
		got = p.blocks.take(got)
		if err := p.read(out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// rowsPart is what RowsAt reads of one segment.
type rowsPart struct {
	reader    *Reader
	want      columns.Projection
	ordinals  []uint32
	positions []int // in the result, by ordinal
	points    *columns.Points
	blocks    *blocks
}

// plan finds out where the rows lie. It reads nothing, but for segments in a
// format whose footer does not say; those are read side by side.
func plan(ctx context.Context, parts []rowsPart) error {
	var untold []*rowsPart
	for i := range parts {
		if parts[i].reader.footer.pages == nil {
			untold = append(untold, &parts[i])
		} else if err := parts[i].find(ctx); err != nil {
			return err
		}
	}
	if len(untold) == 0 {
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(openParallel)
	for _, p := range untold {
		g.Go(func() error { return p.find(ctx) })
	}
	return g.Wait()
}

func (p *rowsPart) find(ctx context.Context) error {
	f, err := p.reader.open(ctx)
	if err != nil {
		return err
	}
	if p.points, err = f.Points(p.ordinals, p.want); err != nil {
		return p.reader.dataError(err)
	}
	return nil
}

// newRows has room for the columns that any of the parts wants.
func newRows(count, dim int, parts []rowsPart) *Rows {
	var want columns.Projection
	for _, p := range parts {
		want |= p.want
	}
	out := &Rows{}
	if want&columns.ProjectID != 0 {
		out.IDs = make([]string, count)
	}
	if want&columns.ProjectVector != 0 {
		out.Vectors = make([]float32, count*dim)
	}
	if want&columns.ProjectMetadata != 0 {
		out.Metadata = make([][]byte, count)
	}
	if want&columns.ProjectSeq != 0 {
		out.Seqs = make([]uint64, count)
	}
	return out
}

// read decodes the part's rows into their places.
func (p *rowsPart) read(out *Rows) error {
	dim := int(p.reader.footer.dim)
	rows := make([]columns.Row, len(p.ordinals))
	if p.want&columns.ProjectVector != 0 {
		for i, pos := range p.positions {
			rows[i].Vector = out.Vectors[pos*dim : (pos+1)*dim]
		}
	}
	if err := p.points.Read(rows, p.blocks.bytes); err != nil {
		return p.reader.dataError(err)
	}
	for i, pos := range p.positions {
		if p.want&columns.ProjectID != 0 {
			out.IDs[pos] = rows[i].ID
		}
		if p.want&columns.ProjectMetadata != 0 {
			out.Metadata[pos] = rows[i].Metadata
		}
		if p.want&columns.ProjectSeq != 0 {
			out.Seqs[pos] = rows[i].Seq
		}
	}
	return nil
}
