package kernels

import (
	"fmt"
	"math"
)

// RotateRounds is the number of rounds of Rotate.
const RotateRounds = 4

// Rotate turns x by an orthogonal transform that costs n log n, in place. Each of RotateRounds
// rounds multiplies x with its n signs, takes the Walsh-Hadamard transform of block elements (the
// first in even rounds, the last in odd ones), divided by the root of block, and, unless that is
// all of x, turns each pair of elements half the vector apart by π/4.
//
// len(x) is a multiple of 16, block a power of two from 16 to len(x), and len(signs) is
// RotateRounds times len(x), all 1 or -1. Every level computes the same result, to the bit: each
// step is one rounded sum, difference or product, in the order of the reference.
//
// Source: the fast Hadamard and Kac rotation of the RaBitQ library.
func Rotate(x, signs []float32, block int) {
	n := len(x)
	if n == 0 || n%16 != 0 || len(signs) != RotateRounds*n {
		panic(fmt.Sprintf("BUG: kernels.Rotate: %d elements, %d signs", n, len(signs)))
	}
	if block < 16 || block > n || block&(block-1) != 0 {
		panic(fmt.Sprintf("BUG: kernels.Rotate: transform of %d of %d elements", block, n))
	}
	rotate(x, signs, block, float32(1/math.Sqrt(float64(block))))
}
