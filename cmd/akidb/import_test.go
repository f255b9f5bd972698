package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/dustin/go-humanize"
	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"github.com/akidb/akidb/internal/client/bulk"
	"github.com/akidb/akidb/internal/client/clienttest"
	"github.com/akidb/akidb/internal/vecfile"
	"github.com/akidb/akidb/segments/columns"
)

// against runs akidb in this process against a stand-in server, with nothing of this machine's user in the environment.
func against(t *testing.T, s *clienttest.Server, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	t.Setenv("AKIDB_URL", s.URL)
	t.Setenv("AKIDB_API_KEY", "")
	var out, errs bytes.Buffer
	code = run(context.Background(), args, &out, &errs)
	return code, out.String(), errs.String()
}

// cacheDir gives the test a cache directory of its own.
func cacheDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", dir)
	t.Setenv("HOME", dir)
	return dir
}

// writeVectors writes row i as (i, -1) into an .fvecs file.
func writeVectors(t *testing.T, path string, rows int) string {
	t.Helper()
	var b []byte
	for i := range rows {
		b = binary.LittleEndian.AppendUint32(b, 2)
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(i)))
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(-1))
	}
	require.NoError(t, os.WriteFile(path, b, 0o600))
	return path
}

func writeParquet(t *testing.T, path string, rows int) string {
	t.Helper()
	f, err := os.Create(path)
	require.NoError(t, err)
	w, err := columns.NewWriter(f, 2)
	require.NoError(t, err)
	for i := range rows {
		require.NoError(t, w.Append([]columns.Row{{ID: fmt.Sprintf("id-%d", i), Vector: []float32{float32(i), -1}, Metadata: []byte(`{"n":1}`)}}))
	}
	require.NoError(t, w.Close())
	require.NoError(t, f.Close())
	return path
}

// masked replaces what differs from run to run: times, and rates made of them.
func masked(text string) string {
	text = regexp.MustCompile(`\d+(\.\d+)? (ms|s)\b`).ReplaceAllString(text, "# $2")
	return regexp.MustCompile(`[\d,]+ rows/s`).ReplaceAllString(text, "# rows/s")
}

func TestImport(t *testing.T) {
	cache := cacheDir(t)
	s := clienttest.New(t)
	dir := t.TempDir()
	base := writeVectors(t, filepath.Join(dir, "base.fvecs"), 2500)
	code, stdout, stderr := against(t, s, "import", base, "--collection", "sift", "--create", "--flush")
	require.Zero(t, code, stderr)
	require.Empty(t, stderr)
	require.Equal(t, "2,500 rows imported into \"sift\" in # s: # rows/s, 92 KiB sent; flushed\n", masked(stdout))
	ids, vectors := s.Rows("sift")
	require.Len(t, ids, 2500)
	require.Equal(t, "0", ids[0])
	require.Equal(t, []float32{0, -1}, vectors[0])
	require.Equal(t, 1, s.Flushes("sift"))
	require.Len(t, s.Upserts(), 3)

	left, err := filepath.Glob(filepath.Join(cache, "akidb", "import", "*"))
	require.NoError(t, err)
	require.Empty(t, left, "a finished import leaves no checkpoint")

	table := writeParquet(t, filepath.Join(dir, "rows.parquet"), 300)
	code, stdout, stderr = against(t, s, "import", table, base, "-c", "sift", "--create", "--id-prefix", "q/", "--batch", "77", "--parallel", "3", "--compress", "-o", "json")
	require.Zero(t, code, stderr)
	var report importReport
	require.NoError(t, json.Unmarshal([]byte(stdout), &report))
	require.EqualValues(t, 2800, report.Rows)
	require.Len(t, report.Files, 2)
	require.EqualValues(t, 300, report.Files[0].Rows)
	require.Equal(t, `{"n":1}`, s.Metadata("sift", "q/id-299"))
	require.Equal(t, "", s.Metadata("sift", "q/299"))
}

// TestImportGoesOnAfterAFailure fails the second of two files in the middle and runs the same command again.
func TestImportGoesOnAfterAFailure(t *testing.T) {
	cacheDir(t)
	s := clienttest.New(t)
	dir := t.TempDir()
	first := writeVectors(t, filepath.Join(dir, "a.fvecs"), 30)
	second := writeParquet(t, filepath.Join(dir, "b.parquet"), 50)
	s.Before = func(w http.ResponseWriter, _ *http.Request, body []byte) bool {
		return strings.Contains(string(body), `"id-20"`) && clienttest.Fail(w, 507, "storage_full", "", "no room")
	}
	args := []string{"import", first, second, "-c", "x", "--create", "--batch", "10", "--parallel", "1"}
	code, stdout, stderr := against(t, s, args...)
	require.Equal(t, exitFailed, code)
	require.Empty(t, stdout)
	require.Equal(t, fmt.Sprintf("akidb: import %q: rows 20 to 29: POST /collections/c-1/vectors: no room (507 storage_full, request r-1)\n"+
		"20 rows of %q are done; run the same command to go on from there\n", second, second), stderr)

	s.Before = nil
	code, stdout, stderr = against(t, s, args...)
	require.Zero(t, code, stderr)
	require.Equal(t, "30 rows imported into \"x\" in # s: # rows/s, 1.7 KiB sent; 50 were done by an earlier run\n", masked(stdout))
	ids, _ := s.Rows("x")
	require.Len(t, ids, 80)
	seen := map[string]bool{}
	for _, batch := range s.Upserts() {
		for _, id := range batch {
			require.False(t, seen[id], "%s was sent again after it was acknowledged", id)
			seen[id] = true
		}
	}

	code, stdout, _ = against(t, s, append(args, "--restart")...)
	require.Zero(t, code)
	require.Contains(t, stdout, "80 rows imported")
}

