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
	ask := func(ctx context.Context) (int, error) {
		hits, runs, err := svc.searchAll(ctx, st, query)
		if err != nil {
			return 0, err
		}
		if runs[0].usage.ListsProbed != lists {
			t.Errorf("%d of %d lists were scanned", runs[0].usage.ListsProbed, lists)
		}
		return len(hits[0]), nil
	}
	if _, err := ask(t.Context()); err != nil { // what is read is in memory then
		t.Fatal(err)
	}
	late := 0
	for looks := int64(0); ; looks++ {
		ctx := &lateContext{Context: t.Context()}
		ctx.left.Store(looks)
		n, err := ask(ctx)
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
	if late == 0 {
		t.Error("no look was taken at the deadline")
	}

	// In the middle of the lists, no more of them are scanned than lie between two looks.
	whole := &run{service: svc, st: st, search: query[0], metric: ivfpq.L2, best: best{k: 10, within: query[0].within(ivfpq.L2)}}
	defer whole.release()
	l, err := whole.begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer l.release()
	scans := takeLists(l.probings)
	for i := range scans {
		scans[i].search = l
	}
	if err := fetch(t.Context(), st.view, scans); err != nil {
		t.Fatal(err)
	}
	ctx := &lateContext{Context: t.Context()}
	ctx.left.Store(1)
	if err := scanRound(ctx, scans); !errors.Is(err, context.DeadlineExceeded) || whole.usage.ListsProbed != scansBetweenLooks || len(scans) <= scansBetweenLooks {
		t.Errorf("%v after %d of %d lists, want that the deadline has passed after %d", err, whole.usage.ListsProbed, len(scans), scansBetweenLooks)
	}
}
