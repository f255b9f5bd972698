package writer

import (
	"context"
	"fmt"
	"sync"

	"github.com/akidb/akidb/internal/info"
	"github.com/akidb/akidb/internal/memtable"
)

// info describes the collection as of one moment. A writer keeps no blocks of
// segments for searches: what is at rest is cold to it, what is in memtables hot.
func (c *collection) info(ctx context.Context) (info.Collection, error) {
	if err := c.online(); err != nil {
		return info.Collection{}, err
	}
	s := c.state()
	rows, unflushed, err := c.counts.count(ctx, s)
	if err != nil {
		return info.Collection{}, fmt.Errorf("count rows of collection %q: %w", c.meta.Name, err)
	}
	snap := s.view.Snapshot
	i := info.Collection{
		ID: c.meta.ID, Name: c.meta.Name, Dimension: c.meta.Dimension, Metric: c.meta.Metric,
		VectorCount: rows, UnindexedCount: unflushed, SegmentCount: len(snap.Segments), SizeBytes: snap.Bytes(),
		Tier: info.Cold, ManifestVersion: snap.Version, Seq: s.seq, CreatedAt: c.meta.CreatedAt,
	}
	if p := snap.Placement; p != nil {
		i.Placement = &info.Placement{Tier: info.Tier(p.Tier), Pinned: p.Pinned, Since: p.Since}
	}
	if len(snap.Segments) == 0 {
		i.Tier = info.Hot
	}
	return i, nil
}

// reportSize updates the gauge of the collection's rows. When the store is away
// it keeps its last value.
func (c *collection) reportSize(ctx context.Context) {
	if rows, _, err := c.counts.count(ctx, c.state()); err == nil {
		c.w.metrics.size.Set(c.meta.Name, int64(rows))
	}
}

// counter remembers which ids of the memtables have a row in the segments, so
// that counting looks each of them up once, not every time. That only changes
// with a flush or a restore: a compaction moves rows and neither adds nor
// removes any.
type counter struct {
	mu       sync.Mutex
	flushed  uint64
	restored uint64
	stored   map[string]bool
}

// count returns the rows of s and how many of them are in memtables.
func (k *counter) count(ctx context.Context, s state) (rows, unflushed uint64, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stored == nil || k.flushed != s.view.Snapshot.FlushedSeq || k.restored != s.restored {
		k.flushed, k.restored, k.stored = s.view.Snapshot.FlushedSeq, s.restored, map[string]bool{}
	}
	rows = s.view.Snapshot.Rows()
	var ids, unknown []string
	s.each(func(op memtable.Op) {
		if !op.Delete {
			unflushed++
		}
		ids = append(ids, op.ID)
		if _, known := k.stored[op.ID]; !known {
			unknown = append(unknown, op.ID)
		}
	})
	_, found, err := s.view.Lookup(ctx, unknown)
	if err != nil {
		return 0, 0, err
	}
	for i, id := range unknown {
		k.stored[id] = found[i]
	}
	for _, id := range ids {
		if k.stored[id] {
			rows--
		}
	}
	return rows + unflushed, unflushed, nil
}
