package bulk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"github.com/akidb/akidb/internal/client"
	"github.com/akidb/akidb/internal/client/clienttest"
	"github.com/akidb/akidb/internal/vecfile"
)

// exportable is a server with a collection "x" of so many rows, and an export of it.
func exportable(t *testing.T, rows int) (*clienttest.Server, ExportConfig) {
	t.Helper()
	s, config := setup(t, "")
	var b client.Batch
	for i := range rows {
		metadata := []byte(fmt.Sprintf(`{"i":%d}`, i))
		if i%3 == 0 {
			metadata = nil
		}
		require.NoError(t, b.Add(fmt.Sprintf("row-%05d", i), []float32{float32(i), math.Float32frombits(uint32(i + 1))}, metadata))
	}
	if rows > 0 {
		_, err := config.Client.Upsert(t.Context(), "x", &b)
		require.NoError(t, err)
	}
	return s, ExportConfig{Client: config.Client, Collection: "x", Path: filepath.Join(t.TempDir(), "out.jsonl")}
}

// requireExported checks that the file holds the rows that exportable wrote.
func requireExported(t *testing.T, path string, rows int) {
	t.Helper()
	r, err := vecfile.Open(path, vecfile.Options{})
	require.NoError(t, err)
	defer r.Close()
	for i := range rows {
		row, err := r.Next()
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("row-%05d", i), row.ID)
		require.Equal(t, []float32{float32(i), math.Float32frombits(uint32(i + 1))}, row.Vector)
		want := fmt.Sprintf(`{"i":%d}`, i)
		if i%3 == 0 {
			want = ""
		}
		require.Equal(t, want, string(row.Metadata))
	}
	_, err = r.Next()
	require.ErrorIs(t, err, io.EOF)
}

// requireOnly checks what is in the folder of the file.
func requireOnly(t *testing.T, path string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	got := []string{}
	for _, e := range entries {
		got = append(got, e.Name())
	}
	require.Equal(t, append([]string{}, names...), got)
}

func TestExport(t *testing.T) {
	for _, rows := range []int{0, 1, maxPageRows, maxPageRows + 1} {
		s, config := exportable(t, rows)
		clock := time.Unix(1_700_000_000, 0)
		config.Now = func() time.Time { clock = clock.Add(time.Second); return clock }
		done, err := Export(t.Context(), config)
		require.NoError(t, err)
		info, err := os.Stat(config.Path)
		require.NoError(t, err)
		require.Equal(t, Exported{
			Path: config.Path, Collection: "x", CollectionID: "c-1", Rows: int64(rows), Bytes: info.Size(), Seconds: 1, RowsPerSec: float64(rows),
		}, done)
		requireExported(t, config.Path, rows)
		requireOnly(t, config.Path, "out.jsonl")
		require.Empty(t, s.Snapshots("x"))
	}
}

// The rows are those of the snapshot, whatever is written while they are read.
func TestExportIsOfOneMoment(t *testing.T) {
	s, config := exportable(t, 2*maxPageRows+10)
	pages := 0
	s.Before = func(_ http.ResponseWriter, r *http.Request, _ []byte) bool {
		if strings.HasSuffix(r.URL.Path, "/scroll") {
			if pages++; pages == 2 {
				require.Len(t, s.Snapshots("x"), 1)
				require.Regexp(t, `^export-[a-z0-9]{26}$`, s.Snapshots("x")[0])
				var b client.Batch
				require.NoError(t, b.Add("row-00000", []float32{9, 9}, nil))
				require.NoError(t, b.Add("row-99999", []float32{9, 9}, nil))
				_, err := config.Client.Upsert(context.Background(), "x", &b)
				require.NoError(t, err)
			}
		}
		return false
	}
	_, err := Export(t.Context(), config)
	require.NoError(t, err)
	require.Equal(t, 3, pages)
	requireExported(t, config.Path, 2*maxPageRows+10)
	require.Empty(t, s.Snapshots("x"))
}

func TestExportAsOf(t *testing.T) {
	s, config := exportable(t, 5)
	_, err := config.Client.CreateSnapshot(t.Context(), "x", client.NewSnapshot{Name: "kept"})
	require.NoError(t, err)
	var b client.Batch
	require.NoError(t, b.Add("row-99999", []float32{9, 9}, nil))
	_, err = config.Client.Upsert(t.Context(), "x", &b)
	require.NoError(t, err)
	config.AsOf = "kept"
	_, err = Export(t.Context(), config)
	require.NoError(t, err)
	requireExported(t, config.Path, 5)
	require.Equal(t, []string{"kept"}, s.Snapshots("x"), "no other was taken, and this one is not ours to delete")
}

