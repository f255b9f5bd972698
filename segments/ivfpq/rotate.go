package ivfpq

import (
	"math/bits"

	"github.com/akidb/akidb/kernels"
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
	signs []float32 // ±1, rotationRounds × CodeDim
}

const rotationRounds = 4

func newRotation(dim int, seed uint64) *rotation {
	codeDim := CodeDim(dim)
	block := 1 << (bits.Len(uint(codeDim)) - 1)
	r := &rotation{
		block: block,
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
func (r *rotation) apply(x []float32) { kernels.Rotate(x, r.signs, r.block) }
