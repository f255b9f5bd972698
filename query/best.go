package query

import (
	"cmp"
	"slices"

	"github.com/akidb/akidb/segments"
)

// hit is a row with its exact distance: smaller is better under every metric.
type hit struct {
	distance float32
	id       string // known from the start for rows of the tail
	at       segments.Location
	tail     bool   // the row is in the tail, not in a segment
	metadata []byte // of rows of the tail
	vector   []float32
	version  uint64
}

// best keeps the k nearest of any number of hits, and every further one that is
// as near as the k-th: which of those belong to the answer depends on their
// ids, which are read last.
type best struct {
	k      int
	within float32 // rows further away than this do not belong to the answer
	hits   []hit
	// worst is the k-th distance as of the last prune, valid once full.
	worst float32
	full  bool
	limit int // prune when this many are held, 0 before the first
}

// add offers a hit.
func (b *best) add(h hit) {
	if !b.near(h.distance) {
		return
	}
	if b.hits == nil {
		b.hits = make([]hit, 0, min(2*b.k, 1024))
	}
	b.hits = append(b.hits, h)
	if len(b.hits) >= max(b.limit, 4*b.k+1024) {
		b.prune()
		b.limit = 2 * len(b.hits) // ties may be many: sorting them stays linear on average
	}
}

// near reports whether a row at this distance could still belong to the answer.
func (b *best) near(distance float32) bool {
	return distance <= b.within && (!b.full || distance <= b.worst)
}

// prune drops what is further than the k-th.
func (b *best) prune() {
	if len(b.hits) <= b.k {
		return
	}
	slices.SortFunc(b.hits, func(x, y hit) int { return cmp.Compare(x.distance, y.distance) })
	b.worst, b.full = b.hits[b.k-1].distance, true
	n := b.k
	for n < len(b.hits) && b.hits[n].distance == b.worst {
		n++
	}
	b.hits = b.hits[:n]
}

// sortHits orders an answer: by distance, ties by id.
func sortHits(hits []hit) {
	slices.SortFunc(hits, func(x, y hit) int {
		return cmp.Or(cmp.Compare(x.distance, y.distance), cmp.Compare(x.id, y.id))
	})
}
