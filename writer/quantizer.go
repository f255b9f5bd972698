package writer

import (
	"slices"

	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/ivfpq"
	"github.com/akidb/akidb/segments/manifest"
)

// Segments share a quantizer: an epoch. A collection gets its first when a
// segment is large enough for lists, and another when it has outgrown the last
// or its rows have drifted from those that were trained on. Segments keep the
// quantizer they were built with until a merge rewrites them.
const (
	// outgrownFactor is how many times the rows that a quantizer was trained on
	// a collection has before it is trained again: by then its lists are four
	// times as long, and twice as many would suit.
	outgrownFactor = 4
	// driftFactor is how many times as far from their centroids as the rows of
	// training, in squared distance, a segment's rows lie when they count as
	// drifted.
	driftFactor = 1.5
	// driftShare is the share of the rows under the newest quantizer that has
	// to have drifted before it is trained again.
	driftShare = 0.25
)

// epoch is the newest quantizer of a view, which new segments are built with;
// nil when there is none yet.
func epoch(view *segments.View) *segments.Quantizer {
	if n := len(view.Quantizers); n > 0 {
		return view.Quantizers[n-1]
	}
	return nil
}

// outgrown reports whether a collection of so many rows has outgrown z.
func outgrown(z *segments.Quantizer, rows uint64) bool {
	return z != nil && rows >= outgrownFactor*z.Rows
}

// outdated reports whether the newest quantizer should be trained again.
func outdated(view *segments.View) bool {
	z := epoch(view)
	if z == nil {
		return false
	}
	if outgrown(z, view.Snapshot.Rows()) {
		return true
	}
	var rows, drifted uint64
	for _, s := range view.Segments {
		if s.Segment().Quantizer != z.ID {
			continue
		}
		rows += uint64(s.Rows())
		if s.Residual() > driftFactor*z.Residual {
			drifted += uint64(s.Rows())
		}
	}
	return float64(drifted) > driftShare*float64(rows)
}

// enoughToTrain reports whether so many rows may speak for a collection of
// total: half of it, or half of the largest segment there can be.
func (c *collection) enoughToTrain(rows int, total uint64) bool {
	largest := int(c.w.cfg.MaxSegmentBytes / int64(4*c.meta.Dimension))
	return rows >= ivfpq.FlatRows && rows >= min(int(total), largest)/2
}

// building says how rows become a segment.
type building struct {
	// quantizer is the collection's; nil trains one if the rows are enough for
	// lists.
	quantizer *segments.Quantizer
	priors    []ivfpq.Prior // what is known of them under quantizer
	// collection is how many rows the collection has, which a new quantizer is
	// made for.
	collection uint64
}

// hold keeps a quantizer, which may be nil, named in manifests until the
// segment that is being built with it is committed or given up.
func (c *collection) hold(z *segments.Quantizer) (release func()) {
	if z == nil {
		return func() {}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil {
		c.held = map[string]int{}
	}
	c.held[z.ID]++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.held[z.ID]--; c.held[z.ID] == 0 {
			delete(c.held, z.ID)
		}
	}
}

// retireQuantizers turns quantizers into garbage that no segment of next uses
// and none will: the newest stays for segments to come, and those that are
// held for segments that are being built.
func (c *collection) retireQuantizers(next *manifest.Snapshot) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for i := len(next.Quantizers) - 2; i >= 0; i-- {
		q := next.Quantizers[i]
		used := func(s manifest.Segment) bool { return s.Quantizer == q.ID }
		if c.held[q.ID] == 0 && !slices.ContainsFunc(next.Segments, used) {
			c.retire(next, q.Key)
			next.Quantizers = slices.Delete(next.Quantizers, i, i+1)
		}
	}
}
