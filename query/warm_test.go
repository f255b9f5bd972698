package query

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/valyala/fasthttp"

	"github.com/akidb/akidb/internal/info"
	"github.com/akidb/akidb/segments/ivfpq"
	"github.com/akidb/akidb/segments/manifest"
)

// Segments are warmed while others search, compact and give up waiting.
func TestWarmSegments(t *testing.T) {
	w := newTown(t, 10, 100*segmentBytes, "a")
	for range 3 {
		w.grow("a")
	}
	w.search("a", 1)
	ids := func() (out []string) {
		for _, seg := range w.writers["a"].log.Snapshot().Segments {
			out = append(out, seg.ID)
		}
		return out
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.service.warmSegments(gone, "ID001", ids()[:1]); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			if err := w.service.warmSegments(t.Context(), "ID001", append(ids(), "nobody")); err != nil {
				t.Error(err)
			}
		})
	}
	w.search("a", 3)
	group.Wait()
	if w.inMemory("a") != 3 {
		t.Errorf("%d in memory, want all", w.inMemory("a"))
	}
	w.writers["a"].compact()
	if err := w.service.warmSegments(t.Context(), "ID001", ids()); err != nil || w.inMemory("a") != 1 {
		t.Errorf("%v, %d in memory after a compaction, want it", err, w.inMemory("a"))
	}
	if list := w.service.hotList(); len(list) != 1 || list[0].collection != "ID001" || list[0].id != ids()[0] || list[0].heat < residentAfter || list[0].bytes != w.service.resident.hot.Bytes() {
		t.Errorf("listed as %+v", list)
	}
	if err := w.service.warmSegments(t.Context(), "ID9", nil); err == nil {
		t.Error("a collection that nobody has was warmed")
	}
	small := w.serve(w.fixture, 1000)
	if err := small.warmSegments(t.Context(), "ID001", ids()); !errors.Is(err, errNoRoom) {
		t.Errorf("without room: %v", err)
	}
	w.place("a", manifest.Cold, false)
	w.settle()
	if err := w.service.warmSegments(t.Context(), "ID001", ids()); err != nil || w.inMemory("a") != 0 {
		t.Errorf("%v, %d in memory, placed elsewhere", err, w.inMemory("a"))
	}
}

// Where a collection is not to be in memory whole, warming it fills the caches:
// the next search reads nothing from the store.
func TestWarmingFillsTheCaches(t *testing.T) {
	f := newFixture(t, townDim, "l2")
	f.writer.kind = ivfpq.IVF
	draw := newClusters(rand.New(rand.NewPCG(11, 1)), 10, townDim)
	for i := range townRows {
		f.writer.upsert(fmt.Sprint("id", i), draw.draw(), "")
	}
	f.writer.flush()
	f.writer.commit(func(next *manifest.Snapshot) {
		next.Placement = &manifest.Placement{Tier: manifest.Warm, Since: f.now}
	})
	f.inBubble(t, func(t *testing.T) {
		var warmed WarmResponse
		if status, _ := f.call("POST", "/collections/movies/warm", `{"wait":true,"parts":["vectors","postings"]}`, &warmed); status != fasthttp.StatusOK {
			t.Fatalf("status %d", status)
		}
		if warmed.ResidentBytes != 0 || warmed.PostingsBytes == 0 || warmed.Condition != "" || warmed.SegmentCount != 1 {
			t.Errorf("it says %+v", warmed)
		}
		synctest.Wait() // for what was offered to the caches
		var got searchAnswer
		f.call("POST", "/collections/movies/search", fmt.Sprintf(`{"vector":%s,"k":7,"nprobe":1000,"include":[]}`, vectorJSONOf(draw.draw())), &got)
		if got.Usage.StoreGets != 0 || got.Usage.Cache != info.Hot {
			t.Errorf("a search after it cost %+v", got.Usage)
		}
		if status, _ := f.call("POST", "/collections/movies/warm", "", nil); status != fasthttp.StatusAccepted {
			t.Errorf("status %d without waiting", status)
		}
	})
}
