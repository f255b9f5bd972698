package client_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/akidb/akidb/internal/client"
)

// pod is a server that answers whatever it is told to.
type pod struct {
	*httptest.Server
	asked  atomic.Int64
	answer atomic.Pointer[func(http.ResponseWriter)]
}

func newPod(t *testing.T) *pod {
	p := &pod{}
	p.well()
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		p.asked.Add(1)
		(*p.answer.Load())(w)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *pod) does(f func(http.ResponseWriter)) { p.answer.Store(&f) }

func (p *pod) well() { p.does(func(w http.ResponseWriter) { _, _ = w.Write([]byte(`{"count":1}`)) }) }

// hangsUp cuts the connection instead of an answer.
func (p *pod) hangsUp() { p.does(func(http.ResponseWriter) { panic(http.ErrAbortHandler) }) }

func (p *pod) refuses(status int, applied string) {
	p.does(func(w http.ResponseWriter) {
		w.Header().Set("Retry-After", "3")
		w.Header().Set("X-AkiDB-Write-Applied", applied)
		w.WriteHeader(status)
		_, _ = fmt.Fprint(w, `{"error":{"code":"some","message":"no"}}`)
	})
}

func (p *pod) take() int64 { return p.asked.Swap(0) }

// A read goes on to the next server at once; the one that failed rests, and is
// asked again when it has.
func TestReadsGoToTheNextServer(t *testing.T) {
	for name, fail := range map[string]func(*pod){
		"hangs up":    (*pod).hangsUp,
		"unavailable": func(p *pod) { p.refuses(503, "") },
		"bad gateway": func(p *pod) { p.refuses(502, "") },
		"is gone":     func(p *pod) { p.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			a, b := newPod(t), newPod(t)
			c, clock := connect(t, a.URL+", "+b.URL+"/api/v1", nil)
			read := func() error { _, err := c.GetCollection(t.Context(), "x"); return err }
			require.NoError(t, read())
			require.Equal(t, []int64{1, 0}, []int64{a.take(), b.take()})
			fail(a)
			require.NoError(t, read())
			require.NoError(t, read())
			require.LessOrEqual(t, a.take(), int64(2), "once, or twice where the transport itself tries again")
			require.EqualValues(t, 2, b.take())
			require.Empty(t, clock.pauses)

			clock.now = clock.now.Add(time.Minute) // a has rested; b is in use, and well
			require.NoError(t, read())
			require.EqualValues(t, 1, b.take())
			fail(b)
			if name == "is gone" {
				c2, _ := connect(t, a.URL+","+b.URL, func(config *client.Config) { config.RetryFor = -1 })
				_, err := c2.GetCollection(t.Context(), "x")
				require.Error(t, err)
				return
			}
			a.well()
			require.NoError(t, read())
			require.EqualValues(t, 1, a.take())
			require.Empty(t, clock.pauses)
		})
	}
}

// When all fail a call waits as long as the least of them asks, and tries all again.
func TestAllServersFail(t *testing.T) {
	a, b := newPod(t), newPod(t)
	a.refuses(503, "")
	b.refuses(503, "")
	c, clock := connect(t, a.URL+","+b.URL, func(config *client.Config) { config.RetryFor = 10 * time.Second })
	_, err := c.GetCollection(t.Context(), "x")
	require.ErrorContains(t, err, "503")
	require.NotEmpty(t, clock.pauses)
	for _, pause := range clock.pauses {
		require.GreaterOrEqual(t, pause, 3*time.Second)
	}
	require.EqualValues(t, len(clock.pauses)+1, a.take())
	require.EqualValues(t, len(clock.pauses)+1, b.take())
}

// A write that may have been applied is never sent to another server; one that
// certainly was not is, unless the writer behind them has no room.
func TestWritesAreNotRepeatedBlindly(t *testing.T) {
	drop := func(c *client.Client) error { return c.DeleteCollection(t.Context(), "x") }
	for name, v := range map[string]struct {
		fail  func(*pod)
		other int64 // requests that the other server gets
	}{
		"hangs up":    {(*pod).hangsUp, 0},
		"unknown":     {func(p *pod) { p.refuses(503, "unknown") }, 0},
		"not applied": {func(p *pod) { p.refuses(503, "false") }, 1},
		"no room":     {func(p *pod) { p.refuses(429, "false") }, 0},
		"never sent":  {func(p *pod) { p.Close() }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := newPod(t), newPod(t)
			c, _ := connect(t, a.URL+","+b.URL, func(config *client.Config) { config.RetryFor = -1 })
			v.fail(a)
			err := drop(c)
			require.Equal(t, v.other == 0, err != nil, "%v", err)
			require.Equal(t, v.other, b.take())
		})
	}
}

func TestServerAddresses(t *testing.T) {
	_, err := client.New(client.Config{URL: "http://a:1,b:2,ftp://c"})
	require.ErrorContains(t, err, `"b:2"`)
	require.ErrorContains(t, err, `"ftp://c"`)
	require.Equal(t, 2, strings.Count(err.Error(), "want http://host:port"))
}
