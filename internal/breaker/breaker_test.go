package breaker

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/segments/blob"
)

// down is a store that deletes nothing.
type down struct{ blob.Store }

func (down) Delete(context.Context, string) error { return blob.ErrUnavailable }

// TestHealthAndReset: an open breaker makes the process degraded and leaves it
// ready; the route closes it.
func TestHealthAndReset(t *testing.T) {
	g := blob.Guard(down{}, blob.GuardConfig{Attempts: 1})
	health := httpapi.NewHealth("query", "")
	health.SetPhase(httpapi.Serving)
	var log strings.Builder
	Watch(g, health, slog.New(slog.NewTextHandler(&log, nil)))
	r := httpapi.NewRouter()
	Register(r, g)
	report := func(path string) string {
		w := httptest.NewRecorder()
		health.Handler(prometheus.NewRegistry()).ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != 200 {
			t.Errorf("%s: got %d", path, w.Code)
		}
		return w.Body.String()
	}
	for range 4 {
		_ = g.Delete(t.Context(), "k")
	}
	if got := report("/health"); !strings.Contains(got, `"status":"ok"`) {
		t.Errorf("before: %s", got)
	}
	_ = g.Delete(t.Context(), "k")
	for _, path := range []string{"/health", "/readyz"} {
		if got := report(path); !strings.Contains(got, `"degraded":{"store_delete":"circuit breaker open`) || !strings.Contains(got, `"status":"degraded"`) {
			t.Errorf("%s while it is open: %s", path, got)
		}
	}
	var ctx fasthttp.RequestCtx
	ctx.Request.Header.SetMethod("POST")
	ctx.Request.SetRequestURI("/api/v1/admin/circuit-breaker/reset")
	if err := r.Serve(&ctx); err != nil {
		t.Fatal(err)
	}
	const want = `{"breakers":[{"service":"store_read","previous":"closed","state":"closed"},` +
		`{"service":"store_write","previous":"closed","state":"closed"},` +
		`{"service":"store_list","previous":"closed","state":"closed"},` +
		`{"service":"store_delete","previous":"open","state":"closed"}]}`
	if got := strings.TrimSpace(string(ctx.Response.Body())); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := report("/health"); !strings.Contains(got, `"status":"ok"`) {
		t.Errorf("after: %s", got)
	}
	for _, want := range []string{"level=WARN msg=\"circuit breaker\" service=store_delete from=closed to=open", "level=INFO msg=\"circuit breaker\" service=store_delete from=open to=closed"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("want %q in the log, got\n%s", want, log.String())
		}
	}
}
