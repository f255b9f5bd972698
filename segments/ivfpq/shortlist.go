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

// compare orders by distance, ties by number, so that an order is never by chance.
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
	distances []float32
	numbers   []uint32
	ordered   []entry
}

func newShortlist(depth int) *shortlist {
	s := &shortlist{}
	s.reset(depth)
	return s
}

func (s *shortlist) reset(depth int) {
	s.depth = max(depth, 1)
	s.distances, s.numbers = s.distances[:0], s.numbers[:0]
	s.threshold = float32(math.Inf(1))
}

// add offers an entry. Its distance is not NaN.
func (s *shortlist) add(x entry) {
	if x.distance > s.threshold {
		return
	}
	s.distances, s.numbers = append(s.distances, x.distance), append(s.numbers, x.number)
	if len(s.distances) >= slack*s.depth+slack {
		s.shrink()
	}
}

func (s *shortlist) shrink() {
	if len(s.distances) < s.depth {
		return
	}
	selectPairs(s.distances, s.numbers, s.depth)
	s.distances, s.numbers = s.distances[:s.depth], s.numbers[:s.depth]
	s.threshold = slices.Max(s.distances)
}

// sorted returns the nearest, nearest first. The slice is valid until the next call.
func (s *shortlist) sorted() []entry {
	s.shrink()
	s.ordered = s.ordered[:0]
	for i, d := range s.distances {
		s.ordered = append(s.ordered, entry{d, s.numbers[i]})
	}
	slices.SortFunc(s.ordered, entry.compare)
	return s.ordered
}
