package query

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/akidb/akidb/cache"
	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/manifest"
)

func testAdmission(procs int) *admission {
	a := newAdmission(time.Now, prometheus.NewRegistry())
	a.procs = func() int { return procs }
	return a
}

// crowd is what clients came to who asked an admission for slots.
type crowd struct {
	a *admission

	mu        sync.Mutex
	all       sync.WaitGroup
	computing int // that really do
	most      int
	came      int
	served    map[string]int           // by collection
	refused   map[string]int           // by collection
	waited    time.Duration            // the longest of those served
	slowest   time.Duration            // refusal
	errs      []error                  // that are no refusals
	retry     map[time.Duration]int    // by Retry-After
	compute   func(work time.Duration) // takes that much of a core
}

func newCrowd(a *admission) *crowd {
	return &crowd{a: a, served: map[string]int{}, refused: map[string]int{}, retry: map[time.Duration]int{}, compute: time.Sleep}
}

// come sends one read: it computes for some time, waits for the store for
// another, and computes once more.
func (c *crowd) come(ctx context.Context, collection string, work, store time.Duration) {
	c.came++
	c.all.Go(func() {
		began := time.Now()
		slot, err := c.a.enter(ctx, collection)
		c.mu.Lock()
		took := time.Since(began)
		if err != nil {
			c.slowest = max(c.slowest, took)
			c.refused[collection]++
			known, ok := errors.AsType[*httpapi.Error](err)
			if ok && known.Status == http.StatusServiceUnavailable && known.Code == "overloaded" {
				c.retry[known.RetryAfter]++
			} else {
				c.errs = append(c.errs, err)
			}
			c.mu.Unlock()
			return
		}
		c.waited = max(c.waited, took)
		c.served[collection]++
		c.mu.Unlock()
		defer slot.leave()
		c.work(work)
		if store == 0 {
			return
		}
		resume, err := slot.wait()
		if err != nil {
			c.mu.Lock()
			c.errs = append(c.errs, err)
			c.mu.Unlock()
			return
		}
		time.Sleep(store)
		resume()
	})
}

func (c *crowd) work(d time.Duration) {
	c.mu.Lock()
	c.computing++
	c.most = max(c.most, c.computing)
	c.mu.Unlock()
	c.compute(d)
	c.mu.Lock()
	c.computing--
	c.mu.Unlock()
}

// every sends reads at a steady rate for so long.
func (c *crowd) every(gap, long time.Duration, send func(i int)) {
	for i := range int(long / gap) {
		send(i)
		time.Sleep(gap)
	}
}

// check returns what an admission must not do, or leave behind.
func (c *crowd) check() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, answered := c.a, 0
	for _, n := range c.served {
		answered += n
	}
	for _, n := range c.refused {
		answered += n
	}
	switch {
	case c.most > a.slots:
		return fmt.Errorf("%d computed at once, want at most %d", c.most, a.slots)
	case answered != c.came:
		return fmt.Errorf("%d of %d were answered", answered, c.came)
	case a.computing != 0 || a.away != 0 || a.queued != 0 || len(a.lines) != 0 || len(a.turns) != 0:
		return fmt.Errorf("left behind: %d compute, %d wait for the store, %d in the queue, lines %v %v", a.computing, a.away, a.queued, a.lines, a.turns)
	case c.waited > waitMost || c.slowest > waitMost:
		return fmt.Errorf("waited %v for a slot and %v for a refusal, want at most %v", c.waited, c.slowest, waitMost)
	}
	return errors.Join(c.errs...)
}

func ms(n float64) time.Duration { return time.Duration(n * float64(time.Millisecond)) }

// Twice, ten and fifty times what can be served: what is served is what could
// be, nobody waits long, and who is refused is told at once, and for how long.
func TestAdmissionUnderOverload(t *testing.T) {
	for _, times := range []int{2, 10, 50} {
		t.Run(fmt.Sprint(times), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCrowd(testAdmission(2))
				load := func(long time.Duration) {
					c.every(ms(1)/time.Duration(times), long, func(int) { c.come(t.Context(), "a", ms(4), 0) }) // 4 slots: 1000 a second
				}
				load(time.Second) // until it is known what can be served
				c.mu.Lock()
				c.waited = 0
				clear(c.retry)
				c.mu.Unlock()
				time.Sleep(waitMost)
				load(10 * time.Second)
				c.all.Wait()
				require.NoError(t, c.check())
				require.Greater(t, c.served["a"], 10900)
				require.LessOrEqual(t, c.waited, queueTime*3/2)
				require.Zero(t, c.slowest, "a refusal waits for nothing")
				told, n := time.Duration(min(times, int(retryMost.Seconds())))*time.Second, 0
				for _, count := range c.retry {
					n += count
				}
				require.Greater(t, c.retry[told], n*9/10, "%v", c.retry)
			})
		})
	}
}

