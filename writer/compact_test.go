package writer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/faultblob"
	"github.com/akidb/akidb/segments/columns"
	"github.com/akidb/akidb/segments/ivfpq"
	"github.com/akidb/akidb/segments/manifest"
)

func neverByItself(c *Config) { c.TierSegments, c.DeadFraction = 1000, 1 }

// inLists has even the smallest segments put their rows into another order.
func inLists(c *Config) {
	neverByItself(c)
	c.index = ivfpq.Config{Kind: ivfpq.IVF, Lists: 3}
}

// TestDeletesRaceCompaction holds a compaction back after it has read its
// inputs, and again at its commit, while rows are deleted, overwritten and
// flushed, up to whole inputs: nothing may come back.
func TestDeletesRaceCompaction(t *testing.T) {
	for name, hidden := range map[string][]int{ // rows of 0..39 deleted meanwhile, in segments of 10
		"none": nil, "some": {1, 11, 12, 39}, "a whole input": {10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 25},
		"all": slices.Collect(func(yield func(int) bool) {
			for i := range 40 {
				if !yield(i) {
					return
				}
			}
		}),
	} {
		t.Run(name, func(t *testing.T) {
			v := newWorld(t, inLists)
			fault := v.faulty()
			v.open()
			c := v.create("c", 3, "l2")
			want := map[string]item{}
			for i := range 4 {
				maps.Copy(want, some(10*i, 10))
				v.flushNew(c, some(10*i, 10))
			}
			gate := faultblob.NewGate()
			fault.Inject(faultblob.All(faultblob.On(faultblob.Put), faultblob.Key("index.ivf"), faultblob.First(1)), faultblob.Hold(gate))
			done := make(chan error, 1)
			go func() { done <- c.compactAll() }()
			<-gate.Arrived()
			for i, n := range hidden {
				id := fmt.Sprintf("row-%d", n)
				if i%2 == 0 {
					if _, err := c.deleteIDs(context.Background(), deletion{ids: []string{id}}); err != nil {
						t.Fatal(err)
					}
					delete(want, id)
				} else {
					want[id] = item{vector: []float32{-1, -2, float32(n)}, metadata: `{"new":true}`}
					v.mustUpsert(c, map[string]item{id: want[id]})
				}
			}
			v.flush(c)
			v.check(c, want)
			gate.Open()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if len(want) > 0 && slices.IsSorted(idsOf(t, c.state().view)) {
				t.Error("the rows kept their order: this tests too little")
			}
			v.check(c, want)
			v.flush(c)
			v.kill()
			v.open()
			v.check(v.collection("c"), want)
		})
	}
}

