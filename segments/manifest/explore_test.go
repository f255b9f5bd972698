package manifest

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

// everything picks all there is to pick, one run after the other, in depth-first
// order: the path of a run is the list of its picks.
type everything struct {
	path []branch
	at   int
}

type branch struct{ taken, of int }

func (e *everything) pick(n int) int {
	if n == 1 {
		return 0
	}
	if e.at == len(e.path) {
		e.path = append(e.path, branch{0, n})
	}
	b := e.path[e.at]
	if b.of != n {
		panic(fmt.Sprintf("run is not repeatable: pick %d is of %d, was of %d", e.at, n, b.of))
	}
	e.at++
	return b.taken
}

func (e *everything) unlikely(int) bool { return e.pick(2) == 1 }

// next turns to the next path, and reports whether there is one.
func (e *everything) next() bool {
	e.at = 0
	for len(e.path) > 0 {
		last := &e.path[len(e.path)-1]
		if last.taken++; last.taken < last.of {
			return true
		}
		e.path = e.path[:len(e.path)-1]
	}
	return false
}

// explore runs one commit of "a" against a takeover and a commit by "b", with
// every order in which at most turns times a process is interrupted and with
// every combination of at most faults faults.
func explore(faults, turns int, b bug) (runs int, err error) {
	e := &everything{}
	for {
		s := &simulation{world: newWorld(0, e), bug: b, fences: map[string]int{}}
		var l *Log
		s.start("a0", func(p *proc) { l = s.create(p) })
		s.resume(s.procs[0])
		for len(s.procs) > 0 {
			s.resume(s.procs[0])
		}
		s.faults, s.turns = faults, turns
		s.start("a1", func(p *proc) {
			l.store, l.wait = s.storeOf(p), p.wait
			s.commitRows(p, l)
		})
		s.start("b1", func(p *proc) {
			if l := s.open("b", (*Log).Takeover)(p); l != nil {
				s.commitRows(p, l)
			}
		})
		s.run(func(p *proc) {
			if p.name[0] == 'a' && s.crashes == 0 {
				s.crashes++
				s.writer("a", 1, s.open("a", (*Log).Claim))
			}
		})
		s.verify()
		runs++
		if err := errors.Join(s.errs...); err != nil {
			return runs, fmt.Errorf("path %v:\n%w\n%s", e.path, err, strings.Join(s.trace, "\n"))
		}
		if !e.next() {
			return runs, nil
		}
	}
}

// soak asks for runs of minutes: AKIDB_SOAK=1, as in make soak.
func soak() bool { return os.Getenv("AKIDB_SOAK") == "1" }

func TestExplore(t *testing.T) {
	type bounds struct{ faults, turns int }
	all := []bounds{{0, 3}, {1, 1}}
	if soak() {
		all = append(all, bounds{0, 4}, bounds{1, 2}, bounds{2, 1})
	}
	for _, bounds := range all {
		runs, err := explore(bounds.faults, bounds.turns, bug{})
		if err != nil {
			t.Fatalf("%d faults, %d turns, run %d: %v", bounds.faults, bounds.turns, runs, err)
		}
		t.Logf("%d faults, %d turns: %d runs, exhaustive", bounds.faults, bounds.turns, runs)
	}
}
