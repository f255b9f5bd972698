package segments

import (
	"context"
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"
	"golang.org/x/sync/errgroup"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/columns"
	"github.com/akidb/akidb/segments/ivfpq"
	"github.com/akidb/akidb/segments/manifest"
)

// openParallel is how many footers are fetched at once when a view is opened.
const openParallel = 16

// View is all segments of one snapshot, opened, with their deletes. It does not
// change; it is what a reader pins and what the writer plans on.
type View struct {
	Snapshot *manifest.Snapshot
	Segments []LiveSegment // in the snapshot's order
	// Quantizers are those of the snapshot, oldest first.
	Quantizers []*Quantizer

	ranges blob.RangeReader
}

// LiveSegment is a segment and which of its rows are gone.
type LiveSegment struct {
	*Reader
	Deleted *roaring.Bitmap // ordinals; nil when every row lives; not to be changed
}

// OpenView opens what snap names. Readers of previous, which may be nil, are
// used again for the segments both have.
func OpenView(ctx context.Context, ranges blob.RangeReader, snap *manifest.Snapshot, previous *View) (*View, error) {
	metric, err := ivfpq.ParseMetric(snap.Collection.Metric)
	if err != nil {
		return nil, fmt.Errorf("open collection %q: %w", snap.Collection.ID, err)
	}
	known := map[string]LiveSegment{}
	if previous != nil {
		for _, s := range previous.Segments {
			known[s.segment.ID] = s
		}
	}
	v := &View{Snapshot: snap, Segments: make([]LiveSegment, len(snap.Segments)), ranges: ranges}
	if err := v.openQuantizers(ctx, metric, previous); err != nil {
		return nil, fmt.Errorf("open collection %q: %w", snap.Collection.ID, err)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(openParallel)
	for i, seg := range snap.Segments {
		g.Go(func() error {
			live, err := openLive(ctx, ranges, seg, snap.Collection.Dimension, metric, v.Quantizer(seg.Quantizer), known[seg.ID])
			v.Segments[i] = live
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return v, nil
}

// openQuantizers loads what segments share, but for what the previous view has.
func (v *View) openQuantizers(ctx context.Context, metric ivfpq.Metric, previous *View) error {
	v.Quantizers = make([]*Quantizer, len(v.Snapshot.Quantizers))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(openParallel)
	for i, q := range v.Snapshot.Quantizers {
		if previous != nil {
			v.Quantizers[i] = previous.Quantizer(q.ID)
		}
		if v.Quantizers[i] != nil {
			continue
		}
		g.Go(func() (err error) {
			v.Quantizers[i], err = loadQuantizer(ctx, v.ranges, q, v.Snapshot.Collection.Dimension, metric)
			return err
		})
	}
	return g.Wait()
}

// Quantizer returns the quantizer with an id, nil if there is none.
func (v *View) Quantizer(id string) *Quantizer {
	for _, q := range v.Quantizers {
		if q != nil && q.ID == id {
			return q
		}
	}
	return nil
}

func openLive(ctx context.Context, ranges blob.RangeReader, seg manifest.Segment, dim int, metric ivfpq.Metric, shared *Quantizer, known LiveSegment) (LiveSegment, error) {
	live := known
	if live.Reader == nil {
		r, err := Open(ctx, ranges, seg, dim, metric, shared)
		if err != nil {
			return LiveSegment{}, err
		}
		live.Reader = r
	} else if sameDeletes(known.segment.Deletes, seg.Deletes) {
		return known, nil
	} else {
		live.Reader = known.withSegment(seg)
	}
	deleted, err := loadDeletes(ctx, ranges, seg)
	if err != nil {
		return LiveSegment{}, err
	}
	live.Deleted = deleted
	return live, nil
}

func sameDeletes(a, b *manifest.DeleteVector) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// Location is a row of a view.
type Location struct {
	Segment int // index into View.Segments
	Ordinal uint32
}

// Lookup finds the live row of every id; found[i] says whether there is one.
// At most one row of an id lives in a snapshot.
func (v *View) Lookup(ctx context.Context, ids []string) (at []Location, found []bool, err error) {
	at, found = make([]Location, len(ids)), make([]bool, len(ids))
	rest := make([]int, len(ids)) // positions not found yet
	for i := range rest {
		rest[i] = i
	}
	// Newest first: what was written last is what is most often asked for.
	for s := len(v.Segments) - 1; s >= 0 && len(rest) > 0; s-- {
		seg := v.Segments[s]
		want := make([]string, len(rest))
		for i, pos := range rest {
			want[i] = ids[pos]
		}
		ordinals, err := seg.Reader.Lookup(ctx, want)
		if err != nil {
			return nil, nil, err
		}
		var missing []int
		for i, pos := range rest {
			o := ordinals[i]
			if o == NoRow || seg.Deleted != nil && seg.Deleted.Contains(o) {
				missing = append(missing, pos)
				continue
			}
			at[pos], found[pos] = Location{s, o}, true
		}
		rest = missing
	}
	return at, found, nil
}

// Row reads one row whole.
func (v *View) Row(ctx context.Context, at Location) (columns.Row, error) {
	r := v.Segments[at.Segment].Reader
	ordinals := []uint32{at.Ordinal}
	vector := make([]float32, v.Snapshot.Collection.Dimension)
	var (
		ids      []string
		metadata [][]byte
		seqs     []uint64
	)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) { ids, err = r.IDs(ctx, ordinals); return err })
	g.Go(func() (err error) { metadata, err = r.Metadata(ctx, ordinals); return err })
	g.Go(func() (err error) { seqs, err = r.Seqs(ctx, ordinals); return err })
	g.Go(func() error { return r.Vectors(ctx, ordinals, vector) })
	if err := g.Wait(); err != nil {
		return columns.Row{}, err
	}
	return columns.Row{ID: ids[0], Vector: vector, Metadata: metadata[0], Seq: seqs[0]}, nil
}

// Superseded returns, for every segment, the live rows whose id is among ids:
// what a later write of those ids replaces. Entries are nil where there is none.
func (v *View) Superseded(ctx context.Context, ids []string) ([]*roaring.Bitmap, error) {
	out := make([]*roaring.Bitmap, len(v.Segments))
	if len(ids) == 0 {
		return out, nil
	}
	at, found, err := v.Lookup(ctx, ids)
	if err != nil {
		return nil, err
	}
	for i, l := range at {
		if !found[i] {
			continue
		}
		if out[l.Segment] == nil {
			out[l.Segment] = roaring.New()
		}
		out[l.Segment].Add(l.Ordinal)
	}
	return out, nil
}
