package kernels

import "fmt"

// Sizes of the canonical layout of 4-bit codes. A block holds 32 rows:
//
//	for each sub-quantizer m: 16 bytes, byte j = code(row j) | code(row j+16) << 4
//	32 × binary16 little-endian: the additive factor of each row
//	32 × binary16 little-endian: the factor of each row's inner product
const (
	BlockRows       = 32
	LUTEntries      = 16                 // entries of one sub-quantizer's table
	BlockFactorSize = 2 * BlockRows * 2  // bytes of a block's factors
	codeBytes       = BlockRows / 2      // bytes of one sub-quantizer in a block
	MaxSubQuantizer = (1 << 24) / LUTMax // sums of more table entries are not exact in a float32
)

// LUTMax is the largest entry of a look-up table. Six bits are enough: their rounding adds less
// than 0.3 % to the variance of a sign code's estimate. And four entries can be added up in a byte
// before they are widened, which is where a scan without VNNI spends a third of its time
// otherwise.
const LUTMax = 63

// BlockSize is the size in bytes of one block of 32 rows with the given number of sub-quantizers.
func BlockSize(subQuantizers int) int { return subQuantizers*codeBytes + BlockFactorSize }

// Scan turns the integer sum of a row's table entries into its estimate:
// fadd + fres · (Scale·sum + Bias), kept when it is below Limit.
type Scan struct {
	Scale, Bias float32 // undo the quantisation of the table, as SignLUT returns them
	Limit       float32 // only estimates strictly below are kept; +Inf keeps every finite one
}

// Scan4 estimates the distance of every row of the blocks whose bit in mask is set, and keeps
// those below the limit: for the i-th kept row, est[i] is its estimate and rows[i] its number,
// counted from the first block. It returns how many were kept, in ascending order of row. What
// est and rows hold after those is not defined. Every level keeps the same rows with the same
// estimates, to the bit.
//
// lut has 16 entries for each sub-quantizer, none above LUTMax: that is not checked, and sums of
// larger ones are wrong. mask has one word a block (bit j is row j of the block), est and rows at least
// 32 elements a block. An additive factor of +Inf or NaN marks a row that is never kept. Factors
// are binary16, so a caller whose factors do not fit scales them by the list and scan with them:
// estimates of factors a times as large are below a times the limit.
//
// Source: the FastScan layout of FAISS (André, Kermarrec, Le Scouarnec 2017) with the affine
// correction of RaBitQ (Gao, Long 2024) fused into the loop.
func Scan4(blocks, lut []byte, scan Scan, mask []uint32, est []float32, rows []uint32) int {
	subQuantizers := len(lut) / LUTEntries
	if len(lut) == 0 || len(lut)%LUTEntries != 0 || subQuantizers > MaxSubQuantizer {
		panic(fmt.Sprintf("BUG: kernels.Scan4: look-up table of %d entries", len(lut)))
	}
	if want := len(mask) * BlockSize(subQuantizers); len(blocks) != want {
		panic(fmt.Sprintf("BUG: kernels.Scan4: %d blocks have %d bytes, got %d", len(mask), want, len(blocks)))
	}
	if n := len(mask) * BlockRows; len(est) < n || len(rows) < n {
		panic(fmt.Sprintf("BUG: kernels.Scan4: results for %d and %d rows, need %d", len(est), len(rows), n))
	}
	return scan4(blocks, lut, scan, mask, est, rows)
}
