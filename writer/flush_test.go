package writer

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/faultblob"
	"github.com/akidb/akidb/segments/manifest"
)

// some makes n rows with ids from first on.
func some(first, n int) map[string]item {
	out := map[string]item{}
	for i := first; i < first+n; i++ {
		out[fmt.Sprintf("row-%d", i)] = item{vector: []float32{float32(i), 1, 2}}
	}
	return out
}

func (v *world) mustUpsert(c *collection, items map[string]item) {
	v.t.Helper()
	if err := v.upsert(c, items); err != nil {
		v.t.Fatal(err)
	}
}

// awaitFlushed waits until a flush that was not asked for has covered seq.
func (v *world) awaitFlushed(c *collection, seq uint64) {
	v.t.Helper()
	for {
		c.mu.RLock()
		flushed, moved := c.view.Snapshot.FlushedSeq, c.moved
		c.mu.RUnlock()
		if flushed >= seq {
			return
		}
		<-moved
	}
}

func TestFlushBySize(t *testing.T) {
	v := newWorld(t, func(c *Config) { c.FlushBytes = 4000 })
	v.open()
	c := v.create("c", 3, "l2")
	v.mustUpsert(c, some(0, 50))
	v.awaitFlushed(c, 50)
	v.check(c, some(0, 50))
}

func TestFlushByAge(t *testing.T) {
	v := newWorld(t, func(c *Config) { c.FlushAge = 10 * time.Second })
	v.open()
	c := v.create("c", 3, "l2")
	v.mustUpsert(c, some(0, 5))
	v.clock.advance(9 * time.Second)
	v.w.Sweep(context.Background())
	if c.flushDue() {
		t.Error("due after 9 s, want 10 s")
	}
	v.clock.advance(time.Second)
	v.w.Sweep(context.Background())
	v.awaitFlushed(c, 5)
	v.check(c, some(0, 5))
}

// TestFlushReleasesTheLog: what a manifest covers does not stay on disk, and is
// not replayed.
func TestFlushReleasesTheLog(t *testing.T) {
	v := newWorld(t, func(c *Config) { c.WAL.FileBytes = 8 << 10 })
	v.open()
	c := v.create("c", 3, "l2")
	for i := range 60 {
		v.mustUpsert(c, some(i*40, 40))
	}
	full := v.w.log.Stats()
	v.flush(c)
	v.mustUpsert(c, some(0, 1)) // the tail moves on
	for v.w.log.Stats().Files >= full.Files {
		if err := v.w.log.Err(); err != nil {
			t.Fatal(err)
		}
		v.flush(c)
		v.mustUpsert(c, some(0, 1))
	}
	v.kill()
	v.open()
	c = v.collection("c")
	if n := c.state().tables[0].Count(); n > 2 {
		t.Errorf("%d operations were replayed, want what came after the flush", n)
	}
	v.check(c, some(0, 60*40))
	v.flush(c)
	for i := range 60 { // several files, none of which may go
		v.mustUpsert(c, some(i*40+7, 40))
	}
	v.kill()
	v.open()
	v.check(v.collection("c"), some(0, 60*40+7))
}

// TestStoreDownDuringFlush: rows stay searchable and in the log, writes go on,
// and everything drains by itself.
func TestStoreDownDuringFlush(t *testing.T) {
	for name, when := range map[string]faultblob.Predicate{
		"segment": faultblob.Key("**/segments/*/*"),
		"deletes": faultblob.Key("deletes-*"),
		"body":    faultblob.Key("**/manifest/*"),
		"CURRENT": faultblob.Key("CURRENT"),
	} {
		t.Run(name, func(t *testing.T) {
			v := newWorld(t, neverByItself)
			fault := v.faulty()
			v.open()
			c := v.create("c", 3, "l2")
			v.flushNew(c, some(0, 10))
			gate := faultblob.NewGate()
			down := faultblob.All(faultblob.On(faultblob.Put), when)
			rule := fault.Inject(faultblob.All(down, faultblob.Nth(2)), faultblob.Hold(gate))
			failing := fault.Inject(down, faultblob.Fail(blob.ErrUnavailable))
			v.mustUpsert(c, some(5, 10)) // half of the old segment
			done := make(chan error, 1)
			go func() { done <- c.flushTo(v.w.ctx, 20) }()
			<-gate.Arrived() // two attempts have failed, this is the third
			v.mustUpsert(c, some(20, 3))
			if c.state().view.Snapshot.FlushedSeq != 10 || failing.Fired() != 2 {
				t.Errorf("flushed %d after %d failures", c.state().view.Snapshot.FlushedSeq, failing.Fired())
			}
			want := some(0, 15)
			maps.Copy(want, some(20, 3))
			if err := compare(v.writerSees(c), want); err != nil {
				t.Errorf("with the store down: %v", err)
			}
			fault.Remove(failing)
			fault.Remove(rule)
			gate.Open()
			if err := <-done; err != nil {
				t.Error(err)
			}
			v.check(c, want)
		})
	}
}

