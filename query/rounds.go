package query

import (
	"context"
	"sync"
)

// rounds lets any number of callers share runs of one function, where a caller
// is only content with a run that began after it asked. At most one run is
// under way; whoever arrives meanwhile shares the next.
type rounds struct {
	mu      sync.Mutex
	running *round
	next    *round
}

type round struct {
	done chan struct{}
	err  error
}

// do returns the result of a run of fn that began after do was called. The run
// goes on under runCtx when the caller's ctx ends, because others may wait for it.
func (r *rounds) do(ctx, runCtx context.Context, fn func(context.Context) error) error {
	r.mu.Lock()
	mine := r.next
	if mine == nil {
		mine = &round{done: make(chan struct{})}
		if r.running == nil {
			r.running = mine
			go r.run(runCtx, mine, fn)
		} else {
			r.next = mine
		}
	}
	r.mu.Unlock()
	select {
	case <-mine.done:
		return mine.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (r *rounds) run(ctx context.Context, current *round, fn func(context.Context) error) {
	for current != nil {
		current.err = fn(ctx)
		close(current.done)
		r.mu.Lock()
		current, r.next = r.next, nil
		r.running = current
		r.mu.Unlock()
	}
}
