package writer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akidb/internal/memtable"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/faultblob"
	"github.com/akidb/akidb/segments/blob/memblob"
	"github.com/akidb/akidb/segments/manifest"
	"github.com/akidb/akidb/writer/wal"
)

// shipping has the log shipped when the test says so.
func shipping(cfg *Config) { smallTiers(cfg); cfg.Ship, cfg.ShipEvery = true, -1 }

func (v *world) ship() {
	v.t.Helper()
	if _, err := v.w.shipper.Ship(context.Background()); err != nil {
		v.t.Fatalf("ship: %v", err)
	}
}

// takeover takes everything over into v's data directory.
func (v *world) takeover() map[string]Recovered {
	v.t.Helper()
	taken, err := Takeover(context.Background(), v.config())
	if err != nil {
		v.t.Fatalf("takeover: %v", err)
	}
	byName := map[string]Recovered{}
	for _, r := range taken {
		byName[r.Name] = r
	}
	return byName
}

// objectsBelow are the keys with a prefix, in order.
func (v *world) objectsBelow(prefix string) (keys []string) {
	v.t.Helper()
	for o, err := range blob.Objects(context.Background(), v.store, blob.Listing{Prefix: prefix}) {
		if err != nil {
			v.t.Fatal(err)
		}
		keys = append(keys, o.Key)
	}
	return keys
}

