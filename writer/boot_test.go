package writer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/faultblob"
	"github.com/akidb/akidb/segments/manifest"
	"github.com/akidb/akidb/writer/wal"
)

// openFails opens a Writer that must refuse, and returns why.
func (v *world) openFails(code int) error {
	v.t.Helper()
	w, err := Open(context.Background(), v.config())
	if err == nil {
		_ = w.Close(context.Background())
		v.t.Fatal("opened, want a refusal")
	}
	var exit interface{ ExitCode() int }
	if !errors.As(err, &exit) || exit.ExitCode() != code {
		v.t.Fatalf("exit code of %v: want %d", err, code)
	}
	return err
}

// other is a second data directory on the same store.
func (v *world) other() *world {
	o := newWorld(v.t, v.tune)
	o.store, o.clock = v.store, v.clock
	return o
}

func TestFencing(t *testing.T) {
	ctx := context.Background()
	a := newWorld(t, nil)
	a.open()
	c := a.create("c", 3, "l2")
	a.flushNew(c, some(0, 10))
	b := a.other()
	if err := b.openFails(3); !errors.Is(err, manifest.ErrFenced) || !strings.Contains(err.Error(), "akidb takeover --accept-loss") || !strings.Contains(err.Error(), a.w.owner) {
		t.Errorf("second writer: %v", err)
	}
	a.mustUpsert(c, some(10, 5)) // acknowledged, and about to be lost: only a's log has them

	if _, err := Takeover(ctx, b.config()); err != nil {
		t.Fatal(err)
	}
	b.open()
	taken := b.collection("c")
	b.check(taken, some(0, 10))
	b.flushNew(taken, some(50, 5))
	version := taken.log.Snapshot().Version

	go func() { _ = c.flushTo(a.w.ctx, 15) }()
	<-a.w.Done()
	var exit *ExitError
	if err := a.w.Err(); !errors.As(err, &exit) || exit.ExitCode() != 3 || !errors.Is(err, manifest.ErrFenced) {
		t.Errorf("the first writer ends with %v", err)
	}
	if err := a.upsert(c, some(20, 1)); !errors.Is(err, errStopped) || asWriteError(err).Applied != httpapi.NotApplied {
		t.Errorf("a write after that: %v", err)
	}
	a.stop()
	if got := taken.log.Snapshot().Version; got != version {
		t.Errorf("version went from %d to %d", version, got)
	}
	want := some(0, 10)
	maps.Copy(want, some(50, 5))
	b.check(taken, want)
	a.openFails(3)

	// Back again, with the log that still has the lost rows: they must not return.
	b.stop()
	if _, err := Takeover(ctx, a.config()); err == nil || !strings.Contains(err.Error(), "empty data directory") {
		t.Errorf("takeover with an old log: %v", err)
	}
	b.open()
	b.check(b.collection("c"), want)
}

// TestTwoWritersOnAnEmptyStore: neither owns a collection yet, and still only one
// may create them, or a name could mean two.
func TestTwoWritersOnAnEmptyStore(t *testing.T) {
	a := newWorld(t, nil)
	a.open()
	b := a.other()
	if err := b.openFails(3); !errors.Is(err, manifest.ErrFenced) || !strings.Contains(err.Error(), a.w.owner) {
		t.Errorf("second writer: %v", err)
	}
	if _, err := Takeover(context.Background(), b.config()); err != nil {
		t.Fatal(err)
	}
	b.open()
	b.create("c", 3, "l2")
	if _, err := a.w.create(context.Background(), manifest.Collection{Name: "c", Dimension: 3, Metric: "l2"}); !errors.Is(err, manifest.ErrFenced) {
		t.Errorf("a collection created by the writer that was taken over: %v", err)
	}
	<-a.w.Done()
	a.stop()
}

func TestLockedDataDirectory(t *testing.T) {
	v := newWorld(t, nil)
	v.open()
	second := newWorld(t, nil)
	second.store, second.dir = v.store, v.dir
	if err := second.openFails(1); !errors.Is(err, wal.ErrLocked) {
		t.Errorf("second process in one data directory: %v", err)
	}
}

