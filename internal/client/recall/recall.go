// Package recall measures how many of the true neighbours a collection's searches find, and how long they take.
//
// recall@k is, over all queries, the share of the k true nearest rows that are among the k results. The truth comes as lists of
// row numbers; row i of the file that was imported has the id "<prefix>i".
//
// Ties. When several rows lie at exactly the distance of the k-th true neighbour, the truth holds only some of them, and any is
// as right as another. A result outside the truth is counted as right when that is proven: both its stored vector and that of
// the k-th true neighbour are read back, and their distances to the query, computed here in float64, are equal. At most as many
// count as true neighbours at that very distance were missed: a tie stands in for another, never for a nearer row. The server's scores prove nothing and only save the reading back of results whose score
// is far off. A result that is proven to be nearer than the k-th true neighbour does not count; it is reported, since it
// means that the truth was computed on other rows.
package recall

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/akidb/akidb/internal/client"
)

// Config says what to measure.
type Config struct {
	Client     *client.Client
	Collection client.Collection // its Name and Metric are used
	Queries    [][]float32
	// Truth holds for every query the row numbers of its nearest rows, nearest first, at least Search.K of them. nil: only
	// times are measured.
	Truth [][]int32
	// IDPrefix is what was put before row numbers when the collection was loaded.
	IDPrefix string
	// Search is sent for every query, with its vector filled in.
	Search client.SearchRequest
	// Concurrency is how many searches are under way at once. 0: 1; at most 1024.
	Concurrency int
	// Now is the clock. nil: the system's.
	Now func() time.Time
}

// Validate reports every problem at once.
func (c Config) Validate() error {
	var errs []error
	if c.Client == nil || len(c.Queries) == 0 {
		errs = append(errs, errors.New("no queries"))
	}
	if c.Search.K < 1 {
		errs = append(errs, fmt.Errorf("k is %d, want 1 or more", c.Search.K))
	}
	if c.Concurrency < 0 || c.Concurrency > 1024 {
		errs = append(errs, fmt.Errorf("concurrency is %d, want 1 to 1024", c.Concurrency))
	}
	if c.Truth != nil && len(c.Truth) != len(c.Queries) {
		errs = append(errs, fmt.Errorf("ground truth for %d queries, want %d", len(c.Truth), len(c.Queries)))
	}
	for i, list := range c.Truth {
		if err := checkList(list, c.Search.K); err != nil {
			errs = append(errs, fmt.Errorf("ground truth of query %d: %w", i, err))
			break
		}
	}
	return errors.Join(errs...)
}

func checkList(list []int32, k int) error {
	if len(list) < k {
		return fmt.Errorf("%d neighbours, want at least k = %d", len(list), k)
	}
	seen := make(map[int32]struct{}, k)
	for at, row := range list[:k] {
		if row < 0 {
			return fmt.Errorf("neighbour %d is row %d: fewer than k = %d are known", at, row, k)
		}
		if _, twice := seen[row]; twice {
			return fmt.Errorf("row %d is listed twice", row)
		}
		seen[row] = struct{}{}
	}
	return nil
}

// Report is what was measured. Latencies are in milliseconds, as a caller sees them.
type Report struct {
	Collection  string  `json:"collection"`
	Metric      string  `json:"metric"`
	Queries     int     `json:"queries"`
	K           int     `json:"k"`
	Concurrency int     `json:"concurrency"`
	Seconds     float64 `json:"seconds"`
	QPS         float64 `json:"queries_per_second"`
	Latency     Latency `json:"latency_ms"`
	// Quality is nil when there was no ground truth.
	Quality *Quality `json:"recall,omitempty"`
}

// Latency summarises one call's time: percentiles are nearest-rank, so each is a time that was measured.
type Latency struct {
	Mean float64 `json:"mean"`
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	Max  float64 `json:"max"`
}

