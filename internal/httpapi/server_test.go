package httpapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/valyala/fasthttp"
)

// running is a server on a real socket, with what it logged and counted.
type running struct {
	url  string
	reg  *prometheus.Registry
	log  *syncBuffer
	stop func() error // ends the context and waits for Run
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func start(t *testing.T, cfg Config, r *Router) *running {
	t.Helper()
	out := &running{reg: prometheus.NewRegistry(), log: &syncBuffer{}}
	cfg.Registerer = out.reg
	cfg.Logger = slog.New(slog.NewTextHandler(out.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s, err := NewServer(cfg, r.Serve)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	out.url = "http://" + ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, ln) }()
	out.stop = sync.OnceValue(func() error {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		return <-done
	})
	t.Cleanup(func() {
		if err := out.stop(); err != nil {
			t.Errorf("drain: %v", err)
		}
	})
	return out
}

type answer struct {
	status int
	header http.Header
	body   string
	error  errorObject
}

func (r *running) do(t *testing.T, method, path, body string, headers ...string) answer {
	t.Helper()
	req, err := http.NewRequest(method, r.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return answerTo(t, req)
}

func answerTo(t *testing.T, req *http.Request) answer {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{status: resp.StatusCode, header: resp.Header, body: string(b)}
	if resp.StatusCode >= 400 && req.Method != http.MethodHead && strings.HasPrefix(req.URL.Path, Base) {
		var eb errorBody
		if err := json.Unmarshal(b, &eb, json.RejectUnknownMembers(true)); err != nil {
			t.Fatalf("status %d without the error object: %q: %v", resp.StatusCode, b, err)
		}
		a.error = eb.Error
		if a.error.RequestID == "" || a.error.RequestID != resp.Header.Get("X-Request-Id") {
			t.Errorf("request_id %q, header %q", a.error.RequestID, resp.Header.Get("X-Request-Id"))
		}
		if ct := resp.Header.Get("Content-Type"); ct != "application/json" {
			t.Errorf("error with content type %q", ct)
		}
	}
	return a
}

func ok(ctx *fasthttp.RequestCtx) error { return WriteJSON(ctx, 200, map[string]string{"ok": "yes"}) }

func echo(ctx *fasthttp.RequestCtx) error {
	var v request
	if err := ReadJSON(ctx, &v); err != nil {
		return err
	}
	return WriteJSON(ctx, 200, v)
}

func TestErrorsHaveOneShape(t *testing.T) {
	returned := map[string]error{
		"plain":       errors.New("secret detail"),
		"unprocessed": Unprocessable("dimension_mismatch", "vectors[17].vector", "has %d", 384).WithHint("send %d", 768),
		"wrapped":     fmt.Errorf("upsert: %w", Conflict("name_taken", "taken")),
		"unavailable": Unavailable("busy", 2500*time.Millisecond, "busy").WithApplied(NotApplied),
		"unknown":     Unavailable("wal_failed", 0, "x").WithApplied(UnknownApplied).WithCause(errors.New("secret detail")),
		"slow":        TooManyRequests("slow_down", 0, "slow down"),
		"full":        StorageFull("disk_full", "full"),
		"deadline":    fmt.Errorf("scan: %w", context.DeadlineExceeded),
		"stopping":    fmt.Errorf("scan: %w", context.Canceled),
	}
	r := NewRouter()
	for name, err := range returned {
		r.Handle("GET", "/"+name, func(ctx *fasthttp.RequestCtx) error {
			_ = ok(ctx) // a handler that had begun to answer
			return err
		})
	}
	r.Handle("GET", "/panic", func(*fasthttp.RequestCtx) error { panic("secret detail") })
	s := start(t, Config{}, r)
	for _, c := range []struct {
		path, code, field, hint string
		status                  int
		retryAfter, applied     string
	}{
		{"plain", "internal", "", "log", 500, "", ""},
		{"panic", "internal", "", "log", 500, "", ""},
		{"unprocessed", "dimension_mismatch", "vectors[17].vector", "send 768", 422, "", ""},
		{"wrapped", "name_taken", "", "", 409, "", ""},
		{"unavailable", "busy", "", "", 503, "3", "false"},
		{"unknown", "wal_failed", "", "", 503, "1", "unknown"},
		{"slow", "slow_down", "", "", 429, "1", ""},
		{"full", "disk_full", "", "", 507, "", ""},
		{"deadline", "timeout", "", "", 503, "1", ""},
		{"stopping", "shutting_down", "", "", 503, "1", ""},
		{"nothing", "no_such_route", "", "/api/v1", 404, "", ""},
	} {
		a := s.do(t, "GET", Base+"/"+c.path, "")
		if a.status != c.status || a.error.Code != c.code || a.error.Field != c.field || !strings.Contains(a.error.Hint, c.hint) {
			t.Errorf("%s: got %d %+v", c.path, a.status, a.error)
		}
		if got := a.header.Get("Retry-After"); got != c.retryAfter {
			t.Errorf("%s: Retry-After %q, want %q", c.path, got, c.retryAfter)
		}
		if got := a.header.Get("X-AkiDB-Write-Applied"); got != c.applied {
			t.Errorf("%s: X-AkiDB-Write-Applied %q, want %q", c.path, got, c.applied)
		}
		if strings.Contains(a.body, "secret detail") || strings.Contains(a.body, "yes") {
			t.Errorf("%s: body %s", c.path, a.body)
		}
		if got := a.header.Get("Server"); got != "" {
			t.Errorf("%s: Server %q", c.path, got)
		}
	}
	if got := strings.Count(s.log.String(), "secret detail"); got < 3 {
		t.Errorf("the log has the causes %d times, want 3:\n%s", got, s.log.String())
	}
	if a := s.do(t, "PUT", Base+"/plain", ""); a.status != 405 || a.error.Code != "method_not_allowed" || !strings.Contains(a.header.Get("Allow"), "GET") {
		t.Errorf("405: got %+v", a)
	}
}

func TestRetryAfterOnAnswersAHandlerWroteItself(t *testing.T) {
	r := NewRouter()
	for _, status := range []int{429, 503} {
		for _, told := range []string{"", "7"} {
			r.HandleRoot("GET", fmt.Sprintf("/%d%s", status, told), func(ctx *fasthttp.RequestCtx) error {
				if told != "" {
					ctx.Response.Header.Set("Retry-After", told)
				}
				return WriteJSON(ctx, status, nil)
			})
		}
	}
	s := start(t, Config{}, r)
	for path, want := range map[string]string{"/429": "1", "/503": "1", "/4297": "7", "/5037": "7"} {
		if got := s.do(t, "GET", path, "").header.Get("Retry-After"); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

func TestRequestID(t *testing.T) {
	r := NewRouter()
	r.Handle("GET", "/ok", ok)
	var ids atomic.Int64
	s := start(t, Config{NewID: func() string { return fmt.Sprintf("made-%d", ids.Add(1)) }}, r)
	for _, c := range []struct{ sent, want string }{
		{"", "made-1"},
		{"abc-123_x.y:z", "abc-123_x.y:z"},
		{"two words", "made-2"},
		{`"quoted"`, "made-3"},
		{strings.Repeat("x", 129), "made-4"},
		{strings.Repeat("x", 128), strings.Repeat("x", 128)},
	} {
		if got := s.do(t, "GET", Base+"/ok", "", "X-Request-Id", c.sent).header.Get("X-Request-Id"); got != c.want {
			t.Errorf("%q: got %q, want %q", c.sent, got, c.want)
		}
	}
	if !strings.Contains(s.log.String(), "request_id=abc-123_x.y:z") {
		t.Errorf("the access log has no request id:\n%s", s.log.String())
	}
}

func TestMetricsHaveBoundedRoutes(t *testing.T) {
	r := NewRouter()
	r.Handle("GET", "/collections/{c}", ok)
	s := start(t, Config{}, r)
	for _, path := range []string{"/collections/a", "/collections/b", "/none/1", "/none/2"} {
		s.do(t, "GET", Base+path, "")
	}
	s.do(t, "BREW", Base+"/collections/a", "")
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	exposed := exposition(s.reg)
	for _, want := range []string{
		`akidb_http_requests_total{code="200",method="GET",route="/api/v1/collections/{c}"} 2`,
		`akidb_http_requests_total{code="404",method="GET",route="unmatched"} 2`,
		`akidb_http_requests_total{code="405",method="OTHER",route="unmatched"} 1`,
		`akidb_http_request_duration_seconds_count{method="GET",route="/api/v1/collections/{c}"} 2`,
	} {
		if !strings.Contains(exposed, want+"\n") {
			t.Errorf("no %s in\n%s", want, exposed)
		}
	}
	if n := strings.Count(exposed, "\nakidb_http_requests_total{"); n != 3 {
		t.Errorf("%d series, want 3", n)
	}
}

// exposition is what a scrape of reg gets.
func exposition(reg *prometheus.Registry) string {
	w := httptest.NewRecorder()
	promhttp.HandlerFor(reg, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
}

func TestParamsAreDecoded(t *testing.T) {
	r := NewRouter()
	r.Handle("GET", "/collections/{c}/vectors/{id}", func(ctx *fasthttp.RequestCtx) error {
		id, err := Param(ctx, "id")
		if err != nil {
			return err
		}
		return WriteJSON(ctx, 200, id)
	})
	s := start(t, Config{}, r)
	for sent, want := range map[string]string{"a": `"a"`, "a%2Fb": `"a/b"`, "%2E%2E": `".."`, "a+b": `"a+b"`, "m%C3%B6%20x": `"mö x"`} {
		if a := s.do(t, "GET", Base+"/collections/c/vectors/"+sent, ""); strings.TrimSpace(a.body) != want {
			t.Errorf("%s: got %s, want %s", sent, a.body, want)
		}
	}
	// The client refuses to send a malformed escape, so by hand.
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s/collections/c/vectors/%%zz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", Base)
	b, _ := io.ReadAll(conn)
	if !strings.HasPrefix(string(b), "HTTP/1.1 400") || !strings.Contains(string(b), `"malformed_path"`) {
		t.Errorf("malformed escape: got %s", b)
	}
}

func TestHEADAnswersLikeGETWithoutBody(t *testing.T) {
	r := NewRouter()
	r.Handle("GET", "/ok", ok)
	s := start(t, Config{}, r)
	if a := s.do(t, "HEAD", Base+"/ok", ""); a.status != 200 || a.body != "" {
		t.Errorf("got %+v", a)
	}
}

func TestRoutersCompose(t *testing.T) {
	writer := NewRouter()
	writer.Handle("POST", "/collections/{c}/vectors", func(ctx *fasthttp.RequestCtx) error {
		c, err := Param(ctx, "c")
		if err != nil {
			return err
		}
		return WriteJSON(ctx, 200, "written to "+c)
	})
	writer.Handle("DELETE", "/collections/{c}", func(*fasthttp.RequestCtx) error { return NotFound("no_such_collection", "none") })
	query := NewRouter()
	query.Handle("POST", "/collections/{c}/vectors", writer.Serve)
	query.Handle("DELETE", "/collections/{c}", writer.Serve)
	query.Handle("PATCH", "/collections/{c}", writer.Serve) // which the writer does not know
	s := start(t, Config{}, query)
	if a := s.do(t, "POST", Base+"/collections/movies/vectors", "{}"); a.status != 200 || a.body != "\"written to movies\"\n" {
		t.Errorf("got %+v", a)
	}
	if a := s.do(t, "DELETE", Base+"/collections/movies", ""); a.status != 404 || a.error.Code != "no_such_collection" {
		t.Errorf("got %+v", a)
	}
	if a := s.do(t, "PATCH", Base+"/collections/movies", "{}"); a.status != 405 {
		t.Errorf("got %+v", a)
	}
	if want := []string{"DELETE /api/v1/collections/{c}", "POST /api/v1/collections/{c}/vectors"}; fmt.Sprint(writer.Routes()) != fmt.Sprint(want) {
		t.Errorf("routes %v", writer.Routes())
	}
}

func gzipped(b []byte) string {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	_, _ = w.Write(b)
	_ = w.Close()
	return buf.String()
}

func zstded(t *testing.T, b []byte, opts ...zstd.EOption) string {
	t.Helper()
	w, err := zstd.NewWriter(nil, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return string(w.EncodeAll(b, nil))
}

// zstdStreamed does not tell its size, as a streaming client does not.
func zstdStreamed(t *testing.T, b []byte, opts ...zstd.EOption) string {
	t.Helper()
	var buf bytes.Buffer
	w, err := zstd.NewWriter(&buf, opts...)
	if err != nil {
		t.Fatal(err)
	}
	for len(b) > 0 {
		n, err := w.Write(b[:min(len(b), 64<<10)])
		if err != nil {
			t.Fatal(err)
		}
		b = b[n:]
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

func TestBodies(t *testing.T) {
	r := NewRouter()
	r.Handle("POST", "/echo", echo)
	const limit = 1 << 20
	s := start(t, Config{Limits: Limits{BatchBytes: limit}}, r)
	const body = `{"k":7}`
	bomb := append([]byte(`{"k":7}`), bytes.Repeat([]byte{' '}, 64<<20)...)
	exact := append([]byte(body), bytes.Repeat([]byte{' '}, limit-len(body))...)
	for _, c := range []struct {
		name, body string
		status     int
		code       string
		headers    []string
	}{
		{"json", body, 200, "", []string{"Content-Type", "application/json"}},
		{"json with charset", body, 200, "", []string{"Content-Type", "Application/JSON; charset=utf-8"}},
		{"json suffix", body, 200, "", []string{"Content-Type", "application/vnd.akidb+json"}},
		{"untyped", body, 200, "", nil},
		{"as curl -d sends it", body, 200, "", []string{"Content-Type", "application/x-www-form-urlencoded"}},
		{"a form from a browser", body, 415, "unsupported_media_type", []string{"Content-Type", "application/x-www-form-urlencoded", "Origin", "http://elsewhere"}},
		{"untyped from a browser", body, 415, "unsupported_media_type", []string{"Origin", "null"}},
		{"json from a browser", body, 200, "", []string{"Content-Type", "application/json", "Origin", "http://elsewhere"}},
		{"text", body, 415, "unsupported_media_type", []string{"Content-Type", "text/plain"}},
		{"nonsense type", body, 415, "unsupported_media_type", []string{"Content-Type", ";;;"}},
		{"multipart", body, 415, "unsupported_media_type", []string{"Content-Type", "multipart/form-data; boundary=x"}},

		{"gzip", gzipped([]byte(body)), 200, "", []string{"Content-Encoding", "gzip"}},
		{"zstd", zstded(t, []byte(body)), 200, "", []string{"Content-Encoding", "zstd"}},
		{"zstd streamed", zstdStreamed(t, []byte(body)), 200, "", []string{"Content-Encoding", "zstd"}},
		{"identity", body, 200, "", []string{"Content-Encoding", "identity"}},
		{"brotli", body, 415, "unsupported_content_encoding", []string{"Content-Encoding", "br"}},
		{"not gzip", body, 400, "malformed_gzip", []string{"Content-Encoding", "gzip"}},
		{"cut gzip", gzipped([]byte(body))[:20], 400, "malformed_gzip", []string{"Content-Encoding", "gzip"}},
		{"not zstd", body, 400, "malformed_zstd", []string{"Content-Encoding", "zstd"}},
		{"cut zstd", zstded(t, []byte(body))[:10], 400, "malformed_zstd", []string{"Content-Encoding", "zstd"}},

		{"as large as allowed", string(exact), 200, "", nil},
		{"as large as allowed, gzip", gzipped(exact), 200, "", []string{"Content-Encoding", "gzip"}},
		{"as large as allowed, zstd", zstded(t, exact), 200, "", []string{"Content-Encoding", "zstd"}},
		{"one byte more", string(exact) + " ", 413, "body_too_large", nil},
		{"one byte more, gzip", gzipped(append(exact, ' ')), 413, "body_too_large", []string{"Content-Encoding", "gzip"}},
		{"one byte more, zstd", zstded(t, append(exact, ' ')), 413, "body_too_large", []string{"Content-Encoding", "zstd"}},
		{"gzip bomb", gzipped(bomb), 413, "body_too_large", []string{"Content-Encoding", "gzip"}},
		{"zstd bomb", zstded(t, bomb), 413, "body_too_large", []string{"Content-Encoding", "zstd"}},
		{"zstd bomb streamed", zstdStreamed(t, bomb), 413, "body_too_large", []string{"Content-Encoding", "zstd"}},
		{"zstd window", zstdStreamed(t, bomb, zstd.WithWindowSize(64<<20), zstd.WithSingleSegment(false)), 413, "zstd_window_too_large", []string{"Content-Encoding", "zstd"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			// Twice: readers are pooled, and one that failed must serve again.
			for range 2 {
				a := s.do(t, "POST", Base+"/echo", c.body, c.headers...)
				if a.status != c.status || a.error.Code != c.code {
					t.Fatalf("got %d %+v, want %d %s", a.status, a.error, c.status, c.code)
				}
				if a.status == 200 && !strings.Contains(a.body, `"k":7`) {
					t.Errorf("body %s", a.body)
				}
			}
		})
	}
}

// A body far too large is refused before it is read; the client must see the
// answer all the same, although it is still sending.
func TestHugeBodyIsAnswered(t *testing.T) {
	r := NewRouter()
	r.Handle("POST", "/echo", echo)
	s := start(t, Config{Limits: Limits{BatchBytes: 1 << 20}}, r)
	huge := strings.Repeat("x", 16<<20)
	for name, headers := range map[string][]string{"at once": nil, "after 100-continue": {"Expect", "100-continue"}} {
		a := s.do(t, "POST", Base+"/echo", huge, headers...)
		if a.status != 413 || a.error.Code != "body_too_large" {
			t.Errorf("%s: got %d %+v", name, a.status, a.error)
		}
	}
	req, err := http.NewRequest("POST", s.url+Base+"/echo", io.MultiReader(strings.NewReader(huge))) // no length: chunked
	if err != nil {
		t.Fatal(err)
	}
	if a := answerTo(t, req); a.status != 413 || a.error.Code != "body_too_large" {
		t.Errorf("chunked: got %d %+v", a.status, a.error)
	}
}

func TestMalformedHTTPIsAnsweredInOurShape(t *testing.T) {
	s := start(t, Config{}, NewRouter())
	for _, c := range []struct{ name, sent, status, code string }{
		{"garbage", "hello\r\n\r\n", "400", "malformed_http"},
		{"headers", "GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 32<<10) + "\r\n\r\n", "431", "headers_too_large"},
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, c.sent)
		b, err := io.ReadAll(conn)
		conn.Close()
		if err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 "+c.status) || !strings.Contains(string(b), `"`+c.code+`"`) ||
			!strings.Contains(string(b), HeaderRequestID) {
			t.Errorf("%s: %v\n%s", c.name, err, b)
		}
	}
}

func TestDrainLosesNoRequest(t *testing.T) {
	const requests = 8
	arrived, release := make(chan struct{}, requests), make(chan struct{})
	r := NewRouter()
	r.Handle("GET", "/slow", func(ctx *fasthttp.RequestCtx) error {
		work := Context(ctx)
		arrived <- struct{}{}
		<-release
		if err := work.Err(); err != nil {
			return err // draining must not cancel work in flight
		}
		return ok(ctx)
	})
	r.Handle("GET", "/ok", ok)
	s := start(t, Config{}, r)
	s.do(t, "GET", Base+"/ok", "") // leaves an idle connection behind

	statuses := make(chan int, requests)
	for range requests {
		go func() {
			resp, err := (&http.Client{Transport: &http.Transport{}}).Get(s.url + Base + "/slow")
			if err != nil {
				statuses <- 0
				return
			}
			defer resp.Body.Close()
			_, _ = io.Copy(io.Discard, resp.Body)
			if !resp.Close {
				statuses <- -1 // the connection must not be kept
				return
			}
			statuses <- resp.StatusCode
		}()
	}
	for range requests {
		<-arrived
	}
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop() }()
	for { // until the listener is gone
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			break
		}
		conn.Close()
	}
	select {
	case err := <-stopped:
		t.Fatalf("drained with requests in flight: %v", err)
	default:
	}
	close(release)
	for range requests {
		if status := <-statuses; status != 200 {
			t.Errorf("a request in flight got %d", status)
		}
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestDrainGivesUpAfterTheGrace(t *testing.T) {
	arrived, cancelled := make(chan struct{}), make(chan struct{})
	r := NewRouter()
	r.Handle("GET", "/stuck", func(ctx *fasthttp.RequestCtx) error {
		close(arrived)
		<-Context(ctx).Done() // only the end of the grace ends it
		close(cancelled)
		return Context(ctx).Err()
	})
	s, err := NewServer(Config{ShutdownGrace: time.Millisecond}, r.Serve)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, ln) }()
	go func() {
		if resp, err := http.Get("http://" + ln.Addr().String() + Base + "/stuck"); err == nil {
			resp.Body.Close()
		}
	}()
	<-arrived
	cancel()
	if err := <-done; !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "still open") {
		t.Errorf("got %v", err)
	}
	<-cancelled
}

func TestConfigValidate(t *testing.T) {
	_, err := NewServer(Config{ShutdownGrace: -1, ReadTimeout: -1, Limits: Limits{K: -1}}, nil)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"shutdown grace", "read timeout", "limit k"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %s", err, want)
		}
	}
}
