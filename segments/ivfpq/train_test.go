package ivfpq

import (
	"context"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/akidb/akidb/kernels"
)

// Every row is in one list, and spilled to one other.
func TestEveryRowIsInOneListAndSpilledToAnother(t *testing.T) {
	for _, c := range []struct{ n, dim, clusters, lists int }{
		{5000, 8, 3, 40},   // few clusters: most lists are split ones
		{5000, 8, 200, 40}, // many
		{6000, 6, 90, 400}, // trained in parts
		{300, 4, 10, 300},  // as many lists as rows
		{64, 4, 1, 1},
	} {
		rows, _ := clustered(uint64(c.n), c.n, 0, c.dim, c.clusters)
		for i := range c.n / 3 * c.dim { // and a third of the rows are one point
			rows[i] = 1
		}
		x, err := Build(t.Context(), rows, Config{Dim: c.dim, Metric: L2, Kind: IVF, Lists: c.lists, CalibrationQueries: 1})
		if err != nil {
			t.Fatal(err)
		}
		spilled := make([]int, c.n)
		for i, l := range x.Lists {
			v, err := x.Quantizer.view(l, x.list(uint32(i)))
			if err != nil {
				t.Fatal(err)
			}
			for j := range int(l.Spilled) {
				ordinal := binary.LittleEndian.Uint32(v.spilled[4*j:])
				if ordinal-l.First < l.Count {
					t.Fatalf("%+v: row %d is spilled to its own list", c, ordinal)
				}
				spilled[ordinal]++
			}
		}
		if want := min(len(x.Lists)-1, 1); slices.Min(spilled) != want || slices.Max(spilled) != want {
			t.Errorf("%+v: rows are spilled %d to %d times, want %d", c, slices.Min(spilled), slices.Max(spilled), want)
		}
		slices.Sort(x.Order)
		if !slices.Equal(x.Order, sampleRows(c.n, c.n, nil)) {
			t.Errorf("%+v: order is no permutation of the rows", c)
		}
	}
}

func TestSplitKeepsPartsWithinTheLimit(t *testing.T) {
	const n, dim = 1000, 6
	rows, _ := clustered(2, n, 0, dim, 3)
	for i := range n / 3 * dim { // a third of the rows are one point
		rows[i] = 1
	}
	parts := split(rows, dim, sampleRows(n, n, nil), 64)
	var all []uint32
	for _, p := range parts {
		if len(p) == 0 || len(p) > 64 || !slices.IsSorted(p) {
			t.Errorf("a part of %d rows, want 1..64 in ascending order", len(p))
		}
		all = append(all, p...)
	}
	slices.Sort(all)
	if !slices.Equal(all, sampleRows(n, n, nil)) {
		t.Errorf("%d rows in parts, want each of %d once", len(all), n)
	}
}

// meanSquare is the mean squared distance of the rows to their nearest centroid.
func meanSquare(rows, centroids []float32, dim int) float64 {
	var sum float64
	out := make([]float32, len(centroids)/dim)
	for i := 0; i < len(rows); i += dim {
		kernels.L2Rows(rows[i:i+dim], centroids, out)
		sum += float64(slices.Min(out))
	}
	return sum / float64(len(rows)/dim)
}

func TestKMeansFindsClusters(t *testing.T) {
	const dim, n, clusters = 8, 4000, 16
	random := rand.New(rand.NewPCG(1, 2))
	centres := normals(random, clusters*dim)
	rows := make([]float32, n*dim)
	for i := range rows {
		rows[i] = 5*centres[i/dim%clusters*dim+i%dim] + float32(random.NormFloat64())
	}
	c, err := trainCentroids(t.Context(), 2, rows, dim, 2*clusters, random)
	if err != nil {
		t.Fatal(err)
	}
	// Noise of variance 1 in 8 dimensions leaves 8, less for the centroids to spare.
	if got := meanSquare(rows, c.centroids, dim); got > 9.5 {
		t.Errorf("mean squared residual %v, want about 8", got)
	}
}

func TestKMeansRepairsEmptyClusters(t *testing.T) {
	const dim = 2
	var rows []float32
	for i := range 300 { // 270 rows at one point, 30 at points of their own
		at := float32(0)
		if i >= 270 {
			at = float32(i)
		}
		rows = append(rows, at, -at)
	}
	c, err := trainCentroids(t.Context(), 2, rows, dim, 20, rand.New(rand.NewPCG(1, 3)))
	if err != nil {
		t.Fatal(err)
	}
	assigned := make([]uint32, 300)
	c.assign(rows, assigned)
	used := map[uint32]bool{}
	for _, a := range assigned {
		used[a] = true
	}
	if len(used) < 18 { // the last iteration's repair may leave one or two
		t.Errorf("%d of 20 clusters are used", len(used))
	}
}

