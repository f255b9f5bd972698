package contract

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/akidb/akidb/internal/apidocs"
	"github.com/akidb/akidb/internal/breaker"
	"github.com/akidb/akidb/internal/grpcapi"
	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/query"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/faultblob"
	"github.com/akidb/akidb/segments/blob/memblob"
	"github.com/akidb/akidb/writer"
)

// server is one process of a role, in this process.
type server struct {
	url    string
	router *httpapi.Router
	rpcs   *grpcapi.Router
	grpc   *grpc.ClientConn
	addr   string // of grpc
	health *httpapi.Health
	writer *writer.Writer // nil for a query process
}

// setup is what servers are made of; the zero value will do.
type setup struct {
	store  blob.Store // nil: a new one; guarded as every process's is
	writer writer.Config
	limits httpapi.Limits
	// resident is how many bytes of segments are kept in memory whole.
	resident int64
}

func (s setup) withDefaults() setup {
	if s.store == nil {
		s.store = memblob.New()
	}
	return s
}

// start is a server without routes but those of every process. The store of
// setup gets its guard.
func start(t testing.TB, role string, of *setup) *server {
	t.Helper()
	s := &server{router: httpapi.NewRouter(), rpcs: grpcapi.NewRouter(), health: httpapi.NewHealth(role, "v0.1.0")}
	guard := blob.Guard(of.store, blob.GuardConfig{Attempts: 1})
	breaker.Watch(guard, s.health, slog.New(slog.DiscardHandler))
	breaker.Register(s.router, guard)
	of.store = guard
	s.health.Register(s.router, prometheus.NewRegistry())
	apidocs.Register(s.router)
	return s
}

func (s *server) listen(t testing.TB, limits httpapi.Limits) *server {
	t.Helper()
	rest, err := httpapi.NewServer(httpapi.Config{Limits: limits}, s.router.Serve)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.url = "http://" + ln.Addr().String()
	s.health.SetPhase(httpapi.Serving)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- rest.Run(ctx, ln) }()
	t.Cleanup(func() {
		stop()
		http.DefaultClient.CloseIdleConnections()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	s.listenGRPC(t, limits)
	// A server that is stopped before it accepts is a matter of httpapi's tests.
	if x := s.do(t, call{method: "GET", path: "/livez"}); x.status != http.StatusOK {
		t.Fatal(x)
	}
	return s
}

func (s *server) listenGRPC(t testing.TB, limits httpapi.Limits) {
	t.Helper()
	rpc, err := grpcapi.NewServer(grpcapi.Config{Limits: limits}, s.rpcs)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- rpc.Run(ctx, ln) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	s.addr = ln.Addr().String()
	s.grpc = dial(t, s.addr)
}

func dial(t testing.TB, addr string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func openWriter(t testing.TB, s setup) *writer.Writer {
	t.Helper()
	c := s.writer
	c.Store, c.DataDir, c.Limits, c.SweepEvery = s.store, t.TempDir(), s.limits, -1
	c.WAL.FileBytes = 64 << 10
	c.RetryFirst, c.RetryMost = time.Millisecond, time.Millisecond
	w, err := writer.Open(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return w
}

func newQuery(t testing.TB, s setup, w query.Writer) *query.Service {
	t.Helper()
	q, err := query.New(query.Config{Store: s.store, Ranges: blob.Direct(s.store), Writer: w, Limits: s.limits, ResidentBytes: s.resident})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.Close)
	return q
}

// startDev is what `akidb dev` runs.
func startDev(t testing.TB, s setup) *server {
	t.Helper()
	s = s.withDefaults()
	dev := start(t, "dev", &s)
	dev.writer = openWriter(t, s)
	q := newQuery(t, s, localWriter{dev.writer})
	q.Register(dev.router)
	q.RegisterGRPC(dev.rpcs)
	dev.writer.Register(dev.router)
	dev.writer.RegisterGRPC(dev.rpcs)
	return dev.listen(t, s.limits)
}

// startWriter is what `akidb writer` runs.
func startWriter(t testing.TB, s setup) *server {
	t.Helper()
	s = s.withDefaults()
	ingest := start(t, "writer", &s)
	ingest.writer = openWriter(t, s)
	ingest.writer.Register(ingest.router)
	ingest.writer.RegisterReads(ingest.router)
	ingest.writer.RegisterGRPC(ingest.rpcs)
	ingest.writer.RegisterGRPCReads(ingest.rpcs)
	return ingest.listen(t, s.limits)
}

// startQuery is what `akidb query` runs; writerURL may be "".
func startQuery(t testing.TB, s setup, writerURL string) *server {
	return startQueryOf(t, s, writerURL, "")
}

// startQueryOf also forwards gRPC calls, to writerGRPC if that is not "".
func startQueryOf(t testing.TB, s setup, writerURL, writerGRPC string) *server {
	t.Helper()
	s = s.withDefaults()
	var remote query.Writer
	if writerURL != "" {
		w, err := query.NewHTTPWriter(writerURL)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.Close)
		remote = w
	}
	pod := start(t, "query", &s)
	q := newQuery(t, s, remote)
	q.Register(pod.router)
	q.RegisterForwards(pod.router)
	var remoteGRPC *query.GRPCWriter
	if writerGRPC != "" {
		w, err := query.NewGRPCWriter(writerGRPC, false, s.limits)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.Close)
		remoteGRPC = w
	}
	q.RegisterGRPC(pod.rpcs)
	q.ForwardGRPC(pod.rpcs, remoteGRPC)
	return pod.listen(t, s.limits)
}

// localWriter is the writer in the same process.
type localWriter struct{ *writer.Writer }

func (l localWriter) Tail(ctx context.Context, collection string, after uint64) ([]byte, error) {
	b, err := l.Writer.Tail(ctx, collection, after)
	if e, ok := errors.AsType[*httpapi.Error](err); ok && e.Status == http.StatusNotFound {
		return nil, query.ErrNoCollection
	}
	return b, err
}

func (localWriter) Forward(*fasthttp.RequestCtx) error { panic("BUG: forwarded inside one process") }

// faulty is a store that can be made to fail.
func faulty() *faultblob.Store { return faultblob.New(memblob.New()) }

// call is one request to make.
type call struct {
	method, path string // path may have a query, and is sent as it stands
	body         string
	header       string // "Name: value", several separated by newlines
	status       int    // wanted
	code         string // wanted, "" for no error
}

func (s *server) do(t testing.TB, c call) exchange {
	t.Helper()
	req, err := http.NewRequest(c.method, s.url, strings.NewReader(c.body))
	if err != nil {
		t.Fatal(err)
	}
	path, rawQuery, _ := strings.Cut(c.path, "?")
	req.URL = &url.URL{Scheme: "http", Host: req.URL.Host, Opaque: "//" + req.URL.Host + path, RawQuery: rawQuery}
	mediaType := ""
	if c.body != "" {
		mediaType = "application/json"
		req.Header.Set("Content-Type", mediaType)
	}
	for line := range strings.Lines(c.header) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		req.Header.Set(name, value)
		if strings.EqualFold(name, "Content-Type") {
			mediaType = value
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	received, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return exchange{
		method: c.method, path: path, mediaType: mediaType, sent: []byte(c.body),
		status: resp.StatusCode, header: resp.Header, received: received,
	}
}
