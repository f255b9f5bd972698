package main

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"github.com/akidb/akidb/internal/client"
	"github.com/akidb/akidb/internal/client/clienttest"
	"github.com/akidb/akidb/internal/client/recall"
)

// loaded is a server with the collection "x": row i is (i, -1), metric l2.
func loaded(t *testing.T, rows int) *clienttest.Server {
	t.Helper()
	cacheDir(t)
	s := clienttest.New(t)
	code, _, stderr := against(t, s, "import", writeVectors(t, filepath.Join(t.TempDir(), "base.fvecs"), rows), "-c", "x", "--create")
	require.Zero(t, code, stderr)
	return s
}

func TestSearch(t *testing.T) {
	s := loaded(t, 20)
	code, stdout, stderr := against(t, s, "search", "-c", "x", "--k", "3", "--vector", "[4.25, -1]")
	require.Zero(t, code, stderr)
	require.Equal(t, "#  ID  SCORE  METADATA\n1  4   0.25   \n2  5   0.75   \n3  3   1.25   \n", stdout)
	require.Equal(t, "3 results in # ms, # ms of them in the server\n", masked(strings.ReplaceAll(stderr, "0.2 of", "0.2 ms of")))

	code, stdout, stderr = against(t, s, "search", "-c", "x", "-k", "1", "--id", "7", "--include", "vector", "-o", "json")
	require.Zero(t, code, stderr)
	var response client.SearchResponse
	require.NoError(t, json.Unmarshal([]byte(stdout), &response))
	require.Equal(t, []client.Result{{ID: "7", Vector: client.Vector{7, -1}}}, response.Results)
	require.Contains(t, stdout, `"manifest_version": 7`)

	var body string
	s.Before = func(w http.ResponseWriter, _ *http.Request, b []byte) bool {
		body = string(b)
		return clienttest.Fail(w, 422, "bad_filter", "filter.must", "filter.must is odd")
	}
	code, stdout, stderr = against(t, s, "search", "-c", "x", "--vector", "[1,2]", "--filter", `{"must":[]}`, "--target-recall", "0.9",
		"--exact", "--include", "metadata,vector", "--consistency", "strong", "--nprobe", "8")
	require.Equal(t, exitFailed, code)
	require.Empty(t, stdout)
	require.Equal(t, "akidb: POST /collections/x/search: filter.must is odd (422 bad_filter, request r-1)\n", stderr)
	require.Equal(t, `{"vector":"AACAPwAAAEA=","k":10,"filter":{"must":[]},"include":["metadata","vector"],"exact":true,"target_recall":0.9,"nprobe":8,"consistency":"strong"}`, body)
}

func TestSearchTable(t *testing.T) {
	var out strings.Builder
	require.NoError(t, printResults(&out, []client.Result{
		{ID: "violin", Score: 1, Metadata: []byte(`{"word":"violin"}`), Vector: []float32{1, 0.5}},
		{ID: "bass-fiddle", Score: 0.65349, Metadata: []byte("{\"a\":\"\x1b[31m" + strings.Repeat("ü", 200) + `"}`)},
	}, []string{"metadata", "vector"}))
	require.Equal(t, `#  ID           SCORE    METADATA`+strings.Repeat(" ", 114)+`VECTOR
1  violin       1        {"word":"violin"}`+strings.Repeat(" ", 105)+`[1 0.5]
2  bass-fiddle  0.65349  {"a":"·[31m`+strings.Repeat("ü", 108)+`…  []
`, out.String())
}

// truth writes the true neighbours of the queries (i, -1) among rows (0 … rows-1, -1).
func truth(t *testing.T, path string, queries, width int) string {
	t.Helper()
	var b []byte
	for q := range queries {
		b = binary.LittleEndian.AppendUint32(b, uint32(width))
		for i := range width { // q, q+1, q-1, q+2, q-2 …
			step := (i + 1) / 2
			if i%2 == 0 {
				step = -step
			}
			b = binary.LittleEndian.AppendUint32(b, uint32(q+100+step))
		}
	}
	require.NoError(t, os.WriteFile(path, b, 0o600))
	return path
}

// queriesFrom writes the queries (100, -1), (101, -1) …
func queriesFrom(t *testing.T, path string, count int) string {
	t.Helper()
	var b []byte
	for q := range count {
		b = binary.LittleEndian.AppendUint32(b, 2)
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(100+q)))
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(-1))
	}
	require.NoError(t, os.WriteFile(path, b, 0o600))
	return path
}

