package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/akidb/akidb/segments/blob"
)

// exposition is what a scrape of reg gets.
func exposition(reg *prometheus.Registry) string {
	w := httptest.NewRecorder()
	promhttp.HandlerFor(reg, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
}

func wantExposed(t *testing.T, reg *prometheus.Registry, lines ...string) {
	t.Helper()
	exposed := exposition(reg)
	for _, want := range lines {
		if !strings.Contains(exposed, "\n"+want+"\n") {
			t.Errorf("no %s in\n%s", want, exposed)
		}
	}
}

func TestNewLogger(t *testing.T) {
	for _, level := range LogLevels {
		for _, format := range LogFormats {
			var b bytes.Buffer
			log, err := NewLogger(&b, level, format)
			if err != nil {
				t.Fatal(err)
			}
			log.Error("e", slog.Int("n", 7))
			log.Debug("d")
			want := map[string]string{"text": `msg=e n=7`, "json": `"msg":"e","n":7`}[format]
			if !strings.Contains(b.String(), want) {
				t.Errorf("%s %s: %s", level, format, b.String())
			}
			if got := strings.Count(b.String(), "\n"); (got == 2) != (level == "debug") {
				t.Errorf("%s %s: %d lines", level, format, got)
			}
		}
	}
	if _, err := NewLogger(io.Discard, "loud", "text"); err == nil || !strings.Contains(err.Error(), `"loud", want debug, info`) {
		t.Errorf("got %v", err)
	}
	if _, err := NewLogger(io.Discard, "info", "xml"); err == nil || !strings.Contains(err.Error(), `"xml", want text or json`) {
		t.Errorf("got %v", err)
	}
}

func TestRegistry(t *testing.T) {
	reg := NewRegistry("1.2.3")
	wantExposed(t, reg, fmt.Sprintf(`akidb_build_info{go_version=%q,version="1.2.3"} 1`, runtime.Version()))
	if !strings.Contains(exposition(reg), "go_goroutines ") {
		t.Error("no Go runtime metrics")
	}
}

func TestMetricNames(t *testing.T) {
	reg := prometheus.NewRegistry()
	NewSearch(reg).Observe("hot", "ivf", 3*time.Millisecond)
	NewInsert(reg).Observe("disk", time.Second)
	size := NewCollectionSize(reg)
	size.Set("movies", 42)
	size.Set("gone", 1)
	size.Remove("gone")
	w := NewWorkers(reg)
	w.Ran("flush", nil)
	w.Ran("flush", errors.New("x"))
	wantExposed(t, reg,
		`akidb_vector_search_duration_seconds_bucket{mode="ivf",tier="hot",le="0.005"} 1`,
		`akidb_vector_search_duration_seconds_bucket{mode="ivf",tier="hot",le="0.0025"} 0`,
		`akidb_vector_insert_duration_seconds_sum{durability="disk"} 1`,
		`akidb_collection_size_vectors{collection="movies"} 42`,
		`akidb_background_worker_runs_total{result="ok",worker="flush"} 1`,
		`akidb_background_worker_runs_total{result="error",worker="flush"} 1`,
	)
	if strings.Contains(exposition(reg), "gone") {
		t.Error("a deleted collection is still exposed")
	}
}

// answeringStore answers every call with what it is told, and notes the calls.
type answeringStore struct {
	err   error
	calls []string
}

func (s *answeringStore) note(format string, args ...any) {
	s.calls = append(s.calls, fmt.Sprintf(format, args...))
}

func (s *answeringStore) Get(_ context.Context, key string) ([]byte, blob.Version, error) {
	s.note("get %s", key)
	return []byte("body"), "v1", s.err
}

func (s *answeringStore) ReadRange(_ context.Context, key string, off int64, dst []byte) error {
	s.note("read %s %d+%d", key, off, len(dst))
	copy(dst, "range")
	return s.err
}

func (s *answeringStore) Put(_ context.Context, key string, body io.ReadSeeker, size int64, cond blob.Condition) (blob.Version, error) {
	b, _ := io.ReadAll(body)
	s.note("put %s %s %d %v", key, b, size, cond)
	return "v2", s.err
}

func (s *answeringStore) Stat(_ context.Context, key string) (blob.Object, error) {
	s.note("stat %s", key)
	return blob.Object{Key: key, Size: 3}, s.err
}

func (s *answeringStore) List(_ context.Context, l blob.Listing) (blob.Page, error) {
	s.note("list %+v", l)
	return blob.Page{Next: "n"}, s.err
}

func (s *answeringStore) Delete(_ context.Context, key string) error {
	s.note("delete %s", key)
	return s.err
}

func callAll(ctx context.Context, s blob.Store) (results []string, errs []error) {
	b, v, err := s.Get(ctx, "a")
	results, errs = append(results, fmt.Sprint(string(b), v)), append(errs, err)
	dst := make([]byte, 5)
	errs = append(errs, s.ReadRange(ctx, "b", 7, dst))
	results = append(results, string(dst))
	v, err = s.Put(ctx, "c", strings.NewReader("xyz"), 3, blob.Condition{IfMatch: "v0"})
	results, errs = append(results, string(v)), append(errs, err)
	o, err := s.Stat(ctx, "d")
	results, errs = append(results, fmt.Sprint(o)), append(errs, err)
	p, err := s.List(ctx, blob.Listing{Prefix: "e/", Limit: 2})
	results, errs = append(results, p.Next), append(errs, err)
	return results, append(errs, s.Delete(ctx, "f"))
}

var operations = []string{"get", "read_range", "put", "stat", "list", "delete"}

func TestInstrumentedStoreAnswersLikeTheStore(t *testing.T) {
	plain, wrapped := &answeringStore{}, &answeringStore{}
	wantResults, _ := callAll(context.Background(), plain)
	gotResults, errs := callAll(context.Background(), InstrumentStore(wrapped, prometheus.NewRegistry()))
	if fmt.Sprint(gotResults) != fmt.Sprint(wantResults) || fmt.Sprint(wrapped.calls) != fmt.Sprint(plain.calls) {
		t.Errorf("got %v %v\nwant %v %v", gotResults, wrapped.calls, wantResults, plain.calls)
	}
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
}

func TestInstrumentedStoreCountsResults(t *testing.T) {
	for result, cause := range map[string]error{
		"ok":           nil,
		"not_found":    fmt.Errorf("get: %w", blob.ErrNotFound),
		"precondition": fmt.Errorf("put: %w", blob.ErrPrecondition),
		"unavailable":  fmt.Errorf("get: %w", blob.ErrUnavailable),
		"canceled":     fmt.Errorf("get: %w: %w", blob.ErrUnavailable, context.Canceled),
		"error":        io.ErrUnexpectedEOF,
	} {
		reg := prometheus.NewRegistry()
		_, errs := callAll(context.Background(), InstrumentStore(&answeringStore{err: cause}, reg))
		var lines []string
		for i, op := range operations {
			if !errors.Is(errs[i], cause) {
				t.Errorf("%s: got %v, want %v", op, errs[i], cause)
			}
			lines = append(lines, fmt.Sprintf(`akidb_s3_operations_total{operation=%q,result=%q} 1`, op, result),
				fmt.Sprintf(`akidb_s3_operation_duration_seconds_count{operation=%q} 1`, op))
		}
		wantExposed(t, reg, lines...)
		if got := strings.Count(exposition(reg), "\nakidb_s3_operations_total{"); got != len(operations) {
			t.Errorf("%s: %d series, want %d", result, got, len(operations))
		}
	}
	if got := storeResult(context.DeadlineExceeded); got != "unavailable" {
		t.Errorf("a deadline counts as %s", got)
	}
}
