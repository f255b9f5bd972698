package segments

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/akidb/akidb/segments/attributes"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/columns"
)

// Attribute is the values of a key in one segment, in order.
type Attribute struct {
	*attributes.Path
	reader *Reader
	fences *attributes.Fences
	blocks map[int][]byte // those at hand, of Preload
}

// Attribute returns what the segment has of a key: nil if no row has anything
// there. known is false if the index cannot tell, and metadata has to be read.
func (r *Reader) Attribute(ctx context.Context, key columns.Key) (a *Attribute, known bool, err error) {
	d, err := r.Attributes(ctx)
	if err != nil || d == nil {
		return nil, false, err
	}
	p, known := d.Find(key)
	if p == nil || !known {
		return nil, known, nil
	}
	var b []byte
	if at, apart := p.FencesAt(); apart {
		if b, err = r.ranges.ReadRange(ctx, r.places([]attributes.Place{at}, blob.Routing)[0]); err != nil {
			return nil, false, r.attributeError(err)
		}
	}
	fences, err := attributes.DecodeFences(p, bytes.Clone(b))
	if err != nil {
		return nil, false, r.attributeError(err)
	}
	return &Attribute{Path: p, reader: r, fences: fences}, true, nil
}

// ScalarSpan has the keys of all booleans, numbers and strings that are kept.
var ScalarSpan = columns.Span{From: []byte{columns.KeyFalse}, To: []byte{columns.KeyLong}}

// LongSpan has the key that stands for strings that are too long to be kept.
var LongSpan = columns.Span{From: []byte{columns.KeyLong}, To: []byte{columns.KeyLong + 1}}

// mostBlocks is how many blocks of values are read at a time; it begins with one,
// since most who read them in order want few.
const mostBlocks = 64

// Each hands the values of a span to fn, in order or the other way round, until it
// returns false. A value is valid until fn returns.
func (a *Attribute) Each(ctx context.Context, span columns.Span, descending bool, fn func(attributes.Value) bool) error {
	from, to := a.fences.Touching(span)
	for count := 1; from < to; count = min(2*count, mostBlocks) {
		count = min(count, to-from)
		first := from
		if descending {
			first = to - count
			to = first
		} else {
			from += count
		}
		more, err := a.eachOf(ctx, first, count, span, descending, fn)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// eachOf is Each on some blocks.
func (a *Attribute) eachOf(ctx context.Context, first, count int, span columns.Span, descending bool, fn func(attributes.Value) bool) (more bool, err error) {
	places := make([]attributes.Place, count)
	for i := range places {
		places[i] = a.fences.Block(first + i)
	}
	got := make([][]byte, count)
	for i := range got {
		got[i] = a.blocks[first+i]
	}
	if got[0] == nil {
		if got, err = blob.ReadRanges(ctx, a.reader.ranges, a.reader.places(places, blob.Column)); err != nil {
			return false, a.reader.attributeError(err)
		}
	}
	if descending {
		slices.Reverse(got)
	}
	more = true
	for _, b := range got {
		var backwards []attributes.Value
		err := attributes.EachValue(b, a.reader.Rows(), func(v attributes.Value) bool {
			if bytes.Compare(v.Key, span.From) < 0 {
				return true
			}
			if bytes.Compare(v.Key, span.To) >= 0 {
				return false
			}
			if descending {
				backwards = append(backwards, attributes.Value{Key: bytes.Clone(v.Key), Rows: v.Rows})
				return true
			}
			more = fn(v)
			return more
		})
		if err != nil {
			return false, a.reader.attributeError(err)
		}
		for _, v := range slices.Backward(backwards) {
			if more = fn(v); !more {
				break
			}
		}
		if !more {
			return false, nil
		}
	}
	return true, nil
}

// In returns the rows with a value in a span, in one round of reads.
func (a *Attribute) In(ctx context.Context, span columns.Span) (*roaring.Bitmap, error) {
	covers := a.fences.Covers(span, true)
	places := make([]attributes.Place, len(covers))
	for i, c := range covers {
		places[i] = c.Place
	}
	out := roaring.New()
	got, err := blob.ReadRanges(ctx, a.reader.ranges, a.reader.places(places, blob.Column))
	if err != nil {
		return nil, a.reader.attributeError(err)
	}
	for i, c := range covers {
		if err := c.AddTo(out, got[i], a.reader.Rows(), span, nil); err != nil {
			return nil, a.reader.attributeError(err)
		}
	}
	return out, nil
}

// preloadBytes is how much Preload reads at most.
const preloadBytes = 16 << 20

// Preload reads all values of some attributes of a view, in one round. Where they
// are too many it reads none, and they are read as they are asked for. Nil
// attributes have none.
func (v *View) Preload(ctx context.Context, all []*Attribute) error {
	var ranges []blob.Range
	size := 0
	for _, a := range all {
		if a == nil {
			continue
		}
		places := make([]attributes.Place, a.fences.Len())
		for i := range places {
			places[i] = a.fences.Block(i)
			size += places[i].Length
		}
		ranges = append(ranges, a.reader.places(places, blob.Column)...)
	}
	if size > preloadBytes || len(ranges) == 0 {
		return nil
	}
	got, err := blob.ReadRanges(ctx, v.ranges, ranges)
	if err != nil {
		return fmt.Errorf("read attributes: %w", err)
	}
	for _, a := range all {
		if a == nil {
			continue
		}
		a.blocks = make(map[int][]byte, a.fences.Len())
		for i := range a.fences.Len() {
			a.blocks[i], got = got[0], got[1:]
		}
	}
	return nil
}
