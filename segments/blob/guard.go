package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"
	"golang.org/x/time/rate"
)

// GuardConfig says how patient a Guarded is. The zero value will do.
type GuardConfig struct {
	// Attempts is how often a call is made in all. 0 means 4.
	Attempts int
	// FirstDelay bounds the delay before the second attempt; the bound doubles
	// before each further one. 0 means 50 ms.
	FirstDelay time.Duration
	// MaxDelay bounds every delay. 0 means 2 s.
	MaxDelay time.Duration
	// RetryBurst is how many retries all calls together may make at once. 0
	// means 64: what a search of many cold segments has under way.
	RetryBurst int
	// RetryEvery is how soon a spent retry is given back. 0 means 100 ms: an
	// outage adds at most ten requests a second to those callers make.
	RetryEvery time.Duration
	// OpenFor is how long an open breaker refuses calls before it lets one
	// through as a trial. 0 means 5 s.
	OpenFor time.Duration
}

// Validate reports every problem of c at once.
func (c GuardConfig) Validate() error {
	var problems []error
	for _, n := range []struct {
		name  string
		value int
	}{{"attempts", c.Attempts}, {"retry burst", c.RetryBurst}} {
		if n.value < 0 {
			problems = append(problems, fmt.Errorf("%s: got %d, want 0 or more", n.name, n.value))
		}
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"first delay", c.FirstDelay}, {"max delay", c.MaxDelay}, {"retry every", c.RetryEvery}, {"open for", c.OpenFor}} {
		if d.value < 0 {
			problems = append(problems, fmt.Errorf("%s: got %v, want 0 or more", d.name, d.value))
		}
	}
	return errors.Join(problems...)
}

func (c GuardConfig) withDefaults() GuardConfig {
	return GuardConfig{
		Attempts:   orDefault(c.Attempts, 4),
		FirstDelay: orDefault(c.FirstDelay, 50*time.Millisecond),
		MaxDelay:   orDefault(c.MaxDelay, 2*time.Second),
		RetryBurst: orDefault(c.RetryBurst, 64),
		RetryEvery: orDefault(c.RetryEvery, 100*time.Millisecond),
		OpenFor:    orDefault(c.OpenFor, 5*time.Second),
	}
}

func orDefault[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// Guarded is a Store that does not wear out another one that is in trouble, nor
// the callers of it. Make one with Guard.
//
//   - Every attempt of a call goes through the breaker of its Class. While that
//     is open the call is refused at once, with ErrBreakerOpen.
//   - A call that fails with ErrUnavailable is repeated while ctx, Attempts and
//     the retry budget, which all calls share, last; then it fails as its last
//     attempt did. Delays have full jitter: uniform between zero and their bound
//     (Brooker: Exponential Backoff And Jitter, 2015).
//   - A put is one attempt, because only its caller can tell whether it was
//     applied.
type Guarded struct {
	store    Store
	config   GuardConfig
	budget   *rate.Limiter
	breakers [4]*breaker // in the order of Classes

	spent, refused atomic.Uint64 // retries

	mu        sync.Mutex // over every change of state and its announcement
	listeners []func(class Class, from, to BreakerState)
}

var _ Store = (*Guarded)(nil)

// Guard returns store with breakers and a retry budget around it. All of a
// process's calls to a store must go through one Guarded.
func Guard(store Store, c GuardConfig) *Guarded {
	if err := c.Validate(); err != nil {
		panic("BUG: " + err.Error())
	}
	c = c.withDefaults()
	g := &Guarded{store: store, config: c, budget: rate.NewLimiter(rate.Every(c.RetryEvery), c.RetryBurst)}
	for i, class := range Classes {
		g.breakers[i] = newBreaker(g, class)
	}
	return g
}

// ClassState is the state of one breaker.
type ClassState struct {
	Class Class
	State BreakerState
}

// State returns the state of every breaker, in the order of Classes. It costs
// four uncontended locks.
func (g *Guarded) State() []ClassState {
	out := make([]ClassState, len(g.breakers))
	for i, b := range g.breakers {
		out[i] = ClassState{b.class, b.state()}
	}
	return out
}

// Reset closes every breaker and forgets what they have counted. Results of
// calls that are under way do not count any more.
func (g *Guarded) Reset() (previous, now []ClassState) {
	for _, b := range g.breakers {
		previous = append(previous, ClassState{b.class, b.reset()})
		now = append(now, ClassState{b.class, Closed})
	}
	return previous, now
}

// OnChange has fn called at every change of a breaker's state, one call at a
// time and in order. fn must not block, nor call the Guarded. An open breaker
// turns half open when somebody calls the store, or looks with State, after
// OpenFor.
func (g *Guarded) OnChange(fn func(class Class, from, to BreakerState)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.listeners = append(g.listeners, fn)
}

// Retries returns how many retries were made, and how many were not because the
// budget was spent.
func (g *Guarded) Retries() (made, refused uint64) { return g.spent.Load(), g.refused.Load() }

// do makes a call until it succeeds, fails for good, or runs out of attempts.
func (g *Guarded) do(ctx context.Context, b *breaker, call func() error) error {
	var last error
	err := backoff.Retry(func() error {
		err := b.do(ctx, call)
		if last != nil && errors.Is(err, ErrBreakerOpen) {
			return backoff.Permanent(last) // not "never sent": an earlier attempt was
		}
		last = err
		if err != nil && (!errors.Is(err, ErrUnavailable) || errors.Is(err, ErrBreakerOpen)) {
			return backoff.Permanent(err)
		}
		return err
	}, g.schedule(ctx))
	if err != nil && err != last { // ctx ended between two attempts
		return fmt.Errorf("%w, after %v", err, last)
	}
	return err
}

// schedule is exponential with every delay drawn from ±100 % around half of its
// bound, which is what this library calls full jitter.
func (g *Guarded) schedule(ctx context.Context) backoff.BackOff {
	c := g.config
	exponential := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(min(c.FirstDelay, c.MaxDelay)/2),
		backoff.WithMaxInterval(c.MaxDelay/2),
		backoff.WithMultiplier(2),
		backoff.WithRandomizationFactor(1),
		backoff.WithMaxElapsedTime(0), // ctx says how long
	)
	limited := backoff.WithMaxRetries(exponential, uint64(c.Attempts-1))
	return backoff.WithContext(budgeted{limited, g}, ctx)
}

