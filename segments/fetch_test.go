package segments

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/memblob"
	"github.com/akidb/akidb/segments/columns"
	"github.com/akidb/akidb/segments/ivfpq"
	"github.com/akidb/akidb/segments/manifest"
)

// callCounter counts calls that read, which are rounds where they follow one
// another.
type callCounter struct {
	blob.RangeReader
	calls int
}

func (c *callCounter) ReadRange(ctx context.Context, r blob.Range) ([]byte, error) {
	c.calls++
	return c.RangeReader.ReadRange(ctx, r)
}

func (c *callCounter) ReadRanges(ctx context.Context, rs []blob.Range) ([][]byte, error) {
	if len(rs) > 0 {
		c.calls++
	}
	return blob.ReadRanges(ctx, c.RangeReader, rs)
}

// A view opens in one call, and rows of all its segments, each with its own
// columns, are read in one.
func TestRowsOfAllSegmentsInOneRead(t *testing.T) {
	const dim = 6
	store := memblob.New()
	all := []*Rows{
		makeRows(rand.New(rand.NewPCG(11, 1)), "a", 400, dim),
		makeRows(rand.New(rand.NewPCG(11, 2)), "b", 300, dim),
		makeRows(rand.New(rand.NewPCG(11, 3)), "c", 200, dim),
	}
	var segs []manifest.Segment
	var orders [][]uint32
	for i, kind := range []ivfpq.Kind{ivfpq.IVF, ivfpq.Exact, ivfpq.IVF} {
		seg, order := build(t, store, string(rune('A'+i)), dim, kind, all[i])
		segs, orders = append(segs, seg), append(orders, order)
	}
	count := &callCounter{RangeReader: blob.Direct(store)}
	snap := &manifest.Snapshot{
		Collection: manifest.Collection{ID: testCollection, Dimension: dim, Metric: "l2"}, Segments: segs, Quantizers: quantizers(t, store, segs...),
	}
	v, err := OpenView(t.Context(), count, snap, nil)
	if err != nil || count.calls != 1 {
		t.Fatalf("opened in %d reads: %v", count.calls, err)
	}
	rng := rand.New(rand.NewPCG(11, 4))
	wants := []columns.Projection{columns.ProjectVector | columns.ProjectID, columns.ProjectMetadata | columns.ProjectID, columns.ProjectVector}
	for range 50 {
		at := make([]Location, 1+rng.IntN(30))
		for i := range at {
			s := rng.IntN(len(all))
			at[i] = Location{s, rng.Uint32N(uint32(all[s].Len()))}
		}
		count.calls = 0
		got, err := v.RowsAtBySegment(t.Context(), at, func(s int) columns.Projection { return wants[s] })
		if err != nil || count.calls != 1 || got.Seqs != nil {
			t.Fatalf("%d reads, sequence numbers %v: %v", count.calls, got.Seqs, err)
		}
		for i, l := range at {
			want := all[l.Segment].row(int(orders[l.Segment][l.Ordinal]), dim)
			if wants[l.Segment]&columns.ProjectID != 0 && got.IDs[i] != want.ID {
				t.Fatalf("row %v has id %q, want %q", l, got.IDs[i], want.ID)
			}
			if wants[l.Segment]&columns.ProjectVector != 0 && !slices.Equal(got.Vectors[i*dim:(i+1)*dim], want.Vector) {
				t.Fatalf("row %v has another vector", l)
			}
			if wants[l.Segment]&columns.ProjectMetadata != 0 && string(got.Metadata[i]) != string(want.Metadata) {
				t.Fatalf("row %v has metadata %s, want %s", l, got.Metadata[i], want.Metadata)
			}
		}
	}
	count.calls = 0
	if _, found, err := v.Lookup(t.Context(), []string{"a1", "b2", "c3", "d4"}); err != nil || count.calls != 1 || !slices.Equal(found, []bool{true, true, true, false}) {
		t.Errorf("found %v in %d reads: %v", found, count.calls, err)
	}
}
