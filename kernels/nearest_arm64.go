//go:build !noasm

package kernels

// The kernel below compares a tile of centroids, numbered from first, with the rows of a panel,
// and writes the nearer ones to best and pick.
//
//go:noescape
func nearestNEON(panel *float32, dim int, centroids, halfNorms *float32, first int, best *float32, pick *uint32)

func nearestTileShape() (rows, centroids int) { return 8, 8 }

func nearestOfTile(panel *float32, dim int, centroids, halfNorms *float32, first int, best *float32, pick *uint32) {
	nearestNEON(panel, dim, centroids, halfNorms, first, best, pick)
}
