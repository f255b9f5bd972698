package cache

import (
	"errors"
	"testing"

	"github.com/akidb/akidb/segments/blob"
)

// TestBudget: reads that a budget does not allow are not sent, not even those
// that it would have allowed; what is in the cache is free.
func TestBudget(t *testing.T) {
	c, store, content := setup(t, Config{Bytes: 1 << 20, GapBytes: 100})
	defer c.Close()
	near := []blob.Range{rangeOf("a", content, 0, 50), rangeOf("a", content, 60, 50)} // one read
	far := []blob.Range{rangeOf("a", content, 100_000, 50), rangeOf("a", content, 200_000, 50), rangeOf("a", content, 200_000, 50)}
	ctx := WithBudget(t.Context(), &Budget{Most: 2})
	if _, err := c.ReadRanges(ctx, near); err != nil || store.count() != 1 {
		t.Fatalf("%v after %d reads, want 1 within the budget", err, store.count())
	}
	_, err := c.ReadRanges(ctx, far)
	if over, ok := errors.AsType[*OverBudgetError](err); !ok || over.Need != 3 || over.Most != 2 || store.count() != 1 {
		t.Fatalf("got %v after %d reads, want that 3 of 2 are needed, after 1", err, store.count())
	}
	c.ram.settle()
	if _, err := c.ReadRanges(ctx, near); err != nil || store.count() != 1 {
		t.Fatalf("%v after %d reads: what is in the cache is free", err, store.count())
	}
	if _, err := c.ReadRange(ctx, far[0]); err != nil || store.count() != 2 {
		t.Fatalf("%v after %d reads: the refused call must not have cost anything", err, store.count())
	}
	if _, err := c.ReadRange(ctx, far[1]); err == nil || store.count() != 2 {
		t.Fatalf("%v after %d reads, want a third refused", err, store.count())
	}
	if _, err := c.ReadRanges(WithBudget(t.Context(), &Budget{}), near); err != nil {
		t.Fatalf("a budget of nothing: %v for what is in the cache", err)
	}
}
