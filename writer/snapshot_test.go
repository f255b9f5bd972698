package writer

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/segments/blob/faultblob"
	"github.com/akidb/akidb/segments/manifest"
)

// A merge that read its rows before a restore does not know of rows that the
// restore brought back, so its output must not take the place of theirs.
func TestRestoreDuringCompaction(t *testing.T) {
	ctx := context.Background()
	v := newWorld(t, func(c *Config) { c.TierSegments = 100; c.DeadFraction = 1 })
	fault := v.faulty()
	v.open()
	c := v.create("c", 3, "l2")
	v.flushNew(c, some(0, 10))
	v.flushNew(c, some(10, 10))
	want := v.writerSees(c)
	pin := v.snapshot(c, "before", false)
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
	pin := v.snapshot(c, "", false)
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
	v := newWorld(t, nil)
	fault := v.faulty()
	v.open()
	c := v.create("c", 3, "l2")
	v.flushNew(c, some(0, 10))
	pin := v.snapshot(c, "", false)
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
	fault := v.faulty()
	v.open()
	c := v.create("c", 3, "l2")
	v.flushNew(c, some(0, 10))
	pin := v.snapshot(c, "", false)
	v.mustUpsert(c, some(10, 5))
	fault.Down()
	_, err := c.restore(ctx, pin)
	if e := asWriteError(err); e.Code != "store_unavailable" || e.Applied != httpapi.NotApplied {
		t.Errorf("restore without the store: %v", err)
	}
	v.mustUpsert(c, some(15, 5))
	fault.Up()
	v.flush(c)
	v.check(c, some(0, 20))
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
	pin := v.snapshot(c, "named", false)
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
