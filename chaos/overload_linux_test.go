package chaos

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// cpuGroup is a control group whose processes get a share of the processors.
type cpuGroup struct{ dir string }

// newCPUGroup puts a process into a group of its own.
func newCPUGroup(t *testing.T, pid int) cpuGroup {
	g := cpuGroup{filepath.Join("/sys/fs/cgroup/cpu", fmt.Sprintf("akidb-chaos-%d", pid))}
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		t.Skipf("SKIPPED, a process without processors is not tested: it takes root and cgroup v1 at /sys/fs/cgroup/cpu: %v", err)
	}
	t.Cleanup(func() { _ = os.Remove(g.dir) })
	g.write(t, "cgroup.procs", pid)
	t.Cleanup(func() { _ = os.WriteFile("/sys/fs/cgroup/cpu/cgroup.procs", []byte(strconv.Itoa(pid)), 0) })
	return g
}

func (g cpuGroup) write(t *testing.T, file string, value int) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(g.dir, file), []byte(strconv.Itoa(value)), 0))
}

// computed is how long the process has had a processor.
func computed(t *testing.T, pid int) (sum time.Duration) {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	require.NoError(t, err)
	for _, thread := range threads {
		var ns int64
		if text, err := os.ReadFile(thread); err == nil { // it may have ended
			_, err = fmt.Sscan(string(text), &ns)
			require.NoError(t, err)
		}
		sum += time.Duration(ns)
	}
	require.Positive(t, sum)
	return sum
}

// percent gives the group so much of one processor, in every 100 ms; 0 lifts it.
func (g cpuGroup) percent(t *testing.T, n int) {
	t.Helper()
	quota := -1
	if n > 0 {
		quota = n * 1000
	}
	g.write(t, "cpu.cfs_quota_us", quota)
}

// flood is what searches of one server came to.
type flood struct {
	url     string
	queries []sought
	client  *http.Client

	right, wrong, refused, lost atomic.Int64
	odd                         atomic.Pointer[string]
	mu                          sync.Mutex
	refusals                    []time.Duration
}

func newFlood(t *testing.T, s *Server, queries []sought) *flood {
	transport := &http.Transport{MaxIdleConnsPerHost: 512, DialContext: (&net.Dialer{Timeout: hang}).DialContext}
	t.Cleanup(transport.CloseIdleConnections)
	return &flood{url: s.URL() + "/api/v1/collections/points/search", queries: queries, client: &http.Client{Timeout: hang, Transport: transport}}
}

func (f *flood) one(i int) {
	q, began := f.queries[i%len(f.queries)], time.Now()
	resp, err := f.client.Post(f.url, "application/json", bytes.NewReader(q.body))
	if err != nil {
		f.say(&f.lost, err.Error())
		return
	}
	text, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	a := Answer{resp.StatusCode, resp.Header, text}
	switch {
	case err != nil:
		f.say(&f.lost, err.Error())
	case a.Status == 503 && a.Problem().Code == "overloaded" && a.Header.Get(headerRetryAfter) != "":
		f.refused.Add(1)
		f.mu.Lock()
		f.refusals = append(f.refusals, time.Since(began))
		f.mu.Unlock()
	case a.Status != 200:
		f.say(&f.wrong, a.String())
	default:
		var got struct{ Results []Hit }
		if err := decode(text, &got); err != nil || !slices.Equal(idsOf(got.Results), q.ids) {
			f.say(&f.wrong, fmt.Sprintf("%v: got %v, want %v", err, idsOf(got.Results), q.ids))
			return
		}
		f.right.Add(1)
	}
}

func (f *flood) say(n *atomic.Int64, what string) { n.Add(1); f.odd.Store(&what) }

// alone is how many searches a second one client gets that waits for each.
func (f *flood) alone(long time.Duration) float64 {
	before, began := f.right.Load(), time.Now()
	for i := 0; time.Since(began) < long; i++ {
		f.one(i)
	}
	return float64(f.right.Load()-before) / time.Since(began).Seconds()
}

// rush sends so many searches a second, whether they are answered or not, and
// returns how many a second were answered right.
func (f *flood) rush(rate float64, long time.Duration) float64 {
	var under sync.WaitGroup
	atOnce := make(chan struct{}, 512)
	before, began, sent := f.right.Load(), time.Now(), 0
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for now := began; now.Sub(began) < long; now = <-tick.C {
		for ; float64(sent) < rate*now.Sub(began).Seconds(); sent++ {
			select {
			case atOnce <- struct{}{}:
				i := sent
				under.Go(func() { f.one(i); <-atOnce })
			default: // all connections are in use
			}
		}
	}
	done := f.right.Load() - before
	took := time.Since(began)
	under.Wait()
	return float64(done) / took.Seconds()
}

