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
		a := arenaOf(t, 7, size)
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

// What is held stays readable while the cache drops it, under any number of readers.
func TestHotKeepsWithinItsBudgetAndNeverFreesWhatIsHeld(t *testing.T) {
	const size, budget, names = 64 << 10, 1 << 20, 64
	h, err := NewHot[int](budget)
	if err != nil {
		t.Fatal(err)
	}
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
					continue
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
	h.Wait()
	if h.Bytes() > budget || h.Bytes() == 0 {
		t.Errorf("%d bytes kept of %d", h.Bytes(), budget)
	}
	held := h.Get(fmt.Sprint(names))
	if held != nil {
		t.Error("found what was never put")
	}
	h.Put("last", 1, arenaOf(t, 9, size))
	h.Wait()
	held = h.Get("last")
	h.Close()
	if h.Bytes() != 0 {
		t.Errorf("%d bytes kept after Close", h.Bytes())
	}
	if held != nil {
		if held.arena.Bytes()[size-1] != 9 {
			t.Error("what is held was freed")
		}
		held.Release()
		if held.arena.Retain() {
			t.Error("what was dropped and released is still there")
		}
	}
}

func TestHotWithoutBudgetKeepsNothing(t *testing.T) {
	for _, budget := range []int64{0, 100} {
		h, err := NewHot[string](budget)
		if err != nil {
			t.Fatal(err)
		}
		a := arenaOf(t, 1, 200)
		h.Put("a", "a", a)
		h.Wait()
		if h.Get("a") != nil || a.Retain() || h.Bytes() != 0 {
			t.Errorf("budget %d: 200 bytes were kept", budget)
		}
		h.Close()
	}
}
