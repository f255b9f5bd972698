package blob_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/faultblob"
	"github.com/akidb/akidb/segments/blob/memblob"
)

// answering is a store all of whose calls take so long and answer with err.
type answering struct {
	blob.Store
	takes time.Duration
	err   error
	calls int
}

func (s *answering) answer(ctx context.Context) error {
	s.calls++
	if s.takes > 0 {
		select {
		case <-time.After(s.takes):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return s.err
}

func (s *answering) Get(ctx context.Context, _ string) ([]byte, blob.Version, error) {
	return nil, "", s.answer(ctx)
}

func (s *answering) Put(ctx context.Context, _ string, _ io.ReadSeeker, _ int64, _ blob.Condition) (blob.Version, error) {
	return "", s.answer(ctx)
}

// once is a guard that does not retry.
func once(s blob.Store) *blob.Guarded { return blob.Guard(s, blob.GuardConfig{Attempts: 1}) }

func get(ctx context.Context, g *blob.Guarded) error { _, _, err := g.Get(ctx, "k"); return err }

func put(ctx context.Context, g *blob.Guarded) error {
	_, err := g.Put(ctx, "k", strings.NewReader(""), 0, blob.Condition{})
	return err
}

// states are those of read, write, list and delete.
func states(g *blob.Guarded) string {
	var out []string
	for _, s := range g.State() {
		out = append(out, string(s.State))
	}
	return strings.Join(out, " ")
}

const allClosed = "closed closed closed closed"

func wantStates(t *testing.T, what string, g *blob.Guarded, want string) {
	t.Helper()
	if got := states(g); got != want {
		t.Errorf("%s: breakers are %s, want %s", what, got, want)
	}
}

var unavailable = fmt.Errorf("get: %w", blob.ErrUnavailable)

// TestBreakerOpens has what counts as an outage, and what does not.
func TestBreakerOpens(t *testing.T) {
	type step struct {
		times int
		takes time.Duration
		err   error
		pause time.Duration // after each
	}
	for _, c := range []struct {
		name  string
		steps []step
		open  bool
	}{
		{"five in a row", []step{{5, 0, unavailable, 0}}, true},
		{"four in a row", []step{{4, 0, unavailable, 0}}, false},
		{"five with a success between", []step{{4, 0, unavailable, 0}, {1, 0, nil, 0}, {1, 0, unavailable, 0}}, false},
		{"five too far apart", []step{{5, 0, unavailable, 3 * time.Second}}, false},
		{"five time-outs of the store", []step{{5, 0, context.DeadlineExceeded, 0}}, true},
		{"two that were waited for in vain", []step{{2, 3 * time.Second, unavailable, 0}}, true},
		{"one that was waited for in vain", []step{{1, 9 * time.Second, unavailable, 0}}, false},
		{"waited for, with a success between", []step{{1, 3 * time.Second, unavailable, 0}, {1, 0, nil, 0}, {1, 3 * time.Second, unavailable, 0}}, false},
		{"half of twenty", []step{{4, 0, unavailable, 0}, {10, 0, nil, 0}, {4, 0, unavailable, 0}, {1, 0, nil, 0}, {1, 0, unavailable, 0}}, false},
		{"half of more than twenty", []step{{4, 0, unavailable, 0}, {9, 0, nil, 0}, {4, 0, unavailable, 0}, {1, 0, nil, 0}, {2, 0, unavailable, 0}}, true},
		{"half of twenty, long ago", []step{{4, 0, unavailable, 0}, {9, 0, nil, 0}, {4, 0, unavailable, 0}, {1, 0, nil, 20 * time.Second}, {2, 0, unavailable, 0}}, false},
		{"nothing there", []step{{99, 0, blob.ErrNotFound, 0}}, false},
		{"lost races", []step{{99, 0, blob.ErrPrecondition, 0}}, false},
		{"damage", []step{{99, 0, blob.ErrCorrupt, 0}}, false},
		{"refusals", []step{{99, 0, errors.New("access denied"), 0}}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &answering{}
				g := once(s)
				want, n := allClosed, 0
				for _, step := range c.steps {
					for range step.times {
						s.takes, s.err = step.takes, step.err
						if err := get(t.Context(), g); !errors.Is(err, step.err) {
							t.Errorf("got %v, want %v", err, step.err)
						}
						n++
						time.Sleep(step.pause)
					}
				}
				if c.open {
					want = "open closed closed closed"
				}
				wantStates(t, c.name, g, want)
				if s.calls != n {
					t.Errorf("%d of %d calls were sent", s.calls, n)
				}
			})
		})
	}
}

// TestBreakerRefuses: what an open breaker does, and to whom.
func TestBreakerRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &answering{err: unavailable}
		g := once(s)
		for range 5 {
			if err := put(t.Context(), g); errors.Is(err, blob.ErrBreakerOpen) {
				t.Errorf("refused while it is closed: %v", err)
			}
		}
		wantStates(t, "after five puts", g, "closed open closed closed")
		begin := time.Now()
		err := put(t.Context(), g)
		if !errors.Is(err, blob.ErrBreakerOpen) || !errors.Is(err, blob.ErrUnavailable) || time.Since(begin) > 0 || s.calls != 5 {
			t.Errorf("got %v after %v and %d calls, want %v at once after 5", err, time.Since(begin), s.calls, blob.ErrBreakerOpen)
		}
		if !strings.HasPrefix(err.Error(), `put "k": `) {
			t.Errorf("got %q, want the operation and the key", err)
		}
		s.err = nil
		if err := get(t.Context(), g); err != nil {
			t.Errorf("a get while the breaker of puts is open: %v", err)
		}
	})
}

