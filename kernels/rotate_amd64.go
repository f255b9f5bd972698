//go:build !noasm

package kernels

// What the passes do is said beside them. n is a power of two from 64 on, but that
// of rotateFlip is a multiple of 16, and half is one of 8. There is nothing for AVX-512 alone: 768 elements take half a
// microsecond as it is.

//go:noescape
func rotateFirst(x, signs *float32, n int, scale float32)

//go:noescape
func rotateEight(x *float32, n, stride int, scale float32)

//go:noescape
func rotateFour(x *float32, n, stride int, scale float32)

//go:noescape
func rotateTwo(x *float32, n, stride int, scale float32)

//go:noescape
func rotateFlip(x, signs *float32, n int)

//go:noescape
func rotateMix(x *float32, half int)
