package query

import (
	"context"

	"github.com/akidb/akidb/cache"
	"github.com/akidb/akidb/internal/httpapi"
)

// withBudget bounds the reads of the store that searches answered together may
// cost: to the sum of what each allows, as what one reads the others need not.
// One that allows any number lifts the bound.
func withBudget(ctx context.Context, asks []ask) context.Context {
	var most int64
	for i := range asks {
		n := asks[i].maxStoreGets
		if n == nil {
			return ctx
		}
		if most += *n; most < 0 {
			return ctx // so many that they cannot be added
		}
	}
	return cache.WithBudget(ctx, &cache.Budget{Most: most})
}

func overBudget(err *cache.OverBudgetError) error {
	return httpapi.Unprocessable("budget_exceeded", "max_store_gets", "the search needs %d reads of the store or more, and max_store_gets allows %d", err.Need, err.Most).
		WithHint("raise max_store_gets, lower target_recall or k, or warm the collection; nothing of the last round was read")
}