// Training in parts and by neighbours finds centroids as good as comparing all rows with all of
// them, and walking finds the nearest of them.
func TestTrainingByNeighboursIsAsGoodAsLloyd(t *testing.T) {
	const n, dim, lists = 20_000, 24, 600
	rows, _ := clustered(33, n, 0, dim, 150)
	near, err := trainCentroids(t.Context(), 2, rows, dim, lists, rand.New(rand.NewPCG(1, 6)))
	if err != nil {
		t.Fatal(err)
	}
	full, err := lloyd(t.Context(), 2, rows, dim, lists, lloydIterations, rand.New(rand.NewPCG(1, 6)))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := meanSquare(rows, near.centroids, dim), meanSquare(rows, full.centroids, dim); got > 1.02*want {
		t.Errorf("mean squared residual %v, by Lloyd's algorithm %v", got, want)
	}
	a, err := newAtlas(t.Context(), 2, near, trainNeighbours)
	if err != nil {
		t.Fatal(err)
	}
	var w walker
	walked, exact := make([]uint32, n), make([]uint32, n)
	w.assignRows(a, rows, walked)
	near.assign(rows, exact)
	var got, want float64
	for i := range exact {
		row := rows[i*dim : (i+1)*dim]
		got += math.Pow(wideScore(L2, row, near.row(int(walked[i]))), 2)
		want += math.Pow(wideScore(L2, row, near.row(int(exact[i]))), 2)
	}
	if got > 1.02*want {
		t.Errorf("rows walked to centroids at a mean square of %v, the nearest are at %v", got/n, want/n)
	}
}

// The second list of a row is chosen so that its residual is not along that of the first.
func TestSpillAvoidsParallelResiduals(t *testing.T) {
	// A row at (1, 0), between the centroids: its own at the origin, one as far beyond it along
	// the residual, and one a little further away across.
	centroids := make([]float32, 3*16)
	copy(centroids[16:], []float32{2.1, 0})
	copy(centroids[32:], []float32{1, 1.2})
	a := newAssigner(testQuantizer(t, Params{Dim: 2, Metric: L2, Codebook: Sign}, centroids))
	a.vector[0] = 1
	first, second := a.assign()
	if first != 0 || second != 2 {
		t.Errorf("lists %d and %d, want 0 and 2", first, second)
	}
}

func TestTourKeepsNeighboursAdjacent(t *testing.T) {
	const dim, count = 4, 500
	centroids := normals(rand.New(rand.NewPCG(1, 4)), count*dim)
	toured := inTour(newClusters(dim, centroids))
	length := func(v []float32) (sum float64) {
		for i := dim; i < len(v); i += dim {
			sum += wideScore(L2, v[i-dim:i], v[i:i+dim])
		}
		return sum
	}
	sorted := func(v []float32) []float32 { return slices.Sorted(slices.Values(v)) }
	if !slices.Equal(sorted(toured), sorted(centroids)) {
		t.Fatalf("the tour does not visit each of %d once", count)
	}
	if got, unsorted := length(toured), length(centroids); got > unsorted/2 {
		t.Errorf("the tour is %v long, as they came %v", got, unsorted)
	}
}

func TestSampleRows(t *testing.T) {
	for _, c := range []struct{ n, count int }{{10, 3}, {10, 10}, {1, 1}, {1000, 999}, {3, 8}} {
		got := sampleRows(c.n, c.count, rand.New(rand.NewPCG(1, 5)))
		if len(got) != c.count || slices.Max(got) >= uint32(c.n) {
			t.Errorf("%+v: got %v", c, got)
		}
		if c.count <= c.n && (!slices.IsSorted(got) || len(slices.Compact(got)) != c.count) {
			t.Errorf("%+v: got %v, want different numbers in ascending order", c, got)
		}
	}
}

func TestListCount(t *testing.T) {
	for n, want := range map[int]int{1: 1, 100: 1, 1000: 7, 20_000: 156, 60_000: 468, 250_000: 1953, 1_000_000: 4000, 10_000_000: 19531} {
		if got := ListCount(n); got != want {
			t.Errorf("%d rows: %d lists, want %d", n, got, want)
		}
	}
	for _, n := range []int{20_000, 1_000_000, 100_000_000} {
		if mean := n / ListCount(n); mean < 128 || mean > 512 {
			t.Errorf("%d rows: %d a list, want 128..512", n, mean)
		}
	}
}

func TestBuildStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	rows, _ := clustered(1, 500, 0, 4, 3)
	for _, kind := range []Kind{Flat, IVF} {
		if x, err := Build(ctx, rows, Config{Dim: 4, Metric: L2, Kind: kind}); err == nil || x != nil {
			t.Errorf("%v: built in spite of a cancelled context", kind)
		}
	}
}
