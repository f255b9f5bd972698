package recall

import (
	"context"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/akidb/akidb/internal/client"
	"github.com/akidb/akidb/internal/client/clienttest"
	"github.com/akidb/akidb/internal/vecfile"
)

// load makes a collection of the rows, with their numbers as ids behind the prefix.
func load(t *testing.T, metric, prefix string, rows [][]float32) (*clienttest.Server, Config) {
	t.Helper()
	s := clienttest.New(t)
	api, err := client.New(client.Config{URL: s.URL, APIKey: "none", RetryFor: -1})
	require.NoError(t, err)
	t.Cleanup(api.Close)
	ctx := context.Background()
	created, err := api.CreateCollection(ctx, client.NewCollection{Name: "x", Dimension: len(rows[0]), Metric: metric})
	require.NoError(t, err)
	var b client.Batch
	for i, row := range rows {
		require.NoError(t, b.Add(prefix+strconv.Itoa(i), row, nil))
	}
	_, err = api.Upsert(ctx, "x", &b)
	require.NoError(t, err)
	return s, Config{Client: api, Collection: created, IDPrefix: prefix}
}

func quality(t *testing.T, config Config) Quality {
	t.Helper()
	report, err := Measure(context.Background(), config)
	require.NoError(t, err)
	require.NotNil(t, report.Quality)
	return *report.Quality
}

func TestPerfectAndPartialRecall(t *testing.T) {
	for _, metric := range []string{"l2", "cosine", "dot"} {
		rows := [][]float32{{1, 0}, {2, 0.1}, {3, 0.3}, {4, 0.9}, {5, 2}}
		s, config := load(t, metric, "p", rows)
		config.Queries = [][]float32{{1, 0}, {1, 0}}
		config.Search.K = 2
		truth := map[string][]int32{"l2": {0, 1, 2}, "cosine": {0, 1, 2}, "dot": {4, 3, 2}}[metric]
		config.Truth = [][]int32{truth, truth}
		require.Equal(t, Quality{Recall: 1, Found: 4, Wanted: 4, Worst: 1}, quality(t, config), metric)

		config.Truth[1] = []int32{truth[0], truth[2]} // its k-th neighbour is farther than a result: impossible, and reported
		require.Equal(t, Quality{Recall: 0.75, Found: 3, Wanted: 4, Nearer: 1, Worst: 0.5, WorstQuery: 1}, quality(t, config), metric)

		config.Truth[1] = truth
		s.Fudge = func(r []clienttest.Result) []clienttest.Result { return r[:1] }
		require.Equal(t, Quality{Recall: 0.5, Found: 2, Wanted: 4, Missing: 2, Worst: 0.5}, quality(t, config), metric)
	}
}

func TestTiesMustBeProven(t *testing.T) {
	// Rows 1, 2 and 3 lie at distance 1; the truth for k = 2 happens to name row 3.
	rows := [][]float32{{0, 0}, {1, 0}, {0, 1}, {-1, 0}, {0, 1.0001}, {9, 9}}
	s, config := load(t, "l2", "", rows)
	config.Queries, config.Truth = [][]float32{{0, 0}}, [][]int32{{0, 3}}
	config.Search.K = 2
	require.Equal(t, Quality{Recall: 1, Found: 2, Wanted: 2, Ties: 1, Worst: 1}, quality(t, config))

	// A row just behind the k-th that the server claims to be at its distance is no tie.
	s.Fudge = func([]clienttest.Result) []clienttest.Result {
		return []clienttest.Result{{ID: "0", Score: 0}, {ID: "4", Score: 1}}
	}
	require.Equal(t, Quality{Recall: 0.5, Found: 1, Wanted: 2, Worst: 0.5}, quality(t, config))

	// Nor is a result that no longer exists.
	s.Fudge = func([]clienttest.Result) []clienttest.Result {
		return []clienttest.Result{{ID: "0", Score: 0}, {ID: "gone", Score: 1}}
	}
	require.Equal(t, Quality{Recall: 0.5, Found: 1, Wanted: 2, Worst: 0.5}, quality(t, config))

	// A result whose score is far off is not read back at all.
	before := len(s.Requests())
	s.Fudge = func([]clienttest.Result) []clienttest.Result {
		return []clienttest.Result{{ID: "0", Score: 0}, {ID: "5", Score: 12.7}}
	}
	require.Equal(t, Quality{Recall: 0.5, Found: 1, Wanted: 2, Worst: 0.5}, quality(t, config))
	read := s.Requests()[before:]
	require.Equal(t, []string{"POST /collections/x/search", "GET /collections/x/vectors/3"}, read)

	// A tie never stands in for a nearer row: row 0 is missed, and of the two ties one takes the place of row 3.
	s.Fudge = func([]clienttest.Result) []clienttest.Result {
		return []clienttest.Result{{ID: "1", Score: 1}, {ID: "2", Score: 1}}
	}
	require.Equal(t, Quality{Recall: 0.5, Found: 1, Wanted: 2, Ties: 1, Worst: 0.5}, quality(t, config))

	s.Fudge = func([]clienttest.Result) []clienttest.Result {
		return []clienttest.Result{{ID: "0", Score: 0}, {ID: "0", Score: 0}}
	}
	_, err := Measure(context.Background(), config)
	require.EqualError(t, err, `query 0: the server gave id "0" twice`)
}

func TestTruthOfOtherRowsIsExplained(t *testing.T) {
	_, config := load(t, "l2", "p-", [][]float32{{0}, {1}})
	config.Queries, config.Truth = [][]float32{{0}}, [][]int32{{99}}
	config.Search.K = 1
	_, err := Measure(context.Background(), config)
	require.ErrorContains(t, err, `its neighbour "p-99" of the ground truth is not in collection "x"`)
}

