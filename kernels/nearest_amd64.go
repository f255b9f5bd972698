//go:build !noasm

package kernels

// The kernels below compare a tile of centroids, numbered from first, with the rows of a panel,
// and write the nearer ones to best and pick.

//go:noescape
func nearestAVX2(panel *float32, dim int, centroids, halfNorms *float32, first int, best *float32, pick *uint32)

//go:noescape
func nearestAVX512(panel *float32, dim int, centroids, halfNorms *float32, first int, best *float32, pick *uint32)

func nearestTileShape() (rows, centroids int) {
	if level == AVX2 {
		return 16, 6
	}
	return 32, 12
}

func nearestOfTile(panel *float32, dim int, centroids, halfNorms *float32, first int, best *float32, pick *uint32) {
	if level == AVX2 {
		nearestAVX2(panel, dim, centroids, halfNorms, first, best, pick)
	} else {
		nearestAVX512(panel, dim, centroids, halfNorms, first, best, pick)
	}
}