// Quality is recall and what it was counted from.
type Quality struct {
	Recall float64 `json:"recall"` // Found / Wanted
	Found  int     `json:"found"`  // true neighbours among the results, proven ties included
	Wanted int     `json:"wanted"` // queries x k
	Ties   int     `json:"ties"`   // of Found, the proven ties
	// Missing is how many results fewer than k a query the server gave.
	Missing int `json:"missing_results"`
	// Nearer is how many results are proven nearer than the k-th true neighbour, which the truth says cannot be.
	Nearer int `json:"nearer_than_truth"`
	// Worst is the lowest recall of one query, and WorstQuery the first query that has it.
	Worst      float64 `json:"worst_query_recall"`
	WorstQuery int     `json:"worst_query"`
}

// Measure runs every query once. The first failed search ends it.
func Measure(ctx context.Context, config Config) (Report, error) {
	if err := config.Validate(); err != nil {
		return Report{}, err
	}
	config.Concurrency = max(config.Concurrency, 1)
	if config.Now == nil {
		config.Now = time.Now
	}
	times := make([]time.Duration, len(config.Queries))
	results := make([][]client.Result, len(config.Queries))
	start := config.Now()
	err := each(ctx, config.Concurrency, len(config.Queries), func(ctx context.Context, i int) error {
		request := config.Search
		request.Vector = config.Queries[i]
		began := config.Now()
		response, err := config.Client.Search(ctx, config.Collection.Name, request)
		if err != nil {
			return fmt.Errorf("query %d: %w", i, err)
		}
		times[i], results[i] = config.Now().Sub(began), response.Results
		return nil
	})
	if err != nil {
		return Report{}, err
	}
	report := Report{
		Collection: config.Collection.Name, Metric: config.Collection.Metric, Queries: len(config.Queries), K: config.Search.K,
		Concurrency: config.Concurrency, Seconds: config.Now().Sub(start).Seconds(), Latency: summarise(times),
	}
	if report.Seconds > 0 {
		report.QPS = float64(report.Queries) / report.Seconds
	}
	if config.Truth != nil {
		report.Quality, err = judge(ctx, config, results)
	}
	return report, err
}

// each calls do for 0 … count-1 from so many goroutines.
func each(ctx context.Context, concurrency, count int, do func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range min(concurrency, count) {
		group.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= count {
					return nil
				}
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := do(ctx, i); err != nil {
					return err
				}
			}
		})
	}
	return group.Wait()
}

func summarise(times []time.Duration) Latency {
	slices.Sort(times)
	var sum time.Duration
	for _, t := range times {
		sum += t
	}
	rank := func(share float64) float64 {
		return milliseconds(times[int(math.Ceil(share*float64(len(times))))-1])
	}
	return Latency{
		Mean: milliseconds(sum) / float64(len(times)),
		P50:  rank(0.50), P90: rank(0.90), P99: rank(0.99), Max: rank(1),
	}
}

func milliseconds(t time.Duration) float64 { return float64(t) / float64(time.Millisecond) }

// judge compares the results of every query with its truth.
func judge(ctx context.Context, config Config, results [][]client.Result) (*Quality, error) {
	verdicts := make([]verdict, len(results))
	err := each(ctx, config.Concurrency, len(results), func(ctx context.Context, i int) (err error) {
		verdicts[i], err = judgeQuery(ctx, config, i, results[i])
		return err
	})
	if err != nil {
		return nil, err
	}
	k := config.Search.K
	q := &Quality{Wanted: k * len(results), Worst: math.Inf(1)}
	for i, v := range verdicts {
		q.Found += v.found + v.ties
		q.Ties += v.ties
		q.Nearer += v.nearer
		q.Missing += max(k-len(results[i]), 0)
		if share := float64(v.found+v.ties) / float64(k); share < q.Worst {
			q.Worst, q.WorstQuery = share, i
		}
	}
	q.Recall = float64(q.Found) / float64(q.Wanted)
	return q, nil
}

// verdict counts the results of one query: true neighbours, proven ties, and those proven nearer than the truth allows.
type verdict struct{ found, ties, nearer int }

