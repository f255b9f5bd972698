package chaos

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"github.com/akidb/akidb/internal/client"
)

// sought is a query and what an exact search of all rows finds.
type sought struct {
	vector []float32
	body   []byte
	ids    []string
}

func seek(rng *rand.Rand, rows []Row, dim, n, k int) (all []sought) {
	for range n {
		v := make([]float32, dim)
		for i := range v {
			v[i] = float32(rng.NormFloat64())
		}
		type near struct {
			id string
			d  float64
		}
		found := make([]near, len(rows))
		for i, r := range rows {
			found[i].id = r.ID
			for j, x := range r.Vector {
				found[i].d += math.Pow(float64(x)-float64(v[j]), 2)
			}
		}
		slices.SortFunc(found, func(a, b near) int { return int(math.Copysign(1, a.d-b.d)) })
		s := sought{vector: v}
		for _, f := range found[:k] {
			s.ids = append(s.ids, f.id)
		}
		s.body, _ = json.Marshal(map[string]any{"vector": v, "k": k, "exact": true, "consistency": "eventual", "include": []string{}})
		all = append(all, s)
	}
	return all
}

// sphere is a collection of rows with queries whose answers are known, served
// by query processes.
func sphere(t *testing.T, processes int) (queries []sought, servers []*Server) {
	const dim = 8
	o := stores["file"](t)
	writer := akidb.Start(t, "writer", o)
	writer.Create(t, "points", dim, "l2")
	rng := rand.New(rand.NewPCG(3, 4))
	var rows []Row
	for i := range 1000 {
		r := Row{ID: fmt.Sprintf("row-%04d", i), Vector: make([]float32, dim)}
		for j := range r.Vector {
			r.Vector[j] = float32(rng.NormFloat64())
		}
		rows = append(rows, r)
	}
	writer.Upsert(t, "points", rows...)
	writer.Flush(t, "points")
	for range processes {
		servers = append(servers, akidb.Start(t, "query", o.with("--writer-url", writer.URL())))
	}
	return seek(rng, rows, dim, 50, 10), servers
}

// A query process is killed under load and started again, and then the other:
// clients that know both see no failure and no wrong answer.
func TestQueryProcessesKilledBehindAClient(t *testing.T) {
	t.Parallel()
	queries, servers := sphere(t, 2)
	result := summary{Scenario: t.Name(), Faults: map[string]int{}, Tallies: map[string]int{}}
	defer func() { result.Passed = !t.Failed(); result.write(t) }()
	var answered, failed, paused atomic.Int64
	var stop atomic.Bool
	var load sync.WaitGroup
	for i := range 6 {
		both := servers[i%2].URL() + "," + servers[1-i%2].URL()
		c, err := client.New(client.Config{URL: both, Notify: func(error, time.Duration) { paused.Add(1) }})
		require.NoError(t, err)
		t.Cleanup(c.Close)
		load.Go(func() {
			for n := i; !stop.Load(); n++ {
				q := queries[n%len(queries)]
				var ids []string
				got, err := c.Search(t.Context(), "points", client.SearchRequest{Vector: q.vector, K: len(q.ids), Exact: true})
				for _, r := range got.Results {
					ids = append(ids, r.ID)
				}
				if err != nil || !slices.Equal(ids, q.ids) {
					failed.Add(1)
					t.Errorf("search %d: %v: got %v, want %v", n, err, ids, q.ids)
					return
				}
				answered.Add(1)
			}
		})
	}
	t.Cleanup(func() { stop.Store(true); load.Wait() })
	more := func(n int64) {
		want := answered.Load() + n
		Eventually(t, "more answers", func() bool { return answered.Load() >= want || failed.Load() > 0 })
	}
	more(100)
	for n := range rounds(6, 34) {
		s := servers[n%2]
		s.Kill()
		more(100)
		s.Restart()
		more(100)
		result.Faults["query process killed"]++
		require.Zero(t, failed.Load())
	}
	stop.Store(true)
	load.Wait()
	result.Tallies["answered"], result.Tallies["failed"], result.Tallies["both were away for a moment"] = int(answered.Load()), int(failed.Load()), int(paused.Load())
	require.Zero(t, failed.Load())
}

// A query process is told to stop, again and again, while clients send requests
// as fast as they can, some on connections they keep and some on new ones: every
// request that was sent is answered.
func TestRestartsLoseNoRequest(t *testing.T) {
	t.Parallel()
	queries, servers := sphere(t, 1)
	server := servers[0]
	result := summary{Scenario: t.Name(), Faults: map[string]int{}, Tallies: map[string]int{}}
	defer func() { result.Passed = !t.Failed(); result.write(t) }()
	var answered, refused, lost, wrong atomic.Int64
	var stop atomic.Bool
	var load sync.WaitGroup
	const kept, anew = 32, 8
	for i := range kept + anew {
		// Each has connections of its own: one that nobody uses for a second while
		// the process stops is closed, and who uses it just then has to know.
		transport := &http.Transport{MaxIdleConnsPerHost: 1, DisableKeepAlives: i >= kept, DialContext: (&net.Dialer{Timeout: hang}).DialContext}
		s := &Server{Role: "query", HTTP: server.HTTP, t: t, client: &http.Client{Timeout: hang, Transport: transport}}
		t.Cleanup(transport.CloseIdleConnections)
		load.Go(func() {
			for n := i; !stop.Load(); n++ {
				q := queries[n%len(queries)]
				a, err := s.Send("POST", "/api/v1/collections/points/search", q.body)
				var got struct{ Results []Hit }
				switch {
				case err != nil && neverConnected(err):
					refused.Add(1)
					time.Sleep(10 * time.Millisecond) // until somebody listens again
				case err != nil:
					lost.Add(1)
					t.Errorf("a request was lost, kept connection %v: %v", i < kept, err)
					return
				case a.Status == 503 && (a.Problem().Code == "overloaded" || a.Problem().Code == "shutting_down"):
					refused.Add(1)
				case a.Status != 200 || decode(a.Body, &got) != nil || !slices.Equal(idsOf(got.Results), q.ids):
					wrong.Add(1)
					t.Error(a)
					return
				default:
					answered.Add(1)
				}
			}
		})
	}
	t.Cleanup(func() { stop.Store(true); load.Wait() })
	for range rounds(5, 50) {
		want := answered.Load() + 500
		Eventually(t, "more answers", func() bool { return answered.Load() >= want || lost.Load()+wrong.Load() > 0 })
		server.Stop()
		server.Restart()
		result.Faults["restarts"]++
		require.Zero(t, lost.Load()+wrong.Load())
	}
	stop.Store(true)
	load.Wait()
	result.Tallies["answered"], result.Tallies["refused"], result.Tallies["lost"] = int(answered.Load()), int(refused.Load()), int(lost.Load())
}
