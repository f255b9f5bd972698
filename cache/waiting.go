package cache

import "context"

type waitingKey struct{}

// WithWaiting returns a context whose reads call wait before they wait for the
// store, and what it returns when they do not any more: so that nobody holds
// meanwhile what others could use. A read that wait refuses fails with its error.
func WithWaiting(ctx context.Context, wait func() (done func(), err error)) context.Context {
	return context.WithValue(ctx, waitingKey{}, wait)
}

// BeginWaiting is for whoever carries such a context and waits for something
// else. done is never nil.
func BeginWaiting(ctx context.Context) (done func(), err error) {
	done = func() {}
	if wait, ok := ctx.Value(waitingKey{}).(func() (func(), error)); ok {
		var resume func()
		if resume, err = wait(); err == nil {
			done = resume
		}
	}
	return done, err
}
