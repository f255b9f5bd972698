package ivfpq

import (
	"context"
	"fmt"
)

// A source gives rows of the input in rotated space.
type source struct {
	*space
	vectors []float32 // of the user, row-major
	count   int
	workers int
}

// checkRows wants rows of finite elements and returns their number and the length of the longest.
func checkRows(vectors []float32, dim int) (count int, longest float64, err error) {
	count = len(vectors) / dim
	if count == 0 || len(vectors)%dim != 0 || count > maxRows {
		return 0, 0, fmt.Errorf("%d elements are not 1..%d rows of %d", len(vectors), uint32(maxRows), dim)
	}
	for row := range count {
		v := vectors[row*dim : (row+1)*dim]
		if err := checkFinite(v); err != nil {
			return 0, 0, fmt.Errorf("row %d: %w", row, err)
		}
		longest = max(longest, norm(v))
	}
	return count, longest, nil
}

func (s *source) vector(row uint32) []float32 {
	return s.vectors[int(row)*s.Dim : (int(row)+1)*s.Dim]
}

// rotated writes a row in rotated space, less the origin, to dst.
func (s *source) rotated(dst []float32, row uint32, origin []float32) {
	v := s.vector(row)
	s.rotate(dst, v, s.rowFactor(v))
	for j, o := range origin {
		dst[j] -= o
	}
}

// load returns chosen rows, rotated and less the origin, one after the other.
func (s *source) load(ctx context.Context, rows []uint32, origin []float32) ([]float32, error) {
	out := make([]float32, len(rows)*s.codeDim)
	err := parallel(ctx, s.workers, (len(rows)+assignBatch-1)/assignBatch, func(_, batch int) {
		for i := batch * assignBatch; i < min((batch+1)*assignBatch, len(rows)); i++ {
			s.rotated(out[i*s.codeDim:(i+1)*s.codeDim], rows[i], origin)
		}
	})
	return out, err
}

// mean is that of all rows, rotated: of the rows as they are, as the rotation is linear, summed by
// batches of a fixed size, so that it does not depend on the number of workers.
func (s *source) mean(ctx context.Context) ([]float32, error) {
	const batchRows = 4096
	batches := (s.count + batchRows - 1) / batchRows
	sums := make([]float64, batches*s.Dim)
	err := parallel(ctx, s.workers, batches, func(_, batch int) {
		sum := sums[batch*s.Dim : (batch+1)*s.Dim]
		for row := batch * batchRows; row < min((batch+1)*batchRows, s.count); row++ {
			v := s.vector(uint32(row))
			factor := s.rowFactor(v)
			for j, x := range v {
				sum[j] += float64(float64(x) * factor)
			}
		}
	})
	mean := make([]float32, s.codeDim)
	for j := range s.Dim {
		total := 0.0
		for batch := range batches {
			total += sums[batch*s.Dim+j]
		}
		mean[j] = float32(total / float64(s.count))
	}
	s.rotation.apply(mean)
	return mean, err
}
