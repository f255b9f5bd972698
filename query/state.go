package query

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/akidb/akidb/internal/memtable"
	"github.com/akidb/akidb/internal/token"
	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/ivfpq"
	"github.com/akidb/akidb/segments/manifest"
)

// state is what a query sees of a collection: the segments of one manifest and
// the operations after its flushed sequence number, as far as this process has
// them. It does not change; newer states replace it.
type state struct {
	view    *segments.View
	current manifest.Current
	table   *memtable.Table   // belongs to the collection; shared by states until it is rebuilt
	tail    memtable.Snapshot // of table; its base is the view's flushed seq
	live    []*liveRows       // by segment
	epoch   uint64            // of the writer the tail came from, 0 while there was none
	// newest is the manifest version the writer last said it has committed. The
	// state may be complete without it: a newer manifest and a shorter tail show
	// the same rows.
	newest uint64

	// verifiedAt is when this was last known to be all there is: CURRENT was
	// read, or the writer said so.
	verifiedAt time.Time
}

func (s *state) snapshot() *manifest.Snapshot    { return s.view.Snapshot }
func (s *state) collection() manifest.Collection { return s.view.Snapshot.Collection }

// seq is the sequence number up to which the state reflects every write.
func (s *state) seq() uint64 { return s.tail.Last() }

// token is that of the last write the state reflects.
func (s *state) token() token.Token {
	return token.Token{Epoch: max(s.epoch, s.current.Epoch), Seq: s.seq()}
}

// newState joins a view with nothing after it.
func newState(view *segments.View, current manifest.Current, now time.Time) *state {
	table := memtable.New(view.Snapshot.Collection.Dimension, view.Snapshot.FlushedSeq)
	s := &state{view: view, current: current, table: table, tail: table.Snapshot(), verifiedAt: now}
	s.live = make([]*liveRows, len(view.Segments))
	for i, seg := range view.Segments {
		s.live[i] = &liveRows{rows: seg.Rows(), deleted: seg.Deleted}
	}
	return s
}

// verified returns s as of a later moment.
func (s *state) verified(now time.Time) *state {
	next := *s
	next.verifiedAt = now
	return &next
}

// extend returns s with ops applied and reflecting everything up to upto.
func (s *state) extend(ctx context.Context, ops []memtable.Op, upto uint64) (*state, error) {
	next := *s
	if len(ops) > 0 {
		ids := make([]string, len(ops))
		for i, op := range ops {
			ids[i] = op.ID
		}
		// Reading may fail, applying must not: so it comes first.
		gone, err := s.view.Superseded(ctx, ids)
		if err != nil {
			return nil, err
		}
		next.live = slices.Clone(s.live)
		for i, rows := range gone {
			if rows != nil {
				next.live[i] = s.live[i].without(rows)
			}
		}
		s.table.Apply(ops)
	}
	s.table.AdvanceTo(upto)
	next.tail = s.table.Snapshot()
	return &next, nil
}

// onto returns a state of a newer view that keeps the part of s's tail the view
// does not hold.
func (s *state) onto(ctx context.Context, view *segments.View, current manifest.Current, now time.Time) (*state, error) {
	next := newState(view, current, now)
	flushed := view.Snapshot.FlushedSeq
	if s.seq() <= flushed {
		next.epoch, next.newest = s.epoch, s.newest
		return next, nil
	}
	var rest []memtable.Op
	s.tail.Newest(0, func(op memtable.Op) bool {
		if op.Seq > flushed {
			rest = append(rest, op)
		}
		return true
	})
	next, err := next.extend(ctx, rest, s.seq())
	if err != nil {
		return nil, err
	}
	next.epoch, next.newest = s.epoch, s.newest
	return next, nil
}

// part returns some of the state's segments as a state of their own, with its
// tail or without. Rows that the tail replaces stay masked either way.
func (s *state) part(of []int, tail bool) *state {
	next := *s
	next.view, next.live = s.view.Part(of), make([]*liveRows, len(of))
	for i, at := range of {
		next.live[i] = s.live[at]
	}
	if !tail {
		next.table = memtable.New(s.collection().Dimension, s.seq())
		next.tail = next.table.Snapshot()
	}
	return &next
}

// liveRows says which rows of a segment a query may return.
type liveRows struct {
	rows    uint32
	deleted *roaring.Bitmap // by the manifest; nil for none
	masked  *roaring.Bitmap // replaced or deleted by the tail; nil for none

	once sync.Once
	bits ivfpq.Bitmap
}

func (l *liveRows) without(rows *roaring.Bitmap) *liveRows {
	next := &liveRows{rows: l.rows, deleted: l.deleted, masked: rows}
	if l.masked != nil {
		next.masked = roaring.Or(l.masked, rows)
	}
	return next
}

// gone is how many rows are not live. The two sets never overlap: the tail
// masks rows that the manifest has as live.
func (l *liveRows) gone() uint64 {
	var n uint64
	for _, set := range []*roaring.Bitmap{l.deleted, l.masked} {
		if set != nil {
			n += set.GetCardinality()
		}
	}
	return n
}

func (l *liveRows) count() uint64 { return uint64(l.rows) - l.gone() }

// bitmap has a bit for every live row; nil means all of them live.
func (l *liveRows) bitmap() ivfpq.Bitmap {
	if l.deleted == nil && l.masked == nil {
		return nil
	}
	l.once.Do(func() {
		set := fullSet(l.rows)
		for _, gone := range []*roaring.Bitmap{l.deleted, l.masked} {
			if gone == nil {
				continue
			}
			for it := gone.Iterator(); it.HasNext(); {
				set.clear(it.Next())
			}
		}
		l.bits = ivfpq.Bitmap(set)
	})
	return l.bits
}

// rowCount is the number of live rows, segments and tail together.
func (s *state) rowCount() uint64 {
	var n uint64
	for _, l := range s.live {
		n += l.count()
	}
	s.tail.Newest(0, func(op memtable.Op) bool {
		if !op.Delete {
			n++
		}
		return true
	})
	return n
}
