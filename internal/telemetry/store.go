package telemetry

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/akidb/akidb/segments/blob"
)

// InstrumentStore returns store with every call counted, timed and, below a
// traced request, made a span of its own. It registers
// akidb_s3_operations_total{operation,result} and
// akidb_s3_operation_duration_seconds{operation}, whatever kind of store it is.
//
// Results: ok, not_found, precondition, unavailable, canceled, error.
func InstrumentStore(store blob.Store, reg prometheus.Registerer) blob.Store {
	s := &instrumentedStore{
		store: store,
		operations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "akidb_s3_operations_total",
			Help: "Calls to the object store, by operation and result.",
		}, []string{"operation", "result"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "akidb_s3_operation_duration_seconds",
			Help:    "Time of one call to the object store, whatever its result.",
			Buckets: durationBuckets,
		}, []string{"operation"}),
	}
	reg.MustRegister(s.operations, s.seconds)
	return s
}

type instrumentedStore struct {
	store      blob.Store
	operations *prometheus.CounterVec
	seconds    *prometheus.HistogramVec
}

// begin opens a call's span and returns what ends it and counts the call.
func (s *instrumentedStore) begin(ctx context.Context, operation, key string) (context.Context, func(error)) {
	parent, start := trace.SpanFromContext(ctx), time.Now()
	ctx, span := parent.TracerProvider().Tracer(tracerName).Start(ctx, "store "+operation,
		trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attribute.String("akidb.store.key", key)))
	return ctx, func(err error) {
		result := storeResult(err)
		s.operations.WithLabelValues(operation, result).Inc()
		s.seconds.WithLabelValues(operation).Observe(time.Since(start).Seconds())
		span.SetAttributes(attribute.String("akidb.store.result", result))
		if result == "error" || result == "unavailable" {
			span.SetStatus(codes.Error, err.Error())
		}
		span.End()
	}
}

// storeResult is the label of an outcome. A missing object and a lost race are
// answers, not failures, so they have labels of their own.
func storeResult(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, blob.ErrNotFound):
		return "not_found"
	case errors.Is(err, blob.ErrPrecondition):
		return "precondition"
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, blob.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return "unavailable"
	}
	return "error"
}

func (s *instrumentedStore) Get(ctx context.Context, key string) ([]byte, blob.Version, error) {
	ctx, end := s.begin(ctx, "get", key)
	b, v, err := s.store.Get(ctx, key)
	end(err)
	return b, v, err
}

func (s *instrumentedStore) ReadRange(ctx context.Context, key string, off int64, dst []byte) error {
	ctx, end := s.begin(ctx, "read_range", key)
	err := s.store.ReadRange(ctx, key, off, dst)
	end(err)
	return err
}

func (s *instrumentedStore) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, cond blob.Condition) (blob.Version, error) {
	ctx, end := s.begin(ctx, "put", key)
	v, err := s.store.Put(ctx, key, body, size, cond)
	end(err)
	return v, err
}

func (s *instrumentedStore) Stat(ctx context.Context, key string) (blob.Object, error) {
	ctx, end := s.begin(ctx, "stat", key)
	o, err := s.store.Stat(ctx, key)
	end(err)
	return o, err
}

func (s *instrumentedStore) List(ctx context.Context, l blob.Listing) (blob.Page, error) {
	ctx, end := s.begin(ctx, "list", l.Prefix)
	p, err := s.store.List(ctx, l)
	end(err)
	return p, err
}

func (s *instrumentedStore) Delete(ctx context.Context, key string) error {
	ctx, end := s.begin(ctx, "delete", key)
	err := s.store.Delete(ctx, key)
	end(err)
	return err
}
