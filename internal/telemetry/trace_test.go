package telemetry

import (
	"bytes"
	"context"
	"encoding/hex"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/segments/blob"
)

// receiver is an OTLP gRPC trace receiver.
type receiver struct {
	collector.UnimplementedTraceServiceServer
	mu    sync.Mutex
	spans []*tracepb.Span
	attrs map[string]string // of the resource
}

func (r *receiver) Export(_ context.Context, req *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rs := range req.ResourceSpans {
		r.attrs = attributes(rs.Resource.Attributes)
		for _, ss := range rs.ScopeSpans {
			r.spans = append(r.spans, ss.Spans...)
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

func attributes(kvs []*commonpb.KeyValue) map[string]string {
	out := map[string]string{}
	for _, kv := range kvs {
		out[kv.Key] = kv.Value.GetStringValue()
	}
	return out
}

func startReceiver(t *testing.T) (*receiver, string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r, s := &receiver{}, grpc.NewServer()
	collector.RegisterTraceServiceServer(s, r)
	go func() { _ = s.Serve(ln) }()
	t.Cleanup(s.Stop)
	return r, ln.Addr().String()
}

// One request over HTTP with a traceparent: the server's span is its child, the
// store's span the server's, and closing sends both.
func TestTraceFromRequestToStore(t *testing.T) {
	for _, scheme := range []string{"", "http://"} {
		r, addr := startReceiver(t)
		tracing, err := OpenTracing(context.Background(), TraceConfig{Endpoint: scheme + addr, Role: "query", Version: "1.2.3"})
		if err != nil {
			t.Fatal(err)
		}
		serveOneRequest(t, tracing, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
		if err := tracing.Close(context.Background()); err != nil {
			t.Fatal(err)
		}

		if r.attrs["service.name"] != "akidb" || r.attrs["service.version"] != "1.2.3" || r.attrs["akidb.role"] != "query" {
			t.Errorf("resource %v", r.attrs)
		}
		byName := map[string]*tracepb.Span{}
		for _, s := range r.spans {
			byName[s.Name] = s
		}
		server, store := byName["GET /api/v1/collections/{c}"], byName["store get"]
		if len(r.spans) != 2 || server == nil || store == nil {
			t.Fatalf("spans %v", r.spans)
		}
		if got := hex.EncodeToString(server.TraceId); got != "0af7651916cd43dd8448eb211c80319c" {
			t.Errorf("trace id %s", got)
		}
		if got := hex.EncodeToString(server.ParentSpanId); got != "b7ad6b7169203331" {
			t.Errorf("the server span's parent is %s", got)
		}
		if !bytes.Equal(store.ParentSpanId, server.SpanId) || !bytes.Equal(store.TraceId, server.TraceId) {
			t.Error("the store span is not a child of the server span")
		}
		if server.Kind != tracepb.Span_SPAN_KIND_SERVER || server.Status.GetCode() != tracepb.Status_STATUS_CODE_ERROR {
			t.Errorf("server span: kind %v, status %v", server.Kind, server.Status)
		}
		if store.Kind != tracepb.Span_SPAN_KIND_CLIENT || store.Status.GetCode() != tracepb.Status_STATUS_CODE_ERROR {
			t.Errorf("store span: kind %v, status %v", store.Kind, store.Status)
		}
		if a := attributes(store.Attributes); a["akidb.store.key"] != "a/b" || a["akidb.store.result"] != "unavailable" {
			t.Errorf("store span: %v", a)
		}
	}
}

// serveOneRequest answers 503 from a store that is away.
func serveOneRequest(t *testing.T, tracing *Tracing, traceparent string) {
	t.Helper()
	store := InstrumentStore(&answeringStore{err: blob.ErrUnavailable}, prometheus.NewRegistry())
	router := httpapi.NewRouter()
	router.Handle("GET", "/collections/{c}", func(ctx *fasthttp.RequestCtx) error {
		if _, _, err := store.Get(httpapi.Context(ctx), "a/b"); err != nil {
			return httpapi.Unavailable("store_unavailable", 0, "the store is away").WithCause(err)
		}
		return nil
	})
	server, err := httpapi.NewServer(httpapi.Config{Tracer: tracing.Tracer}, router.Serve)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx, ln) }()
	req, err := http.NewRequest("GET", "http://"+ln.Addr().String()+"/api/v1/collections/movies", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("traceparent", traceparent)
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 503 {
		t.Errorf("status %d", resp.StatusCode)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestUnsampledTraceparentIsFollowed(t *testing.T) {
	r, addr := startReceiver(t)
	tracing, err := OpenTracing(context.Background(), TraceConfig{Endpoint: addr})
	if err != nil {
		t.Fatal(err)
	}
	serveOneRequest(t, tracing, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")
	if err := tracing.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if len(r.spans) != 0 {
		t.Errorf("%d spans of a trace the client did not sample", len(r.spans))
	}
}

func TestReceiverAwayCostsOnlySpans(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	tracing, err := OpenTracing(context.Background(), TraceConfig{Endpoint: addr})
	if err != nil {
		t.Fatal(err)
	}
	serveOneRequest(t, tracing, "")
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // no patience for the receiver
	if err := tracing.Close(ctx); err == nil || !strings.Contains(err.Error(), "close otlp exporter") {
		t.Errorf("got %v, want to hear that the spans are lost", err)
	}
}
