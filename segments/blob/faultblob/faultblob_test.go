package faultblob_test

import (
	"context"
	"errors"
	"io"
	"math/bits"
	"strings"
	"sync"
	"testing"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/blobtest"
	"github.com/akidb/akidb/segments/blob/faultblob"
	"github.com/akidb/akidb/segments/blob/memblob"
)

func TestConformanceWithoutFaults(t *testing.T) {
	blobtest.Run(t, func(*testing.T) blob.Store { return faultblob.New(memblob.New()) })
}

func put(t *testing.T, s blob.Store, key, body string, cond blob.Condition) (blob.Version, error) {
	t.Helper()
	return s.Put(t.Context(), key, strings.NewReader(body), int64(len(body)), cond)
}

func wantBody(t *testing.T, s blob.Store, key, want string) {
	t.Helper()
	b, _, err := s.Get(t.Context(), key)
	if err != nil && want != "" || string(b) != want {
		t.Errorf("%q holds %q, %v; want %q", key, b, err, want)
	}
}

func wantFired(t *testing.T, r *faultblob.Rule, want int) {
	t.Helper()
	if got := r.Fired(); got != want {
		t.Errorf("rule fired %d times, want %d", got, want)
	}
}

func TestFailAppliesNothing(t *testing.T) {
	inner := memblob.New()
	s := faultblob.New(inner)
	r := s.Inject(faultblob.On(faultblob.Put), faultblob.Fail(blob.ErrUnavailable))
	if _, err := put(t, s, "a", "x", blob.Condition{}); !errors.Is(err, blob.ErrUnavailable) {
		t.Errorf("got %v, want %v", err, blob.ErrUnavailable)
	}
	wantBody(t, inner, "a", "")
	wantFired(t, r, 1)
	s.Remove(r)
	if _, err := put(t, s, "a", "x", blob.Condition{}); err != nil {
		t.Errorf("after Remove: %v", err)
	}
}

func TestLoseReplyApplies(t *testing.T) {
	inner := memblob.New()
	s := faultblob.New(inner)
	r := s.Inject(faultblob.On(faultblob.Put, faultblob.Delete), faultblob.LoseReply())
	if _, err := put(t, s, "a", "x", blob.Condition{IfAbsent: true}); !errors.Is(err, blob.ErrUnavailable) {
		t.Errorf("got %v, want %v", err, blob.ErrUnavailable)
	}
	wantBody(t, inner, "a", "x")
	if err := s.Delete(t.Context(), "a"); !errors.Is(err, blob.ErrUnavailable) {
		t.Errorf("got %v, want %v", err, blob.ErrUnavailable)
	}
	wantBody(t, inner, "a", "")
	wantFired(t, r, 2)
}

func TestDuplicateMakesOwnSuccessLookLost(t *testing.T) {
	s := faultblob.New(memblob.New())
	s.Inject(faultblob.All(faultblob.Conditional(), faultblob.Nth(0)), faultblob.Duplicate())
	if _, err := put(t, s, "a", "mine", blob.Condition{IfAbsent: true}); !errors.Is(err, blob.ErrPrecondition) {
		t.Errorf("got %v, want %v", err, blob.ErrPrecondition)
	}
	wantBody(t, s, "a", "mine")
	s.Inject(faultblob.On(faultblob.Put), faultblob.Duplicate())
	if _, err := put(t, s, "a", "again", blob.Condition{}); err != nil {
		t.Error(err)
	}
	wantBody(t, s, "a", "again")
}

