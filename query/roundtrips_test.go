package query

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akidb/internal/info"
	"github.com/akidb/akidb/internal/memtable"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/ivfpq"
	"github.com/akidb/akidb/segments/manifest"
)

// farAway is a store whose every read takes a round trip of virtual time. In a
// bubble of testing/synctest time goes on only when everything waits, so what a
// request takes is exactly the rounds of reads that had to follow one another.
type farAway struct {
	blob.Store
	mu          sync.Mutex
	gets, bytes int
}

const roundTrip = 60 * time.Millisecond

func (s *farAway) travel(bytes int) {
	s.mu.Lock()
	s.gets++
	s.bytes += bytes
	s.mu.Unlock()
	time.Sleep(roundTrip)
}

func (s *farAway) Get(ctx context.Context, key string) ([]byte, blob.Version, error) {
	b, v, err := s.Store.Get(ctx, key)
	s.travel(len(b))
	return b, v, err
}

func (s *farAway) ReadRange(ctx context.Context, key string, off int64, dst []byte) error {
	s.travel(len(dst))
	return s.Store.ReadRange(ctx, key, off, dst)
}

func (s *farAway) List(ctx context.Context, l blob.Listing) (blob.Page, error) {
	s.travel(0)
	return s.Store.List(ctx, l)
}

func (s *farAway) Stat(ctx context.Context, key string) (blob.Object, error) {
	s.travel(0)
	return s.Store.Stat(ctx, key)
}

// trip is what a request took.
type trip struct{ rounds, gets, bytes int }

// atMost is none of the three more than in most.
func (t trip) atMost(most trip) bool {
	return t.rounds <= most.rounds && t.gets <= most.gets && t.bytes <= most.bytes
}

// traveller is a service far away from its store, in a bubble.
type traveller struct {
	*fixture
	far *farAway
}

// fromAfar runs fn with a service that knows nothing and is far away from f's
// store.
func (f *fixture) fromAfar(t *testing.T, fn func(v *traveller)) {
	t.Helper()
	far, near := &farAway{Store: f.store}, f.store
	f.store = far
	defer func() { f.store = near }()
	f.inBubble(t, func(*testing.T) { fn(&traveller{f, far}) })
}

// takes runs do and returns what it took, once nothing goes on behind it.
func (v *traveller) takes(do func()) trip {
	before, began := *v.counted(), time.Now()
	do()
	rounds := time.Since(began)
	if rounds%roundTrip != 0 {
		v.t.Errorf("took %v, which is no number of round trips", rounds)
	}
	after := v.counted()
	synctest.Wait()
	return trip{int(rounds / roundTrip), after.gets - before.gets, after.bytes - before.bytes}
}

func (v *traveller) counted() *trip {
	v.far.mu.Lock()
	defer v.far.mu.Unlock()
	return &trip{gets: v.far.gets, bytes: v.far.bytes}
}

// asks searches and holds the answer to the oracle: the share of the nearest that
// was found has to reach the floor.
func (v *traveller) asks(q []float32, k int, more string) trip {
	v.t.Helper()
	var got searchAnswer
	took := v.takes(func() {
		if status, _ := v.call("POST", "/collections/movies/search", fmt.Sprintf(`{"vector":%s,"k":%d%s}`, vectorJSONOf(q), k, more), &got); status != 200 {
			v.t.Fatalf("status %d", status)
		}
	})
	want := v.writer.nearest(q, k, nil)
	found := 0
	for _, r := range got.Results {
		if slices.ContainsFunc(want, func(h hit) bool { return h.id == r.ID }) {
			found++
		}
	}
	if len(got.Results) != len(want) || found < len(want)*6/10 {
		v.t.Errorf("%d results, %d of the nearest %d", len(got.Results), found, len(want))
	}
	if got.Usage.Rounds > int64(took.rounds) || got.Usage.StoreGets > int64(took.gets) {
		v.t.Errorf("usage says %+v, seen %+v", got.Usage, took)
	}
	return took
}

// knowsManifest reads the manifest and nothing else.
func (v *traveller) knowsManifest() {
	v.t.Helper()
	var told struct{ Collections []info.Collection }
	took := v.takes(func() { v.call("GET", "/collections", "", &told) })
	if took.rounds != 3 || len(told.Collections) != 1 || int(told.Collections[0].VectorCount) != len(v.writer.rows) {
		v.t.Errorf("listing took %+v and found %+v, want 3 rounds and %d rows", took, told.Collections, len(v.writer.rows))
	}
}

