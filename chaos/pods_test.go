package chaos

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"github.com/akidb/akidb/segments/blob/s3test"
)

const (
	podsDim      = 16
	podsSegments = 6
	podsRows     = 2_500 // a segment: enough for an index
)

// podsQuestion is a search, and the ids it has to find, nearest first.
type podsQuestion struct {
	vector []float32
	want   []string
}

// podsFleet is a writer, four query pods that share the work, and an S3 server.
type podsFleet struct {
	t         *testing.T
	pods      []*Server
	down      []atomic.Bool // pods whose clients may find nobody there
	questions []podsQuestion
	stop      atomic.Bool
	clients   sync.WaitGroup
	answers   atomic.Int64

	mu       sync.Mutex
	problems []string
}

// freeAddress is host:port that nobody has, to be told to others before who gets
// it is there.
func freeAddress(t *testing.T) string {
	ln, err := net.Listen("tcp", loopback()+":0")
	require.NoError(t, err)
	defer ln.Close()
	return ln.Addr().String()
}

// startPods fills a collection with segments and a tail that replaces some of
// their rows, and starts pods over it.
func startPods(t *testing.T) *podsFleet {
	o := onS3(s3test.Start(t))
	writer := akidb.Start(t, "writer", o.with(noFlush...))
	rng := rand.New(rand.NewPCG(11, 13))
	writer.Create(t, "points", podsDim, "l2")
	rows := map[string]Row{}
	put := func(from, to int) {
		var batch []Row
		for i := from; i < to; i++ {
			r := Row{ID: fmt.Sprintf("p%06d", i), Vector: make([]float32, podsDim), Metadata: jsontext.Value(fmt.Sprintf(`{"n":%d}`, i))}
			for d := range r.Vector {
				r.Vector[d] = float32(rng.NormFloat64())
			}
			rows[r.ID] = r
			batch = append(batch, r)
		}
		writer.Upsert(t, "points", batch...)
	}
	for s := range podsSegments {
		put(s*podsRows, (s+1)*podsRows)
		writer.Flush(t, "points")
	}
	put(1_000, 1_400) // in the tail from now on, and masked in a segment
	put(9_000, 9_100)

	f := &podsFleet{t: t, down: make([]atomic.Bool, 4)}
	for range 40 {
		q := podsQuestion{vector: make([]float32, podsDim)}
		for d := range q.vector {
			q.vector[d] = float32(rng.NormFloat64())
		}
		q.want = nearestIDs(rows, q.vector, 10)
		f.questions = append(f.questions, q)
	}
	var addresses []string
	for range f.down {
		addresses = append(addresses, freeAddress(t))
	}
	for i, addr := range addresses {
		f.pods = append(f.pods, akidb.Start(t, "query", o.with("--writer-url", writer.URL(), "--http-addr", addr,
			"--peers", strings.Join(addresses, ","), "--pod-name", fmt.Sprintf("pod-%d", i), "--cache-bytes", "256MiB")))
	}
	return f
}

// nearestIDs is the oracle.
func nearestIDs(rows map[string]Row, q []float32, k int) []string {
	type near struct {
		id       string
		distance float64
	}
	var all []near
	for id, r := range rows {
		n := near{id: id}
		for d, x := range r.Vector {
			n.distance += float64(x-q[d]) * float64(x-q[d])
		}
		all = append(all, n)
	}
	slices.SortFunc(all, func(a, b near) int {
		return cmp.Or(cmp.Compare(a.distance, b.distance), strings.Compare(a.id, b.id))
	})
	var ids []string
	for _, n := range all[:k] {
		ids = append(ids, n.id)
	}
	return ids
}

// check holds an answer against the oracle: an exact one has to be it, another
// has to have most of it.
func (q *podsQuestion) check(exact bool, ids []string) error {
	if exact {
		if !slices.Equal(ids, q.want) {
			return fmt.Errorf("exact search found %q, want %q", ids, q.want)
		}
		return nil
	}
	common := 0
	for _, id := range ids {
		if slices.Contains(q.want, id) {
			common++
		}
	}
	if len(ids) != len(q.want) || common < 7 {
		return fmt.Errorf("search found %q, want most of %q", ids, q.want)
	}
	return nil
}

// client searches through one pod until it is told to stop. A pod that is there
// answers, and right.
func (f *podsFleet) client(pod int, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, uint64(pod)))
	for !f.stop.Load() {
		q, exact := &f.questions[rng.IntN(len(f.questions))], rng.IntN(4) == 0
		wasDown := f.down[pod].Load()
		a, err := f.pods[pod].Send("POST", "/api/v1/collections/points/search", map[string]any{"vector": q.vector, "k": 10, "exact": exact})
		if err != nil {
			if !wasDown && !f.down[pod].Load() {
				f.problem("pod %d, which is there: %v", pod, err)
			}
			f.awaitReturn(pod)
			continue
		}
		var got struct{ Results []Hit }
		if a.Status != 200 {
			f.problem("pod %d: %s", pod, a)
		} else if err := decode(a.Body, &got); err != nil {
			f.problem("pod %d: %v", pod, err)
		} else if err := q.check(exact, idsOf(got.Results)); err != nil {
			f.problem("pod %d: %v", pod, err)
		}
		f.answers.Add(1)
	}
}