// Below what can be served nobody is refused, however the load comes in bursts
// that the queue has room for.
func TestAdmissionRefusesNobodyInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(testAdmission(2))
		c.every(ms(200), 20*time.Second, func(i int) {
			for range 50 { // 50 ms of work
				c.come(t.Context(), "a", ms(4), 0)
			}
		})
		c.all.Wait()
		require.NoError(t, c.check())
		require.Zero(t, c.refused["a"])
	})
}

// quota is CPU of which there are so much in every 100 ms, and then none.
type quota struct {
	of  time.Duration // 0: no quota
	one chan struct{} // who computes
}

const period = 100 * time.Millisecond

func (q *quota) compute(d time.Duration) {
	if q.of == 0 {
		time.Sleep(d)
		return
	}
	q.one <- struct{}{}
	defer func() { <-q.one }()
	for d > 0 {
		now := time.Duration(time.Now().UnixNano())
		into := now % period
		if into >= q.of {
			time.Sleep(period - into)
			continue
		}
		step := min(d, q.of-into)
		time.Sleep(step)
		d -= step
	}
}

// A quota lets the process run for 2 of every 100 ms, and is lifted again: no
// more than a tenth of what it allows is lost, the queue is as short as it is
// slow, and nothing of it is left when it is gone.
func TestAdmissionUnderQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(testAdmission(2))
		q := &quota{one: make(chan struct{}, 1)}
		c.compute = q.compute
		serve := func(gap, long time.Duration) int {
			before := c.served["a"]
			c.every(gap, long, func(int) { c.come(t.Context(), "a", ms(0.2), 0) })
			c.all.Wait()
			return c.served["a"] - before
		}
		all := serve(ms(0.1), 10*time.Second) // half of what 4 slots can do
		require.Equal(t, 100_000, all)
		q.of = ms(2) // 10 in a period
		cut := serve(ms(2), 60*time.Second)
		require.Greater(t, cut, 5400, "of 6000")
		q.of = 0
		before := c.refused["a"]
		serve(ms(0.1), 10*time.Second)
		require.Less(t, c.refused["a"]-before, 5000, "refused in the first half of a second")
		require.NoError(t, c.check())
	})
}

// A process that stood still for a while goes on.
func TestAdmissionAfterAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(testAdmission(2))
		goOn := make(chan struct{})
		close(goOn)
		c.compute = func(d time.Duration) { time.Sleep(d); <-goOn }
		c.every(ms(0.5), 5*time.Second, func(int) { c.come(t.Context(), "a", ms(4), 0) })
		c.all.Wait()
		goOn = make(chan struct{})
		for range 10 {
			c.come(t.Context(), "a", ms(4), 0)
		}
		time.Sleep(5 * time.Second)
		close(goOn)
		c.all.Wait()
		before := c.served["a"]
		c.every(ms(0.5), 5*time.Second, func(int) { c.come(t.Context(), "a", ms(4), 0) })
		c.all.Wait()
		require.NoError(t, c.check())
		require.Greater(t, c.served["a"]-before, 4500, "of 5000")
	})
}

// One collection is asked for ten times what there is, another for its half and
// less: that one is not refused.
func TestAdmissionIsFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(testAdmission(2))
		c.every(ms(0.1), 10*time.Second, func(i int) {
			c.come(t.Context(), "greedy", ms(4), 0)
			if i%25 == 0 {
				c.come(t.Context(), "modest", ms(4), 0) // 400 of 1000 a second
			}
		})
		c.all.Wait()
		require.NoError(t, c.check())
		require.Zero(t, c.refused["modest"])
		require.Greater(t, c.served["greedy"], 5800)
	})
}

