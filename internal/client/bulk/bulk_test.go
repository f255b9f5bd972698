package bulk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/akidb/akidb/internal/client"
	"github.com/akidb/akidb/internal/client/clienttest"
	"github.com/akidb/akidb/internal/vecfile"
)

func fvecs(t require.TestingT, path string, rows int) {
	var b []byte
	for i := range rows {
		b = binary.LittleEndian.AppendUint32(b, 2)
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(i)))
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(-1))
	}
	require.NoError(t, os.WriteFile(path, b, 0o600))
}

// setup is a server with an empty collection "x" of dimension 2, and a load of the file into it.
func setup(t *testing.T, path string) (*clienttest.Server, Config) {
	t.Helper()
	s := clienttest.New(t)
	api, err := client.New(client.Config{URL: s.URL, APIKey: "none", RetryFor: -1})
	require.NoError(t, err)
	t.Cleanup(api.Close)
	created, err := EnsureCollection(context.Background(), api, client.NewCollection{Name: "x", Dimension: 2, Metric: "l2"}, false)
	require.NoError(t, err)
	return s, Config{Path: path, Client: api, Collection: created, Batch: 10, CheckpointDir: filepath.Join(t.TempDir(), "checkpoints")}
}

// requireLoaded checks that the collection holds rows 0 … count-1 as fvecs wrote them, and that none was acknowledged twice.
func requireLoaded(t require.TestingT, s *clienttest.Server, count int) {
	ids, vectors := s.Rows("x")
	require.Len(t, ids, count)
	for i, id := range ids {
		var row int
		_, err := fmt.Sscan(id, &row)
		require.NoError(t, err)
		require.Equal(t, []float32{float32(row), -1}, vectors[i])
	}
	seen := map[string]bool{}
	for _, batch := range s.Upserts() {
		for _, id := range batch {
			require.False(t, seen[id], "row %s was sent again after it was acknowledged", id)
			seen[id] = true
		}
	}
}

func TestLoadsEveryRow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rows.fvecs")
	fvecs(t, path, 95)
	s, config := setup(t, path)
	ticks := 0
	config.Now = func() time.Time { ticks++; return time.Unix(int64(ticks), 0) }
	summary, err := Run(context.Background(), config)
	require.NoError(t, err)
	requireLoaded(t, s, 95)
	require.Len(t, s.Upserts(), 10)
	require.EqualValues(t, 95, summary.Rows)
	require.EqualValues(t, 1, summary.Seconds)
	require.EqualValues(t, 95, summary.RowsPerSec)
	require.Positive(t, summary.Bytes)

	again, err := Run(context.Background(), config)
	require.NoError(t, err)
	require.Zero(t, again.Rows, "a finished file keeps its checkpoint until it is dropped")
	require.EqualValues(t, 95, again.RowsResumed)
	require.NoError(t, again.Forget())
	third, err := Run(context.Background(), config)
	require.NoError(t, err)
	require.EqualValues(t, 95, third.Rows)
}

// TestResume breaks loads at random requests, in the ways a server fails, and runs them again until one ends. Whatever happened, every
// row is there and none was sent again after the server had acknowledged it.
func TestResume(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		rows := rapid.IntRange(1, 120).Draw(rt, "rows")
		path := filepath.Join(dir, "rows.fvecs")
		fvecs(rt, path, rows)
		s, config := setup(t, path)
		config.Batch = rapid.IntRange(1, 30).Draw(rt, "batch")
		config.Parallel = rapid.IntRange(1, 4).Draw(rt, "parallel")
		failures := rapid.SliceOfN(rapid.IntRange(0, 20), 1, 5).Draw(rt, "failures")
		var requests, failAt atomic.Int64
		s.Before = func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
			if requests.Add(1) != failAt.Load() {
				return false
			}
			return clienttest.Fail(w, 507, "storage_full", "", "no room")
		}
		for _, at := range failures {
			requests.Store(0)
			failAt.Store(int64(at))
			summary, err := Run(context.Background(), config)
			if err != nil {
				require.ErrorContains(rt, err, "no room")
			}
			require.LessOrEqual(rt, summary.Rows+summary.RowsResumed, int64(rows))
		}
		failAt.Store(-1)
		_, err := Run(context.Background(), config)
		require.NoError(rt, err)
		requireLoaded(rt, s, rows)
	})
}

