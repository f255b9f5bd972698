package ivfpq

import "math"

// space is the way from a user's vector into the rotated space of an index, the same for rows
// and queries.
type space struct {
	Params
	codeDim  int
	rotation *rotation
}

func newSpace(p Params) *space {
	return &space{Params: p, codeDim: CodeDim(p.Dim), rotation: newRotation(p.Dim, p.Seed)}
}

// rotate writes v · factor, padded with zeros and rotated, to dst, which has CodeDim elements.
func (s *space) rotate(dst, v []float32, factor float64) {
	s.pad(dst, v, factor)
	s.rotation.apply(dst)
}

func (s *space) pad(dst, v []float32, factor float64) {
	dst = dst[:s.codeDim]
	for i, x := range v {
		dst[i] = float32(float64(x) * factor)
	}
	clear(dst[len(v):])
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

// originOf is the mean of the rows of an index as its centroids and list sizes tell it. Codes
// are taken around it, so that a common offset of all vectors costs no precision. Builder and
// reader both compute it with this function.
func originOf(codeDim int, centroids []float32, lists []List) []float32 {
	sum := make([]float64, codeDim)
	total := 0.0
	for i, l := range lists {
		weight := float64(l.Count)
		total += weight
		for j, x := range centroids[i*codeDim : (i+1)*codeDim] {
			sum[j] += float64(weight * float64(x))
		}
	}
	origin := make([]float32, codeDim)
	if total > 0 {
		for j, x := range sum {
			origin[j] = float32(x / total)
		}
	}
	return origin
}