func TestLaterArrivesWhenNobodyWaits(t *testing.T) {
	s := faultblob.New(memblob.New())
	rule := s.Inject(faultblob.All(faultblob.On(faultblob.Put), faultblob.Nth(0)), faultblob.Later(2))
	if _, err := put(t, s, "a", "late", blob.Condition{IfAbsent: true}); !errors.Is(err, blob.ErrUnavailable) || rule.Fired() != 1 {
		t.Errorf("got %v, want %v", err, blob.ErrUnavailable)
	}
	if _, _, err := s.Get(t.Context(), "a"); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("it was there at once: %v", err)
	}
	wantBody(t, s, "a", "late")
	// A condition is looked at on arrival.
	s.Inject(faultblob.All(faultblob.On(faultblob.Put), faultblob.Nth(0)), faultblob.Later(2))
	_, _ = put(t, s, "b", "late", blob.Condition{IfAbsent: true})
	if _, err := put(t, s, "b", "mine", blob.Condition{IfAbsent: true}); err != nil {
		t.Error(err)
	}
	wantBody(t, s, "b", "mine")
	wantBody(t, s, "b", "mine")
}

func TestHold(t *testing.T) {
	for name, hold := range map[string]struct {
		effect  func(*faultblob.Gate) faultblob.Effect
		applied string // while the gate is closed
	}{
		"before": {faultblob.Hold, ""},
		"after":  {faultblob.HoldReply, "x"},
	} {
		t.Run(name, func(t *testing.T) {
			inner := memblob.New()
			s := faultblob.New(inner)
			gate := faultblob.NewGate()
			s.Inject(faultblob.On(faultblob.Put), hold.effect(gate))
			done := make(chan error, 1)
			go func() {
				_, err := s.Put(context.Background(), "a", strings.NewReader("x"), 1, blob.Condition{})
				done <- err
			}()
			if call := <-gate.Arrived(); call.Op != faultblob.Put || call.Key != "a" {
				t.Errorf("got call %+v", call)
			}
			wantBody(t, inner, "a", hold.applied)
			select {
			case err := <-done:
				t.Fatalf("went through a closed gate: %v", err)
			default:
			}
			gate.Open()
			if err := <-done; err != nil {
				t.Error(err)
			}
			wantBody(t, inner, "a", "x")

			ctx, cancel := context.WithCancel(t.Context())
			closed := faultblob.NewGate()
			s.Inject(faultblob.On(faultblob.Get), hold.effect(closed))
			go func() { <-closed.Arrived(); cancel() }()
			if _, _, err := s.Get(ctx, "a"); !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled at a closed gate: got %v", err)
			}
		})
	}
}

func TestDamagedReads(t *testing.T) {
	inner := memblob.New()
	s := faultblob.New(inner)
	body := "0123456789"
	if _, err := put(t, s, "a", body, blob.Condition{}); err != nil {
		t.Fatal(err)
	}
	read := func() (string, error) {
		dst := make([]byte, 4)
		err := s.ReadRange(t.Context(), "a", 2, dst)
		return string(dst), err
	}
	get := func() (string, error) {
		b, _, err := s.Get(t.Context(), "a")
		return string(b), err
	}
	flipped := func(a, b string) (n int) {
		for i := range a {
			n += bits.OnesCount8(a[i] ^ b[i])
		}
		return n
	}

	r := s.Inject(faultblob.Always(), faultblob.FlipBit(1001))
	if b, err := read(); err != nil || flipped(b, body[2:6]) != 1 {
		t.Errorf("FlipBit: read %q, %v", b, err)
	}
	if b, err := get(); err != nil || flipped(b, body) != 1 {
		t.Errorf("FlipBit: got %q, %v", b, err)
	}
	s.Remove(r)
	if b, err := get(); err != nil || b != body {
		t.Errorf("the store itself was damaged: %q, %v", b, err)
	}

	r = s.Inject(faultblob.Always(), faultblob.Truncate(3))
	if _, err := read(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("Truncate: read: got %v, want %v", err, io.ErrUnexpectedEOF)
	}
	if b, err := get(); err != nil || b != body[:3] {
		t.Errorf("Truncate: got %q, %v", b, err)
	}
	s.Remove(r)

	s.Inject(faultblob.Always(), faultblob.CutOff())
	if _, err := read(); !errors.Is(err, blob.ErrUnavailable) {
		t.Errorf("CutOff: read: got %v, want %v", err, blob.ErrUnavailable)
	}
	if _, err := get(); !errors.Is(err, blob.ErrUnavailable) {
		t.Errorf("CutOff: got %v, want %v", err, blob.ErrUnavailable)
	}
}

