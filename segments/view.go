package segments

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/columns"
	"github.com/akidb/akidb/segments/ivfpq"
	"github.com/akidb/akidb/segments/manifest"
)

// openParallel is how many files in a format without a layout are opened at once.
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

// OpenView opens what snap names, in one round of reads. Readers of previous,
// which may be nil, are used again for the segments both have.
func OpenView(ctx context.Context, ranges blob.RangeReader, snap *manifest.Snapshot, previous *View) (*View, error) {
	fail := func(err error) (*View, error) {
		return nil, fmt.Errorf("open collection %q: %w", snap.Collection.ID, err)
	}
	metric, err := ivfpq.ParseMetric(snap.Collection.Metric)
	if err != nil {
		return fail(err)
	}
	v := &View{Snapshot: snap, Segments: make([]LiveSegment, len(snap.Segments)), Quantizers: make([]*Quantizer, len(snap.Quantizers)), ranges: ranges}
	missing, err := v.inherit(previous)
	if err != nil {
		return fail(err)
	}
	wanted := make([]blob.Range, len(missing))
	for i, m := range missing {
		wanted[i] = m.Range
	}
	got, err := blob.ReadRanges(ctx, ranges, wanted)
	if err != nil {
		return fail(err)
	}
	for i, m := range missing { // quantizers first, which segments want
		if err := m.use(got[i], metric); err != nil {
			return fail(err)
		}
	}
	return v, nil
}

// missing is something that has to be read before the view is whole.
type missing struct {
	blob.Range
	use func(b []byte, metric ivfpq.Metric) error
}

// inherit takes over what previous has and returns what is missing, in the order
// in which it can be used.
func (v *View) inherit(previous *View) (out []missing, err error) {
	add := func(at blob.Range, bad error, use func([]byte, ivfpq.Metric) error) {
		out = append(out, missing{at, use})
		err = errors.Join(err, bad)
	}
	known := map[string]LiveSegment{}
	if previous != nil {
		for _, s := range previous.Segments {
			known[s.segment.ID] = s
		}
	}
	dim := v.Snapshot.Collection.Dimension
	for i, q := range v.Snapshot.Quantizers {
		if previous != nil {
			v.Quantizers[i] = previous.Quantizer(q.ID)
		}
		if v.Quantizers[i] == nil {
			at, bad := quantizerRange(q)
			add(at, bad, func(b []byte, metric ivfpq.Metric) (err error) {
				v.Quantizers[i], err = newQuantizer(q, b, dim, metric)
				return err
			})
		}
	}
	for i, seg := range v.Snapshot.Segments {
		live := &v.Segments[i]
		*live = known[seg.ID]
		if live.Reader == nil {
			at, bad := footerRange(seg)
			add(at, bad, func(b []byte, metric ivfpq.Metric) (err error) {
				live.Reader, err = newReader(v.ranges, seg, b, dim, metric, v.Quantizer(seg.Quantizer))
				return err
			})
		} else if sameDeletes(live.segment.Deletes, seg.Deletes) {
			continue
		} else {
			live.Reader = live.withSegment(seg)
		}
		live.Deleted = nil
		if seg.Deletes != nil {
			at, bad := deletesRange(seg.Deletes)
			add(at, bad, func(b []byte, _ ivfpq.Metric) (err error) {
				live.Deleted, err = decodeDeletes(seg, b)
				return err
			})
		}
	}
	return out, err
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

func sameDeletes(a, b *manifest.DeleteVector) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// Location is a row of a view.
type Location struct {
	Segment int // index into View.Segments
	Ordinal uint32
}

// lookupBlocks is how many blocks of id tables are read in one round, of 44 KB
// each where ids have 36 bytes.
const lookupBlocks = 256

// Lookup finds the live row of every id; found[i] says whether there is one.
// At most one row of an id lives in a snapshot. A few ids take one round of
// reads over all segments.
func (v *View) Lookup(ctx context.Context, ids []string) (at []Location, found []bool, err error) {
	at, found = make([]Location, len(ids)), make([]bool, len(ids))
	rest := make([]int, len(ids)) // positions not found yet
	for i := range rest {
		rest[i] = i
	}
	// Newest first: what was written last is what is most often asked for.
	for end := len(v.Segments); end > 0 && len(rest) > 0; {
		want := make([]string, len(rest))
		for i, pos := range rest {
			want[i] = ids[pos]
		}
		first := end
		var round []*lookup
		var ranges []blob.Range
		for first > 0 && (first == end || len(ranges) < lookupBlocks) {
			first--
			l := v.Segments[first].lookUp(want)
			round, ranges = append(round, l), append(ranges, l.reader.idRanges(l.blocks)...)
		}
		data, err := blob.ReadRanges(ctx, v.ranges, ranges)
		if err != nil {
			return nil, nil, fmt.Errorf("read id tables: %w", err)
		}
		for i, l := range round {
			ordinals, err := l.find(data[:len(l.blocks)])
			if err != nil {
				return nil, nil, err
			}
			data = data[len(l.blocks):]
			s := end - 1 - i
			for j, o := range ordinals {
				if o != NoRow && (v.Segments[s].Deleted == nil || !v.Segments[s].Deleted.Contains(o)) {
					at[rest[j]], found[rest[j]] = Location{s, o}, true
				}
			}
		}
		rest = slices.DeleteFunc(rest, func(pos int) bool { return found[pos] })
		end = first
	}
	return at, found, nil
}

// Row reads one row whole.
func (v *View) Row(ctx context.Context, at Location) (columns.Row, error) {
	rows, err := v.RowsAt(ctx, []Location{at}, columns.ProjectAll)
	if err != nil {
		return columns.Row{}, err
	}
	return rows.row(0, v.Snapshot.Collection.Dimension), nil
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
