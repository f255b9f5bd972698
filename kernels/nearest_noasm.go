//go:build noasm || !(amd64 || arm64)

package kernels

func nearest(rows []float32, dim int, centroids, halfNorms []float32, out []uint32) {
	nearestGeneric(rows, dim, centroids, halfNorms, out)
}
