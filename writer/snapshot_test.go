package writer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/faultblob"
	"github.com/akidb/akidb/segments/manifest"
	"github.com/akidb/akidb/segments/verify"
)

// A merge that read its rows before a restore does not know of rows that the
// restore brought back, so its output must not take the place of theirs.
func TestRestoreDuringCompaction(t *testing.T) {
	ctx := context.Background()
	v := newWorld(t, func(c *Config) { c.TierSegments = 100; c.DeadFraction = 1 })
	fault := faultblob.New(v.store)
	v.store = fault
	v.open()
	c := v.create("c", 3, "l2")
	v.flushNew(c, some(0, 10))
	v.flushNew(c, some(10, 10))
	want := v.writerSees(c)
	pin, err := c.takeSnapshot(ctx, "before", false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.deleteIDs(ctx, deletion{ids: []string{"row-3", "row-13"}}); err != nil {
		t.Fatal(err)
	}
	v.flush(c)
	gate := faultblob.NewGate()
	fault.Inject(faultblob.All(faultblob.On(faultblob.Put), faultblob.Key("data.parquet")), faultblob.Hold(gate))
	merged := make(chan error)
	go func() { merged <- c.compactAll() }()
	<-gate.Arrived()
	at, err := c.restore(ctx, pin)
	if err != nil {
		t.Fatal(err)
	}
	gate.Open()
	if err := <-merged; err != nil {
		t.Fatal(err)
	}
	v.check(c, want)
	if got := c.state().seq; got != at.Seq {
		t.Errorf("seq is %d after the restore, which was write %d", got, at.Seq)
	}
	if err := c.compactAll(); err != nil {
		t.Fatal(err)
	}
	v.check(c, want)
}

// Whoever has the tail up to the moment before a restore has to look at the
// manifest: the tail alone would leave it with what was undone.
func TestRestoreIsSeenThroughTheTail(t *testing.T) {
	ctx := context.Background()
	v := newWorld(t, nil)
	v.open()
	c := v.create("c", 3, "l2")
	v.mustUpsert(c, some(0, 10))
	pin, err := c.takeSnapshot(ctx, "", false)
	if err != nil {
		t.Fatal(err)
	}
	v.mustUpsert(c, some(10, 5))
	before := c.state().seq
	if _, err := c.restore(ctx, pin); err != nil {
		t.Fatal(err)
	}
	if d := c.state().delta(1, before); d.After <= before {
		t.Errorf("the tail after %d begins after %d: it can be joined", before, d.After)
	}
	v.check(c, some(0, 10))
	v.mustUpsert(c, some(20, 1)) // writes go on
	v.kill()
	v.open()
	want := some(0, 10)
	maps.Copy(want, some(20, 1))
	v.check(v.collection("c"), want)
}

// A restore that died after its mark and before its commit changed nothing.
func TestRestoreThatDied(t *testing.T) {
	ctx := context.Background()
	v := newWorld(t, nil)
	fault := faultblob.New(v.store)
	v.store = fault
	v.open()
	c := v.create("c", 3, "l2")
	v.flushNew(c, some(0, 10))
	pin, err := c.takeSnapshot(ctx, "", false)
	if err != nil {
		t.Fatal(err)
	}
	v.flushNew(c, some(10, 5))
	gate := faultblob.NewGate()
	rule := fault.Inject(faultblob.All(faultblob.On(faultblob.Put), faultblob.Key("CURRENT")), faultblob.Hold(gate))
	ended := make(chan error)
	go func() { _, err := c.restore(v.w.ctx, pin); ended <- err }()
	<-gate.Arrived()
	if err := v.upsert(c, some(20, 1)); asWriteError(err).Code != "restoring" || asWriteError(err).Applied != httpapi.NotApplied {
		t.Errorf("a write meanwhile: %v", err)
	}
	v.w.cancel() // the put ends without reaching the store
	if err := <-ended; err == nil {
		t.Error("a restore succeeded without its commit")
	}
	v.kill()
	fault.Remove(rule)
	v.open()
	c = v.collection("c")
	v.check(c, some(0, 15))
	v.flush(c) // of nothing but the mark
	if s := c.state(); s.view.Snapshot.FlushedSeq != s.seq {
		t.Errorf("flushed to %d of %d", s.view.Snapshot.FlushedSeq, s.seq)
	}
	v.check(c, some(0, 15))
}

// A restore that finds the store away is given up, and writes go on.
func TestRestoreWithoutStore(t *testing.T) {
	ctx := context.Background()
	v := newWorld(t, func(c *Config) { c.WaitLimit = 10 * time.Millisecond })
	fault := faultblob.New(v.store)
	v.store = fault
	v.open()
	c := v.create("c", 3, "l2")
	v.flushNew(c, some(0, 10))
	pin, err := c.takeSnapshot(ctx, "", false)
	if err != nil {
		t.Fatal(err)
	}
	v.mustUpsert(c, some(10, 5))
	fault.Down()
	_, err = c.restore(ctx, pin)
	if e := asWriteError(err); e.Code != "store_unavailable" || e.Applied != httpapi.NotApplied {
		t.Errorf("restore without the store: %v", err)
	}
	v.mustUpsert(c, some(15, 5))
	fault.Up()
	v.flush(c)
	v.check(c, some(0, 20))
}

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
	pin, err := c.takeSnapshot(ctx, "kept", true)
	if err != nil {
		t.Fatal(err)
	}
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
	pin, err := c.takeSnapshot(ctx, "", false)
	if err != nil {
		t.Fatal(err)
	}
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
	v := newWorld(t, func(c *Config) { c.GarbageGrace = time.Minute; c.OrphanEvery = time.Nanosecond })
	fault := faultblob.New(v.store)
	v.store = fault
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
	pin, err := b.takeSnapshot(ctx, "", false)
	if err != nil {
		t.Fatal(err)
	}
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
	fault := faultblob.New(v.store)
	v.store = fault
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

func TestSnapshotsOverHTTP(t *testing.T) {
	s := newSite(t, nil)
	s.movies("l2")
	s.want(s.do("POST", "/collections/movies/vectors", `{"vectors":[{"id":"a","vector":[1,2,3]},{"id":"b","vector":[1,2,4]}]}`), 200)
	first := s.want(s.do("POST", "/admin/collections/movies/snapshots", `{"name":"first","export":true}`), 201)
	if first.body["vector_count"] != 2.0 || first.body["name"] != "first" || first.body["snapshot_id"] == "" {
		t.Errorf("snapshot: %s", first.raw)
	}
	id, _ := first.body["snapshot_id"].(string)
	s.want(s.do("DELETE", "/collections/movies/vectors/a", nil), 200)
	s.want(s.do("POST", "/admin/collections/movies/snapshots", nil), 201)
	list := s.want(s.do("GET", "/admin/collections/movies/snapshots", nil), 200)
	if all, _ := list.body["snapshots"].([]any); len(all) != 2 {
		t.Errorf("list: %s", list.raw)
	}
	for body, want := range map[string]struct {
		status int
		code   string
	}{
		`{"name":"first"}`:  {409, "name_taken"},
		`{"name":"latest"}`: {422, "invalid_name"},
		`{"name":"Not OK"}`: {422, "invalid_name"},
		`{"nme":"x"}`:       {400, ""},
	} {
		r := s.want(s.do("POST", "/admin/collections/movies/snapshots", body), want.status)
		if want.code != "" && r.errorField("code") != want.code || r.header.Get("X-AkiDB-Write-Applied") != "false" {
			t.Errorf("%s: %s, applied %q", body, r.raw, r.header.Get("X-AkiDB-Write-Applied"))
		}
	}
	for _, which := range []string{id, "first", "latest"} {
		r := s.want(s.do("POST", "/admin/collections/movies/restore", fmt.Sprintf(`{"snapshot_id":%q}`, which)), 200)
		want := 2.0
		if which == "latest" {
			want = 1
		}
		if r.body["vector_count"] != want {
			t.Errorf("restored %s: %s, want %v rows", which, r.raw, want)
		}
		r.token(t)
	}
	if r := s.want(s.do("POST", "/admin/collections/movies/restore", `{"snapshot_id":"none"}`), 404); r.errorField("code") != "snapshot_not_found" {
		t.Errorf("restore of none: %s", r.raw)
	}
	if r := s.want(s.do("POST", "/admin/collections/movies/restore", `{}`), 422); r.errorField("field") != "snapshot_id" {
		t.Errorf("restore without: %s", r.raw)
	}
	r := s.want(s.do("POST", "/admin/collections/movies/branch", `{"name":"films","snapshot_id":"first"}`), 201)
	if r.body["vector_count"] != 2.0 || r.body["name"] != "films" {
		t.Errorf("branch: %s", r.raw)
	}
	if r := s.want(s.do("POST", "/admin/collections/movies/branch", `{"name":"films"}`), 409); r.errorField("code") != "name_taken" {
		t.Errorf("branch with a name that is taken: %s", r.raw)
	}
	if r := s.want(s.do("DELETE", "/collections/movies", nil), 409); r.errorField("code") != "collection_has_branches" {
		t.Errorf("drop: %s", r.raw)
	}
	s.want(s.do("DELETE", "/admin/collections/movies/snapshots/first", nil), 204)
	s.want(s.do("DELETE", "/admin/collections/movies/snapshots/first", nil), 404)
}

func TestTooManySnapshots(t *testing.T) {
	ctx := context.Background()
	v := newWorld(t, nil)
	v.open()
	c := v.create("c", 3, "l2")
	err := c.change(ctx, "test", func(cur manifest.Current, next *manifest.Snapshot) error {
		for i := range maxPins - 1 {
			next.Pins = append(next.Pins, manifest.Pin{ID: fmt.Sprintf("p%d", i), Manifest: cur.Manifest, CreatedAt: v.clock.now()})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.takeSnapshot(ctx, "", false); err != nil {
		t.Errorf("the last there can be: %v", err)
	}
	if _, err := c.takeSnapshot(ctx, "", false); asWriteError(err).Code != "too_many_snapshots" {
		t.Errorf("one more: %v", err)
	}
}

// The description of a snapshot is as the document of formats has it.
func TestDescriptionDocument(t *testing.T) {
	ctx := context.Background()
	v := newWorld(t, nil)
	v.open()
	c := v.create("c", 3, "l2")
	pin, err := c.takeSnapshot(ctx, "named", false)
	if err != nil {
		t.Fatal(err)
	}
	b, _, err := v.store.Get(ctx, manifest.SnapshotKey(c.meta.ID, pin.ID))
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	var fields []string
	for name, value := range got {
		inner, ok := value.(map[string]any)
		if !ok {
			fields = append(fields, name)
		}
		for below := range inner {
			fields = append(fields, name+"."+below)
		}
	}
	document, err := os.ReadFile("../segments/manifest/FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(document), "\n## Snapshot\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var want []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(section, -1) {
		want = append(want, m[1])
	}
	slices.Sort(fields)
	slices.Sort(want)
	if !slices.Equal(fields, want) {
		t.Errorf("the object has %q, the document %q", fields, want)
	}
}

// A collection that a program of format 2 left behind has no digest and no
// links, and works: it is written, merged, kept, restored, branched and verified.
func TestCollectionOfFormat2(t *testing.T) {
	ctx := context.Background()
	v := newWorld(t, nil)
	v.open()
	c := v.create("c", 3, "l2")
	v.flushNew(c, some(0, 10))
	v.stop()
	v.downgrade(c)
	v.open()
	c = v.collection("c")
	if s := c.log.Snapshot(); s.SetDigest != nil || s.Format != manifest.FormatVersion {
		t.Fatalf("got %+v", s)
	}
	v.flushNew(c, some(5, 10))
	pin, err := c.takeSnapshot(ctx, "", true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.deleteIDs(ctx, deletion{ids: []string{"row-1", "row-7"}}); err != nil {
		t.Fatal(err)
	}
	v.flush(c)
	if err := c.compactAll(); err != nil {
		t.Fatal(err)
	}
	b, err := v.w.branch(ctx, c, "b", &pin)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.restore(ctx, pin); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*collection{c, b} {
		if err := compare(v.writerSees(c), some(0, 15)); err != nil {
			t.Error(err)
		}
	}
	report, err := verify.Store(ctx, v.store, verify.Options{Now: v.clock.now})
	if err != nil || len(report.Problems) > 0 {
		t.Errorf("verify: %+v, %v", report, err)
	}
}

// downgrade rewrites the newest version of a collection, which is not its first,
// as format 2 has it.
func (v *world) downgrade(c *collection) {
	v.t.Helper()
	ctx := context.Background()
	must := func(err error) {
		v.t.Helper()
		if err != nil {
			v.t.Fatal(err)
		}
	}
	edit := func(b []byte, change func(map[string]json.RawMessage)) []byte {
		var object map[string]json.RawMessage
		must(json.Unmarshal(b, &object))
		object["format"] = json.RawMessage("2")
		change(object)
		out, err := json.MarshalIndent(object, "", "  ")
		must(err)
		return out
	}
	put := func(key string, b []byte) {
		_, err := v.store.Put(ctx, key, strings.NewReader(string(b)), int64(len(b)), blob.Condition{})
		must(err)
	}
	current, _, err := v.store.Get(ctx, manifest.CurrentKey(c.meta.ID))
	must(err)
	link := c.log.Current().Manifest
	body, _, err := v.store.Get(ctx, link.Key)
	must(err)
	body = edit(body, func(o map[string]json.RawMessage) {
		delete(o, "set_digest")
		delete(o, "ancestors")
	})
	put(link.Key, body)
	must(v.store.Delete(ctx, c.log.Snapshot().Parent.Key)) // the rest of the chain was collected
	sum := sha256.Sum256(body)
	link.SHA256 = hex.EncodeToString(sum[:])
	current = edit(current, func(o map[string]json.RawMessage) {
		delete(o, "crc32c")
		o["manifest"], err = json.Marshal(link)
		must(err)
	})
	current = []byte(strings.TrimSuffix(string(current), "\n}"))
	put(manifest.CurrentKey(c.meta.ID), append(current, sealOf(current)...))
}