// TestBreakerTrial: after a while one call at a time is let through.
func TestBreakerTrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &answering{err: unavailable}
		g := once(s)
		var changes []string
		for _, name := range []string{"a", "b"} {
			g.OnChange(func(class blob.Class, from, to blob.BreakerState) {
				changes = append(changes, fmt.Sprintf("%s: %s %s>%s", name, class, from, to))
			})
		}
		for range 5 {
			_ = get(t.Context(), g)
		}
		time.Sleep(5*time.Second + 1)
		wantStates(t, "in time", g, "half_open closed closed closed")
		_ = get(t.Context(), g)
		wantStates(t, "after a trial that failed", g, "open closed closed closed")
		time.Sleep(5*time.Second + 1)

		// A trial that its caller gives up decides nothing, and makes room.
		s.takes = time.Hour
		ctx, cancel := context.WithCancel(t.Context())
		given := make(chan error)
		go func() { given <- get(ctx, g) }()
		synctest.Wait()
		if err := get(t.Context(), g); !errors.Is(err, blob.ErrBreakerOpen) {
			t.Errorf("a second trial: got %v, want %v", err, blob.ErrBreakerOpen)
		}
		cancel()
		if err := <-given; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
		wantStates(t, "after a trial that was given up", g, "half_open closed closed closed")
		s.takes, s.err = 0, nil
		if err := get(t.Context(), g); err != nil {
			t.Error(err)
		}
		wantStates(t, "after a trial that succeeded", g, allClosed)

		var want []string
		for _, change := range []string{"closed>open", "open>half_open", "half_open>open", "open>half_open", "half_open>closed"} {
			want = append(want, "a: read "+change, "b: read "+change)
		}
		if !slices.Equal(changes, want) {
			t.Errorf("got changes\n%s\nwant\n%s", strings.Join(changes, "\n"), strings.Join(want, "\n"))
		}
	})
}

// TestBreakerCallers: a caller that gives up tells nothing of the store, unless
// it was patient.
func TestBreakerCallers(t *testing.T) {
	for _, c := range []struct {
		name string
		with func(context.Context) (context.Context, context.CancelFunc)
		want string
	}{
		{"cancelled", func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			return ctx, cancel
		}, allClosed},
		{"in a hurry", func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Millisecond)
		}, allClosed},
		{"patient", func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Second)
		}, "open closed closed closed"},
	} {
		synctest.Test(t, func(t *testing.T) {
			g := once(&answering{takes: time.Hour})
			for range 5 {
				ctx, cancel := c.with(t.Context())
				if err := get(ctx, g); !errors.Is(err, ctx.Err()) {
					t.Errorf("%s: got %v, want %v", c.name, err, ctx.Err())
				}
				cancel()
			}
			wantStates(t, c.name, g, c.want)
		})
	}
}

func TestBreakerReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &answering{err: unavailable}
		g := once(s)
		var changes []string
		g.OnChange(func(class blob.Class, from, to blob.BreakerState) {
			changes = append(changes, fmt.Sprintf("%s %s>%s", class, from, to))
		})
		for range 4 {
			_ = get(t.Context(), g)
		}
		// One that is under way while the breaker is reset tells of another time.
		s.takes = time.Second
		late := make(chan error)
		go func() { late <- get(t.Context(), g) }()
		synctest.Wait()
		s.takes = 0
		_ = get(t.Context(), g)
		wantStates(t, "before", g, "open closed closed closed")
		previous, now := g.Reset()
		if len(previous) != 4 || previous[0] != (blob.ClassState{Class: "read", State: blob.Open}) || previous[1].State != blob.Closed {
			t.Errorf("previous is %v", previous)
		}
		if len(now) != 4 || slices.ContainsFunc(now, func(c blob.ClassState) bool { return c.State != blob.Closed }) {
			t.Errorf("now is %v", now)
		}
		for range 4 {
			_ = get(t.Context(), g)
		}
		<-late
		wantStates(t, "four failures after, and a late one from before", g, allClosed)
		_ = get(t.Context(), g)
		wantStates(t, "five failures after", g, "open closed closed closed")
		time.Sleep(6 * time.Second)
		if previous, _ := g.Reset(); previous[0].State != blob.HalfOpen {
			t.Errorf("previous is %v, want half open", previous[0])
		}
		want := []string{"read closed>open", "read open>closed", "read closed>open", "read open>half_open", "read half_open>closed"}
		if !slices.Equal(changes, want) {
			t.Errorf("got changes %q, want %q", changes, want)
		}
	})
}

// TestGuardKeepsWhatWasSent: when the breaker opens between the attempts of one
// call, the call does not claim to have been never sent.
func TestGuardKeepsWhatWasSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := faultblob.New(memblob.New())
		s.Down()
		g := blob.Guard(s, blob.GuardConfig{Attempts: 10})
		err := g.Delete(t.Context(), "k")
		if n := s.Count(faultblob.Delete).Calls; !errors.Is(err, blob.ErrUnavailable) || errors.Is(err, blob.ErrBreakerOpen) || n != 5 {
			t.Errorf("got %v after %d calls, want the last one's error after 5", err, n)
		}
		err = g.Delete(t.Context(), "k")
		if n := s.Count(faultblob.Delete).Calls; !errors.Is(err, blob.ErrBreakerOpen) || n != 5 {
			t.Errorf("got %v after %d calls, want %v", err, n, blob.ErrBreakerOpen)
		}
		if made, _ := g.Retries(); made != 5 { // the fifth found the breaker open
			t.Errorf("made %d retries, want 5", made)
		}
	})
}

// BenchmarkGuard is what a guard adds to a call.
func BenchmarkGuard(b *testing.B) {
	g := blob.Guard(&answering{}, blob.GuardConfig{})
	b.ReportAllocs()
	for b.Loop() {
		_ = get(b.Context(), g)
	}
}
