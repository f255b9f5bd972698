package writer

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/internal/memtable"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/faultblob"
	"github.com/akidb/akidb/segments/manifest"
	"github.com/akidb/akidb/writer/wal"
)

// remote is a world whose store can be made to go away.
func remote(t *testing.T, tune func(*Config)) (v *world, fault *faultblob.Store) {
	v = newWorld(t, tune)
	fault = v.faulty()
	return v, fault
}

func (v *world) awaitJoined() {
	v.t.Helper()
	eventually(v.t, func() bool {
		if err := v.w.Err(); err != nil {
			v.t.Fatal(err)
		}
		return v.w.joined.Load()
	})
}

// tailSees is what a process sees that has only the tail.
func (v *world) tailSees(c *collection) map[string]item {
	v.t.Helper()
	b, err := v.w.Tail(context.Background(), c.meta.ID, 0)
	if err != nil {
		v.t.Fatal(err)
	}
	d, err := memtable.DecodeDelta(b, c.meta.Dimension)
	if err != nil {
		v.t.Fatal(err)
	}
	out := map[string]item{}
	for _, op := range d.Ops {
		if !op.Delete {
			out[op.ID] = item{op.Vector, string(op.Metadata)}
		}
	}
	return out
}

// TestStartWithoutTheStore: writes are acknowledged, the tail is served, what
// needs the store is refused for certain, and all is well when it is back.
func TestStartWithoutTheStore(t *testing.T) {
	for name, end := range map[string]func(*world){"stopped": (*world).stop, "killed": (*world).kill} {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			v, fault := remote(t, neverByItself)
			v.open()
			c := v.create("c", 3, "l2")
			v.flushNew(c, some(0, 10))
			v.mustUpsert(c, some(10, 10))
			was := c.epoch()
			end(v)
			fault.Down()
			v.open()
			c = v.collection("c")
			want := some(0, 20)
			for i := range 3 {
				rows := some(15+10*i, 10)
				v.mustUpsert(c, rows)
				maps.Copy(want, rows)
				if err := compare(v.tailSees(c), func() map[string]item {
					m := maps.Clone(want)
					maps.DeleteFunc(m, func(id string, _ item) bool { _, flushed := some(0, 10)[id]; return flushed })
					return m
				}()); err != nil {
					t.Fatalf("the tail: %v", err)
				}
				if s := v.w.Summaries()[0]; s.Epoch != was || s.Seq != 30+uint64(10*i) || s.FlushedSeq != 10 {
					t.Errorf("summary %+v", s)
				}
				end(v) // and once more
				v.open()
				c = v.collection("c")
			}
			for what, err := range map[string]error{
				"patch":    second(c.patch(ctx, "row-1", []byte(`{"a":1}`), request{})),
				"delete":   second(c.deleteIDs(ctx, deletion{ids: []string{"row-1"}})),
				"filter":   second(c.deleteMatching(ctx, nil, request{})),
				"create":   second(v.w.create(ctx, manifest.Collection{Name: "d", Dimension: 3, Metric: "l2"})),
				"drop":     v.w.drop(ctx, c),
				"describe": second(c.info(ctx)),
			} {
				if e := asWriteError(err); e.Status != 503 || e.Code != "store_unavailable" || e.Applied != httpapi.NotApplied {
					t.Errorf("%s: %v, want 503 store_unavailable, not applied", what, err)
				}
			}
			v.w.Sweep(ctx)
			fault.Up()
			v.awaitJoined()
			v.check(c, want)
			if got := c.epoch(); got != was+1 {
				t.Errorf("epoch %d, want %d", got, was+1)
			}
			if _, err := c.deleteIDs(ctx, deletion{ids: []string{"row-1"}}); err != nil {
				t.Fatal(err)
			}
			delete(want, "row-1")
			v.flush(c)
			v.check(c, want)
			v.create("d", 3, "l2")
			end(v)
			v.open()
			v.check(v.collection("c"), want)
		})
	}
}