// TestLostReplyAtCommit: the commit was applied and nobody said so.
func TestLostReplyAtCommit(t *testing.T) {
	for name, effect := range map[string]faultblob.Effect{"lost": faultblob.LoseReply(), "twice": faultblob.Duplicate()} {
		t.Run(name, func(t *testing.T) {
			v := newWorld(t, neverByItself)
			fault := v.faulty()
			v.open()
			c := v.create("c", 3, "l2")
			rule := fault.Inject(faultblob.All(faultblob.On(faultblob.Put), faultblob.Key("CURRENT")), effect)
			v.mustUpsert(c, some(0, 10))
			v.flush(c)
			v.mustUpsert(c, some(0, 5))
			v.flush(c)
			if rule.Fired() == 0 {
				t.Fatal("the fault never fired")
			}
			snap := c.log.Snapshot()
			if len(snap.Segments) != 2 || snap.Version != 3 {
				t.Errorf("version %d with %d segments, want 3 with 2", snap.Version, len(snap.Segments))
			}
			v.check(c, some(0, 10))
		})
	}
}

// TestKillBetweenUploadAndCommit: the objects of the lost attempt are in nobody's
// way, and the rows come from the log.
func TestKillBetweenUploadAndCommit(t *testing.T) {
	v := newWorld(t, nil)
	fault := v.faulty()
	v.open()
	c := v.create("c", 3, "l2")
	v.mustUpsert(c, some(0, 10))
	gate := faultblob.NewGate()
	rule := fault.Inject(faultblob.All(faultblob.On(faultblob.Put), faultblob.Key("**/manifest/*")), faultblob.Hold(gate))
	go func() { _ = c.flushTo(v.w.ctx, 10) }()
	<-gate.Arrived()
	go gate.Open()
	v.kill()
	fault.Remove(rule)
	v.open()
	c = v.collection("c")
	v.check(c, some(0, 10))
	v.flush(c)
	v.check(c, some(0, 10))
}

// TestLateCommitOfADeadProcess: CURRENT is replaced by a put that was delayed
// until its process had died and the next one was opening.
func TestLateCommitOfADeadProcess(t *testing.T) {
	v := newWorld(t, nil)
	fault := v.faulty()
	v.open()
	c := v.create("c", 3, "l2")
	v.mustUpsert(c, some(0, 10))
	gate := faultblob.NewGate()
	rule := fault.Inject(faultblob.All(faultblob.On(faultblob.Put), faultblob.Key("CURRENT"), faultblob.First(1)), faultblob.HoldReply(gate))
	go func() { _ = c.flushTo(v.w.ctx, 10) }()
	<-gate.Arrived() // it is applied; its process will never know
	go v.w.cancel()
	<-c.idle
	gate.Open()
	v.kill()
	fault.Remove(rule)
	v.open()
	c = v.collection("c")
	if c.state().view.Snapshot.FlushedSeq != 10 {
		t.Fatalf("flushed %d, want 10", c.state().view.Snapshot.FlushedSeq)
	}
	v.check(c, some(0, 10))
	v.mustUpsert(c, some(5, 10))
	v.flush(c)
	v.check(c, some(0, 15))
}

