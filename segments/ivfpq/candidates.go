package ivfpq

import (
	"cmp"
	"math"
	"slices"
)

// Candidate is a row that may be an answer.
type Candidate struct {
	Distance float32 // smaller is better; an estimate until the row is scored
	Segment  uint32  // the caller's number for the segment
	Ordinal  uint32  // the row in it
}

// Compare orders by distance, then segment, then ordinal, so that an order is never by chance.
func (c Candidate) Compare(d Candidate) int {
	return cmp.Or(cmp.Compare(c.Distance, d.Distance), cmp.Compare(c.Segment, d.Segment), cmp.Compare(c.Ordinal, d.Ordinal))
}

// before is Compare(d) < 0 for distances that are not NaN.
func (c *Candidate) before(d *Candidate) bool {
	if c.Distance != d.Distance {
		return c.Distance < d.Distance
	}
	if c.Segment != d.Segment {
		return c.Segment < d.Segment
	}
	return c.Ordinal < d.Ordinal
}

// slack is how many times its depth a collector holds before it drops the worst. Selection then
// costs a constant per candidate, where a heap would cost a logarithm.
const slack = 3

// Candidates collects the best of any number of candidates, from all segments of one search.
// What it holds in the end does not depend on the order in which they came. It is for one
// goroutine at a time.
type Candidates struct {
	depth     int
	threshold float32
	items     []Candidate
}

// NewCandidates returns a collector of the depth best.
func NewCandidates(depth int) *Candidates {
	c := &Candidates{}
	c.Reset(depth)
	return c
}

// Reset empties the collector for another search and keeps its memory.
func (c *Candidates) Reset(depth int) {
	c.depth = max(depth, 1)
	c.items = c.items[:0]
	c.threshold = float32(math.Inf(1))
}

// Threshold is a distance above which nothing can be among the best any more; +Inf at first.
func (c *Candidates) Threshold() float32 { return c.threshold }

// Add offers a candidate. Its distance is not NaN.
func (c *Candidates) Add(x Candidate) {
	if x.Distance > c.threshold {
		return
	}
	c.items = append(c.items, x)
	if len(c.items) >= slack*c.depth+slack {
		c.shrink()
	}
}

func (c *Candidates) shrink() {
	if len(c.items) < c.depth {
		return
	}
	selectBest(c.items, c.depth)
	c.items = c.items[:c.depth]
	c.threshold = slices.MaxFunc(c.items, Candidate.Compare).Distance
}

// Sorted returns the best candidates, best first, at most depth of them. The slice belongs to
// the collector and is valid until the next call.
func (c *Candidates) Sorted() []Candidate {
	c.shrink()
	slices.SortFunc(c.items, Candidate.Compare)
	return c.items
}

// selectBest moves the count best items to the front, in no order (quickselect, Hoare 1961).
func selectBest(items []Candidate, count int) {
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

func medianOfThree(a, b, c Candidate) Candidate {
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
