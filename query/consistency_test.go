package query

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/internal/info"
	"github.com/akidb/akidb/internal/memtable"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/faultblob"
	"github.com/akidb/akidb/segments/manifest"
)

func TestConsistency(t *testing.T) {
	f := newFixture(t, 2, "l2")
	w := f.writer
	search := func(extra string) (int, string, httpapi.Error, int) {
		t.Helper()
		var got searchAnswer
		body := fmt.Sprintf(`{"vector":[1,2]%s}`, extra)
		status, h := f.call("POST", "/collections/movies/search", body, &got)
		var e httpapi.Error
		if status != 200 {
			f.call("POST", "/collections/movies/search", body, &e)
		}
		return status, string(h.Peek("X-AkiDB-Consistency")), e, len(got.Results)
	}
	w.upsert("a", []float32{1, 2}, "")
	if status, given, _, n := search(""); status != 200 || given != "latest" || n != 1 {
		t.Fatalf("status %d, %s, %d results", status, given, n)
	}
	w.upsert("b", []float32{1, 3}, "")
	if _, given, _, n := search(`,"consistency":"eventual"`); given != "eventual" || n != 1 {
		t.Fatalf("eventual asked the writer: %s, %d results", given, n)
	}
	if status, given, _, n := search(`,"consistency":"eventual","token":"1.2"`); status != 200 || given != "latest" || n != 2 {
		t.Fatalf("token: status %d, %s, %d results", status, given, n)
	}
	asked := w.asked
	if _, given, _, _ := search(`,"token":"1.2"`); given != "token" || w.asked != asked {
		t.Fatalf("a token that was covered: %s, writer asked %d times", given, w.asked-asked)
	}
	if status, _, e, _ := search(`,"token":"1.3"`); status != 503 || e.Code != "token_not_visible" {
		t.Fatalf("a token of the future: status %d, %s", status, e.Code)
	}
	if status, given, _, n := search(`,"consistency":"strong"`); status != 200 || given != "strong" || n != 2 {
		t.Fatalf("strong: status %d, %s, %d results", status, given, n)
	}

	w.down = errors.New("connection refused")
	w.upsert("c", []float32{1, 4}, "")
	if status, given, _, n := search(""); status != 200 || given != "eventual" || n != 2 {
		t.Fatalf("writer down: status %d, %s, %d results", status, given, n)
	}
	if f.why("writer") == "" {
		t.Error("reads without the writer are not said to be degraded")
	}
	if status, _, e, _ := search(`,"consistency":"strong"`); status != 503 || e.RetryAfter == 0 {
		t.Fatalf("writer down, strong: status %d, %+v", status, e)
	}
	asked = w.asked
	f.advance(100 * time.Millisecond)
	if search(""); w.asked != asked {
		t.Error("the writer was asked again at once after it failed")
	}
	w.down = nil
	f.advance(writerPause)
	if _, given, _, n := search(""); given != "latest" || n != 3 {
		t.Fatalf("writer back: %s, %d results", given, n)
	}
	if f.why("writer") != "" {
		t.Error("the writer is back and said to be away")
	}
}

func TestStalenessIsSaid(t *testing.T) {
	f := newFixture(t, 2, "l2")
	f.writer.upsert("a", []float32{1, 2}, "")
	f.writer.flush()
	f.service = f.newService(nil)
	f.router = httpapi.NewRouter()
	f.service.Register(f.router)
	get := func() (string, string) {
		_, h := f.call("POST", "/collections/movies/vectors/count", `{"consistency":"eventual"}`, nil)
		return string(h.Peek("X-AkiDB-Consistency")), string(h.Peek("X-AkiDB-Staleness-Ms"))
	}
	if c, s := get(); c != "eventual" || s != "0" {
		t.Fatalf("%s, %s ms", c, s)
	}
	f.advance(700 * time.Millisecond)
	if c, s := get(); c != "eventual" || s != "700" {
		t.Fatalf("%s, %s ms", c, s)
	}
	f.advance(700 * time.Millisecond) // older than a second: latest reads CURRENT
	_, h := f.call("POST", "/collections/movies/vectors/count", `{}`, nil)
	if c, s := string(h.Peek("X-AkiDB-Consistency")), string(h.Peek("X-AkiDB-Staleness-Ms")); c != "eventual" || s != "0" {
		t.Fatalf("latest without a writer: %s, %s ms", c, s)
	}
}

