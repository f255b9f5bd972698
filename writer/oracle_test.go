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
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/faultblob"
	"github.com/akidb/akidb/segments/columns"
	"github.com/akidb/akidb/segments/ivfpq"
	"github.com/akidb/akidb/segments/manifest"
	"github.com/akidb/akidb/segments/verify"
	"github.com/akidb/akidb/writer/wal"
)

// seeds are those to run: one from AKIDB_TEST_SEED, or the first n, fifty times
// as many when AKIDB_SOAK is set.
func seeds(t *testing.T, n int) []uint64 {
	if s := os.Getenv("AKIDB_TEST_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return []uint64{seed}
	}
	if os.Getenv("AKIDB_SOAK") != "" {
		n *= 50
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
	saved map[string]map[string]item // what the rows were, by snapshot
}

const playerDim = 3

func newPlayer(v *world, seed uint64) *player {
	p := &player{world: v, rng: rand.New(rand.NewPCG(seed, 0)), model: map[string]item{}, ids: 60, saved: map[string]map[string]item{}}
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
	switch n := p.rng.IntN(110); {
	case n >= 108:
		p.doBranch()
	case n >= 105:
		p.doRestore()
	case n >= 102:
		p.doSnapshot()
	case n >= 100:
		p.doDropSnapshot()
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
		p.audit()
	})
}

// TestModelUnderAnyConfiguration plays the same operations under configurations
// drawn at random: none of them may change what is read.
func TestModelUnderAnyConfiguration(t *testing.T) {
	forSeeds(t, 3, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 11))
		var want map[string]item
		for range 4 {
			pick := func(n int) int { return rng.IntN(n) }
			kinds := []ivfpq.Config{{}, {Kind: ivfpq.Exact}, {Kind: ivfpq.Flat}, {Kind: ivfpq.IVF, Lists: 1 + pick(5)}}
			drawn := Config{
				FlushBytes: 1 << (10 + pick(12)), FlushAge: time.Duration(1+pick(300)) * time.Second, TierSegments: 2 + pick(4),
				DeadFraction: []float64{0.01, 0.2, 1}[pick(3)], MaxSegmentBytes: 1 << (9 + pick(10)), GarbageGrace: time.Duration(1+pick(300)) * time.Second,
				OrphanEvery: time.Duration(1+pick(3600)) * time.Second, BuildWorkers: pick(3), index: kinds[pick(len(kinds))],
			}
			file := int64(8<<10) << pick(6)
			p := newPlayer(newWorld(t, func(c *Config) {
				store, fs, dir, now := c.Store, c.FS, c.DataDir, c.Now
				sweep, first, most := c.SweepEvery, c.RetryFirst, c.RetryMost
				*c = drawn
				c.Store, c.FS, c.DataDir, c.Now, c.SweepEvery, c.RetryFirst, c.RetryMost = store, fs, dir, now, sweep, first, most
				c.WAL.FileBytes = file
			}), seed)
			for i := range 80 {
				p.step()
				if i%20 == 0 {
					p.check(p.c, p.model)
				}
			}
			p.check(p.c, p.model)
			p.audit()
			if want == nil {
				want = p.model
			} else if err := compare(p.model, want); err != nil {
				t.Fatalf("under %+v: %v", drawn, err)
			}
		}
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

func (p *player) doSnapshot() {
	pin, err := p.c.takeSnapshot(context.Background(), "", p.rng.IntN(2) == 0)
	p.must(err)
	if pin.Rows != uint64(len(p.model)) {
		p.t.Fatalf("snapshot of %d rows, want %d", pin.Rows, len(p.model))
	}
	p.saved[pin.ID] = maps.Clone(p.model)
}

// anySnapshot picks one that there is; the zero Pin when there is none.
func (p *player) anySnapshot() manifest.Pin {
	all := p.c.snapshots()
	if len(all) != len(p.saved) {
		p.t.Fatalf("%d snapshots, want %d", len(all), len(p.saved))
	}
	if len(all) == 0 {
		return manifest.Pin{}
	}
	return all[p.rng.IntN(len(all))]
}

func (p *player) doRestore() {
	pin := p.anySnapshot()
	if pin.ID == "" {
		return
	}
	before := p.c.state().seq
	at, err := p.c.restore(context.Background(), pin)
	p.must(err)
	if at.Seq != before+1 {
		p.t.Fatalf("restored with write %d, want %d", at.Seq, before+1)
	}
	p.model = maps.Clone(p.saved[pin.ID])
}

