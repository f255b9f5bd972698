package ivfpq

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/akidb/akidb/kernels"
)

// A source gives rotated rows of the input, with the mean of all taken off.
type source struct {
	*space
	vectors []float32 // of the user, row-major
	count   int
	mean    []float32 // rotated
	workers int
}

func (s *source) vector(row uint32) []float32 {
	return s.vectors[int(row)*s.Dim : (int(row)+1)*s.Dim]
}

// rotated writes a row in rotated space to dst.
func (s *source) rotated(dst []float32, row uint32) {
	v := s.vector(row)
	s.rotate(dst, v, s.rowFactor(v))
}

// load returns chosen rows, rotated and centred, one after the other.
func (s *source) load(rows []uint32) []float32 {
	out := make([]float32, len(rows)*s.codeDim)
	for i, row := range rows {
		s.centred(out[i*s.codeDim:(i+1)*s.codeDim], row)
	}
	return out
}

func (s *source) centred(dst []float32, row uint32) {
	s.rotated(dst, row)
	for j, m := range s.mean {
		dst[j] -= m
	}
}

// newSource finds the mean: of the unrotated rows, as the rotation is linear, summed by batches
// of a fixed size, so that it does not depend on the number of workers.
func newSource(ctx context.Context, s *space, vectors []float32, workers int) (*source, error) {
	src := &source{space: s, vectors: vectors, count: len(vectors) / s.Dim, mean: make([]float32, s.codeDim), workers: workers}
	const batchRows = 4096
	batches := (src.count + batchRows - 1) / batchRows
	sums := make([]float64, batches*s.Dim)
	err := parallel(ctx, workers, batches, func(_, batch int) {
		sum := sums[batch*s.Dim : (batch+1)*s.Dim]
		for row := batch * batchRows; row < min((batch+1)*batchRows, src.count); row++ {
			v := src.vector(uint32(row))
			factor := s.rowFactor(v)
			for j, x := range v {
				sum[j] += float64(float64(x) * factor)
			}
		}
	})
	for j := range s.Dim {
		total := 0.0
		for batch := range batches {
			total += sums[batch*s.Dim+j]
		}
		src.mean[j] = float32(total / float64(src.count))
	}
	s.rotation.apply(src.mean)
	return src, err
}

// listCount is how many lists to train for n rows: about four times the square root, with 128
// to 512 rows a list.
func listCount(n int) int {
	return max(1, min(max(int(4*math.Sqrt(float64(n))), n/512), n/128))
}

// listCap is the most rows a list may have: 1.6 times the mean. Probed lists are larger than
// the average one, and a cap scans up to a fifth fewer rows at recall 0.95.
func listCap(n, lists int) int { return max(64, n*8/(5*lists)) }

// partition sorts the rows into lists, neighbours next to each other.
func (s *source) partition(ctx context.Context, lists int, random *rand.Rand) ([][]uint32, error) {
	sample := sampleRows(s.count, min(s.count, lists*trainRows), random)
	trained, err := kmeans(ctx, s.workers, s.load(sample), s.codeDim, lists, random)
	if err != nil {
		return nil, err
	}
	assigned := make([]uint32, s.count)
	scratch := make([][]float32, s.workers)
	err = parallel(ctx, s.workers, (s.count+assignBatch-1)/assignBatch, func(worker, batch int) {
		if scratch[worker] == nil {
			scratch[worker] = make([]float32, assignBatch*s.codeDim)
		}
		low, high := batch*assignBatch, min((batch+1)*assignBatch, s.count)
		rows := scratch[worker][:(high-low)*s.codeDim]
		for i := low; i < high; i++ {
			s.centred(rows[(i-low)*s.codeDim:(i-low+1)*s.codeDim], uint32(i))
		}
		trained.assign(rows, assigned[low:high])
	})
	if err != nil {
		return nil, err
	}
	groups := groupRows(assigned, lists)
	parts := make([][][]uint32, lists)
	err = parallel(ctx, s.workers, lists, func(_, i int) { parts[i] = s.split(groups[i], listCap(s.count, lists)) })
	if err != nil {
		return nil, err
	}
	return slices.Concat(parts...), nil
}

// split halves a list until its parts have no more than limit rows; nothing comes of no rows.
func (s *source) split(members []uint32, limit int) [][]uint32 {
	switch {
	case len(members) == 0:
		return nil
	case len(members) <= limit:
		return [][]uint32{members}
	}
	low, high := s.halve(members)
	return append(s.split(low, limit), s.split(high, limit)...)
}

// halve divides a list by the plane between two centres: 2-means, or where that leaves one side
// with less than an eighth (duplicates, outliers), in the middle along the same direction.
func (s *source) halve(members []uint32) (low, high []uint32) {
	rows, dim := s.load(members), s.codeDim
	side := make([]float32, len(members))
	a, b := s.farPair(rows)
	for range 6 {
		square := float32(0)
		direction := make([]float32, dim)
		for j := range direction {
			direction[j] = b[j] - a[j]
			square += float32(direction[j] * (b[j] + a[j]))
		}
		kernels.DotRows(direction, rows, side)
		for i := range side {
			side[i] -= square / 2
		}
		var near, far []uint32
		for i, d := range side {
			if d < 0 {
				near = append(near, uint32(i))
			} else {
				far = append(far, uint32(i))
			}
		}
		meanOf(rows, dim, near, a)
		meanOf(rows, dim, far, b)
	}
	order := NewCandidates(len(members))
	below := 0
	for i, d := range side {
		order.Add(Candidate{Distance: d, Ordinal: uint32(i)})
		if d < 0 {
			below++
		}
	}
	if below < len(members)/8 || below > len(members)-len(members)/8 {
		below = len(members) / 2
	}
	for i, c := range order.Sorted() {
		if i < below {
			low = append(low, members[c.Ordinal])
		} else {
			high = append(high, members[c.Ordinal])
		}
	}
	slices.Sort(low)
	slices.Sort(high)
	return low, high
}

// farPair returns copies of two rows far apart: the furthest from the first, and the furthest
// from that.
func (s *source) farPair(rows []float32) (a, b []float32) {
	dim := s.codeDim
	square := make([]float32, len(rows)/dim)
	pick := rows[:dim]
	furthest := func() []float32 {
		kernels.L2Rows(pick, rows, square)
		best := 0
		for i, d := range square {
			if d > square[best] {
				best = i
			}
		}
		return rows[best*dim : (best+1)*dim]
	}
	pick = furthest()
	return slices.Clone(pick), slices.Clone(furthest())
}

// tour orders centroids so that neighbours follow each other: from each to the nearest not yet
// visited. Lists probed together then lie together, and are read together.
func tour(dim int, centroids []float32) []int {
	count := len(centroids) / dim
	rest, left := slices.Clone(centroids), make([]int, count)
	for i := range left {
		left[i] = i
	}
	order := make([]int, 0, count)
	square := make([]float32, count)
	at, here := 0, make([]float32, dim)
	for len(left) > 0 {
		order = append(order, left[at])
		copy(here, rest[at*dim:])
		last := len(left) - 1
		copy(rest[at*dim:(at+1)*dim], rest[last*dim:])
		left[at] = left[last]
		left, rest, square = left[:last], rest[:last*dim], square[:last]
		kernels.L2Rows(here, rest, square)
		at = 0
		for i, d := range square {
			if d < square[at] || d == square[at] && left[i] < left[at] {
				at = i
			}
		}
	}
	return order
}
