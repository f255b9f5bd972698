package main

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/akidb/akidb/internal/client"
	"github.com/akidb/akidb/loadtest/dataset"
)

// answer is what a point came to. Times are milliseconds, CPU is microseconds a query of all processes
// asked; the rest are means a query.
type answer struct {
	Dataset  string  `json:"dataset"`
	Asked    float64 `json:"target_recall"`
	Share    float64 `json:"filter_share"`
	Load     string  `json:"load"`
	Recall   float64 `json:"recall"`
	Worst    float64 `json:"worst_query_recall"`
	QPS      float64 `json:"queries_per_second"`
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
	CPU      float64 `json:"cpu_us"`
	Codes    float64 `json:"codes_scanned"`
	Lists    float64 `json:"lists_probed"`
	Reranked float64 `json:"reranked"`
	Gets     float64 `json:"store_gets"`
	Bytes    float64 `json:"store_bytes"`
	Short    int     `json:"short"`  // answers of fewer than min(k, matches)
	Failed   int     `json:"failed"` // requests that were refused or lost, all rounds together
}

// measure has every query answered once for its recall and cost, which also warms, and then measures the
// points round by round, so that a bad minute of the machine meets all of them.
func measure(o options, set *dataset.Set, points []point) ([]answer, error) {
	answers, senders := make([]answer, len(points)), make([]*sender, len(points))
	type truth struct {
		rows    [][]uint32
		matches int
	}
	truths := map[float64]truth{}
	for i, p := range points {
		t, known := truths[p.share]
		if !known {
			var err error
			if t.rows, t.matches, err = truthOf(set, o.k, p.share); err != nil {
				return nil, err
			}
			truths[p.share] = t
		}
		s, err := newSender(o, set, p)
		if err != nil {
			return nil, err
		}
		senders[i] = s
		answers[i] = answer{Dataset: set.Name, Asked: p.recall, Share: p.share, Load: p.load()}
		if err := once(s, &answers[i], t.rows, min(o.k, t.matches)); err != nil {
			return nil, err
		}
	}
	set.Base = nil
	samples := make([][]sample, len(points))
	for round := range o.rounds {
		for i, p := range points {
			if p.clients == 0 && p.rate == 0 {
				continue
			}
			got, err := timed(o, senders[i], p)
			if err != nil {
				return nil, err
			}
			samples[i] = append(samples[i], got)
			answers[i].Failed += got.failed
			fmt.Fprintf(os.Stderr, "round %d: %g, %g %%, %s: %.0f q/s, p50 %.2f ms, p99 %.2f ms, %.0f µs of CPU\n", round+1, p.recall, 100*p.share, p.load(), got.qps, got.p50, got.p99, got.cpu)
		}
	}
	for i := range answers {
		median := func(of func(sample) float64) float64 {
			if len(samples[i]) == 0 {
				return 0
			}
			values := make([]float64, len(samples[i]))
			for j, s := range samples[i] {
				values[j] = of(s)
			}
			slices.Sort(values)
			return values[len(values)/2]
		}
		a := &answers[i]
		a.QPS, a.CPU = median(func(s sample) float64 { return s.qps }), median(func(s sample) float64 { return s.cpu })
		a.P50, a.P99 = median(func(s sample) float64 { return s.p50 }), median(func(s sample) float64 { return s.p99 })
	}
	return answers, nil
}

// warmups is how often all queries are sent before anything counts: so many searches of a segment have it
// loaded into memory.
const warmups = 2

