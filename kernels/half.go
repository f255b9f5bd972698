package kernels

import "math"

// Float16 returns the IEEE binary16 nearest to x, ties to even; what is too large becomes an
// infinity, and NaN stays NaN.
func Float16(x float32) uint16 {
	bits := math.Float32bits(x)
	sign, magnitude := uint16(bits>>16&0x8000), bits&0x7fffffff
	switch {
	case magnitude > 0x7f800000:
		return sign | 0x7e00 | uint16(magnitude>>13&0x3ff)
	case magnitude >= 0x47800000: // 2^16; what rounds to it is carried there below
		return sign | 0x7c00
	case magnitude < 0x38800000: // 2^-14: the sum ends at the last bit of a subnormal
		return sign | uint16(math.Float32bits(abs(x)+0.5)-math.Float32bits(0.5))
	}
	odd := magnitude >> 13 & 1
	return sign | uint16((magnitude-(127-15)<<23+0xfff+odd)>>13)
}

// Float32 returns the value of an IEEE binary16, which a float32 holds exactly.
func Float32(h uint16) float32 {
	sign, magnitude := uint32(h&0x8000)<<16, uint32(h&0x7fff)
	switch {
	case magnitude > 0x7c00:
		return math.Float32frombits(sign | 0x7fc00000 | magnitude<<13)
	case magnitude == 0x7c00:
		return math.Float32frombits(sign | 0x7f800000)
	case magnitude < 0x400:
		return math.Float32frombits(sign | math.Float32bits(float32(magnitude)*0x1p-24))
	}
	return math.Float32frombits(sign | (magnitude<<13 + (127-15)<<23))
}
