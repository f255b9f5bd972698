package ivfpq

import (
	"fmt"
	"math"

	"github.com/akidb/akidb/kernels"
)

// Bitmap has a bit for every row of a segment: row i is bit i%64 of word i/64. A nil Bitmap
// allows every row.
type Bitmap []uint64

// check wants a word for every row.
func (b Bitmap) check(rows uint32) error {
	if want := (int(rows) + 63) / 64; b != nil && len(b) < want {
		return fmt.Errorf("bitmap has %d words, want %d for %d rows", len(b), want, rows)
	}
	return nil
}

// masks fills one word a block with the bits of count rows from first, zero beyond them, and
// reports whether any is set.
func (b Bitmap) masks(mask []uint32, first, count uint32) (any bool) {
	for i := range mask {
		word := uint32(math.MaxUint32)
		if b != nil {
			word = b.word(uint64(first) + uint64(i*kernels.BlockRows))
		}
		if left := count - uint32(i*kernels.BlockRows); left < kernels.BlockRows {
			word &= 1<<left - 1
		}
		mask[i] = word
		any = any || word != 0
	}
	return any
}

// word returns the 32 bits that start at row, which need not be aligned.
func (b Bitmap) word(row uint64) uint32 {
	at, shift := row/64, row%64
	word := b[at] >> shift
	if shift > 32 && at+1 < uint64(len(b)) {
		word |= b[at+1] << (64 - shift)
	}
	return uint32(word)
}

// Any reports whether one of the list's rows is allowed: a list without is not worth reading.
func (b Bitmap) Any(l List) bool {
	if b == nil {
		return l.Count > 0
	}
	for row, end := uint64(l.First), uint64(l.First)+uint64(l.Count); row < end; row += kernels.BlockRows {
		word := b.word(row)
		if left := end - row; left < kernels.BlockRows {
			word &= 1<<left - 1
		}
		if word != 0 {
			return true
		}
	}
	return false
}
