package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// checkNearest wants, at every level, a centroid within rounding of the best of a naive loop in
// float64, and the same answer for a row wherever it stands in the batch.
func checkNearest(t *testing.T, rows []float32, dim int, centroids []float32) {
	t.Helper()
	half := make([]float32, len(centroids)/dim)
	for c := range half {
		half[c] = dotGeneric(centroids[c*dim:(c+1)*dim], centroids[c*dim:(c+1)*dim]) / 2
	}
	err := everyLevel(func() error {
		return everyPlace("rows", rows, func(rows []float32) error {
			return everyPlace("centroids", centroids, func(centroids []float32) error {
				return nearestDiffers(Nearest, rows, dim, centroids, atGuard("half", half))
			})
		})
	})
	if err != nil {
		t.Error(err)
	}
}

type nearestFunc func(rows []float32, dim int, centroids, halfNorms []float32, out []uint32)

func nearestDiffers(kernel nearestFunc, rows []float32, dim int, centroids, half []float32) error {
	count := len(rows) / dim
	out := make([]uint32, count+8)
	for i := range 8 {
		out[count+i] = canary
	}
	kernel(rows, dim, centroids, half, out[:count])
	for i, pick := range out[:count] {
		row := rows[i*dim : (i+1)*dim]
		value := func(c int) (d, magnitude float64) {
			d, magnitude = float64(half[c]), float64(half[c])
			for j, x := range centroids[c*dim : (c+1)*dim] {
				d -= float64(x) * float64(row[j])
				magnitude += math.Abs(float64(x) * float64(row[j]))
			}
			return d, magnitude
		}
		if int(pick) >= len(half) {
			return fmt.Errorf("dim %d row %d of %d: centroid %d of %d", dim, i, count, pick, len(half))
		}
		got, magnitude := value(int(pick))
		for c := range half {
			want, m := value(c)
			if bound := float64(dim+4) * 0x1p-24 * (m + magnitude); !(got <= want+bound) {
				return fmt.Errorf("dim %d row %d of %d: centroid %d at %v, but %d is at %v", dim, i, count, pick, got, c, want)
			}
		}
		var alone [1]uint32
		kernel(row, dim, centroids, half, alone[:])
		if alone[0] != pick {
			return fmt.Errorf("dim %d row %d of %d: centroid %d in a batch, %d alone", dim, i, count, pick, alone[0])
		}
	}
	for i := range 8 {
		if out[count+i] != canary {
			return fmt.Errorf("dim %d: written past the destination", dim)
		}
	}
	return nil
}

func TestNearestAgainstNaiveLoop(t *testing.T) {
	random := rand.New(rand.NewPCG(11, 1))
	for _, dim := range []int{1, 2, 3, 4, 5, 8, 15, 16, 17, 100} {
		for _, rows := range []int{1, 3, 4, 5, 9, 16, 33} {
			for _, centroids := range []int{1, 2, 7, 12, 50} {
				checkNearest(t, normals(random, rows*dim), dim, normals(random, centroids*dim))
			}
		}
	}
}

func TestNearestOverMoreThanOnePass(t *testing.T) {
	random := rand.New(rand.NewPCG(17, 1))
	checkNearest(t, normals(random, 300*16), 16, normals(random, 25*16))
	checkNearest(t, normals(random, 70*1536), 1536, normals(random, 13*1536))
}

// Integers have exact sums, so that every level must give the answer of the first least one.
func TestNearestTiesGoToTheLowestInEachLane(t *testing.T) {
	random := rand.New(rand.NewPCG(18, 1))
	for _, centroids := range []int{1, 5, 6, 7, 8, 11, 12, 13, 24, 40} {
		rows, table, half := make([]float32, 100*3), make([]float32, centroids*3), make([]float32, centroids)
		for i := range rows {
			rows[i] = float32(random.IntN(5) - 2)
		}
		for i := range table {
			table[i] = float32(random.IntN(3) - 1)
		}
		for i := range half {
			half[i] = float32(random.IntN(2))
		}
		want := make([]uint32, 100)
		nearestGeneric(rows, 3, table, half, want)
		err := everyLevel(func() error {
			got := make([]uint32, 100)
			Nearest(rows, 3, table, half, got)
			if !slices.Equal(got, want) {
				return fmt.Errorf("got %v, want %v", got, want)
			}
			return nil
		})
		if err != nil {
			t.Errorf("%d centroids: %v", centroids, err)
		}
	}
}

// With two elements, of which one is out of all proportion, rounding decides nothing, so that
// every level must agree with the reference.
func TestNearestWithSpecialValuesInEachLane(t *testing.T) {
	random := rand.New(rand.NewPCG(19, 1))
	const dim, count, clusters = 2, 33, 14
	for lane := range count {
		for _, special := range specials {
			for place := range 3 {
				rows, centroids, half := normals(random, count*dim), normals(random, clusters*dim), normals(random, clusters)
				switch place {
				case 0:
					rows[lane*dim+lane%dim] = special
				case 1:
					centroids[lane%(clusters*dim)] = special
				case 2:
					half[lane%clusters] = special
				}
				want := make([]uint32, count)
				nearestGeneric(rows, dim, centroids, half, want)
				err := everyLevel(func() error {
					got := make([]uint32, count)
					Nearest(rows, dim, centroids, half, got)
					if !slices.Equal(got, want) {
						return fmt.Errorf("got %v, want %v", got, want)
					}
					return nil
				})
				if err != nil {
					t.Errorf("lane %d, place %d is %v: %v", lane, place, special, err)
				}
			}
		}
	}
}

func TestNearestTiesAndNaNGoToTheLowest(t *testing.T) {
	centroids, half := []float32{2, 1, 1, 1}, []float32{2, 0.5, 0.5, 0.5}
	nan := float32(math.NaN())
	err := everyLevel(func() error {
		out := make([]uint32, 5)
		Nearest([]float32{1, 1, nan, 1, nan}, 1, centroids, half, out)
		if want := [5]uint32{1, 1, 0, 1, 0}; [5]uint32(out) != want {
			return fmt.Errorf("got %v, want %v", out, want)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestNearestMisused(t *testing.T) {
	mustPanic(t, "no centroids", func() { Nearest(make([]float32, 4), 4, nil, nil, make([]uint32, 1)) })
	mustPanic(t, "centroid cut", func() {
		Nearest(make([]float32, 4), 4, make([]float32, 7), make([]float32, 2), make([]uint32, 1))
	})
	mustPanic(t, "row cut", func() {
		Nearest(make([]float32, 7), 4, make([]float32, 4), make([]float32, 1), make([]uint32, 2))
	})
}

func FuzzNearest(f *testing.F) {
	f.Add(uint64(1), uint8(3), uint8(5), uint8(4))
	f.Fuzz(func(t *testing.T, seed uint64, dim, rows, centroids uint8) {
		random := rand.New(rand.NewPCG(seed, 0))
		d := int(dim)%40 + 1
		checkNearest(t, normals(random, (int(rows)%20+1)*d), d, normals(random, (int(centroids)%20+1)*d))
	})
}
