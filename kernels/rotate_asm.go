//go:build !noasm && (amd64 || arm64)

package kernels

// rotateLeast is the smallest transform that the kernels take: their first pass has the strides 1
// to 32, and 64 of larger ones.
const rotateLeast = 64

func rotate(x, signs []float32, block int, scale float32) {
	if level == Generic || block < rotateLeast {
		rotateGeneric(x, signs, block, scale)
		return
	}
	n, rest := len(x), len(x)-block
	for round := range RotateRounds {
		part, other := 0, block
		if round%2 == 1 {
			part, other = rest, 0
		}
		of := signs[round*n : (round+1)*n]
		hadamard(x[part:part+block], of[part:part+block], scale)
		if rest > 0 {
			rotateFlip(&x[other], &of[other], rest)
			rotateMix(&x[0], n/2)
		}
	}
}

// hadamard multiplies x with signs and transforms it, in as few passes as there are registers for:
// eight vectors take three strides. The last pass scales, and the others by 1.
func hadamard(x, signs []float32, scale float32) {
	n := len(x)
	last := func(done int) float32 {
		if done < n {
			return 1
		}
		return scale
	}
	stride := 2 * rotateLeast
	rotateFirst(&x[0], &signs[0], n, last(stride))
	for stride < n {
		switch radix := n / stride; {
		case radix == 8 || radix >= 32:
			rotateEight(&x[0], n, stride, last(8*stride))
			stride *= 8
		case radix >= 4: // 16 is twice 4, and not 8 and 2
			rotateFour(&x[0], n, stride, last(4*stride))
			stride *= 4
		default:
			rotateTwo(&x[0], n, stride, scale)
			stride *= 2
		}
	}
}
