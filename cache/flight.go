package cache

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"math"
	"slices"

	"github.com/akidb/akidb/segments/blob"
)

// flight is one range on its way from the store, and those who wait for it.
type flight struct {
	of   blob.Range
	done chan struct{} // closed once bytes or err is set

	bytes []byte
	err   error

	waiters int  // guarded by Cache.mu
	keep    bool // in memory, as one of them wants; guarded by Cache.mu
	job     *job // set by whoever made the flight, before it leaves
}

// job is one read of the store for the flights that lie in it. It is cancelled
// when nobody waits for any of them.
type job struct {
	flights []*flight // of one object, by offset
	ctx     context.Context
	cancel  context.CancelFunc
	usage   *Usage // of the caller who began it
	wanted  int    // flights still under way; guarded by Cache.mu
}

func (j *job) start() int64 { return j.flights[0].of.Offset }

// board returns the flights that bring rs[missing], joining those under way
// and starting jobs for the others.
func (c *Cache) board(ctx context.Context, usage *Usage, rs []blob.Range, missing []int) []*flight {
	flights := make([]*flight, len(missing))
	var made []*flight
	c.mu.Lock()
	for n, i := range missing {
		f := c.flights[rs[i].Bytes()]
		if f == nil {
			f = &flight{of: rs[i], done: make(chan struct{})}
			c.flights[rs[i].Bytes()] = f
			made = append(made, f)
		}
		f.waiters++
		f.keep = f.keep || keeps(ctx, rs[i])
		flights[n] = f
	}
	c.mu.Unlock()
	c.count.missed(usage, len(missing), len(missing)-len(made))
	for _, j := range plan(made, c.config.GapBytes, c.config.SpanBytes) {
		// Values such as a trace come along; the caller's deadline does not,
		// because others may still wait when it has passed.
		j.ctx, j.cancel = context.WithCancel(context.WithoutCancel(ctx))
		j.usage = usage
		j.wanted = len(j.flights)
		for _, f := range j.flights {
			f.job = j
		}
		c.jobs.Go(func() { c.run(j) })
	}
	return flights
}

// leave takes one waiter off every flight. What nobody waits for any more is
// given up, and cannot be joined.
func (c *Cache) leave(flights []*flight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range flights {
		f.waiters--
		if f.waiters == 0 {
			c.strike(f)
		}
	}
}

// strike takes f off the list of those under way, unless it is off already,
// and cancels its job if it was the last of it. Cache.mu is held.
func (c *Cache) strike(f *flight) {
	if c.flights[f.of.Bytes()] != f {
		return
	}
	delete(c.flights, f.of.Bytes())
	f.job.wanted--
	if f.job.wanted == 0 {
		f.job.cancel()
	}
}

// plan groups flights into jobs: ranges of one object at most gap bytes apart,
// as long as the whole does not get longer than span.
func plan(flights []*flight, gap, span int64) []*job {
	slices.SortFunc(flights, func(a, b *flight) int {
		return cmp.Or(cmp.Compare(a.of.Key, b.of.Key), cmp.Compare(a.of.Offset, b.of.Offset))
	})
	gap = max(gap, 0)
	var jobs []*job
	var end int64 // of the last job
	for _, f := range flights {
		if len(jobs) > 0 {
			last := jobs[len(jobs)-1]
			to := max(end, endOf(f.of))
			if f.of.Key == last.flights[0].of.Key && f.of.Offset >= 0 && last.start() >= 0 &&
				f.of.Offset-end <= gap && to-last.start() <= span {
				last.flights = append(last.flights, f)
				end = to
				continue
			}
		}
		jobs = append(jobs, &job{flights: []*flight{f}})
		end = endOf(f.of)
	}
	return jobs
}

// endOf is where r ends, or as far as a range can be told to reach.
func endOf(r blob.Range) int64 {
	if r.Offset > math.MaxInt64-int64(r.Length) {
		return math.MaxInt64
	}
	return r.Offset + int64(r.Length)
}

// run reads what j is for and lands its flights.
func (c *Cache) run(j *job) {
	defer j.cancel()
	if err := c.slots.Acquire(j.ctx, 1); err != nil {
		for _, f := range j.flights {
			c.land(f, nil, err)
		}
		return
	}
	defer c.slots.Release(1)
	if len(j.flights) > 1 {
		c.readSpan(j)
		return
	}
	f := j.flights[0]
	b, err := c.readVerified(j, f.of, 2)
	c.land(f, b, err)
}

// readSpan reads all of j at once. Parts that are not what they should be, and
// all of them if the store refuses the whole, get a read of their own, so that
// no range fails for what its neighbours are.
func (c *Cache) readSpan(j *job) {
	start, end := j.start(), int64(0)
	for _, f := range j.flights {
		end = max(end, endOf(f.of))
	}
	span, err := c.fetch(j, j.flights[0].of.Key, start, int(end-start))
	for _, f := range j.flights {
		if err != nil {
			if errors.Is(err, blob.ErrUnavailable) || j.ctx.Err() != nil {
				c.land(f, nil, err)
			} else {
				b, err := c.readVerified(j, f.of, 2)
				c.land(f, b, err)
			}
			continue
		}
		at := f.of.Offset - start
		part := span[at : at+int64(f.of.Length)]
		if f.of.Verify(part) == nil {
			// A copy: the span would be kept whole by any part of it.
			c.land(f, bytes.Clone(part), nil)
			continue
		}
		c.count.corrupt.Add(1)
		b, err := c.readVerified(j, f.of, 1)
		c.land(f, b, err)
	}
}

// readVerified reads one range. Damage may have happened on the way, so it is
// believed only in the last of several tries.
func (c *Cache) readVerified(j *job, r blob.Range, tries int) ([]byte, error) {
	for {
		b, err := c.fetch(j, r.Key, r.Offset, r.Length)
		if err != nil {
			return nil, err
		}
		err = r.Verify(b)
		if err == nil {
			return b, nil
		}
		c.count.corrupt.Add(1)
		if tries--; tries == 0 {
			return nil, err
		}
	}
}

// land hands the outcome to everybody who waits. The block is offered to
// memory first, so that whoever comes too late for the flight finds it there.
func (c *Cache) land(f *flight, b []byte, err error) {
	if err == nil {
		c.mu.Lock()
		keep := f.keep
		c.mu.Unlock()
		if keep {
			c.ram.put(f.of, b)
		}
		if c.disk != nil {
			c.disk.put(f.of, b)
		}
	}
	f.bytes, f.err = b, err
	c.mu.Lock()
	c.strike(f)
	c.mu.Unlock()
	close(f.done)
}
