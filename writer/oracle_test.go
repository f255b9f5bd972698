package writer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/faultblob"
	"github.com/akidb/akidb/segments/columns"
	"github.com/akidb/akidb/segments/ivfpq"
	"github.com/akidb/akidb/writer/wal"
)

// seeds are those to run: one from AKIDB_TEST_SEED, or the first n.
func seeds(t *testing.T, n int) []uint64 {
	if s := os.Getenv("AKIDB_TEST_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return []uint64{seed}
	}
	out := make([]uint64, n)
	for i := range out {
		out[i] = uint64(i + 1)
	}
	return out
}

func forSeeds(t *testing.T, n int, run func(t *testing.T, seed uint64)) {
	for _, seed := range seeds(t, n) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("replay: AKIDB_TEST_SEED=%d go test ./writer -run '%s'", seed, t.Name())
				}
			})
			run(t, seed)
		})
	}
}

// player plays random operations against a Writer and a model of what must come
// of them.
type player struct {
	*world
	rng   *rand.Rand
	c     *collection
	model map[string]item
	ids   int
}

const playerDim = 3

func newPlayer(v *world, seed uint64) *player {
	p := &player{world: v, rng: rand.New(rand.NewPCG(seed, 0)), model: map[string]item{}, ids: 60}
	v.open()
	p.c = v.create("model", playerDim, "l2")
	return p
}

func (p *player) id() string { return fmt.Sprintf("id-%d", p.rng.IntN(p.ids)) }

func (p *player) item() item {
	it := item{vector: make([]float32, playerDim)}
	for i := range it.vector {
		it.vector[i] = float32(p.rng.NormFloat64())
	}
	if p.rng.IntN(3) > 0 {
		it.metadata = fmt.Sprintf(`{"n": %d, "even":%t}`, p.rng.IntN(10), p.rng.IntN(2) == 0)
	}
	return it
}

func (p *player) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *player) doUpsert() {
	items := map[string]item{}
	for range 1 + p.rng.IntN(12) {
		items[p.id()] = p.item()
	}
	p.must(p.upsert(p.c, items))
	maps.Copy(p.model, items)
}

func (p *player) doDelete() {
	var d deletion
	want := uint64(0)
	for range 1 + p.rng.IntN(6) {
		id := p.id()
		if slices.Contains(d.ids, id) {
			continue
		}
		d.ids = append(d.ids, id)
		if _, ok := p.model[id]; ok {
			want++
		}
		delete(p.model, id)
	}
	a, err := p.c.deleteIDs(context.Background(), d)
	p.must(err)
	if a.affected != want {
		p.t.Fatalf("deleted %d rows, want %d", a.affected, want)
	}
}

func (p *player) doFilter() {
	n := p.rng.IntN(10)
	f, err := columns.ParseFilter(fmt.Appendf(nil, `{"must": {"key": "n", "match": {"value": %d}}}`, n), columns.FilterLimits{})
	p.must(err)
	want := uint64(0)
	for id, it := range p.model {
		if it.metadata != "" && f.Match(id, []byte(it.metadata)) {
			delete(p.model, id)
			want++
		}
	}
	a, err := p.c.deleteMatching(context.Background(), f, request{})
	p.must(err)
	if a.affected != want {
		p.t.Fatalf("deleted %d rows with n = %d, want %d", a.affected, n, want)
	}
}

func (p *player) doPatch() {
	id := p.id()
	a, err := p.c.patch(context.Background(), id, []byte(`{"patched":true}`), request{})
	old, ok := p.model[id]
	if !ok {
		if e, is := errors.AsType[*httpapi.Error](err); !is || e.Code != "vector_not_found" {
			p.t.Fatalf("patch of %q, which is not there: %v", id, err)
		}
		return
	}
	p.must(err)
	merged, err := mergeMetadata(nilIfEmpty(old.metadata), []byte(`{"patched":true}`))
	p.must(err)
	if string(a.metadata) != string(merged) {
		p.t.Fatalf("patch answers %s, want %s", a.metadata, merged)
	}
	old.metadata = string(merged)
	p.model[id] = old
}

func (p *player) restart(kill bool) {
	if kill {
		p.kill()
	} else {
		p.stop()
	}
	p.open()
	p.c = p.collection("model")
}

func (p *player) step() {
	switch n := p.rng.IntN(100); {
	case n < 45:
		p.doUpsert()
	case n < 60:
		p.doDelete()
	case n < 64:
		p.doFilter()
	case n < 72:
		p.doPatch()
	case n < 84:
		p.flush(p.c)
	case n < 87:
		p.must(p.c.compactAll())
	case n < 91:
		p.clock.advance(time.Minute)
		p.w.Sweep(context.Background())
	case n < 95:
		p.restart(false)
	default:
		p.restart(true)
	}
}

func smallTiers(cfg *Config) { cfg.TierSegments = 2; cfg.GarbageGrace = 90 * time.Second }

func TestModel(t *testing.T) {
	forSeeds(t, 8, func(t *testing.T, seed uint64) {
		p := newPlayer(newWorld(t, func(c *Config) {
			smallTiers(c)
			if seed%2 == 0 {
				c.index = ivfpq.Config{Kind: ivfpq.IVF, Lists: 3}
			}
		}), seed)
		for i := range 150 {
			p.step()
			if i%5 == 0 {
				p.check(p.c, p.model)
			}
		}
		p.check(p.c, p.model)
		p.noGarbageIsRead()
	})
}

