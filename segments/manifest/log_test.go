package manifest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/memblob"
)

// hooked is a store whose puts and gets can be tampered with.
type hooked struct {
	blob.Store
	put func(key string) error                           // after the put was applied
	get func(key string, b []byte) ([]byte, error)       // what a get returns
	pre func(key string, c blob.Condition) (bool, error) // before a put; false: not applied
}

func (h *hooked) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, cond blob.Condition) (blob.Version, error) {
	if h.pre != nil {
		if ok, err := h.pre(key, cond); !ok {
			return "", err
		}
	}
	v, err := h.Store.Put(ctx, key, body, size, cond)
	if err == nil && h.put != nil {
		err = h.put(key)
	}
	return v, err
}

func (h *hooked) Get(ctx context.Context, key string) ([]byte, blob.Version, error) {
	b, v, err := h.Store.Get(ctx, key)
	if err == nil && h.get != nil {
		b, err = h.get(key, b)
	}
	return b, v, err
}

func (h *hooked) Delete(context.Context, string) error { panic("a log never deletes") }

func isCurrent(key string) bool { return strings.HasSuffix(key, "/CURRENT") }

func noWait(ctx context.Context, _ int) error { return ctx.Err() }

func testOptions() []Option {
	n := 0
	return []Option{
		WithClock(func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600)) }),
		WithIDs(func() string { n++; return fmt.Sprintf("id%d", n) }),
		WithWait(noWait),
	}
}

func testCollection() Collection {
	return Collection{ID: simID, Name: "n", Dimension: 1, Metric: "l2", CreatedAt: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)}
}