func TestSearchIsSentAsConfigured(t *testing.T) {
	s, config := load(t, "l2", "", [][]float32{{0}, {1}})
	config.Queries = [][]float32{{1}, {0}}
	config.Search = client.SearchRequest{K: 1, Exact: true}
	config.Concurrency = 2
	report, err := Measure(context.Background(), config)
	require.NoError(t, err)
	require.Nil(t, report.Quality)
	require.Equal(t, 2, report.Queries)
	require.Equal(t, []string{"POST /collections/x/search", "POST /collections/x/search"}, s.Requests()[2:])
}

func TestLatency(t *testing.T) {
	times := make([]time.Duration, 200)
	for i := range times {
		times[i] = time.Duration((i*7)%200+1) * time.Millisecond // 1 … 200 ms, shuffled
	}
	require.Equal(t, Latency{Mean: 100.5, P50: 100, P90: 180, P99: 198, Max: 200}, summarise(times))
	require.Equal(t, Latency{Mean: 3, P50: 3, P90: 3, P99: 3, Max: 3}, summarise([]time.Duration{3 * time.Millisecond}))
}

func TestMeasureUsesTheClock(t *testing.T) {
	_, config := load(t, "l2", "", [][]float32{{0}})
	config.Queries = [][]float32{{1}, {0}, {2}}
	config.Search.K = 1
	now := time.Unix(0, 0)
	config.Now = func() time.Time { now = now.Add(time.Millisecond); return now }
	report, err := Measure(context.Background(), config)
	require.NoError(t, err)
	require.Equal(t, Latency{Mean: 1, P50: 1, P90: 1, P99: 1, Max: 1}, report.Latency)
	require.InDelta(t, 0.007, report.Seconds, 1e-12) // start, two a query, end
	require.InDelta(t, 3/0.007, report.QPS, 1e-6)
}

func TestConfigReportsEveryProblem(t *testing.T) {
	api, err := client.New(client.Config{})
	require.NoError(t, err)
	for want, change := range map[string]func(*Config){
		"no queries":                                   func(c *Config) { c.Queries = nil },
		"k is 0, want 1 or more":                       func(c *Config) { c.Search.K = 0 },
		"concurrency is 1025":                          func(c *Config) { c.Concurrency = 1025 },
		"ground truth for 1 queries, want 2":           func(c *Config) { c.Truth = c.Truth[:1] },
		"query 1: 1 neighbours, want at least k = 2":   func(c *Config) { c.Truth[1] = c.Truth[1][:1] },
		"query 0: neighbour 1 is row -1: fewer than k": func(c *Config) { c.Truth[0][1] = -1 },
		"query 0: row 7 is listed twice":               func(c *Config) { c.Truth[0] = []int32{7, 7} },
	} {
		config := Config{Client: api, Queries: [][]float32{{1}, {2}}, Truth: [][]int32{{1, 2}, {3, 4}}, Search: client.SearchRequest{K: 2}}
		require.NoError(t, config.Validate())
		change(&config)
		require.ErrorContains(t, config.Validate(), want)
	}
}

func ivecs(lists ...[]int32) (b []byte) {
	for _, list := range lists {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(list)))
		for _, id := range list {
			b = binary.LittleEndian.AppendUint32(b, uint32(id))
		}
	}
	return b
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	queries := filepath.Join(dir, "q.jsonl")
	require.NoError(t, os.WriteFile(queries, []byte("{\"vector\":[1,2]}\n{\"vector\":[3,4]}\n{\"vector\":[5]}\n"), 0o600))
	got, err := ReadQueries(queries, vecfile.Options{}, 2, 2)
	require.NoError(t, err)
	require.Equal(t, [][]float32{{1, 2}, {3, 4}}, got)
	_, err = ReadQueries(queries, vecfile.Options{}, 0, 2)
	require.ErrorContains(t, err, "query 2 has 1 values; the collection needs 2")
	require.NoError(t, os.WriteFile(queries, nil, 0o600))
	_, err = ReadQueries(queries, vecfile.Options{}, 0, 2)
	require.ErrorContains(t, err, "the file has no rows")

	truth := filepath.Join(dir, "gt.ivecs")
	require.NoError(t, os.WriteFile(truth, ivecs([]int32{1, 2, 3}, []int32{4, 5, 6}, []int32{7}), 0o600))
	lists, err := ReadTruth(truth, 2, 2, true)
	require.NoError(t, err)
	require.Equal(t, [][]int32{{1, 2}, {4, 5}}, lists)
	lists, err = ReadTruth(truth, 3, 1, false)
	require.NoError(t, err)
	require.Equal(t, [][]int32{{1}, {4}, {7}}, lists)
	for want, read := range map[string]func() error{
		"ground truth for more than the 2 queries given": func() error { _, err := ReadTruth(truth, 2, 2, false); return err },
		"ground truth for 3 queries, want 4":             func() error { _, err := ReadTruth(truth, 4, 1, true); return err },
		"query 2 has 1 neighbours; k = 2 needs":          func() error { _, err := ReadTruth(truth, 3, 2, false); return err },
	} {
		require.ErrorContains(t, read(), want)
	}
}

func TestDistance(t *testing.T) {
	a, b := []float32{3, 0}, []float32{0, 4}
	require.EqualValues(t, 5, distance("l2", a, b))
	require.EqualValues(t, 0, distance("dot", a, b))
	require.EqualValues(t, -9, distance("dot", a, a))
	require.EqualValues(t, -1, distance("cosine", a, a))
	require.EqualValues(t, 0, distance("cosine", a, []float32{0, 0}))
	require.False(t, math.IsNaN(distance("cosine", []float32{0, 0}, []float32{0, 0})))
}
