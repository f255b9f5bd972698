package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// Policy says how often and how patiently Retry tries again.
type Policy struct {
	// Attempts is how often a call is made in all. 0 means 4.
	Attempts int
	// FirstDelay bounds the delay before the second attempt; the bound doubles
	// before each further one. 0 means 50 ms.
	FirstDelay time.Duration
	// MaxDelay bounds every delay. 0 means 2 s.
	MaxDelay time.Duration
}

// Validate reports every problem of p at once.
func (p Policy) Validate() error {
	var problems []error
	if p.Attempts < 0 {
		problems = append(problems, fmt.Errorf("attempts: got %d, want 0 or more", p.Attempts))
	}
	if p.FirstDelay < 0 {
		problems = append(problems, fmt.Errorf("first delay: got %v, want 0 or more", p.FirstDelay))
	}
	if p.MaxDelay < 0 {
		problems = append(problems, fmt.Errorf("max delay: got %v, want 0 or more", p.MaxDelay))
	}
	return errors.Join(problems...)
}

// Retry returns store with every call but Put repeated while it fails with
// ErrUnavailable and ctx lasts. Delays have full jitter: uniform between zero
// and their bound (Brooker: Exponential Backoff And Jitter, 2015). A put passes
// through, because only its caller can tell whether it was applied.
func Retry(store Store, p Policy) Store {
	if err := p.Validate(); err != nil {
		panic("BUG: " + err.Error())
	}
	if p.Attempts == 0 {
		p.Attempts = 4
	}
	if p.FirstDelay == 0 {
		p.FirstDelay = 50 * time.Millisecond
	}
	if p.MaxDelay == 0 {
		p.MaxDelay = 2 * time.Second
	}
	return retrying{store, p}
}

type retrying struct {
	store  Store
	policy Policy
}

// do makes a call until it succeeds, fails for good, or runs out of attempts.
func (r retrying) do(ctx context.Context, call func() error) error {
	var last error
	err := backoff.Retry(func() error {
		last = call()
		if last != nil && !errors.Is(last, ErrUnavailable) {
			return backoff.Permanent(last)
		}
		return last
	}, r.policy.schedule(ctx))
	if err != nil && err != last { // ctx ended between two attempts
		return fmt.Errorf("%w, after %v", err, last)
	}
	return err
}

// schedule is exponential with every delay drawn from ±100 % around half of its
// bound, which is what this library calls full jitter.
func (p Policy) schedule(ctx context.Context) backoff.BackOff {
	exponential := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(min(p.FirstDelay, p.MaxDelay)/2),
		backoff.WithMaxInterval(p.MaxDelay/2),
		backoff.WithMultiplier(2),
		backoff.WithRandomizationFactor(1),
		backoff.WithMaxElapsedTime(0), // ctx says how long
	)
	return backoff.WithContext(backoff.WithMaxRetries(exponential, uint64(p.Attempts-1)), ctx)
}

func (r retrying) Get(ctx context.Context, key string) (b []byte, version Version, err error) {
	err = r.do(ctx, func() error {
		b, version, err = r.store.Get(ctx, key)
		return err
	})
	return b, version, err
}

func (r retrying) ReadRange(ctx context.Context, key string, off int64, dst []byte) error {
	return r.do(ctx, func() error { return r.store.ReadRange(ctx, key, off, dst) })
}

func (r retrying) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, cond Condition) (Version, error) {
	return r.store.Put(ctx, key, body, size, cond)
}

func (r retrying) Stat(ctx context.Context, key string) (o Object, err error) {
	err = r.do(ctx, func() error {
		o, err = r.store.Stat(ctx, key)
		return err
	})
	return o, err
}

func (r retrying) List(ctx context.Context, l Listing) (page Page, err error) {
	err = r.do(ctx, func() error {
		page, err = r.store.List(ctx, l)
		return err
	})
	return page, err
}

func (r retrying) Delete(ctx context.Context, key string) error {
	return r.do(ctx, func() error { return r.store.Delete(ctx, key) })
}
