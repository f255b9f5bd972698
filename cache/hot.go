package cache

import (
	"sync/atomic"

	"github.com/dgraph-io/ristretto/v2"
)

// Hot keeps things that live in arenas, by name, within a budget of bytes: the postings of segments
// that are searched often, say. What is asked for less than the others goes when room is needed;
// whoever holds it at that time goes on holding it.
//
// Like any cache it may drop anything at any time, and has no method that fails.
type Hot[V any] struct {
	entries *ristretto.Cache[string, *Held[V]]
	budget  int64
	bytes   atomic.Int64
}

// Held is something in an arena, retained.
type Held[V any] struct {
	Value V
	arena *Arena
}

// Release gives it back. Value must not be used any more.
func (h *Held[V]) Release() { h.arena.Release() }

// typicalHot sizes the admission counters.
const typicalHot = 16 << 20

// NewHot returns an empty cache of so many bytes; with 0 it keeps nothing. It must be closed.
func NewHot[V any](budget int64) (*Hot[V], error) {
	h := &Hot[V]{budget: budget}
	if budget <= 0 {
		return h, nil
	}
	var err error
	h.entries, err = ristretto.NewCache(&ristretto.Config[string, *Held[V]]{
		NumCounters:        max(leastCounters, countersPerBlock*(budget/typicalHot)),
		MaxCost:            budget,
		BufferItems:        64,
		IgnoreInternalCost: true,
		OnExit: func(e *Held[V]) {
			if e != nil {
				h.bytes.Add(-int64(len(e.arena.bytes)))
				e.arena.Release()
			}
		},
	})
	return h, err
}

// Budget is how many bytes it may keep: nothing larger is worth offering.
func (h *Hot[V]) Budget() int64 { return h.budget }

// Bytes is how many it keeps now, those included that are on their way in or out.
func (h *Hot[V]) Bytes() int64 { return h.bytes.Load() }

// Get returns what is kept under a name, retained for the caller, or nil.
func (h *Hot[V]) Get(name string) *Held[V] {
	if h.entries == nil {
		return nil
	}
	e, ok := h.entries.Get(name)
	if !ok || !e.arena.Retain() {
		return nil
	}
	return e
}

// Put offers something and hands over the caller's hold on its arena. It is there some time after,
// or not at all.
func (h *Hot[V]) Put(name string, value V, arena *Arena) {
	e := &Held[V]{Value: value, arena: arena}
	size := int64(len(arena.bytes))
	if h.entries == nil || size > h.budget {
		arena.Release()
		return
	}
	h.bytes.Add(size)
	if !h.entries.Set(name, e, size) { // its queue is full; OnExit was not called
		h.bytes.Add(-size)
		arena.Release()
	}
}

// Wait returns when everything that was put before is there or turned away.
func (h *Hot[V]) Wait() {
	if h.entries != nil {
		h.entries.Wait()
	}
}

// Close drops everything. Nothing may follow but the releases of what is still held.
func (h *Hot[V]) Close() {
	if h.entries != nil {
		h.entries.Wait()
		h.entries.Clear()
		h.entries.Close()
	}
}
