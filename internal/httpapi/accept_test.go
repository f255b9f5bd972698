package httpapi

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// rush has clients that connect anew for every request, until nobody listens,
// and returns how many requests were answered and how many were lost.
func rush(address string, enough int64, stop func()) (answered, lost int64) {
	var done, gone atomic.Int64
	var clients sync.WaitGroup
	for range 16 {
		clients.Go(func() {
			for {
				// Abruptly closed, or thousands of ports would be waited for.
				c, err := net.Dial("tcp", address)
				if err != nil {
					return
				}
				_ = c.(*net.TCPConn).SetLinger(0)
				_ = c.SetDeadline(time.Now().Add(time.Minute))
				_, err = io.WriteString(c, "GET /api/v1/ok HTTP/1.1\r\nHost: a\r\n\r\n")
				first := make([]byte, 12)
				if err == nil {
					_, err = io.ReadFull(c, first)
				}
				_ = c.Close()
				if err != nil || !strings.HasSuffix(string(first), "200") {
					gone.Add(1)
				} else if done.Add(1) == enough {
					go stop()
				}
			}
		})
	}
	clients.Wait()
	return done.Load(), gone.Load()
}

// Whoever has connected to a server that drains is answered, also when it had
// not accepted the connection yet.
func TestDrainAnswersWhoHasConnected(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("SKIPPED: only on Linux connections can be refused before they are made")
	}
	total := int64(0)
	for range 5 {
		r := NewRouter()
		r.Handle("GET", "/ok", ok)
		s := start(t, Config{}, r)
		answered, lost := rush(strings.TrimPrefix(s.url, "http://"), 300, func() { _ = s.stop() })
		if lost > 0 {
			t.Errorf("%d requests were lost, %d answered", lost, answered)
		}
		if err := s.stop(); err != nil {
			t.Error(err)
		}
		total += answered
	}
	t.Logf("%d requests, each on its own connection", total)
}

// A listener that is just closed resets connections that were not accepted; one
// that has stopped accepting has none.
func TestStopAccepting(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("SKIPPED: only on Linux connections can be refused before they are made")
	}
	for _, stopFirst := range []bool{false, true} {
		ln, err := Listen(t.Context(), "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		waiting, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		stopped := make(chan struct{})
		if stopFirst {
			go func() { StopAccepting(context.Background(), ln); close(stopped) }()
			if n := unaccepted(ln); n != 1 {
				t.Errorf("%d connections wait, want 1", n)
			}
			c, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			<-stopped
			_, _ = io.WriteString(c, "hello")
			_ = c.Close()
			short := net.Dialer{Timeout: 50 * time.Millisecond}
			if c, err := short.Dial("tcp", ln.Addr().String()); err == nil {
				t.Error("a new connection was made")
				_ = c.Close()
			}
		}
		_ = ln.Close()
		got, err := io.ReadAll(waiting)
		if stopFirst && (err != nil || string(got) != "hello") {
			t.Errorf("the connection that waited got %q, %v", got, err)
		}
		if !stopFirst && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the connection that waited got %q, %v; want a reset, or this is no test", got, err)
		}
		_ = waiting.Close()
	}
}

// One connection too many is told so in the shape of all errors, and whoever has
// one keeps it.
func TestConnectionsAreBounded(t *testing.T) {
	r := NewRouter()
	r.Handle("GET", "/ok", ok)
	s := start(t, Config{Connections: 2}, r)
	client := func() *http.Client { return &http.Client{Transport: &http.Transport{}} }
	get := func(c *http.Client) (int, string) {
		t.Helper()
		resp, err := c.Get(s.url + Base + "/ok")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode == 503 && (resp.Header.Get("Retry-After") != "1" || resp.Header.Get("X-Request-Id") == "" || !strings.Contains(string(text), `"overloaded"`)) {
			t.Errorf("%v %s", resp.Header, text)
		}
		return resp.StatusCode, string(text)
	}
	a, b, c := client(), client(), client()
	for range 3 {
		for _, x := range []*http.Client{a, b} {
			if status, text := get(x); status != 200 {
				t.Errorf("%d %s", status, text)
			}
		}
		if status, text := get(c); status != 503 {
			t.Errorf("%d %s, want one connection too many", status, text)
		}
	}
	a.CloseIdleConnections()
	for status, _ := get(c); status != 200; status, _ = get(c) { // until the server has noticed
	}
	b.CloseIdleConnections()
	c.CloseIdleConnections()
}
