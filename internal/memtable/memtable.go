// Package memtable holds the rows that were acknowledged but are not yet in the
// object store: the writer's own between two flushes, and every query pod's
// replica of them, kept up to date by deltas.
//
// A Table is an append-only list of operations and an index by id. One
// goroutine applies; any number take snapshots and read them without locks. A
// snapshot is the state after some sequence number and stays that state while
// later operations arrive.
package memtable

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// Op is one row's worth of change. Sequence numbers are per collection and
// without gaps; the later of two operations on an id wins.
type Op struct {
	Seq      uint64
	ID       string
	Delete   bool
	Vector   []float32 // nil when Delete
	Metadata []byte    // a JSON object, or nil
}

// chunkRows is how many operations share an allocation. Large enough that a
// scan runs over contiguous vectors, small enough that an idle collection
// costs little.
const chunkRows = 256

// rowOverhead approximates the bytes a row costs beyond vector, id and
// metadata: entry, map slot, string and slice headers.
const rowOverhead = 160

const none = int32(-1)

// entry is one operation in the list.
type entry struct {
	op   Op
	prev int32 // position of the id's previous operation, none when first
	// superseded is the sequence number of the operation that replaced this
	// one, 0 while it is the newest.
	superseded atomic.Uint64
}

type chunk struct {
	entries [chunkRows]entry
	vectors []float32 // chunkRows × dim, zero for deletes; nil while all are deletes
}

// Table is a memtable. The zero value is not ready; see New.
type Table struct {
	dim  int
	base uint64

	mu     sync.RWMutex
	chunks []*chunk
	count  int              // operations
	newest map[string]int32 // id → position of its newest operation
	last   uint64           // sequence number of the last operation, base when there is none
	bytes  int64
}

// New returns an empty table for vectors of dim numbers whose first operation
// will have sequence number base+1.
func New(dim int, base uint64) *Table {
	return &Table{dim: dim, base: base, last: base, newest: map[string]int32{}}
}

// Base is the sequence number before the table's first.
func (t *Table) Base() uint64 { return t.base }

// Apply appends operations, copying their vectors. Their sequence numbers must
// follow the last one's; within a table's life a gap is a bug, except that ops
// of a delta may skip superseded ones, which AdvanceTo accounts for.
func (t *Table) Apply(ops []Op) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range ops {
		t.apply(&ops[i])
	}
}

// AdvanceTo says that the table reflects everything up to seq, also when the
// last operations were not worth sending.
func (t *Table) AdvanceTo(seq uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = max(t.last, seq)
}

func (t *Table) apply(op *Op) {
	if op.Seq <= t.last {
		panic(fmt.Sprintf("BUG: operation %d applied after %d", op.Seq, t.last))
	}
	if t.count%chunkRows == 0 {
		t.chunks = append(t.chunks, &chunk{})
	}
	c, at := t.chunks[t.count/chunkRows], t.count%chunkRows
	e := &c.entries[at]
	e.op, e.prev = *op, none
	if op.Delete {
		e.op.Vector, e.op.Metadata = nil, nil
	} else {
		if c.vectors == nil {
			c.vectors = make([]float32, chunkRows*t.dim)
		}
		v := c.vectors[at*t.dim : (at+1)*t.dim : (at+1)*t.dim]
		copy(v, op.Vector)
		e.op.Vector = v
	}
	if p, ok := t.newest[op.ID]; ok {
		e.prev = p
		t.entry(p).superseded.Store(op.Seq)
	}
	t.newest[op.ID] = int32(t.count)
	t.count++
	t.last = op.Seq
	t.bytes += int64(len(op.ID)+len(op.Metadata)+4*t.dim) + rowOverhead
}

func (t *Table) entry(i int32) *entry { return &t.chunks[i/chunkRows].entries[i%chunkRows] }

// Bytes approximates the memory the table holds.
func (t *Table) Bytes() int64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.bytes
}

// Snapshot returns the state as of now.
func (t *Table) Snapshot() Snapshot {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return Snapshot{table: t, chunks: t.chunks, count: t.count, last: t.last}
}

// Snapshot is a table as of one sequence number. It is a small value; copies
// share everything.
type Snapshot struct {
	table  *Table
	chunks []*chunk
	count  int
	last   uint64
}

// Last is the sequence number the snapshot reflects.
func (s Snapshot) Last() uint64 { return s.last }

// Base is the sequence number before the first the snapshot covers.
func (s Snapshot) Base() uint64 { return s.table.base }

// Count is how many operations the snapshot holds, superseded ones included.
func (s Snapshot) Count() int { return s.count }

// newest reports whether an operation is the last on its id in the snapshot.
func (s Snapshot) newest(e *entry) bool {
	by := e.superseded.Load()
	return by == 0 || by > s.last
}

// Get returns the newest operation on id, which may be a delete.
func (s Snapshot) Get(id string) (Op, bool) {
	s.table.mu.RLock()
	i, ok := s.table.newest[id]
	s.table.mu.RUnlock()
	if !ok {
		return Op{}, false
	}
	for ; i != none; i = s.at(i).prev {
		// Positions past the snapshot belong to chunks it may not know.
		if int(i) < s.count {
			return s.at(i).op, true
		}
	}
	return Op{}, false
}

// at returns the entry at position i, which may lie past the snapshot.
func (s Snapshot) at(i int32) *entry {
	if int(i) < s.count {
		return &s.chunks[i/chunkRows].entries[i%chunkRows]
	}
	s.table.mu.RLock()
	defer s.table.mu.RUnlock()
	return s.table.entry(i)
}

// Newest calls fn for the newest operation on every id whose position is at
// least from, in the order of sequence numbers, until fn returns false.
// Positions count operations from 0; passing an earlier snapshot's Count skips
// what that one already held.
func (s Snapshot) Newest(from int, fn func(Op) bool) {
	for i := from; i < s.count; i++ {
		e := &s.chunks[i/chunkRows].entries[i%chunkRows]
		if s.newest(e) && !fn(e.op) {
			return
		}
	}
}

// Block is a run of consecutive operations with their vectors side by side.
type Block struct {
	snapshot Snapshot
	chunk    *chunk
	Count    int
	Vectors  []float32 // Count × dim; zeroes where the operation is a delete
}

// Live reports whether row i of the block is a row of the snapshot: not a
// delete, not superseded. The operation is returned either way.
func (b Block) Live(i int) (Op, bool) {
	e := &b.chunk.entries[i]
	return e.op, !e.op.Delete && b.snapshot.newest(e)
}

// Blocks returns the operations in order, in blocks fit for a batch kernel. Runs
// of nothing but deletes are left out.
func (s Snapshot) Blocks() []Block {
	s.table.mu.RLock() // a chunk gets its vectors with its first upsert
	defer s.table.mu.RUnlock()
	out := make([]Block, 0, len(s.chunks))
	for i, c := range s.chunks {
		n := min(chunkRows, s.count-i*chunkRows)
		if n <= 0 {
			break
		}
		if c.vectors == nil {
			continue
		}
		out = append(out, Block{snapshot: s, chunk: c, Count: n, Vectors: c.vectors[:n*s.table.dim]})
	}
	return out
}
