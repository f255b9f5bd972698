// Package ship copies a write-ahead log to an object store while it is being
// written, so that losing the log's disk costs no more than what was
// acknowledged since the last copy, and reads back what was copied.
//
// A Shipper works from the log's files alone: what was just synced is in the
// page cache, and nothing has to be buffered when the store is slow or away. No
// write ever waits for it. What a flush covers is left out, and what was shipped
// is deleted once a flush covers it.
//
// The copy is itself a log: objects numbered from 1 without gaps, each written
// once, on the condition that it is absent. So there is never a fork in it,
// whatever answers are lost and however late a put arrives. What follows what
// in a collection is told by sequence numbers, never by positions, which a
// repair of the log may change.
//
// The bytes are described in FORMAT.md.
package ship

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/writer/wal"
)

// maxObjectBytes is where an object ends, uncompressed. A record that is larger
// has an object of its own.
const maxObjectBytes = 16 << 20

// Shipper copies one log. Its methods are safe for concurrent use.
type Shipper struct {
	log   *wal.Log
	store blob.Store
	now   func() time.Time
	limit int // maxObjectBytes

	turn    sync.Mutex // held by Ship; guards what follows
	resumed bool
	kept    []kept // objects that are in the store, oldest first
	next    uint64 // number of the next one
	before  uint32 // checksum of the one before it
	done    map[wal.CollectionID]mark
	payload []byte // assembles an object

	mu   sync.Mutex
	at   wal.Position // everything before it is shipped, or covered by a flush
	asOf time.Time    // everything acknowledged before it is, too
}

// kept is an object in the store and what has to be flushed for it to go.
type kept struct {
	number uint64
	last   map[wal.CollectionID]uint64
}

// mark is the newest record of a collection that was shipped.
type mark struct{ epoch, seq uint64 }

// New makes a Shipper of a log. now is the clock of creation times and of Lag.
func New(log *wal.Log, store blob.Store, now func() time.Time) *Shipper {
	return &Shipper{log: log, store: store, now: now, limit: maxObjectBytes, next: 1, done: map[wal.CollectionID]mark{}, asOf: now()}
}

// Lag is how many bytes of the log are not shipped, and for how long the oldest
// of them has waited at most; 0 and 0 if all are.
func (s *Shipper) Lag() (int64, time.Duration) {
	s.mu.Lock()
	at, asOf := s.at, s.asOf
	s.mu.Unlock()
	behind := s.log.Behind(at)
	if behind == 0 {
		return 0, 0
	}
	return behind, s.now().Sub(asOf)
}

// Ship copies what was acknowledged before it was called and is not covered by
// a flush, and deletes what no longer has to be kept. It returns how many
// objects it wrote. After an error the next call goes on where this one ended.
func (s *Shipper) Ship(ctx context.Context) (objects int, err error) {
	s.turn.Lock()
	defer s.turn.Unlock()
	if !s.resumed {
		if err := s.resume(ctx); err != nil {
			return 0, fmt.Errorf("ship log: %w", err)
		}
		s.resumed = true
	}
	began, goal := s.now(), s.log.Durable()
	for at := s.at; at.Compare(goal) < 0; {
		b, err := s.collect(at)
		if errors.Is(err, errSetBack) {
			if err = s.forget(ctx); err == nil {
				at = wal.Position{}
				continue
			}
		}
		if err == nil && b.records > 0 {
			var ours bool
			if ours, err = s.put(ctx, b); err == nil && !ours {
				continue // what there was may hold some of these records
			}
		}
		if err != nil {
			return objects, fmt.Errorf("ship log from %v: %w", at, err)
		}
		if b.records > 0 {
			objects++
		}
		if at == b.end {
			break // released while it was being read
		}
		at = b.end
		s.reached(at)
	}
	s.mu.Lock()
	s.asOf = began
	s.mu.Unlock()
	return objects, s.prune(ctx)
}

func (s *Shipper) reached(at wal.Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = at
}

// resume finds out what an earlier process has shipped.
func (s *Shipper) resume(ctx context.Context) error {
	s.kept, s.next, s.before, s.done = nil, 1, 0, map[wal.CollectionID]mark{}
	return Read(ctx, s.store, s.log.UUID(), func(o Object) error {
		s.found(o)
		return nil
	})
}

