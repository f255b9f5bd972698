package query

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/valyala/fasthttp"

	"github.com/akidb/akidb/internal/httpapi"
)

// serveWriter answers like a writer process on a real socket.
func serveWriter(t *testing.T, h fasthttp.RequestHandler) *HTTPWriter {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &fasthttp.Server{Handler: h, NoDefaultServerHeader: true}
	var served sync.WaitGroup
	served.Go(func() { _ = server.Serve(ln) })
	w, err := NewHTTPWriter("http://" + ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.Close()
		if err := server.Shutdown(); err != nil {
			t.Error(err)
		}
		served.Wait()
	})
	return w
}

func forward(w *HTTPWriter) (*fasthttp.RequestCtx, error) {
	var ctx fasthttp.RequestCtx
	ctx.Request.Header.SetMethod("POST")
	ctx.Request.SetRequestURI("/api/v1/collections/a%2Fb/vectors?x=1")
	ctx.Request.Header.Set("Idempotency-Key", "k")
	ctx.Request.SetBodyString(`{"id":"1"}`)
	return &ctx, w.Forward(&ctx)
}

func TestForwardPassesRequestAndAnswer(t *testing.T) {
	w := serveWriter(t, func(ctx *fasthttp.RequestCtx) {
		if got := string(ctx.RequestURI()); got != "/api/v1/collections/a%2Fb/vectors?x=1" {
			t.Errorf("uri %q", got)
		}
		if string(ctx.Request.Header.Peek("Idempotency-Key")) != "k" || string(ctx.PostBody()) != `{"id":"1"}` {
			t.Errorf("headers or body were not passed on: %s", &ctx.Request)
		}
		ctx.SetStatusCode(422)
		ctx.Response.Header.Set("X-AkiDB-Write-Applied", "false")
		ctx.SetBodyString("body")
	})
	ctx, err := forward(w)
	if err != nil || ctx.Response.StatusCode() != 422 || string(ctx.Response.Body()) != "body" ||
		string(ctx.Response.Header.Peek("X-AkiDB-Write-Applied")) != "false" {
		t.Fatalf("%v, %s", err, &ctx.Response)
	}
}

func TestForwardSaysWhetherTheWriteWasSent(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody, err := NewHTTPWriter("http://" + ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	hangsUp := serveWriter(t, func(ctx *fasthttp.RequestCtx) { _ = ctx.Conn().Close() })
	for name, c := range map[string]struct {
		w    *HTTPWriter
		want string
	}{"nobody listens": {nobody, httpapi.NotApplied}, "hangs up after the request": {hangsUp, httpapi.UnknownApplied}} {
		_, err := forward(c.w)
		e, ok := errors.AsType[*httpapi.Error](err)
		if !ok || e.Status != 503 || e.Applied != c.want {
			t.Errorf("%s: %v, want 503 with applied %q", name, err, c.want)
		}
	}
}

func TestTailOverHTTP(t *testing.T) {
	w := serveWriter(t, func(ctx *fasthttp.RequestCtx) {
		switch string(ctx.RequestURI()) {
		case "/internal/v1/collections/C/tail?after=7":
			ctx.SetBodyString("delta")
		case "/internal/v1/collections/broken/tail?after=7":
			ctx.SetStatusCode(500)
		default:
			ctx.SetStatusCode(404)
		}
	})
	if b, err := w.Tail(t.Context(), "C", 7); err != nil || string(b) != "delta" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := w.Tail(t.Context(), "other", 7); !errors.Is(err, ErrNoCollection) {
		t.Errorf("unknown collection: %v", err)
	}
	if _, err := w.Tail(t.Context(), "broken", 7); err == nil || errors.Is(err, ErrNoCollection) {
		t.Errorf("broken writer: %v", err)
	}
}

// TestARestartedWriterIsFoundAgain: connections of the process that was there
// before look alive until they are used.
func TestARestartedWriterIsFoundAgain(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	start := func(ln net.Listener) (stop func()) {
		server := &fasthttp.Server{Handler: func(ctx *fasthttp.RequestCtx) { ctx.SetBodyString("delta") }, CloseOnShutdown: true}
		var served sync.WaitGroup
		served.Go(func() { _ = server.Serve(ln) })
		return func() {
			if err := server.Shutdown(); err != nil {
				t.Error(err)
			}
			served.Wait()
		}
	}
	stop := start(ln)
	w, err := NewHTTPWriter("http://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var together sync.WaitGroup
	for range 8 { // several connections are kept
		together.Go(func() {
			if _, err := w.Tail(t.Context(), "C", 0); err != nil {
				t.Error(err)
			}
		})
	}
	together.Wait()
	stop()
	if ln, err = net.Listen("tcp", addr); err != nil {
		t.Fatal(err)
	}
	defer start(ln)()
	if _, err := w.Tail(t.Context(), "C", 0); err != nil {
		t.Errorf("tail after a restart: %v", err)
	}
	if _, err := forward(w); err != nil {
		t.Errorf("write after a restart: %v", err)
	}
}

func TestWriterURLs(t *testing.T) {
	for url, ok := range map[string]bool{
		"http://writer:8080": true, "https://writer": true, "http://writer/": true,
		"": false, "writer:8080": false, "http://": false, "ftp://writer": false, "http://writer/path": false,
	} {
		if _, err := NewHTTPWriter(url); (err == nil) != ok {
			t.Errorf("%q: %v", url, err)
		}
	}
}

// TestRoundsBeginAfterTheyAreAskedFor: callers that arrive during a run share
// the next one; none is content with the one that had begun before it asked.
func TestRoundsBeginAfterTheyAreAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r rounds
		release := make(chan struct{})
		runs := 0
		fn := func(context.Context) error {
			runs++
			<-release
			return nil
		}
		var early, late sync.WaitGroup
		early.Go(func() { _ = r.do(t.Context(), t.Context(), fn) })
		synctest.Wait() // the first run waits to be released
		for range 10 {
			late.Go(func() { _ = r.do(t.Context(), t.Context(), fn) })
		}
		synctest.Wait()
		if runs != 1 {
			t.Fatalf("%d runs at a time, want 1", runs)
		}
		release <- struct{}{}
		early.Wait()
		synctest.Wait()
		if runs != 2 {
			t.Fatalf("%d runs after the first ended, want a second for all who came meanwhile", runs)
		}
		release <- struct{}{}
		late.Wait()
		if runs != 2 {
			t.Fatalf("%d runs for one early and ten late callers, want 2", runs)
		}
	})
}

func TestRoundsOutliveACaller(t *testing.T) {
	var r rounds
	began, release := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("caller gone")
	var err error
	var caller sync.WaitGroup
	caller.Go(func() {
		err = r.do(ctx, t.Context(), func(run context.Context) error {
			close(began)
			<-release
			return run.Err()
		})
	})
	<-began
	cancel(gone)
	caller.Wait()
	if !errors.Is(err, gone) {
		t.Fatalf("cancelled caller got %v", err)
	}
	mine := r.running
	close(release)
	<-mine.done
	if mine.err != nil {
		t.Fatalf("the run ended with its caller: %v", mine.err)
	}
}
