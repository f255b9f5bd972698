package ivfpq

import (
	"cmp"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// add offers a row, as a scan does many.
func (c *Candidates) add(est float32, key uint64) {
	if est <= c.limit {
		c.est, c.keys = append(c.est, est), append(c.keys, key)
	}
}

// few values, so that ties are common
func drawEntries(t *rapid.T) []entry {
	one := rapid.Custom(func(t *rapid.T) entry {
		return entry{
			distance: rapid.SampledFrom([]float32{-1, 0, 0.5, 0.5, 1, 2, 3, math.MaxFloat32, -math.MaxFloat32}).Draw(t, "distance"),
			number:   rapid.Uint32Range(0, 1000).Draw(t, "number"),
		}
	})
	return rapid.SliceOfN(one, 0, 200).Draw(t, "entries")
}

func TestShortlistIsTheNearestInAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := drawEntries(t)
		depth := rapid.IntRange(1, 40).Draw(t, "depth")
		s := newShortlist(depth)
		for i, x := range all {
			s.add(x)
			if i%50 == 49 {
				s.sorted() // looking must not change the outcome
			}
		}
		want := slices.SortedFunc(slices.Values(all), entry.compare)
		want = want[:min(depth, len(want))]
		if got := s.sorted(); !slices.Equal(got, want) {
			t.Fatalf("depth %d: got %v, want %v", depth, got, want)
		}
		s.reset(1)
		if len(s.sorted()) != 0 || !math.IsInf(float64(s.threshold), 1) {
			t.Fatalf("after reset: %v, threshold %v", s.sorted(), s.threshold)
		}
	})
}

func TestCandidatesAreTheLeastInAnyOrderAndOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := drawEntries(t)
		depth := rapid.IntRange(1, 40).Draw(t, "depth")
		c := NewCandidates(depth)
		for i, x := range all {
			c.add(x.distance, keyOf(x.number%3, x.number))
			if i%7 == 6 {
				c.settle()
			}
		}
		slices.SortFunc(all, func(a, b entry) int {
			return cmp.Or(cmp.Compare(a.distance, b.distance), cmp.Compare(keyOf(a.number%3, a.number), keyOf(b.number%3, b.number)))
		})
		want := map[uint64]float32{}
		for _, x := range all[:min(depth, len(all))] {
			if key := keyOf(x.number%3, x.number); want[key] == 0 {
				want[key] = x.distance + 1e-30 // not 0
			}
		}
		if c.Count() != len(want) {
			t.Fatalf("depth %d: %d rows, want %d", depth, c.Count(), len(want))
		}
		for i, key := range c.keys {
			if w, ok := want[key]; !ok || w != c.est[i]+1e-30 {
				t.Fatalf("depth %d: row %v at %v, want %v", depth, RowOf(key), c.est[i], w)
			}
		}
		c.Reset(1)
		if c.Count() != 0 || !math.IsInf(float64(c.limit), 1) {
			t.Fatalf("after Reset: %d rows, limit %v", c.Count(), c.limit)
		}
	})
}

func TestSelectionMovesTheLeastToTheFront(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := drawEntries(t)
		count := rapid.IntRange(0, len(all)).Draw(t, "count")
		want := slices.SortedFunc(slices.Values(all), entry.compare)
		d, id := make([]float32, len(all)), make([]uint32, len(all))
		for i, x := range all {
			d[i], id[i] = x.distance, x.number
		}
		selectPairs(d, id, count)
		for i := range count {
			if !slices.Contains(want[:count], entry{d[i], id[i]}) {
				t.Fatalf("the least %d are %v, got %v %v", count, want[:count], d[:count], id[:count])
			}
		}
		got := newShortlist(max(count, 1))
		for _, x := range all {
			got.add(x)
		}
		if nearest := got.sorted(); !slices.Equal(nearest[:min(count, len(nearest))], want[:count]) {
			t.Fatalf("the nearest %d are %v, got %v", count, want[:count], nearest)
		}
	})
}

func TestBitmapWordsAgainstSingleBits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows := rapid.Uint32Range(1, 400).Draw(t, "rows")
		bits := Bitmap(rapid.SliceOfN(rapid.Uint64(), int(rows+63)/64, int(rows+63)/64).Draw(t, "bits"))
		first := rapid.Uint32Range(0, rows-1).Draw(t, "first")
		count := rapid.Uint32Range(1, rows-first).Draw(t, "count")
		if rapid.Bool().Draw(t, "nil") {
			bits = nil
		}
		if err := bits.check(rows); err != nil {
			t.Fatal(err)
		}
		mask := make([]uint32, (count+31)/32)
		any := bits.masks(mask, first, count)
		var set uint32
		for i := range uint32(32 * len(mask)) {
			want := i < count && (bits == nil || bits[(first+i)/64]>>((first+i)%64)&1 != 0)
			if got := mask[i/32]>>(i%32)&1 != 0; got != want {
				t.Fatalf("row %d of %d from %d: got %v, want %v", i, count, first, got, want)
			}
			if want {
				set++
			}
		}
		if any != (set > 0) || bits.Any(List{First: first, Count: count}) != (set > 0) {
			t.Fatalf("%d bits are set: masks says %v, Any %v", set, any, bits.Any(List{First: first, Count: count}))
		}
	})
}

func TestBitmapTooShort(t *testing.T) {
	if err := make(Bitmap, 1).check(65); err == nil {
		t.Error("one word for 65 rows passed")
	}
	if (Bitmap)(nil).Any(List{}) || make(Bitmap, 0).Any(List{}) {
		t.Error("an empty list has no allowed row")
	}
}
