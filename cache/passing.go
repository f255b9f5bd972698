package cache

import (
	"context"

	"github.com/akidb/akidb/segments/blob"
)

type passingKey struct{}

// WithPassing returns a context whose reads leave nothing in memory but routing data: what they read
// is kept by whoever asks, in a form of his own, and would be there twice. The disk keeps it.
func WithPassing(ctx context.Context) context.Context {
	return context.WithValue(ctx, passingKey{}, true)
}

// keeps reports whether a range that is read under ctx is to be kept in memory.
func keeps(ctx context.Context, r blob.Range) bool {
	return r.Role == blob.Routing || ctx.Value(passingKey{}) == nil
}