func TestDown(t *testing.T) {
	ctx := t.Context()
	s := faultblob.New(memblob.New())
	s.Down()
	_, err1 := put(t, s, "a", "x", blob.Condition{})
	_, _, err2 := s.Get(ctx, "a")
	err3 := s.ReadRange(ctx, "a", 0, nil)
	_, err4 := s.Stat(ctx, "a")
	_, err5 := s.List(ctx, blob.Listing{})
	err6 := s.Delete(ctx, "a")
	for i, err := range []error{err1, err2, err3, err4, err5, err6} {
		if !errors.Is(err, blob.ErrUnavailable) {
			t.Errorf("operation %d: got %v, want %v", i, err, blob.ErrUnavailable)
		}
	}
	s.Up()
	if _, err := put(t, s, "a", "x", blob.Condition{}); err != nil {
		t.Error(err)
	}
	want := faultblob.Count{Calls: 2, Errors: 1, Bytes: 1}
	if got := s.Count(faultblob.Put); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestPredicates(t *testing.T) {
	get := func(key string) faultblob.Call { return faultblob.Call{Op: faultblob.Get, Key: key} }
	for _, c := range []struct {
		pattern, key string
		want         bool
	}{
		{"CURRENT", "c/x/CURRENT", true},
		{"CURRENT", "CURRENT", true},
		{"CURRENT", "c/CURRENT/x", false},
		{"c/*", "c/x", true},
		{"c/*", "c/x/y", false},
		{"**/x/*", "a/b/x/y", true},
		{"**/x/*", "x/y", true},
		{"**/x/*", "b/y", false},
	} {
		if got := faultblob.Key(c.pattern)(get(c.key)); got != c.want {
			t.Errorf("Key(%q) on %q: got %t, want %t", c.pattern, c.key, got, c.want)
		}
	}
	pattern := func(p faultblob.Predicate) string {
		var b strings.Builder
		for range 5 {
			b.WriteByte("01"[map[bool]int{true: 1}[p(get("k"))]])
		}
		return b.String()
	}
	for name, c := range map[string]struct {
		p    faultblob.Predicate
		want string
	}{
		"Always":    {faultblob.Always(), "11111"},
		"Nth":       {faultblob.Nth(2), "00100"},
		"First":     {faultblob.First(2), "11000"},
		"After":     {faultblob.After(2), "00111"},
		"Not":       {faultblob.Not(faultblob.Nth(2)), "11011"},
		"All":       {faultblob.All(faultblob.On(faultblob.Get), faultblob.Nth(1)), "01000"},
		"All order": {faultblob.All(faultblob.First(3), faultblob.Nth(1)), "01000"},
		"Any":       {faultblob.Any(faultblob.Nth(0), faultblob.Nth(1)), "101000"[:5]},
		"On other":  {faultblob.On(faultblob.Put, faultblob.List), "00000"},
	} {
		if got := pattern(c.p); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}

// TestSometimesIsDeterministic makes the same calls in one goroutine and in
// many, and expects the same ones to fail.
func TestSometimesIsDeterministic(t *testing.T) {
	const keys, times = 8, 50
	run := func(concurrent bool) (failed [keys][times]bool, count int) {
		s := faultblob.New(memblob.New())
		r := s.Inject(faultblob.Sometimes(7, 0.3), faultblob.Fail(blob.ErrUnavailable))
		var group sync.WaitGroup
		for k := range keys {
			work := func() {
				for i := range times {
					_, err := s.Stat(context.Background(), string(rune('a'+k)))
					failed[k][i] = errors.Is(err, blob.ErrUnavailable)
				}
			}
			if concurrent {
				group.Go(work)
			} else {
				work()
			}
		}
		group.Wait()
		return failed, r.Fired()
	}
	want, count := run(false)
	if count < keys*times/5 || count > keys*times*2/5 {
		t.Errorf("%d of %d calls failed, want about 3 in 10", count, keys*times)
	}
	if got, _ := run(true); got != want {
		t.Error("other calls failed when made concurrently")
	}
}