// The gate refuses what enter would, and leaves in who enter has room for.
func TestAdmissionGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := testAdmission(1)
		c := newCrowd(a)
		require.NoError(t, a.gate("a"))
		c.every(ms(0.5), time.Second, func(int) { c.come(t.Context(), "a", ms(2), 0) }) // twice what there is
		synctest.Wait()
		require.Positive(t, a.queued)
		for a.gate("a") == nil {
			c.come(t.Context(), "a", ms(2), 0)
			synctest.Wait()
		}
		require.NoError(t, a.gate("b"), "it has nothing in the queue")
		before := c.refused["a"]
		c.come(t.Context(), "a", ms(2), 0)
		c.come(t.Context(), "b", ms(2), 0)
		synctest.Wait()
		require.Equal(t, before+2, c.refused["a"], "the last and the displaced")
		require.Zero(t, c.refused["b"])
		c.all.Wait()
		require.NoError(t, a.gate("a"))
		require.NoError(t, c.check())
	})
}

// Who cannot be served before its deadline is refused before it waits; who is
// hung up on while it waits leaves the queue.
func TestAdmissionDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(testAdmission(1))
		c.every(ms(1), time.Second, func(int) { c.come(t.Context(), "a", ms(4), 0) }) // 500 a second
		synctest.Wait()
		queued := c.a.queued
		require.Greater(t, queued, 20)
		hopeless, cancel := context.WithTimeout(t.Context(), ms(10))
		defer cancel()
		_, err := c.a.enter(hopeless, "a")
		known, ok := errors.AsType[*httpapi.Error](err)
		require.True(t, ok)
		require.Equal(t, "overloaded", known.Code)
		require.NoError(t, hopeless.Err())
		require.Equal(t, queued, c.a.queued)

		leaving, hangUp := context.WithCancel(t.Context())
		gone := make(chan error)
		for c.a.gate("b") != nil {
			time.Sleep(time.Millisecond)
		}
		go func() { _, err := c.a.enter(leaving, "b"); gone <- err }()
		synctest.Wait()
		require.Len(t, c.a.lines["b"].waiters, 1)
		hangUp()
		require.ErrorIs(t, <-gone, context.Canceled)
		c.a.mu.Lock()
		require.Nil(t, c.a.lines["b"])
		c.a.mu.Unlock()
		c.all.Wait()
		require.NoError(t, c.check())
	})
}

// A read that waits for the store holds no slot, whatever it waits for, and only
// so many may.
func TestAdmissionWhileTheStoreIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(testAdmission(1))
		for range storeWaiters {
			c.come(t.Context(), "cold", 0, time.Minute)
			synctest.Wait()
		}
		require.Equal(t, storeWaiters, c.a.away)
		require.Zero(t, c.a.computing)
		c.every(ms(1), time.Second, func(int) { c.come(t.Context(), "hot", ms(1), 0) })
		synctest.Wait()
		require.Equal(t, 1000, c.served["hot"])
		require.Zero(t, c.waited)
		one, err := c.a.enter(t.Context(), "cold")
		require.NoError(t, err)
		_, err = one.wait()
		require.ErrorContains(t, err, "overloaded")
		one.leave()
		c.all.Wait()

		// Several waits of one read count once, and one that outlives it for nothing.
		one, err = c.a.enter(t.Context(), "cold")
		require.NoError(t, err)
		first, err := one.wait()
		require.NoError(t, err)
		second, err := one.wait()
		require.NoError(t, err)
		require.Equal(t, 1, c.a.away)
		first()
		require.Equal(t, 0, c.a.computing)
		one.leave()
		second()
		require.NoError(t, c.check())
	})
}

// mistakes are an admission's that has gone wrong, and what is found.
var mistakes = map[string]struct {
	plant func(a *admission)
	found string
}{
	"none":                         {func(*admission) {}, ""},
	"more slots than there are":    {func(a *admission) { a.take(a.now()); a.computing = -3 }, "computed at once"},
	"a slot that never comes back": {func(a *admission) { a.computing++ }, "left behind"},
	"a waiter is forgotten": {func(a *admission) {
		for len(a.turns) > 0 { // taken out of the queue, and told nothing
			l := a.turns[0]
			a.drop(l.collection, l.waiters[0])
		}
	}, "computed at once"},
}

