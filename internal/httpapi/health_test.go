package httpapi

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestHealthOnBothPorts(t *testing.T) {
	reg := prometheus.NewRegistry()
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "probe_me", Help: "x"})
	reg.MustRegister(g)
	h := NewHealth("dev", "1.2.3")
	r := NewRouter()
	h.Register(r, reg)
	rest := start(t, Config{}, r)
	admin := httptest.NewServer(h.AdminHandler(reg, false))
	defer admin.Close()
	ports := map[string]*running{"rest": rest, "admin": {url: admin.URL}}

	check := func(path string, status int, part string) {
		t.Helper()
		for name, port := range ports {
			a := port.do(t, "GET", path, "")
			if a.status != status || !strings.Contains(a.body, part) {
				t.Errorf("%s %s: got %d %s, want %d with %s", name, path, a.status, a.body, status, part)
			}
			if status == 503 && a.header.Get("Retry-After") == "" {
				t.Errorf("%s %s: 503 without Retry-After", name, path)
			}
		}
	}
	check("/health", 200, `"status":"starting"`)
	check("/livez", 200, `"ok"`)
	check("/readyz", 503, `"starting"`)
	h.SetPhase(Serving)
	check("/health", 200, `{"status":"ok","role":"dev","version":"1.2.3"}`)
	check("/readyz", 200, `"ok"`)
	check("/metrics", 200, "probe_me 0")
	h.SetDegraded("store", "connection refused")
	check("/readyz", 200, `"degraded":{"store":"connection refused"}`)
	check("/health", 200, `"status":"degraded"`)
	h.SetDegraded("store", "")
	check("/health", 200, `"status":"ok"`)
	h.SetPhase(Draining)
	check("/readyz", 503, `"draining"`)
	check("/livez", 200, `"ok"`)
	if a := rest.do(t, "GET", "/health", ""); a.header.Get("X-Request-Id") == "" {
		t.Error("no request id on the REST port")
	}
	if a := rest.do(t, "HEAD", "/readyz", ""); a.status != 503 {
		t.Errorf("HEAD: %d", a.status)
	}
}

func TestPprofOnlyWhenAskedFor(t *testing.T) {
	for _, on := range []bool{false, true} {
		w := httptest.NewRecorder()
		req := httptest.NewRequest(http.MethodGet, "/debug/pprof/cmdline", nil)
		NewHealth("dev", "").AdminHandler(prometheus.NewRegistry(), on).ServeHTTP(w, req)
		if (w.Code == 200) != on {
			t.Errorf("pprof %v: %d", on, w.Code)
		}
	}
}
