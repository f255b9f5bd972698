package ivfpq

import "math"

// space is the way from a user's vector into the rotated space of an index, the same for rows
// and queries.
type space struct {
	Params
	shape
	rotation *rotation
}

func newSpace(p Params) *space {
	return &space{Params: p, shape: shapeOf(p.Dim), rotation: newRotation(p.Dim, p.Seed)}
}

// rotate writes v · factor, padded with zeros and rotated, to dst, which has CodeDim elements.
func (s *space) rotate(dst, v []float32, factor float64) {
	s.pad(dst, v, factor)
	s.rotation.apply(dst)
}

func (s *space) pad(dst, v []float32, factor float64) {
	dst = dst[:s.codeDim]
	clear(dst[len(v):])
	if narrow := float32(factor); s.Metric != Cosine && float64(narrow) == factor {
		for i, x := range v { // a power of two: exact, or rounded once, either way
			dst[i] = x * narrow
		}
		return
	}
	for i, x := range v {
		dst[i] = float32(float64(x) * factor)
	}
}

// rowFactor scales a row: to length 1 under Cosine, by 2^Exponent otherwise.
func (s *space) rowFactor(row []float32) float64 {
	if s.Metric != Cosine {
		return math.Ldexp(1, s.Exponent)
	}
	if n := norm(row); n > 0 {
		return 1 / n
	}
	return 0
}