func second[T any](_ T, err error) error { return err }

// TestHTTPWithoutTheStore: what clients are told.
func TestHTTPWithoutTheStore(t *testing.T) {
	s, fault := owned(t)
	s.want(s.upsertMovie(), 200)
	s.kill()
	fault.Down()
	s.serve()
	s.want(s.upsertMovie(), 200)
	for _, c := range []struct {
		method, path, body string
		headers            []string
	}{
		{"POST", "/collections/movies/vectors", oneMovie, []string{"X-AkiDB-Durability", "object"}},
		{"PATCH", "/collections/movies/vectors/a", `{"metadata":{"x":1}}`, nil},
		{"DELETE", "/collections/movies/vectors/a", "", nil},
		{"POST", "/collections/movies/vectors/delete", `{"filter":{"must":[]}}`, nil},
		{"POST", "/admin/collections/movies/flush", "", nil},
		{"POST", "/admin/collections/movies/compact", "", nil},
		{"DELETE", "/collections/movies", "", nil},
		{"POST", "/collections", `{"name":"x","dimension":3,"metric":"l2"}`, nil},
	} {
		r := s.do(c.method, c.path, c.body, c.headers...)
		if r.status != 503 || r.errorField("code") != "store_unavailable" || r.header.Get("X-AkiDB-Write-Applied") != "false" || r.header.Get("Retry-After") == "" {
			t.Errorf("%s %s: %d %s, applied %q", c.method, c.path, r.status, r.raw, r.header.Get("X-AkiDB-Write-Applied"))
		}
	}
	if n := len(s.tailSees(s.collection("movies"))); n != 1 {
		t.Errorf("%d rows in the tail", n)
	}
	fault.Up()
	s.awaitJoined()
	s.want(s.do("POST", "/admin/collections/movies/flush", ""), 200)
}

// TestManifestAheadOfTheCatalog: the process died between a commit and writing
// it down. What the manifest has is a prefix of what is replayed.
func TestManifestAheadOfTheCatalog(t *testing.T) {
	for name, c := range map[string]struct {
		before, after, alone int // batches of 10 rows: flushed unnoticed, not flushed, written without the store
	}{
		"all of it": {3, 0, 0}, "all, then more": {3, 0, 2}, "some of it": {2, 2, 2}, "none": {0, 3, 1},
	} {
		for tables, flushBytes := range map[string]int64{"one table": 1 << 20, "several": 2500} {
			t.Run(name+", "+tables, func(t *testing.T) {
				v, fault := remote(t, func(c *Config) { c.FlushAge = time.Hour })
				v.open()
				col := v.create("c", 3, "l2")
				v.flushNew(col, some(0, 10))
				file := filepath.Join(v.dir, localName)
				old, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				want, row := some(0, 10), 5 // overlapping
				write := func(batches int) {
					for range batches {
						rows := some(row, 10)
						v.mustUpsert(col, rows)
						maps.Copy(want, rows)
						row += 5
					}
				}
				write(c.before)
				v.flush(col)
				flushed := col.state().view.Snapshot.FlushedSeq
				write(c.after)
				v.kill()
				if err := os.WriteFile(file, old, 0o644); err != nil {
					t.Fatal(err)
				}
				fault.Down()
				tune := v.tune
				v.tune = func(c *Config) { tune(c); c.FlushBytes = flushBytes }
				v.open()
				col = v.collection("c")
				write(c.alone)
				v.tune = tune
				// No flush may hide what the claim leaves.
				fault.Inject(faultblob.All(faultblob.On(faultblob.Put), faultblob.Key("**/segments/*/*"), faultblob.First(1000)), faultblob.Fail(blob.ErrUnavailable))
				fault.Up()
				v.awaitJoined()
				s := col.state()
				if s.base() < flushed {
					t.Errorf("the tables begin after %d, the manifest has up to %d", s.base(), flushed)
				}
				if got, want := s.seq, uint64(10*(1+c.before+c.after+c.alone)); got != want {
					t.Errorf("seq %d, want %d", got, want)
				}
				var bytes int64
				col.mu.RLock()
				for _, table := range append(col.frozen[:len(col.frozen):len(col.frozen)], col.active) {
					bytes += table.Bytes()
				}
				col.mu.RUnlock()
				if got := v.w.unflushed.Load(); got != bytes {
					t.Errorf("%d bytes are counted, the tables have %d", got, bytes)
				}
				v.check(col, want)
				v.kill()
				v.open()
				v.check(v.collection("c"), want)
			})
		}
	}
}

