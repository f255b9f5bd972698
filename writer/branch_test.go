package writer

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/akidb/akidb/segments/blob/faultblob"
	"github.com/akidb/akidb/segments/manifest"
)

// A branch shares objects with its origin until it has rewritten them.
func TestBranchSharesObjects(t *testing.T) {
	ctx := context.Background()
	v := newWorld(t, func(c *Config) { c.GarbageGrace = time.Minute })
	v.open()
	c := v.create("c", 3, "l2")
	v.flushNew(c, some(0, 10))
	b, err := v.w.branch(ctx, c, "b", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range v.left(b) {
		if strings.HasPrefix(key, manifest.SegmentsPrefix(b.meta.ID)) {
			t.Errorf("%q was copied", key)
		}
	}
	// Both go their own ways.
	if _, err := b.deleteIDs(ctx, deletion{ids: []string{"row-1"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.deleteIDs(ctx, deletion{ids: []string{"row-2"}}); err != nil {
		t.Fatal(err)
	}
	v.flush(b)
	v.flush(c)
	wantB, wantC := some(0, 10), some(0, 10)
	delete(wantB, "row-1")
	delete(wantC, "row-2")
	v.check(b, wantB)
	v.check(c, wantC)
	if err := c.compactAll(); err != nil { // c lets go of what b reads
		t.Fatal(err)
	}
	v.sweeps()
	v.check(b, wantB)
	err = v.w.drop(ctx, c)
	if e := asWriteError(err); e.Code != "collection_has_branches" || e.Status != 409 {
		t.Errorf("drop of a collection with a branch: %v", err)
	}
	v.mustUpsert(c, some(50, 1)) // it still takes writes
	v.kill()
	v.open()
	b, c = v.collection("b"), v.collection("c")
	v.check(b, wantB)
	if err := b.compactAll(); err != nil {
		t.Fatal(err)
	}
	if got := b.log.Snapshot().Origins; len(got) != 0 {
		t.Errorf("a branch that was rewritten has origins %v", got)
	}
	v.sweeps()
	if n := c.branchCount(); n != 0 {
		t.Errorf("%d branches are left", n)
	}
	if err := v.w.drop(ctx, c); err != nil {
		t.Fatal(err)
	}
	v.sweeps()
	v.check(b, wantB)
}

// A branch's snapshot may name what the branch itself no longer does.
func TestPinnedBranchKeepsItsOrigin(t *testing.T) {
	ctx := context.Background()
	v := newWorld(t, func(c *Config) { c.GarbageGrace = time.Minute })
	v.open()
	c := v.create("c", 3, "l2")
	v.flushNew(c, some(0, 10))
	b, err := v.w.branch(ctx, c, "b", nil)
	if err != nil {
		t.Fatal(err)
	}
	pin := v.snapshot(b, "", false)
	v.flushNew(b, some(0, 10)) // supersedes everything that was the origin's
	v.flushNew(c, some(0, 10))
	v.sweeps()
	if n := c.branchCount(); n != 1 {
		t.Fatalf("%d branches, want 1", n)
	}
	if _, err := b.restore(ctx, pin); err != nil {
		t.Fatal(err)
	}
	v.check(b, some(0, 10))
	if err := b.dropSnapshot(ctx, pin); err != nil {
		t.Fatal(err)
	}
	v.flushNew(b, some(0, 10))
	v.sweeps()
	if n := c.branchCount(); n != 0 {
		t.Errorf("%d branches are left", n)
	}
}

// A pin whose branch never came to be is let go.
func TestBranchThatDied(t *testing.T) {
	ctx := context.Background()
	v := newWorld(t, nil)
	fault := v.faulty()
	v.open()
	c := v.create("c", 3, "l2")
	v.flushNew(c, some(0, 10))
	gate := faultblob.NewGate()
	rule := fault.Inject(faultblob.All(faultblob.On(faultblob.Put), faultblob.Key("CURRENT"),
		func(call faultblob.Call) bool { return !strings.Contains(call.Key, c.meta.ID) }), faultblob.Hold(gate))
	ended := make(chan error)
	go func() { _, err := v.w.branch(v.w.ctx, c, "b", nil); ended <- err }()
	<-gate.Arrived()
	v.w.Sweep(ctx)
	if n := c.branchCount(); n != 2 { // the pin, and the one that is being made
		t.Errorf("%d branches while one is being made", n)
	}
	v.w.cancel() // the put ends without reaching the store
	if err := <-ended; err == nil {
		t.Error("a branch was made without its CURRENT")
	}
	v.kill()
	fault.Remove(rule)
	v.open()
	v.w.Sweep(ctx)
	if n := v.collection("c").branchCount(); n != 0 {
		t.Errorf("%d branches are left", n)
	}
	if _, err := v.w.branch(ctx, v.collection("c"), "b", nil); err != nil {
		t.Errorf("the name is not free: %v", err)
	}
}
