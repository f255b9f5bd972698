package main

import (
	"bytes"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"github.com/akidb/akidb/internal/client/bulk"
	"github.com/akidb/akidb/internal/client/clienttest"
)

// requireSameRows compares two collections to the bit.
func requireSameRows(t *testing.T, s *clienttest.Server, a, b string) {
	t.Helper()
	ids, vectors := s.Rows(a)
	gotIDs, gotVectors := s.Rows(b)
	require.NotEmpty(t, ids)
	require.Equal(t, ids, gotIDs)
	for i, id := range ids {
		for j, x := range vectors[i] {
			require.Equal(t, math.Float32bits(x), math.Float32bits(gotVectors[i][j]), id)
		}
		require.Equal(t, s.Metadata(a, id), s.Metadata(b, id), id)
	}
}

// What is exported is imported again as the same rows.
func TestExport(t *testing.T) {
	cacheDir(t)
	s := clienttest.New(t)
	dir := t.TempDir()
	source := filepath.Join(dir, "rows.jsonl")
	var lines strings.Builder
	for i := range 1234 {
		metadata := []string{`null`, `{}`, `{"n":1.50,"a":{"b":["ü",null]}}`}[i%3]
		fmt.Fprintf(&lines, `{"id":"row %d ü\"","vector":[%v,-0.0,1e-45],"metadata":%s}`+"\n", i, float32(i)/3, metadata)
	}
	require.NoError(t, os.WriteFile(source, []byte(lines.String()), 0o600))
	code, _, stderr := against(t, s, "import", source, "-c", "first", "--create")
	require.Zero(t, code, stderr)

	for i, name := range []string{"rows.parquet", "rows.ndjson", "out.jsonl"} {
		out := filepath.Join(dir, "out", name)
		require.NoError(t, os.MkdirAll(filepath.Dir(out), 0o755))
		code, stdout, stderr := against(t, s, "export", "-c", "first", "--out", out)
		require.Zero(t, code, stderr)
		stdout = regexp.MustCompile(`[\d.]+ [KM]iB`).ReplaceAllString(masked(stdout), "# KiB")
		require.Equal(t, fmt.Sprintf("1,234 rows of \"first\", as of version 0, written to %s in # s: # rows/s, # KiB\n", out), stdout)
		again := fmt.Sprintf("again-%d", i)
		code, _, stderr = against(t, s, "import", out, "-c", again, "--create")
		require.Zero(t, code, stderr)
		requireSameRows(t, s, "first", again)
	}
	require.Empty(t, s.Snapshots("first"))

	out := filepath.Join(dir, "x.parquet")
	code, stdout, stderr := against(t, s, "export", "-c", "first", "--out", out, "-o", "json")
	require.Zero(t, code, stderr)
	var done bulk.Exported
	require.NoError(t, json.Unmarshal([]byte(stdout), &done, json.RejectUnknownMembers(true)))
	require.Equal(t, []any{out, "first", "c-1", int64(1234)}, []any{done.Path, done.Collection, done.CollectionID, done.Rows})
}

func TestExportUsage(t *testing.T) {
	s := clienttest.New(t)
	for args, want := range map[string]string{
		"":                                 "--collection is missing\n--out is missing",
		"-c x --out x.csv":                 `--out is "x.csv": want a name that ends in one of .parquet .jsonl .ndjson`,
		"-c x --out x.jsonl.gz":            "--out is",
		"-c x --out x.jsonl extra":         "unknown command",
		"-c x --out x.jsonl -o xml":        `-o is "xml"`,
		"-c x --out x.jsonl --retry-for 0": "--retry-for is 0s",
	} {
		code, stdout, stderr := against(t, s, append([]string{"export"}, strings.Fields(args)...)...)
		require.Equal(t, exitUsage, code, args)
		require.Empty(t, stdout)
		require.Contains(t, stderr, want)
	}
	code, _, stderr := against(t, s, "export", "-c", "none", "--out", filepath.Join(t.TempDir(), "x.jsonl"))
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, `no collection "none"`)
	require.Empty(t, s.Upserts())
}

// A signal in the middle leaves neither a file nor a snapshot.
func TestExportIsInterrupted(t *testing.T) {
	s := loaded(t, 2500)
	dir := t.TempDir()
	out := filepath.Join(dir, "x.parquet")
	c := program(t, []string{"export", "-c", "x", "--out", out}, "AKIDB_URL="+s.URL)
	reached := make(chan struct{})
	pages := 0
	s.Intercept(func(_ http.ResponseWriter, r *http.Request, _ []byte) bool {
		if !strings.HasSuffix(r.URL.Path, "/scroll") {
			return false
		}
		if pages++; pages < 2 {
			return false
		}
		close(reached)
		<-r.Context().Done() // it gives up waiting
		return true
	})
	var stderr bytes.Buffer
	c.Stderr = &stderr
	require.NoError(t, c.Start())
	<-reached
	require.NoError(t, c.Process.Signal(syscall.SIGINT))
	require.Error(t, c.Wait())
	require.Equal(t, exitFailed, c.ProcessState.ExitCode(), stderr.String())
	require.Contains(t, stderr.String(), `akidb: export "x": interrupted: `)
	require.Empty(t, s.Snapshots("x"))
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}
