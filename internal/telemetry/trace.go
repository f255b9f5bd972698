package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// tracerName is the instrumentation scope of every span of ours.
const tracerName = "github.com/akidb/akidb"

// TraceConfig says where spans go and whose they are.
type TraceConfig struct {
	Endpoint string // host:port (no TLS), http://host:port or https://host:port of an OTLP gRPC receiver
	Role     string // dev, writer or query
	Version  string
	Logger   *slog.Logger // takes export failures
}

// Tracing exports spans in the background. A receiver that is away costs the
// spans, never the request.
type Tracing struct {
	Tracer   trace.Tracer
	provider *sdktrace.TracerProvider
}

// OpenTracing begins exporting. It does not wait for the receiver. Requests that
// bring a traceparent follow its sampling decision, others are sampled.
func OpenTracing(ctx context.Context, cfg TraceConfig) (*Tracing, error) {
	var opts []otlptracegrpc.Option
	if strings.Contains(cfg.Endpoint, "://") {
		opts = append(opts, otlptracegrpc.WithEndpointURL(cfg.Endpoint))
	} else {
		opts = append(opts, otlptracegrpc.WithEndpoint(cfg.Endpoint), otlptracegrpc.WithInsecure())
	}
	exporter, err := otlptracegrpc.New(ctx, opts...)
	if err != nil {
		return nil, fmt.Errorf("open otlp exporter %q: %w", cfg.Endpoint, err)
	}
	if cfg.Logger != nil {
		otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
			cfg.Logger.Warn("trace export failed", slog.Any("error", err))
		}))
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "akidb"),
			attribute.String("service.version", cfg.Version),
			attribute.String("akidb.role", cfg.Role),
		)),
	)
	return &Tracing{Tracer: provider.Tracer(tracerName), provider: provider}, nil
}

// Close sends what is still buffered, as long as ctx allows, and stops.
func (t *Tracing) Close(ctx context.Context) error {
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("close otlp exporter: %w", err)
	}
	return nil
}
