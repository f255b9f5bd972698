package writer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/akidb/akidb/internal/memtable"
	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/faultblob"
	"github.com/akidb/akidb/segments/blob/fileblob"
	"github.com/akidb/akidb/segments/blob/memblob"
	"github.com/akidb/akidb/segments/columns"
	"github.com/akidb/akidb/segments/manifest"
	"github.com/akidb/akidb/writer/wal"
)

// The HTTP server has goroutines that look every few seconds whether it is gone.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"))
}

// mortal is a process that can be killed: from then on nothing of it reaches
// the disk or the store, and its locks are free.
type mortal struct {
	wal.FS
	blob.Store
	mu    sync.RWMutex // held for reading during each effect
	dead  bool
	locks []io.Closer

	effects atomic.Int64
	fuse    int // dies in place of this effect, counted from 1; 0 is never
}

var errDead = errors.New("killed")

func newMortal(store blob.Store) *mortal { return &mortal{FS: wal.OS(), Store: store} }

func (m *mortal) kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dead = true
	for _, l := range m.locks {
		_ = l.Close()
	}
	m.locks = nil
}

func (m *mortal) alive(effect func() error) error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.dead || m.fuse > 0 && m.effects.Add(1) >= int64(m.fuse) {
		return errDead
	}
	return effect()
}

func (m *mortal) file(open func(string) (wal.File, error), name string) (f wal.File, err error) {
	err = m.alive(func() error { f, err = open(name); return err })
	if err != nil {
		return nil, err
	}
	return &mortalFile{f, m}, nil
}

func (m *mortal) Create(name string) (wal.File, error) { return m.file(m.FS.Create, name) }
func (m *mortal) OpenReadWrite(name string) (wal.File, error) {
	return m.file(m.FS.OpenReadWrite, name)
}
func (m *mortal) Rename(a, b string) error { return m.alive(func() error { return m.FS.Rename(a, b) }) }
func (m *mortal) Remove(a string) error    { return m.alive(func() error { return m.FS.Remove(a) }) }

func (m *mortal) Lock(name string) (c io.Closer, err error) {
	if c, err = m.FS.Lock(name); err != nil {
		return nil, err
	}
	once := &onceCloser{Closer: c}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.locks = append(m.locks, once)
	return once, nil
}

type onceCloser struct {
	io.Closer
	once sync.Once
}

func (c *onceCloser) Close() (err error) {
	c.once.Do(func() { err = c.Closer.Close() })
	return err
}

func (m *mortal) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, cond blob.Condition) (v blob.Version, err error) {
	if probing(key) {
		return m.Store.Put(ctx, key, body, size, cond)
	}
	err = m.alive(func() error { v, err = m.Store.Put(ctx, key, body, size, cond); return err })
	return v, err
}

// probing tells the effects of the probe of the store, of which there are a
// thousand and none matters, from those that a process may die at.
func probing(key string) bool { return strings.HasPrefix(key, "probe/") }

func (m *mortal) Delete(ctx context.Context, key string) error {
	if probing(key) {
		return m.Store.Delete(ctx, key)
	}
	return m.alive(func() error { return m.Store.Delete(ctx, key) })
}

func (m *mortal) List(ctx context.Context, l blob.Listing) (blob.Page, error) {
	return m.Store.List(ctx, l)
}

// mortalFS is the disk of a mortal, which is itself the store.
type mortalFS struct{ *mortal }

func (f mortalFS) List(dir string) ([]string, error) { return f.FS.List(dir) }

type mortalFile struct {
	wal.File
	m *mortal
}

func (f *mortalFile) WriteAt(b []byte, off int64) (n int, err error) {
	err = f.m.alive(func() error { n, err = f.File.WriteAt(b, off); return err })
	return n, err
}

func (f *mortalFile) SyncData() error { return f.m.alive(f.File.SyncData) }

// clock is a clock that the test moves.
type clock struct{ offset atomic.Int64 }

func (c *clock) now() time.Time {
	return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(c.offset.Load()))
}
func (c *clock) advance(d time.Duration) { c.offset.Add(int64(d)) }

// world is a store and a data directory with a Writer that comes and goes.
type world struct {
	t     testing.TB
	store blob.Store
	dir   string
	clock *clock
	tune  func(*Config)

	w       *Writer
	process *mortal
}

