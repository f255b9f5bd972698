//go:build !noasm

package kernels

// The kernel below scans count blocks, the rows of which are numbered from first, and returns how
// many it kept. est and rows have room for every row.

//go:noescape
func scan4NEON(blocks *byte, count int, lut *byte, subQuantizers int, scan *Scan, mask *uint32, first int, est *float32, rows *uint32) int

func scan4(blocks, lut []byte, scan Scan, mask []uint32, est []float32, rows []uint32) int {
	if level == Generic {
		return scan4Generic(blocks, lut, scan, mask, est, rows)
	}
	subQuantizers := len(lut) / LUTEntries
	size := BlockSize(subQuantizers)
	kept := 0
	for b := 0; b < len(mask); {
		n := min(len(mask)-b, rowsPerCall(size))
		kept += scan4NEON(&blocks[b*size], n, &lut[0], subQuantizers, &scan, &mask[b], b*BlockRows, &est[kept], &rows[kept])
		b += n
	}
	return kept
}
