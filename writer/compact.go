package writer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/columns"
	"github.com/akidb/akidb/segments/ivfpq"
	"github.com/akidb/akidb/segments/manifest"
)

// tierRatio is how many times larger the segments of one tier are than those of
// the one below. With as many segments a merge, a row is rewritten once a tier.
const tierRatio = 8

func (w *Writer) wakeCompactor() {
	select {
	case w.compactor <- struct{}{}:
	default:
	}
}

// compactLoop compacts what is due, collection after collection, until ctx ends.
func (w *Writer) compactLoop(ctx context.Context) {
	for {
		select {
		case <-w.compactor:
		case <-ctx.Done():
			return
		}
		for _, c := range w.catalog.all() {
			if !c.ready.Load() || !w.dead.find(jobCompact, c.meta.ID).ready() {
				continue
			}
			_ = c.compact(c.planTier) // counted and logged; the next flush wakes us again
		}
	}
}

// tier is the size class of a segment.
func tier(rows uint32) int { return int(math.Log(float64(max(rows, 1))) / math.Log(tierRatio)) }

// planTier returns the ids of segments to be merged into one, as the only group;
// nil when nothing is due.
func (c *collection) planTier(view *segments.View) [][]string {
	if ids := c.planTraining(view); ids != nil {
		return [][]string{ids}
	}
	tiers := map[int][]manifest.Segment{}
	for _, seg := range view.Snapshot.Segments {
		if float64(seg.Rows-seg.Live()) > c.w.cfg.DeadFraction*float64(seg.Rows) {
			return [][]string{{seg.ID}}
		}
		if !c.full(seg) {
			t := tier(seg.Live())
			tiers[t] = append(tiers[t], seg)
		}
	}
	for _, t := range slices.Sorted(maps.Keys(tiers)) {
		if len(tiers[t]) >= c.w.cfg.TierSegments {
			if ids := c.bounded(tiers[t]); len(ids) > 1 {
				return [][]string{ids}
			}
		}
	}
	return nil
}

// planTraining returns the segments to train a new quantizer on, when the newest
// is outdated and they are enough; nil otherwise. The others follow when they
// are merged next.
func (c *collection) planTraining(view *segments.View) []string {
	if !outdated(view) {
		return nil
	}
	largest := slices.Clone(view.Snapshot.Segments)
	slices.SortStableFunc(largest, func(a, b manifest.Segment) int { return cmp.Compare(b.Live(), a.Live()) })
	ids, rows := c.bounded(largest), 0
	for _, s := range largest[:len(ids)] {
		rows += int(s.Live())
	}
	if !c.enoughToTrain(rows, view.Snapshot.Rows()) {
		return nil
	}
	return ids
}

// planAll returns groups of segments that, each merged into one, leave as few
// segments and dead rows as can be.
func (c *collection) planAll(view *segments.View) [][]string {
	rest := slices.Clone(view.Snapshot.Segments)
	slices.SortStableFunc(rest, func(a, b manifest.Segment) int { return cmp.Compare(a.Live(), b.Live()) })
	var groups [][]string
	for len(rest) > 0 {
		ids := c.bounded(rest)
		if len(ids) > 1 || rest[0].Deletes != nil {
			groups = append(groups, ids)
		}
		rest = rest[len(ids):]
	}
	return groups
}

// bounded returns the ids of the first segments whose rows fit one output: at
// least one.
func (c *collection) bounded(segs []manifest.Segment) []string {
	var ids []string
	var size int64
	for _, s := range segs {
		size += c.rowBytes(s)
		if len(ids) > 0 && size > c.w.cfg.MaxSegmentBytes {
			break
		}
		ids = append(ids, s.ID)
	}
	return ids
}

// rowBytes is about what a segment's live rows take in memory.
// Where the file is larger than those, ids and metadata make up the rest, and
// compressed they are a quarter of what they are in memory.
func (c *collection) rowBytes(s manifest.Segment) int64 {
	vectors := int64(s.Rows) * int64(c.meta.Dimension) * 4
	all := vectors + 4*max(0, s.Data.Size-vectors)
	return int64(float64(all) * float64(s.Live()) / float64(s.Rows))
}

// full segments are too large to gain from a merge.
func (c *collection) full(s manifest.Segment) bool {
	return 2*c.rowBytes(s) > c.w.cfg.MaxSegmentBytes
}