// Random reads come, compute, wait for the store, are hung up on. Nothing is left
// behind; and the check of that is shown to find what can go wrong.
func TestAdmissionRandomly(t *testing.T) {
	for name, mistake := range mistakes {
		t.Run(name, func(t *testing.T) {
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			synctest.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 1))
				a := testAdmission(2)
				c := newCrowd(a)
				var hangUps []context.CancelFunc
				for i := range 5000 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rng.IntN(int(3*time.Second))))
					hangUps = append(hangUps, cancel)
					c.come(ctx, fmt.Sprint(rng.IntN(3)), time.Duration(rng.IntN(int(ms(8)))), time.Duration(rng.IntN(2)*rng.IntN(int(ms(50)))))
					if i == 2500 {
						for range 20 { // so that there is a queue
							c.come(ctx, "0", ms(8), 0)
						}
						synctest.Wait()
						a.mu.Lock()
						mistake.plant(a)
						a.mu.Unlock()
					}
					if rng.IntN(20) == 0 {
						hangUps[rng.IntN(len(hangUps))]()
					}
					time.Sleep(time.Duration(rng.IntN(int(ms(1.5)))))
				}
				c.all.Wait()
				for _, hangUp := range hangUps {
					hangUp()
				}
				c.errs = nil // of those that were hung up on
				if err := c.check(); mistake.found == "" {
					require.NoError(t, err)
				} else {
					require.ErrorContains(t, err, mistake.found)
				}
			})
		})
	}
}

// A process with more to do than it can refuses what reads rows before it looks
// at the body, and nothing else.
func TestOverloadedProcess(t *testing.T) {
	f := newFixture(t, 2, "l2")
	f.writer.upsert("a", []float32{1, 2}, "")
	const search = `{"vector": [1, 2]}`
	status, h := f.call("POST", "/collections/movies/search", search, nil)
	require.Equal(t, 200, status)
	require.Equal(t, "1.1", string(h.Peek("X-AkiDB-Token")))

	a := f.service.admission
	var held []*slot
	for range slotsPerCore * a.procs() {
		s, err := a.enter(t.Context(), "ID1")
		require.NoError(t, err)
		held = append(held, s)
	}
	a.mu.Lock()
	a.pace.last = window{took: paceWindow, came: 700, ended: 100}
	for a.queued < a.room(a.now()) {
		_, err := a.join(t.Context(), "ID1", a.now())
		require.NoError(t, err)
	}
	a.mu.Unlock()
	for _, path := range []string{"search", "search/batch", "vectors/scroll", "vectors/count"} {
		var e httpapi.Error
		status, _ := f.call("POST", "/collections/movies/"+path, "not JSON", &e)
		require.Equal(t, 503, status, path)
		require.Equal(t, "overloaded", e.Code)
		require.Equal(t, 7*time.Second, e.RetryAfter)
	}
	status, _ = f.call("GET", "/collections/movies/vectors/a", "", &httpapi.Error{})
	require.Equal(t, 503, status)
	for _, path := range []string{"/collections", "/collections/movies"} {
		status, _ = f.call("GET", path, "", nil)
		require.Equal(t, 200, status, path)
	}
	a.mu.Lock()
	for a.queued > 0 {
		a.drop("ID1", a.lines["ID1"].waiters[0])
	}
	a.mu.Unlock()
	for _, s := range held {
		s.leave()
	}
	status, _ = f.call("POST", "/collections/movies/search", search, nil)
	require.Equal(t, 200, status)
}

// A search that waits for the store holds no slot meanwhile.
func TestColdSearchHoldsNoSlot(t *testing.T) {
	f := newFixture(t, 2, "l2")
	a := f.service.admission
	ctx := t.Context()
	s, err := a.enter(ctx, "ID1")
	require.NoError(t, err)
	defer s.leave()
	ranges := f.service.cfg.Ranges
	f.writer.upsert("a", []float32{1, 2}, "")
	f.writer.flush()
	snap, _, err := manifest.Read(ctx, f.store, "ID1")
	require.NoError(t, err)
	waits := 0
	ctx = cache.WithWaiting(ctx, func() (func(), error) {
		resume, err := s.wait()
		waits++
		require.Zero(t, a.computing)
		return resume, err
	})
	_, err = segments.OpenView(ctx, ranges, snap, nil)
	require.NoError(t, err)
	require.Positive(t, waits)
	require.Equal(t, 1, a.computing)
}
