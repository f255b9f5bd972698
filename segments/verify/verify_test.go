package verify

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/oklog/ulid/v2"

	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/faultblob"
	"github.com/akidb/akidb/segments/blob/memblob"
	"github.com/akidb/akidb/segments/columns"
	"github.com/akidb/akidb/segments/ivfpq"
	"github.com/akidb/akidb/segments/manifest"
)

const dim = 4

var began = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// site is a store that is filled as a writer does it.
type site struct {
	t     *testing.T
	store blob.Store
	log   *manifest.Log
	ids   int
	seq   uint64
}

func newSite(t *testing.T) *site {
	s := &site{t: t, store: memblob.New()}
	log, err := manifest.Create(t.Context(), s.store, manifest.Collection{ID: "01KAQGXW3Y6K0V2Q5S1T8R9N4M", Name: "films", Dimension: dim, Metric: "l2"}, "log",
		manifest.WithClock(func() time.Time { return began }))
	s.must(err)
	s.log = log
	return s
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) objectID() string {
	s.ids++
	var entropy [10]byte
	entropy[9] = byte(s.ids)
	id := ulid.ULID{}
	s.must(id.SetTime(ulid.Timestamp(began)))
	s.must(id.SetEntropy(entropy[:]))
	return manifest.ObjectID(s.log.Current().Epoch, id.String())
}

// build makes a segment of rows first to first+count-1 and uploads it.
func (s *site) build(first, count int, kind ivfpq.Kind) (manifest.Segment, *manifest.Quantizer, manifest.SetDigest) {
	s.t.Helper()
	rng := rand.New(rand.NewPCG(1, uint64(first)))
	rows, digest := &segments.Rows{}, manifest.SetDigest{}
	for i := range count {
		s.seq++
		v := make([]float32, dim)
		for j := range v {
			v[j] = float32(rng.NormFloat64())
		}
		rows.Append(columns.Row{ID: fmt.Sprintf("row-%d", first+i), Vector: v, Metadata: []byte(`{"n":1}`), Seq: s.seq})
		digest.Add(fmt.Sprintf("row-%d", first+i), s.seq)
	}
	b, err := segments.Build(s.t.Context(), segments.BuildConfig{Dim: dim, Metric: ivfpq.L2, Dir: s.t.TempDir(), Index: ivfpq.Config{Kind: kind, Lists: 4}}, rows)
	s.must(err)
	defer b.Close()
	var q *manifest.Quantizer
	shared, id := "", s.log.Snapshot().Collection.ID
	if z := b.Quantizer(); z != nil {
		shared = s.objectID()
		entry, err := segments.PutQuantizer(s.t.Context(), s.store, id, shared, z)
		s.must(err)
		q = &entry
	}
	seg, err := b.Upload(s.t.Context(), s.store, id, s.objectID(), shared)
	s.must(err)
	return seg, q, digest
}

func (s *site) commit(edit func(next *manifest.Snapshot)) {
	s.t.Helper()
	_, err := s.log.Commit(s.t.Context(), func(next *manifest.Snapshot) error { edit(next); return nil })
	s.must(err)
}

// fill makes two segments, one in lists, of which one has a row deleted, and a
// pin on a version before.
func (s *site) fill() {
	for _, part := range []struct {
		first, count int
		kind         ivfpq.Kind
	}{{0, 300, ivfpq.IVF}, {300, 20, ivfpq.Exact}} {
		seg, q, digest := s.build(part.first, part.count, part.kind)
		s.commit(func(next *manifest.Snapshot) {
			next.Segments = append(next.Segments, seg)
			if q != nil {
				next.Quantizers = append(next.Quantizers, *q)
			}
			next.SetDigest.Union(digest)
			next.FlushedSeq = s.seq
		})
	}
	pin := manifest.Pin{ID: "pin", Manifest: s.log.Current().Manifest, Rows: 320, CreatedAt: began}
	id := s.log.Snapshot().Collection.ID
	seg := s.log.Snapshot().Segments[1]
	d, err := segments.PutDeletes(s.t.Context(), s.store, manifest.DeletesKey(id, seg.ID, s.objectID()), roaring.BitmapOf(3))
	s.must(err)
	view, err := segments.OpenView(s.t.Context(), blob.Direct(s.store), s.log.Snapshot(), nil)
	s.must(err)
	gone, err := view.Row(s.t.Context(), segments.Location{Segment: 1, Ordinal: 3})
	s.must(err)
	s.commit(func(next *manifest.Snapshot) {
		next.Segments[1].Deletes = d
		next.SetDigest.Remove(gone.ID, gone.Seq)
		next.Pins = append(next.Pins, pin)
	})
	s.put(manifest.SnapshotKey(id, "pin"), []byte("{}"))
}

