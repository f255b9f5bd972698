package cache

import (
	"fmt"
	"sync/atomic"
)

// Arena is memory outside Go's heap, in huge pages where the system grants them. The garbage
// collector neither sees it nor counts it, so that gigabytes of codes do not make it run less, or
// need as much again to run. It is counted by hand: whoever holds it has retained it, and it is
// gone with the last release.
type Arena struct {
	bytes  []byte
	mapped []byte // what the system gave; nil for memory of Go's
	refs   atomic.Int64
}

// arenaBytes is what all arenas have that are not gone.
var arenaBytes atomic.Int64

// ArenaBytes is how many bytes the arenas of this process have: those that are kept, and those that
// were dropped and somebody still holds.
func ArenaBytes() int64 { return arenaBytes.Load() }

// hugePage is the size that the system may map at once, and what an arena is aligned to.
const hugePage = 2 << 20

// NewArena returns an arena of size zeroed bytes, retained once, for the caller.
func NewArena(size int) (*Arena, error) {
	if size < 0 {
		panic(fmt.Sprintf("BUG: an arena of %d bytes", size))
	}
	a := &Arena{}
	a.refs.Store(1)
	if err := a.reserve(size); err != nil {
		return nil, fmt.Errorf("reserve %d bytes of memory: %w", size, err)
	}
	arenaBytes.Add(int64(size))
	return a, nil
}

// Bytes is the memory. It must not be touched after the release of whoever asks.
func (a *Arena) Bytes() []byte { return a.bytes }

// Retain keeps the arena for the caller too, unless it is gone already.
func (a *Arena) Retain() bool {
	for {
		n := a.refs.Load()
		if n == 0 {
			return false
		}
		if a.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Release undoes one Retain, or NewArena.
func (a *Arena) Release() {
	switch n := a.refs.Add(-1); {
	case n == 0:
		arenaBytes.Add(-int64(len(a.bytes)))
		a.free()
	case n < 0:
		panic("BUG: an arena was released more often than retained")
	}
}
