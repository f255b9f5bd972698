package chaos

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"
)

const headerToken = "X-AkiDB-Token"

// readers are clients that write rows and read those of all, through whatever
// process, and remember what they were told.
type readers struct {
	*fleet
	began time.Time
	stop  atomic.Bool

	mu     sync.Mutex
	puts   []Put
	looks  []Look
	keys   [][]string // by client, those it writes
	served map[string]int
	failed map[string]int
}

type reader struct {
	*readers
	number int
	rng    *rand.Rand
	token  string // the newest it was told
	seq    uint64 // of that
	now    map[string]Put
	made   int
}

func newReaders(f *fleet, n int, seed uint64) (*readers, []*reader) {
	all := &readers{fleet: f, began: time.Now(), keys: make([][]string, n), served: map[string]int{}, failed: map[string]int{}}
	var clients []*reader
	for i := range n {
		c := &reader{readers: all, number: i, rng: rand.New(rand.NewPCG(seed, uint64(i))), now: map[string]Put{}}
		for range 3 {
			c.newKey()
		}
		clients = append(clients, c)
	}
	return all, clients
}

// newKey adds a row to those of the client. Callers hold mu, or are alone.
func (c *reader) newKey() {
	c.made++
	c.keys[c.number] = append(c.keys[c.number], fmt.Sprintf("reader-%d-row-%d", c.number, c.made))
}

func (c *reader) run() {
	for !c.stop.Load() {
		if c.rng.IntN(5) < 2 {
			c.put()
		} else {
			c.look()
		}
		time.Sleep(time.Duration(c.rng.IntN(6)) * time.Millisecond) // a load, and no race
	}
}

// told keeps the newest token.
func (c *reader) told(token string) uint64 {
	_, text, _ := strings.Cut(token, ".")
	seq, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		c.t.Errorf("token %q: %v", token, err)
	}
	if seq > c.seq {
		c.token, c.seq = token, seq
	}
	return seq
}

