package ivfpq

import (
	"context"
	"math/rand/v2"
	"slices"

	"github.com/akidb/akidb/kernels"
)

const (
	trainIterations = 10  // of Lloyd; the mean residual changes by less than 1 % after
	trainRows       = 64  // sampled rows a centroid
	assignBatch     = 256 // rows between two looks at the context
)

// clusters is a set of centroids and what their assignment needs.
type clusters struct {
	dim       int
	centroids []float32
	halfNorms []float32
}

func newClusters(dim int, centroids []float32) *clusters {
	c := &clusters{dim: dim, centroids: centroids, halfNorms: make([]float32, len(centroids)/dim)}
	for i := range c.halfNorms {
		row := c.row(i)
		c.halfNorms[i] = dot(row, row) / 2
	}
	return c
}

func (c *clusters) row(i int) []float32 { return c.centroids[i*c.dim : (i+1)*c.dim] }

func (c *clusters) assign(rows []float32, out []uint32) {
	kernels.Nearest(rows, c.dim, c.centroids, c.halfNorms, out)
}

// kmeans trains count centroids on rows (Lloyd 1982) from a random choice of them. A cluster
// that loses all its rows takes over the row that lies furthest from its centroid. Rows should
// be centred on their mean: the assignment compares inner products.
func kmeans(ctx context.Context, workers int, rows []float32, dim, count int, random *rand.Rand) (*clusters, error) {
	n := len(rows) / dim
	centroids := make([]float32, 0, count*dim)
	for _, i := range sampleRows(n, count, random) {
		centroids = append(centroids, rows[int(i)*dim:(int(i)+1)*dim]...)
	}
	assigned := make([]uint32, n)
	c := newClusters(dim, centroids)
	for range trainIterations {
		batches := (n + assignBatch - 1) / assignBatch
		err := parallel(ctx, workers, batches, func(_, batch int) {
			low, high := batch*assignBatch, min((batch+1)*assignBatch, n)
			c.assign(rows[low*dim:high*dim], assigned[low:high])
		})
		if err != nil {
			return nil, err
		}
		members := groupRows(assigned, count)
		if err := parallel(ctx, workers, count, func(_, i int) { meanOf(rows, dim, members[i], c.row(i)) }); err != nil {
			return nil, err
		}
		c.repair(rows, assigned, members)
		c = newClusters(dim, centroids)
	}
	return c, nil
}

// repair gives each empty cluster a row of its own: those furthest from their centroids, one by
// one. Rows at distance 0 (duplicates) are as good as any then.
func (c *clusters) repair(rows []float32, assigned []uint32, members [][]uint32) {
	var empty []int
	for i, m := range members {
		if len(m) == 0 {
			empty = append(empty, i)
		}
	}
	if len(empty) == 0 {
		return
	}
	furthest := NewCandidates(len(empty))
	var square [1]float32
	for i, own := range assigned {
		kernels.L2Rows(c.row(int(own)), rows[i*c.dim:(i+1)*c.dim], square[:])
		furthest.Add(Candidate{Distance: -square[0], Ordinal: uint32(i)})
	}
	for i, f := range furthest.Sorted() {
		copy(c.row(empty[i]), rows[int(f.Ordinal)*c.dim:(int(f.Ordinal)+1)*c.dim])
	}
}

// groupRows lists the rows of each cluster in ascending order.
func groupRows(assigned []uint32, count int) [][]uint32 {
	sizes := make([]int, count)
	for _, a := range assigned {
		sizes[a]++
	}
	all := make([]uint32, len(assigned))
	groups := make([][]uint32, count)
	for i, size := range sizes {
		groups[i], all = all[:0:size], all[size:]
	}
	for row, a := range assigned {
		groups[a] = append(groups[a], uint32(row))
	}
	return groups
}

// meanOf writes the mean of the members to mean, and leaves it as it is without members. The sum
// runs in row order in float64, so that it is the same however the work was shared out.
func meanOf(rows []float32, dim int, members []uint32, mean []float32) {
	if len(members) == 0 {
		return
	}
	sum := make([]float64, dim)
	for _, m := range members {
		for j, x := range rows[int(m)*dim : (int(m)+1)*dim] {
			sum[j] += float64(x)
		}
	}
	for j, x := range sum {
		mean[j] = float32(x / float64(len(members)))
	}
}

// sampleRows returns count different numbers below n in ascending order (Floyd's algorithm:
// Bentley, Floyd 1987). With count >= n it returns all, and repeats them to make up the count.
func sampleRows(n, count int, random *rand.Rand) []uint32 {
	chosen := make([]uint32, 0, count)
	if count >= n {
		for i := range count {
			chosen = append(chosen, uint32(i%n))
		}
		return chosen
	}
	seen := make(map[uint32]bool, count)
	for i := n - count; i < n; i++ {
		pick := uint32(random.IntN(i + 1))
		if seen[pick] {
			pick = uint32(i)
		}
		seen[pick] = true
		chosen = append(chosen, pick)
	}
	slices.Sort(chosen)
	return chosen
}
