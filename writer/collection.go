package writer

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/akidb/akidb/internal/memtable"
	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/manifest"
	"github.com/akidb/akidb/writer/wal"
)

// collection is one collection that this Writer owns.
type collection struct {
	w     *Writer
	meta  manifest.Collection
	walID wal.CollectionID
	keys  *window

	// ready is set once the collection is claimed; then log is there and view is
	// open. epochNow only changes with order held.
	ready    atomic.Bool
	log      *manifest.Log
	epochNow atomic.Uint64

	ctx    context.Context // of its background work; ends with the collection
	cancel context.CancelFunc
	wake   chan struct{} // tells the flusher to look
	idle   chan struct{} // closed when the flusher has ended

	// commits is held by whoever changes the manifest, from planning on view to
	// publishing the next one.
	commits semaphore

	// order is held to hand out sequence numbers and to enqueue.
	order   sync.Mutex
	nextSeq uint64
	refused error  // why no write is taken any more
	taken   uint64 // operations enqueued before the collection was claimed

	mu       sync.RWMutex
	view     *segments.View
	frozen   []*memtable.Table // full ones, oldest first; the first is being flushed, or next
	active   *memtable.Table
	pending  map[uint64]*write // enqueued and not yet applied, by first seq
	oldest   time.Time         // when active got its first operation; zero while empty
	wanted   uint64            // everything up to it is to be flushed whatever its age
	branches map[string]bool   // pins of branches that are being made
	held     map[string]int    // quantizers that segments are being built with
	// moved is closed, and replaced, whenever view changes.
	moved chan struct{}
	// restored counts the commits that changed rows without a write. What was
	// derived from rows before one holds no longer.
	restored uint64

	counts  counter
	garbage garbage
}

// walCollection is a collection's id as the log knows it.
func walCollection(id string) (wal.CollectionID, error) {
	u, err := ulid.ParseStrict(id)
	return wal.CollectionID(u), err
}

// newCollection makes a collection whose manifest is log's, not yet claimed.
func newCollection(w *Writer, meta manifest.Collection, walID wal.CollectionID, flushed uint64) *collection {
	c := &collection{
		w: w, meta: meta, walID: walID, keys: newWindow(w.cfg.IdempotencyKeys),
		wake: make(chan struct{}, 1), idle: make(chan struct{}), commits: newSemaphore(1),
		nextSeq: flushed + 1, active: memtable.New(meta.Dimension, flushed),
		pending: map[uint64]*write{}, moved: make(chan struct{}),
	}
	c.ctx, c.cancel = context.WithCancel(w.ctx)
	return c
}

// start sets the flusher going.
func (c *collection) start() {
	if !c.w.background(func(context.Context) { c.flushLoop(c.ctx) }) {
		close(c.idle)
	}
}

// state is what the collection holds as of one sequence number. It does not
// change.
type state struct {
	view   *segments.View
	tables []memtable.Snapshot // newest first; they hide what view has of their ids
	seq    uint64              // everything up to it is in here

	restored uint64 // of the collection
}

func (c *collection) state() state {
	c.mu.RLock()
	defer c.mu.RUnlock()
	s := state{view: c.view, tables: make([]memtable.Snapshot, 0, 1+len(c.frozen)), restored: c.restored}
	s.tables = append(s.tables, c.active.Snapshot())
	for _, t := range slices.Backward(c.frozen) {
		s.tables = append(s.tables, t.Snapshot())
	}
	s.seq = s.tables[0].Last()
	return s
}

// base is the sequence number before the first that the tables hold.
func (s state) base() uint64 { return s.tables[len(s.tables)-1].Base() }

// newest returns the newest operation on id that is not yet in a segment.
func (s state) newest(id string) (memtable.Op, bool) {
	for _, t := range s.tables {
		if op, ok := t.Get(id); ok {
			return op, true
		}
	}
	return memtable.Op{}, false
}

// each calls fn for the newest operation on every id that the tables hold.
func (s state) each(fn func(memtable.Op)) {
	for i, t := range s.tables {
		t.Newest(0, func(op memtable.Op) bool {
			if !s.hidden(i, op.ID) {
				fn(op)
			}
			return true
		})
	}
}

// hidden reports whether a table newer than table i has something on id.
func (s state) hidden(i int, id string) bool {
	for _, newer := range s.tables[:i] {
		if _, ok := newer.Get(id); ok {
			return true
		}
	}
	return false
}