func TestSearchMeasuresRecall(t *testing.T) {
	s := loaded(t, 300)
	dir := t.TempDir()
	queries, gt := queriesFrom(t, filepath.Join(dir, "q.fvecs"), 50), truth(t, filepath.Join(dir, "gt.ivecs"), 50, 11)

	// k = 10 cuts between two rows at one distance: whichever the server gives is right. Below 105 it gives the same as the truth,
	// since ties break by id and "105" comes before "95".
	code, stdout, stderr := against(t, s, "search", "-c", "x", "--queries", queries, "--groundtruth", gt, "--min-recall", "1", "--concurrency", "4")
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "recall@10    1.0000 (500 of 500, 45 of them proven ties)\n")

	code, stdout, stderr = against(t, s, "search", "-c", "x", "--queries", queries, "--groundtruth", gt, "--limit", "20", "-k", "11", "-o", "json")
	require.Zero(t, code, stderr)
	var report recall.Report
	require.NoError(t, json.Unmarshal([]byte(stdout), &report))
	require.Equal(t, 20, report.Queries)
	require.Equal(t, &recall.Quality{Recall: 1, Found: 220, Wanted: 220, Worst: 1}, report.Quality)

	s.Fudge = func(r []clienttest.Result) []clienttest.Result { return r[:len(r)-2] }
	code, stdout, stderr = against(t, s, "search", "-c", "x", "--queries", queries, "--groundtruth", gt, "--min-recall", "0.9", "-k", "11")
	require.Equal(t, exitVerificationFailed, code)
	require.Contains(t, stdout, "recall@11        0.8182 (450 of 550, 0 of them proven ties)\n")
	require.Equal(t, "akidb: recall@11 is 0.8182, want at least 0.9\n", stderr)
	s.Fudge = nil

	code, stdout, stderr = against(t, s, "search", "-c", "x", "--queries", queries)
	require.Zero(t, code, stderr)
	require.NotContains(t, stdout, "recall")
	require.Contains(t, stdout, "queries     50, k = 10, 1 at once\n")
}

func TestSearchExplainsWhatIsWrong(t *testing.T) {
	s := loaded(t, 300)
	dir := t.TempDir()
	queries, gt := queriesFrom(t, filepath.Join(dir, "q.fvecs"), 5), truth(t, filepath.Join(dir, "gt.ivecs"), 5, 11)
	more := truth(t, filepath.Join(dir, "more.ivecs"), 6, 11)
	narrow := filepath.Join(dir, "q.csv")
	require.NoError(t, os.WriteFile(narrow, []byte("v0\n1\n"), 0o600))
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"--vector [1,2]", exitUsage, "--collection is missing"},
		{"-c x", exitUsage, "at least one of the flags in the group [vector id queries] is required"},
		{"-c x --vector [1,2] --id 3", exitUsage, "none of the others can be"},
		{"-c x --vector [1,two]", exitUsage, "--vector: "},
		{"-c x --vector [1] --k 0", exitUsage, "--k is 0, want 1 to 10000"},
		{"-c x --id 3 --filter []", exitUsage, "--filter is not a JSON object"},
		{"-c x --id 3 --include ids", exitUsage, `--include is "ids", want metadata or vector`},
		{"-c x --id 3 --consistency often", exitUsage, "want eventual, latest or strong"},
		{"-c x --id 3 --target-recall 0", exitUsage, "--target-recall is 0, want above 0 to 1"},
		{"-c x --id 3 --limit 4", exitUsage, "--limit needs --queries"},
		{"-c x --queries " + queries + " --min-recall 0.9", exitUsage, "--min-recall needs --groundtruth"},
		{"-c x --id 3 -o yaml", exitUsage, `-o is "yaml", want table|json`},
		{"-c none --id 3", exitFailed, `no collection "none"`},
		{"-c x --id none", exitFailed, `no vector "none" (404 vector_not_found, field id, request r-1)`},
		{"-c x --vector [1]", exitFailed, `vector has 1 values; collection "x" needs 2`},
		{"-c x --queries " + narrow, exitFailed, "query 0 has 1 values; the collection needs 2"},
		{"-c x --queries " + queries + " --groundtruth " + gt + " -k 12", exitFailed, "query 0 has 11 neighbours; k = 12 needs at least as many"},
		{"-c x --queries " + queries + " --groundtruth " + more, exitFailed, "ground truth for more than the 5 queries given"},
		{"-c x --queries " + queries + " --groundtruth " + queries, exitFailed, "ground truth is read from .ivecs files"},
		{"-c x --queries " + gt, exitFailed, "holds lists of neighbours, not vectors"},
		{"-c x --queries " + queries + " --groundtruth " + gt + " --id-prefix p-", exitFailed, fmt.Sprintf("neighbour %q of the ground truth is not in collection", "p-105")},
	} {
		code, stdout, stderr := against(t, s, append([]string{"search"}, strings.Fields(c.args)...)...)
		require.Equal(t, c.code, code, "%v: %s", c.args, stderr)
		require.Contains(t, stderr, c.want, "%v", c.args)
		require.Empty(t, stdout)
	}
}

func TestMeasuredTable(t *testing.T) {
	var out strings.Builder
	require.NoError(t, printMeasured(&out, recall.Report{
		Collection: "sift", Metric: "l2", Queries: 500, K: 10, Concurrency: 1, QPS: 2412.4,
		Latency: recall.Latency{Mean: 0.4123, P50: 0.38, P90: 0.52, P99: 0.93, Max: 1.5},
		Quality: &recall.Quality{Recall: 0.9976, Found: 4988, Wanted: 5000, Ties: 3, Missing: 1, Worst: 0.8, WorstQuery: 17},
	}))
	require.Equal(t, `collection       sift (l2)
queries          500, k = 10, 1 at once
recall@10        0.9976 (4988 of 5000, 3 of them proven ties)
worst query      0.8000 (query 17)
missing results  1
latency          mean 0.412 ms, p50 0.380, p90 0.520, p99 0.930, max 1.500
throughput       2412 queries/s
`, out.String())
}
