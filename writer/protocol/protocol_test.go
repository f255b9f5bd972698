package protocol

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// scenarios are explored to the end. Each has at least floor states: fewer mean
// that something does not happen any more.
var scenarios = []struct {
	bounds
	floor int
	soak  bool // only with AKIDB_SOAK=1: minutes and gigabytes
}{
	{bounds{name: "one restart", writes: 4, objects: 4, starts: 1, merge: true}, 1_100_000, false},
	{bounds{name: "two restarts", writes: 3, objects: 3, starts: 2, merge: true}, 460_000, false},
	{bounds{name: "takeover", writes: 2, objects: 3, starts: 2, foreign: true}, 390_000, false},
	{bounds{name: "takeover and compaction", writes: 2, objects: 3, starts: 1, merge: true, foreign: true}, 80_000, false},
	{bounds{name: "snapshot", writes: 4, objects: 4, merge: true, pin: true}, 360_000, false},
	{bounds{name: "snapshot and restart", writes: 2, objects: 3, starts: 1, merge: true, pin: true}, 520_000, false},

	{bounds{name: "any inputs", writes: 4, objects: 5, starts: 1, merge: true, subsets: true}, 4_900_000, true},
	{bounds{name: "two restarts, four writes", writes: 4, objects: 4, starts: 2, merge: true}, 13_800_000, true},
	{bounds{name: "takeover, three writes", writes: 3, objects: 3, starts: 2, foreign: true}, 2_600_000, true},
	{bounds{name: "takeover and compaction, three writes", writes: 3, objects: 4, starts: 1, merge: true, foreign: true}, 2_600_000, true},
	{bounds{name: "takeover and snapshot", writes: 2, objects: 3, starts: 1, merge: true, foreign: true, pin: true}, 7_000_000, true},
	{bounds{name: "snapshot and restart, three writes", writes: 3, objects: 4, starts: 1, merge: true, pin: true}, 13_000_000, true},
}

// mostStates keeps an exploration that has outgrown its bounds from taking all
// memory: it needs up to 150 bytes a state.
const mostStates = 50_000_000

func soak() bool { return os.Getenv("AKIDB_SOAK") == "1" }

// Nothing that can happen within the bounds breaks an invariant, and all that
// the protocol is made for does happen.
func TestProtocol(t *testing.T) {
	var happened [kinds]int
	left := 0
	for _, sc := range scenarios {
		if !sc.soak {
			left++
		}
		t.Run(sc.name, func(t *testing.T) {
			if sc.soak && !soak() {
				t.Skip("takes minutes: set AKIDB_SOAK=1")
			}
			m := &machine{bounds: sc.bounds}
			out := explore(m.system(), mostStates)
			if out.broken != "" {
				t.Fatalf("%s after\n%s", out.broken, list(out.trace))
			}
			if !out.complete || out.states < sc.floor {
				t.Errorf("got %d states, complete %v; want all, at least %d", out.states, out.complete, sc.floor)
			}
			t.Logf("%+v: %d states, %d steps deep, exhaustive", sc.bounds, out.states, out.depth)
			for k, n := range m.happened {
				happened[k] += n
			}
			if !sc.soak {
				left--
			}
		})
	}
	if left > 0 { // by -run, or they failed
		return
	}
	for k, n := range happened {
		if planted := kind(k) >= rebased; planted != (n == 0) {
			t.Errorf("%q happened %d times", says[k], n)
		}
	}
}

func (m *machine) system() system[state, event] {
	return system[state, event]{m.initial(), m.next, broken}
}

