package writer

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/faultblob"
	"github.com/akidb/akidb/segments/manifest"
)

// sweeps lets so much time pass, with a look at garbage before and after each
// half.
func (v *world) sweeps() {
	for range 4 {
		v.w.Sweep(context.Background())
		v.clock.advance(2 * time.Hour)
	}
	v.w.Sweep(context.Background())
}

func (v *world) exists(key string) bool {
	v.t.Helper()
	_, err := v.store.Stat(context.Background(), key)
	if err != nil && !errors.Is(err, blob.ErrNotFound) {
		v.t.Fatal(err)
	}
	return err == nil
}

// What a snapshot names outlives every version after it, and goes a grace after
// the snapshot.
func TestPinsKeepObjects(t *testing.T) {
	ctx := context.Background()
	v := newWorld(t, func(c *Config) { c.GarbageGrace = time.Minute })
	v.open()
	c := v.create("c", 3, "l2")
	v.flushNew(c, some(0, 10))
	pin := v.snapshot(c, "kept", true)
	kept, err := manifest.Pinned(ctx, v.store, pin)
	if err != nil || len(kept) != 3 {
		t.Fatalf("kept: %v, %v", kept, err)
	}
	kept = append(kept, manifest.SnapshotKey(c.meta.ID, pin.ID), manifest.ExportKey(c.meta.ID, pin.ID))
	v.flushNew(c, some(0, 10)) // replaces every row, and so the segment
	v.kill()
	v.open()
	c = v.collection("c")
	v.sweeps()
	for _, key := range kept {
		if !v.exists(key) {
			t.Errorf("%q is gone while it was pinned", key)
		}
	}
	if err := c.dropSnapshot(ctx, pin); err != nil {
		t.Fatal(err)
	}
	v.w.Sweep(ctx)
	for _, key := range kept[:3] {
		if !v.exists(key) {
			t.Errorf("%q is gone without a grace", key)
		}
	}
	v.sweeps()
	for _, key := range kept {
		if v.exists(key) {
			t.Errorf("%q is left", key)
		}
	}
	if !v.exists(manifest.LatestExportKey(c.meta.ID)) {
		t.Error("the latest export went with the snapshot")
	}
	v.check(c, some(0, 10))
}

// The description of a snapshot is made again when it was lost, and one without
// a pin, whose maker died before it was committed, goes.
func TestDescriptionsFollowPins(t *testing.T) {
	ctx := context.Background()
	v := newWorld(t, nil)
	v.open()
	c := v.create("c", 3, "l2")
	v.flushNew(c, some(0, 10))
	pin := v.snapshot(c, "", false)
	if err := v.store.Delete(ctx, manifest.SnapshotKey(c.meta.ID, pin.ID)); err != nil {
		t.Fatal(err)
	}
	stray := manifest.SnapshotKey(c.meta.ID, "stray")
	if _, err := v.store.Put(ctx, stray, strings.NewReader("{}"), 2, blob.Condition{}); err != nil {
		t.Fatal(err)
	}
	v.sweeps()
	if !v.exists(manifest.SnapshotKey(c.meta.ID, pin.ID)) || v.exists(stray) {
		t.Error("descriptions and pins differ")
	}
}

// What a process uploaded and never committed goes once a successor has taken
// the next epoch; what is on its way to be committed does not, however long it
// takes.
func TestOrphans(t *testing.T) {
	v := newWorld(t, func(c *Config) {
		c.GarbageGrace, c.OrphanEvery = time.Minute, time.Nanosecond
		c.TierSegments, c.DeadFraction = 100, 1 // a compaction under way has objects that nothing names yet
	})
	fault := v.faulty()
	v.open()
	c := v.create("c", 3, "l2")
	v.flushNew(c, some(0, 10))
	gate := faultblob.NewGate()
	rule := fault.Inject(faultblob.All(faultblob.On(faultblob.Put), faultblob.Key("CURRENT")), faultblob.Hold(gate))
	v.mustUpsert(c, some(5, 10))
	flushed := make(chan error, 1)
	go func() { flushed <- c.flushTo(v.w.ctx, c.state().seq) }()
	<-gate.Arrived()
	before := v.left(c)
	v.sweeps() // hours pass before the answer
	for _, key := range before {
		if _, isBody := manifest.BodyVersion(c.meta.ID, key); !isBody && !v.exists(key) {
			t.Errorf("%q was collected on its way", key)
		}
	}
	v.w.cancel() // and it never comes
	<-flushed
	v.kill()
	fault.Remove(rule)
	gate.Open()
	v.open()
	c = v.collection("c")
	v.check(c, some(0, 15))
	v.flush(c)
	v.sweeps()
	named := map[string]bool{manifest.CurrentKey(c.meta.ID): true, c.log.Current().Manifest.Key: true}
	for o := range c.log.Snapshot().Objects() {
		named[o.Key] = true
	}
	for _, key := range v.left(c) {
		if !named[key] {
			t.Errorf("%q is left", key)
		}
	}
	v.check(c, some(0, 15))
}