func (f *flood) slowestRefusals() (p50, p99 time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := f.refusals
	f.refusals = nil
	if len(all) == 0 {
		return 0, 0
	}
	slices.Sort(all)
	return all[len(all)/2], all[len(all)*99/100]
}

func (f *flood) check(t *testing.T) {
	t.Helper()
	odd := ""
	if p := f.odd.Load(); p != nil {
		odd = *p
	}
	require.Zero(t, f.wrong.Load(), odd)
	require.Zero(t, f.lost.Load(), odd)
}

// A query process gets a tenth, a twentieth and a fiftieth of a processor, is
// asked for three times what that can do, and stopped and continued: it goes on,
// refuses the rest, answers nothing wrong, and is as before when the processors
// are back. What it comes to is reported; demanded is half of the answers that
// one client alone got with the same quota, for the time it really had.
func TestNoProcessors(t *testing.T) {
	const dim, k = 32, 10
	o := stores["file"](t)
	writer := akidb.Start(t, "writer", o)
	writer.Create(t, "points", dim, "l2")
	rng := rand.New(rand.NewPCG(1, 2))
	var rows []Row
	for i := range 2000 {
		r := Row{ID: fmt.Sprintf("row-%04d", i), Vector: make([]float32, dim)}
		for j := range r.Vector {
			r.Vector[j] = float32(rng.NormFloat64())
		}
		rows = append(rows, r)
	}
	writer.Upsert(t, "points", rows...)
	writer.Flush(t, "points")
	server := akidb.Start(t, "query", o)
	pid := server.current().cmd.Process.Pid
	group := newCPUGroup(t, pid)
	f := newFlood(t, server, seek(rng, rows, dim, 50, k))
	result := summary{Scenario: t.Name(), Faults: map[string]int{}, Tallies: map[string]int{}}
	defer func() { result.Passed = !t.Failed(); result.write(t) }()

	long := time.Duration(rounds(2, 5)) * time.Second
	f.alone(long / 2) // warms
	resident, _ := server.metric("process_resident_memory_bytes")
	for _, percent := range []int{10, 5, 2} {
		group.percent(t, percent)
		began := computed(t, pid)
		peak := f.alone(long)
		cost := computed(t, pid) - began
		f.rush(3*peak, long/2) // until it is known what the quota can do
		f.slowestRefusals()
		began = computed(t, pid)
		good := f.rush(3*peak, long)
		costOfMany := computed(t, pid) - began
		p50, p99 := f.slowestRefusals()
		f.check(t)
		t.Logf("%d %%: %.0f a second alone, %.0f of %.0f offered; refused in %v, p99 %v", percent, peak, good, 3*peak, p50, p99)
		result.Faults["quotas"]++
		result.Tallies[fmt.Sprintf("goodput at %d %%, in %% of one client's", percent)] = int(100 * good / peak)
		result.Tallies[fmt.Sprintf("median ms of a refusal at %d %%", percent)] = int(p50.Milliseconds())
		require.Positive(t, f.refused.Load(), "nothing was refused: this is no overload")
		require.GreaterOrEqual(t, good/costOfMany.Seconds(), peak/cost.Seconds()/2, "at %d %%", percent)
	}
	group.percent(t, 0)
	lifted := time.Now()
	for well := 0; well < 100; well++ { // in a row
		before := f.refused.Load()
		if f.one(well); f.refused.Load() > before {
			well = 0
		}
	}
	result.RecoverySeconds = time.Since(lifted).Seconds()

	var asking sync.WaitGroup
	asking.Go(func() { f.rush(300, long) })
	for range rounds(3, 5) {
		server.Pause()
		time.Sleep(long / 10)
		server.Signal(syscall.SIGCONT)
		result.Faults["pauses"]++
		want := f.right.Load() + 20
		Eventually(t, "it goes on", func() bool { return f.right.Load() >= want || f.lost.Load() > 0 })
	}
	asking.Wait()
	f.check(t)
	require.Len(t, server.runs, 1)
	require.True(t, server.alive(), "it never ended")
	after, found := server.metric("process_resident_memory_bytes")
	require.True(t, found)
	require.Less(t, after-resident, float64(256<<20), "bytes that the load has cost")
	for _, why := range []string{"full", "expired", "deadline"} {
		n, _ := server.metric("akidb_search_admission_total", fmt.Sprintf("result=%q", why))
		result.Tallies["refused because "+why] = int(n)
	}
	result.Tallies["answered"], result.Tallies["refused"] = int(f.right.Load()), int(f.refused.Load())
}
