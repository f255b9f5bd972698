//go:build noasm || !(amd64 || arm64)

package kernels

func scan4(blocks, lut []byte, scan Scan, mask []uint32, est []float32, rows []uint32) int {
	return scan4Generic(blocks, lut, scan, mask, est, rows)
}
