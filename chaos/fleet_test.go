package chaos

import (
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/akidb/akidb/segments/blob/bloburl"
	"github.com/akidb/akidb/segments/blob/s3blob"
	"github.com/akidb/akidb/segments/blob/s3test"
	"github.com/akidb/akidb/segments/verify"
)

// full says that scenarios run at full length: AKIDB_CHAOS=full, as in make chaos.
func full() bool { return os.Getenv("AKIDB_CHAOS") == "full" }

// rounds is how often something is done: n times, or at full length by so much
// more.
func rounds(n, longer int) int {
	if full() {
		return n * longer
	}
	return n
}

// fleet is a writer, two query processes and an S3 server, with a hop on every
// way between them and from their clients:
//
//	clients ─► writer ─► wire ─► store
//	clients ─► query 0 ─► wire ─► store      query 0 ─► writer
//	clients ─► query 1 ─► wire ─► store      query 1 ─► writer
//
// Its load are the clients of [killing]: a third sends writes to each process,
// all read from both query processes.
type fleet struct {
	*killing
	store    *s3test.Server
	writer   *Server
	queries  [2]*Server
	wires    [3]*wire // to the store, from the writer and the query processes
	toStore  [3]*hop
	toWriter [2]*hop // from the query processes
	clients  [3]*hop // to the writer and the query processes

	summary summary
}

// startFleet starts all of them, with flags for the writer. No client runs yet.
func startFleet(t *testing.T, flags ...string) *fleet {
	f := &fleet{store: s3test.StartServer(t), summary: summary{Scenario: t.Name(), Faults: map[string]int{}}}
	var o [3]Options
	for i := range o {
		f.wires[i] = newWire(t, func() string { return f.store.URL })
		f.toStore[i] = newHop(t, strings.TrimPrefix(f.wires[i].server.URL, "http://"))
		e := f.store.Endpoint
		e.URL = f.toStore[i].URL()
		o[i] = onS3(e)
	}
	f.writer = akidb.Start(t, "writer", o[0].with("--flush-bytes", "128KiB", "--flush-age", "200ms", "--wal-file-bytes", "1MiB").with(flags...))
	f.clients[0] = newHop(t, f.writer.HTTP)
	for i := range f.queries {
		f.toWriter[i] = newHop(t, f.writer.HTTP)
		f.queries[i] = akidb.Start(t, "query", o[i+1].with("--writer-url", f.toWriter[i].URL()))
		f.clients[i+1] = newHop(t, f.queries[i].HTTP)
	}
	f.queries[0].Create(t, "points", killDim, "l2")
	var via []*Server
	for i, s := range []*Server{f.writer, f.queries[0], f.queries[1]} {
		via = append(via, s.through(f.clients[i]))
	}
	f.killing = newKilling(t, via, via[1:])
	f.mortal, f.shared = true, newShared()
	t.Cleanup(f.report)
	return f
}

// through is the server as its clients see it that come by a hop.
func (s *Server) through(h *hop) *Server {
	seen := &Server{Role: s.Role, HTTP: h.address, t: s.t, client: newHTTPClient()}
	s.t.Cleanup(seen.client.CloseIdleConnections)
	return seen
}

// load starts the clients and returns what chooses for the test.
func (f *fleet) load() *rand.Rand {
	seed := setting(f.t, "AKIDB_TEST_SEED", uint64(time.Now().UnixNano()))
	f.t.Logf("AKIDB_TEST_SEED=%d go test -run '^%s$' ./chaos", seed, strings.ReplaceAll(f.t.Name(), "/", "$/^"))
	f.start(seed)
	go func() { f.killing.clients.Wait(); close(f.ended) }()
	f.t.Cleanup(func() { f.finish(); <-f.ended })
	return rand.New(rand.NewPCG(seed, 1<<32))
}

// inject counts a fault, which is proof for the report that there was one.
func (f *fleet) inject(kind string, n int) { f.summary.Faults[kind] += n }

// longest keeps the longest of several durations.
func longest(at *float64, d time.Duration) { *at = max(*at, d.Seconds()) }

// metric is the sum of a metric over the series with these labels, written as
// name="value"; false if there are none, or nobody to ask.
func (s *Server) metric(name string, labels ...string) (sum float64, found bool) {
	resp, err := s.client.Get("http://" + s.Admin + "/metrics")
	if err != nil {
		return 0, false
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		series, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		of, _, _ := strings.Cut(series, "{")
		if !ok || of != name || !containsAll(series, labels) {
			continue
		}
		if n, err := strconv.ParseFloat(value, 64); err == nil {
			sum, found = sum+n, true
		}
	}
	return sum, found
}