func idsOf(t *testing.T, v *segments.View) []string {
	t.Helper()
	var ids []string
	err := v.Rows(context.Background(), columns.ProjectID, func(rows []columns.Row) error {
		for _, r := range rows {
			ids = append(ids, r.ID)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// TestAttemptsAreNotRepeated: an attempt that finds its own work done, because
// the answer to an earlier one was lost, leaves it at that, and one planned on a
// view that is no longer the newest is refused.
func TestAttemptsAreNotRepeated(t *testing.T) {
	ctx := context.Background()
	v := newWorld(t, inLists)
	v.open()
	c := v.create("c", 3, "l2")
	old := c.state().view
	v.flushNew(c, some(0, 10))
	v.flushNew(c, some(10, 10))
	version := c.log.Snapshot().Version
	if err := c.commitFlush(ctx, &plan{}, flushed{last: 20}); err != nil || c.log.Snapshot().Version != version {
		t.Errorf("flush again: %v, version %d, want %d", err, c.log.Snapshot().Version, version)
	}
	if err := c.commit(ctx, old, func(*manifest.Snapshot) error { return nil }); !errors.Is(err, errMoved) {
		t.Errorf("commit on an old view: %v", err)
	}
	m := &merging{inputs: c.state().view.Segments}
	if err := m.read(ctx, 3); err != nil {
		t.Fatal(err)
	}
	out, err := c.store(ctx, "compact", newSemaphore(1), m.rows, building{})
	if err != nil {
		t.Fatal(err)
	}
	m.output, m.origins = out, reorder(m.origins, out.order)
	for range 2 {
		if err := c.commitMerge(ctx, m); err != nil || c.log.Snapshot().Version != version+1 {
			t.Errorf("merge: %v, version %d, want %d", err, c.log.Snapshot().Version, version+1)
		}
	}
	v.check(c, some(0, 20))
}

// TestLostReplyAtMerge: a compaction whose commit came through unheard is not
// done again.
func TestLostReplyAtMerge(t *testing.T) {
	v := newWorld(t, neverByItself)
	fault := v.faulty()
	v.open()
	c := v.create("c", 3, "l2")
	for i := range 3 {
		v.flushNew(c, some(5*i, 10))
	}
	rule := fault.Inject(faultblob.All(faultblob.On(faultblob.Put), faultblob.Key("CURRENT")), faultblob.LoseReply())
	if err := c.compactAll(); err != nil {
		t.Fatal(err)
	}
	if snap := c.log.Snapshot(); len(snap.Segments) != 1 || snap.Rows() != 20 || rule.Fired() == 0 {
		t.Errorf("%d segments, %d rows, fault fired %d times", len(snap.Segments), snap.Rows(), rule.Fired())
	}
	v.check(c, some(0, 20))
}

func TestCompactionKeepsOrderedTiers(t *testing.T) {
	v := newWorld(t, func(c *Config) { c.TierSegments = 3 })
	v.open()
	c := v.create("c", 3, "l2")
	for i := range 9 {
		v.flushNew(c, some(10*i, 10))
	}
	// The compactor runs by itself; this waits for its turn to end.
	for c.planTier(c.state().view) != nil {
		c.mu.RLock()
		moved := c.moved
		c.mu.RUnlock()
		if c.planTier(c.state().view) != nil {
			<-moved
		}
	}
	if n := len(c.state().view.Segments); n > 4 {
		t.Errorf("%d segments are left of 9 flushes, want at most 4", n)
	}
	v.check(c, some(0, 90))
}

// fakeView is a view of segments with the given rows and deleted rows.
func fakeView(sizes ...[2]uint32) *segments.View {
	v := &segments.View{Snapshot: &manifest.Snapshot{}}
	for i, s := range sizes {
		seg := manifest.Segment{ID: fmt.Sprint(i), Rows: s[0]}
		if s[1] > 0 {
			seg.Deletes = &manifest.DeleteVector{Count: s[1]}
		}
		v.Snapshot.Segments = append(v.Snapshot.Segments, seg)
	}
	return v
}

func TestPlanTier(t *testing.T) {
	c := &collection{w: &Writer{cfg: Config{TierSegments: 3, MaxSegmentBytes: 4 * 1000}.withDefaults()}, meta: manifest.Collection{Dimension: 1}}
	for name, tc := range map[string]struct {
		sizes [][2]uint32
		want  string
	}{
		"empty":                     {nil, "[]"},
		"too few":                   {[][2]uint32{{10, 0}, {10, 0}}, "[]"},
		"one tier":                  {[][2]uint32{{10, 0}, {300, 0}, {12, 0}, {60, 0}}, "[[0 2 3]]"},
		"two tiers":                 {[][2]uint32{{1, 0}, {100, 0}, {1, 0}, {100, 0}}, "[]"},
		"dead":                      {[][2]uint32{{10, 0}, {100, 21}}, "[[1]]"},
		"not dead enough":           {[][2]uint32{{10, 0}, {100, 20}}, "[]"},
		"full ones stay":            {[][2]uint32{{600, 0}, {600, 0}, {600, 0}}, "[]"},
		"full but dead":             {[][2]uint32{{900, 300}}, "[[0]]"},
		"as many as fit":            {[][2]uint32{{400, 0}, {450, 0}, {400, 0}}, "[[0 1]]"},
		"smallest tier comes first": {[][2]uint32{{100, 0}, {100, 0}, {100, 0}, {2, 0}, {3, 0}, {4, 0}}, "[[3 4 5]]"},
	} {
		if got := fmt.Sprint(c.planTier(fakeView(tc.sizes...))); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

func TestPlanAll(t *testing.T) {
	c := &collection{w: &Writer{cfg: Config{MaxSegmentBytes: 4 * 1000}.withDefaults()}, meta: manifest.Collection{Dimension: 1}}
	for name, tc := range map[string]struct {
		sizes [][2]uint32
		want  string
	}{
		"empty":         {nil, "[]"},
		"one":           {[][2]uint32{{10, 0}}, "[]"},
		"one with dead": {[][2]uint32{{10, 1}}, "[[0]]"},
		"all":           {[][2]uint32{{10, 0}, {300, 0}, {12, 0}}, "[[0 2 1]]"},
		"bounded":       {[][2]uint32{{900, 0}, {500, 0}, {400, 1}, {2000, 0}}, "[[2 1]]"},
	} {
		if got := fmt.Sprint(c.planAll(fakeView(tc.sizes...))); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

// TestCompactionFailsForGood ends in an error, not in an endless loop, when its
// collection goes.
func TestCompactionOfADroppedCollection(t *testing.T) {
	v := newWorld(t, neverByItself)
	fault := v.faulty()
	v.open()
	c := v.create("c", 3, "l2")
	v.flushNew(c, some(0, 10))
	v.flushNew(c, some(10, 10))
	rule := fault.Inject(faultblob.All(faultblob.On(faultblob.Put), faultblob.Key("data.parquet")), faultblob.Fail(blob.ErrUnavailable))
	done := make(chan error, 1)
	go func() { done <- c.compactAll() }()
	for rule.Fired() == 0 {
		v.mustUpsert(c, some(0, 1))
	}
	if err := v.w.drop(context.Background(), c); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err == nil {
		t.Error("the compaction of a dropped collection says it is done")
	}
}

// Compaction asks all the time whether it should wait; a flush, which
// acknowledged writes wait for, never does.
func TestCompactionYields(t *testing.T) {
	asked := 0
	v := newWorld(t, func(c *Config) {
		inLists(c)
		c.Yield, c.BuildWorkers = func() { asked++ }, 1
	})
	v.open()
	c := v.create("c", 3, "l2")
	v.flushNew(c, some(0, 100))
	v.flushNew(c, some(50, 100))
	if asked > 0 {
		t.Errorf("a flush yielded %d times", asked)
	}
	if err := c.compactAll(); err != nil {
		t.Fatal(err)
	}
	if asked < 10 {
		t.Errorf("a compaction yielded %d times", asked)
	}
	v.check(c, some(0, 150))
}
