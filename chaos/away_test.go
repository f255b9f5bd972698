package chaos

import (
	"strings"
	"syscall"
	"testing"

	"github.com/akidb/akidb/segments/blob/s3test"
)

// With the store gone, reads of what is cached go on: as latest while the writer
// says what is new, as eventual, with a staleness that grows, when it is gone,
// too. What cannot be promised then is refused.
func TestStoreAway(t *testing.T) {
	t.Parallel()
	e := s3test.Start(t)
	writer := akidb.Start(t, "writer", onS3(e).with(noFlush...))
	far := e
	way := newHop(t, strings.TrimPrefix(e.URL, "http://"))
	far.URL = way.URL()
	query := akidb.Start(t, "query", onS3(far).with("--writer-url", writer.URL()))
	query.Create(t, "points", 3, "l2")
	query.Upsert(t, "points", numbered(0, 300)...)
	query.Flush(t, "points")
	for range 3 { // until it is cached
		requireRows(t, numbered(0, 300), query.Scroll(t, "points", "strong", 1000))
		query.Search(t, "points", map[string]any{"vector": []float32{1, 2, 3}, "k": 10})
	}

	way.refuse()
	token := query.Upsert(t, "points", numbered(300, 310)...) // by the writer, which has its store
	last := vectorPath("points", "row-0309")
	requireServed(t, query.OK(t, "GET", last, nil, nil), "latest")
	requireRows(t, numbered(0, 310), query.Scroll(t, "points", "latest", 1000))
	requireServed(t, query.OK(t, "GET", last+"?consistency=eventual", nil, nil), "eventual")
	requireUnavailable(t, query.Call(t, "GET", last+"?consistency=strong", nil), "unavailable", "")
	requireServed(t, query.OK(t, "GET", last+"?token="+token, nil, nil), "token")

	writer.Pause()
	requireCached(t, query, numbered(0, 310))
	requireUnavailable(t, query.Call(t, "GET", "/collections", nil), "unavailable", "") // it would have to look
	requireServed(t, query.OK(t, "GET", last+"?token="+token, nil, nil), "token")
	epoch, _, _ := strings.Cut(token, ".")
	requireUnavailable(t, query.Call(t, "GET", last+"?token="+epoch+".999999", nil), "token_not_visible", "")
	requireUnavailable(t, query.Call(t, "GET", last+"?consistency=strong", nil), "unavailable", "")

	writer.Signal(syscall.SIGCONT)
	way.heal()
	Eventually(t, "the store is read again", func() bool {
		return query.Call(t, "GET", last+"?consistency=strong", nil).Status == 200
	})
	requireFresh(t, "store and writer are back", query, numbered(0, 310))
}
