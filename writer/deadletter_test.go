package writer

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/faultblob"
)

// eventually waits until ok.
func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		<-tick.C
	}
}

// parking is a world whose dead letters wait until they are told, and a way to
// tell them all.
func parking(t *testing.T) (v *world, fault *faultblob.Store, storeUp func()) {
	var notify func()
	v = newWorld(t, func(c *Config) {
		c.JobAttempts, c.ParkedEvery, c.TierSegments, c.FlushAge = 3, 1000*time.Hour, 2, time.Hour
		c.StoreUp = func(n func()) { notify = n }
	})
	fault = v.faulty()
	return v, fault, func() { notify() }
}

func (v *world) awaitParked(n int) []DeadLetter {
	v.t.Helper()
	eventually(v.t, func() bool { return len(v.w.dead.list()) == n })
	return v.w.dead.list()
}

// TestFlushBecomesADeadLetter, in every step: its rows stay searchable, writes
// go on, later flushes of the collection wait behind it, and it drains when the
// store is up.
func TestFlushBecomesADeadLetter(t *testing.T) {
	for name, when := range map[string]faultblob.Predicate{
		"segment": faultblob.Key("**/segments/*/*"),
		"deletes": faultblob.Key("deletes-*"),
		"body":    faultblob.Key("**/manifest/*"),
		"CURRENT": faultblob.Key("CURRENT"),
	} {
		t.Run(name, func(t *testing.T) {
			v, fault, storeUp := parking(t)
			tune := v.tune
			v.tune = func(c *Config) { tune(c); c.TierSegments = 100 } // segments are counted, so none may be merged
			v.open()
			c, other := v.create("c", 3, "l2"), v.create("other", 3, "l2")
			v.flushNew(c, some(0, 10))
			v.clock.advance(time.Minute)
			began := v.clock.now()
			of := func(call faultblob.Call) bool { return strings.Contains(call.Key, c.meta.ID) }
			failing := fault.Inject(faultblob.All(faultblob.On(faultblob.Put), of, when), faultblob.Fail(blob.ErrUnavailable))
			v.mustUpsert(c, some(5, 10)) // half of the old segment
			c.want(20)
			e := v.awaitParked(1)[0]
			if e.Kind != "flush" || e.Collection != "c" || e.CollectionID != c.meta.ID || e.FirstSeq != 11 || e.LastSeq != 20 || e.Bytes <= 0 ||
				e.Attempts != 3 || !e.FirstFailed.Equal(began) || e.LastError == "" {
				t.Errorf("entry %+v", e)
			}
			tried := failing.Fired()
			v.mustUpsert(c, some(20, 3))
			c.want(23)
			want := some(0, 15)
			maps.Copy(want, some(20, 3))
			if err := compare(v.writerSees(c), want); err != nil {
				t.Errorf("parked: %v", err)
			}
			v.flushNew(other, some(0, 3)) // is not held up
			if got := failing.Fired(); got != tried {
				t.Errorf("a parked job was tried %d times", got-tried)
			}
			storeUp() // and it is not
			eventually(t, func() bool { l := v.w.dead.list(); return len(l) == 1 && l[0].Attempts == 4 })
			if again := v.w.dead.list()[0]; again.ID != e.ID || !again.FirstFailed.Equal(began) {
				t.Errorf("tried again: %+v, was %+v", again, e)
			}
			fault.Remove(failing)
			storeUp()
			v.awaitFlushed(c, 23)
			v.awaitParked(0)
			v.check(c, want)
			if n := len(c.log.Snapshot().Segments); n < 2 {
				t.Errorf("%d segments", n)
			}
		})
	}
}

