package writer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/akidb/akidb/internal/memtable"
	"github.com/akidb/akidb/internal/token"
	"github.com/akidb/akidb/segments/manifest"
	"github.com/akidb/akidb/writer/wal"
)

// Kinds of record in the log: what the request was, which is how its answer is
// told again. Numbers are never reused.
const (
	kindUpsert uint8 = 1
	kindDelete uint8 = 2
	kindPatch  uint8 = 3
	// kindMark takes one sequence number and changes no row: what follows it is
	// told from what came before, by readers too.
	kindMark uint8 = 4
)

// payloadHeader is the size of what precedes the encoded batch in a record:
//
//	affected u64, little-endian: what the request's answer counts
const payloadHeader = 8

// write is one record on its way into the log and the memtable.
type write struct {
	kind     uint8
	affected uint64        // rows the request's answer counts; more than its own when it had several records
	ops      []memtable.Op // none for a mark
	key      string        // of the request, if this record completes it
	digest   digest
	evenHeld bool // taken while writes are held
	// check, if set, is asked in the moment the write takes its place in the
	// order, under the collection's locks; its error refuses the write.
	check func() error

	// applied is closed once readers see the write, and when it is certain that
	// they never will.
	applied chan struct{}
}

// apply gives w its place in the order, makes it durable and visible, and says
// where it stands. The operations' vectors are copied; their ids and metadata
// are kept and must not change.
func (c *collection) apply(ctx context.Context, w *write) (token.Token, error) {
	if err := c.w.admit(); err != nil {
		return token.Token{}, err
	}
	w.applied = make(chan struct{})
	rec := wal.Record{
		Collection: c.walID, Count: uint32(max(1, len(w.ops))), Kind: w.kind,
		IdempotencyKey: w.key, Digest: w.digest, Payload: encodePayload(c.meta.Dimension, w),
	}
	ticket, err := c.enqueue(&rec, w)
	for errors.Is(err, wal.ErrBusy) {
		if err = c.w.log.WaitRoom(ctx, rec); err == nil {
			ticket, err = c.enqueue(&rec, w)
		}
	}
	if err != nil {
		c.w.noRoom(err)
		return token.Token{}, fmt.Errorf("write to collection %q: %w", c.meta.Name, err)
	}
	if _, err := ticket.Wait(ctx); err != nil {
		return token.Token{}, fmt.Errorf("write to collection %q: %w", c.meta.Name, err)
	}
	return token.Token{Epoch: rec.Epoch, Seq: rec.Seq + uint64(rec.Count) - 1}, nil
}

// enqueue numbers the operations and hands the record to the log, in one step.
func (c *collection) enqueue(rec *wal.Record, w *write) (*wal.Ticket, error) {
	c.order.Lock()
	defer c.order.Unlock()
	if c.refused != nil && !w.evenHeld {
		return nil, c.refused
	}
	if w.check != nil {
		if err := w.check(); err != nil {
			return nil, err
		}
	}
	rec.Seq, rec.Epoch = c.nextSeq, c.epoch()
	for i := range w.ops {
		w.ops[i].Seq = rec.Seq + uint64(i)
	}
	c.mu.Lock()
	c.pending[rec.Seq] = w
	c.mu.Unlock()
	ticket, err := c.w.log.Enqueue(*rec)
	if err != nil {
		c.mu.Lock()
		delete(c.pending, rec.Seq)
		c.mu.Unlock()
		return nil, err
	}
	c.nextSeq += uint64(rec.Count)
	if !c.ready.Load() {
		c.taken += uint64(rec.Count)
	}
	return ticket, nil
}

// applied is called by the log for every record, in order, once it is durable.
func (w *Writer) applied(rec wal.Record, _ wal.Position) {
	if c := w.catalog.byWAL(rec.Collection); c != nil {
		c.applied(&rec)
	}
}

func (c *collection) applied(rec *wal.Record) {
	c.mu.Lock()
	w := c.pending[rec.Seq]
	if w == nil {
		panic(fmt.Sprintf("BUG: collection %q: record %d was never enqueued", c.meta.ID, rec.Seq))
	}
	delete(c.pending, rec.Seq)
	due := c.absorb(w.ops, rec.Seq+uint64(rec.Count)-1)
	c.mu.Unlock()
	if w.key != "" {
		c.keys.put(w.key, w.digest, answerOf(rec.Epoch, w))
	}
	w.ops = nil
	close(w.applied)
	if due {
		c.poke()
	}
}

// absorb adds operations, which end with sequence number last, to the active
// table and says whether that is now large enough to flush. It grows no further
// then, however long the flush before it takes: what a flush needs of memory and
// disk is bounded. Callers hold mu.
func (c *collection) absorb(ops []memtable.Op, last uint64) (due bool) {
	if empty(c.active) {
		c.oldest = c.w.cfg.Now()
	}
	before := c.active.Bytes()
	c.active.Apply(ops)
	c.active.AdvanceTo(last)
	after := c.active.Bytes()
	c.w.unflushed.Add(after - before)
	if after < c.w.cfg.FlushBytes {
		return false
	}
	c.rotate()
	return true
}

func encodePayload(dim int, w *write) []byte {
	size := payloadHeader + 9
	for i := range w.ops {
		size += 9 + len(w.ops[i].ID) + len(w.ops[i].Metadata) + 4*len(w.ops[i].Vector)
	}
	b := binary.LittleEndian.AppendUint64(make([]byte, 0, size), w.affected)
	return memtable.AppendBatch(b, dim, w.ops)
}

// decodeRecord is the inverse of what apply does to a write.
func decodeRecord(rec *wal.Record, meta manifest.Collection) (*write, error) {
	if len(rec.Payload) < payloadHeader {
		return nil, fmt.Errorf("record of %d bytes, want at least %d", len(rec.Payload), payloadHeader)
	}
	if rec.Kind < kindUpsert || rec.Kind > kindMark {
		return nil, fmt.Errorf("record of kind %d: %w", rec.Kind, wal.ErrVersion)
	}
	ops, err := memtable.DecodeBatch(rec.Payload[payloadHeader:], meta.Dimension, rec.Seq)
	if err != nil {
		return nil, err
	}
	if mark := rec.Kind == kindMark; mark && (len(ops) > 0 || rec.Count != 1) || !mark && len(ops) != int(rec.Count) {
		return nil, fmt.Errorf("record of %d operations claims %d", len(ops), rec.Count)
	}
	return &write{
		kind: rec.Kind, affected: binary.LittleEndian.Uint64(rec.Payload),
		ops: ops, key: rec.IdempotencyKey, digest: rec.Digest,
	}, nil
}

// answer is what a request is told, as often as it asks.
type answer struct {
	kind     uint8
	affected uint64
	token    token.Token
	id       string // of a patch
	metadata []byte // of a patch: the row's, merged
}

// answerOf is the answer of the request that w completed.
func answerOf(epoch uint64, w *write) answer {
	last := w.ops[len(w.ops)-1]
	a := answer{kind: w.kind, affected: w.affected, token: token.Token{Epoch: epoch, Seq: last.Seq}}
	if w.kind == kindPatch {
		a.id, a.metadata = last.ID, last.Metadata
	}
	return a
}