// mistakes are faults of the protocol and what they must violate.
var mistakes = []struct {
	name   string
	faults faults
	bounds bounds
	breaks string
}{
	{
		"a version's key is created again after it was collected", faults{versionedKeys: true},
		bounds{writes: 1, objects: 1, starts: 2, pin: true}, "I2",
	},
	{
		"the collector deletes whatever is not referenced", faults{collectUnreferenced: true},
		bounds{writes: 1, objects: 1}, "I1",
	},
	{
		"a process deletes its object when the outcome is unknown", faults{deleteOnUnknown: true},
		bounds{writes: 1, objects: 1}, "I1",
	},
	{
		"a process deletes its object when an answer says that it lost", faults{deleteOnRefused: true},
		bounds{writes: 1, objects: 1}, "I1",
	},
	{
		"a flush is repeated with another object, unchecked", faults{reflushBlindly: true},
		bounds{writes: 1, objects: 2}, "I3",
	},
	{
		"the log is truncated before the commit", faults{truncateEarly: true},
		bounds{writes: 1, objects: 1}, "I2",
	},
	{
		"a writer acknowledges without its volume", faults{ackDetached: true},
		bounds{writes: 1, objects: 1}, "I2",
	},
	{
		"a writer acknowledges without confirming that it is the owner", faults{ackUnconfirmed: true},
		bounds{writes: 1, objects: 1, starts: 1, foreign: true}, "I6",
	},
	{
		"the keys of compaction's outputs do not carry its epoch", faults{outputWithoutEpoch: true},
		bounds{writes: 2, objects: 3, merge: true}, "I1",
	},
	{
		"a process that lost the race repeats its commit whoever won", faults{rebaseFenced: true},
		bounds{writes: 1, objects: 2, starts: 1}, "I5",
	},
	{
		"a claim keeps the epoch", faults{claimKeepsEpoch: true},
		bounds{writes: 3, objects: 3, starts: 1}, "I2",
	},
	{
		"compaction forgets what was deleted while it ran", faults{mergeForgets: true},
		bounds{writes: 3, objects: 4, merge: true}, "I4",
	},
	{
		"the collector does not look at pins", faults{collectPinned: true},
		bounds{writes: 2, objects: 3, merge: true, pin: true}, "I1",
	},
	{
		"a restore leaves in the garbage what it names again", faults{restoreKeepsGarbage: true},
		bounds{writes: 2, objects: 3, merge: true, pin: true}, "I1",
	},
	{
		"compaction goes on over a restore", faults{mergeAcrossRestore: true},
		bounds{writes: 3, objects: 4, merge: true, pin: true}, "I2",
	},
	{
		"a new owner flushes again what its claim found flushed", faults{claimKeepsFlushed: true},
		bounds{writes: 2, objects: 4, starts: 1, pin: true}, "I4",
	},
}

// Every mistake is caught, by the invariant that it is against. Where states
// are not made canonical, the shortest way there is as long: what canonical
// makes equal is.
func TestMistakes(t *testing.T) {
	for _, tt := range mistakes {
		t.Run(tt.name, func(t *testing.T) {
			m := &machine{bounds: tt.bounds, faults: tt.faults}
			out := explore(m.system(), 1_000_000)
			if !strings.HasPrefix(out.broken, tt.breaks+":") {
				t.Fatalf("%d states, complete %v: got %q, want %s violated", out.states, out.complete, out.broken, tt.breaks)
			}
			t.Logf("%d states; %s after\n%s", out.states, out.broken, list(out.trace))

			m.plain = true
			if plain := explore(m.system(), 4_000_000); len(plain.trace) != len(out.trace) {
				t.Errorf("not canonical, %d states, complete %v: %q after %d steps, want %d\n%s",
					plain.states, plain.complete, plain.broken, len(plain.trace), len(out.trace), list(plain.trace))
			}
		})
	}
}

// Without the fault, the bounds in which a mistake is caught hold nothing wrong.
func TestMistakesAbsent(t *testing.T) {
	for _, tt := range mistakes {
		m := &machine{bounds: tt.bounds}
		if out := explore(m.system(), 1_000_000); out.broken != "" || !out.complete {
			t.Errorf("%s: %d states, complete %v, %q", tt.name, out.states, out.complete, out.broken)
		}
	}
}

func list(trace []event) string {
	var b strings.Builder
	for i, e := range trace {
		fmt.Fprintf(&b, "%3d. %s\n", i+1, e)
	}
	return b.String()
}
