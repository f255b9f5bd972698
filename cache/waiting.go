package cache

import "context"

type waitingKey struct{}

// WithWaiting returns a context whose reads call wait before they wait for the
// store, and what it returns when they do not any more: so that nobody holds
// meanwhile what others could use. A read that wait refuses fails with its error.
func WithWaiting(ctx context.Context, wait func() (done func(), err error)) context.Context {
	return context.WithValue(ctx, waitingKey{}, wait)
}

func beginWaiting(ctx context.Context) (done func(), err error) {
	if wait, ok := ctx.Value(waitingKey{}).(func() (func(), error)); ok {
		return wait()
	}
	return func() {}, nil
}