func (p *player) doDropSnapshot() {
	if pin := p.anySnapshot(); pin.ID != "" {
		p.must(p.c.dropSnapshot(context.Background(), pin))
		delete(p.saved, pin.ID)
	}
}

// doBranch branches, changes the branch, and leaves it; one in two is dropped or
// rewritten, which lets go of what it was made from.
func (p *player) doBranch() {
	ctx := context.Background()
	from, want := p.anySnapshot(), maps.Clone(p.model)
	at := &from
	if from.ID == "" || p.rng.IntN(2) == 0 {
		at = nil
	} else {
		want = maps.Clone(p.saved[from.ID])
	}
	b, err := p.w.branch(ctx, p.c, fmt.Sprintf("branch-%d", p.rng.Uint32()), at)
	p.must(err)
	p.check(b, want)
	changed := map[string]item{p.id(): p.item(), p.id(): p.item()}
	p.must(p.upsert(b, changed))
	maps.Copy(want, changed)
	p.check(b, want)
	p.flush(b)
	p.check(b, want)
	switch p.rng.IntN(4) {
	case 0:
		p.must(b.compactAll())
		p.check(b, want)
	case 1:
		p.must(p.w.drop(ctx, b))
	}
}

// audit checks the store after the last process has ended, its successor has
// collected garbage, and all grace is over: everything is there that a version
// names which is kept, and nothing else is.
func (p *player) audit() {
	p.t.Helper()
	ctx := context.Background()
	p.restart(true)
	for _, c := range p.w.catalog.all() { // nothing is to be on its way
		p.flush(c)
		p.must(c.compact(c.planTier))
	}
	for range 4 { // found, removed, forgotten; branches let go one after the other
		p.w.Sweep(ctx)
		p.clock.advance(2 * time.Hour)
	}
	p.w.Sweep(ctx)
	report, err := verify.Store(ctx, p.store, verify.Options{Now: p.clock.now})
	p.must(err)
	for _, problem := range report.Problems {
		p.t.Error(problem)
	}
	want := map[string]bool{clusterKey: true}
	for _, c := range p.w.catalog.all() {
		cur, snap := c.log.Newest()
		want[manifest.CurrentKey(c.meta.ID)], want[cur.Manifest.Key] = true, true
		for o := range snap.Objects() {
			want[o.Key] = true
		}
		for _, pin := range snap.Pins {
			keys, err := manifest.Pinned(ctx, p.store, pin)
			p.must(err)
			for _, k := range keys {
				want[k] = true
			}
			if pin.Branch == "" {
				want[manifest.SnapshotKey(c.meta.ID, pin.ID)] = true
			}
		}
	}
	for o, err := range blob.Objects(ctx, p.store, blob.Listing{}) {
		p.must(err)
		if !want[o.Key] && !strings.HasSuffix(o.Key, ".parquet") && !strings.HasPrefix(o.Key, "probe/") || strings.HasPrefix(o.Key, "collections/") && !want[o.Key] {
			p.t.Errorf("%q is left and nothing names it", o.Key)
		}
		delete(want, o.Key)
	}
	for key := range want {
		p.t.Errorf("%q is named and gone", key)
	}
	p.check(p.c, p.model)
	for _, pin := range p.c.snapshots() { // what was kept is what was saved
		_, err := p.c.restore(ctx, pin)
		p.must(err)
		p.check(p.c, p.saved[pin.ID])
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
		fault := v.faulty()
		p := newPlayer(v, seed)
		// The probe's keys are new each time, so what befalls them is no matter of the seed.
		puts := faultblob.All(faultblob.On(faultblob.Put), faultblob.Not(faultblob.Key(probePrefix+"*/*/*")))
		lost := fault.Inject(faultblob.All(puts, faultblob.Sometimes(seed, 0.15)), faultblob.LoseReply())
		twice := fault.Inject(faultblob.All(puts, faultblob.Sometimes(seed+100, 0.1)), faultblob.Duplicate())
		failed := fault.Inject(faultblob.All(puts, faultblob.Sometimes(seed+200, 0.15)), faultblob.Fail(blob.ErrUnavailable))
		late := fault.Inject(faultblob.All(puts, faultblob.Sometimes(seed+300, 0.1)), faultblob.Later(1+int(seed)%40))
		rules := []*faultblob.Rule{lost, twice, failed, late}
		for range 120 {
			p.step()
		}
		for _, r := range rules {
			if r.Fired() == 0 {
				t.Error("a fault never fired: this tests less than it says")
			}
			fault.Remove(r)
		}
		p.flush(p.c)
		p.check(p.c, p.model)
		p.audit()
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