// TestCheckpointBeyondTheFile ends a load whose checkpoint knows of more rows than there are.
func TestCheckpointBeyondTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rows.fvecs")
	fvecs(t, path, 20)
	s, config := setup(t, path)
	id, err := identify(config)
	require.NoError(t, err)
	kept, _, err := openCheckpoint(config.CheckpointDir, id, false)
	require.NoError(t, err)
	require.NoError(t, kept.ack(5, 30))
	summary, err := Run(context.Background(), config)
	require.NoError(t, err)
	require.EqualValues(t, 5, summary.Rows)
	require.Equal(t, [][]string{{"0", "1", "2", "3", "4"}}, s.Upserts())
}

// TestOutOfOrderAcknowledgements holds the first batch back until a later one was acknowledged, then fails it.
func TestOutOfOrderAcknowledgements(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rows.fvecs")
	fvecs(t, path, 20)
	s, config := setup(t, path)
	config.Parallel = 2
	var progress recorder
	config.Progress = &progress
	later := make(chan struct{})
	progress.advanced = func() { close(later) }
	s.Before = func(w http.ResponseWriter, _ *http.Request, body []byte) bool {
		if !strings.Contains(string(body), `"id":"0"`) {
			return false
		}
		<-later
		return clienttest.Fail(w, 500, "internal", "", "broken")
	}
	summary, err := Run(context.Background(), config)
	require.ErrorContains(t, err, "rows 0 to 9: ")
	require.EqualValues(t, 10, summary.Rows)
	s.Before = nil
	progress.advanced = func() {}
	summary, err = Run(context.Background(), config)
	require.NoError(t, err)
	require.EqualValues(t, 10, summary.Rows)
	require.EqualValues(t, 10, summary.RowsResumed)
	requireLoaded(t, s, 20)
	require.Equal(t, []string{"start 20 0", "10", "finish", "start 10 10", "10", "finish"}, progress.calls)
}

type recorder struct {
	calls    []string
	advanced func()
}

func (r *recorder) Start(_ string, rows, resumed int64) {
	r.calls = append(r.calls, fmt.Sprintf("start %d %d", rows, resumed))
}
func (r *recorder) Advance(rows int64) { r.calls = append(r.calls, fmt.Sprint(rows)); r.advanced() }
func (r *recorder) Finish()            { r.calls = append(r.calls, "finish") }

func TestInterrupted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rows.fvecs")
	fvecs(t, path, 100)
	s, config := setup(t, path)
	config.Parallel = 1
	ctx, cancel := context.WithCancel(context.Background())
	s.Before = func(_ http.ResponseWriter, _ *http.Request, body []byte) bool {
		if strings.Contains(string(body), `"id":"30"`) {
			cancel() // while this request is under way: it is awaited, and counts
		}
		return false
	}
	summary, err := Run(ctx, config)
	require.ErrorIs(t, err, context.Canceled)
	require.GreaterOrEqual(t, summary.Rows, int64(40))
	require.Less(t, summary.Rows, int64(100))
	_, err = Run(context.Background(), config)
	require.NoError(t, err)
	requireLoaded(t, s, 100)
}

func TestCheckpointCountsOnlyForTheSameRows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rows.fvecs")
	fvecs(t, path, 30)
	_, config := setup(t, path)
	var notes []string
	config.Note = func(text string) { notes = append(notes, text) }
	run := func() int64 {
		t.Helper()
		notes = nil
		summary, err := Run(context.Background(), config)
		require.NoError(t, err)
		return summary.Rows
	}
	require.EqualValues(t, 30, run())
	require.EqualValues(t, 0, run())

	config.Restart = true
	require.EqualValues(t, 30, run())
	config.Restart = false

	config.Format.IDPrefix = "p"
	require.EqualValues(t, 30, run())
	require.Equal(t, []string{path + ": it was last imported with other ids or vectors; starting from its first row"}, notes)
	require.EqualValues(t, 0, run())

	fvecs(t, path, 31)
	require.EqualValues(t, 31, run())
	require.Equal(t, []string{path + ": it has changed since it was last imported; starting from its first row"}, notes)

	config.Collection.ID = "x" // another id: as if the collection had been deleted and made anew
	require.EqualValues(t, 31, run())
	require.Empty(t, notes)

	for _, damage := range []string{"", "{", `{"version":2}`, `{"version":1,"rows_done":[[5,3]]}`} {
		files, err := filepath.Glob(filepath.Join(config.CheckpointDir, "*.json"))
		require.NoError(t, err)
		require.Len(t, files, 2)
		for _, file := range files {
			require.NoError(t, os.WriteFile(file, []byte(damage), 0o600))
		}
		require.EqualValues(t, 31, run(), damage)
		require.Equal(t, []string{path + ": its checkpoint cannot be read; starting from its first row"}, notes)
	}

	config.CheckpointDir = ""
	require.EqualValues(t, 31, run())
	require.EqualValues(t, 31, run())
}