func (c *reader) put() {
	c.mu.Lock()
	at := c.rng.IntN(len(c.keys[c.number]))
	key := c.keys[c.number][at]
	c.mu.Unlock()
	before := c.now[key]
	p := Put{Key: key, Version: before.Version + 1, Began: time.Since(c.began)}
	path, body := "/vectors", any(Row{key, make([]float32, killDim), jsontext.Value(fmt.Sprintf(`{"version":%d}`, p.Version))})
	if p.Deleted = before.Version > 0 && !before.Deleted && c.rng.IntN(4) == 0; p.Deleted {
		path, body = "/vectors/delete", map[string]any{"ids": []string{key}}
	}
	a, err := c.via[c.rng.IntN(len(c.via))].Send("POST", "/api/v1/collections/points"+path, body)
	p.Ended = time.Since(c.began)
	kind := outcome(a, err)
	c.count(kind)
	if kind == Refused {
		return // it was not applied
	}
	if kind == Acked {
		var got struct{ Token string }
		if err := decode(a.Body, &got); err != nil && got.Token == "" {
			c.t.Errorf("%v: %v", err, a)
		}
		p.Seq = c.told(got.Token)
		c.now[key] = p
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.puts = append(c.puts, p)
	if kind != Acked { // another takes its place
		c.newKey()
		keys := c.keys[c.number]
		keys[at] = keys[len(keys)-1]
		c.keys[c.number] = keys[:len(keys)-1]
	}
}

func (c *reader) look() {
	c.mu.Lock()
	of := c.keys[c.rng.IntN(len(c.keys))]
	key := of[c.rng.IntN(len(of))]
	c.mu.Unlock()
	level := []string{"eventual", "latest", "latest", "strong"}[c.rng.IntN(4)]
	l := Look{Client: c.number, Key: key, Began: time.Since(c.began)}
	var token any
	query := "?consistency=" + level
	if c.token != "" && c.rng.IntN(3) > 0 {
		l.Asked, token = c.seq, c.token
		query += "&token=" + c.token
	}
	from := c.from[c.rng.IntN(len(c.from))]
	var a Answer
	var err error
	byFilter := c.rng.IntN(2) == 0
	if byFilter {
		request := map[string]any{
			"vector": make([]float32, killDim), "k": 3, "exact": true, "consistency": level,
			"filter": map[string]any{"must": []any{map[string]any{"has_id": []string{key}}}},
		}
		if token != nil {
			request["token"] = token
		}
		a, err = from.Send("POST", "/api/v1/collections/points/search", request)
	} else {
		a, err = from.Send("GET", "/api/v1"+vectorPath("points", key)+query, nil)
	}
	l.Ended = time.Since(c.began)
	var row struct{ Metadata struct{ Version int } }
	switch {
	case err != nil:
		c.fail("no answer")
		return
	case a.Status == 503:
		c.fail(a.Problem().Code)
		return
	case a.Status == 404 && !byFilter && a.Problem().Code == "vector_not_found":
	case a.Status == 200 && byFilter:
		var got struct {
			Results []struct {
				ID       string
				Metadata struct{ Version int }
			}
		}
		if err := decode(a.Body, &got); err != nil || len(got.Results) > 1 {
			c.t.Errorf("%v %v", err, a)
		} else if len(got.Results) == 1 {
			row.Metadata.Version = got.Results[0].Metadata.Version
		}
	case a.Status == 200:
		if err := decode(a.Body, &row); err != nil {
			c.t.Errorf("%v %v", err, a)
		}
	default:
		c.t.Errorf("read of %q: %v", key, a)
		return
	}
	l.Version, l.Served = row.Metadata.Version, a.Header.Get(headerConsistency)
	l.Seq = c.told(a.Header.Get(headerToken))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looks = append(c.looks, l)
	c.served[l.Served]++
}

func (c *readers) fail(code string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed[code]++
}

func (c *readers) reads() int { c.mu.Lock(); defer c.mu.Unlock(); return len(c.looks) }

// Rows are written and read through a writer and two query processes while any
// of them is killed, the store and the writer are cut off, and rows are flushed
// and compacted. No client ever sees anything go back in time.
func TestReadsNeverGoBack(t *testing.T) {
	t.Parallel()
	f := startFleet(t)
	seed := setting(t, "AKIDB_TEST_SEED", uint64(time.Now().UnixNano()))
	t.Logf("AKIDB_TEST_SEED=%d", seed)
	all, clients := newReaders(f, 6, seed)
	var running sync.WaitGroup
	for _, c := range clients {
		running.Go(c.run)
	}
	t.Cleanup(func() { all.stop.Store(true); running.Wait() })
	more := func(n int) {
		want := all.reads() + n
		Eventually(t, "more reads", func() bool { return all.reads() >= want })
	}
	rng := rand.New(rand.NewPCG(seed, 1<<32))
	more(100)
	faults := map[string]func(){
		"writer killed": func() { f.writer.Kill(); more(10); f.writer.Restart() },
		"query process killed": func() {
			q := f.queries[rng.IntN(2)]
			q.Kill()
			more(20)
			q.Restart()
		},
		"store away from the writer": func() { f.toStore[0].refuse(); more(60); f.toStore[0].heal() },
		"store away from a query":    func() { h := f.toStore[1+rng.IntN(2)]; h.refuse(); more(60); h.heal() },
		"writer away from a query":   func() { h := f.toWriter[rng.IntN(2)]; h.refuse(); more(60); h.heal() },
		"query stopped and continued": func() {
			at := rng.IntN(2)
			f.queries[at].Pause()
			for range 50 { // clients come to wait for it, one after the other
				f.queries[1-at].Count(t, "points", "latest")
			}
			f.queries[at].Signal(syscall.SIGCONT)
		},
	}
	for range rounds(1, 10) {
		for name, fault := range faults {
			fault()
			f.inject(name, 1)
			more(60)
		}
	}
	f.whole()
	more(50)
	all.stop.Store(true)
	running.Wait()
	if t.Failed() {
		return
	}
	for _, p := range CheckReads(all.puts, all.looks) {
		t.Error(p)
	}
	requireLinearizable(t, all.puts, all.looks)
	for _, level := range []string{"eventual", "latest", "strong", "token"} {
		require.Positive(t, all.served[level], "reads served as %s", level)
	}
	f.mu.Lock()
	for what, n := range all.served {
		f.tallies["read as "+what] = n
	}
	for what, n := range all.failed {
		f.tallies["read failed: "+what] = n
	}
	f.mu.Unlock()
	t.Logf("%d writes, %d reads: %v, failed %v", len(all.puts), len(all.looks), all.served, all.failed)
	plantReads(t, all.puts, all.looks)
	f.summary.Passed = !t.Failed()
}

// plantReads has the checker find mistakes in a history that is right.
func plantReads(t *testing.T, puts []Put, looks []Look) {
	t.Helper()
	plant := func(what string, change func(l *Look) bool) {
		changed := append([]Look(nil), looks...)
		for i := len(changed) - 1; i >= 0; i-- {
			if change(&changed[i]) {
				require.NotEmpty(t, CheckReads(puts, changed), what)
				return
			}
		}
		t.Errorf("nowhere to plant: %s", what)
	}
	deleted := map[string]Put{}
	clean := map[string]bool{}
	for _, p := range puts {
		clean[p.Key] = p.Seq > 0
		if p.Deleted && p.Seq > 0 {
			deleted[p.Key] = p
		}
	}
	plant("an older version", func(l *Look) bool {
		ok := l.Version > 1 && clean[l.Key]
		l.Version--
		return ok
	})
	plant("a row that is back", func(l *Look) bool {
		p, was := deleted[l.Key]
		ok := was && l.Version == 0 && clean[l.Key] && l.Seq >= p.Seq
		l.Version = p.Version - 1
		return ok
	})
	plant("a row that is lost", func(l *Look) bool {
		ok := l.Version > 0 && clean[l.Key]
		l.Version = 0
		return ok
	})
	plant("a token that is not honoured", func(l *Look) bool {
		ok := l.Asked > 1
		l.Seq = l.Asked - 1
		return ok
	})
	plant("a stale state called latest", func(l *Look) bool {
		ok := l.Served == "latest" && l.Asked == 0 && l.Seq > 10
		l.Seq = 1
		return ok
	})
	plant("a stale state called strong", func(l *Look) bool {
		ok := l.Served == "strong" && l.Asked == 0 && l.Seq > 10
		l.Seq = 1
		return ok
	})
	stale := append([]Look(nil), looks...)
	for i := range stale { // a server that calls everything strong
		stale[i].Served = "strong"
	}
	if n := len(CheckReads(puts, stale)); n == 0 {
		t.Error("eventual reads that are called strong are not found")
	}
}

// step is an operation on one row: a put of a version, or a strong read.
type step struct {
	put     bool
	version int
}

// register is a row that has one value.
var register = porcupine.Model{
	Init: func() any { return 0 },
	Step: func(state, input, output any) (bool, any) {
		in := input.(step)
		if in.put {
			return true, in.version
		}
		return output.(int) == state.(int), state
	},
}

// requireLinearizable demands of every row that its writes, and its reads with
// consistency strong, have an order that explains what they came to.
func requireLinearizable(t *testing.T, puts []Put, looks []Look) {
	t.Helper()
	rows := steps(puts, looks)
	checked := 0
	for key, ops := range rows {
		require.True(t, porcupine.CheckOperations(register, ops), "%q is not linearizable: %v", key, ops)
		checked += len(ops)
	}
	require.Positive(t, checked)
	for _, ops := range rows { // a read of what is long gone
		for i := range ops {
			if in := ops[i].Input.(step); !in.put && ops[i].Output.(int) > 0 {
				was := ops[i].Output
				ops[i].Output = 1_000_000
				require.False(t, porcupine.CheckOperations(register, ops))
				ops[i].Output = was
				return
			}
		}
	}
}

func steps(puts []Put, looks []Look) map[string][]porcupine.Operation {
	rows := map[string][]porcupine.Operation{}
	for _, p := range puts {
		in, ended := step{true, p.Version}, int64(p.Ended)
		if p.Deleted {
			in.version = 0
		}
		if p.Seq == 0 {
			ended = int64(1000 * time.Hour) // it may come yet
		}
		rows[p.Key] = append(rows[p.Key], porcupine.Operation{Input: in, Call: int64(p.Began), Output: 0, Return: ended})
	}
	for _, l := range looks {
		if l.Served == "strong" {
			rows[l.Key] = append(rows[l.Key], porcupine.Operation{ClientId: l.Client, Input: step{}, Call: int64(l.Began), Output: l.Version, Return: int64(l.Ended)})
		}
	}
	return rows
}

// The checker passes what is right, and finds every kind of mistake.
func TestCheckReads(t *testing.T) {
	ms := time.Millisecond
	puts := []Put{
		{"a", 1, false, 10, 1 * ms, 2 * ms}, {"a", 2, false, 12, 5 * ms, 6 * ms}, {"a", 3, true, 15, 9 * ms, 10 * ms},
		{"b", 1, false, 11, 3 * ms, 4 * ms}, {"b", 2, false, 0, 7 * ms, 8 * ms},
	}
	right := []Look{
		{0, "a", 0, "eventual", 0, 0, 3 * ms, 4 * ms}, {0, "a", 10, "token", 11, 1, 7 * ms, 8 * ms},
		{1, "a", 0, "latest", 12, 2, 7 * ms, 8 * ms}, {1, "a", 0, "strong", 15, 0, 11 * ms, 12 * ms},
		{1, "b", 0, "strong", 15, 1, 11 * ms, 12 * ms}, {2, "b", 0, "strong", 15, 2, 11 * ms, 12 * ms},
	}
	require.Empty(t, CheckReads(puts, right))
	for what, wrong := range map[string]Look{
		"newer than its state":      {0, "a", 0, "eventual", 11, 2, 7 * ms, 8 * ms},
		"older than its state":      {0, "a", 0, "eventual", 12, 1, 7 * ms, 8 * ms},
		"back from the dead":        {0, "a", 0, "eventual", 16, 2, 11 * ms, 12 * ms},
		"lost":                      {0, "b", 0, "eventual", 12, 0, 11 * ms, 12 * ms},
		"before what the token was": {0, "a", 11, "token", 10, 1, 7 * ms, 8 * ms},
		"latest without a write":    {0, "a", 0, "latest", 11, 1, 7 * ms, 8 * ms},
		"strong before another":     {0, "b", 0, "strong", 14, 1, 13 * ms, 14 * ms},
		"applied before it was":     {0, "b", 0, "eventual", 11, 2, 4 * ms, 5 * ms},
	} {
		require.Len(t, CheckReads(puts, append(append([]Look(nil), right...), wrong)), 1, what)
	}
	require.NotEmpty(t, CheckReads([]Put{{"a", 1, false, 10, 1, 2}, {"a", 2, false, 9, 3, 4}}, nil), "acknowledged in another order")
	requireLinearizable(t, puts, right)
}
