package kernels

import "fmt"

// Nearest writes to out[i] the number of the centroid nearest to row i: the one with the least
// halfNorms[c] - <row, centroid c>, where halfNorms[c] is half the squared length of centroid c.
// Ties and NaN go to the lowest number. rows holds len(out) rows of dim elements, centroids
// len(halfNorms) of them, at least one.
func Nearest(rows []float32, dim int, centroids, halfNorms []float32, out []uint32) {
	checkRows("Nearest", dim, len(rows), len(out))
	if len(halfNorms) == 0 || len(centroids) != dim*len(halfNorms) {
		panic(fmt.Sprintf("BUG: kernels.Nearest: %d elements are not %d centroids of %d", len(centroids), len(halfNorms), dim))
	}
	nearest(rows, dim, centroids, halfNorms, out)
}