// TestEmptyLogWithoutTheStore: nothing but the local catalog knows where the
// sequence numbers go on.
func TestEmptyLogWithoutTheStore(t *testing.T) {
	v, fault := remote(t, func(c *Config) { c.WAL.FileBytes = 8 << 10; c.FlushAge = time.Hour })
	v.open()
	c, other := v.create("c", 3, "l2"), v.create("other", 3, "l2")
	v.flushNew(c, some(0, 100))
	for v.w.log.Stats().Removed == 0 { // the file with c's records goes
		v.mustUpsert(other, some(0, 50))
		v.flush(other)
	}
	v.kill()
	fault.Down()
	v.open()
	c = v.collection("c")
	v.mustUpsert(c, some(90, 20))
	if got := c.state().seq; got != 120 {
		t.Errorf("goes on to seq %d, want 120", got)
	}
	fault.Up()
	v.awaitJoined()
	v.check(c, some(0, 110))
}

// TestModelWithColdStarts kills the process and takes the store away at random.
func TestModelWithColdStarts(t *testing.T) {
	forSeeds(t, 6, func(t *testing.T, seed uint64) {
		v, fault := remote(t, func(c *Config) {
			smallTiers(c)
			c.WAL.FileBytes, c.FlushBytes, c.JobAttempts = 8<<10, 3000, 3
		})
		p := newPlayer(v, seed)
		for range 12 {
			for range p.rng.IntN(12) {
				p.step()
			}
			fault.Down()
			for range 1 + p.rng.IntN(3) {
				p.restart(p.rng.IntN(2) == 0)
				for range p.rng.IntN(6) {
					p.doUpsert()
				}
			}
			fault.Up()
			v.awaitJoined()
			p.check(p.c, p.model)
		}
		p.audit()
	})
}

// TestTakenOverWhileTheStoreWasAway: it had no right to what it took.
func TestTakenOverWhileTheStoreWasAway(t *testing.T) {
	v, fault := remote(t, neverByItself)
	v.open()
	c := v.create("c", 3, "l2")
	v.mustUpsert(c, some(0, 10))
	v.kill()
	if _, err := Takeover(context.Background(), Config{Store: v.store, DataDir: t.TempDir(), unseatWait: 1}); err != nil {
		t.Fatal(err)
	}
	fault.Down()
	v.open()
	v.mustUpsert(v.collection("c"), some(10, 10))
	fault.Up()
	<-v.w.Done()
	var exit *ExitError
	if !errors.As(v.w.Err(), &exit) || exit.ExitCode() != 3 {
		t.Errorf("stops with %v, want exit code 3", v.w.Err())
	}
}

