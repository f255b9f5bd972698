package manifest

import (
	"context"
	"errors"
	"math/bits"
	"testing"
	"time"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/memblob"
)

// counting counts reads of whole objects.
type counting struct {
	blob.Store
	gets int
}

func (c *counting) Get(ctx context.Context, key string) ([]byte, blob.Version, error) {
	c.gets++
	return c.Store.Get(ctx, key)
}

// chain makes a collection with so many versions, a second apart, and now and
// then two in one or a clock that is set back.
func chain(t *testing.T, versions int) (*counting, *Snapshot) {
	t.Helper()
	store := &counting{Store: memblob.New()}
	now := fixtureTime(0)
	l, err := Create(t.Context(), store, testCollection(), "a", append(testOptions(), WithClock(func() time.Time { return now }))...)
	if err != nil {
		t.Fatal(err)
	}
	for v := 2; v <= versions; v++ {
		switch {
		case v%7 == 0:
		case v%11 == 0:
			now = now.Add(-time.Minute)
		default:
			now = now.Add(time.Second)
		}
		if _, err := l.Commit(t.Context(), func(*Snapshot) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	return store, l.Snapshot()
}

func TestAt(t *testing.T) {
	const versions = 300
	store, newest := chain(t, versions)
	var times []time.Time // by version
	for want := uint64(1); want <= versions; want++ {
		store.gets = 0
		s, err := At(t.Context(), store, newest, want)
		if err != nil || s.Version != want {
			t.Fatalf("version %d: got %+v, %v", want, s, err)
		}
		if most := 2 * bits.Len64(versions-want); store.gets > most {
			t.Errorf("version %d: %d reads, want at most %d", want, store.gets, most)
		}
		times = append(times, s.CreatedAt)
	}
	// The newest version of each moment, and of moments between.
	for i := range times {
		for _, late := range []time.Duration{0, time.Nanosecond, 500 * time.Millisecond} {
			moment, want := times[i].Add(late), i
			for want+1 < len(times) && !times[want+1].After(moment) {
				want++
			}
			store.gets = 0
			s, err := AtTime(t.Context(), store, newest, moment)
			if err != nil || s.Version != uint64(want+1) {
				t.Fatalf("at %v: got %+v, %v; want version %d", moment, s, err, want+1)
			}
			if most := 2*bits.Len64(versions) + 1; store.gets > most {
				t.Errorf("at %v: %d reads, want at most %d", moment, store.gets, most)
			}
		}
	}
}

func TestNoSuchVersion(t *testing.T) {
	store, newest := chain(t, 20)
	for _, version := range []uint64{0, 21} {
		if s, err := At(t.Context(), store, newest, version); !errors.Is(err, ErrNoVersion) {
			t.Errorf("version %d: got %+v, %v; want %v", version, s, err, ErrNoVersion)
		}
	}
	if s, err := AtTime(t.Context(), store, newest, fixtureTime(0).Add(-1)); !errors.Is(err, ErrNoVersion) {
		t.Errorf("before there was any: got %+v, %v; want %v", s, err, ErrNoVersion)
	}
	five, err := At(t.Context(), store, newest, 5)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Delete(t.Context(), BodyKey(simID, 5, five.CommitID)); err != nil {
		t.Fatal(err)
	}
	if s, err := At(t.Context(), store, newest, 5); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("collected: got %+v, %v; want %v", s, err, blob.ErrNotFound)
	}
}

// Versions from before there were links are found one by one.
func TestAtInOldChains(t *testing.T) {
	store := loadStore(t, "testdata/compat/v2")
	l, err := Open(t.Context(), store, "films", "writer-1", testOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if _, err := l.Claim(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for version := uint64(1); version <= 14; version++ {
		if s, err := At(t.Context(), store, l.Snapshot(), version); err != nil || s.Version != version {
			t.Errorf("version %d: got %+v, %v", version, s, err)
		}
	}
}

// A body that is somebody else's is no ancestor, whatever names it.
func TestForeignAncestor(t *testing.T) {
	store, newest := chain(t, 4)
	other, err := Create(t.Context(), store, Collection{ID: "other", Name: "o", Dimension: 1, Metric: "l2"}, "a", testOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	forged := *newest
	link := other.Current().Manifest
	forged.Parent, forged.Ancestors = &link, nil
	if s, err := At(t.Context(), store, &forged, 1); !errors.Is(err, blob.ErrCorrupt) {
		t.Errorf("got %+v, %v; want corrupt", s, err)
	}
}

func TestSetDigest(t *testing.T) {
	var a, b SetDigest
	for i := range uint64(100) {
		a.Add(string(rune('a'+i)), i)
	}
	if a == b {
		t.Error("a hundred rows are as good as none")
	}
	for i := range uint64(100) {
		b.Add(string(rune('a'+99-i)), 99-i)
	}
	if a != b {
		t.Errorf("in another order: %v, want %v", b, a)
	}
	b.Remove("a", 0)
	b.Add("a", 100)
	if a == b {
		t.Error("a row of another sequence number is as good")
	}
	b.Remove("a", 100)
	var rest SetDigest
	rest.Add("a", 0)
	b.Union(rest)
	if a != b {
		t.Errorf("put together: %v, want %v", b, a)
	}
	// Numbers that another implementation can check.
	var one SetDigest
	one.Add("x", 1)
	if got, want := one.String(), "f91b14e7bbea4c5bfa0e1a7040177166"; got != want {
		t.Errorf("digest of x at 1: got %s, want %s", got, want)
	}
	var back SetDigest
	if err := back.UnmarshalText([]byte(one.String())); err != nil || back != one {
		t.Errorf("read back: got %v, %v; want %v", back, err, one)
	}
	for _, bad := range []string{"", "9d", one.String() + "0", "zz6b6d5a3a6b1c1e4f6f7a3a52d0b7f1", "9D6b6d5a3a6b1c1e4f6f7a3a52d0b7f1"} {
		if err := back.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q was taken for a digest", bad)
		}
	}
}

func TestObjectEpoch(t *testing.T) {
	seg := ObjectID(12, "01J")
	for key, want := range map[string]uint64{
		DataKey("c", seg):                               12,
		IndexKey("c", seg):                              12,
		DeletesKey("c", seg, ObjectID(13, "x")):         13,
		DeletesKey("c", "01J", ObjectID(123456789, "")): 123456789,
		QuantizerKey("c", ObjectID(3, "q")):             3,
		DataKey("c", "01KADX5M4N"):                      0, // from before ids had epochs
		DataKey("c", "0000012-x"):                       0,
		DeletesKey("c", seg, "01KADX5M4N"):              0,
	} {
		if got, ok := ObjectEpoch("c", key); !ok || got != want {
			t.Errorf("%s: got %d, %v; want %d", key, got, ok, want)
		}
	}
	for _, key := range []string{
		CurrentKey("c"), BodyKey("c", 1, "x"), "collections/c/segments/", SegmentPrefix("c", seg), DataKey("d", seg),
		SegmentPrefix("c", seg) + "notes.txt", "collections/c/quantizers/x", "collections/c/segments//data.parquet", DeletesKey("c", seg, ""),
	} {
		if got, ok := ObjectEpoch("c", key); ok {
			t.Errorf("%s: got epoch %d, want none", key, got)
		}
	}
	if v, ok := BodyVersion("c", BodyKey("c", 77, "x-y")); !ok || v != 77 {
		t.Errorf("body: got %d, %v; want 77", v, ok)
	}
	for _, key := range []string{CurrentKey("c"), BodyKey("d", 1, "x"), BodyPrefix("c") + "1-x", BodyPrefix("c")} {
		if v, ok := BodyVersion("c", key); ok {
			t.Errorf("%s: got version %d, want none", key, v)
		}
	}
}