// TestLateCommitDuringBoot: the put arrives after the next process has read
// CURRENT and before it claims. What it brought must not be flushed again: if
// it was all, the memtable would never be done, and if a later version undid
// some of it, that would come back.
func TestLateCommitDuringBoot(t *testing.T) {
	ctx := context.Background()
	for _, later := range []int{0, 5} {
		v := newWorld(t, nil)
		v.open()
		c := v.create("c", 3, "l2")
		key := manifest.CurrentKey(c.meta.ID)
		v.mustUpsert(c, some(0, 10))
		early, _, err := v.store.Get(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		v.flush(c)
		late, _, err := v.store.Get(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		if later > 0 {
			v.mustUpsert(c, some(10, later))
		}
		v.kill()

		store := v.store
		put := func(b []byte) {
			if _, err := store.Put(ctx, key, bytes.NewReader(b), int64(len(b)), blob.Condition{}); err != nil {
				t.Fatal(err)
			}
		}
		put(early)
		fault := faultblob.New(store)
		v.store = fault
		gate := faultblob.NewGate()
		fault.Inject(faultblob.All(faultblob.On(faultblob.Get), faultblob.Key("CURRENT"), faultblob.First(1)), faultblob.HoldReply(gate))
		opened := make(chan struct{})
		go func() { v.open(); close(opened) }()
		<-gate.Arrived()
		put(late)
		gate.Open()
		<-opened

		c = v.collection("c")
		s := c.state()
		if flushed := s.view.Snapshot.FlushedSeq; flushed != 10 || s.base() != 10 || s.tables[0].Count() != later {
			t.Errorf("flushed up to %d, and %d operations from %d in memory; want 10, and %d from 10", flushed, s.tables[0].Count(), s.base(), later)
		}
		rows := 10 + later
		v.check(c, some(0, rows))
		v.flush(c)
		v.check(c, some(0, rows))
		v.mustUpsert(c, some(0, 1))
		v.flush(c)
		v.check(c, some(0, rows))
	}
}

func TestTemporaryFilesAreWiped(t *testing.T) {
	v := newWorld(t, nil)
	stale := filepath.Join(v.dir, "tmp", "segment-1", "data.parquet")
	if err := os.MkdirAll(filepath.Dir(stale), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(stale, []byte("half"), 0o644); err != nil {
		t.Fatal(err)
	}
	v.open()
	c := v.create("c", 3, "l2")
	v.mustUpsert(c, some(0, 10))
	v.flush(c)
	left, err := os.ReadDir(filepath.Join(v.dir, "tmp"))
	if err != nil || len(left) != 0 {
		t.Errorf("left in tmp: %v, %v", left, err)
	}
}

// TestGarbage: replaced objects stay for the grace, go then, and are forgotten
// by the commit after.
func TestGarbage(t *testing.T) {
	ctx := context.Background()
	v := newWorld(t, func(c *Config) { c.GarbageGrace = time.Minute; c.TierSegments = 100 })
	v.open()
	c := v.create("c", 3, "l2")
	for range 3 {
		v.mustUpsert(c, some(0, 10))
		v.flush(c)
	}
	snap := c.log.Snapshot()
	if len(snap.Segments) != 1 || len(snap.Garbage) != 4 {
		t.Fatalf("%d segments and %d objects of garbage, want 1 and 4: wholly superseded segments go", len(snap.Segments), len(snap.Garbage))
	}
	there := func(want bool) {
		t.Helper()
		for _, g := range snap.Garbage {
			if _, err := v.store.Stat(ctx, g.Key); (err == nil) != want {
				t.Errorf("%q: %v, want it there: %t", g.Key, err, want)
			}
		}
	}
	v.clock.advance(59 * time.Second)
	v.w.Sweep(ctx)
	there(true)
	v.clock.advance(time.Second)
	v.w.Sweep(ctx)
	there(false)
	v.flushNew(c, some(100, 1))
	if got := c.log.Snapshot().Garbage; len(got) != 0 {
		t.Errorf("still listed: %v", got)
	}
	for o, err := range blob.Objects(ctx, v.store, blob.Listing{Prefix: manifest.SegmentsPrefix(c.meta.ID)}) {
		if err != nil {
			t.Fatal(err)
		}
		named := false
		for _, s := range c.log.Snapshot().Segments {
			named = named || o.Key == s.Data.Key || o.Key == s.Index.Key
		}
		if !named {
			t.Errorf("%q is left and nobody names it", o.Key)
		}
	}
	v.check(c, func() map[string]item { m := some(0, 10); m["row-100"] = some(100, 1)["row-100"]; return m }())
}

func (v *world) flushNew(c *collection, items map[string]item) {
	v.t.Helper()
	v.mustUpsert(c, items)
	v.flush(c)
}

// A put that fails costs that put: delete vectors that are uploaded are not
// uploaded again because the next one failed, or a flush that supersedes rows of
// many segments would not come to its end on a store that fails now and then.
func TestFailedPutsCostThemselves(t *testing.T) {
	v := newWorld(t, func(c *Config) { c.TierSegments, c.DeadFraction, c.JobAttempts = 100, 1, 1000 })
	fault := v.faulty()
	v.open()
	c := v.create("c", 3, "l2")
	const segments = 10
	want := map[string]item{}
	rewrite := map[string]item{}
	for i := range segments {
		v.flushNew(c, some(10*i, 10))
		maps.Copy(want, some(10*i, 10))
		rewrite[fmt.Sprintf("row-%d", 10*i)] = item{vector: []float32{7, 7, 7}}
	}
	maps.Copy(want, rewrite)
	puts := 0
	fault.Inject(faultblob.All(faultblob.On(faultblob.Put), faultblob.Key("deletes-*"),
		func(faultblob.Call) bool { puts++; return puts%2 == 1 }), faultblob.LoseReply())
	v.flushNew(c, rewrite)
	if puts != 2*segments {
		t.Errorf("%d puts of %d delete vectors, every other of which failed", puts, segments)
	}
	v.check(c, want)
}

// A backlog of full tables goes in a few large flushes, not one by one.
func TestBacklogIsFlushedAtOnce(t *testing.T) {
	v := newWorld(t, func(c *Config) { c.FlushBytes, c.TierSegments, c.JobAttempts = 4<<10, 1000, 1000 })
	fault := v.faulty()
	v.open()
	c := v.create("c", 3, "l2")
	v.flushNew(c, some(0, 10))
	fault.Down()
	want := some(0, 10)
	for i := range 100 {
		items := some(7*i, 10) // some of them again
		v.mustUpsert(c, items)
		maps.Copy(want, items)
	}
	c.mu.RLock()
	tables := len(c.frozen)
	c.mu.RUnlock()
	if tables < 20 {
		t.Fatalf("%d full tables: the backlog is none", tables)
	}
	before := c.log.Snapshot().Version
	fault.Up()
	v.flush(c)
	if n := c.log.Snapshot().Version - before; n > 3 {
		t.Errorf("%d commits for %d tables", n, tables)
	}
	v.check(c, want)
	if got := v.w.unflushed.Load(); got != 0 {
		t.Errorf("%d bytes are counted as unflushed", got)
	}
}
