package ivfpq

import (
	"math"
	"slices"
)

// Candidates collects the rows with the least estimates, from all segments of one search, under
// one running limit. What it holds in the end does not depend on the order in which they came. It
// is for one goroutine at a time.
//
// Estimates of all segments are in one unit: squared distances, or negative inner products, in the
// scaled space of the first query (see Query.Relate).
type Candidates struct {
	depth int
	limit float32
	est   []float32
	keys  []uint64 // segment << 32 | ordinal; a row that was spilled may come twice
	slots []uint64 // for finding keys that came twice
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
	c.est, c.keys = c.est[:0], c.keys[:0]
	c.limit = float32(math.Inf(1))
}

// Row is a row of a search's segments.
type Row struct {
	Segment uint32 // the number the caller gave it
	Ordinal uint32
}

func keyOf(segment, ordinal uint32) uint64 { return uint64(segment)<<32 | uint64(ordinal) }

// RowOf takes a key of Finalists apart.
func RowOf(key uint64) Row { return Row{uint32(key >> 32), uint32(key)} }

// room returns where count more estimates and their keys go, of which as many count as taken says.
func (c *Candidates) room(count int) (est []float32, keys []uint64) {
	n := len(c.est)
	c.est, c.keys = slices.Grow(c.est, count), slices.Grow(c.keys, count)
	return c.est[n : n+count], c.keys[n : n+count]
}

// taken adds the first count of the room.
func (c *Candidates) taken(count int) {
	c.est, c.keys = c.est[:len(c.est)+count], c.keys[:len(c.keys)+count]
}

// settle drops the worst once enough have gathered.
func (c *Candidates) settle() {
	enough := slack * c.depth
	if math.IsInf(float64(c.limit), 1) {
		enough = c.depth + c.depth/2 // any limit is better than none
	}
	if len(c.est) > enough {
		c.shrink()
	}
}

// shrink keeps the depth best. It counts rows that came twice as two: which they are shows only in
// the end, and the calibration counts the same way.
func (c *Candidates) shrink() {
	if len(c.est) <= c.depth {
		return
	}
	selectPairs(c.est, c.keys, c.depth)
	c.est, c.keys = c.est[:c.depth], c.keys[:c.depth]
	c.limit = slices.Max(c.est)
}

// Count is how many different rows are held.
func (c *Candidates) Count() int {
	c.shrink()
	c.dedup()
	return len(c.keys)
}

// dedup keeps the lesser estimate of a row that came twice.
func (c *Candidates) dedup() {
	size := 1
	for size < 4*len(c.keys) {
		size *= 2
	}
	if cap(c.slots) < size {
		c.slots = make([]uint64, size)
	}
	slots := c.slots[:size] // position + 1 of the key that hashes there
	clear(slots)
	kept := 0
	for i, key := range c.keys {
		at := int(key*0x9e3779b97f4a7c15>>32) & (size - 1)
		for slots[at] != 0 && c.keys[slots[at]-1] != key {
			at = (at + 1) & (size - 1)
		}
		if twin := slots[at]; twin != 0 {
			c.est[twin-1] = min(c.est[twin-1], c.est[i])
			continue
		}
		c.est[kept], c.keys[kept] = c.est[i], key
		kept++
		slots[at] = uint64(kept)
	}
	c.est, c.keys = c.est[:kept], c.keys[:kept]
}