// compact merges what plan asks for, group after group, until it asks for
// nothing. Writes and flushes go on meanwhile; rows they hide are hidden in the
// output as well.
func (c *collection) compact(plan func(*segments.View) [][]string) error {
	if err := c.w.compacts.acquire(c.ctx); err != nil {
		return errGone
	}
	defer c.w.compacts.release()
	for {
		groups := plan(c.state().view)
		if len(groups) == 0 {
			c.w.dead.find(jobCompact, c.meta.ID).done()
			return nil
		}
		for _, ids := range groups {
			err := c.merge(c.ctx, ids)
			if c.ctx.Err() != nil {
				return errors.Join(errGone, err)
			}
			c.w.metrics.workers.Ran("compact", err)
			if err != nil {
				c.w.cfg.Logger.Error("compaction failed", "collection", c.meta.Name, "segments", len(ids), "error", err)
				return err
			}
			c.w.dead.find(jobCompact, c.meta.ID).done() // under load there is always a next one
		}
	}
}

// compactAll merges everything that can be merged now.
func (c *collection) compactAll() error {
	done := false
	return c.compact(func(view *segments.View) [][]string {
		if done { // what was flushed meanwhile can wait
			return nil
		}
		done = true
		return c.planAll(view)
	})
}

// merge puts one segment without dead rows in the place of those with the given
// ids.
func (c *collection) merge(ctx context.Context, ids []string) error {
	if yield := c.w.cfg.Yield; yield != nil {
		ctx = ivfpq.WithYield(ctx, yield)
	}
	s := c.state()
	view := s.view
	m := newMerging(view, ids)
	m.restored = s.restored
	if len(m.inputs) == 0 {
		return nil
	}
	ctx = withJob(ctx, m.job(c))
	b := building{quantizer: epoch(view), collection: view.Snapshot.Rows()}
	defer c.hold(b.quantizer)()
	err := c.w.retry(ctx, "compact", c.meta.Name, func() (err error) {
		if err = m.read(ctx, c.meta.Dimension); err != nil {
			return err
		}
		if outdated(view) && c.enoughToTrain(m.rows.Len(), view.Snapshot.Rows()) {
			b.quantizer = nil
		}
		b.priors, err = m.priors(ctx, view, b.quantizer)
		return err
	})
	if err != nil {
		return err
	}
	if m.rows.Len() > 0 {
		out, err := c.store(ctx, "compact", newSemaphore(1), m.rows, b)
		if err != nil {
			return err
		}
		m.output, m.origins = out, reorder(m.origins, out.order)
	}
	m.rows, b = nil, building{} // the commit may wait long for the store
	return c.w.retry(ctx, "compact", c.meta.Name, func() error { return c.commitMerge(ctx, m) })
}

// merging is a compaction on its way.
type merging struct {
	inputs []segments.LiveSegment // as they were when their rows were read
	places []int                  // of the inputs in the view they are from
	rows   *segments.Rows
	// origins says where each row came from: first in the order read, then in
	// the output's.
	origins []origin
	output  stored // no segment when no row was left
	// restored is the collection's count when the rows were read: a restore may
	// bring back rows that were hidden then.
	restored uint64
}

func newMerging(view *segments.View, ids []string) *merging {
	m := &merging{rows: &segments.Rows{}}
	for i, s := range view.Segments {
		if slices.Contains(ids, s.Segment().ID) {
			m.inputs, m.places = append(m.inputs, s), append(m.places, i)
		}
	}
	return m
}

// job is what the merge is called should it become a dead letter.
func (m *merging) job(c *collection) *job {
	first, last, bytes := uint64(math.MaxUint64), uint64(0), int64(0)
	for _, in := range m.inputs {
		s := in.Segment()
		first, last, bytes = min(first, s.MinSeq), max(last, s.MaxSeq), bytes+s.Data.Size+s.Index.Size
	}
	return c.w.dead.begin(jobCompact, c.meta, first, last, bytes)
}

type origin struct {
	input   int
	ordinal uint32
}

