package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
)

// hop is a way from one process to another, which can be bad.
type hop struct {
	t        testing.TB
	address  string // where it begins: host:port
	upstream string // where it leads
	proxy    *toxiproxy.Proxy
}

func newHop(t testing.TB, upstream string) *hop {
	h := &hop{t: t, address: loopback() + ":0", upstream: upstream}
	h.renew()
	t.Cleanup(func() { h.proxy.Stop() })
	return h
}

// URL is where the hop begins.
func (h *hop) URL() string { return "http://" + h.address }

// renew cuts every connection and begins anew with toxics, each a name and the
// attribute it is given.
func (h *hop) renew(toxics ...toxic) {
	h.t.Helper()
	if h.proxy != nil {
		h.proxy.Stop()
	}
	h.proxy = toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()), "hop", h.address, h.upstream)
	h.add(toxics...)
	if err := h.proxy.Start(); err != nil {
		h.t.Fatalf("hop to %s: %v", h.upstream, err)
	}
	h.address = h.proxy.Listen
}

// toxic is one of toxiproxy's.
type toxic struct {
	kind, stream string // the stream is upstream or downstream
	attributes   string // JSON
}

// add makes the connections there are toxic, too.
func (h *hop) add(toxics ...toxic) {
	h.t.Helper()
	for _, x := range toxics {
		text := fmt.Sprintf(`{"type":%q,"stream":%q,"attributes":%s}`, x.kind, x.stream, x.attributes)
		if _, err := h.proxy.Toxics.AddToxicJson(strings.NewReader(text)); err != nil {
			h.t.Fatalf("hop to %s: %s: %v", h.upstream, text, err)
		}
	}
}

// refuse has connections cut and new ones refused.
func (h *hop) refuse() { h.proxy.Stop() }

// reset has every connection reset at its first byte.
func (h *hop) reset() {
	h.renew(toxic{"reset_peer", "upstream", `{"timeout":0}`}, toxic{"reset_peer", "downstream", `{"timeout":0}`})
}

// swallow is a black hole: nothing that is sent arrives, on any connection.
func (h *hop) swallow() {
	h.add(toxic{"timeout", "upstream", `{"timeout":0}`}, toxic{"timeout", "downstream", `{"timeout":0}`})
}

// delay has every answer come late.
func (h *hop) delay(by time.Duration) {
	h.add(toxic{"latency", "downstream", fmt.Sprintf(`{"latency":%d}`, by.Milliseconds())})
}

// throttle lets what is sent and what is answered pass with so many KB a second.
func (h *hop) throttle(kilobytes int) {
	rate := fmt.Sprintf(`{"rate":%d}`, kilobytes)
	h.add(toxic{"bandwidth", "upstream", rate}, toxic{"bandwidth", "downstream", rate})
}

// truncate cuts every connection after so many bytes of answers.
func (h *hop) truncate(bytes int) {
	h.renew(toxic{"limit_data", "downstream", fmt.Sprintf(`{"bytes":%d}`, bytes)})
}

// heal cuts every connection; what comes then is as if nothing had been.
func (h *hop) heal() { h.renew() }

// wire carries requests to an HTTP server and can lose them, or answers, one by
// one. Nothing is set while requests come but by set.
type wire struct {
	server *httptest.Server
	url    func() string // of the server behind it, which may move

	mu       sync.Mutex
	rules    rules
	answered int // requests that the server behind it answered
	cut      int // of those, how many answers were lost
}

// rules say what becomes of requests. Both may block; nil passes everything.
type rules struct {
	before func(*http.Request) bool // true: the connection is cut instead
	after  func(*http.Request) bool // true: it was answered, and the connection is cut instead of that
}

func newWire(t testing.TB, to func() string) *wire {
	w := &wire{url: to}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			target, err := url.Parse(w.url())
			if err != nil {
				panic(err)
			}
			r.Out.URL.Scheme, r.Out.URL.Host = target.Scheme, target.Host // and Host stays, it is signed
		},
		Transport:      &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64, DialContext: dialer.DialContext},
		ModifyResponse: w.received,
		ErrorLog:       log.New(io.Discard, "", 0),
		ErrorHandler:   func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	w.server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if rule := w.now().before; rule != nil && rule(r) {
			panic(http.ErrAbortHandler)
		}
		proxy.ServeHTTP(rw, r)
	}))
	t.Cleanup(w.server.Close)
	return w
}