// library has a collection of some segments, each trained by itself.
func library(t *testing.T, dim int, rows ...int) (*fixture, *clusters) {
	f := newFixture(t, dim, "l2")
	f.writer.kind = ivfpq.IVF
	c := newClusters(rand.New(rand.NewPCG(7, 7)), 60, dim)
	f.fill(c, rows...)
	return f, c
}

// fill adds a segment with a quantizer of its own for each number of rows.
func (f *fixture) fill(c *clusters, rows ...int) {
	for _, n := range rows {
		ops := make([]memtable.Op, n)
		for i := range ops {
			id := len(f.writer.rows) + i
			ops[i] = memtable.Op{ID: fmt.Sprintf("00000000-0000-4000-8000-%012x", id), Vector: c.draw(), Metadata: fmt.Appendf(nil, `{"title":"row %d","n":%d}`, id, id%97)}
		}
		f.writer.apply(ops...)
		f.writer.shared = nil
		f.writer.flush()
	}
}

// What a search costs that begins with nothing: LIST, CURRENT, manifest, routing
// data, lists, rows.
func TestColdSearchTakesSixRounds(t *testing.T) {
	f, c := library(t, 32, 20_000)
	for _, more := range []string{"", `,"consistency":"eventual"`, `,"include":["metadata","vector","version"]`} {
		f.fromAfar(t, func(v *traveller) {
			if got, want := v.asks(c.draw(), 10, more), (trip{6, 45, 3 << 20}); !got.atMost(want) {
				t.Errorf("%s: took %+v, want at most %+v", more, got, want)
			}
		})
	}
}

// With the manifest at hand: routing data, lists, rows. With the routing data at
// hand two, with everything none.
func TestWarmManifestTakesThreeRounds(t *testing.T) {
	f, c := library(t, 32, 20_000)
	several, d := library(t, 16, 4000, 6000, 3000)
	deleted, e := library(t, 16, 8000, 3000)
	for i := range 500 {
		deleted.writer.delete(fmt.Sprintf("00000000-0000-4000-8000-%012x", 3*i))
	}
	deleted.writer.flush()
	small, g := library(t, 16, 6000)
	small.writer.kind = ivfpq.Exact // segments without lists beside one with
	small.fill(g, 700, 900)
	for _, test := range []struct {
		name string
		f    *fixture
		c    *clusters
		k    int
		more string
		most trip
	}{
		{"one segment", f, c, 10, "", trip{3, 40, 1 << 20}},
		{"metadata", f, c, 10, `,"include":["metadata"]`, trip{3, 40, 2 << 20}},
		{"much of many", f, c, 100, `,"include":["metadata","vector"]`, trip{3, 60, 3 << 20}},
		{"quantizers", several, d, 10, `,"include":["metadata"]`, trip{3, 70, 3 << 20}},
		{"deletes", deleted, e, 10, `,"include":["metadata"]`, trip{3, 70, 3 << 20}},
		{"exact", small, g, 10, `,"include":["metadata","version"]`, trip{3, 60, 3 << 20}},
		{"all of it", f, c, 10, `,"exact":true,"include":["metadata"]`, trip{3, 60, 8 << 20}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.f.fromAfar(t, func(v *traveller) {
				v.knowsManifest()
				q := test.c.draw()
				if got := v.asks(q, test.k, test.more); !got.atMost(test.most) || got.rounds != 3 {
					t.Errorf("first search: %+v, want at most %+v", got, test.most)
				}
				if got := v.asks(q, test.k, test.more); got != (trip{}) {
					t.Errorf("the same again: %+v, want nothing read", got)
				}
				for range 3 {
					if got := v.asks(test.c.draw(), test.k, test.more); got.rounds > 2 {
						t.Errorf("another search: %+v, want 2 rounds", got)
					}
				}
			})
		})
	}
}

// Rows of the tail that replace stored ones cost one round more: their ids are
// looked up before anything is scored.
func TestTailTakesOneRoundMore(t *testing.T) {
	f, c := library(t, 16, 6000, 4000)
	for i := range 20 {
		f.writer.upsert(fmt.Sprintf("00000000-0000-4000-8000-%012x", 400*i), c.draw(), `{"title":"new"}`)
	}
	f.writer.delete("00000000-0000-4000-8000-000000000005")
	f.fromAfar(t, func(v *traveller) {
		v.takes(func() { v.call("GET", "/collections", "", nil) }) // opens it, because of the tail
		if got := v.asks(c.draw(), 10, `,"include":["metadata"]`); got.rounds > 2 {
			t.Errorf("took %+v, want 2 rounds", got)
		}
	})
	f.fromAfar(t, func(v *traveller) {
		if got, want := v.asks(c.draw(), 10, `,"include":["metadata"]`), (trip{7, 80, 3 << 20}); !got.atMost(want) {
			t.Errorf("from nothing: %+v, want at most %+v", got, want)
		}
	})
}

