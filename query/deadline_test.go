package query

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/akidb/akidb/segments/ivfpq"
)

// lateContext is over once it was looked at so often.
type lateContext struct {
	context.Context
	left atomic.Int64
}

func (c *lateContext) Err() error {
	if c.left.Add(-1) < 0 {
		return context.DeadlineExceeded
	}
	return nil
}

// TestDeadlinePassesAnywhere has the deadline of a search pass at every look that is
// taken at it, in the middle of lists among others: the search ends with just that
// error, and never with a part of an answer.
func TestDeadlinePassesAnywhere(t *testing.T) {
	const dim, rows = 8, 3000
	f := newFixture(t, dim, "l2")
	f.writer.kind = ivfpq.IVF
	lie := newClusters(rand.New(rand.NewPCG(5, 1)), 20, dim)
	for i := range rows {
		f.writer.upsert(fmt.Sprintf("id%d", i), lie.draw(), "")
	}
	f.writer.flush()
	svc := f.newService(nil)
	r, err := svc.catalog.find(t.Context(), "movies")
	if err != nil {
		t.Fatal(err)
	}
	st, _, err := r.acquire(t.Context(), Freshness{Consistency: Eventual})
	if err != nil {
		t.Fatal(err)
	}
	lists := len(st.view.Segments[0].Postings().Lists())
	query := []search{{vector: lie.draw(), k: 10, nprobe: lists}}
	run := func(ctx context.Context) (int, error) {
		hits, runs, err := svc.searchAll(ctx, st, query)
		if err != nil {
			return 0, err
		}
		if runs[0].usage.ListsProbed != lists {
			t.Errorf("%d of %d lists were scanned", runs[0].usage.ListsProbed, lists)
		}
		return len(hits[0]), nil
	}
	if _, err := run(t.Context()); err != nil { // what is read is in memory then
		t.Fatal(err)
	}
	late := 0
	for looks := int64(0); ; looks++ {
		ctx := &lateContext{Context: t.Context()}
		ctx.left.Store(looks)
		n, err := run(ctx)
		if err == nil {
			if n != 10 {
				t.Errorf("%d looks: %d results of 10, and no error", looks, n)
			}
			break
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("%d looks: %v, want that the deadline has passed", looks, err)
		}
		late++
	}
	if want := lists / scansBetweenLooks; late < want {
		t.Errorf("a search of %d lists looks %d times at its deadline, want at least %d", lists, late, want)
	}
}
