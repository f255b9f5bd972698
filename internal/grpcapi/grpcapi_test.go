package grpcapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	akidbv1 "github.com/akidb/akidb/api/akidb/v1"
	"github.com/akidb/akidb/internal/httpapi"
)

var small = httpapi.Limits{BatchBytes: 1000, BatchRows: 5}.WithDefaults()

// site is a server of a router and a client of it.
type site struct {
	*testing.T
	conn  *grpc.ClientConn
	log   *bytes.Buffer
	spans *tracetest.InMemoryExporter
	reg   *prometheus.Registry
	stop  func() // begins the drain
	ended chan error
}

func serve(t *testing.T, r *Router) *site {
	t.Helper()
	s := &site{T: t, log: new(bytes.Buffer), spans: tracetest.NewInMemoryExporter(), reg: prometheus.NewRegistry(), ended: make(chan error, 1)}
	server, err := NewServer(Config{
		Logger: slog.New(slog.NewJSONHandler(s.log, nil)), Registerer: s.reg, Limits: small, ShutdownGrace: 24 * time.Hour,
		Tracer: sdktrace.NewTracerProvider(sdktrace.WithSyncer(s.spans)).Tracer("test"),
		NewID:  func() string { return "made" },
	}, r)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	go func() { s.ended <- server.Run(ctx, ln) }()
	if s.conn, err = grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.end)
	return s
}

// end drains the server; what it has logged can be read afterwards.
func (s *site) end() {
	s.Helper()
	s.stop()
	if err := <-s.ended; err != nil {
		s.Error(err)
	}
	s.ended <- nil
	s.conn.Close()
}

func detailsOf(err error) (info *errdetails.ErrorInfo, field string, retry time.Duration) {
	info = &errdetails.ErrorInfo{}
	for _, d := range status.Convert(err).Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			info = d
		case *errdetails.BadRequest:
			field = d.FieldViolations[0].Field
		case *errdetails.RetryInfo:
			retry = d.RetryDelay.AsDuration()
		}
	}
	return info, field, retry
}

func counting(h func(context.Context, *akidbv1.CountRequest) (*akidbv1.CountResponse, error)) *Router {
	r := NewRouter()
	Unary(r, akidbv1.VectorService_Count_FullMethodName, h)
	return r
}

func failing(err error) *Router {
	return counting(func(context.Context, *akidbv1.CountRequest) (*akidbv1.CountResponse, error) { return nil, err })
}