func newWorld(t testing.TB, tune func(*Config)) *world {
	v := &world{t: t, store: memblob.New(), dir: t.TempDir(), clock: &clock{}, tune: tune}
	t.Cleanup(func() { v.stop() })
	return v
}

// faulty has the store fail as it is told to. It outlives processes.
func (v *world) faulty() *faultblob.Store {
	fault := faultblob.New(v.store)
	v.store = fault
	return fault
}

func (v *world) config() Config {
	v.process = newMortal(v.store)
	cfg := Config{
		Store: v.process, FS: mortalFS{v.process}, DataDir: v.dir, Now: v.clock.now,
		SweepEvery: -1, RetryFirst: time.Millisecond, RetryMost: 4 * time.Millisecond, ParkedEvery: 4 * time.Millisecond, unseatWait: 1,
		WAL: wal.Config{FileBytes: 64 << 10},
	}
	if v.tune != nil {
		v.tune(&cfg)
	}
	return cfg
}

func (v *world) open() *Writer {
	v.t.Helper()
	w, err := Open(context.Background(), v.config())
	if err != nil {
		v.t.Fatalf("open: %v", err)
	}
	v.w = w
	return w
}

// stop closes the Writer, if there is one, in good order.
func (v *world) stop() {
	v.t.Helper()
	if v.w != nil {
		if err := v.w.Close(context.Background()); err != nil && v.w.Err() == nil {
			v.t.Errorf("close: %v", err)
		}
		v.w = nil
	}
}

// kill ends the Writer the hard way.
func (v *world) kill() {
	v.process.kill()
	_ = v.w.Close(context.Background()) // only lets go of memory and goroutines
	v.w = nil
}

func (v *world) create(name string, dim int, metric string) *collection {
	v.t.Helper()
	c, err := v.w.create(context.Background(), manifest.Collection{Name: name, Dimension: dim, Metric: metric})
	if err != nil {
		v.t.Fatalf("create %q: %v", name, err)
	}
	return c
}

func (v *world) collection(name string) *collection {
	v.t.Helper()
	c, err := v.w.catalog.find(name)
	if err != nil {
		v.t.Fatal(err)
	}
	return c
}

// item is what the model knows of a row.
type item struct {
	vector   []float32
	metadata string // "" for none
}

func (a item) equal(b item) bool {
	return a.metadata == b.metadata && slices.EqualFunc(a.vector, b.vector, func(x, y float32) bool {
		return math.Float32bits(x) == math.Float32bits(y)
	})
}

