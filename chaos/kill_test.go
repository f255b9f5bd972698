package chaos

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// setting reads a number that makes a test longer, or repeats a run.
func setting(t *testing.T, name string, def uint64) uint64 {
	text := os.Getenv(name)
	if text == "" {
		return def
	}
	n, err := strconv.ParseUint(text, 10, 64)
	require.NoError(t, err, name)
	return n
}

const (
	killDim     = 8
	killClients = 8
	rowsEach    = 60 // a client's rows: few, so that each is written often
)

// The writer is killed again and again while clients upsert, patch and delete,
// one by one and in batches, half of them through a query process, and create
// and drop collections. Every write
// that was acknowledged is there, as a whole and to the bit; none that failed
// for certain is; what was deleted stays deleted; and those of unknown fate are
// there or not, for every reader and for good.
//
// AKIDB_TEST_KILLS is how often (5, at full length 100), AKIDB_TEST_SEED repeats a run's choices.
func TestKill(t *testing.T) {
	t.Parallel()
	kills := int(setting(t, "AKIDB_TEST_KILLS", uint64(rounds(5, 20))))
	seed := setting(t, "AKIDB_TEST_SEED", uint64(time.Now().UnixNano()))
	t.Logf("AKIDB_TEST_SEED=%d AKIDB_TEST_KILLS=%d go test -run TestKill ./chaos", seed, kills)

	// Small enough that flushes and compactions are under way at every moment.
	o := stores["file"](t)
	writer := akidb.Start(t, "writer", o.with("--flush-bytes", "32KiB", "--flush-age", "200ms", "--wal-file-bytes", "1MiB"))
	query := akidb.Start(t, "query", o.with("--writer-url", writer.URL()))
	query.Create(t, "points", killDim, "l2")

	k := newKilling(t, []*Server{writer, query}, []*Server{query})
	k.store, k.writer, k.query = o.Store, writer, query
	k.start(seed)
	k.churner = &churner{killing: k, rng: rand.New(rand.NewPCG(seed, 1<<33)), exists: map[string]bool{}}
	k.clients.Go(k.churner.run)
	rng := rand.New(rand.NewPCG(seed, 1<<32))
	go func() { k.clients.Wait(); close(k.ended) }()
	for range kills {
		k.waitForAcks(100 + rng.IntN(700))
		k.gate.close()
		began := time.Now()
		writer.Kill()
		writer.Restart()
		t.Logf("killed after %d acknowledged writes, ready again after %v", k.ackedWrites(), time.Since(began).Round(time.Millisecond))
		k.gate.open()
	}
	k.waitForAcks(100)
	k.finish()
	<-k.ended
	if t.Failed() {
		return
	}
	k.audit()
}

// newKilling returns the shared part of clients that write through via, the
// i-th of them always through the i-th, and read from any of from.
func newKilling(t *testing.T, via, from []*Server) *killing {
	return &killing{t: t, via: via, from: from, gate: newGate(), ended: make(chan struct{}), counts: map[Kind]int{}, tallies: map[string]int{}}
}

// start starts the clients.
func (k *killing) start(seed uint64) {
	for i := range killClients {
		c := &killClient{killing: k, number: i, rng: rand.New(rand.NewPCG(seed, uint64(i))), rows: map[string]Row{}, moved: map[string]int{}}
		c.to = k.via[i%len(k.via)]
		k.clients.Go(c.run)
	}
}

// killing is what the clients and the one that kills share.
type killing struct {
	t             *testing.T
	store         string
	writer, query *Server
	via, from     []*Server // where clients send writes, and where they read
	history       History
	gate          *gate
	churner       *churner
	shared        *shared // nil: no row has more than one client that writes it
	pad           int     // bytes that make metadata longer
	clients       sync.WaitGroup
	ended         chan struct{} // closed when no client goes on

	// mortal: any process may be away at any time. Reads may fail then, and what
	// became of writes of unknown fate is only looked at when all is over.
	mortal bool

	mu       sync.Mutex
	counts   map[Kind]int
	tallies  map[string]int
	target   int           // of acknowledged writes
	reached  chan struct{} // closed when there are that many; nil while nobody waits
	finished bool
}

// gate is closed while the writer is down.
type gate struct {
	mu   sync.Mutex
	wait chan struct{}
}

func newGate() *gate {
	g := &gate{wait: make(chan struct{})}
	g.open()
	return g
}

func (g *gate) close() { g.mu.Lock(); defer g.mu.Unlock(); g.wait = make(chan struct{}) }
func (g *gate) open()  { g.mu.Lock(); defer g.mu.Unlock(); close(g.wait) }

// pass waits until the gate is open.
func (g *gate) pass() {
	g.mu.Lock()
	wait := g.wait
	g.mu.Unlock()
	<-wait
}

// record adds a write to the history.
func (k *killing) record(kind Kind, rows map[string]Row) {
	k.history.Add(kind, rows)
	k.count(kind)
}

