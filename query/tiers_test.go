package query

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/akidb/akidb/cache"
	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/internal/info"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/memblob"
	"github.com/akidb/akidb/segments/ivfpq"
	"github.com/akidb/akidb/segments/manifest"
)

// town is several collections over one store, and services that read them: one
// that keeps segments in memory within a budget, and one that does not.
type town struct {
	*fixture
	writers map[string]*testWriter // by name
	plain   *fixture               // the same collections, nothing in memory whole
	budget  int64
	base    int64 // bytes in arenas before
	peak    *peakReader
	draw    *clusters
}

// Tail and Forward make a town the writer of its services.
func (w *town) Tail(ctx context.Context, id string, after uint64) ([]byte, error) {
	for _, of := range w.writers {
		if of.log.Snapshot().Collection.ID == id {
			return of.Tail(ctx, id, after)
		}
	}
	return nil, ErrNoCollection
}

func (w *town) Forward(*fasthttp.RequestCtx) error { return errors.New("nothing is forwarded here") }

// peakReader notes how much memory arenas have while something is read.
type peakReader struct {
	blob.RangeReader
	mu   sync.Mutex
	most int64
}

func (p *peakReader) note() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.most = max(p.most, cache.ArenaBytes())
}

func (p *peakReader) ReadRange(ctx context.Context, r blob.Range) ([]byte, error) {
	p.note()
	return p.RangeReader.ReadRange(ctx, r)
}

const (
	townDim  = 8
	townRows = 300 // of a segment
)

// segmentBytes is what a segment of townRows takes in memory, about.
const segmentBytes = 16 << 10

func newTown(t testing.TB, seed uint64, budget int64, names ...string) *town {
	t.Helper()
	w := &town{writers: map[string]*testWriter{}, budget: budget, base: cache.ArenaBytes()}
	w.draw = newClusters(rand.New(rand.NewPCG(seed, 1)), 10, townDim)
	store := memblob.New()
	for i, name := range names {
		of := newTestWriter(t, store, fmt.Sprintf("ID%03d", i+1), name, townDim, "l2")
		of.kind = ivfpq.IVF
		w.writers[name] = of
	}
	newFixtureOf := func(resident int64) *fixture {
		f := &fixture{t: t, store: store, now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC), degraded: map[string]string{}}
		f.service = w.serve(f, resident)
		f.router = httpapi.NewRouter()
		f.service.Register(f.router)
		return f
	}
	w.plain = newFixtureOf(0)
	w.fixture = newFixtureOf(budget)
	return w
}

// serve returns a service over the town's store, with the clock of f.
func (w *town) serve(f *fixture, resident int64) *Service {
	f.t.Helper()
	peak := &peakReader{RangeReader: blob.Direct(f.store)}
	s, err := New(Config{Store: f.store, Ranges: peak, Writer: w, ResidentBytes: resident, Now: f.clock})
	if err != nil {
		f.t.Fatal(err)
	}
	if resident > 0 {
		w.peak = peak
	}
	f.t.Cleanup(s.Close)
	return s
}

// grow writes a segment's worth of rows to a collection.
func (w *town) grow(name string) {
	of := w.writers[name]
	for range townRows {
		of.upsert(fmt.Sprint("id", w.draw.rng.IntN(20*townRows)), w.draw.draw(), "")
	}
	of.flush()
}

// place commits a placement, "" for none.
func (w *town) place(name, tier string, pinned bool) {
	w.writers[name].commit(func(next *manifest.Snapshot) {
		next.Placement = &manifest.Placement{Tier: tier, Pinned: pinned, Since: w.clock()}
		if tier == "" {
			next.Placement = nil
		}
	})
}

// settle lets the service do what it does by itself.
func (w *town) settle() {
	for range 2 {
		w.advance(lookAfter)
		w.service.tick(w.t.Context())
		w.service.catalog.running.Wait()
	}
}

// search asks a collection some things and holds the answers against those of
// the service that has nothing in memory, and of the oracle. Both see one
// version, and read all lists: a row that is found in a list it is spilled to is
// known better where its own is at hand.
func (w *town) search(name string, times int) {
	w.t.Helper()
	for range times {
		q := w.draw.draw()
		body := fmt.Sprintf(`{"vector":%s,"k":7,"nprobe":1000,"consistency":"strong"}`, vectorJSONOf(q))
		var got, want searchAnswer
		w.call("POST", "/collections/"+name+"/search", body, &got)
		w.plain.call("POST", "/collections/"+name+"/search", body, &want)
		if fmt.Sprint(got.Results) != fmt.Sprint(want.Results) {
			w.t.Fatalf("%s: got %v, want %v", name, got.Results, want.Results)
		}
	}
	q := w.draw.draw()
	var exact searchAnswer
	w.call("POST", "/collections/"+name+"/search", fmt.Sprintf(`{"vector":%s,"k":7,"exact":true}`, vectorJSONOf(q)), &exact)
	wantHits(w.t.(*testing.T), exact, w.writers[name].nearest(q, 7, nil))
}