// The counting itself: reads that follow one another are told from reads side
// by side, whatever they read.
func TestRoundTripsAreCounted(t *testing.T) {
	f, c := library(t, 8, 3000)
	f.fromAfar(t, func(v *traveller) {
		key := manifest.CurrentKey("ID1")
		get := func() { _, _, _ = v.far.Get(t.Context(), key) }
		if got := v.takes(func() { get(); get() }); got.rounds != 2 || got.gets != 2 {
			t.Errorf("one after the other: %+v", got)
		}
		if got := v.takes(func() {
			var g sync.WaitGroup
			g.Go(get)
			g.Go(get)
			g.Wait()
		}); got.rounds != 1 || got.gets != 2 {
			t.Errorf("side by side: %+v", got)
		}
		// A reader that fetches one range after the other, as the service's own
		// must not, is found out.
		v.service.cfg.Ranges = oneByOne{v.service.cfg.Ranges}
		if got := v.asks(c.draw(), 10, ""); got.rounds <= 6 {
			t.Errorf("ranges one by one: %+v", got)
		}
	})
}

// oneByOne hides that its reader can read many ranges at once.
type oneByOne struct{ ranges blob.RangeReader }

func (o oneByOne) ReadRange(ctx context.Context, r blob.Range) ([]byte, error) {
	return o.ranges.ReadRange(ctx, r)
}

// Among many collections one is found without opening the others.
func TestOneOfManyCollections(t *testing.T) {
	const others = 200
	f, c := library(t, 8, 3000)
	for i := range others {
		w := newTestWriter(t, f.store, fmt.Sprintf("OTHER%03d", i), fmt.Sprintf("other-%d", i), 8, "l2")
		if i%50 == 0 {
			w.kind = ivfpq.Exact
			w.upsert("a", c.draw(), "")
			w.flush()
		}
	}
	waves := (others + 1 + loadParallel - 1) / loadParallel
	f.fromAfar(t, func(v *traveller) {
		v.service.cfg.Writer = nil
		took := v.asks(c.draw(), 10, "")
		if want := (trip{1 + 2*waves + 3, 1 + 2*(others+1) + 20, 1 << 20}); !took.atMost(want) {
			t.Errorf("by name: %+v, want at most %+v", took, want)
		}
		var told struct{ Collections []info.Collection }
		// LIST, and CURRENT of the open one: the others were read at this very moment.
		took = v.takes(func() { v.call("GET", "/collections", "", &told) })
		if took.gets != 2 || len(told.Collections) != others+1 {
			t.Errorf("listing took %+v and found %d", took, len(told.Collections))
		}
		var rows uint64
		for _, one := range told.Collections {
			rows += one.VectorCount
		}
		if want := uint64(len(f.writer.rows) + others/50); rows != want {
			t.Errorf("%d rows in all, want %d", rows, want)
		}
		opened := 0
		for _, r := range v.service.catalog.present() {
			if r.state.Load() != nil {
				opened++
			}
		}
		if opened != 1 {
			t.Errorf("%d collections are open, want 1", opened)
		}
	})
}

// A collection that is asked for by its id is not looked for among others.
func TestByIDGoesStraight(t *testing.T) {
	f, c := library(t, 8, 10)
	const id = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
	w := newTestWriter(t, f.store, id, "straight", 8, "l2")
	w.upsert("a", c.draw(), "")
	f.writer = w
	f.fromAfar(t, func(v *traveller) {
		var told info.Collection
		took := v.takes(func() { v.call("GET", "/collections/"+id, "", &told) })
		if took.gets != 2 || took.rounds != 2 || told.Name != "straight" || told.VectorCount != 1 {
			t.Errorf("took %+v and found %+v", took, told)
		}
		if status, _ := v.call("GET", "/collections/01ARZ3NDEKTSV4RRFFQ69G5FAW", "", nil); status != 404 {
			t.Errorf("status %d of an id that is nobody's", status)
		}
		if status, _ := v.call("GET", "/collections/straight", "", &told); status != 200 || told.ID != id {
			t.Errorf("status %d by name, %+v", status, told)
		}
	})
}