// count counts a write, and says when enough are acknowledged.
func (k *killing) count(kind Kind) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.counts[kind]++
	if k.reached != nil && k.counts[Acked] >= k.target {
		close(k.reached)
		k.reached = nil
	}
}

// tally counts what is only counted.
func (k *killing) tally(what string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tallies[what]++
}

func (k *killing) tallied(what string) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.tallies[what]
}

func (k *killing) ackedWrites() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.counts[Acked]
}

func (k *killing) waitForAcks(more int) {
	k.t.Helper()
	reached := make(chan struct{})
	k.mu.Lock()
	k.target, k.reached = k.counts[Acked]+more, reached
	k.mu.Unlock()
	select {
	case <-reached:
	case <-k.ended: // at the first failure
		k.t.FailNow()
	case <-time.After(hang):
		k.finish()
		k.t.Fatalf("no %d writes are acknowledged any more", more)
	}
}

func (k *killing) finish() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.finished = true
}

func (k *killing) goesOn() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return !k.finished && !k.t.Failed()
}

// audit reads everything in every way there is, first as clients do, then in a
// process that has nothing but the store.
func (k *killing) audit() {
	t := k.t
	k.everyWay("with the writer", k.query, "strong")
	k.churner.audit(t, k.query)
	k.writer.Kill()
	k.writer.Restart()
	Eventually(t, "the writer is found again", func() bool {
		return k.query.Call(t, "GET", "/collections/points?consistency=strong", nil).Status == 200
	})
	k.everyWay("killed once more", k.query, "strong")
	k.churner.audit(t, k.query)
	k.query.Flush(t, "points")
	c := k.query.Collection(t, "points")
	k.writer.Kill()
	alone := akidb.Start(t, "query", Options{Store: k.store})
	k.everyWay("from the store alone", alone, "latest")
	k.churner.audit(t, alone)
	if f := akidb.Run(t, nil, "verify", "--store", k.store); f.Code != 0 {
		t.Errorf("akidb verify: exit %d\n%s%s", f.Code, f.Stdout, f.Stderr)
	}

	events := k.history.Events()
	for _, problem := range Check(events) {
		t.Errorf("%v", problem)
	}
	if !t.Failed() {
		plantFaults(t, events)
	}
	t.Logf("writes: %d acknowledged, %d of unknown fate, %d refused; %d rows in the end; %d events checked; manifest version %d, %d segments; %d collections made",
		k.counts[Acked], k.counts[Unknown], k.counts[Refused], c.VectorCount, len(events), c.ManifestVersion, c.SegmentCount, k.churner.made)
}

func (k *killing) everyWay(when string, s *Server, consistency string) {
	t := k.t
	rows := s.Scroll(t, "points", consistency, 100)
	k.shared.audit(t, when, rows)
	require.True(t, slices.IsSortedFunc(rows, func(a, b Row) int { return cmp.Compare(a.ID, b.ID) }), when)
	require.NoError(t, k.history.Audit(owned(rows)), when)
	require.Equal(t, len(rows), s.Count(t, "points", consistency), when)
	const most = 10_000 // the greatest k there is
	require.LessOrEqual(t, len(rows), most, "more rows than one search can find")
	hits, _ := s.Search(t, "points", map[string]any{
		"vector": make([]float32, killDim), "k": most, "exact": true, "include": []string{"metadata", "vector"}, "consistency": consistency,
	})
	found := make([]Row, len(hits))
	for i, h := range hits {
		found[i] = h.Row
	}
	k.shared.audit(t, when, found)
	require.NoError(t, k.history.Audit(owned(found)), when)
	for _, id := range k.history.IDs() {
		row, served, err := get(s, id, consistency)
		require.NoError(t, err, when)
		require.NotEmpty(t, served, when)
		k.history.Add(Read, map[string]Row{id: row})
	}
}

// errWrong: an answer came, and it is not one that may come.
var errWrong = errors.New("the wrong answer")

// get reads one row, the zero Row if there is none, and says how fresh that is;
// "" if the server could not say.
func get(s *Server, id, consistency string) (row Row, served string, err error) {
	a, err := s.Send("GET", "/api/v1"+vectorPath("points", id)+"?consistency="+consistency, nil)
	switch {
	case err != nil:
		return Row{}, "", err
	case a.Status == 503:
		return Row{}, "", nil
	case a.Status == 404 && a.Problem().Code == "vector_not_found":
		return Row{}, a.Header.Get(headerConsistency), nil
	case a.Status != 200:
		return Row{}, "", fmt.Errorf("get %q: %w: %v", id, errWrong, a)
	}
	if err := decode(a.Body, &row); err != nil || row.ID != id {
		return Row{}, "", fmt.Errorf("get %q: %w: %v: %v", id, errWrong, err, a)
	}
	return row, a.Header.Get(headerConsistency), nil
}
