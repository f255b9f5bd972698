package kernels

import "math"

func rotateGeneric(x, signs []float32, block int, scale float32) {
	for round := range RotateRounds {
		for i, s := range signs[round*len(x) : (round+1)*len(x)] {
			x[i] *= s
		}
		part := x[:block]
		if round%2 == 1 {
			part = x[len(x)-block:]
		}
		hadamardGeneric(part)
		for i := range part {
			part[i] *= scale
		}
		if block < len(x) {
			mixHalvesGeneric(x)
		}
	}
}

// hadamardGeneric is the unnormalised Walsh-Hadamard transform; len(x) is a power of two, at
// least 16.
func hadamardGeneric(x []float32) {
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

// mixHalvesGeneric rotates each pair of elements half the vector apart by π/4.
func mixHalvesGeneric(x []float32) {
	half := len(x) / 2
	low, high := x[:half], x[half:]
	for j, a := range low {
		b := high[j]
		low[j], high[j] = (a+b)*(1/math.Sqrt2), (a-b)*(1/math.Sqrt2)
	}
}
