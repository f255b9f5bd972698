package blob_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/blobtest"
	"github.com/akidb/akidb/segments/blob/faultblob"
	"github.com/akidb/akidb/segments/blob/memblob"
)

func TestGuardConformance(t *testing.T) {
	blobtest.Run(t, func(*testing.T) blob.Store { return blob.Guard(memblob.New(), blob.GuardConfig{}) })
}

// everyCall makes each kind of call but Put.
var everyCall = map[faultblob.Op]func(context.Context, blob.Store) error{
	faultblob.Get:       func(ctx context.Context, s blob.Store) error { _, _, err := s.Get(ctx, "k"); return err },
	faultblob.ReadRange: func(ctx context.Context, s blob.Store) error { return s.ReadRange(ctx, "k", 0, make([]byte, 1)) },
	faultblob.Stat:      func(ctx context.Context, s blob.Store) error { _, err := s.Stat(ctx, "k"); return err },
	faultblob.List:      func(ctx context.Context, s blob.Store) error { _, err := s.List(ctx, blob.Listing{}); return err },
	faultblob.Delete:    func(ctx context.Context, s blob.Store) error { return s.Delete(ctx, "k") },
}

func newFaulty(t *testing.T) *faultblob.Store {
	t.Helper()
	s := faultblob.New(memblob.New())
	if _, err := s.Put(t.Context(), "k", strings.NewReader("x"), 1, blob.Condition{}); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRetryOutlastsShortOutages(t *testing.T) {
	for op, call := range everyCall {
		synctest.Test(t, func(t *testing.T) {
			s := newFaulty(t)
			s.Inject(faultblob.All(faultblob.On(op), faultblob.First(2)), faultblob.Fail(blob.ErrUnavailable))
			begin := time.Now()
			if err := call(t.Context(), blob.Guard(s, blob.GuardConfig{Attempts: 3, FirstDelay: time.Second})); err != nil {
				t.Errorf("%v: %v", op, err)
			}
			if n := s.Count(op).Calls; n != 3 {
				t.Errorf("%v: made %d calls, want 3", op, n)
			}
			if waited := time.Since(begin); waited == 0 || waited > 3*time.Second+time.Millisecond {
				t.Errorf("%v: waited %v, want up to 1 s and then up to 2 s", op, waited)
			}
		})
	}
}

func TestRetryGivesUp(t *testing.T) {
	for op, call := range everyCall {
		synctest.Test(t, func(t *testing.T) {
			s := newFaulty(t)
			s.Down()
			if err := call(t.Context(), blob.Guard(s, blob.GuardConfig{})); !errors.Is(err, blob.ErrUnavailable) {
				t.Errorf("%v: got %v, want %v", op, err, blob.ErrUnavailable)
			}
			if n := s.Count(op).Calls; n != 4 {
				t.Errorf("%v: made %d calls, want 4", op, n)
			}
		})
	}
}

func TestRetryOnlyWhatMayPass(t *testing.T) {
	other := errors.New("access denied")
	for op, call := range everyCall {
		s := newFaulty(t)
		s.Inject(faultblob.On(op), faultblob.Fail(other))
		if err := call(t.Context(), blob.Guard(s, blob.GuardConfig{})); !errors.Is(err, other) || s.Count(op).Calls != 1 {
			t.Errorf("%v: got %v after %d calls, want %v after 1", op, err, s.Count(op).Calls, other)
		}
	}
}

func TestRetryNeverRepeatsAPut(t *testing.T) {
	s := newFaulty(t)
	s.Down()
	_, err := blob.Guard(s, blob.GuardConfig{}).Put(t.Context(), "k", strings.NewReader("y"), 1, blob.Condition{})
	if n := s.Count(faultblob.Put).Calls; !errors.Is(err, blob.ErrUnavailable) || n != 2 { // one is newFaulty's
		t.Errorf("got %v after %d puts, want %v after 1", err, n-1, blob.ErrUnavailable)
	}
}

func TestRetryEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty(t)
		s.Down()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			_, err := blob.Guard(s, blob.GuardConfig{Attempts: 1000, FirstDelay: time.Hour, MaxDelay: time.Hour}).Stat(ctx, "k")
			done <- err
		}()
		synctest.Wait() // for the first delay
		cancel()
		err := <-done
		if !errors.Is(err, context.Canceled) || errors.Is(err, blob.ErrUnavailable) {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
	})
}

func TestGuardConfigReportsEveryProblem(t *testing.T) {
	err := blob.GuardConfig{Attempts: -1, FirstDelay: -1, MaxDelay: -1, RetryBurst: -1, RetryEvery: -1, OpenFor: -1}.Validate()
	for _, want := range []string{"attempts", "first delay", "max delay", "retry burst", "retry every", "open for"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want something about %s", err, want)
		}
	}
}

// TestRetryBudget: all calls together retry only so often, and get more with
// time.
func TestRetryBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty(t)
		other := errors.New("access denied") // keeps the breaker closed
		s.Inject(faultblob.All(faultblob.On(faultblob.Stat), func(c faultblob.Call) bool { return c.Index%2 == 0 }), faultblob.Fail(blob.ErrUnavailable))
		s.Inject(faultblob.On(faultblob.Stat), faultblob.Fail(other))
		g := blob.Guard(s, blob.GuardConfig{RetryBurst: 3, RetryEvery: time.Hour})
		stat := func() error { _, err := g.Stat(t.Context(), "k"); return err }
		for i := range 3 {
			if err := stat(); !errors.Is(err, other) {
				t.Errorf("call %d: got %v, want %v from a retry", i, err, other)
			}
		}
		begin := time.Now()
		if err := stat(); !errors.Is(err, blob.ErrUnavailable) || time.Since(begin) > 0 {
			t.Errorf("without a budget: got %v after %v, want %v at once", err, time.Since(begin), blob.ErrUnavailable)
		}
		if made, refused := g.Retries(); made != 3 || refused != 1 {
			t.Errorf("got %d retries, %d refused; want 3, 1", made, refused)
		}
		time.Sleep(time.Hour)
		_ = stat() // so that the number of calls is even
		if err := stat(); !errors.Is(err, other) {
			t.Errorf("after an hour: got %v, want %v from a retry", err, other)
		}
		if err := stat(); !errors.Is(err, blob.ErrUnavailable) {
			t.Errorf("after an hour: got %v, want no second retry", err)
		}
		if made, refused := g.Retries(); made != 4 || refused != 2 {
			t.Errorf("after an hour: got %d retries, %d refused; want 4, 2", made, refused)
		}
	})
}
