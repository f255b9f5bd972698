package protocol

import (
	"hash/maphash"
	"testing"
)

// system is something that can be explored: S is a state, E says how one came
// from another. A state has no pointers, so that == means what it says, and two
// states that differ in nothing that matters are equal: next canonicalises.
type system[S comparable, E any] struct {
	init S
	// next emits every state that may follow s, in a fixed order.
	next func(s S, emit func(E, S))
	// broken names the invariant that s violates, "" for none.
	broken func(s S) string
}

// outcome is what an exploration found.
type outcome[E any] struct {
	states   int // different ones, the first included
	depth    int // steps to the last one found
	complete bool
	broken   string // the first invariant seen violated, "" for none
	trace    []E    // the shortest way there
}

// explore visits every state that can be reached from the first, nearest first,
// until one is broken or limit states are known. Kept of a state that has been
// left are a fingerprint of 128 bits and where it came from, some 40 bytes; a
// collision, which would hide a state, has odds below 10⁻²² at 10⁸ states.
func explore[S comparable, E any](sys system[S, E], limit int) outcome[E] {
	type print [2]uint64
	seeds := [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}
	fingerprint := func(s S) print { return print{maphash.Comparable(seeds[0], s), maphash.Comparable(seeds[1], s)} }

	found := map[print]uint32{fingerprint(sys.init): 0} // the states in the order found
	parents := []uint32{0}
	// trace goes back from a state to the first and does it all again.
	trace := func(to uint32) []E {
		var path []uint32
		for ; to != 0; to = parents[to] {
			path = append(path, to)
		}
		var steps []E
		s := sys.init
		for i := len(path) - 1; i >= 0; i-- {
			var then S
			done := false
			sys.next(s, func(e E, n S) {
				if !done && found[fingerprint(n)] == path[i] {
					steps, then, done = append(steps, e), n, true
				}
			})
			if !done {
				panic("BUG: next is not deterministic")
			}
			s = then
		}
		return steps
	}

	out := outcome[E]{broken: sys.broken(sys.init)}
	layer, first := []S{sys.init}, uint32(0)
	for len(layer) > 0 && out.broken == "" && len(parents) < limit {
		var following []S
		for i := range layer {
			sys.next(layer[i], func(_ E, n S) {
				if out.broken != "" || len(parents) >= limit {
					return
				}
				p := fingerprint(n)
				if _, known := found[p]; known {
					return
				}
				found[p] = uint32(len(parents))
				parents = append(parents, first+uint32(i))
				following = append(following, n)
				out.broken = sys.broken(n)
			})
		}
		first += uint32(len(layer))
		layer = following
		if len(layer) > 0 {
			out.depth++
		}
	}
	out.states = len(parents)
	out.complete = out.broken == "" && len(layer) == 0
	if out.broken != "" {
		out.trace = trace(uint32(len(parents) - 1))
	}
	return out
}

// Two jugs of 3 and 5 measure 4 in six steps, and can be in 16 states.
func TestExploreJugs(t *testing.T) {
	type jugs struct{ three, five int }
	sys := system[jugs, string]{
		next: func(s jugs, emit func(string, jugs)) {
			emit("fill 3", jugs{3, s.five})
			emit("fill 5", jugs{s.three, 5})
			emit("empty 3", jugs{0, s.five})
			emit("empty 5", jugs{s.three, 0})
			n := min(s.three, 5-s.five)
			emit("pour 3 into 5", jugs{s.three - n, s.five + n})
			n = min(s.five, 3-s.three)
			emit("pour 5 into 3", jugs{s.three + n, s.five - n})
		},
		broken: func(jugs) string { return "" },
	}
	if got := explore(sys, 1000); got.states != 16 || !got.complete || got.trace != nil {
		t.Errorf("got %+v, want 16 states, complete", got)
	}
	if got := explore(sys, 10); got.states != 10 || got.complete {
		t.Errorf("limit of 10: got %+v, want 10 states, incomplete", got)
	}
	sys.broken = func(s jugs) string {
		if s.five == 4 {
			return "four"
		}
		return ""
	}
	got := explore(sys, 1000)
	if got.broken != "four" || len(got.trace) != 6 || got.depth != 6 || got.complete {
		t.Fatalf("got %+v, want four after 6 steps", got)
	}
	s := sys.init
	for _, step := range got.trace {
		sys.next(s, func(e string, n jugs) {
			if e == step {
				s = n
			}
		})
	}
	if s.five != 4 {
		t.Errorf("trace %q leads to %+v", got.trace, s)
	}
}
