package writer

import (
	"context"
	"maps"
	"testing"

	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/ivfpq"
	"github.com/akidb/akidb/segments/manifest"
)

// TestSegmentsShareAQuantizer: later segments are built with the quantizer of
// the first, a merge keeps it, and none is named that nobody uses.
func TestSegmentsShareAQuantizer(t *testing.T) {
	v := newWorld(t, inLists)
	v.open()
	c := v.create("c", 3, "l2")
	want := map[string]item{}
	for i := range 3 {
		maps.Copy(want, some(20*i, 20))
		v.flushNew(c, some(20*i, 20))
	}
	snap := c.log.Snapshot()
	if len(snap.Quantizers) != 1 || len(snap.Segments) != 3 {
		t.Fatalf("%d quantizers of %d segments, want 1 of 3", len(snap.Quantizers), len(snap.Segments))
	}
	id := snap.Quantizers[0].ID
	for _, s := range snap.Segments {
		if s.Quantizer != id {
			t.Errorf("segment %q has quantizer %q, want %q", s.ID, s.Quantizer, id)
		}
	}
	if err := c.compactAll(); err != nil {
		t.Fatal(err)
	}
	if snap = c.log.Snapshot(); len(snap.Segments) != 1 || snap.Segments[0].Quantizer != id || len(snap.Quantizers) != 1 {
		t.Errorf("after a merge: %+v", snap)
	}
	v.check(c, want)
}

// TestQuantizerIsTrainedAgain: a collection that has outgrown its quantizer gets
// another with the next merge, and the old one becomes garbage once nothing
// uses it, and not before.
func TestQuantizerIsTrainedAgain(t *testing.T) {
	v := newWorld(t, inLists)
	v.open()
	c := v.create("c", 3, "l2")
	want := map[string]item{}
	flush := func(first, count int) {
		maps.Copy(want, some(first, count))
		v.flushNew(c, some(first, count))
	}
	flush(0, 20)
	old := c.log.Snapshot().Quantizers[0]
	for i := range 4 {
		flush(20+20*i, 20)
	}
	view := c.state().view
	if !outdated(view) {
		t.Fatal("five times the rows of training, and the quantizer is not outdated")
	}
	if c.enoughToTrain(int(view.Snapshot.Rows()), view.Snapshot.Rows()) {
		t.Fatal("a hundred rows are enough to train")
	}
	// What a merge of enough rows would do.
	m := newMerging(view, []string{view.Snapshot.Segments[0].ID, view.Snapshot.Segments[1].ID})
	if err := m.read(context.Background(), 3); err != nil {
		t.Fatal(err)
	}
	out, err := c.store(context.Background(), "compact", newSemaphore(1), m.rows, building{collection: 100})
	if err != nil {
		t.Fatal(err)
	}
	m.output, m.origins = out, reorder(m.origins, out.order)
	if err := c.commitMerge(context.Background(), m); err != nil {
		t.Fatal(err)
	}
	snap := c.log.Snapshot()
	if len(snap.Quantizers) != 2 || snap.Quantizers[0] != old || snap.Quantizers[1].Rows != 100 || epoch(c.state().view).ID != snap.Quantizers[1].ID {
		t.Fatalf("after the training: %+v", snap.Quantizers)
	}
	if outdated(c.state().view) {
		t.Error("a quantizer trained for all rows is outdated")
	}
	v.check(c, want)
	release := c.hold(c.state().view.Quantizer(old.ID))
	if err := c.compactAll(); err != nil {
		t.Fatal(err)
	}
	if snap = c.log.Snapshot(); len(snap.Quantizers) != 2 {
		t.Errorf("a quantizer that is held was dropped: %+v", snap.Quantizers)
	}
	release()
	flush(500, 10)
	snap = c.log.Snapshot()
	if len(snap.Quantizers) != 1 || snap.Quantizers[0].ID == old.ID || !garbageHas(snap, old.Key) {
		t.Errorf("a quantizer that nobody uses is still named: %+v", snap.Quantizers)
	}
	v.check(c, want)
	v.stop()
	v.open() // and all of it is read again
	v.check(v.collection("c"), want)
}

func garbageHas(snap *manifest.Snapshot, key string) bool {
	for _, g := range snap.Garbage {
		if g.Key == key {
			return true
		}
	}
	return false
}

// TestDriftedRowsOutdateAQuantizer: rows that lie much further from their
// centroids than those of training have it trained again.
func TestDriftedRowsOutdateAQuantizer(t *testing.T) {
	v := newWorld(t, inLists)
	v.open()
	c := v.create("c", 3, "l2")
	v.flushNew(c, some(0, 60))
	if outdated(c.state().view) {
		t.Fatal("the rows of training have drifted")
	}
	far := map[string]item{}
	for id, it := range some(100, 40) {
		moved := make([]float32, len(it.vector))
		for i, x := range it.vector {
			moved[i] = 50 * x
		}
		it.vector = moved
		far[id] = it
	}
	v.flushNew(c, far)
	if !outdated(c.state().view) {
		var residuals []float64
		for _, s := range c.state().view.Segments {
			residuals = append(residuals, s.Residual())
		}
		t.Errorf("rows fifty times as far have not drifted: residuals %v, of training %v", residuals, epoch(c.state().view).Residual)
	}
}

// TestLearnedCodebook: a collection made with one has its quantizers so.
func TestLearnedCodebook(t *testing.T) {
	v := newWorld(t, inLists)
	v.open()
	c, err := v.w.create(context.Background(), manifest.Collection{Name: "c", Dimension: 3, Metric: "l2", Codebook: "learned"})
	if err != nil {
		t.Fatal(err)
	}
	v.flushNew(c, some(0, 40))
	var view *segments.View = c.state().view
	if z := epoch(view); z == nil || z.Codebook != ivfpq.Learned {
		t.Errorf("the quantizer is %+v", z)
	}
	v.check(c, some(0, 40))
}