// budgeted pays for every retry from the budget.
type budgeted struct {
	backoff.BackOff
	g *Guarded
}

func (b budgeted) NextBackOff() time.Duration {
	delay := b.BackOff.NextBackOff()
	switch {
	case delay == backoff.Stop:
	case b.g.budget.Allow():
		b.g.spent.Add(1)
	default:
		b.g.refused.Add(1)
		return backoff.Stop
	}
	return delay
}

// Get implements Store.
func (g *Guarded) Get(ctx context.Context, key string) (b []byte, version Version, err error) {
	err = g.do(ctx, g.breakers[read], func() error {
		b, version, err = g.store.Get(ctx, key)
		return err
	})
	return b, version, named(err, "get", key)
}

// ReadRange implements Store.
func (g *Guarded) ReadRange(ctx context.Context, key string, off int64, dst []byte) error {
	err := g.do(ctx, g.breakers[read], func() error { return g.store.ReadRange(ctx, key, off, dst) })
	return named(err, "read", key)
}

// Put implements Store.
func (g *Guarded) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, cond Condition) (version Version, err error) {
	err = g.breakers[write].do(ctx, func() error {
		version, err = g.store.Put(ctx, key, body, size, cond)
		return err
	})
	return version, named(err, "put", key)
}

// Stat implements Store.
func (g *Guarded) Stat(ctx context.Context, key string) (o Object, err error) {
	err = g.do(ctx, g.breakers[read], func() error {
		o, err = g.store.Stat(ctx, key)
		return err
	})
	return o, named(err, "stat", key)
}

// List implements Store.
func (g *Guarded) List(ctx context.Context, l Listing) (page Page, err error) {
	err = g.do(ctx, g.breakers[list], func() error {
		page, err = g.store.List(ctx, l)
		return err
	})
	return page, named(err, "list", l.Prefix)
}

// Delete implements Store.
func (g *Guarded) Delete(ctx context.Context, key string) error {
	err := g.do(ctx, g.breakers[remove], func() error { return g.store.Delete(ctx, key) })
	return named(err, "delete", key)
}

// named adds the operation to an error that no store has seen.
func named(err error, operation, key string) error {
	if errors.Is(err, ErrBreakerOpen) {
		return fmt.Errorf("%s %q: %w", operation, key, err)
	}
	return err
}
