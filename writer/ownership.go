package writer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/akidb/akidb/segments/manifest"
	"github.com/akidb/akidb/writer/wal"
)

// ownership keeps a Writer that was paused, while its collections were given to
// another, from acknowledging anything more: its log takes writes that nobody
// will ever see.
//
// A write is acknowledged only if a look at CLUSTER.json that began less than
// lookFresh before did not find another owner. It is the beginning that counts,
// since what a look found was true no earlier. Looks are made in the background
// while writes come, so that an acknowledgement waits for one only after a
// pause, of the process or of the writes. A store that does not answer stops
// nothing: the write is durable in a log that, as far as anybody can tell, is
// the owner's. A takeover waits for longer than lookFresh before it gives the
// collections away, so nothing is acknowledged after it that it did not see.
//
// What is left is the moment between the check and the answer's way into the
// socket: a process that is stopped right there says when it goes on what was
// true when it was stopped.
type ownership struct {
	w       *Writer
	timeout time.Duration // of a look

	last   atomic.Pointer[time.Time] // when the newest look that ended began
	writes atomic.Bool               // there were writes since one was begun

	mu     sync.Mutex
	flight *look // under way
}

// Looks begin so often, and are given up so soon, that the one before is still
// fresh when the next has ended.
const (
	lookEvery   = time.Second
	lookTimeout = 700 * time.Millisecond
	lookFresh   = 2 * time.Second
)

// look is one read of CLUSTER.json.
type look struct{ done chan struct{} }

func newOwnership(w *Writer) *ownership { return &ownership{w: w, timeout: lookTimeout} }

// age is how long ago a moment was, by whichever clock says more: the monotonic
// one stands still while the machine sleeps.
func age(now, then time.Time) time.Duration {
	return max(now.Sub(then), now.Round(0).Sub(then.Round(0)))
}

// fresh reports whether a write may be acknowledged.
func (o *ownership) fresh() bool {
	last := o.last.Load()
	return last != nil && age(o.w.cfg.Now(), *last) < lookFresh
}

// ended records that a look was made which began then.
func (o *ownership) ended(began time.Time) { o.last.Store(&began) }

// expect says that an acknowledgement will be asked for: if that will take a
// look, it may as well begin.
func (o *ownership) expect() {
	o.writes.Store(true)
	if !o.fresh() {
		o.look()
	}
}

// confirm returns nil when a write that was applied may be acknowledged. Any
// error is a wal.ErrUnknown: the log has the write, and who has the log's
// collections is not known, or somebody else.
func (o *ownership) confirm(ctx context.Context) error {
	for {
		if err := o.w.Err(); err != nil {
			return fmt.Errorf("%w: %w", wal.ErrUnknown, err)
		}
		if o.fresh() {
			return nil
		}
		// One that has been under way for long decides nothing when it ends.
		l := o.look()
		if l == nil {
			return fmt.Errorf("%w: %w", wal.ErrUnknown, errStopped)
		}
		select {
		case <-l.done:
		case <-ctx.Done():
			return fmt.Errorf("%w: wait for proof of ownership: %w", wal.ErrUnknown, context.Cause(ctx))
		}
	}
}

// look returns the look under way, or begins one; nil when the Writer is closed.
func (o *ownership) look() *look {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.flight != nil {
		return o.flight
	}
	l, began := &look{make(chan struct{})}, o.w.cfg.Now()
	if !o.w.background(func(ctx context.Context) {
		defer close(l.done)
		ctx, cancel := context.WithTimeout(ctx, o.timeout)
		defer cancel()
		if err := o.w.holdsStore(ctx); err != nil && !errors.Is(err, manifest.ErrFenced) {
			o.w.cfg.Logger.Debug("ownership of the store is not confirmed; writes are acknowledged all the same", "error", err)
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		o.flight = nil
		o.ended(began) // after a Writer that is fenced has failed
	}) {
		return nil
	}
	o.flight = l
	return l
}

// loop looks while there are writes, until ctx ends.
func (o *ownership) loop(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if o.writes.Swap(false) {
				o.look()
			}
		case <-ctx.Done():
			return
		}
	}
}
