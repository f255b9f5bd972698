package chaos

import (
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// With the writer gone a query process goes on with what it has and says so,
// refuses what it cannot promise, and is as before when the writer is back.
func TestWriterAway(t *testing.T) {
	t.Parallel()
	o := stores["file"](t)
	writer := akidb.Start(t, "writer", o.with(noFlush...))
	query := akidb.Start(t, "query", o.with("--writer-url", writer.URL()))
	query.Create(t, "points", 3, "l2")
	query.Upsert(t, "points", numbered(0, 300)...)
	query.Flush(t, "points")
	query.Upsert(t, "points", numbered(300, 400)...) // only the log has these
	require.Equal(t, 400, query.Count(t, "points", "strong"))

	for _, away := range []struct {
		how  string
		go_  func()
		back func()
	}{
		{"killed", writer.Kill, writer.Restart},
		{"stopped", writer.Stop, writer.Restart},
	} {
		away.go_()
		requireReads(t, query, numbered(0, 400))
		for _, w := range writes {
			requireUnavailable(t, query.Call(t, w.method, w.path, w.body), "writer_unavailable", "false")
		}
		a := query.Call(t, "GET", "/collections/points?consistency=strong", nil)
		requireUnavailable(t, a, "unavailable", "")
		away.back()
		requireFresh(t, away.how, query, numbered(0, 400))
	}

	// A writer that stands still takes connections and answers none.
	writer.Pause()
	requireReads(t, query, numbered(0, 400))
	requireUnavailable(t, query.Call(t, "GET", "/collections/points?consistency=strong", nil), "unavailable", "")
	writer.Signal(syscall.SIGCONT)
	requireFresh(t, "standing still", query, numbered(0, 400))

	// A process that starts while the writer is away serves what the store has.
	writer.Kill()
	query.Kill()
	query.Restart()
	requireReads(t, query, numbered(0, 300))
	writer.Restart()
	requireFresh(t, "started without it", query, numbered(0, 400))
}

// writes are one of each kind, none of which changes anything when refused.
var writes = []struct {
	method, path string
	body         any
}{
	{"POST", "/collections", map[string]any{"name": "other", "dimension": 3, "metric": "l2"}},
	{"DELETE", "/collections/points", nil},
	{"POST", "/collections/points/vectors", small("row-9999", 9999)},
	{"PATCH", vectorPath("points", "row-0001"), map[string]any{"metadata": map[string]any{"number": 9999}}},
	{"DELETE", vectorPath("points", "row-0001"), nil},
	{"POST", "/collections/points/vectors/delete", map[string]any{"ids": []string{"row-0001"}}},
}

// requireReads is requireCached, and demands a list of collections, too.
func requireReads(t *testing.T, s *Server, want []Row) {
	t.Helper()
	requireCached(t, s, want)
	require.Equal(t, 200, s.Call(t, "GET", "/collections", nil).Status)
}

// requireCached demands these rows, as eventual, every way there is to read, and
// a staleness that grows.
func requireCached(t *testing.T, s *Server, want []Row) {
	t.Helper()
	requireRows(t, want, s.Scroll(t, "points", "latest", 1000))
	require.Equal(t, len(want), s.Count(t, "points", "latest"))
	last := want[len(want)-1]
	var got Row
	requireServed(t, s.OK(t, "GET", vectorPath("points", last.ID), nil, &got), "eventual")
	require.Equal(t, last.content(), got.content())
	staleness := func() int {
		hits, a := s.Search(t, "points", map[string]any{"vector": last.Vector, "k": 1})
		require.Equal(t, []string{last.ID}, idsOf(hits))
		requireServed(t, a, "eventual")
		ms, err := strconv.Atoi(a.Header.Get(headerStaleness))
		require.NoError(t, err)
		return ms
	}
	first := staleness()
	Eventually(t, "staleness that grows", func() bool { return staleness() > first })
}

// requireFresh demands that reads are as new as ever, and that writes work.
func requireFresh(t *testing.T, after string, s *Server, want []Row) {
	t.Helper()
	Eventually(t, "fresh reads after "+after, func() bool {
		return s.Call(t, "GET", "/collections/points", nil).Header.Get(headerConsistency) == "latest"
	})
	Eventually(t, "a write after "+after, func() bool {
		return s.Call(t, "POST", "/collections/points/vectors", want[0]).Status == 200
	})
	requireRows(t, want, s.Scroll(t, "points", "strong", 1000))
	require.Equal(t, len(want), s.Count(t, "points", "latest"))
}
