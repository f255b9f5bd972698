package cache

import (
	"context"
	"math/bits"
	"slices"
	"sync"
	"time"
)

// hedge decides when a read of the store has taken so long that a second one is
// sent after it, and the first answer wins: a request that a store is slow to
// answer is seldom slow twice (Dean and Barroso: The Tail at Scale, 2013). That
// is when it has taken an eighth longer than 19 of 20 recent reads of about its
// size did: the eighth is for stores that always take the same time, more or less.
// What this costs is bounded: one read in twenty.
type hedge struct {
	floor time.Duration // a read may always take that long; 0: there are no second ones

	mu      sync.Mutex
	classes [hedgeClasses]latencies
	saved   int // in reads; a hedge costs hedgeEvery of them
}

const (
	// hedgeClasses are reads up to 16 KiB, 64 KiB, 256 KiB, 1 MiB, and longer.
	hedgeClasses    = 5
	leastHedgeClass = 16 << 10
	// hedgeEvery is how many reads there are at least for each second one.
	hedgeEvery = 20
	// hedgeBurst is how many second reads may be sent at once after a quiet time.
	hedgeBurst = 8
	// leastSamples is how many reads of a class are measured before one is hedged.
	leastSamples = 32
)

// latencies are how long the latest reads of a class took.
type latencies struct {
	ring  [128]time.Duration
	count int           // ever
	high  time.Duration // 95th percentile; renewed now and then
}

// renewEvery is after how many reads a percentile is looked for anew.
const renewEvery = 16

func hedgeClass(size int) int {
	return min(bits.Len(uint((max(size, 1)-1)/leastHedgeClass))+1, 2*hedgeClasses-1) / 2
}

// after is how long a read of size bytes may take before a second one is worth
// sending; false if that is not known yet.
func (h *hedge) after(size int) (time.Duration, bool) {
	if h.floor == 0 {
		return 0, false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.saved = min(h.saved+1, hedgeBurst*hedgeEvery)
	l := &h.classes[hedgeClass(size)]
	return max(l.high+l.high/8, h.floor), l.count >= leastSamples
}

// took notes how long a read took to its first answer. For one whose second
// request won this is less than the first would have taken: it makes the next
// ones more eager, within the bound on all of them.
func (h *hedge) took(size int, d time.Duration) {
	if h.floor == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	l := &h.classes[hedgeClass(size)]
	l.ring[l.count%len(l.ring)] = d
	l.count++
	if l.count%renewEvery == 0 {
		sorted := slices.Clone(l.ring[:min(l.count, len(l.ring))])
		slices.Sort(sorted)
		l.high = sorted[len(sorted)*19/20]
	}
}

// spend takes what a second read costs, if it is there.
func (h *hedge) spend() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.saved < hedgeEvery {
		return false
	}
	h.saved -= hedgeEvery
	return true
}

// fetch reads size bytes of the store for j, with a second request if the first
// one is slow. The one that loses is cancelled.
func (c *Cache) fetch(j *job, key string, off int64, size int) ([]byte, error) {
	began := time.Now()
	after, known := c.hedge.after(size)
	if !known {
		b, err := c.read(j.ctx, j.usage, key, off, size)
		if err == nil {
			c.hedge.took(size, time.Since(began))
		}
		return b, err
	}
	type answer struct {
		bytes  []byte
		err    error
		second bool
	}
	ctx, cancel := context.WithCancel(j.ctx)
	defer cancel()
	answers := make(chan answer, 2) // nobody may be there for the second
	send := func(second bool) {
		b, err := c.read(ctx, j.usage, key, off, size)
		answers <- answer{b, err, second}
	}
	c.jobs.Go(func() { send(false) })
	slow := time.NewTimer(after)
	defer slow.Stop()
	var failed error // of the first that did
	for underway := 1; underway > 0; {
		select {
		case a := <-answers:
			if a.err == nil {
				c.hedge.took(size, time.Since(began))
				if a.second {
					c.count.hedgeWon(j.usage)
				}
				return a.bytes, nil
			}
			if failed == nil {
				failed = a.err
			}
			underway--
		case <-slow.C:
			if c.slots.TryAcquire(1) {
				if !c.hedge.spend() {
					c.slots.Release(1)
					continue
				}
				c.count.hedged(j.usage)
				underway++
				c.jobs.Go(func() {
					defer c.slots.Release(1)
					send(true)
				})
			}
		}
	}
	return nil, failed
}

// read is one request to the store.
func (c *Cache) read(ctx context.Context, u *Usage, key string, off int64, size int) ([]byte, error) {
	c.count.read(u, size)
	c.count.inflight.Add(1)
	defer c.count.inflight.Add(-1)
	b := make([]byte, size)
	return b, c.store.ReadRange(ctx, key, off, b)
}
