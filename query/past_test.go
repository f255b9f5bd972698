package query

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/internal/memtable"
	"github.com/akidb/akidb/segments/manifest"
)

// TestAsOf reads every version a collection had, in every way, from a process
// that has the newest, and from one that has none.
func TestAsOf(t *testing.T) {
	const dim = 3
	f := newFixture(t, dim, "l2")
	rng := rand.New(rand.NewPCG(1, 2))
	type version struct {
		number uint64
		at     time.Time
		rows   map[string]memtable.Op
	}
	var versions []version
	for range 20 {
		for range 1 + rng.IntN(5) {
			id := fmt.Sprintf("id%d", rng.IntN(30))
			if rng.IntN(4) == 0 {
				f.writer.delete(id)
			} else {
				f.writer.upsert(id, normal(rng, dim, 1), "")
			}
		}
		f.writer.flush()
		s := f.writer.log.Snapshot()
		versions = append(versions, version{s.Version, s.CreatedAt, maps.Clone(f.writer.rows)})
	}
	pinned := versions[7]
	f.writer.commit(func(next *manifest.Snapshot) {
		body, err := manifest.At(t.Context(), f.store, f.writer.log.Snapshot(), pinned.number)
		if err != nil {
			t.Fatal(err)
		}
		child, err := manifest.At(t.Context(), f.store, f.writer.log.Snapshot(), pinned.number+1)
		if err != nil {
			t.Fatal(err)
		}
		next.Pins = append(next.Pins, manifest.Pin{ID: "snap1", Name: "monday", Manifest: *child.Parent, Rows: body.Rows(), CreatedAt: f.clock()})
	})
	f.writer.upsert("unflushed", normal(rng, dim, 1), "")
	now := f.writer.rows
	defer func() { f.writer.rows = now }()
	for i := len(versions) - 1; i >= 0; i-- {
		v := versions[i]
		f.writer.rows = v.rows
		asOfs := []string{fmt.Sprint(v.number), fmt.Sprintf("%q", v.at.Format(time.RFC3339Nano))}
		if v.number == pinned.number {
			asOfs = append(asOfs, `"snap1"`, `"monday"`)
		}
		for _, asOf := range asOfs {
			q := normal(rng, dim, 1)
			var got searchAnswer
			_, header := f.call("POST", "/collections/movies/search", fmt.Sprintf(`{"vector":%s,"k":40,"as_of":%s}`, vectorJSONOf(q), asOf), &got)
			wantHits(t, got, f.writer.nearest(q, 40, nil))
			if got.ManifestVersion != v.number || string(header.Peek(httpapi.HeaderConsistency)) != "as_of" {
				t.Errorf("as of %s: version %d, consistency %q; want %d", asOf, got.ManifestVersion, header.Peek(httpapi.HeaderConsistency), v.number)
			}
			var count struct{ Count int }
			f.call("POST", "/collections/movies/vectors/count", fmt.Sprintf(`{"as_of":%s}`, asOf), &count)
			if count.Count != len(v.rows) {
				t.Errorf("as of %s: count is %d, want %d", asOf, count.Count, len(v.rows))
			}
			var page struct{ Vectors []Row }
			f.call("POST", "/collections/movies/vectors/scroll", fmt.Sprintf(`{"as_of":%s,"limit":100}`, asOf), &page)
			var ids []string
			for _, row := range page.Vectors {
				ids = append(ids, row.ID)
			}
			if want := sortedIDs(f.writer.nearest(q, math.MaxInt, nil)); !slices.Equal(ids, want) {
				t.Errorf("as of %s: scrolled %v, want %v", asOf, ids, want)
			}
		}
		for id := range now {
			var row Row
			status, _ := f.call("GET", fmt.Sprintf("/collections/movies/vectors/%s?as_of=%d", id, v.number), "", &row)
			if op, ok := v.rows[id]; ok != (status == 200) || ok && !slices.Equal(row.Vector, op.Vector) {
				t.Errorf("as of %d: %q is %d %v, want %v", v.number, id, status, row.Vector, op.Vector)
			}
		}
	}
	for _, c := range []struct {
		asOf   string
		status int
		code   string
	}{
		{`0`, 422, "invalid_as_of"}, {`-1`, 422, "invalid_as_of"}, {`1.5`, 422, "invalid_as_of"}, {`true`, 422, "invalid_as_of"}, {`"a b"`, 422, "invalid_as_of"},
		{`1000000`, 404, "version_not_found"}, {`"1999-01-01T00:00:00Z"`, 404, "version_not_found"}, {`"tuesday"`, 404, "snapshot_not_found"},
		{`3,"consistency":"strong"`, 422, "ambiguous_freshness"},
	} {
		var e httpapi.Error
		status, _ := f.call("POST", "/collections/movies/vectors/count", `{"as_of":`+c.asOf+`}`, &e)
		if status != c.status || e.Code != c.code {
			t.Errorf("as_of %s: %d %s, want %d %s", c.asOf, status, e.Code, c.status, c.code)
		}
	}
	var e httpapi.Error
	if status, _ := f.call("POST", "/collections/movies/search/batch", `{"searches":[{"id":"id1"},{"id":"id1","as_of":3}]}`, &e); status != 422 || e.Code != "mixed_as_of" || e.Field != "searches[1].as_of" {
		t.Errorf("a batch of two versions: %d %s %s", status, e.Code, e.Field)
	}
}

// What was collected is said to be gone, whichever part of it was first.
func TestAsOfCollected(t *testing.T) {
	f := newFixture(t, 3, "l2")
	for i := range 3 {
		f.writer.upsert("a", []float32{1, 2, float32(i)}, "")
		f.writer.flush()
	}
	f.writer.commit(func(next *manifest.Snapshot) { next.Segments = next.Segments[1:] }) // its row is superseded
	old, err := manifest.At(t.Context(), f.store, f.writer.log.Snapshot(), 2)
	if err != nil {
		t.Fatal(err)
	}
	gone := func() {
		t.Helper()
		var e httpapi.Error
		if status, _ := f.call("GET", "/collections/movies/vectors/a?as_of=2", "", &e); status != 410 || e.Code != "version_collected" {
			t.Errorf("got %d %s, want 410 version_collected", status, e.Code)
		}
	}
	if err := f.store.Delete(t.Context(), old.Segments[0].Index.Key); err != nil {
		t.Fatal(err)
	}
	gone()
	if err := f.store.Delete(t.Context(), manifest.BodyKey("ID1", 2, old.CommitID)); err != nil {
		t.Fatal(err)
	}
	gone()
	if status, _ := f.call("GET", "/collections/movies/vectors/a", "", nil); status != 200 {
		t.Errorf("the newest version is %d", status)
	}
}
