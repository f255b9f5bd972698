package segments

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/akidb/akidb/segments/blob"
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

// IDs returns the ids of rows, in the order asked for.
func (v *View) IDs(ctx context.Context, at []Location) ([]string, error) {
	return gather(ctx, v, at, (*Reader).IDs)
}

// Metadata returns the metadata of rows, in the order asked for; nil where a
// row has none.
func (v *View) Metadata(ctx context.Context, at []Location) ([][]byte, error) {
	return gather(ctx, v, at, (*Reader).Metadata)
}

// Seqs returns the sequence numbers of rows, in the order asked for.
func (v *View) Seqs(ctx context.Context, at []Location) ([]uint64, error) {
	return gather(ctx, v, at, (*Reader).Seqs)
}

// Vectors returns the vectors of rows as they were given, len(at) × dim.
func (v *View) Vectors(ctx context.Context, at []Location) ([]float32, error) {
	dim := v.Snapshot.Collection.Dimension
	rows, err := gather(ctx, v, at, func(r *Reader, ctx context.Context, ordinals []uint32) ([][]float32, error) {
		flat := make([]float32, len(ordinals)*dim)
		out := make([][]float32, len(ordinals))
		for i := range out {
			out[i] = flat[i*dim : (i+1)*dim]
		}
		return out, r.Vectors(ctx, ordinals, flat)
	})
	if err != nil {
		return nil, err
	}
	out := make([]float32, 0, len(at)*dim)
	for _, row := range rows {
		out = append(out, row...)
	}
	return out, nil
}

// gather asks every segment that has rows among at, all at the same time, and
// puts the answers in the order of at.
func gather[T any](ctx context.Context, v *View, at []Location, read func(*Reader, context.Context, []uint32) ([]T, error)) ([]T, error) {
	out := make([]T, len(at))
	ordinals := make([][]uint32, len(v.Segments))
	positions := make([][]int, len(v.Segments))
	for i, l := range at {
		ordinals[l.Segment] = append(ordinals[l.Segment], l.Ordinal)
		positions[l.Segment] = append(positions[l.Segment], i)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(openParallel)
	for s, rows := range ordinals {
		if len(rows) == 0 {
			continue
		}
		g.Go(func() error {
			got, err := read(v.Segments[s].Reader, ctx, rows)
			if err != nil {
				return err
			}
			for i, pos := range positions[s] {
				out[pos] = got[i]
			}
			return nil
		})
	}
	return out, g.Wait()
}