func (w *town) info(name string) (i info.Collection) {
	w.t.Helper()
	if status, _ := w.call("GET", "/collections/"+name, "", &i); status != fasthttp.StatusOK {
		w.t.Fatalf("%s: status %d", name, status)
	}
	return i
}

// check reports what is wrong with what is in memory, once nothing is under way.
// pinned is what was unmovable before.
func (w *town) check(pinned map[string]bool) error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	r := w.service.resident
	var kept, largest, placedBytes, pinnedBytes int64
	known, missing := map[string]bool{}, 0
	for name, of := range w.writers {
		st := w.state(name)
		p := of.log.Snapshot().Placement
		if !samePlacement(p, st.snapshot().Placement) {
			wrong("%s is placed as %+v, known as %+v", name, p, st.snapshot().Placement)
		}
		for _, seg := range st.view.Segments {
			id := seg.Segment().ID
			known[id] = true
			largest = max(largest, seg.ResidentSize())
			has := r.hot.Has(id)
			switch of := rankOf(st.snapshot()); {
			case of == keptOut && has:
				wrong("%s of %s is in memory, placed %s", id, name, p.Tier)
			case of >= placed:
				placedBytes += seg.ResidentSize()
				if !has {
					missing++
				}
			}
			if rankOf(st.snapshot()) == unmovable && pinned[id] && !r.pinned[id] {
				wrong("%s of %s was pinned, and is not any more", id, name)
			}
		}
	}
	for id, size := range r.hot.Names() {
		kept += size
		if !known[id] {
			wrong("%s is in memory and in no collection", id)
		}
		if r.pinned[id] {
			pinnedBytes += size
		}
	}
	for id := range r.pinned {
		if !r.hot.Has(id) {
			wrong("%s is pinned, and not in memory", id)
		}
	}
	if missing > 0 && placedBytes <= w.budget {
		wrong("%d segments that are placed in memory are not there, and would fit", missing)
	}
	if kept > w.budget || kept != r.hot.Bytes() {
		wrong("%d bytes in memory, counted as %d, of %d", kept, r.hot.Bytes(), w.budget)
	}
	if pinnedBytes > r.pinBudget() {
		wrong("%d bytes pinned of %d", pinnedBytes, r.pinBudget())
	}
	if n := cache.ArenaBytes() - w.base; n != kept {
		wrong("%d bytes in arenas for %d in memory", n, kept)
	}
	w.peak.mu.Lock()
	defer w.peak.mu.Unlock()
	if most := w.peak.most - w.base; most > w.budget+max(largest, 8*segmentBytes) {
		wrong("%d bytes in arenas at most, want %d and one segment", most, w.budget)
	}
	return errors.Join(errs...)
}

// state is that of a collection as far as it is known, opened if it was not.
func (w *town) state(name string) *state {
	w.t.Helper()
	r, err := w.service.catalog.find(w.t.Context(), name)
	if err != nil {
		w.t.Fatal(err)
	}
	return r.state.Load()
}

func (w *town) pinned() map[string]bool {
	out := map[string]bool{}
	for id := range w.service.resident.pinned {
		out[id] = true
	}
	return out
}

// TestTiersUnderAnySequence: whatever is placed, searched, written, compacted
// and dropped, answers are right and memory is bounded.
func TestTiersUnderAnySequence(t *testing.T) {
	seeds := []uint64{1, 2}
	if s := os.Getenv("AKIDB_TEST_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seeds = []uint64{seed}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { anySequence(t, seed) })
	}
}

