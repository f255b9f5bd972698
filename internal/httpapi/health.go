package httpapi

import (
	"maps"
	"net/http"
	"net/http/pprof"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttpadaptor"
)

// Phase is where a process is in its life.
type Phase string

// The phases, in order. Only Serving is ready.
const (
	Starting Phase = "starting"
	Serving  Phase = "serving"
	Draining Phase = "draining"
)

// Health answers the probes. A process is ready from the moment it serves until
// it drains; a dependency that is away makes it degraded, which it says, and
// does not make it unready: other replicas would be no better off.
type Health struct {
	role, version string

	mu       sync.Mutex
	phase    Phase
	degraded map[string]string // component → what is wrong with it
}

// NewHealth returns the health of a process that is starting.
func NewHealth(role, version string) *Health {
	return &Health{role: role, version: version, phase: Starting, degraded: map[string]string{}}
}

// SetPhase records where the process is in its life.
func (h *Health) SetPhase(p Phase) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.phase = p
}

// SetDegraded records what is wrong with a component; "" means it is well again.
func (h *Health) SetDegraded(component, reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if reason == "" {
		delete(h.degraded, component)
		return
	}
	h.degraded[component] = reason
}

// Ready reports whether the process should be sent requests.
func (h *Health) Ready() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.phase == Serving
}

type healthReport struct {
	Status   string            `json:"status"` // ok, degraded, starting or draining
	Role     string            `json:"role,omitempty"`
	Version  string            `json:"version,omitempty"`
	Degraded map[string]string `json:"degraded,omitempty"`
}

func (h *Health) report() healthReport {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := healthReport{Status: "ok", Role: h.role, Version: h.version, Degraded: maps.Clone(h.degraded)}
	switch {
	case h.phase != Serving:
		r.Status = string(h.phase)
	case len(h.degraded) > 0:
		r.Status = "degraded"
	}
	return r
}

// ProbePaths are what [Health.Handler] answers.
var ProbePaths = []string{"/health", "/livez", "/readyz", "/metrics"}

// Handler answers ProbePaths:
//
//	/health   200, what the process says of itself
//	/livez    200 as long as it can answer at all
//	/readyz   200 while serving, else 503
//	/metrics  what gatherer holds, in the Prometheus and OpenMetrics formats
func (h *Health) Handler(gatherer prometheus.Gatherer) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { writeReport(w, http.StatusOK, h.report()) })
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		writeReport(w, http.StatusOK, healthReport{Status: "ok"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !h.Ready() {
			w.Header().Set("Retry-After", "1")
			writeReport(w, http.StatusServiceUnavailable, h.report())
			return
		}
		writeReport(w, http.StatusOK, h.report())
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	return mux
}

func writeReport(w http.ResponseWriter, status int, r healthReport) {
	w.Header().Set("Content-Type", TypeJSON)
	w.WriteHeader(status)
	// A probe that hung up is no one's error.
	_ = json.MarshalWrite(w, r, json.Deterministic(true))
	_, _ = w.Write([]byte{'\n'})
}

// Register answers ProbePaths on the REST port too, for probes that know one
// port.
func (h *Health) Register(r *Router, gatherer prometheus.Gatherer) {
	serve := fasthttpadaptor.NewFastHTTPHandler(h.Handler(gatherer))
	// Some look for /health where the rest of the API is.
	r.Handle(fasthttp.MethodGet, "/health", func(ctx *fasthttp.RequestCtx) error {
		ctx.Request.SetRequestURI("/health")
		serve(ctx)
		return nil
	})
	for _, path := range ProbePaths {
		r.HandleRoot(fasthttp.MethodGet, path, func(ctx *fasthttp.RequestCtx) error {
			serve(ctx)
			return nil
		})
	}
}

// AdminHandler is what the admin port serves: ProbePaths and, when asked for,
// Go's profiler below /debug/pprof/.
func (h *Health) AdminHandler(gatherer prometheus.Gatherer, withPprof bool) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", h.Handler(gatherer))
	if withPprof {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return mux
}
