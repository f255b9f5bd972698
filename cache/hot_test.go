package cache

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
)

func arenaOf(t testing.TB, fill byte, size int) *Arena {
	t.Helper()
	a, err := NewArena(size)
	if err != nil {
		t.Fatal(err)
	}
	for i := range a.Bytes() {
		if a.Bytes()[i] != 0 {
			t.Fatal("an arena is not zeroed")
		}
		a.Bytes()[i] = fill
	}
	return a
}

func TestArenaIsGoneWithItsLastHolder(t *testing.T) {
	for _, size := range []int{0, 1, 4097, 3 << 20} {
		before := ArenaBytes()
		a := arenaOf(t, 7, size)
		if n := ArenaBytes() - before; n != int64(size) {
			t.Errorf("%d bytes more in arenas, want %d", n, size)
		}
		if len(a.Bytes()) != size || cap(a.Bytes()) != size {
			t.Errorf("%d bytes, room for %d, want %d", len(a.Bytes()), cap(a.Bytes()), size)
		}
		if !a.Retain() {
			t.Fatal("an arena in use cannot be retained")
		}
		a.Release()
		a.Release()
		if a.Retain() || a.bytes != nil || a.mapped != nil {
			t.Error("an arena outlives its holders")
		}
		if n := ArenaBytes() - before; n != 0 {
			t.Errorf("%d bytes more in arenas, want none", n)
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Error("one release too many passed")
				}
			}()
			a.Release()
		}()
	}
}

// What is held stays readable while others drop it, and the budget is kept to the byte, under any
// number of readers.
func TestHotKeepsWithinItsBudgetAndNeverFreesWhatIsHeld(t *testing.T) {
	const size, budget, names = 64 << 10, 1 << 20, 64
	h := NewHot[int](budget)
	var group sync.WaitGroup
	for worker := range 4 {
		group.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(worker)))
			for range 2000 {
				n := rng.IntN(names)
				name := fmt.Sprint(n)
				held := h.Get(name)
				if held == nil {
					h.Put(name, n, arenaOf(t, byte(n), size))
					if h.Bytes() > budget {
						t.Errorf("%d bytes kept of %d", h.Bytes(), budget)
					}
					continue
				}
				if rng.IntN(4) == 0 {
					h.Drop(name)
				}
				b := held.arena.Bytes()
				if held.Value != n || len(b) != size || b[0] != byte(n) || b[size-1] != byte(n) {
					t.Errorf("%s holds %d, %d bytes", name, held.Value, len(b))
				}
				held.Release()
			}
		})
	}
	group.Wait()
	var total int64
	for name, bytes := range h.Names() {
		total += bytes
		if !h.Has(name) || h.Size(name) != bytes {
			t.Errorf("%s is listed with %d bytes, has %d", name, bytes, h.Size(name))
		}
	}
	if h.Bytes() != total || total == 0 {
		t.Errorf("%d bytes kept, %d listed", h.Bytes(), total)
	}
	if h.Get(fmt.Sprint(names)) != nil || h.Has(fmt.Sprint(names)) || h.Drop(fmt.Sprint(names)) || h.TakeUses(fmt.Sprint(names)) != 0 {
		t.Error("found what was never put")
	}
	for name := range h.Names() {
		h.Drop(name)
	}
	if !h.Put("last", 1, arenaOf(t, 9, size)) {
		t.Fatal("there is room, and nothing was kept")
	}
	held := h.Get("last")
	if h.Put("last", 2, arenaOf(t, 8, size)) || h.TakeUses("last") != 1 || h.TakeUses("last") != 0 {
		t.Error("a name was put twice, or its uses miscounted")
	}
	h.Close()
	if h.Bytes() != 0 || h.Has("last") || h.Put("late", 1, arenaOf(t, 1, size)) {
		t.Errorf("%d bytes kept after Close", h.Bytes())
	}
	if held.arena.Bytes()[size-1] != 9 {
		t.Error("what is held was freed")
	}
	held.Release()
	if held.arena.Retain() {
		t.Error("what was dropped and released is still there")
	}
}

func TestHotWithoutRoomKeepsNothing(t *testing.T) {
	for _, budget := range []int64{0, 100} {
		h := NewHot[string](budget)
		a := arenaOf(t, 1, 200)
		if h.Put("a", "a", a) || h.Get("a") != nil || a.Retain() || h.Bytes() != 0 {
			t.Errorf("budget %d: 200 bytes were kept", budget)
		}
		h.Close()
	}
}