func TestClusterFile(t *testing.T) {
	ctx := context.Background()
	v := newWorld(t, nil)
	v.open()
	first, _, err := v.store.Get(ctx, clusterKey)
	if err != nil || !bytes.Contains(first, []byte(`"cluster_id"`)) {
		t.Fatalf("%s: %v", first, err)
	}
	v.stop()
	v.open() // the same again
	v.stop()
	put := func(body string) {
		if _, err := v.store.Put(ctx, clusterKey, strings.NewReader(body), int64(len(body)), blob.Condition{}); err != nil {
			t.Fatal(err)
		}
	}
	put(strings.Replace(string(first), `"format": 1`, `"format": 2`, 1))
	if err := v.openFails(4); !errors.Is(err, manifest.ErrUnsupported) {
		t.Errorf("format 2: %v", err)
	}
	put(strings.Replace(string(first), fmt.Sprintf(`"manifest": %d`, manifest.FormatVersion), `"manifest": 9`, 1))
	v.openFails(4)
	put("{}")
	v.openFails(1)
	put(strings.Replace(string(first), `"cluster_id": "`, `"cluster_id": "x`, 1))
	if err := v.openFails(1); !strings.Contains(err.Error(), "belongs to cluster") {
		t.Errorf("another store: %v", err)
	}
	if err := v.store.Delete(ctx, clusterKey); err != nil {
		t.Fatal(err)
	}
	if err := v.openFails(1); !strings.Contains(err.Error(), "emptied") {
		t.Errorf("an emptied store: %v", err)
	}
	if _, err := v.store.Stat(ctx, clusterKey); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("a refused start wrote %q: %v", clusterKey, err)
	}
}

