package ivfpq

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// few values, so that ties are common
func drawCandidates(t *rapid.T) []Candidate {
	one := rapid.Custom(func(t *rapid.T) Candidate {
		return Candidate{
			Distance: rapid.SampledFrom([]float32{-1, 0, 0.5, 0.5, 1, 2, 3, math.MaxFloat32, -math.MaxFloat32}).Draw(t, "distance"),
			Segment:  rapid.Uint32Range(0, 2).Draw(t, "segment"),
			Ordinal:  rapid.Uint32Range(0, 1000).Draw(t, "ordinal"),
		}
	})
	return rapid.SliceOfN(one, 0, 200).Draw(t, "candidates")
}

func TestCandidatesAreTheBestInAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := drawCandidates(t)
		depth := rapid.IntRange(1, 40).Draw(t, "depth")
		c := NewCandidates(depth)
		for i, x := range all {
			c.Add(x)
			if i%50 == 49 {
				c.Sorted() // looking must not change the outcome
			}
		}
		want := slices.SortedFunc(slices.Values(all), Candidate.Compare)
		want = want[:min(depth, len(want))]
		if got := c.Sorted(); !slices.Equal(got, want) {
			t.Fatalf("depth %d: got %v, want %v", depth, got, want)
		}
		for _, x := range all {
			if x.Distance > c.Threshold() && slices.Contains(want, x) {
				t.Fatalf("threshold %v excludes %v, which is among the best", c.Threshold(), x)
			}
		}
		c.Reset(1)
		if len(c.Sorted()) != 0 || !math.IsInf(float64(c.Threshold()), 1) {
			t.Fatalf("after Reset: %v, threshold %v", c.Sorted(), c.Threshold())
		}
	})
}

func TestSelectBestMovesTheBestToTheFront(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := drawCandidates(t)
		count := rapid.IntRange(0, len(all)).Draw(t, "count")
		want := slices.SortedFunc(slices.Values(all), Candidate.Compare)
		selectBest(all, count)
		got := slices.SortedFunc(slices.Values(all[:count]), Candidate.Compare)
		if !slices.Equal(got, want[:count]) {
			t.Fatalf("the best %d are %v, got %v", count, want[:count], got)
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
			t.Fatalf("%d bits are set: masks says %v, Any %v", set, any, bits.Any(List{first, count}))
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