// TestADescriptionShowsTheNewestManifest: a client that has just flushed and
// looks at the collection must see the segment.
func TestADescriptionShowsTheNewestManifest(t *testing.T) {
	f := newFixture(t, 2, "l2")
	for i := range 5 {
		f.writer.upsert(fmt.Sprint(i), []float32{1, 2}, "")
		f.call("POST", "/collections/movies/vectors/count", "", nil) // the tail is known
		f.writer.flush()
		var told info.Collection
		f.call("GET", "/collections/movies", "", &told)
		if told.SegmentCount != i+1 || told.UnindexedCount != 0 || told.VectorCount != uint64(i+1) {
			t.Fatalf("after flush %d: %+v", i+1, told)
		}
	}
}

// TestATokenLooksAgain: a process without a writer that has just read CURRENT
// reads it again for a write it does not have.
func TestATokenLooksAgain(t *testing.T) {
	f := newFixture(t, 2, "l2")
	f.service = f.newService(nil)
	f.router = httpapi.NewRouter()
	f.service.Register(f.router)
	f.writer.upsert("a", []float32{1, 2}, "")
	f.writer.flush()
	f.call("POST", "/collections/movies/vectors/count", "", nil)
	f.writer.upsert("b", []float32{1, 2}, "")
	f.writer.flush()
	var n struct{ Count int }
	if status, _ := f.call("POST", "/collections/movies/vectors/count", `{"token":"1.2"}`, &n); status != 200 || n.Count != 2 {
		t.Fatalf("status %d, %d rows", status, n.Count)
	}
}

// TestTailIsNeverJoinedAcrossAGap lets the writer flush and forget between two
// reads, once and several times.
func TestTailIsNeverJoinedAcrossAGap(t *testing.T) {
	f := newFixture(t, 2, "l2")
	count := func() (n struct{ Count int }) {
		f.call("POST", "/collections/movies/vectors/count", `{}`, &n)
		return n
	}
	for i := range 30 {
		f.writer.upsert(fmt.Sprintf("id%d", i), []float32{float32(i), 1}, "")
		if i%3 == 0 {
			f.writer.flush()
		}
		if i%5 == 0 {
			if got := count(); got.Count != i+1 {
				t.Fatalf("%d rows after %d", got.Count, i+1)
			}
		}
	}
}

// TestAnotherWriterReplacesTheTail takes a collection over with loss: rows that
// only the old writer knew must not survive in a reader.
func TestAnotherWriterReplacesTheTail(t *testing.T) {
	f := newFixture(t, 2, "l2")
	f.writer.upsert("kept", []float32{1, 1}, "")
	f.writer.flush()
	f.writer.upsert("lost", []float32{2, 2}, "")
	var n struct{ Count int }
	if f.call("POST", "/collections/movies/vectors/count", `{}`, &n); n.Count != 2 {
		t.Fatalf("%d rows before", n.Count)
	}
	f.writer.epoch, f.writer.seq, f.writer.table = 2, 1, memtable.New(2, 1)
	delete(f.writer.rows, "lost")
	f.writer.upsert("new", []float32{3, 3}, "")
	if got := scrollIDs(t, f, "", 10); !slices.Equal(got, []string{"kept", "new"}) {
		t.Fatalf("rows %v, want kept and new", got)
	}
}

func TestDroppedAndMadeAnew(t *testing.T) {
	f := newFixture(t, 2, "l2")
	f.writer.upsert("old", []float32{1, 1}, "")
	f.call("POST", "/collections/movies/vectors/count", `{}`, nil)
	f.writer.commit(func(next *manifest.Snapshot) { next.Dropped = true })
	f.writer.down = ErrNoCollection
	if status, _ := f.call("GET", "/collections/movies", "", nil); status != 404 {
		t.Fatalf("dropped: status %d", status)
	}
	*f.writer = *newTestWriter(t, f.store, "ID2", "movies", 3, "dot") //nolint:govet // no lock is held
	f.writer.upsert("new", []float32{1, 1, 1}, "")
	var told info.Collection
	if status, _ := f.call("GET", "/collections/movies", "", &told); status != 200 || told.ID != "ID2" || told.VectorCount != 1 {
		t.Fatalf("made anew: status %d, %+v", status, told)
	}
	var all struct{ Collections []info.Collection }
	if f.call("GET", "/collections", "", &all); len(all.Collections) != 1 || all.Collections[0].ID != "ID2" {
		t.Fatalf("collections %+v", all.Collections)
	}
}

