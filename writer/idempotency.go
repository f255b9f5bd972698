package writer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/writer/wal"
)

// digest is the SHA-256 of a request: what it asked and of what.
type digest = [sha256.Size]byte

// window remembers what requests with an idempotency key were answered, the
// last so many of a collection. The log carries key and digest of each, so that
// after a restart the window reaches back as far as the log does: to the last
// flush, at least. Requests that changed nothing are remembered by this process
// only.
type window struct {
	limit int

	mu      sync.Mutex
	entries map[string]*remembered
	oldest  []string // keys that have an answer, in the order they got it
}

type remembered struct {
	digest digest
	done   chan struct{} // closed when answer is there, or the request failed
	ok     bool          // answer is there
	answer answer
}

func newWindow(limit int) *window {
	return &window{limit: limit, entries: map[string]*remembered{}}
}

// once runs do unless a request with this key was answered before; then the
// answer is that one. A second request waits for the first, and does not know
// what became of it when it waits no longer. Without a key do runs.
func (c *collection) once(ctx context.Context, req request, do func() (answer, error)) (answer, error) {
	key, d := req.key, req.digest
	if key == "" {
		return do()
	}
	for {
		r, first := c.keys.begin(key, d)
		if r.digest != d {
			return answer{}, httpapi.Unprocessable("idempotency_key_reused", req.keyName,
				"this key came before with another request").WithHint("use a new key for a new request")
		}
		if first {
			a, err := do()
			c.keys.end(key, d, a, err)
			return a, err
		}
		select {
		case <-r.done:
		case <-ctx.Done():
			return answer{}, fmt.Errorf("%w: wait for the first request with this key: %w", wal.ErrUnknown, context.Cause(ctx))
		case <-c.w.done:
			return answer{}, fmt.Errorf("%w: wait for the first request with this key: %w", wal.ErrUnknown, errStopped)
		}
		if r.ok {
			return r.answer, nil
		}
	}
}

// begin returns what is known of key; first says that it is nothing, and the
// caller must end what it has begun.
func (w *window) begin(key string, d digest) (r *remembered, first bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r := w.entries[key]; r != nil {
		return r, false
	}
	r = &remembered{digest: d, done: make(chan struct{})}
	w.entries[key] = r
	return r, true
}

// put records an answer: from the log, in the moment the write is applied.
func (w *window) put(key string, d digest, a answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.settle(key, d, a)
}

func (w *window) settle(key string, d digest, a answer) {
	r := w.entries[key]
	if r == nil {
		r = &remembered{digest: d, done: make(chan struct{})}
		w.entries[key] = r
	}
	if r.ok {
		return
	}
	r.ok, r.answer = true, a
	close(r.done)
	w.oldest = append(w.oldest, key)
	if len(w.oldest) > w.limit {
		delete(w.entries, w.oldest[0])
		w.oldest = w.oldest[1:]
	}
}

// end is what the first request does at its end. A failure makes room for
// another try, unless the record may still be applied: then the key stays taken
// until the log has settled it.
func (w *window) end(key string, d digest, a answer, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.entries[key]
	switch {
	case err == nil:
		w.settle(key, d, a)
	case r == nil || r.ok || errors.Is(err, wal.ErrUnknown):
	default:
		delete(w.entries, key)
		close(r.done)
	}
}