// read takes all live rows of the inputs.
func (m *merging) read(ctx context.Context, dim int) error {
	live := 0
	for _, s := range m.inputs {
		live += int(s.Segment().Live())
	}
	m.rows = &segments.Rows{
		IDs: make([]string, 0, live), Vectors: make([]float32, 0, live*dim),
		Metadata: make([][]byte, 0, live), Seqs: make([]uint64, 0, live),
	}
	m.origins = make([]origin, 0, live)
	for i, s := range m.inputs {
		err := s.Scan(ctx, 0, s.Rows(), columns.ProjectAll, func(first uint32, rows []columns.Row) error {
			for j, row := range rows {
				ordinal := first + uint32(j)
				if s.Deleted != nil && s.Deleted.Contains(ordinal) {
					continue
				}
				row.Metadata = slices.Clone(row.Metadata) // the batch is reused
				m.rows.Append(row)
				m.origins = append(m.origins, origin{i, ordinal})
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("read segment %q: %w", s.Segment().ID, err)
		}
	}
	return nil
}

// priors are the codes of inputs under the quantizer that the output is built
// with.
func (m *merging) priors(ctx context.Context, view *segments.View, z *segments.Quantizer) ([]ivfpq.Prior, error) {
	var out []ivfpq.Prior
	for i, s := range m.inputs {
		if z == nil || s.Segment().Quantizer != z.ID {
			continue
		}
		lists, err := view.AllLists(ctx, m.places[i])
		if err != nil {
			return nil, fmt.Errorf("read segment %q: %w", s.Segment().ID, err)
		}
		rows := make([]uint32, s.Rows())
		for j := range rows {
			rows[j] = segments.NoRow
		}
		for row, o := range m.origins {
			if o.input == i {
				rows[o.ordinal] = uint32(row)
			}
		}
		out = append(out, ivfpq.Prior{Postings: s.Postings(), Data: lists, Row: func(ordinal uint32) (uint32, bool) {
			return rows[ordinal], rows[ordinal] != segments.NoRow
		}})
	}
	return out, nil
}

func reorder(origins []origin, order []uint32) []origin {
	out := make([]origin, len(order))
	for ordinal, position := range order {
		out[ordinal] = origins[position]
	}
	return out
}

// lost returns the output's rows that were hidden in the inputs after they were
// read. An input that is no longer in view lost all of them.
func (m *merging) lost(view *segments.View) *roaring.Bitmap {
	now := make([]*roaring.Bitmap, len(m.inputs))
	gone := make([]bool, len(m.inputs))
	for i, in := range m.inputs {
		at := slices.IndexFunc(view.Segments, func(s segments.LiveSegment) bool { return s.Segment().ID == in.Segment().ID })
		if gone[i] = at < 0; !gone[i] {
			now[i] = view.Segments[at].Deleted
		}
	}
	out := roaring.New()
	for ordinal, o := range m.origins {
		if gone[o.input] || now[o.input] != nil && now[o.input].Contains(o.ordinal) {
			out.Add(uint32(ordinal))
		}
	}
	return out
}

// commitMerge puts the output in the place of its inputs.
func (c *collection) commitMerge(ctx context.Context, m *merging) error {
	if err := c.commits.acquire(ctx); err != nil {
		return err
	}
	defer c.commits.release()
	for {
		err := c.refresh(ctx)
		if err != nil {
			return err
		}
		s := c.state()
		view := s.view
		if s.restored != m.restored {
			c.abandon(m.output)
			return nil
		}
		if own := m.output.segment; own != nil && slices.ContainsFunc(view.Snapshot.Segments, func(s manifest.Segment) bool { return s.ID == own.ID }) {
			return nil // by an attempt of which the answer was lost
		}
		output := m.output
		output.segment, err = c.withDeletes(ctx, m.output.segment, m.lost(view))
		if err != nil {
			return err
		}
		err = c.commit(ctx, view, func(next *manifest.Snapshot) error {
			c.replace(next, m, output)
			return nil
		})
		if !errors.Is(err, errMoved) {
			return err
		}
	}
}

// abandon gives up what was uploaded and can no longer be committed.
func (c *collection) abandon(out stored) {
	if out.segment != nil {
		c.garbage.abandon(c.w.cfg.Now(), objects(*out.segment)...)
	}
	if out.quantizer != nil {
		c.garbage.abandon(c.w.cfg.Now(), out.quantizer.Key)
	}
}

// withDeletes returns the entry of a segment of which rows are already gone; nil
// when all are.
func (c *collection) withDeletes(ctx context.Context, seg *manifest.Segment, gone *roaring.Bitmap) (*manifest.Segment, error) {
	switch n := gone.GetCardinality(); {
	case seg == nil || n == uint64(seg.Rows):
		return nil, nil
	case n == 0:
		return seg, nil
	}
	out := *seg
	deletes, err := c.putDeletes(ctx, seg.ID, gone)
	out.Deletes = deletes
	return &out, err
}

// replace takes the inputs out of next and puts output where the first of them
// was. An output without rows becomes garbage at once.
func (c *collection) replace(next *manifest.Snapshot, m *merging, output stored) {
	at := -1
	for _, in := range m.inputs {
		i := slices.IndexFunc(next.Segments, func(s manifest.Segment) bool { return s.ID == in.Segment().ID })
		if i < 0 {
			continue
		}
		if at < 0 || i < at {
			at = i
		}
		c.retire(next, objects(next.Segments[i])...)
		next.Segments = slices.Delete(next.Segments, i, i+1)
	}
	switch {
	case output.segment != nil:
		c.add(next, output, max(at, 0))
		return
	case m.output.segment != nil:
		c.retire(next, objects(*m.output.segment)...)
		if q := m.output.quantizer; q != nil {
			c.retire(next, q.Key)
		}
	}
	c.retireQuantizers(next)
}