// TestDeadLettersDrainByThemselves: nobody says that the store is back.
func TestDeadLettersDrainByThemselves(t *testing.T) {
	v, fault, _ := parking(t)
	tune := v.tune
	v.tune = func(c *Config) { tune(c); c.ParkedEvery = 2 * time.Millisecond; c.StoreUp = nil }
	v.open()
	c := v.create("c", 3, "l2")
	v.mustUpsert(c, some(0, 10))
	fault.Down()
	c.want(10)
	v.awaitParked(1)
	fault.Up()
	v.awaitFlushed(c, 10)
	v.awaitParked(0)
	v.check(c, some(0, 10))
}

// TestDeadLettersByHand: retried one by one or all together, as often as one
// likes; a deleted entry begins anew and loses nothing.
func TestDeadLettersByHand(t *testing.T) {
	v, fault, _ := parking(t)
	v.open()
	a, b := v.create("a", 3, "l2"), v.create("b", 3, "l2")
	v.mustUpsert(a, some(0, 10))
	v.mustUpsert(b, some(0, 4))
	fault.Down()
	a.want(10)
	b.want(4)
	entries := v.awaitParked(2)
	if v.w.dead.retryOne("nobody") || v.w.dead.forget("nobody") || v.w.dead.retryOne("") {
		t.Error("an entry that is not there was found")
	}
	attempts := func(id string) int {
		for _, e := range v.w.dead.list() {
			if e.ID == id {
				return e.Attempts
			}
		}
		return 0
	}
	if !v.w.dead.retryOne(entries[0].ID) {
		t.Error("not found")
	}
	eventually(t, func() bool { return attempts(entries[0].ID) == 4 })
	if got := attempts(entries[1].ID); got != 3 {
		t.Errorf("the other was tried too: %d attempts", got)
	}
	if n := v.w.dead.retryAll(); n != 2 {
		t.Errorf("retried %d, want 2", n)
	}
	eventually(t, func() bool { return attempts(entries[0].ID) == 5 && attempts(entries[1].ID) == 4 })
	if !v.w.dead.forget(entries[0].ID) {
		t.Error("not found")
	}
	eventually(t, func() bool { return len(v.w.dead.list()) == 2 }) // three attempts later
	for _, e := range v.w.dead.list() {
		if e.ID == entries[0].ID {
			t.Error("a forgotten entry is back under its id")
		} else if e.ID != entries[1].ID && e.Attempts != 3 {
			t.Errorf("begins with %d attempts", e.Attempts)
		}
	}
	fault.Up()
	for range 3 {
		v.w.dead.retryAll()
	}
	v.awaitFlushed(a, 10)
	v.awaitFlushed(b, 4)
	v.awaitParked(0)
	if n := v.w.dead.retryAll(); n != 0 {
		t.Errorf("retried %d of none", n)
	}
	v.check(a, some(0, 10))
	v.check(b, some(0, 4))
}

// awaitWritten returns the file of dead letters once it has an entry.
func (v *world) awaitWritten(e DeadLetter) (name string, content []byte) {
	name = filepath.Join(v.dir, deadName)
	eventually(v.t, func() bool {
		content, _ = os.ReadFile(name)
		return bytes.Contains(content, []byte(e.ID))
	})
	return name, content
}

