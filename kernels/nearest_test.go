package kernels

import (
	"math"
	"math/rand/v2"
	"testing"
)

// checkNearest wants a centroid within rounding of the best of a naive loop in float64, and the
// same answer for a row wherever it stands in the batch.
func checkNearest(t *testing.T, rows []float32, dim int, centroids []float32) {
	t.Helper()
	half := make([]float32, len(centroids)/dim)
	for c := range half {
		half[c] = dotGeneric(centroids[c*dim:(c+1)*dim], centroids[c*dim:(c+1)*dim]) / 2
	}
	out := make([]uint32, len(rows)/dim)
	Nearest(rows, dim, centroids, half, out)
	for i, pick := range out {
		row := rows[i*dim : (i+1)*dim]
		value := func(c int) (d, magnitude float64) {
			d, magnitude = float64(half[c]), float64(half[c])
			for j, x := range centroids[c*dim : (c+1)*dim] {
				d -= float64(x) * float64(row[j])
				magnitude += math.Abs(float64(x) * float64(row[j]))
			}
			return d, magnitude
		}
		got, magnitude := value(int(pick))
		for c := range half {
			want, m := value(c)
			if bound := float64(dim+4) * 0x1p-24 * (m + magnitude); got > want+bound {
				t.Errorf("dim %d row %d: centroid %d at %v, but %d is at %v", dim, i, pick, got, c, want)
			}
		}
		var alone [1]uint32
		Nearest(row, dim, centroids, half, alone[:])
		if alone[0] != pick {
			t.Errorf("dim %d row %d: centroid %d in a batch, %d alone", dim, i, pick, alone[0])
		}
	}
}

func TestNearestAgainstNaiveLoop(t *testing.T) {
	random := rand.New(rand.NewPCG(11, 1))
	for _, dim := range []int{1, 2, 3, 4, 5, 8, 15, 16, 17, 100} {
		for _, rows := range []int{1, 3, 4, 5, 9} {
			for _, centroids := range []int{1, 2, 7, 50} {
				checkNearest(t, normals(random, rows*dim), dim, normals(random, centroids*dim))
			}
		}
	}
}

func TestNearestTiesAndNaNGoToTheLowest(t *testing.T) {
	centroids, half := []float32{2, 1, 1, 1}, []float32{2, 0.5, 0.5, 0.5}
	nan := float32(math.NaN())
	out := make([]uint32, 5)
	Nearest([]float32{1, 1, nan, 1, nan}, 1, centroids, half, out)
	if want := [5]uint32{1, 1, 0, 1, 0}; [5]uint32(out) != want {
		t.Errorf("got %v, want %v", out, want)
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