func TestErrors(t *testing.T) {
	cause := errors.New("secret")
	for _, c := range []struct {
		err    error
		code   codes.Code
		reason string
		field  string
		retry  time.Duration
	}{
		{httpapi.BadRequest("malformed_json", "a.b", "no"), codes.InvalidArgument, "malformed_json", "a.b", 0},
		{httpapi.Unprocessable("invalid_k", "k", "no"), codes.InvalidArgument, "invalid_k", "k", 0},
		{httpapi.UnsupportedMediaType("unsupported_media_type", "no"), codes.InvalidArgument, "unsupported_media_type", "", 0},
		{httpapi.TooLarge("metadata_too_large", "m", "no"), codes.InvalidArgument, "metadata_too_large", "m", 0},
		{httpapi.TooLarge("body_too_large", "", "no"), codes.ResourceExhausted, "body_too_large", "", 0},
		{httpapi.NotFound("vector_not_found", "no"), codes.NotFound, "vector_not_found", "", 0},
		{httpapi.Gone("version_collected", "no"), codes.NotFound, "version_collected", "", 0},
		{httpapi.Conflict("name_taken", "no"), codes.AlreadyExists, "name_taken", "", 0},
		{httpapi.Conflict("condition_failed", "no"), codes.FailedPrecondition, "condition_failed", "", 0},
		{httpapi.TooManyRequests("slow_down", 1500*time.Millisecond, "no"), codes.ResourceExhausted, "slow_down", "", 2 * time.Second},
		{httpapi.StorageFull("storage_full", "no"), codes.ResourceExhausted, "storage_full", "", 0},
		{httpapi.Unavailable("store_unavailable", 0, "no"), codes.Unavailable, "store_unavailable", "", time.Second},
		{httpapi.Unavailable("timeout", time.Second, "no"), codes.DeadlineExceeded, "timeout", "", time.Second},
		{&httpapi.Error{Status: http.StatusUnauthorized, Code: "no_key"}, codes.Unauthenticated, "no_key", "", 0},
		{&httpapi.Error{Status: http.StatusForbidden, Code: "forbidden"}, codes.PermissionDenied, "forbidden", "", 0},
		{fmt.Errorf("wait: %w", context.DeadlineExceeded), codes.DeadlineExceeded, "timeout", "", time.Second},
		{fmt.Errorf("read: %w", cause), codes.Internal, "internal", "", 0},
		{fmt.Errorf("wrapped: %w", httpapi.NotFound("vector_not_found", "no").WithCause(cause)), codes.NotFound, "vector_not_found", "", 0},
	} {
		s := serve(t, failing(c.err))
		_, err := akidbv1.NewVectorServiceClient(s.conn).Count(t.Context(), &akidbv1.CountRequest{})
		info, field, retry := detailsOf(err)
		if status.Code(err) != c.code || info.Reason != c.reason || info.Domain != "akidb" || field != c.field || retry != c.retry {
			t.Errorf("%v: got %v, %s, %q, %v", c.err, status.Code(err), info.Reason, field, retry)
		}
		s.end()
		if strings.Contains(fmt.Sprint(err), "secret") || errors.Is(c.err, cause) != strings.Contains(s.log.String(), "secret") {
			t.Errorf("%v: told %v, logged %s", c.err, err, s.log)
		}
	}
}

func TestApplied(t *testing.T) {
	s := serve(t, failing(WithDetails(httpapi.Unavailable("outcome_unknown", 0, "no").WithApplied(httpapi.UnknownApplied).WithHint("again"), map[string]string{"more": "x"})))
	var trailer metadata.MD
	_, err := akidbv1.NewVectorServiceClient(s.conn).Count(t.Context(), &akidbv1.CountRequest{}, grpc.Trailer(&trailer))
	info, _, _ := detailsOf(err)
	want := map[string]string{"request_id": "made", "write_applied": "unknown", "hint": "again", "more": "x"}
	if !maps.Equal(info.Metadata, want) || !slices.Equal(trailer.Get("X-AkiDB-Write-Applied"), []string{"unknown"}) {
		t.Errorf("%v, %v", info.Metadata, trailer)
	}
}

// One broken call is answered, and takes nothing else down.
func TestAPanicIsAnswered(t *testing.T) {
	s := serve(t, counting(func(_ context.Context, req *akidbv1.CountRequest) (*akidbv1.CountResponse, error) {
		if req.Collection == "bad" {
			panic("ouch")
		}
		return &akidbv1.CountResponse{Count: 3}, nil
	}))
	client := akidbv1.NewVectorServiceClient(s.conn)
	_, err := client.Count(t.Context(), &akidbv1.CountRequest{Collection: "bad"})
	if info, _, _ := detailsOf(err); status.Code(err) != codes.Internal || info.Reason != "internal" || strings.Contains(err.Error(), "ouch") {
		t.Errorf("%v", err)
	}
	if got, err := client.Count(t.Context(), &akidbv1.CountRequest{}); err != nil || got.Count != 3 {
		t.Errorf("%v, %v", got, err)
	}
	s.end()
	if !strings.Contains(s.log.String(), "ouch") || !strings.Contains(s.log.String(), "grpcapi_test.go") {
		t.Errorf("logged: %s", s.log)
	}
}

