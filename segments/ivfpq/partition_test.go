package ivfpq

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/akidb/akidb/kernels"
)

func testSource(t *testing.T, rows []float32, dim int) *source {
	t.Helper()
	src, err := newSource(t.Context(), newSpace(Params{Dim: dim, Metric: L2, Kind: IVF, Seed: 1}), rows, 2)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

func TestPartitionHasEveryRowOnceWithinTheCap(t *testing.T) {
	for _, c := range []struct{ n, dim, clusters, lists int }{
		{5000, 8, 3, 40},   // few clusters: most lists are split ones
		{5000, 8, 200, 40}, // many
		{300, 4, 10, 300},  // as many lists as rows
		{64, 4, 1, 1},
	} {
		rows, _ := clustered(uint64(c.n), c.n, 0, c.dim, c.clusters)
		for i := range c.n / 3 * c.dim { // and a third of the rows are one point
			rows[i] = 1
		}
		groups, err := testSource(t, rows, c.dim).partition(t.Context(), c.lists, rand.New(rand.NewPCG(1, 1)))
		if err != nil {
			t.Fatal(err)
		}
		var all []uint32
		for _, g := range groups {
			if len(g) == 0 || len(g) > listCap(c.n, c.lists) || !slices.IsSorted(g) {
				t.Errorf("%+v: a list of %d rows, want 1..%d in ascending order", c, len(g), listCap(c.n, c.lists))
			}
			all = append(all, g...)
		}
		slices.Sort(all)
		if !slices.Equal(all, sampleRows(c.n, c.n, nil)) {
			t.Errorf("%+v: %d rows in lists, want each of %d once", c, len(all), c.n)
		}
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
	c, err := kmeans(t.Context(), 2, rows, dim, 2*clusters, random)
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
	c, err := kmeans(t.Context(), 2, rows, dim, 20, rand.New(rand.NewPCG(1, 3)))
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

func TestTourKeepsNeighboursAdjacent(t *testing.T) {
	const dim, count = 4, 500
	centroids := normals(rand.New(rand.NewPCG(1, 4)), count*dim)
	order := tour(dim, centroids)
	length := func(order []int) (sum float64) {
		for i := 1; i < len(order); i++ {
			a, b := order[i-1]*dim, order[i]*dim
			sum += wideScore(L2, centroids[a:a+dim], centroids[b:b+dim])
		}
		return sum
	}
	if !slices.Equal(slices.Sorted(slices.Values(order)), upTo(count)) {
		t.Fatalf("the tour does not visit each of %d once", count)
	}
	if got, unsorted := length(order), length(upTo(count)); got > unsorted/2 {
		t.Errorf("the tour is %v long, as they came %v", got, unsorted)
	}
}

func upTo(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
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
		if got := listCount(n); got != want {
			t.Errorf("%d rows: %d lists, want %d", n, got, want)
		}
	}
	for _, n := range []int{20_000, 1_000_000, 100_000_000} {
		if mean := n / listCount(n); mean < 128 || mean > 512 {
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