func mustCreate(t *testing.T, store blob.Store) *Log {
	t.Helper()
	l, err := Create(t.Context(), store, testCollection(), "a", testOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func add(segment string) func(*Snapshot) error {
	return func(next *Snapshot) error {
		next.Segments = append(next.Segments, simSegment(segment))
		return nil
	}
}

func TestCreateCommitRead(t *testing.T) {
	ctx, store := t.Context(), &hooked{Store: memblob.New()}
	l := mustCreate(t, store)
	first := l.Snapshot()
	got, err := l.Commit(ctx, add("s1"))
	if err != nil {
		t.Fatal(err)
	}
	if got.Version != 2 || got.Epoch != 1 || got.Parent.Version != 1 || got.CreatedAt.Location() != time.UTC || got.CommitID == first.CommitID {
		t.Errorf("got %+v", got)
	}
	if len(first.Segments) != 0 || l.Snapshot() != got {
		t.Error("the snapshot before was changed, or the one after is not there")
	}
	snap, cur, err := Read(ctx, store, simID)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(snap, got) || cur != l.Current() || cur.Owner != "a" {
		t.Errorf("read %+v with %+v, want %+v with %+v", snap, cur, got, l.Current())
	}
	if peeked, err := Peek(ctx, store, simID); err != nil || peeked != cur {
		t.Errorf("peek: got %+v, %v", peeked, err)
	}
	var versions []uint64
	for s, err := range History(ctx, store, cur) {
		if err != nil {
			t.Fatal(err)
		}
		versions = append(versions, s.Version)
	}
	if !slices.Equal(versions, []uint64{2, 1}) {
		t.Errorf("history: got versions %v, want 2 and 1", versions)
	}
	if _, err := Create(ctx, store, testCollection(), "a", WithWait(noWait)); !errors.Is(err, ErrExists) {
		t.Errorf("create again: got %v, want %v", err, ErrExists)
	}
}

func TestCommitThatCannotBe(t *testing.T) {
	ctx := t.Context()
	l := mustCreate(t, memblob.New())
	no := errors.New("no")
	for want, edit := range map[string]func(*Snapshot) error{
		"no":                        func(*Snapshot) error { return no },
		"segments[0].rows":          func(s *Snapshot) error { _ = add("s1")(s); s.Segments[0].Rows = 0; return nil },
		"for ever":                  func(s *Snapshot) error { s.Collection.Dimension = 2; return nil },
		"got -1":                    func(s *Snapshot) error { _ = add("s1")(s); s.Segments[0].Data.Size = -1; return nil },
		"invalid UTF-8":             func(s *Snapshot) error { _ = add("s1")(s); s.Segments[0].Data.Key += "\xff"; return nil },
		"s1\" is there twice":       func(s *Snapshot) error { _ = add("s1")(s); return add("s1")(s) },
		"q1\" is not in quantizers": func(s *Snapshot) error { _ = add("s1")(s); s.Segments[0].Quantizer = "q1"; return nil },
	} {
		_, err := l.Commit(ctx, edit)
		if err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, blob.ErrCorrupt) || errors.Is(err, ErrFenced) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if got, err := l.Commit(ctx, add("s1")); err != nil || got.Version != 2 {
		t.Errorf("after all those: got %+v, %v; want version 2", got, err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := l.Commit(ended, add("s2")); !errors.Is(err, context.Canceled) || errors.As(err, new(*UnknownError)) {
		t.Errorf("after the deadline: got %v, want a definite failure", err)
	}
}

func TestClaimAndFence(t *testing.T) {
	ctx, store := t.Context(), memblob.New()
	old := mustCreate(t, store)
	l, err := Open(ctx, store, simID, "a", WithWait(noWait))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Commit(ctx, add("early")); err == nil || !strings.Contains(err.Error(), "no epoch was claimed") {
		t.Errorf("commit before claim: got %v", err)
	}
	// The old process commits once more in between: the claim builds on that.
	if _, err := old.Commit(ctx, add("s1")); err != nil {
		t.Fatal(err)
	}
	got, err := l.Claim(ctx)
	if err != nil || got.Epoch != 2 || got.Version != 3 || len(got.Segments) != 1 {
		t.Fatalf("claim: got %+v, %v", got, err)
	}
	var fenced *FencedError
	if _, err := old.Commit(ctx, add("s2")); !errors.As(err, &fenced) || fenced.Owner != "a" || fenced.Epoch != 2 {
		t.Errorf("old epoch: got %v, want fenced by epoch 2", err)
	}
	if old.Snapshot().Version != 2 {
		t.Errorf("the fenced log now says version %d, want 2", old.Snapshot().Version)
	}
	other, err := Open(ctx, store, simID, "b", WithWait(noWait))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Claim(ctx); !errors.As(err, &fenced) || fenced.Owner != "a" {
		t.Errorf("claim by another owner: got %v, want fenced by a", err)
	}
	other, _ = Open(ctx, store, simID, "b", WithWait(noWait))
	if got, err := other.Takeover(ctx); err != nil || got.Epoch != 3 {
		t.Fatalf("takeover: got %+v, %v", got, err)
	}
	if _, err := l.Commit(ctx, add("s3")); !errors.As(err, &fenced) || fenced.Owner != "b" || fenced.Epoch != 3 {
		t.Errorf("after the takeover: got %v, want fenced by b", err)
	}
	if _, err := l.Claim(ctx); !errors.Is(err, ErrFenced) {
		t.Errorf("claim after the takeover: got %v, want fenced", err)
	}
}

// An edit that loses to another commit of its epoch runs again on the winner.
func TestRebase(t *testing.T) {
	ctx, store := t.Context(), memblob.New()
	l := mustCreate(t, store)
	twin, err := Open(ctx, store, simID, "a", WithWait(noWait))
	if err != nil {
		t.Fatal(err)
	}
	twin.epoch = 1
	if _, err := twin.Commit(ctx, add("s1")); err != nil {
		t.Fatal(err)
	}
	var saw []int
	got, err := l.Commit(ctx, func(next *Snapshot) error {
		saw = append(saw, len(next.Segments))
		return add("s2")(next)
	})
	if err != nil || got.Version != 3 || len(got.Segments) != 2 || !slices.Equal(saw, []int{0, 1}) {
		t.Errorf("got %+v, %v after edits that saw %v segments", got, err, saw)
	}
}

// A lost reply, with the store away until the caller gives up: unknown. Then
// the Log finds out by itself, or by Resolve, and nothing is there twice.
func TestUnknownThenResolve(t *testing.T) {
	for _, landed := range []bool{true, false} {
		ctx, cancel := context.WithCancel(t.Context())
		away := false
		store := &hooked{Store: memblob.New()}
		store.get = func(_ string, b []byte) ([]byte, error) {
			if away {
				return nil, blob.ErrUnavailable
			}
			return b, nil
		}
		l := mustCreate(t, store)
		fault := func(key string) error {
			if !isCurrent(key) || away {
				return nil
			}
			away = true
			cancel()
			return blob.ErrUnavailable
		}
		if landed {
			store.put = fault
		} else {
			store.pre = func(key string, _ blob.Condition) (bool, error) {
				err := fault(key)
				return err == nil && !away || key == "", err
			}
		}
		_, err := l.Commit(ctx, add("s1"))
		var u *UnknownError
		if !errors.As(err, &u) || u.Version != 2 || u.Collection != simID {
			t.Fatalf("landed %v: got %v, want unknown", landed, err)
		}
		store.put, store.pre = func(string) error { return nil }, func(string, blob.Condition) (bool, error) { return false, blob.ErrUnavailable }
		short, end := context.WithCancel(t.Context())
		l.wait = func(context.Context, int) error { end(); return short.Err() }
		if _, err := l.Commit(short, add("s2")); !errors.Is(err, ErrUnresolved) || errors.As(err, new(*UnknownError)) {
			t.Errorf("landed %v: commit while the store is away: got %v, want %v", landed, err, ErrUnresolved)
		}
		away, store.pre, l.wait = false, nil, noWait
		got, err := l.Commit(t.Context(), add("s2"))
		if err != nil || got.Version != 3 || len(got.Segments) != 2 {
			t.Errorf("landed %v: the next commit: got %+v, %v", landed, got, err)
		}
		for range 2 {
			if ok, err := l.Resolve(t.Context(), u); !ok || err != nil {
				t.Errorf("landed %v: resolve: got %v, %v; want applied", landed, ok, err)
			}
		}
	}
}

// A put that is delayed past the re-read must not be told as a failure, and is
// recognised when it lands before the second copy.
func TestDelayedPutIsRecognised(t *testing.T) {
	ctx, store := t.Context(), &hooked{Store: memblob.New()}
	l := mustCreate(t, store)
	var late func()
	reads := 0
	wrapped := &delayer{hooked: store, late: &late}
	store.get = func(key string, b []byte) ([]byte, error) {
		if isCurrent(key) {
			reads++
		}
		return b, nil
	}
	l.store = wrapped
	l.wait = func(context.Context, int) error {
		late() // after CURRENT was read and had not moved
		return nil
	}
	got, err := l.Commit(ctx, add("s1"))
	if err != nil || got.Version != 2 || reads != 2 {
		t.Fatalf("got %+v, %v after %d reads of CURRENT, want version 2 after 2", got, err, reads)
	}
	snap, _, err := Read(ctx, store, simID)
	if err != nil || snap.CommitID != got.CommitID || len(snap.Segments) != 1 {
		t.Errorf("read %+v, %v; want %+v", snap, err, got)
	}
}

// delayer holds the first put of CURRENT back.
type delayer struct {
	*hooked
	late *func()
}

func (d *delayer) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, cond blob.Condition) (blob.Version, error) {
	if !isCurrent(key) || *d.late != nil {
		return d.hooked.Put(ctx, key, body, size, cond)
	}
	b, _ := io.ReadAll(body)
	*d.late = func() { _, _ = d.hooked.Put(ctx, key, bytes.NewReader(b), size, cond) }
	return "", blob.ErrUnavailable
}

// Applied, and then another owner built on it before we could look: both the
// success and the fence are told.
func TestAppliedThenFenced(t *testing.T) {
	ctx, store := t.Context(), &hooked{Store: memblob.New()}
	l := mustCreate(t, store)
	store.put = func(key string) error {
		if !isCurrent(key) {
			return nil
		}
		store.put = nil
		other, err := Open(ctx, store, simID, "b", WithWait(noWait))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.Takeover(ctx); err != nil {
			t.Fatal(err)
		}
		return blob.ErrUnavailable
	}
	got, err := l.Commit(ctx, add("s1"))
	if err != nil || got.Version != 2 || l.Snapshot().CommitID != got.CommitID {
		t.Errorf("got %+v, %v; want version 2", got, err)
	}
	if _, err := l.Commit(ctx, add("s2")); !errors.Is(err, ErrFenced) {
		t.Errorf("got %v, want fenced", err)
	}
}

func TestDamage(t *testing.T) {
	ctx, store := t.Context(), &hooked{Store: memblob.New()}
	l := mustCreate(t, store)
	cur := l.Current()
	body, _, err := store.Get(ctx, cur.Manifest.Key)
	if err != nil {
		t.Fatal(err)
	}
	bit, flips := 0, 0
	store.get = func(key string, b []byte) ([]byte, error) {
		if key == cur.Manifest.Key && flips > 0 {
			flips--
			b[bit/8] ^= 1 << (bit % 8)
		}
		return b, nil
	}
	for bit = range 8 * len(body) {
		flips = 2
		if _, _, err := Read(ctx, store, simID); !errors.Is(err, blob.ErrCorrupt) {
			t.Fatalf("bit %d: got %v, want corrupt", bit, err)
		}
	}
	flips = 1
	if _, _, err := Read(ctx, store, simID); err != nil {
		t.Errorf("damaged on the way once: got %v, want none", err)
	}
	store.get = func(key string, b []byte) ([]byte, error) {
		if key == cur.Manifest.Key {
			return nil, fmt.Errorf("get %q: %w", key, blob.ErrNotFound)
		}
		return b, nil
	}
	if _, _, err := Read(ctx, store, simID); !errors.Is(err, blob.ErrCorrupt) || errors.Is(err, blob.ErrNotFound) {
		t.Errorf("body missing: got %v, want corrupt", err)
	}
}

// A body that was collected while a slow reader was on its way to it.
func TestReadRestartsWhenCurrentMoves(t *testing.T) {
	ctx, store := t.Context(), &hooked{Store: memblob.New()}
	l := mustCreate(t, store)
	old := l.Current().Manifest.Key
	moved := false
	store.get = func(key string, b []byte) ([]byte, error) {
		if key == old && !moved {
			moved = true
			if _, err := l.Commit(ctx, add("s1")); err != nil {
				t.Fatal(err)
			}
			return nil, blob.ErrNotFound
		}
		return b, nil
	}
	if got, _, err := Read(ctx, store, simID); err != nil || got.Version != 2 {
		t.Errorf("got %+v, %v; want version 2", got, err)
	}
}

func TestHistoryFindsWhatDoesNotFit(t *testing.T) {
	ctx, store := t.Context(), memblob.New()
	l := mustCreate(t, store)
	first := l.Current()
	if _, err := l.Commit(ctx, add("s1")); err != nil {
		t.Fatal(err)
	}
	walk := func() (err error) {
		for _, err = range History(ctx, store, l.Current()) {
		}
		return err
	}
	if err := store.Delete(ctx, first.Manifest.Key); err != nil {
		t.Fatal(err)
	}
	if err := walk(); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("parent collected: got %v, want not found", err)
	}
	forged := []byte("{}")
	if _, err := store.Put(ctx, first.Manifest.Key, bytes.NewReader(forged), 2, blob.Condition{}); err != nil {
		t.Fatal(err)
	}
	if err := walk(); !errors.Is(err, blob.ErrCorrupt) {
		t.Errorf("parent replaced: got %v, want corrupt", err)
	}
}

func TestList(t *testing.T) {
	ctx, store := t.Context(), memblob.New()
	if ids, err := List(ctx, store); err != nil || len(ids) != 0 {
		t.Errorf("empty store: got %v, %v", ids, err)
	}
	var want []string
	for i := range 1100 { // more than a page
		id := fmt.Sprintf("c%04d", i)
		want = append(want, id)
		if _, err := store.Put(ctx, CurrentKey(id), bytes.NewReader(nil), 0, blob.Condition{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := store.Put(ctx, "snapshots/x/y.json", bytes.NewReader(nil), 0, blob.Condition{}); err != nil {
		t.Fatal(err)
	}
	if ids, err := List(ctx, store); err != nil || !slices.Equal(ids, want) {
		t.Errorf("got %d ids, %v; want %d", len(ids), err, len(want))
	}
	if _, _, err := Read(ctx, store, "c9999"); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("no such collection: got %v, want not found", err)
	}
	if _, _, err := Read(ctx, store, "../c0001"); err == nil {
		t.Error("an id that is a path was read")
	}
}

// Nobody waits for another commit longer than its own context says.
func TestTurnHonoursContext(t *testing.T) {
	l := mustCreate(t, memblob.New())
	ended, cancel := context.WithCancel(t.Context())
	_, err := l.Commit(t.Context(), func(*Snapshot) error {
		cancel()
		if _, err := l.Commit(ended, add("s1")); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want canceled", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A denied write is not repeated for ever; yet it was sent, so it is unknown.
func TestDeniedPut(t *testing.T) {
	store := &hooked{Store: memblob.New()}
	l := mustCreate(t, store)
	denied := errors.New("access denied")
	store.pre = func(key string, _ blob.Condition) (bool, error) { return !isCurrent(key), denied }
	_, err := l.Commit(t.Context(), add("s1"))
	if u := new(UnknownError); !errors.As(err, &u) || !errors.Is(err, denied) {
		t.Errorf("got %v, want unknown because denied", err)
	}
	store.pre = func(string, blob.Condition) (bool, error) { return false, denied }
	l = mustCreate(t, memblob.New())
	l.store = store
	if _, err := l.Commit(t.Context(), add("s1")); !errors.Is(err, denied) || errors.As(err, new(*UnknownError)) {
		t.Errorf("body denied: got %v, want a definite failure", err)
	}
}

// The commit that may have been ours is out of reach and somebody else goes on.
func TestFencedBeyondTheHorizon(t *testing.T) {
	ctx, store := t.Context(), &hooked{Store: memblob.New()}
	l := mustCreate(t, store)
	var mine string
	store.put = func(key string) error {
		if !isCurrent(key) {
			mine = key
			return nil
		}
		store.put = nil
		other, err := Open(ctx, store, simID, "b", WithWait(noWait))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.Takeover(ctx); err != nil {
			t.Fatal(err)
		}
		if err := store.Store.Delete(ctx, mine); err != nil {
			t.Fatal(err)
		}
		return blob.ErrUnavailable
	}
	var u *UnknownError
	if _, err := l.Commit(ctx, add("s1")); !errors.As(err, &u) {
		t.Errorf("got %v, want unknown", err)
	}
	if _, err := l.Commit(ctx, add("s2")); !errors.Is(err, ErrFenced) {
		t.Errorf("got %v, want fenced", err)
	}
	if _, err := l.Resolve(ctx, u); !errors.As(err, new(*UnknownError)) {
		t.Errorf("resolve: got %v, want unknown for ever", err)
	}
}

func TestCreateUnknown(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	store := &hooked{Store: memblob.New()}
	store.pre = func(key string, _ blob.Condition) (bool, error) {
		if isCurrent(key) {
			cancel()
			return false, blob.ErrUnavailable
		}
		return true, nil
	}
	l, err := Create(ctx, store, testCollection(), "a", testOptions()...)
	var u *UnknownError
	if !errors.As(err, &u) || l == nil || l.Snapshot() != nil {
		t.Fatalf("got %v, %v; want unknown", l, err)
	}
	store.pre = nil
	if ok, err := l.Resolve(t.Context(), u); !ok || err != nil {
		t.Fatalf("resolve: got %v, %v; want applied", ok, err)
	}
	if got, err := l.Commit(t.Context(), add("s1")); err != nil || got.Version != 2 {
		t.Errorf("got %+v, %v; want version 2", got, err)
	}
	if _, err := Create(t.Context(), store, testCollection(), "", testOptions()...); err == nil {
		t.Error("an empty owner was accepted")
	}
}
