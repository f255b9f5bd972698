package cache

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/akidb/akidb/segments/blob"
)

// What passes through is read again by whoever wants it next, unless somebody
// who keeps it waited for it too; routing data is kept in any case.
func TestPassingReadsAreNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, store, content := setup(t, Config{Bytes: 1 << 20})
		defer c.Close()
		passing := WithPassing(t.Context())
		read := func(ctx context.Context, r blob.Range, reads int) {
			t.Helper()
			before := store.count()
			if b, err := c.ReadRange(ctx, r); err != nil || string(b) != string(content[r.Offset:][:r.Length]) {
				t.Fatalf("%v, %d bytes", err, len(b))
			}
			c.ram.settle()
			if n := store.count() - before; n != reads {
				t.Errorf("range at %d: %d reads, want %d", r.Offset, n, reads)
			}
		}
		posting, routing, shared := rangeOf("a", content, 0, 100), rangeOf("a", content, 4096, 100), rangeOf("a", content, 1<<19, 100)
		routing.Role = blob.Routing
		read(passing, posting, 1)
		read(passing, posting, 1)
		read(t.Context(), posting, 1)
		read(passing, posting, 0)
		read(passing, routing, 1)
		read(t.Context(), routing, 0)

		going := make(chan struct{})
		store.during = func(context.Context, string, int64, []byte) error { <-going; return nil }
		for _, ctx := range []context.Context{passing, t.Context(), passing} {
			go func() { _, _ = c.ReadRange(ctx, shared) }()
			synctest.Wait()
		}
		close(going)
		synctest.Wait()
		store.during = nil
		read(t.Context(), shared, 0)
	})
}
