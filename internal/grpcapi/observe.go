package grpcapi

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/akidb/akidb/internal/httpapi"
)

type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "akidb_grpc_requests_total",
			Help: "gRPC calls answered, by service, method and status code.",
		}, []string{"service", "method", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "akidb_grpc_request_duration_seconds",
			Help:    "Time from a call's first byte to its answer being ready, a stream's whole life.",
			Buckets: httpapi.DurationBuckets,
		}, []string{"service", "method"}),
	}
	for _, c := range []prometheus.Collector{m.requests, m.duration} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// label is how metrics name a method.
type label struct{ service, method string }

// label is bounded by the methods there are, whatever clients ask for.
func (s *Server) label(method string) label {
	if l, ok := s.known[method]; ok {
		return l
	}
	return label{"unmatched", "unmatched"}
}

// observe counts and logs one answered call.
func (s *Server) observe(ctx context.Context, method, id string, code codes.Code, took time.Duration) {
	l := s.label(method)
	s.metrics.requests.WithLabelValues(l.service, l.method, code.String()).Inc()
	s.metrics.duration.WithLabelValues(l.service, l.method).Observe(took.Seconds())

	level := slog.LevelInfo
	switch code { // as of REST: what went well is for --log-level debug
	case codes.OK:
		level = slog.LevelDebug
	case codes.Internal, codes.Unknown, codes.DataLoss:
		level = slog.LevelWarn
	}
	if !s.cfg.Logger.Enabled(ctx, level) {
		return
	}
	s.cfg.Logger.LogAttrs(ctx, level, "grpc",
		slog.String("service", l.service),
		slog.String("method", l.method),
		slog.String("code", code.String()),
		slog.Duration("took", took),
		slog.String("remote", remote(ctx)),
		slog.String("request_id", id),
	)
}

func remote(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok {
		return p.Addr.String()
	}
	return ""
}

// logFailure logs what the client is not told.
func (s *Server) logFailure(ctx context.Context, id string, e *httpapi.Error) {
	cause := e.Unwrap()
	if cause == nil {
		return
	}
	level := slog.LevelWarn
	if codeOf(e) == codes.Internal {
		level = slog.LevelError
	}
	s.cfg.Logger.LogAttrs(ctx, level, "call failed", slog.String("request_id", id), slog.String("code", e.Code), slog.Any("error", cause))
}

// startSpan opens the call's server span below the client's traceparent and
// returns what ends it.
func (s *Server) startSpan(ctx context.Context, method string) (_ context.Context, end func(codes.Code)) {
	if s.cfg.Tracer == nil {
		return ctx, func(codes.Code) {}
	}
	md, _ := metadata.FromIncomingContext(ctx)
	l := s.label(method)
	ctx, span := s.cfg.Tracer.Start(propagation.TraceContext{}.Extract(ctx, carrier(md)), l.service+"/"+l.method, trace.WithSpanKind(trace.SpanKindServer))
	return ctx, func(code codes.Code) {
		span.SetAttributes(
			attribute.String("rpc.system", "grpc"),
			attribute.String("rpc.service", l.service),
			attribute.String("rpc.method", l.method),
			attribute.Int("rpc.grpc.status_code", int(code)),
			attribute.String("akidb.request_id", RequestID(ctx)),
		)
		switch code {
		case codes.Internal, codes.Unknown, codes.DataLoss, codes.Unavailable, codes.DeadlineExceeded:
			span.SetStatus(otelcodes.Error, code.String())
		}
		span.End()
	}
}

// carrier lets the trace propagator read and write metadata.
type carrier metadata.MD

func (c carrier) Get(key string) string {
	if v := metadata.MD(c).Get(key); len(v) > 0 {
		return v[0]
	}
	return ""
}
func (c carrier) Set(key, value string) { metadata.MD(c).Set(key, value) }
func (c carrier) Keys() []string {
	var keys []string
	for k := range c {
		keys = append(keys, k)
	}
	return keys
}