func containsAll(text string, parts []string) bool {
	return !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(text, p) })
}

// failedCalls is how many calls to the store the process has seen fail.
func (s *Server) failedCalls() int {
	n, _ := s.metric("akidb_s3_operations_total", `result="unavailable"`)
	return int(n)
}

// openBreakers is how many circuit breakers of the process are open.
func (s *Server) openBreakers() int {
	n, _ := s.metric("akidb_circuit_breaker_state", `state="open"`)
	return int(n)
}

// whole waits until every process does all it is there for, and returns how
// long that took.
func (f *fleet) whole() time.Duration {
	f.t.Helper()
	began := time.Now()
	for i, q := range f.queries {
		Eventually(f.t, fmt.Sprintf("query %d reads the newest", i), func() bool {
			a, err := q.Send("GET", "/api/v1/collections/points?consistency=strong", nil)
			return err == nil && a.Status == 200
		})
	}
	Eventually(f.t, "a flush", func() bool {
		a, err := f.queries[0].Send("POST", "/api/v1/admin/collections/points/flush", nil)
		return err == nil && a.Status == 200
	})
	return time.Since(began)
}

// audit ends the load and reads everything in every way there is: through both
// query processes, and in a process that has nothing but the store, whose
// objects have to be whole, too. The hops have to be good.
func (f *fleet) audit() {
	t := f.t
	f.finish()
	<-f.ended
	if t.Failed() {
		return
	}
	f.writer.Kill() // and with it whatever is under way
	f.writer.Restart()
	f.whole()
	for i, q := range f.queries {
		f.everyWay(fmt.Sprintf("query %d", i), q, "strong")
	}
	f.queries[0].Flush(t, "points")
	f.writer.Kill()
	f.verify()
	o := onS3(f.store.Endpoint)
	alone := akidb.Start(t, "query", o)
	f.everyWay("from the store alone", alone, "latest")
	events := f.history.Events()
	for _, problem := range Check(events) {
		f.summary.fault(problem.Class)
		t.Error(problem)
	}
	if !t.Failed() {
		plantFaults(t, events)
		f.plantShared(alone.Scroll(t, "points", "latest", 1000))
	}
	f.summary.Passed = !t.Failed()
}

// plantShared is plantFaults for shared rows.
func (f *fleet) plantShared(rows []Row) {
	t := f.t
	require.NoError(t, f.shared.check(rows))
	at := slices.IndexFunc(rows, func(r Row) bool { return strings.HasPrefix(r.ID, sharedPrefix) })
	require.GreaterOrEqual(t, at, 0, "no client wrote a shared row")
	changed := slices.Clone(rows)
	changed[at].Vector = make([]float32, killDim)
	require.Error(t, f.shared.check(changed), "another state")
	require.Error(t, f.shared.check(slices.Delete(slices.Clone(rows), at, at+1)), "a shared row is lost")
	require.Error(t, f.shared.check(append(slices.Clone(rows), rows[at])), "a shared row is there twice")
}

// verify has package verify prove the store whole.
func (f *fleet) verify() {
	t, e := f.t, f.store.Endpoint
	for _, pair := range e.Env() { // the same for every server
		name, value, _ := strings.Cut(pair, "=")
		require.NoError(t, os.Setenv(name, value))
	}
	store, err := bloburl.Open(t.Context(), onS3(e).Store, s3blob.Config{Endpoint: e.URL, Region: e.Region, PathStyle: true})
	require.NoError(t, err)
	defer store.Close()
	report, err := verify.Store(t.Context(), store, verify.Options{})
	require.NoError(t, err)
	require.Empty(t, report.Problems)
	require.Len(t, report.Collections, 1)
}

// report says what the scenario came to.
func (f *fleet) report() {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := &f.summary
	o.Acknowledged, o.Unknown = f.counts[Acked], f.counts[Unknown]
	o.Tallies = maps.Clone(f.tallies)
	o.Refused = f.refused()
	o.write(f.t)
}

// refused is how many right writes were refused. Callers hold mu.
func (f *fleet) refused() (n int) {
	for what, count := range f.tallies {
		if strings.HasPrefix(what, "refused with ") || what == noConnection {
			n += count
		}
	}
	return n
}

// overBudget is how many writes were refused because there is no room.
func (f *fleet) overBudget() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for what, count := range f.tallies {
		if strings.HasPrefix(what, "refused with 429") || strings.HasPrefix(what, "refused with 507") {
			n += count
		}
	}
	return n
}