// awaitReturn waits until a pod is there again, or the test is over.
func (f *podsFleet) awaitReturn(pod int) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for f.down[pod].Load() && !f.stop.Load() {
		<-tick.C
	}
}

func (f *podsFleet) problem(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.problems) < 20 {
		f.problems = append(f.problems, fmt.Sprintf(format, args...))
	}
}

// copies is at which pods every segment is in memory.
func (f *podsFleet) copies(of ...int) map[string]int {
	f.t.Helper()
	n := map[string]int{}
	for _, i := range of {
		var list struct{ Segments []struct{ Segment string } }
		a, err := f.pods[i].Send("GET", "/internal/v1/hot", nil)
		if err != nil || a.Status != 200 || decode(a.Body, &list) != nil {
			return nil
		}
		for _, s := range list.Segments {
			n[s.Segment]++
		}
	}
	return n
}

// warm reports whether every segment is in memory at two of some pods or more.
func (f *podsFleet) warm(of ...int) bool {
	n := f.copies(of...)
	for _, copies := range n {
		if copies < 2 {
			return false
		}
	}
	return len(n) >= podsSegments/2 // compaction may join some
}

// seeEachOther waits until every one of some pods sees so many.
func (f *podsFleet) seeEachOther(of ...int) {
	f.t.Helper()
	Eventually(f.t, fmt.Sprintf("pods %v see each other and nobody else", of), func() bool {
		for _, i := range of {
			if n, _ := f.pods[i].metric("akidb_pods_ready"); int(n) != len(of) {
				return false
			}
		}
		return true
	})
}

// goOn waits until so many more searches were answered.
func (f *podsFleet) goOn(n int64) {
	f.t.Helper()
	from := f.answers.Load()
	Eventually(f.t, "searches are answered", func() bool { return f.answers.Load() >= from+n })
}

// Four pods share the work under load, while one is killed and comes back and
// another is stopped: no answer is wrong, and none is missing but where nobody
// was there to give it.
func TestPods(t *testing.T) {
	t.Parallel()
	f := startPods(t)
	f.seeEachOther(0, 1, 2, 3)
	seed := setting(t, "AKIDB_TEST_SEED", 1)
	for i := range f.pods {
		f.clients.Go(func() { f.client(i, seed) })
	}
	t.Cleanup(func() { f.stop.Store(true); f.clients.Wait() })

	Eventually(t, "every segment is in memory at two pods", func() bool { return f.warm(0, 1, 2, 3) })
	segments, total := f.copies(0, 1, 2, 3), 0
	for _, n := range segments {
		total += n
	}
	// Two, but that a pod which was slow to say that it is there loses its place
	// for a moment, and others load what it had.
	require.Less(t, total, 3*len(segments), "copies of %d segments in memory: %v", len(segments), segments)
	for i := range f.pods {
		sent, _ := f.pods[i].metric("akidb_fanout_requests_total", `result="ok"`)
		t.Logf("pod %d asked others for %v parts", i, sent)
	}

	f.down[1].Store(true)
	f.pods[1].Kill()
	f.seeEachOther(0, 2, 3)
	f.goOn(rounds64(200))
	f.pods[1].Restart() // ready when its share is warm
	require.NotEmpty(t, f.copies(1), "a pod is ready with nothing in memory")
	f.down[1].Store(false)
	f.seeEachOther(0, 1, 2, 3)
	f.goOn(rounds64(200))

	f.down[2].Store(true)
	f.pods[2].Stop()
	f.seeEachOther(0, 1, 3)
	Eventually(t, "heirs have what it had", func() bool { return f.warm(0, 1, 3) })
	f.goOn(rounds64(200))

	f.stop.Store(true)
	f.clients.Wait()
	for _, p := range f.problems {
		t.Error(p)
	}
	var asked float64
	for _, i := range []int{0, 1, 3} {
		ok, _ := f.pods[i].metric("akidb_fanout_requests_total", `result="ok"`)
		corrupt, _ := f.pods[i].metric("akidb_fanout_requests_total", `result="corrupt"`)
		asked += ok
		require.Zero(t, corrupt)
	}
	require.Positive(t, asked, "no pod ever asked another")
	t.Logf("%d searches, %v parts of which by others", f.answers.Load(), asked)

	// The checker notices what it is there for.
	q := f.questions[0]
	require.NoError(t, q.check(true, q.want))
	require.Error(t, q.check(true, append(slices.Clone(q.want[1:]), "p000000")), "a row is missed")
	require.Error(t, q.check(false, q.want[:5]), "half is missed")
}

func rounds64(n int) int64 { return int64(rounds(n, 10)) }