func TestImportSkipsBadRows(t *testing.T) {
	cacheDir(t)
	s := clienttest.New(t)
	path := filepath.Join(t.TempDir(), "rows.csv")
	var b strings.Builder
	b.WriteString("id,v0,v1\n")
	for i := range 30 {
		fmt.Fprintf(&b, "bad-%d,1,x\n", i)
	}
	b.WriteString("good,1,2\n")
	require.NoError(t, os.WriteFile(path, []byte(b.String()), 0o600))

	code, _, stderr := against(t, s, "import", path, "-c", "x", "--create")
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, fmt.Sprintf(`import %q: read %q: row 0 (line 2): column "v1": "x": invalid syntax`, path, path))

	code, stdout, stderr := against(t, s, "import", path, "-c", "x", "--create", "--on-error", "skip")
	require.Zero(t, code, stderr)
	require.Equal(t, "1 rows imported into \"x\" in # s: # rows/s, 51 B sent; 30 skipped\n", masked(stdout))
	require.Contains(t, stderr, fmt.Sprintf("akidb: %s: row 19 skipped: column \"v1\": \"x\": invalid syntax", path))
	require.NotContains(t, stderr, "row 20 ")
	require.Contains(t, stderr, fmt.Sprintf("akidb: %s: 10 more rows skipped\n", path))
}

func TestImportRefusesBeforeItWrites(t *testing.T) {
	cacheDir(t)
	s := clienttest.New(t)
	dir := t.TempDir()
	two := writeVectors(t, filepath.Join(dir, "two.fvecs"), 3)
	three := filepath.Join(dir, "three.csv")
	require.NoError(t, os.WriteFile(three, []byte("v0,v1,v2\n1,2,3\n"), 0o600))
	broken := filepath.Join(dir, "broken.fvecs")
	whole, err := os.ReadFile(two)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(broken, whole[:30], 0o600))
	code, _, _ := against(t, s, "import", two, "-c", "two", "--create", "--metric", "cosine")
	require.Zero(t, code)
	written := len(s.Upserts())

	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{two}, exitUsage, "--collection is missing"},
		{[]string{"-c", "x"}, exitUsage, "requires at least 1 arg"},
		{[]string{two, two, "-c", "x", "--metric", "hamming", "--on-error", "cry", "--batch", "0", "--parallel", "99", "--retry-for", "0"}, exitUsage,
			"--metric is \"hamming\", want l2, cosine or dot\n--on-error is \"cry\", want stop or skip\n--batch is 0, want 1 to 10000\n--parallel is 99, want 1 to 64\n--retry-for is 0s, want more than 0\n"},
		{[]string{two, two, "-c", "x"}, exitUsage, "is given twice"},
		{[]string{two, "-c", "x", "--url", "nowhere"}, exitUsage, `server address "nowhere": want http://host:port`},
		{[]string{two, "-c", "x", "--colection", "y"}, exitUsage, "did you mean --collection?"},
		{[]string{two, "-c", "none"}, exitFailed, `no collection "none" (404 collection_not_found, request r-1); --create creates it`},
		{[]string{three, "-c", "two"}, exitFailed, `has vectors of 3 values; collection "two" needs 2`},
		{[]string{three, "-c", "two", "--create"}, exitFailed, `collection "two" exists with dimension 2 and metric cosine; want dimension 3`},
		{[]string{two, "-c", "two", "--create", "--metric", "l2"}, exitFailed, "want dimension 2 and metric l2"},
		{[]string{two, three, "-c", "two"}, exitFailed, fmt.Sprintf("%q has vectors of 3 values, %q of 2", three, two)},
		{[]string{broken, "-c", "two"}, exitFailed, "row 2 at byte 24: the file ends after 6 of 12 bytes"},
		{[]string{filepath.Join(dir, "none.fvecs"), "-c", "two"}, exitFailed, "no such file"},
		{[]string{two, "-c", "two", "--id-column", "key"}, exitFailed, "a .fvecs file has no columns"},
		{[]string{dir + "/x.txt", "-c", "two"}, exitFailed, `unknown format ".txt"`},
	} {
		code, stdout, stderr := against(t, s, append([]string{"import"}, c.args...)...)
		require.Equal(t, c.code, code, "%v: %s", c.args, stderr)
		require.Contains(t, stderr, c.want, "%v", c.args)
		require.Empty(t, stdout)
	}
	require.Len(t, s.Upserts(), written)

	code, _, stderr := against(t, s, "import", two, "-c", "two", "--create")
	require.Zero(t, code, "without --metric an existing collection's metric is right: %s", stderr)
}