// A time means the version that it meant when the export began.
func TestExportAsOfATimeToCome(t *testing.T) {
	s, config := exportable(t, 1)
	var asked []string
	s.Before = func(w http.ResponseWriter, r *http.Request, body []byte) bool {
		switch {
		case r.URL.Query().Has("as_of"):
			asked = append(asked, r.URL.Query().Get("as_of"))
			fmt.Fprint(w, `{"collection_id":"c-1","name":"x","dimension":2,"vector_count":0,"manifest_version":41}`)
		case strings.HasSuffix(r.URL.Path, "/scroll"):
			asked = append(asked, string(body))
			fmt.Fprint(w, `{"vectors":[],"next_cursor":null}`)
		default:
			return false
		}
		return true
	}
	config.AsOf = "2999-01-31T12:00:00+02:00"
	_, err := Export(t.Context(), config)
	require.NoError(t, err)
	require.Equal(t, []string{"2999-01-31T12:00:00+02:00", `{"limit":1000,"include":["metadata","vector"],"as_of":"41"}`}, asked)
}

// Whatever goes wrong, what had the name keeps it, nothing else is left in the folder, and no snapshot on the server.
func TestExportFails(t *testing.T) {
	onPage := func(s *clienttest.Server, page int, do func(w http.ResponseWriter)) {
		pages := 0
		s.Before = func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
			if strings.HasSuffix(r.URL.Path, "/scroll") {
				if pages++; pages == page {
					do(w)
					return true
				}
			}
			return false
		}
	}
	for name, c := range map[string]struct {
		prepare func(s *clienttest.Server, config *ExportConfig, cancel func())
		want    string
	}{
		"a page is refused": {func(s *clienttest.Server, _ *ExportConfig, _ func()) {
			onPage(s, 2, func(w http.ResponseWriter) { clienttest.Fail(w, 410, "version_collected", "", "it is gone") })
		}, "it is gone"},
		"interrupted": {func(s *clienttest.Server, _ *ExportConfig, cancel func()) {
			onPage(s, 2, func(w http.ResponseWriter) { cancel(); clienttest.Fail(w, 503, "timeout", "", "slow") })
		}, "interrupted"},
		"a page is short": {func(s *clienttest.Server, _ *ExportConfig, _ func()) {
			onPage(s, 2, func(w http.ResponseWriter) { fmt.Fprint(w, `{"vectors":[],"next_cursor":null}`) })
		}, fmt.Sprintf("got %d rows, want the %d of version 0", maxPageRows, 2*maxPageRows)},
		"a row is of another dimension": {func(s *clienttest.Server, _ *ExportConfig, _ func()) {
			onPage(s, 2, func(w http.ResponseWriter) { fmt.Fprint(w, `{"vectors":[{"id":"a","vector":[1]}],"next_cursor":null}`) })
		}, "vector has 1 values, want 2"},
		"the answer to the snapshot is lost": {func(s *clienttest.Server, config *ExportConfig, _ func()) {
			lost := false
			s.Before = func(w http.ResponseWriter, r *http.Request, body []byte) bool {
				if r.Method == "POST" && strings.HasSuffix(r.URL.Path, "/snapshots") && !lost {
					lost = true
					var n client.NewSnapshot
					require.NoError(t, json.Unmarshal(body, &n))
					_, err := config.Client.CreateSnapshot(context.Background(), "x", n)
					require.NoError(t, err)
					require.Len(t, s.Snapshots("x"), 1)
					panic(http.ErrAbortHandler)
				}
				return false
			}
		}, "may or may not have been applied"},
		"the answer to giving up is lost": {func(s *clienttest.Server, _ *ExportConfig, _ func()) {
			lost := false
			s.Before = func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
				if strings.HasSuffix(r.URL.Path, "/scroll") {
					return clienttest.Fail(w, 410, "version_collected", "", "it is gone")
				}
				if r.Method == "DELETE" && !lost {
					lost = true
					panic(http.ErrAbortHandler)
				}
				return false
			}
		}, "it is gone"},
		"Parquet is refused": {func(_ *clienttest.Server, config *ExportConfig, _ func()) {
			config.Path = filepath.Join(filepath.Dir(config.Path), "out.parquet")
		}, "Parquet is not built into"},
	} {
		t.Run(name, func(t *testing.T) {
			s, config := exportable(t, 2*maxPageRows)
			require.NoError(t, os.WriteFile(config.Path, []byte("before"), 0o600))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			c.prepare(s, &config, cancel)
			done, err := Export(ctx, config)
			require.ErrorContains(t, err, c.want)
			require.Zero(t, done)
			require.Empty(t, s.Snapshots("x"))
			requireOnly(t, config.Path, "out.jsonl")
			left, err := os.ReadFile(filepath.Join(filepath.Dir(config.Path), "out.jsonl"))
			require.NoError(t, err)
			require.Equal(t, "before", string(left))
		})
	}
}

// A snapshot that cannot be given up is named, and what else went wrong is not lost.
func TestExportNamesWhatIsLeft(t *testing.T) {
	s, config := exportable(t, 1)
	s.Before = func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		switch {
		case r.Method == "DELETE":
			return clienttest.Fail(w, 403, "forbidden", "", "not you")
		case strings.HasSuffix(r.URL.Path, "/scroll"):
			return clienttest.Fail(w, 410, "version_collected", "", "it is gone")
		}
		return false
	}
	_, err := Export(t.Context(), config)
	require.ErrorContains(t, err, "it is gone")
	require.ErrorContains(t, err, fmt.Sprintf("snapshot %q may still be there", s.Snapshots("x")[0]))
	var answer *client.Error
	require.True(t, errors.As(err, &answer))
}