func judgeQuery(ctx context.Context, config Config, i int, results []client.Result) (verdict, error) {
	k := config.Search.K
	truth := make(map[string]struct{}, k)
	for _, row := range config.Truth[i][:k] {
		truth[config.IDPrefix+strconv.Itoa(int(row))] = struct{}{}
	}
	var v verdict
	var others []client.Result
	seen := make(map[string]struct{}, k)
	for _, r := range results[:min(k, len(results))] {
		if _, twice := seen[r.ID]; twice {
			return v, fmt.Errorf("query %d: the server gave id %q twice", i, r.ID)
		}
		seen[r.ID] = struct{}{}
		if _, ok := truth[r.ID]; ok {
			v.found++
		} else {
			others = append(others, r)
		}
	}
	if len(others) == 0 {
		return v, nil
	}
	last := config.IDPrefix + strconv.Itoa(int(config.Truth[i][k-1]))
	kth, err := distanceTo(ctx, config, i, last)
	if client.IsNotFound(err) {
		return v, fmt.Errorf("query %d: its neighbour %q of the ground truth is not in collection %q: "+
			"was it loaded from the file that the truth is about, with this id prefix?", i, last, config.Collection.Name)
	}
	if err != nil {
		return v, err
	}
	for _, r := range others {
		if far(r.Score, kth, config.Collection.Metric) {
			continue
		}
		distance, err := distanceTo(ctx, config, i, r.ID)
		switch {
		case client.IsNotFound(err): // deleted since it was found: nothing can be proven
		case err != nil:
			return v, err
		case distance == kth:
			v.ties++
		case distance < kth:
			v.nearer++
		}
	}
	if v.ties > 0 {
		places, err := tiedPlaces(ctx, config, i, kth, seen)
		if err != nil {
			return v, err
		}
		v.ties = min(v.ties, places)
	}
	return v, nil
}

// tiedPlaces counts the true neighbours of query i that were missed and lie at exactly the k-th distance: the end of the list.
func tiedPlaces(ctx context.Context, config Config, i int, kth float64, found map[string]struct{}) (places int, err error) {
	for _, row := range slices.Backward(config.Truth[i][:config.Search.K]) {
		id := config.IDPrefix + strconv.Itoa(int(row))
		distance, err := distanceTo(ctx, config, i, id)
		if err != nil {
			return 0, err
		}
		if distance != kth {
			break
		}
		if _, ok := found[id]; !ok {
			places++
		}
	}
	return places, nil
}

// far says that a score is so much worse than the k-th distance that no rounding makes them equal.
func far(score, kth float64, metric string) bool {
	distance := score
	if metric != "l2" {
		distance = -score
	}
	return distance > kth+1e-3*math.Max(1, math.Abs(kth))
}

// distanceTo reads a row back and computes its distance to query i: lower is nearer in every metric.
func distanceTo(ctx context.Context, config Config, i int, id string) (float64, error) {
	record, err := config.Client.GetVector(ctx, config.Collection.Name, id)
	if err != nil {
		return 0, fmt.Errorf("query %d: %w", i, err)
	}
	query := config.Queries[i]
	if len(record.Vector) != len(query) {
		return 0, fmt.Errorf("query %d: row %q has %d values, want %d", i, id, len(record.Vector), len(query))
	}
	return distance(config.Collection.Metric, query, record.Vector), nil
}

// distance is the Euclidean distance for l2, minus the cosine for cosine, minus the inner product for dot.
func distance(metric string, a, b []float32) float64 {
	var dot, aa, bb, squares float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		dot += x * y
		aa += x * x
		bb += y * y
		squares += (x - y) * (x - y)
	}
	switch metric {
	case "l2":
		return math.Sqrt(squares)
	case "dot":
		return -dot
	}
	if aa == 0 || bb == 0 {
		return 0
	}
	return -dot / math.Sqrt(aa) / math.Sqrt(bb)
}