func anySequence(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 2))
	names := []string{"a", "b", "c", "d"}
	w := newTown(t, seed, 5*segmentBytes, names...)
	made := len(names)
	for _, name := range names {
		w.grow(name)
	}
	w.settle()
	for step := range 120 {
		name := names[rng.IntN(len(names))]
		before := w.pinned()
		what := ""
		switch n := rng.IntN(100); {
		case n < 10:
			what = "promote"
			w.place(name, manifest.Hot, false)
		case n < 20:
			what = "pin"
			w.place(name, manifest.Hot, true)
		case n < 27:
			what = "demote"
			w.place(name, []string{manifest.Warm, manifest.Cold}[rng.IntN(2)], false)
		case n < 37:
			what = "unpin"
			w.place(name, "", false)
		case n < 65:
			what = "search"
			w.search(name, 1+rng.IntN(12))
		case n < 75:
			what = "grow"
			w.grow(name)
		case n < 85:
			what = "compact"
			w.writers[name].compact()
		case n < 90:
			what = "warm"
			w.call("POST", "/collections/"+name+"/warm", `{"wait": true, "parts": ["postings", "vectors"]}`, nil)
		case n < 95:
			what = "cool"
			w.advance(20 * time.Minute)
		default:
			what = "drop"
			w.writers[name].commit(func(next *manifest.Snapshot) { next.Dropped = true })
			made++
			of := newTestWriter(t, w.store, fmt.Sprintf("ID%03d", made), name, townDim, "l2")
			of.kind = ivfpq.IVF
			w.writers[name] = of
			w.grow(name)
			w.advance(listEvery)
		}
		w.settle()
		if err := w.check(before); err != nil {
			t.Fatalf("step %d, %s %s: %v\nreplay: AKIDB_TEST_SEED=%d go test ./query -run TestTiersUnderAnySequence", step, what, name, err, seed)
		}
	}
	w.service.Close()
	if n := cache.ArenaBytes() - w.base; n != 0 {
		t.Errorf("%d bytes in arenas after Close", n)
	}
}

