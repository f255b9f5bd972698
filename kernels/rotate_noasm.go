//go:build noasm || !(amd64 || arm64)

package kernels

func rotate(x, signs []float32, block int, scale float32) { rotateGeneric(x, signs, block, scale) }