func TestRequestIDsAndSpans(t *testing.T) {
	s := serve(t, counting(func(ctx context.Context, _ *akidbv1.CountRequest) (*akidbv1.CountResponse, error) {
		SetHeader(ctx, "X-AkiDB-Consistency", RequestID(ctx))
		return &akidbv1.CountResponse{}, nil
	}))
	for given, want := range map[string]string{"": "made", "mine-1": "mine-1", "not sane": "made", strings.Repeat("x", 129): "made"} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01")
		if given != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "x-request-id", given)
		}
		var header metadata.MD
		if _, err := akidbv1.NewVectorServiceClient(s.conn).Count(ctx, &akidbv1.CountRequest{}, grpc.Header(&header)); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"x-request-id", "x-akidb-consistency"} {
			if got := header.Get(name); !slices.Equal(got, []string{want}) {
				t.Errorf("%q: %s is %q", given, name, got)
			}
		}
	}
	s.end()
	spans := s.spans.GetSpans()
	if len(spans) != 4 {
		t.Fatalf("%d spans", len(spans))
	}
	if sp := spans[0]; sp.Name != "akidb.v1.VectorService/Count" || sp.Parent.SpanID().String() != "0123456789abcdef" {
		t.Errorf("%s below %s", sp.Name, sp.Parent.SpanID())
	}
}

func TestWhatIsNotServed(t *testing.T) {
	s := serve(t, NewRouter())
	for method, label := range map[string]string{
		"/akidb.v1.VectorService/Count":    "Count", // of another role
		"/akidb.v1.VectorService/Nonsense": "unmatched",
		"/nonsense.Service/Method":         "unmatched",
	} {
		err := s.conn.Invoke(t.Context(), method, &akidbv1.CountRequest{}, &akidbv1.CountResponse{})
		if info, _, _ := detailsOf(err); status.Code(err) != codes.Unimplemented || info.Reason != "no_such_method" {
			t.Errorf("%s: %v", method, err)
		}
		if n := s.total(label, "Unimplemented"); n < 1 {
			t.Errorf("%s: counted %v", method, n)
		}
	}
}

// total is how many calls of a method were counted with a code.
func (s *site) total(method, code string) (n float64) {
	s.Helper()
	families, err := s.reg.Gather()
	if err != nil {
		s.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			labels := map[string]string{}
			for _, l := range m.Label {
				labels[l.GetName()] = l.GetValue()
			}
			if f.GetName() == "akidb_grpc_requests_total" && labels["method"] == method && labels["code"] == code {
				n += m.Counter.GetValue()
			}
		}
	}
	return n
}

var rows = Bound{"vectors", small.CheckRows}

func upsert(h func(context.Context, *akidbv1.UpsertRequest) (*akidbv1.UpsertResponse, error)) *Router {
	r := NewRouter()
	Unary(r, akidbv1.VectorService_Upsert_FullMethodName, h, rows)
	return r
}

// sized is a request of so many bytes.
func sized(n int) *akidbv1.UpsertRequest {
	req := &akidbv1.UpsertRequest{Collection: strings.Repeat("x", n-3)}
	if proto.Size(req) != n {
		panic("BUG: the size of a length has changed")
	}
	return req
}

func TestMessagesThatAreTooLarge(t *testing.T) {
	s := serve(t, upsert(func(_ context.Context, req *akidbv1.UpsertRequest) (*akidbv1.UpsertResponse, error) {
		return &akidbv1.UpsertResponse{Upserted: uint64(len(req.Collection))}, nil
	}))
	client := akidbv1.NewVectorServiceClient(s.conn)
	if got, err := client.Upsert(t.Context(), sized(1000)); err != nil || got.Upserted != 997 {
		t.Errorf("at the limit: %v, %v", got, err)
	}
	for _, opts := range [][]grpc.CallOption{nil, {grpc.UseCompressor(gzip.Name)}} {
		_, err := client.Upsert(t.Context(), sized(1001), opts...)
		if info, _, retry := detailsOf(err); status.Code(err) != codes.ResourceExhausted || info.Reason != "body_too_large" || retry != 0 {
			t.Errorf("one more: %v", err)
		}
		// Far beyond it nobody waits for the rest, nor unpacks it.
		big := &akidbv1.UpsertRequest{Collection: strings.Repeat("x", 40<<20)}
		if _, err := client.Upsert(t.Context(), big, opts...); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("far beyond: %v", err)
		}
	}
	if n := s.total("Upsert", "ResourceExhausted"); n != 4 {
		t.Errorf("%v were counted", n)
	}
}