// TestNamesakesAreNotListedTwice: a collection that was dropped and made anew is
// one, also for a process that cannot ask the writer and still knows the old one.
func TestNamesakesAreNotListedTwice(t *testing.T) {
	f := newFixture(t, 2, "l2")
	f.call("GET", "/collections", "", nil) // knows the old one
	f.writer.commit(func(next *manifest.Snapshot) { next.Dropped = true })
	newTestWriter(t, f.store, "ID2", "movies", 3, "dot")
	f.writer.down = errors.New("connection refused")
	var told info.Collection
	if f.call("GET", "/collections/movies", "", &told); told.ID != "ID2" {
		t.Fatalf("collection %+v", told)
	}
	var all struct{ Collections []info.Collection }
	if f.call("GET", "/collections", "", &all); len(all.Collections) != 1 || all.Collections[0].ID != "ID2" {
		t.Fatalf("collections %+v", all.Collections)
	}
}

// TestAnObjectThatVanishedMeansANewerManifest deletes a segment that a newer
// manifest no longer names, under a reader that still does.
func TestAnObjectThatVanishedMeansANewerManifest(t *testing.T) {
	f := newFixture(t, 2, "l2")
	f.service = f.newService(nil)
	f.router = httpapi.NewRouter()
	f.service.Register(f.router)
	f.writer.upsert("a", []float32{1, 1}, "")
	f.writer.flush()
	f.call("POST", "/collections/movies/vectors/count", `{}`, nil) // opens the segment, reads no row
	old := f.writer.log.Snapshot().Segments[0]
	f.writer.upsert("b", []float32{2, 2}, "")
	f.writer.flush()
	f.writer.commit(func(next *manifest.Snapshot) { next.Segments = next.Segments[1:] })
	for _, key := range []string{old.Data.Key, old.Index.Key} {
		if err := f.store.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	var got searchAnswer
	f.call("POST", "/collections/movies/search", `{"vector":[1,1],"consistency":"eventual"}`, &got)
	if len(got.Results) != 1 || got.Results[0].ID != "b" {
		t.Fatalf("%+v", got.Results)
	}
	// The same with nothing newer is an error, never a partial answer.
	newest := f.writer.log.Snapshot().Segments[0]
	f.service = f.newService(nil)
	f.router = httpapi.NewRouter()
	f.service.Register(f.router)
	f.call("POST", "/collections/movies/vectors/count", `{}`, nil)
	if err := f.store.Delete(t.Context(), newest.Data.Key); err != nil {
		t.Fatal(err)
	}
	var ctx fasthttp.RequestCtx
	ctx.Request.Header.SetMethod("POST")
	ctx.Request.Header.SetContentType("application/json")
	ctx.Request.SetRequestURI("/api/v1/collections/movies/search")
	ctx.Request.SetBodyString(`{"vector":[1,1]}`)
	if err := f.router.Serve(&ctx); !errors.Is(err, blob.ErrNotFound) {
		t.Fatalf("a lost segment: %v", err)
	}
	if got := ctx.Response.Header.Peek("X-AkiDB-Consistency"); len(got) > 0 {
		t.Errorf("an error says that it was read as %s", got)
	}
}

// TestTheStoreIsSaidToBeBack by whatever read finds it so.
func TestTheStoreIsSaidToBeBack(t *testing.T) {
	f := newFixture(t, 2, "l2")
	fault := faultblob.New(f.store)
	f.store = fault
	f.service = f.newService(f.writer)
	f.router = httpapi.NewRouter()
	f.service.Register(f.router)
	f.call("GET", "/collections/movies", "", nil)
	f.advance(time.Minute)
	fault.Down()
	f.writer.down = errors.New("connection refused")
	if status, _ := f.call("POST", "/collections/movies/vectors/count", `{}`, nil); status != 200 || f.why("store") == "" {
		t.Fatalf("store down: status %d, degraded %q", status, f.why("store"))
	}
	fault.Up()
	f.writer.down = nil
	if status, _ := f.call("POST", "/collections/movies/vectors/count", `{"consistency":"strong"}`, nil); status != 200 || f.why("store") != "" {
		t.Fatalf("store up: status %d, degraded %q", status, f.why("store"))
	}
}