// TestNewerManifestIsRefused: a collection of a later version stops the start.
func TestNewerManifestIsRefused(t *testing.T) {
	ctx := context.Background()
	v := newWorld(t, nil)
	v.open()
	c := v.create("c", 3, "l2")
	v.stop()
	key := manifest.CurrentKey(c.meta.ID)
	b, _, err := v.store.Get(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	b = bytes.Replace(b, fmt.Appendf(nil, `"format": %d`, manifest.FormatVersion), fmt.Appendf(nil, `"format": %d`, manifest.FormatVersion+1), 1)
	// The seal is over everything before it.
	at := bytes.LastIndex(b, []byte(",\n  \"crc32c\""))
	b = append(b[:at:at], []byte(sealOf(b[:at]))...)
	if _, err := v.store.Put(ctx, key, bytes.NewReader(b), int64(len(b)), blob.Condition{}); err != nil {
		t.Fatal(err)
	}
	v.openFails(4)
}

func TestTokensAndSeqGoOnAfterRestart(t *testing.T) {
	v := newWorld(t, nil)
	v.open()
	c := v.create("c", 3, "l2")
	v.flushNew(c, some(0, 10))
	v.mustUpsert(c, some(0, 5))
	for i, stop := range []func(){v.stop, v.kill} {
		stop()
		v.open()
		c = v.collection("c")
		if c.state().seq != 15 || c.epoch() != uint64(i+2) {
			t.Errorf("seq %d in epoch %d, want 15 in %d", c.state().seq, c.epoch(), i+2)
		}
	}
	v.check(c, some(0, 10))
}

// TestLostRecordsAreNoticed: a log that begins beyond what the store has.
func TestLostRecordsAreNoticed(t *testing.T) {
	v := newWorld(t, nil)
	v.open()
	c := v.create("c", 3, "l2")
	c.order.Lock()
	c.nextSeq = 5 // as if four writes had been there
	c.order.Unlock()
	v.mustUpsert(c, some(0, 1))
	v.stop()
	if err := v.openFails(1); !strings.Contains(err.Error(), "goes on with seq 5, want 1") {
		t.Errorf("a gap: %v", err)
	}
}

func TestDropReclaims(t *testing.T) {
	ctx := context.Background()
	v := newWorld(t, func(c *Config) { c.GarbageGrace = time.Minute })
	v.open()
	c := v.create("c", 3, "l2")
	v.flushNew(c, some(0, 10))
	v.mustUpsert(c, some(0, 5))
	if err := v.w.drop(ctx, c); err != nil {
		t.Fatal(err)
	}
	if _, err := v.w.catalog.find("c"); err == nil {
		t.Error("still known by name")
	}
	if err := v.upsert(c, some(0, 1)); err == nil {
		t.Error("a dropped collection took a write")
	}
	if got := v.w.unflushed.Load(); got != 0 {
		t.Errorf("%d bytes of memtables are left", got)
	}
	left := v.left(c)
	if len(left) != 2 || left[0] != manifest.CurrentKey(c.meta.ID) || left[1] != c.log.Current().Manifest.Key {
		t.Errorf("left before the grace is over: %v", left)
	}
	again := v.create("c", 4, "dot") // the name is free
	v.clock.advance(time.Minute)
	v.w.Sweep(ctx)
	if left := v.left(c); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	v.kill()
	v.open()
	if got := v.collection("c").meta.ID; got != again.meta.ID {
		t.Errorf("found %s, want %s", got, again.meta.ID)
	}
	if n := len(v.w.catalog.all()); n != 1 {
		t.Errorf("%d collections", n)
	}
}

func (v *world) left(c *collection) []string {
	v.t.Helper()
	var keys []string
	for o, err := range blob.Objects(context.Background(), v.store, blob.Listing{Prefix: manifest.CollectionPrefix(c.meta.ID)}) {
		if err != nil {
			v.t.Fatal(err)
		}
		keys = append(keys, o.Key)
	}
	return keys
}

// TestDropIsResumed: the process dies, or the store goes away, with the removal
// half done.
func TestDropIsResumed(t *testing.T) {
	ctx := context.Background()
	v := newWorld(t, func(c *Config) { c.GarbageGrace = time.Minute })
	fault := v.faulty()
	v.open()
	c := v.create("c", 3, "l2")
	v.flushNew(c, some(0, 10))
	v.flushNew(c, some(20, 10))
	rule := fault.Inject(faultblob.All(faultblob.On(faultblob.Delete), faultblob.After(1)), faultblob.Fail(blob.ErrUnavailable))
	if err := v.w.drop(ctx, c); err != nil {
		t.Fatal(err)
	}
	if n := len(v.left(c)); n <= 2 || rule.Fired() == 0 {
		t.Fatalf("%d objects are left, want the removal to have failed", n)
	}
	fault.Remove(rule)
	v.kill()
	v.open()
	if n := len(v.w.catalog.all()); n != 0 {
		t.Errorf("%d collections after the drop", n)
	}
	v.w.Sweep(ctx)
	if n := len(v.left(c)); n != 2 {
		t.Errorf("%d objects are left, want CURRENT and its body", n)
	}
	v.clock.advance(time.Minute)
	v.w.Sweep(ctx)
	if left := v.left(c); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	v.stop()
	v.open() // records of a collection that nobody knows are given up
}

// TestCreateUnknown: the reply to the creation is lost for longer than the
// client waits.
func TestCreateUnknown(t *testing.T) {
	ctx := context.Background()
	v := newWorld(t, nil)
	fault := v.faulty()
	v.open()
	gate := faultblob.NewGate()
	fault.Inject(faultblob.All(faultblob.On(faultblob.Put), faultblob.Key("CURRENT")), faultblob.HoldReply(gate))
	v.w.cfg.WaitLimit = time.Nanosecond
	_, err := v.w.create(ctx, manifest.Collection{Name: "c", Dimension: 3, Metric: "l2"})
	if e := asWriteError(err); e.Status != 503 || e.Applied != httpapi.UnknownApplied {
		t.Errorf("create: %v", err)
	}
	<-gate.Arrived()
	_, err = v.w.create(ctx, manifest.Collection{Name: "c", Dimension: 3, Metric: "l2"})
	if e := asWriteError(err); e.Status != 409 || e.Applied != httpapi.NotApplied {
		t.Errorf("create while it is under way: %v", err)
	}
	gate.Open()
	for { // it comes by itself
		if c, err := v.w.catalog.find("c"); err == nil {
			v.mustUpsert(c, some(0, 1))
			break
		}
		if v.w.Err() != nil {
			t.Fatal(v.w.Err())
		}
	}
}

func TestPoisonedLogStopsTheWriter(t *testing.T) {
	v := newWorld(t, nil)
	v.open()
	c := v.create("c", 3, "l2")
	v.mustUpsert(c, some(0, 1))
	v.process.kill() // every write to the disk fails from here on
	err := v.upsert(c, some(1, 1))
	want := httpapi.UnknownApplied
	if errors.Is(err, wal.ErrPoisoned) { // the log's own housekeeping met it first
		want = httpapi.NotApplied
	}
	if e := asWriteError(err); e.Applied != want || e.Status != 503 {
		t.Errorf("write to a failing disk: %v, applied %q, want %q", err, e.Applied, want)
	}
	<-v.w.Done()
	if err := v.upsert(c, some(2, 1)); asWriteError(err).Applied != httpapi.NotApplied {
		t.Errorf("write after that: %v", err)
	}
	v.kill()
	v.open()
	v.check(v.collection("c"), some(0, 1))
}

func TestConfigReportsEverything(t *testing.T) {
	err := Config{FlushBytes: -1, FlushAge: -1, TierSegments: 1, DeadFraction: 2}.Validate()
	for _, want := range []string{"no store", "no data directory", "flush bytes", "flush age", "tier segments", "dead fraction"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in: %v", want, err)
		}
	}
}