// A few bytes can make a row of a hundred. How many there are is known before.
func TestCountedBeforeDecoded(t *testing.T) {
	decode := decoderOf[*akidbv1.UpsertRequest](NewRouter().methods[akidbv1.VectorService_Upsert_FullMethodName], []Bound{rows})
	empty := protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), nil)
	if _, err := decode(Frame{bytes.Repeat(empty, 5)}); err != nil {
		t.Errorf("as many as allowed: %v", err)
	}
	hostile := bytes.Repeat(empty, 1<<20)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := decode(Frame{hostile})
	runtime.ReadMemStats(&after)
	if e, ok := errors.AsType[*httpapi.Error](err); !ok || e.Code != "batch_too_large" || e.Field != "vectors" || !strings.Contains(e.Message, "1048576") {
		t.Errorf("%v", err)
	}
	if took := after.TotalAlloc - before.TotalAlloc; took > 1<<20 {
		t.Errorf("%d bytes were allocated to refuse %d", took, len(hostile))
	}
}

func TestHandlersAreCheckedWhenTheyAreRegistered(t *testing.T) {
	type (
		in  = *akidbv1.UpsertRequest
		out = *akidbv1.UpsertResponse
	)
	h := func(context.Context, in) (out, error) { return nil, nil }
	stream := func(context.Context, func() (*akidbv1.StreamUpsertRequest, error)) (*akidbv1.StreamUpsertResponse, error) {
		return nil, nil
	}
	const method = akidbv1.VectorService_Upsert_FullMethodName
	for name, register := range map[string]func(*Router){
		"no such method":     func(r *Router) { Unary(r, "/akidb.v1.VectorService/Nonsense", h, rows) },
		"twice":              func(r *Router) { Unary(r, method, h, rows); Unary(r, method, h, rows) },
		"of another method":  func(r *Router) { Unary(r, akidbv1.VectorService_Count_FullMethodName, h, rows) },
		"without a bound":    func(r *Router) { Unary(r, method, h) },
		"bound of no list":   func(r *Router) { Unary(r, method, h, rows, Bound{"collection", small.CheckRows}) },
		"stream of no other": func(r *Router) { ClientStream(r, method, stream, rows) },
		"a stream as unary": func(r *Router) {
			Unary(r, akidbv1.VectorService_StreamUpsert_FullMethodName, func(context.Context, *akidbv1.StreamUpsertRequest) (*akidbv1.StreamUpsertResponse, error) {
				return nil, nil
			}, rows)
		},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if p := recover(); p == nil || !strings.HasPrefix(fmt.Sprint(p), "BUG: ") {
					t.Errorf("got %v", p)
				}
			}()
			register(NewRouter())
		})
	}
	Unary(NewRouter(), method, h, rows)
}