// The check of the test above sees what it is there for.
func TestTiersCheckSees(t *testing.T) {
	w := newTown(t, 9, 20*segmentBytes, "a", "b")
	w.grow("a")
	w.grow("b")
	w.place("a", manifest.Hot, true)
	w.place("b", manifest.Cold, false)
	w.settle()
	if err := w.check(nil); err != nil || len(w.pinned()) != 1 {
		t.Fatalf("%v, pinned %v", err, w.pinned())
	}
	r := w.service.resident
	load := func(name string) {
		t.Helper()
		view := w.state(name).view
		arena, err := cache.NewArena(int(view.Segments[0].ResidentSize()))
		if err != nil {
			t.Fatal(err)
		}
		res, err := view.LoadResident(t.Context(), 0, arena.Bytes(), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.hot.Put(view.Segments[0].Segment().ID, res, arena)
	}
	fails := func(what string) {
		t.Helper()
		if w.check(map[string]bool{"ID001-S1": true, "ID002-S1": true}) == nil {
			t.Errorf("%s: nothing was seen", what)
		}
	}
	id := func(name string) string { return w.writers[name].log.Snapshot().Segments[0].ID }
	load("b")
	fails("a cold collection in memory")
	r.hot.Drop(id("b"))
	pinned := w.pinned()
	r.hot.Drop(id("a"))
	fails("a hot collection that is not in memory")
	clear(r.pinned)
	load("a")
	if w.check(pinned) == nil {
		t.Error("a pinned collection that is not any more: nothing was seen")
	}
	r.pinned[id("a")] = true
	if err := w.check(pinned); err != nil {
		t.Fatal(err)
	}
	leak, err := cache.NewArena(1)
	if err != nil {
		t.Fatal(err)
	}
	fails("a leak")
	leak.Release()
	w.peak.most = 1 << 40
	fails("a peak")
}

func (w *town) inMemory(name string) (count int) {
	for _, seg := range w.writers[name].log.Snapshot().Segments {
		if w.service.resident.hot.Has(seg.ID) {
			count++
		}
	}
	return count
}

// A collection that is searched is loaded; what takes the place of its segments,
// and what is added, follows at once; and what nobody searches goes.
func TestUseMovesSegments(t *testing.T) {
	w := newTown(t, 5, 100*segmentBytes, "a")
	w.grow("a")
	want := func(what string, count int) {
		t.Helper()
		w.service.catalog.running.Wait()
		if got := w.inMemory("a"); got != count {
			t.Fatalf("%s: %d segments in memory, want %d", what, got, count)
		}
	}
	w.search("a", residentAfter-2) // and an exact one, which reads no list
	want("before it is searched often", 0)
	if tier := w.info("a").Tier; tier != info.Hot { // nothing counts reads here
		t.Errorf("tier %s", tier)
	}
	w.search("a", 2)
	want("after", 1)
	w.grow("a")
	w.search("a", 1)
	want("after a flush", 2)
	w.writers["a"].compact()
	w.search("a", 1)
	want("after a compaction", 1)
	if i := w.info("a"); i.Tier != info.Hot || i.ResidentBytes != w.service.resident.hot.Bytes() || i.Placement != nil {
		t.Errorf("it says %+v", i)
	}
	for range 3 {
		w.advance(10 * time.Minute)
		w.service.tick(t.Context())
		want("ten minutes later", 1)
		w.search("a", 1)
		w.service.tick(t.Context()) // takes note of it
	}
	w.advance(15 * time.Minute)
	w.service.tick(t.Context())
	want("when nobody has asked for a while", 0)
	if i := w.info("a"); i.Tier != info.Cold || i.ResidentBytes != 0 {
		t.Errorf("it says %+v", i)
	}
	// A burst long ago is not remembered.
	for range 3 {
		w.search("a", residentAfter-3)
		w.advance(15 * time.Minute)
	}
	want("after some searches now and then", 0)
}

// What is hotter stays; what has become hotter comes.
func TestTheHotterPushesOutTheColder(t *testing.T) {
	w := newTown(t, 6, 24<<10, "a", "b") // room for one of the two
	w.grow("a")
	w.grow("b")
	w.search("a", 3*residentAfter)
	w.service.catalog.running.Wait()
	w.search("b", residentAfter+1)
	w.service.catalog.running.Wait()
	if w.inMemory("a") != 1 || w.inMemory("b") != 0 {
		t.Fatalf("%d and %d in memory, want the first", w.inMemory("a"), w.inMemory("b"))
	}
	w.search("b", 3*residentAfter)
	w.advance(loadPause)
	w.search("b", 1)
	w.service.catalog.running.Wait()
	if w.inMemory("a") != 0 || w.inMemory("b") != 1 {
		t.Fatalf("%d and %d in memory, want the second", w.inMemory("a"), w.inMemory("b"))
	}
	// Placement goes before use, and says when it cannot be had.
	w.place("a", manifest.Hot, false)
	w.settle()
	if i := w.info("a"); i.Tier != info.Hot || i.Placement == nil || i.Placement.Condition != "" {
		t.Errorf("placed in memory: %+v, %+v", i, i.Placement)
	}
	w.place("b", manifest.Hot, false)
	w.settle()
	if i := w.info("b"); i.Placement.Condition != "" { // it is the hotter one
		t.Errorf("placed in memory: %+v, %+v", i, i.Placement)
	}
	if i := w.info("a"); i.Placement.Condition != info.NoRoom {
		t.Errorf("without room: %+v, %+v", i, i.Placement)
	}
}

// Nothing pushes out what is pinned; more than a share is not pinned, and says
// so.
func TestPinsHoldWithinTheirShare(t *testing.T) {
	w := newTown(t, 7, 48<<10, "a", "b", "c")
	for _, name := range []string{"a", "b", "c"} {
		w.grow(name)
		w.place(name, manifest.Hot, true)
		w.settle()
	}
	conditions := map[info.Condition]int{}
	for _, name := range []string{"a", "b", "c"} {
		conditions[w.info(name).Placement.Condition]++
	}
	if conditions[""] != 2 || conditions[info.PinLimit] != 1 {
		t.Fatalf("conditions %v, want two pinned and one over the limit", conditions)
	}
	before := w.pinned()
	w.search("c", 10*residentAfter)
	w.grow("c")
	w.search("c", 10*residentAfter)
	w.settle()
	if err := w.check(before); err != nil {
		t.Error(err)
	}
}

// Two processes do what was asked of one, and so does a third that starts later.
func TestProcessesConvergeOnThePlacement(t *testing.T) {
	w := newTown(t, 8, 100*segmentBytes, "a", "b")
	w.grow("a")
	w.grow("b")
	pods := []*Service{w.service, w.serve(w.fixture, 100*segmentBytes)}
	want := func(tier info.Tier) {
		t.Helper()
		w.advance(lookAfter)
		for i, s := range pods {
			s.tick(t.Context())
			s.catalog.running.Wait()
			if got := s.catalog.known("a").tier(); got != tier {
				t.Errorf("process %d: a is %s, want %s", i, got, tier)
			}
			if got := s.catalog.known("b").tier(); got != info.Cold {
				t.Errorf("process %d: b is %s, want it untouched", i, got)
			}
		}
	}
	want(info.Cold)
	w.place("a", manifest.Hot, false)
	want(info.Hot)
	pods = append(pods, w.serve(w.fixture, 100*segmentBytes))
	want(info.Hot)
	w.place("a", manifest.Cold, false)
	want(info.Cold)
}