func TestImportWithoutACacheDirectory(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("HOME", "")
	s := clienttest.New(t)
	path := writeVectors(t, filepath.Join(t.TempDir(), "a.fvecs"), 3)
	code, stdout, stderr := against(t, s, "import", path, "-c", "x", "--create")
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "3 rows imported")
	require.Contains(t, stderr, "an interrupted import will start over")
}

func TestImportReport(t *testing.T) {
	var r importReport
	r.Collection = "sift"
	r.add(bulk.Summary{Rows: 1_000_000, Bytes: 700 << 20, Seconds: 10})
	r.add(bulk.Summary{Rows: 500_000, RowsResumed: 2000, RowsSkipped: 3, Bytes: 324 << 20, Seconds: 5})
	r.Flushed = true
	var out strings.Builder
	require.NoError(t, r.print(&out))
	require.Equal(t, "1,500,000 rows imported into \"sift\" in 15.0 s: 100,000 rows/s, 1.0 GiB sent; 2,000 were done by an earlier run; 3 skipped; flushed\n", out.String())
}

func TestParquetReader(t *testing.T) {
	path := writeParquet(t, filepath.Join(t.TempDir(), "rows.parquet"), 700)
	r, err := vecfile.Open(path, vecfile.Options{OpenParquet: openParquet})
	require.NoError(t, err)
	total, known := r.Total()
	require.True(t, known)
	require.EqualValues(t, 700, total)
	next := func(want int) {
		t.Helper()
		require.EqualValues(t, want, r.Position())
		row, err := r.Next()
		require.NoError(t, err)
		require.Equal(t, vecfile.Row{ID: fmt.Sprintf("id-%d", want), Vector: []float32{float32(want), -1}, Metadata: []byte(`{"n":1}`)}, row)
	}
	next(0)
	next(1)
	require.NoError(t, r.Skip(498))
	for i := 500; i < 700; i++ {
		next(i)
	}
	_, err = r.Next()
	require.Equal(t, io.EOF, err)
	require.NoError(t, r.Skip(5))
	require.EqualValues(t, 700, r.Position())
	require.NoError(t, r.Close())

	require.NoError(t, os.WriteFile(path, []byte("PAR1 no such thing PAR1"), 0o600))
	_, err = vecfile.Open(path, vecfile.Options{OpenParquet: openParquet})
	require.ErrorContains(t, err, path)
	good := writeParquet(t, filepath.Join(t.TempDir(), "rows.parquet"), 1)
	_, err = vecfile.Open(good, vecfile.Options{OpenParquet: openParquet, VectorColumn: "emb"})
	require.ErrorContains(t, err, "emb")
}

// TestImportInterrupted sends SIGINT to a running import while a request is under way: it counts what that achieves, says how far it
// got, and the same command goes on from there.
func TestImportInterrupted(t *testing.T) {
	s := clienttest.New(t)
	path := writeVectors(t, filepath.Join(t.TempDir(), "base.fvecs"), 2000)
	environ := []string{"AKIDB_URL=" + s.URL, "XDG_CACHE_HOME=" + t.TempDir()}
	args := []string{"import", path, "-c", "x", "--create", "--batch", "10", "--parallel", "1"}

	reached, stopping := make(chan struct{}), make(chan struct{})
	s.Intercept(func(_ http.ResponseWriter, _ *http.Request, body []byte) bool {
		if strings.Contains(string(body), `"id":"30"`) {
			close(reached)
			<-stopping
		}
		return false
	})
	c := program(t, args, environ...)
	stderr, err := c.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	<-reached
	require.NoError(t, c.Process.Signal(os.Interrupt))
	lines := bufio.NewReader(stderr)
	line, err := lines.ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, "finishing what is in flight")
	close(stopping)
	rest, err := io.ReadAll(lines)
	require.NoError(t, err)
	require.Error(t, c.Wait())
	require.Equal(t, exitFailed, c.ProcessState.ExitCode())
	done := 10 * len(s.Upserts()) // the message comes a moment before the import stops
	require.GreaterOrEqual(t, done, 40)
	require.Less(t, done, 2000)
	require.Equal(t, fmt.Sprintf("akidb: import %q: interrupted\n%d rows of %q are done; run the same command to go on from there\n", path, done, path), string(rest))

	code, stdout, errs := call(t, args, environ...)
	require.Zero(t, code, errs)
	require.Contains(t, stdout, humanize.Comma(int64(2000-done))+" rows imported")
	require.Contains(t, stdout, humanize.Comma(int64(done))+" were done by an earlier run")
	require.Len(t, s.Upserts(), 200)
}
