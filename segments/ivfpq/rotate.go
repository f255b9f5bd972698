package ivfpq

import (
	"math"
	"math/bits"
)

// rotation is a seeded orthogonal transform of CodeDim dimensions that costs D log D: four
// rounds of random sign flips, a Walsh-Hadamard transform over the largest power of two that
// fits (the first elements in even rounds, the last in odd ones), and, where it does not fit
// exactly, a rotation by π/4 between the two halves. It spreads any vector over all dimensions,
// which is what makes one bit a dimension enough.
//
// Every step is an addition or a rounded product, in a fixed order: the result is the same to
// the bit on every machine.
//
// Source: the fast Hadamard and Kac rotation of the RaBitQ library.
type rotation struct {
	block int       // elements under the transform, a power of two
	scale float32   // makes the transform orthogonal
	signs []float32 // ±1, rotationRounds × CodeDim
}

const rotationRounds = 4

func newRotation(dim int, seed uint64) *rotation {
	codeDim := CodeDim(dim)
	block := 1 << (bits.Len(uint(codeDim)) - 1)
	r := &rotation{
		block: block,
		scale: float32(1 / math.Sqrt(float64(block))),
		signs: make([]float32, rotationRounds*codeDim),
	}
	var word uint64
	for i := range r.signs {
		if i%64 == 0 {
			seed, word = splitMix64(seed)
		}
		r.signs[i] = 1 - 2*float32(word>>(i%64)&1)
	}
	return r
}

// splitMix64 returns the next state and the next output of the generator of Steele, Lea and
// Flood (2014). It is written out because stored segments depend on it.
func splitMix64(state uint64) (next, out uint64) {
	state += 0x9e3779b97f4a7c15
	z := state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return state, z ^ z>>31
}

// apply rotates x, which has CodeDim elements, in place.
func (r *rotation) apply(x []float32) {
	for round := range rotationRounds {
		for i, s := range r.signs[round*len(x) : (round+1)*len(x)] {
			x[i] *= s
		}
		part := x[:r.block]
		if round%2 == 1 {
			part = x[len(x)-r.block:]
		}
		hadamard(part)
		for i := range part {
			part[i] *= r.scale
		}
		if r.block < len(x) {
			mixHalves(x)
		}
	}
}

// hadamard is the unnormalised Walsh-Hadamard transform; len(x) is a power of two, at least 16.
func hadamard(x []float32) {
	for i := 0; i+4 <= len(x); i += 4 { // strides 1 and 2 at once
		q := (*[4]float32)(x[i:])
		a, b, c, d := q[0]+q[1], q[0]-q[1], q[2]+q[3], q[2]-q[3]
		q[0], q[1], q[2], q[3] = a+c, b+d, a-c, b-d
	}
	for stride := 4; stride < len(x); stride *= 2 {
		for i := 0; i < len(x); i += 2 * stride {
			low, high := x[i:i+stride], x[i+stride:i+2*stride]
			for j, a := range low {
				b := high[j]
				low[j], high[j] = a+b, a-b
			}
		}
	}
}

// mixHalves rotates each pair of elements half the vector apart by π/4.
func mixHalves(x []float32) {
	half := len(x) / 2
	low, high := x[:half], x[half:]
	for j, a := range low {
		b := high[j]
		low[j], high[j] = (a+b)*(1/math.Sqrt2), (a-b)*(1/math.Sqrt2)
	}
}