func TestTakeoverRecoversWhatWasShipped(t *testing.T) {
	a := newWorld(t, shipping)
	a.open()
	a.create("empty", 3, "l2")
	c := a.create("c", 3, "l2")
	a.flushNew(c, some(0, 10))
	a.mustUpsert(c, some(5, 10))
	w := &write{kind: kindUpsert, affected: 1, ops: []memtable.Op{{ID: "keyed", Vector: []float32{1, 2, 3}}}, key: "key", digest: digest{7}}
	if _, err := c.apply(context.Background(), w); err != nil {
		t.Fatal(err)
	}
	a.clock.advance(time.Second)
	shippedAt := a.clock.now()
	a.ship()
	a.clock.advance(time.Second)
	a.mustUpsert(c, some(50, 5)) // lost
	owner := a.w.owner
	a.kill()

	b := a.other()
	if err := b.openFails(3); !strings.Contains(err.Error(), "recovers what that writer shipped") {
		t.Errorf("the hint does not say what comes back: %v", err)
	}
	taken := b.takeover()
	got := taken["c"]
	got.ID = ""
	if want := (Recovered{Name: "c", From: owner, FlushedSeq: 10, Through: 21, Epoch: 1, ShippedAt: shippedAt}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if s := got.Token().String(); s != "1.21" {
		t.Errorf("last good token %q", s)
	}
	if r := taken["empty"]; r.Through != 0 || !r.ShippedAt.IsZero() || r.Problem != "" {
		t.Errorf("empty: %+v", r)
	}
	want := some(0, 15)
	want["keyed"] = item{vector: []float32{1, 2, 3}}
	b.open()
	c = b.collection("c")
	b.check(c, want)
	again, first := c.keys.begin("key", digest{7})
	if first || again.answer.token.String() != "1.21" {
		t.Errorf("the idempotency key is not known: first %t", first)
	}
	b.check(b.collection("empty"), nil)
	// The next disk is lost before anything is flushed or shipped again.
	b.kill()
	d := b.other()
	if got := d.takeover()["c"]; got.Through != 21 {
		t.Errorf("after another loss: %+v", got)
	}
	d.open()
	d.check(d.collection("c"), want)
	d.flushNew(d.collection("c"), some(100, 3))
	maps.Copy(want, some(100, 3))
	d.check(d.collection("c"), want)
	if left := d.objectsBelow("takeovers/"); len(left) > 0 {
		t.Errorf("%q are left", left)
	}
}

// TestTakeoverFromAWriterThatRuns: what it ships after the takeover is not taken,
// then or by a later takeover.
func TestTakeoverFromAWriterThatRuns(t *testing.T) {
	a := newWorld(t, shipping)
	a.open()
	c := a.create("c", 3, "l2")
	a.mustUpsert(c, some(0, 5))
	a.ship()
	b := a.other()
	b.takeover()
	a.mustUpsert(c, some(10, 50))
	a.ship()
	b.open()
	b.mustUpsert(b.collection("c"), some(20, 3))
	b.ship()
	b.stop()
	if taken := b.takeover(); len(taken) != 0 {
		t.Errorf("taken over again: %v", taken)
	}
	want := some(0, 5)
	maps.Copy(want, some(20, 3))
	d := b.other()
	d.takeover()
	d.open()
	d.check(d.collection("c"), want)
}

// TestTakeoverOfADamagedCopy: nothing is taken beyond what is missing, nothing
// less in collections that miss nothing, and both are said.
func TestTakeoverOfADamagedCopy(t *testing.T) {
	for name, damage := range map[string]func(s *memblob.Store, key string) error{
		"flipped": func(s *memblob.Store, key string) error {
			b, _, err := s.Get(context.Background(), key)
			if err == nil {
				b[len(b)/2] ^= 1
				_, err = s.Put(context.Background(), key, strings.NewReader(string(b)), int64(len(b)), blob.Condition{})
			}
			return err
		},
		"missing": func(s *memblob.Store, key string) error { return s.Delete(context.Background(), key) },
	} {
		t.Run(name, func(t *testing.T) {
			a := newWorld(t, shipping)
			a.open()
			hit, whole := a.create("hit", 3, "l2"), a.create("whole", 3, "l2")
			for i := range 4 {
				a.mustUpsert(hit, some(10*i, 2))
				if i != 2 {
					a.mustUpsert(whole, some(10*i, 2))
				}
				a.ship()
			}
			shipped := a.objectsBelow("wal/")
			if err := damage(a.store.(*memblob.Store), shipped[2]); err != nil {
				t.Fatal(err)
			}
			a.kill()
			b := a.other()
			taken := b.takeover()
			if got := taken["hit"]; got.Through != 4 || !strings.Contains(got.Problem, "go on with seq 7; those from seq 5 to 6 are missing") {
				t.Errorf("hit: %+v", got)
			}
			if got := taken["whole"]; got.Through != 6 || got.Problem != "" {
				t.Errorf("whole: %+v", got)
			}
			b.open()
			want := some(0, 2)
			maps.Copy(want, some(10, 2))
			b.check(b.collection("hit"), want)
			maps.Copy(want, some(30, 2))
			b.check(b.collection("whole"), want)
		})
	}
}

// TestTakeoverIsKilled at every step of it, and then run again: in the same data
// directory, or in another because that one is lost, too. It ends with the same
// rows, and no Writer opens before.
func TestTakeoverIsKilled(t *testing.T) {
	for _, lost := range []bool{false, true} {
		t.Run(fmt.Sprintf("disk lost %t", lost), func(t *testing.T) {
			refused, finished := 0, false
			for step := 0; !finished; step++ {
				a := newWorld(t, shipping)
				a.open()
				want := map[string]map[string]item{}
				for i, name := range []string{"c", "d"} {
					c := a.create(name, 3, "l2")
					a.flushNew(c, some(i, 3))
					a.mustUpsert(c, some(i+2, 3))
					a.ship()
					a.mustUpsert(c, some(i+4, 3))
					a.ship()
					want[name] = some(i, 7)
				}
				a.kill()
				b := a.other()
				cfg := b.config()
				b.process.fuse = step + 1
				_, err := Takeover(context.Background(), cfg)
				finished = err == nil
				b.process.kill()
				if !finished {
					if w, err := Open(context.Background(), b.config()); err == nil {
						_ = w.Close(context.Background())
						for name := range want {
							if _, current, _ := manifest.Read(context.Background(), b.store, w.catalog.byName[name].meta.ID); current.Owner != w.owner {
								t.Fatalf("killed at step %d: a Writer opens", step)
							}
						}
						finished = len(b.objectsBelow("takeovers/")) == 0
					} else if strings.Contains(err.Error(), "was interrupted") {
						refused++
					} else if !errors.Is(err, manifest.ErrFenced) {
						t.Fatalf("killed at step %d: open: %v", step, err)
					}
				}
				if lost {
					b = b.other()
				}
				b.takeover()
				b.open()
				for name, rows := range want {
					b.check(b.collection(name), rows)
				}
				b.stop()
				a.stop()
			}
			if refused == 0 {
				t.Error("it was never refused to open: this tests nothing")
			}
		})
	}
}

// TestShipModel plays random operations on several collections, ships now and
// then, and loses the disk. What comes back of a collection is its state at the
// last row that was shipped or flushed, exactly.
func TestShipModel(t *testing.T) {
	forSeeds(t, 6, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 7))
		fault := faultblob.New(memblob.New())
		v := newWorld(t, shipping)
		v.store = fault
		v.open()
		names := []string{"one", "two", "three"}
		players := map[string]*player{}
		states := map[string]map[uint64]map[string]item{} // name, seq
		for _, name := range names {
			players[name] = &player{world: v, rng: rng, c: v.create(name, playerDim, "l2"), model: map[string]item{}, ids: 20}
			states[name] = map[uint64]map[string]item{0: {}}
		}
		reopened := func() {
			for _, p := range players {
				p.world, p.c = v, v.collection(p.c.meta.Name)
			}
		}
		fired := 0
		for round := range 4 {
			shipped := map[string]uint64{} // of each collection, for certain
			for _, name := range names {
				shipped[name] = players[name].c.state().seq
			}
			if round == 0 {
				clear(shipped)
			}
			for range 60 {
				name := names[rng.IntN(len(names))]
				p := players[name]
				switch n := rng.IntN(20); {
				case n < 8:
					p.doUpsert()
				case n < 11:
					p.doDelete()
				case n < 12:
					p.doFilter()
				case n < 13:
					p.doPatch()
				case n < 15:
					v.flush(p.c)
				case n < 16:
					v.kill()
					v.open()
					reopened()
				case n < 17:
					rule := fault.Inject(faultblob.All(faultblob.On(faultblob.Put), faultblob.Key("wal/*/*")), faultblob.LoseReply())
					_, _ = v.w.shipper.Ship(context.Background())
					fault.Remove(rule)
					fired += rule.Fired()
				default:
					v.ship()
					for _, name := range names {
						shipped[name] = players[name].c.state().seq
					}
				}
				states[name][p.c.state().seq] = maps.Clone(p.model)
			}
			old := v
			old.kill()
			v = old.other()
			v.store = old.store
			taken := v.takeover()
			v.open()
			reopened()
			for _, name := range names {
				r, p := taken[name], players[name]
				state, known := states[name][r.Through]
				// More than was shipped for certain can be there: a put whose answer was lost.
				if least := max(shipped[name], r.FlushedSeq); r.Through < least || !known || r.Problem != "" {
					t.Fatalf("round %d, %q: %+v, want at least %d, which is the end of a write: %t", round, name, r, least, known)
				}
				p.model = maps.Clone(state)
				v.check(p.c, p.model)
				// What was lost never comes back: its numbers are given out again.
				maps.DeleteFunc(states[name], func(seq uint64, _ map[string]item) bool { return seq > r.Through })
			}
		}
		if fired == 0 {
			t.Error("no answer was ever lost: this tests nothing")
		}
	})
}

