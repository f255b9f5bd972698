package cache

import (
	"iter"
	"maps"
	"sync"
	"sync/atomic"
)

// Hot keeps things that live in arenas, by name, within a budget of bytes: the postings of segments
// that are searched often, say. Whoever holds something when it is dropped goes on holding it.
//
// It decides nothing: what goes for what is up to whoever puts things in, who knows more of them than
// how often they were asked for. They are few and large, so the budget is kept to the byte, and what
// was put is there when Put returns.
type Hot[V any] struct {
	budget int64
	kept   atomic.Pointer[map[string]*Held[V]] // replaced whole, so that Get takes no lock
	bytes  atomic.Int64

	mu     sync.Mutex // held while kept is replaced
	closed bool
}

// Held is something in an arena, retained.
type Held[V any] struct {
	Value V
	arena *Arena
	size  int64
	uses  atomic.Int64
}

// Release gives it back. Value must not be used any more.
func (h *Held[V]) Release() { h.arena.Release() }

// NewHot returns an empty cache of so many bytes; with 0 it keeps nothing. It must be closed.
func NewHot[V any](budget int64) *Hot[V] {
	h := &Hot[V]{budget: budget}
	h.kept.Store(&map[string]*Held[V]{})
	return h
}

// Budget is how many bytes it may keep: nothing larger is worth offering.
func (h *Hot[V]) Budget() int64 { return h.budget }

// Bytes is how many it keeps. What was dropped and is still held by somebody is not among them.
func (h *Hot[V]) Bytes() int64 { return h.bytes.Load() }

// Get returns what is kept under a name, retained for the caller, or nil.
func (h *Hot[V]) Get(name string) *Held[V] {
	e := (*h.kept.Load())[name]
	if e == nil || !e.arena.Retain() {
		return nil
	}
	e.uses.Add(1)
	return e
}

// Has reports whether something is kept under a name. Unlike Get it is no use of it.
func (h *Hot[V]) Has(name string) bool { return (*h.kept.Load())[name] != nil }

// Size is how many bytes are kept under a name, 0 for none.
func (h *Hot[V]) Size(name string) int64 {
	if e := (*h.kept.Load())[name]; e != nil {
		return e.size
	}
	return 0
}

// Names yields what is kept and how many bytes each takes, as of the call.
func (h *Hot[V]) Names() iter.Seq2[string, int64] {
	return func(yield func(string, int64) bool) {
		for name, e := range *h.kept.Load() {
			if !yield(name, e.size) {
				return
			}
		}
	}
}

// TakeUses returns how often Get found a name since it was put, or since the last call.
func (h *Hot[V]) TakeUses(name string) int64 {
	if e := (*h.kept.Load())[name]; e != nil {
		return e.uses.Swap(0)
	}
	return 0
}

// Put keeps something if there is room for it and the name is free, and says so. Either way the
// caller's hold on the arena is handed over.
func (h *Hot[V]) Put(name string, value V, arena *Arena) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	size := int64(len(arena.bytes))
	old := *h.kept.Load()
	if h.closed || old[name] != nil || size > h.budget-h.bytes.Load() {
		arena.Release()
		return false
	}
	next := maps.Clone(old)
	next[name] = &Held[V]{Value: value, arena: arena, size: size}
	h.kept.Store(&next)
	h.bytes.Add(size)
	return true
}

// Drop keeps what is under a name no longer, and reports whether it did.
func (h *Hot[V]) Drop(name string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	old := *h.kept.Load()
	e := old[name]
	if e == nil {
		return false
	}
	next := maps.Clone(old)
	delete(next, name)
	h.kept.Store(&next)
	h.bytes.Add(-e.size)
	e.arena.Release()
	return true
}

// Close drops everything, and keeps nothing that is put later. What is held stays until it is released.
func (h *Hot[V]) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for _, e := range *h.kept.Load() {
		h.bytes.Add(-e.size)
		e.arena.Release()
	}
	h.kept.Store(&map[string]*Held[V]{})
}
