package query

import "math/bits"

// rowSet is a set of ordinals of one segment, a bit each, the lowest bit of the
// first word being row 0: the form ivfpq.Bitmap and the kernels' masks take.
type rowSet []uint64

func newSet(rows uint32) rowSet { return make(rowSet, (uint64(rows)+63)/64) }

// fullSet has all rows; bits past the last stay clear.
func fullSet(rows uint32) rowSet {
	s := newSet(rows)
	for i := range s {
		s[i] = ^uint64(0)
	}
	if tail := rows % 64; tail != 0 {
		s[len(s)-1] = 1<<tail - 1
	}
	return s
}

func (s rowSet) add(row uint32)   { s[row/64] |= 1 << (row % 64) }
func (s rowSet) clear(row uint32) { s[row/64] &^= 1 << (row % 64) }

func (s rowSet) contains(row uint32) bool { return s[row/64]>>(row%64)&1 == 1 }

func (s rowSet) count() int {
	n := 0
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

// countIn is how many of count rows from first on are in the set.
func (s rowSet) countIn(first, count uint32) (n int) {
	for row, end := first, first+count; row < end; {
		word := s[row/64] >> (row % 64)
		take := min(64-row%64, end-row)
		if take < 64 {
			word &= 1<<take - 1
		}
		n += bits.OnesCount64(word)
		row += take
	}
	return n
}

// and returns the rows both have; a nil other has all.
func (s rowSet) and(other rowSet) rowSet {
	if other == nil {
		return s
	}
	out := make(rowSet, len(s))
	for i := range s {
		out[i] = s[i] & other[i]
	}
	return out
}

// ordinals lists the rows in order.
func (s rowSet) ordinals() []uint32 {
	out := make([]uint32, 0, s.count())
	for i, w := range s {
		for ; w != 0; w &= w - 1 {
			out = append(out, uint32(i*64+bits.TrailingZeros64(w)))
		}
	}
	return out
}
