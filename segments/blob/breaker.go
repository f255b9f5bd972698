package blob

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// ErrBreakerOpen: the call was not sent, because too many like it have failed.
// A put that ends with it was certainly not applied. It is an ErrUnavailable.
var ErrBreakerOpen = fmt.Errorf("not sent, the circuit breaker is open: %w", ErrUnavailable)

// Class is a kind of operation that has a breaker of its own: a store that
// takes no writes may still answer reads.
type Class string

// Classes are all there are: Get, ReadRange and Stat; Put; List; Delete.
var Classes = [...]Class{read: "read", write: "write", list: "list", remove: "delete"}

const (
	read = iota
	write
	list
	remove
)

// BreakerState is what a breaker does with calls.
type BreakerState string

// The states of a breaker.
const (
	Closed   BreakerState = "closed"    // lets them through
	Open     BreakerState = "open"      // refuses them
	HalfOpen BreakerState = "half_open" // lets one through, whose result decides
)

var stateOf = map[gobreaker.State]BreakerState{
	gobreaker.StateClosed: Closed, gobreaker.StateOpen: Open, gobreaker.StateHalfOpen: HalfOpen,
}

// When a breaker opens.
const (
	// maxFailures in a row within the window are an outage. A busy store fails
	// now and then, but hardly five times without a success between.
	maxFailures = 5
	// minCalls is from when on half of the calls failing is a matter of the
	// store and not of chance.
	minCalls = 20
	window   = 10 * time.Second
	// maxInVain is how much waiting, in two or more failed attempts in a row, is
	// enough: a store that never answers costs each of them seconds, so that
	// few callers would take long to come to maxFailures.
	maxInVain = 5 * time.Second
	// hurry is the wait below which a caller's own deadline tells nothing of the
	// store: one who allows a millisecond must not shut it for everybody.
	hurry = time.Second
)

// breaker is a gobreaker that can be reset.
type breaker struct {
	guard   *Guarded
	class   Class
	current atomic.Pointer[gobreaker.CircuitBreaker[struct{}]]
	inVain  atomic.Int64 // nanoseconds in attempts that failed since one did not

	// under guard.mu
	generation int          // counts resets
	announced  BreakerState // what listeners know
}

func newBreaker(g *Guarded, class Class) *breaker {
	b := &breaker{guard: g, class: class, announced: Closed}
	b.current.Store(b.anew(0))
	return b
}

// anew returns a closed gobreaker, which speaks for b while generation lasts.
func (b *breaker) anew(generation int) *gobreaker.CircuitBreaker[struct{}] {
	return gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests:  1, // trials at a time
		Interval:     window,
		BucketPeriod: window / 10,
		Timeout:      b.guard.config.OpenFor,
		ReadyToTrip:  b.isOutage,
		IsExcluded:   func(err error) bool { return err == errNoVerdict },
		OnStateChange: func(_ string, _, to gobreaker.State) {
			b.guard.mu.Lock()
			defer b.guard.mu.Unlock()
			if generation == b.generation {
				b.announce(stateOf[to])
			}
		},
	})
}

func (b *breaker) isOutage(c gobreaker.Counts) bool {
	return c.ConsecutiveFailures >= maxFailures ||
		c.ConsecutiveFailures >= 2 && time.Duration(b.inVain.Load()) >= maxInVain ||
		c.TotalFailures+c.TotalSuccesses >= minCalls && c.TotalFailures >= c.TotalSuccesses
}

// announce tells listeners; guard.mu is held.
func (b *breaker) announce(to BreakerState) {
	from := b.announced
	if from == to {
		return
	}
	b.announced = to
	for _, listener := range b.guard.listeners {
		listener(b.class, from, to)
	}
}

func (b *breaker) state() BreakerState { return stateOf[b.current.Load().State()] }

func (b *breaker) reset() (previous BreakerState) {
	b.state() // announces what time has changed
	b.guard.mu.Lock()
	defer b.guard.mu.Unlock()
	previous = b.announced
	b.generation++
	b.inVain.Store(0)
	b.current.Store(b.anew(b.generation))
	b.announce(Closed)
	return previous
}

// do makes one attempt, or refuses it.
func (b *breaker) do(ctx context.Context, call func() error) (err error) {
	_, verdict := b.current.Load().Execute(func() (struct{}, error) {
		began := time.Now()
		err = call()
		return struct{}{}, b.judge(ctx, err, time.Since(began))
	})
	if errors.Is(verdict, gobreaker.ErrOpenState) || errors.Is(verdict, gobreaker.ErrTooManyRequests) {
		return ErrBreakerOpen
	}
	return err
}

var (
	errFailed    = errors.New("the store failed")
	errNoVerdict = errors.New("the caller gave up")
)

// judge says what an attempt that took so long and ended with err tells of the
// store: nil if it does its work, errFailed, or errNoVerdict.
func (b *breaker) judge(ctx context.Context, err error, took time.Duration) error {
	switch {
	case err == nil:
	case ctx.Err() != nil && errors.Is(err, context.Canceled),
		ctx.Err() != nil && errors.Is(err, context.DeadlineExceeded) && took < hurry:
		return errNoVerdict
	case errors.Is(err, ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		b.inVain.Add(int64(took))
		return errFailed
	}
	b.inVain.Store(0)
	return nil
}
