package ivfpq

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/akidb/akidb/kernels"
)

const (
	directLists     = 256 // up to so many centroids are trained at once, by Lloyd's algorithm
	lloydIterations = 10  // of those; the mean residual changes by less than 1 % after
	partIterations  = 4   // within a part of the space, which is trained again with its neighbours
	nearIterations  = 5   // with neighbours only
	splitIterations = 2   // after oversized lists were split
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
	c.measure()
	return c
}

func (c *clusters) measure() {
	for i := range c.halfNorms {
		row := c.row(i)
		c.halfNorms[i] = dot(row, row) / 2
	}
}

func (c *clusters) count() int { return len(c.halfNorms) }

func (c *clusters) row(i int) []float32 { return c.centroids[i*c.dim : (i+1)*c.dim] }

func (c *clusters) assign(rows []float32, out []uint32) {
	kernels.Nearest(rows, c.dim, c.centroids, c.halfNorms, out)
}

// chosen copies some rows out, one after the other.
func chosen(rows []float32, dim int, which []uint32) []float32 {
	out := make([]float32, 0, len(which)*dim)
	for _, i := range which {
		out = append(out, rows[int(i)*dim:(int(i)+1)*dim]...)
	}
	return out
}

// trainCentroids finds count centroids of rows, which are centred on their mean. Few are trained
// at once; many in parts of the space first, then all together, each row looking only at the
// neighbours of the centroid it had: where all 4096 centroids are compared with each of 262 144
// rows ten times, the same mean residual (within 1 %) costs twenty times as much.
func trainCentroids(ctx context.Context, workers int, rows []float32, dim, count int, random *rand.Rand) (*clusters, error) {
	if count <= directLists {
		return lloyd(ctx, workers, rows, dim, count, lloydIterations, random)
	}
	c, assigned, err := trainParts(ctx, workers, rows, dim, count, random)
	if err != nil {
		return nil, err
	}
	return c, c.improve(ctx, workers, rows, assigned, nearIterations)
}

// trainParts trains the centroids of each part of the space by itself, and says to which every
// row belongs.
func trainParts(ctx context.Context, workers int, rows []float32, dim, count int, random *rand.Rand) (*clusters, []uint32, error) {
	n := len(rows) / dim
	parts := int(math.Sqrt(float64(count)))
	sample := chosen(rows, dim, sampleRows(n, min(n, parts*directLists), random))
	super, err := lloyd(ctx, workers, sample, dim, parts, lloydIterations, random)
	if err != nil {
		return nil, nil, err
	}
	assigned := make([]uint32, n)
	if err := assignAll(ctx, workers, super, rows, assigned); err != nil {
		return nil, nil, err
	}
	members := groupRows(assigned, parts)
	shares := apportion(members, count)
	seeds := make([]uint64, parts)
	for i := range seeds {
		seeds[i] = random.Uint64()
	}
	trained := make([]*clusters, parts)
	local := make([][]uint32, parts)
	errs := make([]error, parts)
	err = parallel(ctx, workers, parts, func(_, i int) {
		if shares[i] == 0 {
			return
		}
		own := chosen(rows, dim, members[i])
		trained[i], errs[i] = lloyd(ctx, 1, own, dim, shares[i], partIterations, rand.New(rand.NewPCG(seeds[i], 0)))
		if errs[i] == nil {
			local[i] = make([]uint32, len(members[i]))
			trained[i].assign(own, local[i])
		}
	})
	if err != nil {
		return nil, nil, err
	}
	var centroids []float32
	for i, t := range trained {
		if errs[i] != nil {
			return nil, nil, errs[i]
		}
		if t == nil {
			continue
		}
		base := uint32(len(centroids) / dim)
		for j, row := range members[i] {
			assigned[row] = base + local[i][j]
		}
		centroids = append(centroids, t.centroids...)
	}
	return newClusters(dim, centroids), assigned, nil
}

// apportion divides count by the sizes of the groups, at least one for each that has members
// (largest remainders: Hamilton). count is no less than the number of groups.
func apportion(groups [][]uint32, count int) []int {
	total := 0
	for _, g := range groups {
		total += len(g)
	}
	shares := make([]int, len(groups))
	rest := newShortlist(len(groups))
	left := count
	for i, g := range groups {
		if len(g) == 0 {
			continue
		}
		exact := float64(count) * float64(len(g)) / float64(total)
		shares[i] = max(1, int(exact))
		left -= shares[i]
		rest.add(entry{distance: float32(float64(shares[i]) - exact), number: uint32(i)})
	}
	order := rest.sorted()
	for ; left > 0; left-- {
		shares[order[left%len(order)].number]++
	}
	for i := 0; left < 0; i = (i + 1) % len(shares) {
		if shares[i] > 1 {
			shares[i]--
			left++
		}
	}
	return shares
}

// lloyd trains count centroids on rows (Lloyd 1982) from a random choice of them.
func lloyd(ctx context.Context, workers int, rows []float32, dim, count, iterations int, random *rand.Rand) (*clusters, error) {
	n := len(rows) / dim
	c := newClusters(dim, chosen(rows, dim, sampleRows(n, count, random)))
	assigned := make([]uint32, n)
	for range iterations {
		if err := assignAll(ctx, workers, c, rows, assigned); err != nil {
			return nil, err
		}
		if err := c.update(ctx, workers, rows, assigned); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func assignAll(ctx context.Context, workers int, c *clusters, rows []float32, out []uint32) error {
	n := len(out)
	return parallel(ctx, workers, (n+assignBatch-1)/assignBatch, func(_, batch int) {
		low, high := batch*assignBatch, min((batch+1)*assignBatch, n)
		c.assign(rows[low*c.dim:high*c.dim], out[low:high])
	})
}

// improve goes on with Lloyd's algorithm from an assignment, each row choosing among the
// neighbours of the centroid it has. It leaves the new assignment in assigned.
func (c *clusters) improve(ctx context.Context, workers int, rows []float32, assigned []uint32, iterations int) error {
	for i := range iterations {
		a, err := newAtlas(ctx, workers, c, trainNeighbours)
		if err != nil {
			return err
		}
		scratch := make([]walker, workers)
		n := len(assigned)
		err = parallel(ctx, workers, (n+assignBatch-1)/assignBatch, func(worker, batch int) {
			for row := batch * assignBatch; row < min((batch+1)*assignBatch, n); row++ {
				assigned[row] = scratch[worker].walk(a, rows[row*c.dim:(row+1)*c.dim], assigned[row])
			}
		})
		if err != nil || i == iterations-1 {
			return err // the last assignment is that of the centroids as they stay
		}
		if err := c.update(ctx, workers, rows, assigned); err != nil {
			return err
		}
	}
	return nil
}

// update moves every centroid to the mean of its rows. One that lost all its rows takes over the
// row that lies furthest from its centroid.
func (c *clusters) update(ctx context.Context, workers int, rows []float32, assigned []uint32) error {
	members := groupRows(assigned, c.count())
	err := parallel(ctx, workers, c.count(), func(_, i int) { meanOf(rows, c.dim, members[i], c.row(i)) })
	if err != nil {
		return err
	}
	c.repair(rows, assigned, members)
	c.measure()
	return nil
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
	furthest := newShortlist(len(empty))
	var square [1]float32
	for i, own := range assigned {
		kernels.L2Rows(c.row(int(own)), rows[i*c.dim:(i+1)*c.dim], square[:])
		furthest.add(entry{distance: -square[0], number: uint32(i)})
	}
	for i, f := range furthest.sorted() {
		copy(c.row(empty[i]), rows[int(f.number)*c.dim:(int(f.number)+1)*c.dim])
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