func TestClusterMarkIsDurable(t *testing.T) {
	v := newWorld(t, nil)
	v.open()
	b, err := os.ReadFile(filepath.Join(v.dir, markName))
	if err != nil || len(strings.TrimSpace(string(b))) != 36 {
		t.Errorf("%q: %v", b, err)
	}
}

// sealOf is the end of a CURRENT object whose beginning is b.
func sealOf(b []byte) string {
	return fmt.Sprintf(",\n  \"crc32c\": \"%08x\"\n}\n", crc32.Checksum(b, blob.Castagnoli))
}

// overwriting is a store that takes no notice of conditions.
type overwriting struct{ blob.Store }

func (s overwriting) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, _ blob.Condition) (blob.Version, error) {
	return s.Store.Put(ctx, key, body, size, blob.Condition{})
}

// TestUnsoundStoreIsRefused, and nothing is left in it.
func TestUnsoundStoreIsRefused(t *testing.T) {
	v := newWorld(t, func(c *Config) { c.Store = overwriting{c.Store} })
	if err := v.openFails(exitFailed); !errors.Is(err, blob.ErrUnsound) || !strings.Contains(err.Error(), "would lose data") {
		t.Errorf("got %v, want %v", err, blob.ErrUnsound)
	}
	if _, err := Takeover(context.Background(), v.config()); !errors.Is(err, blob.ErrUnsound) {
		t.Errorf("takeover: got %v, want %v", err, blob.ErrUnsound)
	}
	if page, err := v.store.List(context.Background(), blob.Listing{}); err != nil || len(page.Objects) > 0 {
		t.Errorf("left in the store: %v, %v", page.Objects, err)
	}
	if left, err := os.ReadDir(v.dir); err != nil || len(left) > 0 {
		t.Errorf("left in the data directory: %v, %v", left, err)
	}
}

// A store that goes away while it is tried out is not called unsound.
func TestProbeWithoutStore(t *testing.T) {
	v := newWorld(t, nil)
	fault := faultblob.New(v.store)
	fault.Inject(faultblob.Key(probePrefix+"*/*/*"), faultblob.Fail(blob.ErrUnavailable))
	v.store = fault
	if err := v.openFails(exitFailed); !errors.Is(err, blob.ErrUnavailable) || errors.Is(err, blob.ErrUnsound) {
		t.Errorf("got %v, want %v", err, blob.ErrUnavailable)
	}
}
