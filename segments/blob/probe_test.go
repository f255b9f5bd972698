package blob_test

import (
	"context"
	"errors"
	"io"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/faultblob"
	"github.com/akidb/akidb/segments/blob/memblob"
)

// unsoundStore is a memblob with a bug in its puts.
type unsoundStore struct {
	blob.Store
	put func(ctx context.Context, s blob.Store, key string, body io.ReadSeeker, size int64, cond blob.Condition) (blob.Version, error)
}

func (s unsoundStore) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, cond blob.Condition) (blob.Version, error) {
	return s.put(ctx, s.Store, key, body, size, cond)
}

// leaps evaluates the condition, lets others do so too, and writes.
func leaps(ctx context.Context, s blob.Store, key string, body io.ReadSeeker, size int64, cond blob.Condition) (blob.Version, error) {
	o, err := s.Stat(ctx, key)
	if cond.IfAbsent && err == nil || cond.IfMatch != "" && o.Version != cond.IfMatch {
		return "", blob.ErrPrecondition
	}
	for range 100 {
		runtime.Gosched()
	}
	return s.Put(ctx, key, body, size, blob.Condition{})
}

func TestProbeFindsUnsoundStores(t *testing.T) {
	var acknowledged sync.Map // keys
	for _, c := range []struct {
		name string
		put  func(ctx context.Context, s blob.Store, key string, body io.ReadSeeker, size int64, cond blob.Condition) (blob.Version, error)
		want []string
	}{
		{"if-absent is look then leap", func(ctx context.Context, s blob.Store, key string, body io.ReadSeeker, size int64, cond blob.Condition) (blob.Version, error) {
			if cond.IfAbsent {
				return leaps(ctx, s, key, body, size, cond)
			}
			return s.Put(ctx, key, body, size, cond)
		}, []string{" of 16 racing conditional puts (If-None-Match: *) succeeded; this store's conditional writes are not atomic and would lose data", "Use another store"}},
		{"if-match is look then leap", func(ctx context.Context, s blob.Store, key string, body io.ReadSeeker, size int64, cond blob.Condition) (blob.Version, error) {
			if cond.IfMatch != "" {
				return leaps(ctx, s, key, body, size, cond)
			}
			return s.Put(ctx, key, body, size, cond)
		}, []string{" of 16 racing conditional puts (If-Match) succeeded; this store's conditional writes are not atomic and would lose data"}},
		{"conditions are ignored", func(ctx context.Context, s blob.Store, key string, body io.ReadSeeker, size int64, _ blob.Condition) (blob.Version, error) {
			return s.Put(ctx, key, body, size, blob.Condition{})
		}, []string{"16 of 16 racing conditional puts (If-None-Match: *) succeeded"}},
		{"refused puts are applied", func(ctx context.Context, s blob.Store, key string, body io.ReadSeeker, size int64, cond blob.Condition) (blob.Version, error) {
			version, err := s.Put(ctx, key, body, size, cond)
			if errors.Is(err, blob.ErrPrecondition) {
				if _, err := body.Seek(0, io.SeekStart); err != nil {
					return "", err
				}
				_, _ = s.Put(ctx, key, body, size, blob.Condition{})
			}
			return version, err
		}, []string{"what is read back is not what it put", "loses acknowledged writes"}},
		{"an acknowledged put is dropped", func(_ context.Context, _ blob.Store, key string, _ io.ReadSeeker, _ int64, cond blob.Condition) (blob.Version, error) {
			if _, again := acknowledged.LoadOrStore(key, true); again {
				return "", blob.ErrPrecondition
			}
			return "1", nil
		}, []string{"what is read back is not what it put", "loses acknowledged writes"}},
		{"everybody is refused", func(context.Context, blob.Store, string, io.ReadSeeker, int64, blob.Condition) (blob.Version, error) {
			return "", blob.ErrPrecondition
		}, []string{"none of 16 racing conditional puts (If-None-Match: *) succeeded"}},
	} {
		s := memblob.New()
		err := blob.ProbeRace(t.Context(), unsoundStore{s, c.put}, "probe/")
		if !errors.Is(err, blob.ErrUnsound) || errors.Is(err, blob.ErrUnavailable) {
			t.Errorf("%s: got %v, want %v", c.name, err, blob.ErrUnsound)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %q, want it to say %q", c.name, err, want)
			}
		}
		wantEmpty(t, c.name, s)
	}
}

