package httpapi

import (
	"log/slog"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// DurationBuckets are those of a request, in seconds: a warm search takes well
// under a millisecond, a bulk write seconds.
var DurationBuckets = []float64{.00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "akidb_http_requests_total",
			Help: "HTTP requests answered, by method, route pattern and status code.",
		}, []string{"method", "route", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "akidb_http_request_duration_seconds",
			Help:    "Time from a request's last byte to its answer being ready.",
			Buckets: DurationBuckets,
		}, []string{"method", "route"}),
	}
	for _, c := range []prometheus.Collector{m.requests, m.duration} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// observe counts and logs one answered request.
func (s *Server) observe(ctx *fasthttp.RequestCtx, st *state, took time.Duration) {
	method, route, code := methodLabel(ctx), routeLabel(st), ctx.Response.StatusCode()
	s.metrics.requests.WithLabelValues(method, route, strconv.Itoa(code)).Inc()
	s.metrics.duration.WithLabelValues(method, route).Observe(took.Seconds())

	// At thousands of searches a second a line for each is a cost and drowns the
	// rest: what went well is for --log-level debug, and for the metrics. So is
	// what is refused for there being too much of it; why is said elsewhere.
	level := slog.LevelDebug
	switch {
	case code == fasthttp.StatusServiceUnavailable, code == fasthttp.StatusTooManyRequests:
	case code >= 500:
		level = slog.LevelWarn
	case code >= 400:
		level = slog.LevelInfo
	}
	if !s.cfg.Logger.Enabled(ctx, level) {
		return
	}
	s.cfg.Logger.LogAttrs(st.ctx, level, "http",
		slog.String("method", method),
		slog.String("path", printable(ctx.Path())),
		slog.Int("status", code),
		slog.Duration("took", took),
		slog.Int("bytes_in", len(ctx.Request.Body())),
		slog.Int("bytes_out", len(ctx.Response.Body())),
		slog.String("remote", ctx.RemoteAddr().String()),
		slog.String("request_id", st.id),
	)
}

// routeLabel is bounded by the patterns registered, whatever clients ask for.
func routeLabel(st *state) string {
	if st.route == "" {
		return "unmatched"
	}
	return st.route
}

func methodLabel(ctx *fasthttp.RequestCtx) string {
	switch m := string(ctx.Method()); m {
	case fasthttp.MethodGet, fasthttp.MethodHead, fasthttp.MethodPost, fasthttp.MethodPut,
		fasthttp.MethodPatch, fasthttp.MethodDelete, fasthttp.MethodOptions:
		return m
	}
	return "OTHER"
}

// startSpan opens the request's server span below the client's traceparent, puts
// it into the request's context and returns what ends it.
func (s *Server) startSpan(ctx *fasthttp.RequestCtx, st *state) (end func()) {
	if s.cfg.Tracer == nil {
		return func() {}
	}
	parent := propagation.TraceContext{}.Extract(st.ctx, headerCarrier{&ctx.Request.Header})
	var span trace.Span
	st.ctx, span = s.cfg.Tracer.Start(parent, methodLabel(ctx), trace.WithSpanKind(trace.SpanKindServer))
	return func() {
		code := ctx.Response.StatusCode()
		span.SetName(methodLabel(ctx) + " " + routeLabel(st))
		span.SetAttributes(
			attribute.String("http.request.method", methodLabel(ctx)),
			attribute.String("http.route", routeLabel(st)),
			attribute.Int("http.response.status_code", code),
			attribute.String("akidb.request_id", st.id),
		)
		if code >= 500 {
			span.SetStatus(codes.Error, fasthttp.StatusMessage(code))
		}
		span.End()
	}
}

// headerCarrier lets the trace propagator read fasthttp's headers.
type headerCarrier struct{ h *fasthttp.RequestHeader }

func (c headerCarrier) Get(key string) string { return string(c.h.Peek(key)) }
func (c headerCarrier) Set(key, value string) { c.h.Set(key, value) }
func (c headerCarrier) Keys() []string {
	var keys []string
	for k := range c.h.All() {
		keys = append(keys, string(k))
	}
	return keys
}