// A drain waits for calls that are answered by themselves, and ends streams after
// the message they are at.
func TestDrain(t *testing.T) {
	r := NewRouter()
	entered, release := make(chan struct{}), make(chan struct{})
	Unary(r, akidbv1.VectorService_Count_FullMethodName, func(context.Context, *akidbv1.CountRequest) (*akidbv1.CountResponse, error) {
		close(entered)
		<-release
		return &akidbv1.CountResponse{Count: 1}, nil
	})
	got, began := make(chan string, 10), make(chan struct{})
	ClientStream(r, akidbv1.VectorService_StreamUpsert_FullMethodName, func(_ context.Context, next func() (*akidbv1.StreamUpsertRequest, error)) (*akidbv1.StreamUpsertResponse, error) {
		for n := uint64(0); ; n++ {
			chunk, err := next()
			if err == io.EOF {
				return &akidbv1.StreamUpsertResponse{Chunks: n}, nil
			}
			if err != nil {
				return nil, StreamError(httpapi.AsError(err).WithApplied(httpapi.NotApplied), &akidbv1.StreamUpsertResponse{Chunks: n})
			}
			if got <- chunk.Collection; chunk.Collection == "last" {
				close(began)
				<-release
			}
		}
	}, rows)
	s := serve(t, r)
	client := akidbv1.NewVectorServiceClient(s.conn)

	whole, err := client.StreamUpsert(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		if err := whole.Send(&akidbv1.StreamUpsertRequest{Collection: name}); err != nil {
			t.Fatal(err)
		}
	}
	if resp, err := whole.CloseAndRecv(); err != nil || resp.Chunks != 2 {
		t.Errorf("%v, %v", resp, err)
	}

	open, err := client.StreamUpsert(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := open.Send(&akidbv1.StreamUpsertRequest{Collection: "last"}); err != nil {
		t.Fatal(err)
	}
	<-began
	var calls sync.WaitGroup
	calls.Go(func() {
		if resp, err := client.Count(t.Context(), &akidbv1.CountRequest{}); err != nil || resp.Count != 1 {
			t.Errorf("a call under way: %v, %v", resp, err)
		}
	})
	<-entered
	s.stop()
	select {
	case err := <-s.ended:
		t.Fatalf("it ended with calls under way: %v", err)
	default:
	}
	close(release)
	calls.Wait()
	_, err = open.CloseAndRecv()
	if info, _, _ := detailsOf(err); status.Code(err) != codes.Unavailable || info.Reason != "shutting_down" || info.Metadata["chunks_applied"] != "1" || info.Metadata["write_applied"] != "unknown" {
		t.Errorf("a stream: %v", err)
	}
	s.end()
	close(got)
	var all []string
	for name := range got {
		all = append(all, name)
	}
	if !slices.Equal(all, []string{"a", "b", "last"}) {
		t.Errorf("got %q", all)
	}
}

// At most one message is read ahead of a handler that takes its time.
func TestAStreamIsNotReadAhead(t *testing.T) {
	sent := make(chan arrivingStream, 1)
	r := NewRouter()
	ClientStream(r, akidbv1.VectorService_StreamUpsert_FullMethodName, func(ctx context.Context, next func() (*akidbv1.StreamUpsertRequest, error)) (*akidbv1.StreamUpsertResponse, error) {
		if _, err := next(); err != nil {
			return nil, err
		}
		s := <-sent
		for range 100 { // as long as anybody could be reading
			runtime.Gosched()
		}
		if n := s.taken(); n > 2 {
			return nil, httpapi.BadRequest("read_ahead", "", "%d messages were read", n)
		}
		return &akidbv1.StreamUpsertResponse{}, nil
	}, rows)
	stream := &fakeStream{ctx: t.Context()}
	sent <- stream
	err := r.serve(Call{ServerStream: stream, Method: akidbv1.VectorService_StreamUpsert_FullMethodName, Limits: small, Drain: context.Background()})
	if err != nil {
		t.Error(err)
	}
}

type arrivingStream interface{ taken() int }

// fakeStream has no end.
type fakeStream struct {
	grpc.ServerStream
	ctx context.Context

	mu sync.Mutex
	n  int
}

func (s *fakeStream) Context() context.Context { return s.ctx }
func (s *fakeStream) SendMsg(any) error        { return nil }
func (s *fakeStream) RecvMsg(any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	return nil
}

func (s *fakeStream) taken() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

// FuzzDecode: whatever arrives is a message or an error of the contract.
func FuzzDecode(f *testing.F) {
	decode := decoderOf[*akidbv1.UpsertRequest](NewRouter().methods[akidbv1.VectorService_Upsert_FullMethodName], []Bound{rows})
	for _, m := range []proto.Message{
		&akidbv1.UpsertRequest{Collection: "c", Vectors: []*akidbv1.Vector{{Id: "a", Vector: []float32{1, 2}, Metadata: proto.String("{}")}}, IfAbsent: true},
		sized(1000),
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{0x12, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		req, err := decode(Frame{b})
		if _, ours := errors.AsType[*httpapi.Error](err); err != nil && !ours {
			t.Fatalf("%v", err)
		}
		if err == nil && len(req.Vectors) > small.BatchRows {
			t.Fatalf("%d rows", len(req.Vectors))
		}
	})
}
