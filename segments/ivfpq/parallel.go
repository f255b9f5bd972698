package ivfpq

import (
	"context"
	"sync"
	"sync/atomic"
)

type yieldKey struct{}

// WithYield returns a ctx under which a build calls yield before every part of
// its work, from each of its goroutines: a place to wait for what is more
// urgent.
func WithYield(ctx context.Context, yield func()) context.Context {
	return context.WithValue(ctx, yieldKey{}, yield)
}

// parallel calls work(worker, i) for every i below count, from as many goroutines as workers,
// and stops early when ctx ends. The result must not depend on which worker does what: worker
// only chooses scratch memory.
func parallel(ctx context.Context, workers, count int, work func(worker, i int)) error {
	yield, _ := ctx.Value(yieldKey{}).(func())
	var next atomic.Int64
	var group sync.WaitGroup
	for worker := range min(workers, count) {
		group.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= count {
					return
				}
				if yield != nil {
					yield()
				}
				work(worker, i)
			}
		})
	}
	group.Wait()
	return ctx.Err()
}
