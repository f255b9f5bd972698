package attributes

import (
	"bytes"
	"fmt"
	"math"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/akidb/akidb/segments/blob"
)

// Value is a value of a path and the rows that have it.
type Value struct {
	Key  []byte
	Rows Rows
}

// Rows is a set of rows as it is stored: a list of few, or a bitmap.
type Rows struct {
	few  []uint32
	many *roaring.Bitmap // nil for few
}

// Len is how many rows there are.
func (r Rows) Len() int {
	if r.many != nil {
		return int(r.many.GetCardinality())
	}
	return len(r.few)
}

// Each hands the rows to yield, ascending, until it returns false.
func (r Rows) Each(yield func(row uint32) bool) {
	if r.many != nil {
		r.many.Iterate(yield)
		return
	}
	for _, row := range r.few {
		if !yield(row) {
			return
		}
	}
}

// AddTo adds the rows to a set.
func (r Rows) AddTo(set *roaring.Bitmap) {
	if r.many != nil {
		set.Or(r.many)
	} else {
		set.AddMany(r.few)
	}
}

// CountIn is how many of the rows are in a set; nil has all.
func (r Rows) CountIn(set *roaring.Bitmap) int {
	switch {
	case set == nil:
		return r.Len()
	case r.many != nil:
		return int(r.many.AndCardinality(set))
	}
	n := 0
	for _, row := range r.few {
		if set.Contains(row) {
			n++
		}
	}
	return n
}

// rows reads a set of rows below limit.
func (r *reader) rows(limit uint32) (out Rows) {
	count := r.number(uint64(limit))
	if count == 0 {
		r.fail()
		return out
	}
	if count <= deltaRows {
		if count > uint64(len(r.b)) {
			r.fail()
			return out
		}
		out.few = make([]uint32, count)
		last := uint64(0)
		for i := range out.few {
			step := r.number(math.MaxUint32)
			if last += step; i > 0 && step == 0 || last >= uint64(limit) {
				r.fail()
			}
			if !r.ok {
				return out
			}
			out.few[i] = uint32(last)
		}
		return out
	}
	out.many = roaring.New()
	b := r.bytes(math.MaxInt32)
	if n, err := out.many.ReadFrom(bytes.NewReader(b)); err != nil || n != int64(len(b)) || out.many.Validate() != nil ||
		out.many.GetCardinality() != count || out.many.Maximum() >= limit {
		r.fail()
	}
	return out
}

// EachValue hands the values of a block of an index over so many rows to yield, in
// order, until it returns false. A key is valid until yield returns.
func EachValue(block []byte, rows uint32, yield func(Value) bool) error {
	r := reader{block, true}
	var key []byte
	for i := 0; len(r.b) > 0; i++ {
		before := len(key)
		shared := r.number(uint64(before))
		rest := r.bytes(maxKeyBytes)
		if rest != nil && i > 0 && int(shared) < before && rest[0] <= key[shared] {
			r.fail() // keys ascend
		}
		key = append(key[:shared], rest...)
		v := Value{Key: key, Rows: r.rows(rows)}
		if !r.ok || rest == nil || len(key) > maxKeyBytes {
			return fmt.Errorf("block of attributes of %d bytes: value %d: %w", len(block), i, blob.ErrCorrupt)
		}
		if !yield(v) {
			return nil
		}
	}
	return nil
}

// openUnion reads the union of a block.
func openUnion(b []byte, rows uint32) (Rows, error) {
	r := reader{b, true}
	out := r.rows(rows)
	if !r.ok || len(r.b) > 0 {
		return out, fmt.Errorf("union of attributes of %d bytes: %w", len(b), blob.ErrCorrupt)
	}
	return out, nil
}