// TestShipLoop: by the clock, whatever the store does meanwhile, and once more
// when the Writer stops.
func TestShipLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fault := faultblob.New(memblob.New())
		v := newWorld(t, func(cfg *Config) { cfg.Ship = true; cfg.Now = nil; cfg.FlushAge = time.Hour })
		v.store = fault
		v.open()
		c := v.create("c", 3, "l2")
		shipped := func() int { return len(v.objectsBelow("wal/")) }
		v.mustUpsert(c, some(0, 1))
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		if shipped() != 1 {
			t.Errorf("%d objects after 200 ms", shipped())
		}
		away := fault.Inject(faultblob.All(faultblob.On(faultblob.Put), faultblob.Key("wal/*/*")), faultblob.Fail(blob.ErrUnavailable))
		v.mustUpsert(c, some(1, 1))
		time.Sleep(time.Minute)
		synctest.Wait()
		if _, age := v.w.shipper.Lag(); away.Fired() == 0 || age < time.Minute-time.Second || age > time.Minute+time.Second {
			t.Errorf("away for a minute: lag %v", age)
		}
		fault.Remove(away)
		time.Sleep(time.Second)
		synctest.Wait()
		if behind, age := v.w.shipper.Lag(); shipped() != 2 || behind != 0 || age != 0 {
			t.Errorf("back again: %d objects, lag %d bytes, %v", shipped(), behind, age)
		}
		v.mustUpsert(c, some(2, 1))
		v.stop()
		if shipped() != 3 {
			t.Errorf("%d objects after the stop", shipped())
		}
	})
}

// TestSalvageFollows: a record is taken once, in its place, and not from a
// history that another has overtaken.
func TestSalvageFollows(t *testing.T) {
	rec := func(epoch, seq uint64, count uint32) *wal.Record {
		return &wal.Record{Epoch: epoch, Seq: seq, Count: count}
	}
	for name, c := range map[string]struct {
		rec     *wal.Record
		follows bool
		problem bool
	}{
		"the next":                 {rec(2, 8, 3), true, false},
		"the next, later epoch":    {rec(3, 8, 1), true, false},
		"there already":            {rec(2, 5, 3), false, false},
		"there already, flushed":   {rec(1, 1, 4), false, false},
		"beyond":                   {rec(2, 9, 1), false, false},
		"the next, earlier epoch":  {rec(1, 8, 1), false, true},
		"there already, and again": {rec(3, 6, 1), false, true},
	} {
		s := &salvage{Recovered: Recovered{FlushedSeq: 4, Through: 7}, last: mark{7, 2}}
		if got := s.follows(c.rec); got != c.follows || (s.Problem != "") != c.problem {
			t.Errorf("%s: %t, problem %q", name, got, s.Problem)
		}
		if name == "beyond" && s.beyond != 9 {
			t.Errorf("beyond is %d", s.beyond)
		}
	}
}