func (s *site) put(key string, b []byte) {
	s.t.Helper()
	_, err := s.store.Put(context.Background(), key, bytes.NewReader(b), int64(len(b)), blob.Condition{})
	s.must(err)
}

func (s *site) verify(opts Options) *Report {
	s.t.Helper()
	if opts.Now == nil {
		opts.Now = func() time.Time { return began.Add(time.Hour) }
	}
	r, err := Store(s.t.Context(), s.store, opts)
	s.must(err)
	return r
}

func TestWhole(t *testing.T) {
	s := newSite(t)
	s.fill()
	seen := 0
	r := s.verify(Options{Progress: func(string, string, int64) { seen++ }})
	if len(r.Problems) > 0 || len(r.Collections) != 1 {
		t.Fatalf("got %+v", r)
	}
	c := r.Collections[0]
	if c.Rows != 319 || c.Segments != 2 || c.Objects != 6 || seen != 6 || c.Chain != 4 || c.Oldest != 1 || c.Pins != 1 || c.Orphans+c.InFlight+c.Foreign != 0 ||
		c.Digest != s.log.Snapshot().SetDigest.String() || c.Name != "films" {
		t.Errorf("got %+v after %d objects", c, seen)
	}
	if r := s.verify(Options{Shallow: true}); len(r.Problems) > 0 || r.Collections[0].Objects != 6 || r.Collections[0].Digest != "" {
		t.Errorf("shallow: %+v", r)
	}
	if r := s.verify(Options{Collections: []string{"films"}}); len(r.Problems) > 0 || len(r.Collections) != 1 {
		t.Errorf("by name: %+v", r)
	}
	if r := s.verify(Options{Collections: []string{"music"}}); len(r.Problems) != 1 || len(r.Collections) != 0 {
		t.Errorf("one that is not there: %+v", r)
	}
}

// One flipped bit anywhere in what the newest version or a pin is read from is
// found, and so is an object that is gone, cut short or longer.
func TestDamage(t *testing.T) {
	s := newSite(t)
	s.fill()
	keys := []string{manifest.CurrentKey(s.log.Snapshot().Collection.ID), s.log.Current().Manifest.Key, s.log.Snapshot().Pins[0].Manifest.Key, s.log.Snapshot().Parent.Key}
	for o := range s.log.Snapshot().Objects() {
		keys = append(keys, o.Key)
	}
	rng := rand.New(rand.NewPCG(7, 7))
	for _, key := range keys {
		good, _, err := s.store.Get(t.Context(), key)
		s.must(err)
		for n := range 40 {
			bit := rng.IntN(8 * len(good))
			if n < 2 {
				bit = n * (8*len(good) - 1)
			}
			bad := bytes.Clone(good)
			bad[bit/8] ^= 1 << (bit % 8)
			s.put(key, bad)
			if r := s.verify(Options{}); len(r.Problems) == 0 {
				t.Errorf("%s: bit %d flipped was not found", key, bit)
			}
		}
		for name, bad := range map[string][]byte{"cut short": good[:len(good)-1], "longer": append(bytes.Clone(good), 0), "empty": {}} {
			s.put(key, bad)
			if r := s.verify(Options{}); len(r.Problems) == 0 {
				t.Errorf("%s %s was not found", key, name)
			}
		}
		s.put(key, good)
	}
	for o := range s.log.Snapshot().Objects() {
		good, _, err := s.store.Get(t.Context(), o.Key)
		s.must(err)
		s.must(s.store.Delete(t.Context(), o.Key))
		for _, shallow := range []bool{false, true} {
			if r := s.verify(Options{Shallow: shallow}); len(r.Problems) == 0 || r.Problems[0].Key != o.Key {
				t.Errorf("%s gone: %+v", o.Key, r.Problems)
			}
		}
		s.put(o.Key, good)
	}
	if r := s.verify(Options{}); len(r.Problems) > 0 {
		t.Errorf("whole again: %+v", r.Problems)
	}
}