func wantEmpty(t *testing.T, what string, s blob.Store) {
	t.Helper()
	page, err := s.List(context.Background(), blob.Listing{})
	if err != nil || len(page.Objects) > 0 {
		t.Errorf("%s: left behind %v, %v", what, page.Objects, err)
	}
}

// TestProbeUnderFaults: what the network does is not held against the store,
// and what can then not be found out is not called sound.
func TestProbeUnderFaults(t *testing.T) {
	// Whichever contender is the first to put in each race.
	firstOfAll := func(c faultblob.Call) bool { return c.Op == faultblob.Put && c.Index%16 == 0 }
	for _, c := range []struct {
		name   string
		when   faultblob.Predicate
		effect faultblob.Effect
		want   error
	}{
		{"replies are lost", firstOfAll, faultblob.LoseReply(), nil},
		{"some replies are lost", faultblob.All(faultblob.On(faultblob.Put), faultblob.Sometimes(7, 0.2)), faultblob.LoseReply(), nil},
		{"requests are lost", firstOfAll, faultblob.Fail(blob.ErrUnavailable), nil},
		{"requests are duplicated", firstOfAll, faultblob.Duplicate(), nil},
		{"all requests are duplicated", faultblob.On(faultblob.Put), faultblob.Duplicate(), nil},
		{"all replies are lost", faultblob.On(faultblob.Put), faultblob.LoseReply(), blob.ErrUnavailable},
		{"nothing can be put", faultblob.On(faultblob.Put), faultblob.Fail(blob.ErrUnavailable), blob.ErrUnavailable},
		{"nothing can be read", faultblob.On(faultblob.Get), faultblob.Fail(blob.ErrUnavailable), blob.ErrUnavailable},
		{"nothing can be deleted", faultblob.On(faultblob.Delete), faultblob.Fail(blob.ErrUnavailable), nil},
	} {
		inner := memblob.New()
		s := faultblob.New(inner)
		rule := s.Inject(c.when, c.effect)
		err := blob.ProbeRace(t.Context(), s, "probe/")
		if !errors.Is(err, c.want) || errors.Is(err, blob.ErrUnsound) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
		if rule.Fired() == 0 {
			t.Errorf("%s: never happened", c.name)
		}
	}
}

// A store that cannot be reached in the middle is not unsound, and neither is
// one that refuses us.
func TestProbeEndsWithItsCaller(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var puts atomic.Int32
	s := unsoundStore{memblob.New(), func(ctx context.Context, s blob.Store, key string, body io.ReadSeeker, size int64, cond blob.Condition) (blob.Version, error) {
		if puts.Add(1) == 100 {
			cancel()
		}
		return s.Put(ctx, key, body, size, cond)
	}}
	if err := blob.ProbeRace(ctx, s, "probe/"); !errors.Is(err, context.Canceled) || errors.Is(err, blob.ErrUnsound) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	denied := errors.New("access denied")
	s.put = func(context.Context, blob.Store, string, io.ReadSeeker, int64, blob.Condition) (blob.Version, error) {
		return "", denied
	}
	if err := blob.ProbeRace(t.Context(), s, "probe/"); !errors.Is(err, denied) || errors.Is(err, blob.ErrUnsound) {
		t.Errorf("got %v, want %v", err, denied)
	}
}

// BenchmarkProbe is what a boot pays on a store in memory.
func BenchmarkProbe(b *testing.B) {
	s := memblob.New()
	for b.Loop() {
		if err := blob.ProbeRace(b.Context(), s, "probe/"); err != nil {
			b.Fatal(err)
		}
	}
}
