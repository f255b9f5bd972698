package query

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/query/pods"
	"github.com/akidb/akidb/segments/manifest"
)

// inMemory are the segments that a service has in memory, in order.
func inMemory(s *Service) (ids []string) {
	for _, h := range s.hotList() {
		ids = append(ids, h.id)
	}
	slices.Sort(ids)
	return ids
}

// owned are those it owns as it sees the others now.
func (f *podsFixture) owned(s *Service) (ids []string) {
	_, st := f.stateOf(s, Eventual)
	for _, seg := range st.view.Segments {
		if s.fleet.owns("ID1", seg.Segment().ID) {
			ids = append(ids, seg.Segment().ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// heat has every service keep what it owns in memory.
func (f *podsFixture) heat() {
	f.t.Helper()
	for _, s := range f.services {
		_, st := f.stateOf(s, Latest)
		var all []string
		for _, seg := range st.view.Segments {
			all = append(all, seg.Segment().ID)
		}
		if err := s.warmSegments(f.t.Context(), "ID1", all); err != nil {
			f.t.Fatal(err)
		}
		if got, want := inMemory(s), f.owned(s); !slices.Equal(got, want) {
			f.t.Fatalf("%v are in memory, want %v", got, want)
		}
	}
}

// start adds a pod that has not joined yet.
func (f *podsFixture) start(addr string) *Service {
	s, r := f.newPod(addr)
	f.addresses = append(f.addresses, addr)
	f.services = append(f.services, s)
	f.net.mu.Lock()
	defer f.net.mu.Unlock()
	f.net.routers[addr] = r
	return s
}

// TestAPodIsReadyWhenItsShareIsWarm: what the others have in memory, and it will
// own, is there before they are told to send it anything.
func TestAPodIsReadyWhenItsShareIsWarm(t *testing.T) {
	f := newPods(t, 3, 3, "l2")
	f.fill(rand.New(rand.NewPCG(1, 2)), 12, 20)
	f.heat()
	s := f.start("pod-new:80")
	if got := s.fleet.members.Self().State; got != pods.Starting {
		t.Fatalf("it is %s before it has joined", got)
	}
	f.look()
	if n := f.services[0].fleet.members.Ring().Count(); n != 3 {
		t.Fatalf("%d pods own segments while one starts, want 3", n)
	}
	s.Join(t.Context(), time.Hour)
	if got := s.fleet.members.Self().State; got != pods.Ready {
		t.Fatalf("it is %s", got)
	}
	got, want := inMemory(s), f.owned(s)
	if !slices.Equal(got, want) || len(want) == 0 || len(want) == 12 {
		t.Errorf("%v are in memory, want a share: %v", got, want)
	}
	f.look()
	if n := f.services[0].fleet.members.Ring().Count(); n != 4 {
		t.Errorf("%d pods own segments, want 4", n)
	}
}

// TestACollectionThatWasListedIsWarmed, although nothing of it was opened yet.
func TestACollectionThatWasListedIsWarmed(t *testing.T) {
	f := newPods(t, 1, 3, "l2")
	f.fill(rand.New(rand.NewPCG(1, 2)), 2, 20)
	s := f.services[0]
	if err := s.catalog.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := s.catalog.known("ID1"); r == nil || r.state.Load() != nil {
		t.Fatal("it is opened already, or not known")
	}
	snap, _ := s.catalog.known("ID1").snapshot()
	if err := s.warmSegments(t.Context(), "ID1", []string{snap.Segments[1].ID}); err != nil {
		t.Fatal(err)
	}
	if got := inMemory(s); !slices.Equal(got, []string{snap.Segments[1].ID}) {
		t.Errorf("%v are in memory, want %s", got, snap.Segments[1].ID)
	}
}

// TestPlacedCollectionsAreLoadedBeforeAPodIsReady, also the first one.
func TestPlacedCollectionsAreLoadedBeforeAPodIsReady(t *testing.T) {
	f := newPods(t, 1, 3, "l2")
	f.fill(rand.New(rand.NewPCG(1, 2)), 3, 20)
	f.writer.commit(func(next *manifest.Snapshot) { next.Placement = &manifest.Placement{Tier: manifest.Hot} })
	f.net.routers = map[string]*httpapi.Router{}
	s := f.start("pod-new:80")
	s.Join(t.Context(), time.Hour)
	if n := len(inMemory(s)); n != 3 {
		t.Errorf("%d segments are in memory, want 3", n)
	}
}

// TestAPodIsReadyInTheEnd although its share cannot be loaded.
func TestAPodIsReadyInTheEnd(t *testing.T) {
	f := newPods(t, 3, 3, "l2")
	f.fill(rand.New(rand.NewPCG(1, 2)), 12, 20)
	f.heat()
	s := f.start("pod-new:80")
	s.Join(t.Context(), 0)
	if got := s.fleet.members.Self().State; got != pods.Ready {
		t.Fatalf("it is %s", got)
	}
	alone := f.start("pod-alone:80")
	f.net.mu.Lock()
	f.net.routers = map[string]*httpapi.Router{}
	f.net.mu.Unlock()
	alone.Join(t.Context(), time.Hour) // nobody is there to wait for
	if got := alone.fleet.members.Self().State; got != pods.Ready {
		t.Fatalf("alone, it is %s", got)
	}
}

// TestADrainingPodHandsOver: heirs have in memory what it had, and nobody sends
// it anything more.
func TestADrainingPodHandsOver(t *testing.T) {
	f := newPods(t, 4, 3, "l2")
	f.fill(rand.New(rand.NewPCG(3, 4)), 12, 20)
	f.heat()
	leaving := f.services[2]
	had := inMemory(leaving)
	leaving.Leave(t.Context())
	rest := slices.Delete(slices.Clone(f.services), 2, 3)
	for i, s := range rest {
		if n := s.fleet.members.Ring().Count(); n != 3 {
			t.Errorf("pod %d sees %d pods, want 3", i, n)
		}
	}
	until(t, "every segment it had is in memory at its owners", func() bool {
		keepers := map[string]int{}
		for _, s := range rest {
			has := inMemory(s)
			for _, id := range f.owned(s) {
				if slices.Contains(has, id) {
					keepers[id]++
				}
			}
		}
		return !slices.ContainsFunc(had, func(id string) bool { return keepers[id] != pods.Owners })
	})
	// It is not asked, and answers all the same.
	_, st := f.stateOf(rest[0], Latest)
	if err := f.compare(rest[0], st, []search{{vector: []float32{1, 2, 3}, k: 20, exact: true, targetRecall: 1}}); err != nil {
		t.Error(err)
	}
	_, st = f.stateOf(leaving, Latest)
	if err := f.compare(leaving, st, []search{{vector: []float32{1, 2, 3}, k: 20, exact: true, targetRecall: 1}}); err != nil {
		t.Error(err)
	}
	f.look()
	if n := rest[0].fleet.members.Ring().Count(); n != 3 {
		t.Errorf("%d pods once everybody was asked, want 3", n)
	}
}

// until waits for what goes on in the background.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// TestHandOverTakesWhatIsItsOwn and has room for, hottest first.
func TestHandOverTakesWhatIsItsOwn(t *testing.T) {
	f := newPods(t, 4, 3, "l2")
	s := f.services[0]
	var hot []HotSegment
	own := 0
	for i := range 100 {
		h := HotSegment{Collection: "ID1", Segment: string(rune('a'+i%26)) + string(rune('a'+i/26)), Heat: float64(i), Bytes: 8 << 20}
		if s.fleet.owns(h.Collection, h.Segment) {
			own++
		}
		hot = append(hot, h, h)
	}
	got := s.share(hot)
	if want := min(own, 8); len(got) != want || own <= 8 {
		t.Fatalf("%d segments of 8 MiB are taken of %d owned, with 64 MiB", len(got), own)
	}
	for i, h := range got {
		if !s.fleet.owns(h.Collection, h.Segment) {
			t.Errorf("%s is not its own", h.Segment)
		}
		if i > 0 && got[i-1].Heat < h.Heat {
			t.Errorf("%s is hotter than the one before", h.Segment)
		}
	}
	var list []HotSegment
	for range maxHotSegments + 1 {
		list = append(list, HotSegment{Collection: "ID1", Segment: "x"})
	}
	if err := f.net.HandOver(t.Context(), "pod-1:80", &HandOver{Segments: list}); err == nil {
		t.Error("a list without end is taken")
	}
}