// contents reads everything that readers of a view and operations on top of it
// would see. It fails when an id lives twice.
func contents(t testing.TB, view *segments.View, newest func(id string) (memtable.Op, bool), each func(func(memtable.Op))) map[string]item {
	t.Helper()
	out := map[string]item{}
	inStore := map[string]bool{}
	for _, s := range view.Segments {
		err := s.Scan(context.Background(), 0, s.Rows(), columns.ProjectAll, func(first uint32, rows []columns.Row) error {
			for i, r := range rows {
				if s.Deleted != nil && s.Deleted.Contains(first+uint32(i)) {
					continue
				}
				if inStore[r.ID] {
					t.Errorf("id %q lives in two rows of the segments", r.ID)
				}
				inStore[r.ID] = true
				if _, hidden := newest(r.ID); !hidden {
					out[r.ID] = item{slices.Clone(r.Vector), string(r.Metadata)}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatalf("scan: %v", err)
		}
	}
	each(func(op memtable.Op) {
		if !op.Delete {
			out[op.ID] = item{op.Vector, string(op.Metadata)}
		}
	})
	return out
}

// writerSees is the state as the Writer has it in memory.
func (v *world) writerSees(c *collection) map[string]item {
	v.t.Helper()
	s := c.state()
	return contents(v.t, s.view, s.newest, s.each)
}

// podSees is the state as a process sees it that has the store, and the tail
// from the Writer.
func (v *world) podSees(c *collection) map[string]item {
	v.t.Helper()
	ctx := context.Background()
	for {
		tail, err := v.w.Tail(ctx, c.meta.ID, 0)
		if err != nil {
			v.t.Fatalf("tail: %v", err)
		}
		delta, err := memtable.DecodeDelta(tail, c.meta.Dimension)
		if err != nil {
			v.t.Fatalf("decode tail: %v", err)
		}
		snap, _, err := manifest.Read(ctx, v.store, c.meta.ID)
		if err != nil {
			v.t.Fatalf("read manifest: %v", err)
		}
		if delta.After > snap.FlushedSeq {
			v.t.Fatalf("tail begins after %d, the manifest ends at %d: a gap", delta.After, snap.FlushedSeq)
		}
		if snap.FlushedSeq > delta.Upto { // flushed in between
			continue
		}
		view, err := segments.OpenView(ctx, blob.Direct(v.store), snap, nil)
		if errors.Is(err, blob.ErrNotFound) {
			continue
		}
		if err != nil {
			v.t.Fatalf("open view: %v", err)
		}
		v.checkDigest(view)
		byID := map[string]memtable.Op{}
		for _, op := range delta.Ops {
			if _, twice := byID[op.ID]; twice {
				v.t.Errorf("tail has id %q twice", op.ID)
			}
			byID[op.ID] = op
		}
		return contents(v.t, view,
			func(id string) (memtable.Op, bool) { op, ok := byID[id]; return op, ok },
			func(fn func(memtable.Op)) {
				for _, op := range delta.Ops {
					fn(op)
				}
			})
	}
}

// checkDigest holds the rows of a view against the digest that commits kept up.
func (v *world) checkDigest(view *segments.View) {
	v.t.Helper()
	var d manifest.SetDigest
	err := view.Rows(context.Background(), columns.ProjectID|columns.ProjectSeq, func(rows []columns.Row) error {
		for _, r := range rows {
			d.Add(r.ID, r.Seq)
		}
		return nil
	})
	if want := view.Snapshot.SetDigest; err != nil || want == nil || d != *want {
		v.t.Fatalf("version %d has rows of digest %v, says %v: %v", view.Snapshot.Version, d, want, err)
	}
}

// compare reports how got differs from want.
func compare(got, want map[string]item) error {
	var errs []error
	for _, id := range slices.Sorted(maps.Keys(want)) {
		g, ok := got[id]
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("%q is missing", id))
		case !g.equal(want[id]):
			errs = append(errs, fmt.Errorf("%q is %v, want %v", id, g, want[id]))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[id]; !ok {
			errs = append(errs, fmt.Errorf("%q is there, want it gone: %v", id, got[id]))
		}
	}
	return errors.Join(errs...)
}

// check compares what everybody sees with the model.
func (v *world) check(c *collection, want map[string]item) {
	v.t.Helper()
	if err := compare(v.writerSees(c), want); err != nil {
		v.t.Fatalf("the writer's state: %v", err)
	}
	if err := compare(v.podSees(c), want); err != nil {
		v.t.Fatalf("store and tail: %v", err)
	}
	info, err := c.info(context.Background())
	if err != nil {
		v.t.Fatal(err)
	}
	if info.VectorCount != uint64(len(want)) {
		v.t.Fatalf("vector_count is %d, want %d", info.VectorCount, len(want))
	}
}

// upsert writes items in one batch.
func (v *world) upsert(c *collection, items map[string]item) error {
	w := &write{kind: kindUpsert, affected: uint64(len(items))}
	for _, id := range slices.Sorted(maps.Keys(items)) {
		w.ops = append(w.ops, memtable.Op{ID: id, Vector: items[id].vector, Metadata: bytes.Clone(nilIfEmpty(items[id].metadata))})
	}
	_, err := c.apply(context.Background(), w)
	return err
}

func nilIfEmpty(s string) []byte {
	if s == "" {
		return nil
	}
	return []byte(s)
}

func (v *world) flush(c *collection) {
	v.t.Helper()
	if err := c.flushTo(context.Background(), c.state().seq); err != nil {
		v.t.Fatalf("flush: %v", err)
	}
}

func (v *world) snapshot(c *collection, name string, export bool) manifest.Pin {
	v.t.Helper()
	pin, err := c.takeSnapshot(context.Background(), name, export)
	if err != nil {
		v.t.Fatalf("take snapshot: %v", err)
	}
	return pin
}

func openFileStore(t testing.TB) blob.Store {
	t.Helper()
	s, err := fileblob.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