func TestBadRows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rows.jsonl")
	require.NoError(t, os.WriteFile(path, []byte(strings.Join([]string{
		`{"vector":[0,-1]}`,
		`{"vector":[1,2,3]}`, // dimension
		`{"vector":[2,-1]}`,
		`not json`,
		`{"id":"` + strings.Repeat("x", 513) + `","vector":[4,-1]}`, // the server's own limit
		`{"vector":[5,-1]}`,
		`{"vector":"AADAfwAAgL8="}`, // NaN
		`{"vector":[7,-1]}`,
	}, "\n")), 0o600))
	s, config := setup(t, path)
	for _, c := range []struct{ parallel, batch int }{{1, 100}, {2, 2}, {1, 1}} {
		config.Parallel, config.Batch, config.Restart = c.parallel, c.batch, true
		config.SkipBad = true
		skipped := map[int64]string{}
		config.Skipped = func(row int64, cause error) { skipped[row] = cause.Error() }
		summary, err := Run(context.Background(), config)
		require.NoError(t, err)
		require.EqualValues(t, 4, summary.Rows)
		require.EqualValues(t, 4, summary.RowsSkipped)
		ids, _ := s.Rows("x")
		require.Equal(t, []string{"0", "2", "5", "7"}, ids)
		require.Len(t, skipped, 4)
		require.Equal(t, `vector has 3 values; collection "x" needs 2`, skipped[1])
		require.Contains(t, skipped[3], "jsontext")
		require.Contains(t, skipped[4], "id has 513 bytes, want 1 to 512 (422 invalid_id, request r-1)")
		require.Equal(t, "vector[0] is NaN, want a finite number", skipped[6])
	}

	config.SkipBad, config.Batch = false, 1
	_, err := Run(context.Background(), config)
	require.ErrorContains(t, err, fmt.Sprintf(`read %q: row 1: vector has 3 values; collection "x" needs 2`, path))
}

func TestRefusedRowIsNamedByItsNumber(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rows.fvecs")
	fvecs(t, path, 25)
	s, config := setup(t, path)
	config.Parallel = 1
	s.Before = func(w http.ResponseWriter, _ *http.Request, body []byte) bool {
		return strings.Contains(string(body), `"id":"13"`) && clienttest.Fail(w, 422, "odd", "vectors[3].id", "vectors[3].id is odd")
	}
	_, err := Run(context.Background(), config)
	require.ErrorContains(t, err, "row 13: ")
	require.ErrorContains(t, err, "vectors[3].id is odd (422 odd, request r-1)")
}

func TestRefusedRow(t *testing.T) {
	for field, want := range map[string]int{"vectors[0]": 0, "vectors[7].vector[3]": 7, "vectors": -1, "vectors[": -1, "vectors[x]": -1, "vectors[8]": -1, "vectors[-1]": -1, "k": -1} {
		for status, counts := range map[int]bool{400: true, 413: true, 422: true, 404: false, 503: false} {
			i, ok := refusedRow(fmt.Errorf("x: %w", &client.Error{Status: status, Field: field}), 8)
			require.Equal(t, counts && want >= 0, ok, "%d %s", status, field)
			if ok {
				require.Equal(t, want, i)
			}
		}
	}
	_, ok := refusedRow(errors.New("vectors[0]"), 8)
	require.False(t, ok)
}

func TestLargeRowsCloseABatchEarly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rows.jsonl")
	var lines strings.Builder
	for i := range 80 {
		fmt.Fprintf(&lines, "{\"vector\":[%d,-1],\"text\":%q}\n", i, strings.Repeat("x", 900<<10))
	}
	require.NoError(t, os.WriteFile(path, []byte(lines.String()), 0o600))
	s, config := setup(t, path)
	config.Batch = 10000
	largest := int64(0)
	var mu sync.Mutex
	s.Before = func(_ http.ResponseWriter, r *http.Request, body []byte) bool {
		mu.Lock()
		defer mu.Unlock()
		largest = max(largest, int64(len(body)))
		return false
	}
	_, err := Run(context.Background(), config)
	require.NoError(t, err)
	require.Len(t, s.Upserts(), 3)
	require.LessOrEqual(t, largest, int64(maxBatchBytes+1<<20))
	requireLoaded(t, s, 80)
}

