package ivfpq

import (
	"cmp"
	"math"
	"slices"
)

// entry is something numbered at a distance.
type entry struct {
	distance float32
	number   uint32
}

// before orders entries whose distances are not NaN; ties by number, so that an order is never by
// chance.
func (e *entry) before(f *entry) bool {
	if e.distance != f.distance {
		return e.distance < f.distance
	}
	return e.number < f.number
}

func (e entry) compare(f entry) int {
	return cmp.Or(cmp.Compare(e.distance, f.distance), cmp.Compare(e.number, f.number))
}

// slack is how many times its depth a collector holds before it drops the worst. Selection then
// costs a constant per entry, where a heap would cost a logarithm.
const slack = 3

// shortlist collects the nearest of any number of entries, whatever the order in which they come.
type shortlist struct {
	depth     int
	threshold float32
	items     []entry
}

func newShortlist(depth int) *shortlist {
	s := &shortlist{}
	s.reset(depth)
	return s
}

func (s *shortlist) reset(depth int) {
	s.depth = max(depth, 1)
	s.items = s.items[:0]
	s.threshold = float32(math.Inf(1))
}

func (s *shortlist) add(x entry) {
	if x.distance > s.threshold {
		return
	}
	s.items = append(s.items, x)
	if len(s.items) >= slack*s.depth+slack {
		s.shrink()
	}
}

func (s *shortlist) shrink() {
	if len(s.items) < s.depth {
		return
	}
	selectNearest(s.items, s.depth)
	s.items = s.items[:s.depth]
	s.threshold = slices.MaxFunc(s.items, entry.compare).distance
}

// sorted returns the nearest, nearest first. The slice is valid until the next call.
func (s *shortlist) sorted() []entry {
	s.shrink()
	slices.SortFunc(s.items, entry.compare)
	return s.items
}

// selectNearest moves the count nearest to the front, in no order (quickselect, Hoare 1961).
func selectNearest(items []entry, count int) {
	low, high := 0, len(items)-1
	for low < high && count > low && count <= high {
		pivot := medianOfThree(items[low], items[(low+high)/2], items[high])
		i, j := low, high
		for i <= j {
			for items[i].before(&pivot) {
				i++
			}
			for pivot.before(&items[j]) {
				j--
			}
			if i <= j {
				items[i], items[j] = items[j], items[i]
				i++
				j--
			}
		}
		// items[low..j] <= pivot <= items[i..high], and what is between equals it.
		switch {
		case count <= j+1:
			high = j
		case count > i:
			low = i
		default:
			return
		}
	}
}

func medianOfThree(a, b, c entry) entry {
	if b.before(&a) {
		a, b = b, a
	}
	if c.before(&b) {
		b = c
		if b.before(&a) {
			b = a
		}
	}
	return b
}