// once sends every query and looks at the answers.
func once(s *sender, a *answer, truth [][]uint32, wanted int) error {
	for range warmups {
		for i := range s.bodies {
			if _, err := s.send(i); err != nil {
				return err
			}
		}
	}
	hits := 0
	a.Worst = 1
	for i := range s.bodies {
		b, err := s.send(i)
		if err != nil {
			return err
		}
		var got client.SearchResponse
		if err := json.Unmarshal(b, &got); err != nil {
			return fmt.Errorf("answer to query %d: %w", i, err)
		}
		rows := make([]uint32, len(got.Results))
		for j, r := range got.Results {
			n, err := strconv.ParseUint(r.ID, 10, 32)
			if err != nil {
				return fmt.Errorf("answer to query %d: id %q: want a row number", i, r.ID)
			}
			rows[j] = uint32(n)
		}
		if len(rows) < wanted {
			a.Short++
		}
		n := min(found(rows, truth[i]), wanted)
		hits += n
		a.Worst = min(a.Worst, float64(n)/float64(wanted))
		u := got.Usage
		a.Codes += float64(u.CodesScanned)
		a.Lists += float64(u.ListsProbed)
		a.Reranked += float64(u.Reranked)
		a.Gets += float64(u.StoreGets)
		a.Bytes += float64(u.StoreBytes)
	}
	count := float64(len(s.bodies))
	a.Recall = float64(hits) / (count * float64(wanted))
	for _, sum := range []*float64{&a.Codes, &a.Lists, &a.Reranked, &a.Gets, &a.Bytes} {
		*sum /= count
	}
	return nil
}

// sample is one measurement of a point.
type sample struct {
	qps, p50, p99, cpu float64
	failed             int
}

func timed(o options, s *sender, p point) (sample, error) {
	before, err := cpuSeconds(o.admins)
	if err != nil {
		return sample{}, err
	}
	began := time.Now()
	var took []time.Duration
	var failed int
	if p.clients > 0 {
		took, failed = closedLoop(s, p.clients, o.duration)
	} else {
		took, failed = openLoop(s, p.rate, o.duration)
	}
	seconds := time.Since(began).Seconds()
	after, err := cpuSeconds(o.admins)
	if err != nil {
		return sample{}, err
	}
	if len(took) == 0 {
		return sample{}, fmt.Errorf("%s: none of %d requests was answered", p.load(), failed)
	}
	slices.Sort(took)
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	return sample{
		qps: float64(len(took)) / seconds, failed: failed, cpu: (after - before) * 1e6 / float64(len(took)),
		p50: ms(took[(len(took)-1)/2]), p99: ms(took[(len(took)-1)*99/100]),
	}, nil
}

// closedLoop has so many clients send one request after the other.
func closedLoop(s *sender, clients int, duration time.Duration) (took []time.Duration, failed int) {
	var mu sync.Mutex
	var next atomic.Int64
	var group sync.WaitGroup
	began := time.Now()
	for range clients {
		group.Go(func() {
			var mine []time.Duration
			lost := 0
			for time.Since(began) < duration {
				sent := time.Now()
				if _, err := s.send(int(next.Add(1)) % len(s.bodies)); err != nil {
					lost++
					continue
				}
				mine = append(mine, time.Since(sent))
			}
			mu.Lock()
			took, failed = append(took, mine...), failed+lost
			mu.Unlock()
		})
	}
	group.Wait()
	return took, failed
}

// openLoop sends request i at i/rate, whatever became of those before. Its time counts from then, so
// that a server that stalls is charged for everybody who would have come meanwhile.
func openLoop(s *sender, rate float64, duration time.Duration) (took []time.Duration, failed int) {
	count := int(rate * duration.Seconds())
	times := make([]time.Duration, count)
	var group sync.WaitGroup
	began := time.Now()
	for i := range times {
		due := time.Duration(float64(i) / rate * float64(time.Second))
		if wait := due - time.Since(began); wait > 0 {
			time.Sleep(wait)
		}
		group.Go(func() {
			if _, err := s.send(i % len(s.bodies)); err == nil {
				times[i] = time.Since(began) - due
			}
		})
	}
	group.Wait()
	for _, t := range times {
		if t > 0 {
			took = append(took, t)
		} else {
			failed++
		}
	}
	return took, failed
}

// cpuSeconds is what the processes have used since they began.
func cpuSeconds(admins []string) (sum float64, err error) {
	for _, admin := range admins {
		resp, err := http.Get(admin + "/metrics")
		if err != nil {
			return 0, err
		}
		found := false
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			if value, ok := strings.CutPrefix(lines.Text(), "process_cpu_seconds_total "); ok {
				v, err := strconv.ParseFloat(value, 64)
				if err != nil {
					return 0, err
				}
				sum, found = sum+v, true
			}
		}
		resp.Body.Close()
		if !found {
			return 0, fmt.Errorf("%s/metrics: no process_cpu_seconds_total", admin)
		}
	}
	return sum, nil
}
