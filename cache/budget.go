package cache

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/akidb/akidb/segments/blob"
)

// Budget bounds the reads of the store that one query, or whatever else
// carries it in its context, may begin. A call that would need more fails with
// an *OverBudgetError before any of its reads is sent. What is in the cache, or
// on its way for somebody else, costs nothing. A read that has to be repeated
// because it failed is counted once.
type Budget struct {
	Most  int64
	begun atomic.Int64
}

// OverBudgetError says that reads were not begun because there would have been
// too many.
type OverBudgetError struct {
	Most int64
	Need int64 // with the next round of reads; there may be further rounds
}

func (e *OverBudgetError) Error() string {
	return fmt.Sprintf("%d reads of the store are needed or more, %d are allowed", e.Need, e.Most)
}

type budgetKey struct{}

// WithBudget returns a context whose reads count against b.
func WithBudget(ctx context.Context, b *Budget) context.Context {
	return context.WithValue(ctx, budgetKey{}, b)
}

// Budgeted reports whether reads under ctx count against a budget.
func Budgeted(ctx context.Context) bool {
	_, ok := ctx.Value(budgetKey{}).(*Budget)
	return ok
}

// afford takes the reads that bring rs[missing] off the budget of ctx, if it
// has one.
func (c *Cache) afford(ctx context.Context, rs []blob.Range, missing []int) error {
	budget, ok := ctx.Value(budgetKey{}).(*Budget)
	if !ok {
		return nil
	}
	var own []*flight
	seen := map[blob.Range]bool{}
	c.mu.Lock()
	for _, i := range missing {
		if id := rs[i].Bytes(); c.flights[id] == nil && !seen[id] {
			seen[id] = true
			own = append(own, &flight{of: rs[i]})
		}
	}
	c.mu.Unlock()
	reads := int64(len(plan(own, c.config.GapBytes, c.config.SpanBytes)))
	if need := budget.begun.Add(reads); need > budget.Most {
		budget.begun.Add(-reads)
		return &OverBudgetError{Most: budget.Most, Need: need}
	}
	return nil
}