// found takes an object in the store into account. Only what can be recovered
// counts as shipped: records that a flush or an earlier object leads up to.
func (s *Shipper) found(o Object) {
	k := kept{o.Number, map[wal.CollectionID]uint64{}}
	for i := range o.Records {
		rec := &o.Records[i]
		k.last[rec.Collection] = last(rec)
		through := max(s.done[rec.Collection].seq, s.log.Released(rec.Collection))
		if rec.Seq <= through+1 && last(rec) > through {
			s.done[rec.Collection] = mark{rec.Epoch, last(rec)}
		}
	}
	s.kept, s.next, s.before = append(s.kept, k), o.Number+1, o.checksum
}

// errSetBack: what was shipped is not what the log holds. Its disk was restored
// from an older copy, and sequence numbers were given out again.
var errSetBack = errors.New("the log was set back")

// shipped reports whether a record need not be copied.
func (s *Shipper) shipped(rec *wal.Record) (bool, error) {
	m := s.done[rec.Collection]
	switch {
	case last(rec) <= s.log.Released(rec.Collection), rec.Epoch <= m.epoch && last(rec) <= m.seq:
		return true, nil
	case rec.Seq <= m.seq:
		return false, errSetBack
	}
	return false, nil
}

// forget deletes everything that was shipped: it must not be mixed with what the
// log holds now. The newest goes first, so that what an interruption leaves is
// still seen not to belong to the log.
func (s *Shipper) forget(ctx context.Context) error {
	for n := len(s.kept); n > 0; n-- {
		if err := s.store.Delete(ctx, key(s.log.UUID(), s.kept[n-1].number)); err != nil {
			return fmt.Errorf("delete what was shipped before the log was set back: %w", err)
		}
		s.kept = s.kept[:n-1]
	}
	s.before = 0
	clear(s.done)
	s.reached(wal.Position{})
	return nil
}

// batch is what becomes an object.
type batch struct {
	created time.Time
	records int
	marks   map[wal.CollectionID]mark // of the last record of each collection
	end     wal.Position              // of what was read
}

// collect assembles the next object, from a position in the log on. It is empty
// if nothing there needs to be shipped.
func (s *Shipper) collect(from wal.Position) (batch, error) {
	b := batch{created: s.now(), marks: map[wal.CollectionID]mark{}}
	if s.payload = s.payload[:0]; cap(s.payload) > 2*s.limit {
		s.payload = nil // the largest records are rare
	}
	var failed error
	end, err := s.log.ReadFrom(from, func(rec wal.Record) bool {
		var skip bool
		if skip, failed = s.shipped(&rec); skip || failed != nil {
			return skip
		}
		if b.records > 0 && len(s.payload)+sizeOf(&rec) > s.limit {
			return false
		}
		s.payload = appendRecord(s.payload, &rec)
		b.records++
		b.marks[rec.Collection] = mark{rec.Epoch, last(&rec)}
		return true
	})
	b.end = end
	return b, errors.Join(err, failed)
}

// put writes an object. It is not ours when its number was taken: by a put of
// which the answer was lost, of this process or an earlier one.
func (s *Shipper) put(ctx context.Context, b batch) (ours bool, err error) {
	log := s.log.UUID()
	body := encode(header{log: log, number: s.next, previous: s.before, records: uint32(b.records), created: b.created}, s.payload)
	_, err = s.store.Put(ctx, key(log, s.next), bytes.NewReader(body), int64(len(body)), blob.Condition{IfAbsent: true})
	if errors.Is(err, blob.ErrPrecondition) {
		o, _, err := fetch(ctx, s.store, log, s.next)
		if err != nil || errors.Is(o.Problem, blob.ErrNotFound) {
			return false, errors.Join(err, o.Problem)
		}
		s.found(o)
		return false, nil
	}
	if err != nil {
		return false, err
	}
	k := kept{s.next, map[wal.CollectionID]uint64{}}
	for c, m := range b.marks {
		k.last[c], s.done[c] = m.seq, m
	}
	s.kept, s.next, s.before = append(s.kept, k), s.next+1, checksum(body)
	return true, nil
}

// prune deletes objects, oldest first, whose records are all covered by flushes.
// The newest stays: it says which number is next.
func (s *Shipper) prune(ctx context.Context) error {
	for len(s.kept) > 1 && s.covered(s.kept[0]) {
		if err := s.store.Delete(ctx, key(s.log.UUID(), s.kept[0].number)); err != nil {
			return fmt.Errorf("delete shipped object: %w", err)
		}
		s.kept = s.kept[1:]
	}
	return nil
}

func (s *Shipper) covered(k kept) bool {
	for c, seq := range k.last {
		if s.log.Released(c) < seq {
			return false
		}
	}
	return true
}
