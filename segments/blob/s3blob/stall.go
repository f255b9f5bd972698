package s3blob

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/akidb/akidb/segments/blob"
)

// defaultStall is for Config.Stall.
const defaultStall = 3 * time.Second

// minBytesPerSecond is how fast a body has to move. Slower is a connection that
// is better given up: CURRENT would take it minutes.
const minBytesPerSecond = 16 << 10

// watching ends requests that do not get on. A total limit would have to be
// long enough for the largest body on the slowest line, and a server that takes
// connections and answers none would hold everything up for as long.
type watching struct {
	next  http.RoundTripper
	stall time.Duration
}

// answering gives the server more time to answer the requests of ctx: a second
// for every MiB that it has to move before it can.
func answering(ctx context.Context, size int64) context.Context {
	return context.WithValue(ctx, answeringKey{}, size)
}

type answeringKey struct{}

// RoundTrip implements http.RoundTripper.
func (t watching) RoundTrip(r *http.Request) (*http.Response, error) {
	size, _ := r.Context().Value(answeringKey{}).(int64)
	ctx, cancel := context.WithCancel(r.Context())
	w := &watch{cancel: cancel, stall: t.stall, toAnswer: t.stall + time.Duration(max(size, r.ContentLength)>>20)*time.Second}
	w.timer = time.AfterFunc(time.Hour, w.expire)
	r = r.WithContext(ctx)
	if r.Body != nil && r.Body != http.NoBody {
		w.allow(t.stall)
		r.Body = &watched{ReadCloser: r.Body, w: w, left: r.ContentLength}
	} else {
		w.allow(w.toAnswer)
	}
	response, err := t.next.RoundTrip(r)
	if err != nil {
		w.end()
		return nil, w.explain(err)
	}
	w.allow(t.stall)
	response.Body = &answer{watched{ReadCloser: response.Body, w: w, left: response.ContentLength}}
	return response, nil
}

// watch is the patience left with one request.
type watch struct {
	cancel          context.CancelFunc
	stall, toAnswer time.Duration

	mu      sync.Mutex
	timer   *time.Timer
	until   time.Time
	ended   bool
	expired bool
}

// allow starts anew, with all of the patience there is.
func (w *watch) allow(patience time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.set(time.Now().Add(patience))
}

// moved gives patience back for n bytes.
func (w *watch) moved(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	earned := w.until.Add(time.Duration(n) * time.Second / minBytesPerSecond)
	if most := time.Now().Add(w.stall); earned.After(most) {
		earned = most
	}
	w.set(earned)
}

func (w *watch) set(until time.Time) {
	if !w.ended {
		w.until = until
		w.timer.Reset(time.Until(until))
	}
}

func (w *watch) expire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ended && !time.Now().Before(w.until) { // else it was set again meanwhile
		w.ended, w.expired = true, true
		w.cancel()
	}
}

// end stops watching.
func (w *watch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	w.timer.Stop()
	w.cancel()
}

// explain returns err, or what really happened if the request was given up.
func (w *watch) explain(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil || !w.expired {
		return err
	}
	return fmt.Errorf("%w: no progress for %v or longer", blob.ErrUnavailable, w.stall)
}

// watched is the body of a request: once it was sent, the server has to answer.
type watched struct {
	io.ReadCloser
	w    *watch
	left int64
}

func (b *watched) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	if b.left <= 0 {
		b.w.allow(b.w.toAnswer)
	} else {
		b.w.moved(n)
	}
	return n, err
}

// answer is the body of a response.
type answer struct{ watched }

func (b *answer) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.w.moved(n)
	if err == io.EOF {
		return n, err
	}
	return n, b.w.explain(err)
}

func (b *answer) Close() error {
	err := b.ReadCloser.Close()
	b.w.end()
	return err
}