// TestModelFileStore is the same on the store that is the default, and with the
// memtables of a process that never flushes by itself.
func TestModelFileStore(t *testing.T) {
	forSeeds(t, 2, func(t *testing.T, seed uint64) {
		store := openFileStore(t) // closed after the Writer
		v := newWorld(t, smallTiers)
		v.store = store
		p := newPlayer(v, seed)
		for range 60 {
			p.step()
		}
		p.check(p.c, p.model)
	})
}

// noGarbageIsRead checks that what the manifest names is there, and that no
// garbage is named.
func (p *player) noGarbageIsRead() {
	snap := p.c.log.Snapshot()
	named := map[string]bool{}
	for _, s := range snap.Segments {
		for _, k := range objects(s) {
			named[k] = true
			if _, err := p.store.Stat(context.Background(), k); err != nil {
				p.t.Errorf("version %d names %q: %v", snap.Version, k, err)
			}
		}
	}
	for _, g := range snap.Garbage {
		if named[g.Key] {
			p.t.Errorf("%q is named and garbage", g.Key)
		}
	}
}

// TestModelWithFaults loses replies and refuses calls at random: nothing may be
// lost or come twice, and everything goes on once the store is well again.
func TestModelWithFaults(t *testing.T) {
	forSeeds(t, 8, func(t *testing.T, seed uint64) {
		v := newWorld(t, func(c *Config) {
			smallTiers(c)
			c.JobAttempts = 1000 // a compaction that is asked for must not be given up
		})
		fault := faultblob.New(v.store)
		v.store = fault
		p := newPlayer(v, seed)
		puts := faultblob.On(faultblob.Put)
		lost := fault.Inject(faultblob.All(puts, faultblob.Sometimes(seed, 0.15)), faultblob.LoseReply())
		twice := fault.Inject(faultblob.All(puts, faultblob.Sometimes(seed+100, 0.1)), faultblob.Duplicate())
		failed := fault.Inject(faultblob.All(puts, faultblob.Sometimes(seed+200, 0.15)), faultblob.Fail(blob.ErrUnavailable))
		for range 120 {
			p.step()
		}
		fired := lost.Fired() + twice.Fired() + failed.Fired()
		for _, r := range []*faultblob.Rule{lost, twice, failed} {
			fault.Remove(r)
		}
		p.flush(p.c)
		p.check(p.c, p.model)
		if fired == 0 {
			t.Error("no fault ever fired: this tests nothing")
		}
	})
}

// TestConcurrentWritersAndKills has several writers on ids of their own, and
// others that share some, while the process is killed again and again: what was
// acknowledged is there, what was refused is not, and what is unknown is one of
// the two.
func TestConcurrentWritersAndKills(t *testing.T) {
	forSeeds(t, 4, func(t *testing.T, seed uint64) {
		const writers, rounds, perRound = 4, 6, 12
		v := newWorld(t, smallTiers)
		v.open()
		v.create("model", playerDim, "l2")
		possible := make([]map[string][]item, writers) // what an id may hold; the zero item is "nothing"
		for i := range possible {
			possible[i] = map[string][]item{}
		}
		for round := range rounds {
			c := v.collection("model")
			var group sync.WaitGroup
			for i := range writers {
				rng := rand.New(rand.NewPCG(seed, uint64(100*round+i)))
				group.Go(func() { v.writeUntilDead(c, rng, i, perRound, possible[i]) })
			}
			group.Go(func() {
				for range 2 {
					_ = c.flushTo(v.w.ctx, c.state().seq)
				}
				v.process.kill()
			})
			group.Wait()
			v.kill()
			v.open()
			v.resolve(v.collection("model"), possible)
		}
	})
}

// writeUntilDead upserts and deletes ids of writer i, keeping book of what each
// may hold.
func (v *world) writeUntilDead(c *collection, rng *rand.Rand, i, n int, possible map[string][]item) {
	for range n {
		id := fmt.Sprintf("w%d-%d", i, rng.IntN(8))
		next := item{vector: []float32{rng.Float32(), rng.Float32(), rng.Float32()}}
		var err error
		if rng.IntN(4) == 0 {
			next = item{}
			_, err = c.deleteIDs(context.Background(), deletion{ids: []string{id}})
		} else {
			err = v.upsert(c, map[string]item{id: next})
		}
		switch {
		case err == nil:
			possible[id] = []item{next}
		case errors.Is(err, wal.ErrUnknown):
			if len(possible[id]) == 0 {
				possible[id] = []item{{}}
			}
			possible[id] = append(possible[id], next)
			return
		default: // definite
			return
		}
	}
}

// resolve checks that every id holds something possible, after which only that
// is.
func (v *world) resolve(c *collection, possible []map[string][]item) {
	v.t.Helper()
	got := v.writerSees(c)
	settled := map[string]item{}
	for _, ids := range possible {
		for id, options := range ids {
			holds := got[id]
			if !slices.ContainsFunc(options, holds.equal) {
				v.t.Errorf("%q holds %v, possible are %v", id, holds, options)
			}
			ids[id] = []item{holds}
			if holds.vector != nil {
				settled[id] = holds
			}
		}
	}
	v.check(c, settled)
}