// TestStartWithoutStoreAndCatalog is refused, as is one whose log has what nobody
// knows.
func TestStartWithoutStoreAndCatalog(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, b []byte) []byte{
		"gone":    func(*testing.T, []byte) []byte { return nil },
		"damaged": func(_ *testing.T, b []byte) []byte { b[20] ^= 4; return b },
		"of another cluster": func(t *testing.T, b []byte) []byte {
			return resealed(t, b, func(f *localFile) { f.ClusterID = "other" })
		},
		"without the collection": func(t *testing.T, b []byte) []byte {
			return resealed(t, b, func(f *localFile) { f.Collections = nil })
		},
	} {
		t.Run(name, func(t *testing.T) {
			v, fault := remote(t, neverByItself)
			v.open()
			v.mustUpsert(v.create("c", 3, "l2"), some(0, 10))
			v.stop()
			file := filepath.Join(v.dir, localName)
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if b = damage(t, b); b == nil {
				err = os.Remove(file)
			} else {
				err = os.WriteFile(file, b, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
			fault.Down()
			if err := v.openFails(1); !errors.Is(err, blob.ErrUnavailable) {
				t.Errorf("got %v, want it to be for the store", err)
			}
			fault.Up()
			v.open() // with the store nobody needs it
			v.check(v.collection("c"), some(0, 10))
		})
	}
}

// resealed is a catalog file with a change that its seal agrees with.
func resealed(t *testing.T, b []byte, change func(*localFile)) []byte {
	t.Helper()
	dir := t.TempDir()
	name := filepath.Join(dir, "x")
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
	body, err := readFile(wal.OS(), name)
	if err != nil {
		t.Fatal(err)
	}
	file, err := decodeLocal(body)
	if err != nil {
		t.Fatal(err)
	}
	change(&file)
	k := newLocalCatalog(wal.OS(), dir)
	k.cluster, k.changes = file.ClusterID, 1
	for _, c := range file.Collections {
		k.known[c.Collection.ID] = c
	}
	k.mu.Lock()
	if err := k.save(); err != nil {
		t.Fatal(err)
	}
	b, err = os.ReadFile(k.name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestDropThenStartWithoutTheStore: its records may still be in the log.
func TestDropThenStartWithoutTheStore(t *testing.T) {
	ctx := context.Background()
	v, fault := remote(t, neverByItself)
	v.open()
	c, other := v.create("c", 3, "l2"), v.create("other", 3, "l2")
	v.mustUpsert(c, some(0, 10))
	v.mustUpsert(other, some(0, 3))
	if err := v.w.drop(ctx, c); err != nil {
		t.Fatal(err)
	}
	v.kill()
	fault.Down()
	v.open()
	if n := len(v.w.catalog.all()); n != 1 {
		t.Errorf("%d collections, want the other one", n)
	}
	v.mustUpsert(v.collection("other"), some(3, 3))
	fault.Up()
	v.awaitJoined()
	v.check(v.collection("other"), some(0, 6))
	if n := len(v.w.catalog.all()); n != 1 {
		t.Errorf("%d collections", n)
	}
}

// TestHalfADropThenStartWithoutTheStore: it was written down and not committed.
// The collection must take no writes meanwhile, and must not be lost.
func TestHalfADropThenStartWithoutTheStore(t *testing.T) {
	v, fault := remote(t, neverByItself)
	v.open()
	c := v.create("c", 3, "l2")
	v.mustUpsert(c, some(0, 10))
	if err := v.w.local.drop(c.meta.ID); err != nil {
		t.Fatal(err)
	}
	v.kill()
	fault.Down()
	v.open()
	if _, err := v.w.catalog.find("c"); err == nil {
		t.Error("it is served")
	}
	fault.Up()
	<-v.w.Done()
	if err := v.w.Err(); !strings.Contains(err.Error(), "start again") {
		t.Errorf("stops with %v", err)
	}
	v.kill()
	v.open()
	v.check(v.collection("c"), some(0, 10))
}

// TestSameNumbersTwice: a manifest that is ahead of the log, whose tail a repair
// gave up. What was taken under the same numbers is not silently dropped.
func TestSameNumbersTwice(t *testing.T) {
	v, fault := remote(t, neverByItself)
	v.open()
	c := v.create("c", 3, "l2")
	v.flushNew(c, some(0, 10))
	v.stop()
	fault.Down()
	v.open()
	c = v.collection("c")
	c.order.Lock()
	c.nextSeq = 5
	c.order.Unlock()
	c.mu.Lock()
	c.active = memtable.New(3, 4)
	c.mu.Unlock()
	c.taken = 1
	fault.Up()
	<-v.w.Done()
	if err := v.w.Err(); !strings.Contains(err.Error(), "the same numbers") {
		t.Errorf("stops with %v", err)
	}
}

// noCatalogFS cannot write the local catalog.
type noCatalogFS struct{ wal.FS }

func (f noCatalogFS) Create(name string) (wal.File, error) {
	if strings.HasPrefix(filepath.Base(name), localName) {
		return nil, &os.PathError{Op: "create", Path: name, Err: errDead}
	}
	return f.FS.Create(name)
}

// TestCatalogThatCannotBeWritten is removed before it lies, and the log still
// gets rid of what was flushed.
func TestCatalogThatCannotBeWritten(t *testing.T) {
	v, fault := remote(t, func(c *Config) { c.WAL.FileBytes = 8 << 10; c.FlushAge = time.Hour })
	v.open()
	v.flushNew(v.create("c", 3, "l2"), some(0, 10))
	v.stop()
	tune := v.tune
	v.tune = func(c *Config) { tune(c); c.FS = noCatalogFS{c.FS} }
	v.open()
	c := v.collection("c")
	if _, err := os.Stat(filepath.Join(v.dir, localName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old one is still there: %v", err)
	}
	for v.w.log.Stats().Removed == 0 {
		v.flushNew(c, some(0, 100))
	}
	v.kill()
	fault.Down()
	if err := v.openFails(1); !errors.Is(err, blob.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	fault.Up()
	v.tune = tune
	v.open()
	v.check(v.collection("c"), some(0, 100))
}

func TestDecodeLocalIsStrict(t *testing.T) {
	entry := `{"collection":{"id":"01M8DZ2NM31WHG0WGT220BV16F","name":"c","dimension":3,"metric":"l2","created_at":"2026-01-01T00:00:00Z"},"epoch":1,"flushed_seq":0}`
	whole := `{"format":1,"cluster_id":"x","collections":[` + entry + `],"dropped":["y"]}`
	if f, err := decodeLocal([]byte(whole)); err != nil || len(f.Collections) != 1 || f.Collections[0].Collection.Dimension != 3 {
		t.Fatalf("%+v, %v", f, err)
	}
	for old, bad := range map[string]string{
		`"format":1`: `"format":2`, `"cluster_id":"x"`: `"cluster_id":""`, `"epoch":1`: `"epoch":0`, `"dimension":3`: `"dimension":0`,
		`"name":"c"`: `"name":""`, `01M8DZ2NM31WHG0WGT220BV16F`: `nobody/..`, `"dropped"`: `"dripped"`, entry: entry + "," + entry,
	} {
		if _, err := decodeLocal([]byte(strings.Replace(whole, old, bad, 1))); err == nil {
			t.Errorf("accepted %s", bad)
		}
	}
}

// TestWritesDuringTheClaim: the epoch changes, tables are cut and the first
// flushes begin while rows come in.
func TestWritesDuringTheClaim(t *testing.T) {
	v, fault := remote(t, func(c *Config) { c.FlushBytes, c.FlushAge, c.TierSegments = 4000, time.Hour, 3 })
	v.open()
	v.flushNew(v.create("c", 3, "l2"), some(0, 10))
	for round := range 5 {
		v.kill()
		fault.Down()
		v.open()
		c := v.collection("c")
		want := v.tailSees(c)
		for id, it := range some(0, 10) {
			want[id] = it
		}
		for id, it := range some(100, 4*50*round) {
			want[id] = it
		}
		var writers sync.WaitGroup
		begun := make(chan struct{}, 4)
		for i := range 4 {
			writers.Go(func() {
				for n := range 50 {
					if err := v.upsert(c, some(100+200*round+50*i+n, 1)); err != nil {
						t.Error(err)
						return
					}
					if n == 5 {
						begun <- struct{}{}
					}
				}
			})
		}
		<-begun
		fault.Up()
		writers.Wait()
		v.awaitJoined()
		maps.Copy(want, some(100+200*round, 200))
		v.check(c, want)
		v.flush(c)
		v.check(c, want)
	}
}