func (w *wire) now() rules { w.mu.Lock(); defer w.mu.Unlock(); return w.rules }

func (w *wire) set(r rules) { w.mu.Lock(); defer w.mu.Unlock(); w.rules = r }

// passed is how many requests were answered, and how many of the answers lost.
func (w *wire) passed() (answered, cut int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.answered, w.cut
}

var errCut = errors.New("the answer is lost")

func (w *wire) received(resp *http.Response) error {
	rule := w.now().after
	lost := rule != nil && rule(resp.Request)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answered++
	if lost {
		w.cut++
		return errCut
	}
	return nil
}

// Every fault does what its name says, to those who connect while it is there,
// and nothing is left of it when it is healed.
func TestHop(t *testing.T) {
	t.Parallel()
	const body = 64 << 10
	asked := make(chan string, 100)
	w := newWire(t, httptestServer(t, func(rw http.ResponseWriter, r *http.Request) {
		asked <- r.Method
		_, _ = rw.Write(make([]byte, body))
	}))
	h := newHop(t, strings.TrimPrefix(w.server.URL, "http://"))
	client := &http.Client{Transport: &http.Transport{}}
	get := func(method string, within time.Duration) (read int, err error) {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, method, h.URL(), nil)
		require.NoError(t, err)
		resp, err := client.Do(req)
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		return len(text), err
	}
	timedOut := func(err error) bool { return errors.Is(err, context.DeadlineExceeded) }
	const soon = 300 * time.Millisecond
	for _, c := range []struct {
		name    string
		fault   func()
		anew    bool // it is for new connections
		within  time.Duration
		arrives bool // the request
		want    func(read int, err error) bool
	}{
		{"refuse", h.refuse, true, hang, false, func(_ int, err error) bool { return neverConnected(err) }},
		{"reset", h.reset, true, hang, false, func(_ int, err error) bool { return err != nil && !neverConnected(err) && !timedOut(err) }},
		{"swallow", h.swallow, false, soon, false, func(_ int, err error) bool { return timedOut(err) }},
		{"delay", func() { h.delay(time.Minute) }, false, soon, true, func(_ int, err error) bool { return timedOut(err) }},
		{"throttle", func() { h.throttle(10) }, false, soon, true, func(read int, err error) bool { return timedOut(err) && read < body }},
		{"truncate", func() { h.truncate(1000) }, true, hang, true, func(read int, err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) && read < 1000 }},
		{"lose requests", func() { w.set(rules{before: isPut}) }, false, hang, false, func(_ int, err error) bool { return err != nil && !timedOut(err) }},
		{"lose answers", func() { w.set(rules{after: isPut}) }, false, hang, true, func(_ int, err error) bool { return err != nil && !timedOut(err) }},
	} {
		_, err := get("GET", hang) // the connection that it stays on
		require.NoError(t, err, c.name)
		require.Equal(t, "GET", <-asked)
		c.fault()
		if c.anew {
			client.CloseIdleConnections() // which were cut
		}
		for range 2 {
			read, err := get("PUT", c.within)
			require.True(t, c.want(read, err), "%s: %d bytes, %v", c.name, read, err)
			if c.arrives {
				require.Equal(t, "PUT", <-asked, c.name)
			}
		}
		w.set(rules{})
		h.heal()
		read, err := get("GET", hang)
		require.NoError(t, err, c.name)
		require.Equal(t, body, read, c.name)
		require.Equal(t, "GET", <-asked, c.name)
		require.Empty(t, asked, c.name)
	}
	answered, cut := w.passed()
	require.Equal(t, 2, cut)
	require.Greater(t, answered, cut)
	_, err := net.Dial("tcp", h.address)
	require.NoError(t, err)
}

func isPut(r *http.Request) bool { return r.Method == "PUT" }

func httptestServer(t *testing.T, handle http.HandlerFunc) func() string {
	s := httptest.NewServer(handle)
	t.Cleanup(s.Close)
	return func() string { return s.URL }
}
