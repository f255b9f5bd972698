package pods

import (
	"fmt"
	"math"
	"testing"

	"pgregory.net/rapid"
)

func named(names ...string) []*Peer {
	var out []*Peer
	for _, n := range names {
		out = append(out, &Peer{Addr: n, Info: Info{ID: n, Name: n, State: Ready}, gone: make(chan struct{})})
	}
	return out
}

// ringOf is the ring as the pod first sees it.
func ringOf(names ...string) *Ring {
	peers := named(names[1:]...)
	sortPeers(peers)
	return newRing(names[0], peers)
}

// ownersOf are the names of a segment's owners on a ring that self sees.
func ownersOf(r *Ring, self, collection, segment string) (out []string) {
	owners, own := r.Owners(collection, segment)
	found := false
	for _, p := range owners[:min(len(owners), r.Count())] {
		if p == nil {
			out, found = append(out, self), true
			continue
		}
		out = append(out, p.Info.Name)
	}
	if found != own {
		panic(fmt.Sprintf("owners %v, own %v", out, own))
	}
	return out
}

func podNames(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("akidb-query-7f9c-%d:8080", i))
	}
	return names
}

// moved is what a change of the ring does to segments: it demands that the
// owners of those that it need not touch stay.
func moved(owners func(names []string, segment string) []string, names []string, gone string) error {
	var rest []string
	for _, n := range names {
		if n != gone {
			rest = append(rest, n)
		}
	}
	for s := range 2000 {
		segment := fmt.Sprintf("S%04d", s)
		before, after := owners(names, segment), owners(rest, segment)
		var stay []string
		for _, n := range before {
			if n != gone {
				stay = append(stay, n)
			}
		}
		// Those that stay keep their order; one that left is replaced at the end.
		for i, n := range stay {
			if after[i] != n {
				return fmt.Errorf("%s: %v before %s left, %v after", segment, before, gone, after)
			}
		}
	}
	return nil
}

func asSeenByFirst(names []string, segment string) []string {
	return ownersOf(ringOf(names...), names[0], "C", segment)
}

func TestOnlyTheShareOfAPodMoves(t *testing.T) {
	names := podNames(7)
	for _, gone := range names[1:] {
		if err := moved(asSeenByFirst, names, gone); err != nil {
			t.Error(err)
		}
	}
	// What everybody would write first: the number of pods decides.
	modulo := func(names []string, segment string) []string {
		at := keyOf("C", segment) % uint64(len(names))
		return []string{names[at], names[(at+1)%uint64(len(names))]}
	}
	if moved(modulo, names, names[3]) == nil {
		t.Error("a hash modulo the number of pods passes")
	}
}

// TestSharesAreEven: within five standard deviations of what chance does.
func TestSharesAreEven(t *testing.T) {
	const segments = 20_000
	for _, pods := range []int{3, 4, 10} {
		names, count := podNames(pods), map[string]int{}
		r := ringOf(names...)
		for s := range segments {
			for _, n := range ownersOf(r, names[0], "01J9ZK", fmt.Sprintf("seg-%d", s)) {
				count[n]++
			}
		}
		p := float64(Owners) / float64(pods)
		for _, n := range names {
			if off := math.Abs(float64(count[n]) - segments*p); off > 5*math.Sqrt(segments*p*(1-p)) {
				t.Errorf("%d pods: %s owns %d of %d segments, want about %.0f", pods, n, count[n], segments, segments*p)
			}
		}
	}
}

func TestPodsAgreeOnOwners(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.StringN(1, 20, -1), 1, 9, rapid.ID[string]).Draw(t, "names")
		collection, segment := rapid.String().Draw(t, "collection"), rapid.String().Draw(t, "segment")
		var want []string
		for i, self := range names {
			others := append(append([]string{self}, names[:i]...), names[i+1:]...)
			got := ownersOf(ringOf(others...), self, collection, segment)
			if len(got) != min(Owners, len(names)) || len(got) == 2 && got[0] == got[1] {
				t.Fatalf("owners are %q of %q", got, names)
			}
			if len(names) <= Owners {
				continue // everybody, in any order
			}
			if want == nil {
				want = got
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("%q says %q, another said %q", self, got, want)
			}
		}
	})
}

func TestHeirs(t *testing.T) {
	names := podNames(5)
	self := names[0]
	r, without := ringOf(names...), ringOf(names[1:]...)
	inherited := 0
	for s := range 1000 {
		segment := fmt.Sprint(s)
		before, after := ownersOf(r, self, "C", segment), ownersOf(without, names[1], "C", segment)
		var want []string
		if before[0] == self || before[1] == self {
			for _, n := range after {
				if n != before[0] && n != before[1] {
					want = append(want, n)
				}
			}
		}
		var got []string
		for _, p := range r.Heirs("C", segment) {
			got = append(got, p.Info.Name)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("segment %s: heirs are %q, want %q", segment, got, want)
		}
		inherited += len(got)
	}
	if inherited == 0 {
		t.Fatal("nothing is inherited")
	}
	if h := ringOf(podNames(2)...).Heirs("C", "1"); h != nil {
		t.Errorf("of two pods, which both own everything, one inherits: %v", h)
	}
}

func BenchmarkOwners(b *testing.B) {
	r := ringOf(podNames(8)...)
	for b.Loop() {
		r.Owners("01J9ZKCOLLECTION", "01J9ZKSEGMENT")
	}
}