func TestEnsureCollection(t *testing.T) {
	_, config := setup(t, "unused")
	ctx := context.Background()
	want := client.NewCollection{Name: "x", Dimension: 2, Metric: "l2"}
	found, err := EnsureCollection(ctx, config.Client, want, false)
	require.NoError(t, err)
	require.Equal(t, "c-1", found.ID)
	want.Metric = "cosine"
	_, err = EnsureCollection(ctx, config.Client, want, false)
	require.EqualError(t, err, `collection "x" exists with dimension 2 and metric l2; want dimension 2 and metric cosine`)
	_, err = EnsureCollection(ctx, config.Client, want, true)
	require.NoError(t, err)
	want.Dimension = 3
	_, err = EnsureCollection(ctx, config.Client, want, true)
	require.ErrorContains(t, err, "want dimension 3")
}

func TestDimension(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rows.jsonl")
	for text, want := range map[string]string{
		"{}\n{\"vector\":[]}\n{\"vector\":[1,2,3]}": "",
		"{}\n{\"vector\":[]}":                       `row 0 (line 1): no field "vector"`,
		"\n":                                        "the file has no rows",
	} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		got, err := Dimension(path, vecfile.Options{})
		if want == "" {
			require.NoError(t, err)
			require.Equal(t, 3, got)
			continue
		}
		require.ErrorContains(t, err, want)
	}
}

// TestRanges compares the set with a plain one.
func TestRanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r ranges
		plain := map[int64]bool{}
		for range rapid.IntRange(1, 20).Draw(t, "adds") {
			from := rapid.Int64Range(0, 40).Draw(t, "from")
			to := rapid.Int64Range(0, 40).Draw(t, "to")
			r = r.add(from, to)
			for i := from; i < to; i++ {
				plain[i] = true
			}
			require.True(t, r.valid(), "%v", r)
			require.EqualValues(t, len(plain), r.count())
			for i := int64(0); i < 42; i++ {
				end := i
				for plain[end] {
					end++
				}
				require.Equal(t, end, r.after(i), "%v after %d", r, i)
			}
		}
		bad := append(slices.Clone(r), [2]int64{0, 0})
		require.False(t, bad.valid())
	})
}

func TestLines(t *testing.T) {
	var out strings.Builder
	now := time.Unix(0, 0)
	p := NewLines(&out, func() time.Time { return now })
	advance := func(rows int64, after time.Duration) { now = now.Add(after); p.Advance(rows) }
	p.Start("dir/base.fvecs", 10000, 500)
	advance(1000, time.Second)
	advance(1000, 4*time.Second)
	advance(2000, 4*time.Second)
	advance(2000, 6*time.Second)
	p.Finish()
	p.Start("x.csv", -1, 0)
	advance(10, 10*time.Second)
	p.Finish()
	require.Equal(t, `base.fvecs (after 500 rows of an earlier run): 2000 of 10000 rows (20.0 %), 400 rows/s, 20s left
base.fvecs (after 500 rows of an earlier run): 6000 of 10000 rows (60.0 %), 400 rows/s, 10s left
x.csv: 10 rows, 1 rows/s
`, out.String())
}

func TestBar(t *testing.T) {
	var out strings.Builder
	p := NewBar(&out)
	p.Start("base.fvecs", 100, 0)
	p.Advance(100)
	p.Finish()
	require.Contains(t, out.String(), "base.fvecs")
	require.Contains(t, out.String(), "100% ")
	require.Contains(t, out.String(), "(100/100")
	require.True(t, strings.HasSuffix(out.String(), "\n"))
}

func TestConfigReportsEveryProblem(t *testing.T) {
	_, err := Run(context.Background(), Config{Batch: 10001, Parallel: -1})
	require.ErrorContains(t, err, "batch is 10001 rows, want 1 to 10000")
	require.ErrorContains(t, err, "parallel is -1, want 1 to 64")
	require.ErrorContains(t, err, "needs a file, a client and a collection")
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
