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

func TestRetryConformance(t *testing.T) {
	blobtest.Run(t, func(*testing.T) blob.Store { return blob.Retry(memblob.New(), blob.Policy{}) })
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
			if err := call(t.Context(), blob.Retry(s, blob.Policy{Attempts: 3, FirstDelay: time.Second})); err != nil {
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
			if err := call(t.Context(), blob.Retry(s, blob.Policy{})); !errors.Is(err, blob.ErrUnavailable) {
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
		if err := call(t.Context(), blob.Retry(s, blob.Policy{})); !errors.Is(err, other) || s.Count(op).Calls != 1 {
			t.Errorf("%v: got %v after %d calls, want %v after 1", op, err, s.Count(op).Calls, other)
		}
	}
}

func TestRetryNeverRepeatsAPut(t *testing.T) {
	s := newFaulty(t)
	s.Down()
	_, err := blob.Retry(s, blob.Policy{}).Put(t.Context(), "k", strings.NewReader("y"), 1, blob.Condition{})
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
			_, err := blob.Retry(s, blob.Policy{Attempts: 1000, FirstDelay: time.Hour, MaxDelay: time.Hour}).Stat(ctx, "k")
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

func TestPolicyReportsEveryProblem(t *testing.T) {
	err := blob.Policy{Attempts: -1, FirstDelay: -1, MaxDelay: -1}.Validate()
	for _, want := range []string{"attempts", "first delay", "max delay"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want something about %s", err, want)
		}
	}
}