// What a writer could get wrong, committed in good order.
func TestWrongManifests(t *testing.T) {
	for want, edit := range map[string]func(s *site, next *manifest.Snapshot){
		"rows have set digest":     func(_ *site, next *manifest.Snapshot) { next.SetDigest.Add("lost", 1) },
		"brought back or reverted": func(_ *site, next *manifest.Snapshot) { next.Segments[1].Deletes = nil }, // a deleted row is back
		"an id lives in two rows": func(s *site, next *manifest.Snapshot) {
			seg, _, d := s.build(310, 5, ivfpq.Exact)
			next.Segments = append(next.Segments, seg)
			next.SetDigest.Union(d)
			next.FlushedSeq = s.seq
		},
		"has sequence number": func(s *site, next *manifest.Snapshot) {
			seg, _, d := s.build(900, 5, ivfpq.Exact)
			next.Segments = append(next.Segments, seg)
			next.SetDigest.Union(d)
		},
		"pinned by pin with 9 rows": func(_ *site, next *manifest.Snapshot) { next.Pins[0].Rows = 9 },
		"collection other: ":        func(s *site, next *manifest.Snapshot) { next.Origins = []string{"other"} },
		"snapshot pin2 has no descr": func(_ *site, next *manifest.Snapshot) {
			p := next.Pins[0]
			p.ID = "pin2"
			next.Pins = append(next.Pins, p)
		},
	} {
		s := newSite(t)
		s.fill()
		s.commit(func(next *manifest.Snapshot) { edit(s, next) })
		r := s.verify(Options{Now: func() time.Time { return began.Add(24 * time.Hour) }, OrphanGrace: 23 * time.Hour})
		found := false
		for _, p := range r.Problems {
			found = found || strings.Contains(p.What, want) || want == "collection other: " && strings.Contains(p.What, "origin of collection")
		}
		if !found {
			t.Errorf("%q is not among %v", want, r.Problems)
		}
	}
}

// Orphans count from the time they were made and are a problem past the grace.
func TestOrphans(t *testing.T) {
	s := newSite(t)
	s.fill()
	id := s.log.Snapshot().Collection.ID
	s.put(manifest.DataKey(id, s.objectID()), []byte("x")) // of an upload that died
	s.put(manifest.DataKey(id, s.log.Snapshot().Segments[0].ID)+".bak", []byte("x"))
	if r := s.verify(Options{}); len(r.Problems) > 0 || r.Collections[0].InFlight != 1 || r.Collections[0].Foreign != 1 {
		t.Errorf("on its way: %+v", r)
	}
	_, err := s.log.Claim(t.Context())
	s.must(err)
	r := s.verify(Options{})
	if c := r.Collections[0]; len(r.Problems) > 0 || c.Orphans != 1 || c.InFlight != 0 {
		t.Errorf("within the grace: %+v", r)
	}
	r = s.verify(Options{OrphanGrace: 59 * time.Minute})
	orphans := 0
	for _, p := range r.Problems {
		if !strings.Contains(p.What, "an orphan since 2026-01-01T00:00:00Z") {
			t.Errorf("unexpected: %v", p)
		}
		orphans++
	}
	// The upload, and the bodies of versions that were replaced an hour ago but
	// for the pinned one.
	if orphans != 1+3 {
		t.Errorf("%d orphans: %v", orphans, r.Problems)
	}
}

// A store that cannot be reached is no damage.
func TestUnavailable(t *testing.T) {
	s := newSite(t)
	s.fill()
	for n := range 60 {
		fault := faultblob.New(s.store)
		rule := fault.Inject(faultblob.Nth(n), faultblob.Fail(blob.ErrUnavailable))
		r, err := Store(t.Context(), fault, Options{Now: func() time.Time { return began }})
		if rule.Fired() == 0 {
			return // every call was one of them
		}
		if err == nil {
			t.Errorf("call %d failed: %+v", n, r)
		}
	}
}
