package ship

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/faultblob"
	"github.com/akidb/akidb/segments/blob/memblob"
	"github.com/akidb/akidb/writer/wal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var bg = context.Background()

// world is a log that is shipped to a store which can fail.
type world struct {
	t     testing.TB
	dir   string
	inner *memblob.Store
	store *faultblob.Store
	now   time.Time
	limit int
	epoch uint64

	log     *wal.Log
	shipper *Shipper
	acked   map[wal.CollectionID][]wal.Record
	flushed map[wal.CollectionID]uint64
}

func newWorld(t testing.TB) *world {
	w := &world{
		t: t, dir: t.TempDir(), inner: memblob.New(), now: noon, limit: 600, epoch: 1,
		acked: map[wal.CollectionID][]wal.Record{}, flushed: map[wal.CollectionID]uint64{},
	}
	w.store = faultblob.New(w.inner)
	w.open()
	t.Cleanup(func() { w.close() })
	return w
}

func (w *world) open() {
	w.t.Helper()
	log, err := wal.Open(wal.OS(), w.dir, wal.Config{FileBytes: 8 << 10, NewUUID: func() wal.UUID { return testLog }}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for c, seq := range w.flushed {
		log.Release(c, seq)
	}
	w.log = log
	w.shipper = New(log, w.store, func() time.Time { return w.now })
	w.shipper.limit = w.limit
}

func (w *world) close() {
	w.t.Helper()
	if err := w.log.Close(); err != nil {
		w.t.Error(err)
	}
}

func (w *world) restart() { w.close(); w.open() }

// write acknowledges a record.
func (w *world) write(c byte, payload string) {
	w.t.Helper()
	id := collection(c)
	rec := record(c, 1, payload)
	rec.Epoch = w.epoch
	if n := len(w.acked[id]); n > 0 {
		rec.Seq = last(&w.acked[id][n-1]) + 1
	}
	for {
		ticket, err := w.log.Enqueue(rec)
		if errors.Is(err, wal.ErrBusy) {
			if err = w.log.WaitRoom(bg, rec); err == nil {
				continue
			}
		}
		if err == nil {
			_, err = ticket.Wait(bg)
		}
		if err != nil {
			w.t.Fatal(err)
		}
		break
	}
	w.acked[id] = append(w.acked[id], rec)
}

func (w *world) flush(c byte, seq uint64) {
	id := collection(c)
	w.flushed[id] = max(w.flushed[id], seq)
	w.log.Release(id, seq)
}

func (w *world) ship() int {
	w.t.Helper()
	n, err := w.shipper.Ship(bg)
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// recovered is what follows from the flushed rows in what was shipped, and the
// problems that were told.
func (w *world) recovered() (map[wal.CollectionID][]wal.Record, []error) {
	w.t.Helper()
	got := map[wal.CollectionID][]wal.Record{}
	var problems []error
	err := Read(bg, w.inner, testLog, func(o Object) error {
		if o.Problem != nil {
			problems = append(problems, o.Problem)
		}
		for _, rec := range o.Records {
			through := w.flushed[rec.Collection]
			if n := len(got[rec.Collection]); n > 0 {
				through = last(&got[rec.Collection][n-1])
			}
			if rec.Seq == through+1 {
				got[rec.Collection] = append(got[rec.Collection], rec)
			}
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return got, problems
}

// check says what is wrong if everything acknowledged up to now was shipped.
func (w *world) check(want map[wal.CollectionID][]wal.Record) error {
	got, problems := w.recovered()
	errs := problems
	for c, records := range want {
		i := slices.IndexFunc(records, func(r wal.Record) bool { return r.Seq > w.flushed[c] })
		if i < 0 {
			i = len(records)
		}
		equal := func(a, b wal.Record) bool {
			return a.Seq == b.Seq && a.Epoch == b.Epoch && bytes.Equal(a.Payload, b.Payload)
		}
		if n := min(len(records)-i, len(got[c])); !slices.EqualFunc(got[c][:n], records[i:i+n], equal) || n < len(records)-i {
			errs = append(errs, fmt.Errorf("collection %v: got %d records, want %d from seq %d on", c, len(got[c]), len(records)-i, w.flushed[c]+1))
		}
	}
	return errors.Join(errs...)
}

func (w *world) mustHaveAll() {
	w.t.Helper()
	if err := w.check(w.acked); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) keys() (keys []string) {
	for o, err := range blob.Objects(bg, w.inner, blob.Listing{Prefix: LogPrefix(testLog)}) {
		if err != nil {
			w.t.Fatal(err)
		}
		keys = append(keys, o.Key)
	}
	return keys
}

func TestShip(t *testing.T) {
	w := newWorld(t)
	if n := w.ship(); n != 0 || len(w.keys()) != 0 {
		t.Errorf("nothing to ship: %d objects, %q", n, w.keys())
	}
	w.write(1, "a")
	w.now = noon.Add(time.Second)
	if behind, age := w.shipper.Lag(); behind == 0 || age != time.Second {
		t.Errorf("lag %d bytes, %v", behind, age)
	}
	if n := w.ship(); n != 1 {
		t.Errorf("%d objects", n)
	}
	w.now = noon.Add(time.Minute)
	if behind, age := w.shipper.Lag(); behind != 0 || age != 0 {
		t.Errorf("lag %d bytes, %v", behind, age)
	}
	if n := w.ship(); n != 0 {
		t.Errorf("again: %d objects", n)
	}
	for i := range 20 { // more than one object takes
		w.write(byte(i%3), fmt.Sprintf("%0200d", i))
	}
	if n := w.ship(); n < 5 {
		t.Errorf("%d objects, want several", n)
	}
	w.write(1, string(make([]byte, 3*w.limit))) // more than any object takes, and all the same
	w.write(2, "behind it")
	w.ship()
	w.mustHaveAll()
}

// TestWhatIsFlushedIsLeftOutAndDeleted: and only that, oldest first, with the
// newest object kept; by this process or a later one.
func TestWhatIsFlushedIsLeftOutAndDeleted(t *testing.T) {
	w := newWorld(t)
	w.write(1, "flushed before it is shipped")
	w.flush(1, 1)
	if n := w.ship(); n != 0 {
		t.Errorf("%d objects", n)
	}
	for range 4 {
		w.write(1, "x")
		w.write(2, "x")
		w.ship()
	}
	w.restart()
	w.flush(1, 5)
	w.ship()
	if n := len(w.keys()); n != 4 {
		t.Errorf("%d objects, want all 4: collection 2 is not flushed", n)
	}
	w.flush(2, 2)
	w.ship()
	w.mustHaveAll()
	if got, want := w.keys(), []string{key(testLog, 3), key(testLog, 4)}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	w.flush(2, 4)
	w.ship()
	if got, want := w.keys(), []string{key(testLog, 4)}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	w.restart()
	w.write(1, "y")
	w.ship()
	w.mustHaveAll()
	if got, want := w.keys(), []string{key(testLog, 5)}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDroppedCollection(t *testing.T) {
	w := newWorld(t)
	w.write(1, "a")
	w.ship()
	w.write(1, "b")
	w.log.Drop(collection(1))
	w.write(2, "a")
	w.ship()
	if got, want := w.keys(), []string{key(testLog, 2)}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	delete(w.acked, collection(1))
	w.mustHaveAll()
}

// TestStoreAway: nothing is lost, nothing is buffered, and it goes on when the
// store is back.
func TestStoreAway(t *testing.T) {
	w := newWorld(t)
	w.store.Down()
	for i := range 100 {
		w.write(byte(i%3), "x")
		if _, err := w.shipper.Ship(bg); !errors.Is(err, blob.ErrUnavailable) {
			t.Fatal(err)
		}
	}
	w.now = noon.Add(time.Hour)
	if behind, age := w.shipper.Lag(); behind == 0 || age != time.Hour {
		t.Errorf("lag %d bytes, %v", behind, age)
	}
	w.store.Up()
	w.ship()
	w.mustHaveAll()
}

// TestAnswersLost: a put whose answer is lost, or that is made twice, or that
// comes when another process has gone on, leaves one object of its number.
func TestAnswersLost(t *testing.T) {
	w := newWorld(t)
	puts := faultblob.On(faultblob.Put)
	lost := w.store.Inject(faultblob.All(puts, faultblob.Key(key(testLog, 1)), faultblob.Nth(0)), faultblob.LoseReply())
	twice := w.store.Inject(faultblob.All(puts, faultblob.Key(key(testLog, 2)), faultblob.Nth(0)), faultblob.Duplicate())
	w.write(1, "a")
	if _, err := w.shipper.Ship(bg); !errors.Is(err, blob.ErrUnavailable) {
		t.Fatal(err)
	}
	w.write(1, "b") // not in the object that is there
	w.ship()
	w.mustHaveAll()
	if lost.Fired() != 1 || twice.Fired() != 1 || len(w.keys()) != 2 {
		t.Errorf("fired %d and %d, %q", lost.Fired(), twice.Fired(), w.keys())
	}
}

// TestDelayedPut: a put of an earlier process lands when a later one has read
// the list, before its own put or after.
func TestDelayedPut(t *testing.T) {
	for _, first := range []bool{true, false} {
		w := newWorld(t)
		gate := faultblob.NewGate()
		late := w.store.Inject(faultblob.All(faultblob.On(faultblob.Put), faultblob.Nth(0)), faultblob.Hold(gate))
		w.write(1, "a")
		earlier, ended := w.shipper, make(chan struct{})
		go func() { defer close(ended); _, _ = earlier.Ship(bg) }()
		<-gate.Arrived()
		w.restart()
		w.write(1, "b")
		if first {
			// The list is read, then the late put lands, then ours comes.
			if err := w.shipper.resume(bg); err != nil {
				t.Fatal(err)
			}
			w.shipper.resumed = true
			gate.Open()
			<-ended
			w.ship()
		} else {
			w.ship()
			gate.Open()
			<-ended
		}
		w.write(1, "c")
		w.ship()
		w.mustHaveAll()
		if late.Fired() != 1 {
			t.Error("nothing was late")
		}
	}
}

// TestDamage: an object that is damaged is told and never believed, and costs
// what it held; should the process that ships start again, it is shipped anew.
func TestDamage(t *testing.T) {
	w := newWorld(t)
	for range 3 {
		w.write(1, "one")
		w.ship()
		w.write(2, "two")
		w.ship()
	}
	for _, number := range []uint64{3, 6} { // in the middle; the newest
		k := key(testLog, number)
		b, _, err := w.inner.Get(bg, k)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2] ^= 4
		if _, err := w.inner.Put(bg, k, bytes.NewReader(b), int64(len(b)), blob.Condition{}); err != nil {
			t.Fatal(err)
		}
		if err := w.check(w.acked); err == nil || !errors.Is(err, blob.ErrCorrupt) {
			t.Errorf("object %d damaged: %v", number, err)
		}
	}
	got, _ := w.recovered()
	if len(got[collection(1)]) != 1 || len(got[collection(2)]) != 2 {
		t.Errorf("recovered %v", got)
	}
	w.restart()
	w.ship()
	got, problems := w.recovered()
	if len(got[collection(1)]) != 3 || len(got[collection(2)]) != 3 || len(problems) == 0 {
		t.Errorf("after a restart: %d and %d records, %v", len(got[collection(1)]), len(got[collection(2)]), problems)
	}
	// What was damaged goes like the rest.
	w.flush(1, 3)
	w.flush(2, 3)
	w.ship()
	if n := len(w.keys()); n != 1 {
		t.Errorf("%d objects are left", n)
	}
}

// TestDamageOnTheWay: one bad read proves nothing.
func TestDamageOnTheWay(t *testing.T) {
	w := newWorld(t)
	w.write(1, "a")
	w.ship()
	once := w.store.Inject(faultblob.All(faultblob.On(faultblob.Get), faultblob.Nth(0)), faultblob.FlipBit(200))
	err := Read(bg, w.store, testLog, func(o Object) error { return o.Problem })
	if err != nil || once.Fired() != 1 {
		t.Errorf("fired %d: %v", once.Fired(), err)
	}
}

func TestNewerVersionIsRefused(t *testing.T) {
	w := newWorld(t)
	b := encode(header{log: testLog, number: 1, records: 1}, nil)
	seal(b, func(b []byte) { b[8] = formatVersion + 1 })
	if _, err := w.inner.Put(bg, key(testLog, 1), bytes.NewReader(b), int64(len(b)), blob.Condition{}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.shipper.Ship(bg); !errors.Is(err, wal.ErrVersion) {
		t.Errorf("ship: %v", err)
	}
}

func TestStrangeKeysAreIgnored(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"1", "README", "0000000000000000", "00000000000000001", "+000000000000001"} {
		if _, err := w.inner.Put(bg, LogPrefix(testLog)+name, bytes.NewReader(nil), 0, blob.Condition{}); err != nil {
			t.Fatal(err)
		}
	}
	w.write(1, "a")
	w.ship()
	w.mustHaveAll()
}

// TestLogSetBack: a log whose disk is an older copy of what it was gives out
// numbers again. What it had shipped is not mixed with what it holds now, not
// even when a deletion fails half way and the process starts again.
func TestLogSetBack(t *testing.T) {
	w := newWorld(t)
	w.write(1, "kept")
	w.write(2, "kept")
	w.ship()
	w.close()
	older := t.TempDir()
	if err := os.CopyFS(older, os.DirFS(w.dir)); err != nil {
		t.Fatal(err)
	}
	w.open()
	for range 3 {
		w.write(1, "gone")
		w.ship()
	}
	w.close()
	w.dir, w.epoch = older, 2
	w.acked[collection(1)] = w.acked[collection(1)][:1]
	w.open()
	w.write(2, "new")
	w.ship()
	w.write(1, "new")
	fails := w.store.Inject(faultblob.All(faultblob.On(faultblob.Delete), faultblob.Key(key(testLog, 2))), faultblob.Fail(blob.ErrUnavailable))
	if _, err := w.shipper.Ship(bg); !errors.Is(err, blob.ErrUnavailable) || fails.Fired() != 1 {
		t.Fatalf("fired %d: %v", fails.Fired(), err)
	}
	w.restart()
	w.store.Remove(fails)
	w.ship()
	w.mustHaveAll()
	if got, _ := w.recovered(); len(got[collection(1)]) != 2 || string(got[collection(1)][1].Payload) != "new" {
		t.Errorf("recovered %v", got)
	}
}

// TestModel plays random writes, flushes, failures and restarts. After every
// run of Ship that succeeds, what can be recovered is what was acknowledged.
func TestModel(t *testing.T) {
	seeds := []uint64{1, 2, 3, 4, 5, 6, 7, 8}
	if s := os.Getenv("AKIDB_TEST_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seeds = []uint64{seed}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("replay: AKIDB_TEST_SEED=%d go test ./writer/wal/ship -run '%s'", seed, t.Name())
				}
			}()
			w := newWorld(t)
			rng := rand.New(rand.NewPCG(seed, 0))
			var rules []*faultblob.Rule
			for i, e := range []faultblob.Effect{faultblob.LoseReply(), faultblob.Duplicate(), faultblob.Fail(blob.ErrUnavailable)} {
				rules = append(rules, w.store.Inject(faultblob.Sometimes(seed+uint64(i)<<32, 0.07), e))
			}
			shipped, failed := 0, 0
			for range 600 {
				switch n := rng.IntN(20); {
				case n < 12:
					w.write(byte(rng.IntN(3)), fmt.Sprintf("%0*d", rng.IntN(150), n))
				case n < 14:
					c := byte(rng.IntN(3))
					if n := len(w.acked[collection(c)]); n > 0 {
						w.flush(c, uint64(1+rng.IntN(n)))
					}
				case n == 14:
					w.restart()
				default:
					if _, err := w.shipper.Ship(bg); err != nil {
						failed++
						continue
					}
					shipped++
					w.mustHaveAll()
				}
			}
			for _, r := range rules {
				if r.Fired() == 0 {
					t.Error("a fault never fired: it tests nothing")
				}
			}
			if shipped == 0 || failed == 0 {
				t.Errorf("%d runs succeeded, %d failed", shipped, failed)
			}
		})
	}
}

// TestCheckerCatches: an object that is left out, or comes in another's place,
// is noticed.
func TestCheckerCatches(t *testing.T) {
	fill := func() *world {
		w := newWorld(t)
		for i := range 6 {
			w.write(1, fmt.Sprint(i))
			w.ship()
		}
		w.mustHaveAll()
		return w
	}
	w := fill()
	if err := w.inner.Delete(bg, key(testLog, 3)); err != nil {
		t.Fatal(err)
	}
	if err := w.check(w.acked); err == nil || !bytes.Contains([]byte(err.Error()), []byte("in between are missing")) {
		t.Errorf("an object is missing: %v", err)
	}
	// Two objects, each whole and under its own number, with their records exchanged.
	w = fill()
	for i, number := range []uint64{3, 4} {
		payload := appendRecord(nil, &w.acked[collection(1)][3-i])
		b := encode(header{log: testLog, number: number, records: 1, created: noon}, payload)
		if _, err := w.inner.Put(bg, key(testLog, number), bytes.NewReader(b), int64(len(b)), blob.Condition{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.check(w.acked); err == nil || !bytes.Contains([]byte(err.Error()), []byte("collection")) {
		t.Errorf("shipped out of order: %v", err)
	}
	if got, _ := w.recovered(); len(got[collection(1)]) != 3 {
		t.Errorf("%d records are believed, want the first 3", len(got[collection(1)]))
	}
}