// TestDeadLettersSurviveARestart with their ids and times; a file that is gone
// or damaged costs those and nothing else.
func TestDeadLettersSurviveARestart(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"whole": func(b []byte) []byte { return b },
		"bit":   func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"cut":   func(b []byte) []byte { return b[:len(b)/2] },
		"empty": func([]byte) []byte { return nil },
		"gone":  nil,
	} {
		t.Run(name, func(t *testing.T) {
			v, fault, _ := parking(t)
			v.open()
			c := v.create("c", 3, "l2")
			v.mustUpsert(c, some(0, 10))
			puts := fault.Inject(faultblob.All(faultblob.On(faultblob.Put), faultblob.Key("**/segments/*/*")), faultblob.Fail(blob.ErrUnavailable))
			c.want(10)
			was := v.awaitParked(1)[0]
			file, b := v.awaitWritten(was)
			v.kill()
			var err error
			if damage == nil {
				err = os.Remove(file)
			} else {
				err = os.WriteFile(file, damage(b), 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
			v.clock.advance(time.Hour)
			v.open()
			c = v.collection("c")
			c.want(10)
			eventually(t, func() bool { l := v.w.dead.list(); return len(l) == 1 && l[0].LastAttempt.After(was.LastAttempt) })
			is := v.w.dead.list()[0]
			if same := is.ID == was.ID && is.FirstFailed.Equal(was.FirstFailed) && is.Attempts == was.Attempts+1; same != (name == "whole") {
				t.Errorf("was %+v, is %+v", was, is)
			}
			fault.Remove(puts)
			v.w.dead.retryAll()
			v.awaitFlushed(c, 10)
			v.awaitParked(0)
			v.check(c, some(0, 10))
			v.stop()
			v.open()
			v.awaitParked(0)
		})
	}
}

// TestDeadLetterOfADoneJob: the process died between the commit and the end of
// the entry.
func TestDeadLetterOfADoneJob(t *testing.T) {
	v, fault, _ := parking(t)
	v.open()
	c := v.create("c", 3, "l2")
	v.mustUpsert(c, some(0, 10))
	fault.Down()
	c.want(10)
	file, b := v.awaitWritten(v.awaitParked(1)[0])
	fault.Up()
	v.w.dead.retryAll()
	v.awaitFlushed(c, 10)
	v.awaitParked(0)
	v.kill()
	if err := os.WriteFile(file, b, 0o644); err != nil {
		t.Fatal(err)
	}
	v.open()
	if l := v.w.dead.list(); len(l) != 0 {
		t.Errorf("still there: %+v", l)
	}
	v.check(v.collection("c"), some(0, 10))
}

func TestDecodeDeadIsStrict(t *testing.T) {
	entry := `{"id":"01","kind":"flush","collection":"c","collection_id":"02","first_seq":1,"last_seq":2,"bytes":3,"attempts":5,` +
		`"first_failed_at":"2026-01-01T00:00:00Z","last_attempt_at":"2026-01-01T00:00:00Z","last_error":"x"}`
	if e, err := decodeDead([]byte(`{"format":1,"entries":[` + entry + `]}`)); err != nil || len(e) != 1 || e[0].LastSeq != 2 {
		t.Fatalf("%v, %v", e, err)
	}
	for _, bad := range []string{
		``, `[]`, `{"format":2,"entries":[]}`, `{"entries":[]}`, `{"format":1,"entries":[],"more":1}`,
		`{"format":1,"entries":[` + strings.Replace(entry, "flush", "fly", 1) + `]}`,
		`{"format":1,"entries":[` + strings.Replace(entry, `"01"`, `""`, 1) + `]}`,
		`{"format":1,"entries":[` + strings.Replace(entry, `"02"`, `""`, 1) + `]}`,
		`{"format":1,"entries":[` + strings.Replace(entry, `:5`, `:0`, 1) + `]}`,
		`{"format":1,"entries":[` + strings.Replace(entry, `"bytes"`, `"octets"`, 1) + `]}`,
	} {
		if _, err := decodeDead([]byte(bad)); err == nil {
			t.Errorf("accepted: %s", bad)
		}
	}
}

// TestCompactionBecomesADeadLetter and holds nothing up while it waits.
func TestCompactionBecomesADeadLetter(t *testing.T) {
	v, fault, storeUp := parking(t)
	v.open()
	bad, good := v.create("bad", 3, "l2"), v.create("good", 3, "l2")
	// Reading a segment whole is what only a merge does; its key is not known yet.
	failing := fault.Inject(faultblob.All(faultblob.On(faultblob.ReadRange), faultblob.Key("**/"+bad.meta.ID+"/segments/*/data.parquet")), faultblob.Fail(blob.ErrUnavailable))
	for i := range 2 {
		v.flushNew(bad, some(10*i, 10))
	}
	e := v.awaitParked(1)[0]
	if e.Kind != "compact" || e.Collection != "bad" || e.FirstSeq != 1 || e.LastSeq != 20 || e.Bytes <= 0 || e.Attempts != 3 {
		t.Errorf("entry %+v", e)
	}
	for i := range 2 {
		v.flushNew(good, some(10*i, 10))
	}
	eventually(t, func() bool { return len(good.state().view.Segments) == 1 })
	if got := v.w.dead.list(); len(got) != 1 || got[0].Attempts != 3 {
		t.Errorf("tried without being told: %+v", got)
	}
	v.flushNew(bad, some(20, 10)) // writes and flushes go on
	fault.Remove(failing)
	storeUp()
	eventually(t, func() bool { return len(bad.state().view.Segments) == 1 })
	v.awaitParked(0)
	v.check(bad, some(0, 30))
	v.check(good, some(0, 20))
}

// TestDropBecomesADeadLetter, the commit and the removal of objects alike.
func TestDropBecomesADeadLetter(t *testing.T) {
	ctx := context.Background()
	v, fault, storeUp := parking(t)
	v.open()
	c := v.create("c", 3, "l2")
	v.flushNew(c, some(0, 10))
	puts := fault.Inject(faultblob.On(faultblob.Put), faultblob.Fail(blob.ErrUnavailable))
	v.w.cfg.WaitLimit = time.Nanosecond
	if err := v.w.drop(ctx, c); !errors.Is(err, errPending) {
		t.Fatalf("drop: %v", err)
	}
	if e := v.awaitParked(1)[0]; e.Kind != "drop" || e.Collection != "c" {
		t.Errorf("entry %+v", e)
	}
	deletes := fault.Inject(faultblob.On(faultblob.Delete), faultblob.Fail(blob.ErrUnavailable))
	fault.Remove(puts)
	storeUp()
	eventually(t, func() bool { return len(v.w.catalog.all()) == 0 })
	for range 5 {
		v.w.Sweep(ctx)
	}
	e := v.awaitParked(1)[0]
	if e.Kind != "drop" || e.Attempts < 3 {
		t.Errorf("entry %+v", e)
	}
	tried := deletes.Fired()
	v.w.Sweep(ctx)
	if deletes.Fired() != tried {
		t.Error("tried without being told")
	}
	fault.Remove(deletes)
	storeUp()
	v.w.Sweep(ctx)
	v.awaitParked(0)
	if left := v.left(c); len(left) != 2 {
		t.Errorf("left: %v", left)
	}
}

// TestRandomOutages plays the model against a store that goes and comes, with
// dead letters, restarts and all.
func TestRandomOutages(t *testing.T) {
	forSeeds(t, 4, func(t *testing.T, seed uint64) {
		v := newWorld(t, func(c *Config) { smallTiers(c); c.JobAttempts = 2; c.FlushBytes = 2000 })
		fault := v.faulty()
		p := newPlayer(v, seed)
		parked := 0
		for range 25 {
			away := fault.Inject(faultblob.On(faultblob.Put, faultblob.Delete), faultblob.Fail(blob.ErrUnavailable))
			for range p.rng.IntN(8) {
				p.doUpsert()
			}
			p.c.want(p.c.state().seq)
			eventually(t, func() bool { return !p.c.flushDue() || len(v.w.dead.list()) > 0 })
			parked += len(v.w.dead.list())
			if err := compare(v.writerSees(p.c), p.model); err != nil {
				t.Fatalf("with the store away: %v", err)
			}
			fault.Remove(away)
			if p.rng.IntN(4) == 0 {
				p.restart(p.rng.IntN(2) == 0)
			}
			for range 4 {
				p.step()
			}
			p.flush(p.c)
			p.check(p.c, p.model)
		}
		eventually(t, func() bool { return len(v.w.dead.list()) == 0 })
		if parked == 0 {
			t.Error("nothing was ever parked: this tests nothing")
		}
	})
}