// epoch is the one this Writer claimed, or goes on in until it can.
func (c *collection) epoch() uint64 { return c.epochNow.Load() }

// freeze returns the table to flush: the oldest that is full, else the active
// one; nil when there is nothing to flush.
func (c *collection) freeze() *memtable.Table {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.frozen) == 0 && !empty(c.active) {
		c.rotate()
	}
	if len(c.frozen) == 0 {
		return nil
	}
	return c.frozen[0]
}

// empty reports whether a table has nothing to flush, not even a mark.
func empty(t *memtable.Table) bool {
	s := t.Snapshot()
	return s.Last() == s.Base()
}

// coalesceBytes is how large the table is that full ones are joined to, when
// more than one waits. It is the default of FlushBytes: with fewer bytes a table,
// a backlog that an outage or a crash left would be flushed in many small steps,
// each with a commit of its own, and might never be caught up with.
const coalesceBytes = 64 << 20

// coalesce joins the oldest full tables. Only the flusher calls it, between two
// flushes; full tables do not change, so they are copied without a lock.
func (c *collection) coalesce() {
	c.mu.RLock()
	full := slices.Clone(c.frozen)
	c.mu.RUnlock()
	if len(full) < 2 {
		return
	}
	// A flush is built on the disk, which it must not be too large for.
	free, err := c.w.cfg.FS.FreeBytes(c.w.cfg.DataDir)
	if err != nil {
		return
	}
	n, bytes := 0, int64(0)
	for n < len(full) && bytes+full[n].Bytes() <= max(min(coalesceBytes, free/4), c.w.cfg.FlushBytes) {
		bytes += full[n].Bytes()
		n++
	}
	if n < 2 {
		return
	}
	joined := memtable.New(c.meta.Dimension, full[0].Base())
	for _, t := range full[:n] {
		t.Snapshot().Newest(0, func(op memtable.Op) bool {
			joined.Apply([]memtable.Op{op})
			return true
		})
		joined.AdvanceTo(t.Snapshot().Last())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.frozen) < n || !slices.Equal(c.frozen[:n], full[:n]) {
		return // a restore took them away
	}
	c.frozen = append([]*memtable.Table{joined}, c.frozen[n:]...)
	c.w.unflushed.Add(joined.Bytes() - bytes)
}

// rotate begins a new active table. Callers hold mu.
func (c *collection) rotate() {
	c.frozen = append(c.frozen, c.active)
	c.active = memtable.New(c.meta.Dimension, c.active.Snapshot().Last())
	c.oldest = time.Time{}
}

// publish makes view what readers see. Tables that it covers go in the same
// moment.
func (c *collection) publish(view *segments.View) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.view = view
	flushed := view.Snapshot.FlushedSeq
	c.garbage.show(view.Snapshot, c.w.cfg.Now())
	c.frozen = slices.DeleteFunc(c.frozen, func(t *memtable.Table) bool {
		if t.Snapshot().Last() > flushed {
			return false
		}
		c.w.unflushed.Add(-t.Bytes())
		c.w.flushedBytes.Add(t.Bytes())
		return true
	})
	for i, t := range c.frozen {
		c.frozen[i] = c.cut(t, flushed)
	}
	c.active = c.cut(c.active, flushed)
	close(c.moved)
	c.moved = make(chan struct{})
}

// cut returns a table without what it has up to seq, if it has any of that. The
// tables of one process end where its flushes do: only what was replayed can
// begin before, and a mark that a restore's commit covers. Readers who have all
// of such a table have to look at the manifest for what follows. Callers hold mu.
func (c *collection) cut(t *memtable.Table, seq uint64) *memtable.Table {
	s := t.Snapshot()
	if s.Base() >= seq {
		return t
	}
	rest := memtable.New(c.meta.Dimension, seq)
	s.Newest(0, func(op memtable.Op) bool {
		if op.Seq > seq {
			rest.Apply([]memtable.Op{op})
		}
		return true
	})
	rest.AdvanceTo(s.Last())
	c.w.unflushed.Add(rest.Bytes() - t.Bytes())
	return rest
}

// release forgets what the collection holds in memory.
func (c *collection) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range append(c.frozen, c.active) {
		c.w.unflushed.Add(-t.Bytes())
	}
	c.frozen, c.active = nil, memtable.New(c.meta.Dimension, c.active.Snapshot().Last())
}

// wakeIfDue tells the flusher to look if there is something for it.
func (c *collection) wakeIfDue() {
	if c.flushDue() {
		c.poke()
	}
}

func (c *collection) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}
