package s3blob

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akidb/segments/blob"
)

// server is one that takes up to takes bytes of a request at a speed, answers
// after a while, if ever, and sends up to sends bytes at a speed.
type server struct {
	takes, sends           int
	takesEvery, sendsEvery time.Duration // for each KiB
	answersAfter           time.Duration
}

const never = 24 * time.Hour

func (s server) RoundTrip(r *http.Request) (*http.Response, error) {
	chunk := make([]byte, 1<<10)
	for taken := 0; r.Body != nil; {
		if taken >= s.takes {
			if err := pause(r.Context(), never); err != nil {
				return nil, err
			}
		}
		if err := pause(r.Context(), s.takesEvery); err != nil {
			return nil, err
		}
		n, err := r.Body.Read(chunk)
		taken += n
		if err == io.EOF {
			break
		}
	}
	if err := pause(r.Context(), s.answersAfter); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: 200, Body: &sending{s, r.Context()}, ContentLength: -1}, nil
}

// sending is the body of an answer, which stops or ends after s.sends bytes.
type sending struct {
	s   server
	ctx context.Context
}

func (b *sending) Read(p []byte) (int, error) {
	if b.s.sends == 0 {
		return 0, io.EOF
	}
	if b.s.sends < 0 {
		return 0, pause(b.ctx, never)
	}
	n := min(len(p), 1<<10, b.s.sends)
	if err := pause(b.ctx, b.s.sendsEvery*time.Duration(n)/(1<<10)); err != nil {
		return 0, err
	}
	b.s.sends -= n
	if b.s.sends == 1 { // an odd one says: and then nothing
		b.s.sends = -1
	}
	return n, nil
}

func (b *sending) Close() error { return nil }

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestStall(t *testing.T) {
	const stall = 3 * time.Second
	for _, c := range []struct {
		name      string
		server    server
		body      int
		atLeast   time.Duration // of what it takes
		atMost    time.Duration
		gettingOn bool
	}{
		{"no answer", server{answersAfter: never}, 0, stall, stall, false},
		{"a slow answer", server{answersAfter: stall - 1}, 0, 0, stall, true},
		{"no answer to a small put", server{takes: 9 << 10, answersAfter: never}, 4 << 10, stall, stall, false},
		{"no answer to a put that fits a socket", server{takes: 9 << 20, answersAfter: never}, 2 << 20, stall + 2*time.Second, stall + 2*time.Second, false},
		{"a put is taken in part", server{takes: 2 << 20, answersAfter: never}, 64 << 20, stall, stall, false},
		{"a put is taken slowly", server{takes: 65 << 20, takesEvery: 10 * time.Millisecond, answersAfter: 60 * time.Second}, 60 << 20, 600 * time.Second, 700 * time.Second, true},
		{"a put is taken too slowly", server{takes: 65 << 20, takesEvery: 100 * time.Millisecond}, 1 << 20, stall, 10 * time.Second, false},
		{"much is sent slowly", server{sends: 8 << 20, sendsEvery: 50 * time.Millisecond}, 0, 400 * time.Second, 500 * time.Second, true},
		{"much is sent, and then nothing", server{sends: 8<<20 + 1}, 0, stall, stall + time.Second, false},
		{"bytes come one by one", server{sends: 4 << 10, sendsEvery: 1000 * time.Second}, 0, stall, 2 * stall, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var body io.Reader
				if c.body > 0 {
					body = bytes.NewReader(make([]byte, c.body))
				}
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://store/key", body)
				if err != nil {
					t.Fatal(err)
				}
				begin := time.Now()
				response, err := watching{c.server, stall}.RoundTrip(r)
				if err == nil {
					_, err = io.Copy(io.Discard, response.Body)
					response.Body.Close()
				}
				if (err == nil) != c.gettingOn || err != nil && !errors.Is(err, blob.ErrUnavailable) {
					t.Errorf("got %v", err)
				}
				if took := time.Since(begin); took < c.atLeast || took > c.atMost {
					t.Errorf("took %v, want %v to %v", took, c.atLeast, c.atMost)
				}
			})
		})
	}
}

// A caller that gives up is told of that, and the server is not blamed.
func TestStallAndCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://store/key", nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = watching{server{answersAfter: never}, 3 * time.Second}.RoundTrip(r)
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, blob.ErrUnavailable) {
			t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
		}
	})
}

// The time to answer depends on what the server has to move, if it is told.
func TestAnswering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := http.NewRequestWithContext(answering(t.Context(), 100<<20), http.MethodPost, "http://store/key", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := watching{server{answersAfter: 102 * time.Second}, 3 * time.Second}.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
	})
}

// blackHole is a store behind a server that takes requests and answers none.
type blackHole struct {
	blob.Store
	transport http.RoundTripper
}

func (s blackHole) Get(ctx context.Context, _ string) ([]byte, blob.Version, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://store/key", nil)
	if err == nil {
		_, err = s.transport.RoundTrip(r)
	}
	return nil, "", err
}

// One caller, one call at a time, is enough for the breaker to open within ten
// seconds.
func TestBlackHoleOpensBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := blob.Guard(blackHole{transport: watching{server{answersAfter: never}, defaultStall}}, blob.GuardConfig{})
		begin := time.Now()
		for g.State()[0].State != blob.Open {
			if _, _, err := g.Get(t.Context(), "key"); !errors.Is(err, blob.ErrUnavailable) {
				t.Fatal(err)
			}
		}
		if took := time.Since(begin); took >= 10*time.Second {
			t.Errorf("the breaker opened after %v", took)
		}
	})
}
