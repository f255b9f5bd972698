// Package kernels holds the distance and code-scan loops that a search spends its time in.
//
// Every kernel is a batch: one call answers for a whole list of rows, so that the checks and the
// choice of instruction set are paid once per list and not once per vector. A kernel X has these
// files:
//
//	X.go                  the contract; checks every length, so that the loops may trust them
//	X_generic.go          the reference in portable Go, which all others are tested against
//	X_amd64.go, _arm64.go what assembly there is, and which level uses it (level.go)
//	X_noasm.go            the reference again, for other machines and the build tag noasm
//	X_avx2_amd64.s, …     the assembly, with a map of its registers
//
// What all kernels promise:
//   - Slices in, slices out. Nothing is kept or read past its length, and nothing is allocated,
//     but for the scratch memory of Nearest, which is pooled.
//   - The results of Scan4, Dot8, SignLUT, CodebookLUT and Rotate are the same to the bit at every
//     level, on every machine. Those of L2, Dot and Nearest may differ between levels by the order of summation;
//     at one level they depend on the row alone and not on the rows beside it. The reference is
//     the same everywhere, because it writes float32(a*b) + s, which forbids fusing.
//   - NaN and Inf travel as in IEEE 754; none is invented for finite input unless a sum overflows.
//   - Wrong lengths are a fault of the caller and panic with "BUG: …".
package kernels

import "fmt"

// checkRows verifies that rows holds exactly len(out) rows of dim elements and returns dim.
func checkRows(kernel string, dim, rows, out int) {
	if dim == 0 || rows != dim*out {
		panic(fmt.Sprintf("BUG: kernels.%s: %d elements are not %d rows of %d", kernel, rows, out, dim))
	}
}

// checkGather verifies that every wanted row lies inside rows.
func checkGather(kernel string, dim, rows int, which []uint32, out int) {
	if dim == 0 || len(which) != out {
		panic(fmt.Sprintf("BUG: kernels.%s: %d rows of %d wanted, %d results", kernel, len(which), dim, out))
	}
	for _, row := range which {
		if (int(row)+1)*dim > rows {
			panic(fmt.Sprintf("BUG: kernels.%s: row %d of %d is past %d elements", kernel, row, dim, rows))
		}
	}
}

// callSize bounds what one call of assembly reads, because the scheduler cannot interrupt it:
// 256 KiB take at most 20 µs from memory.
const callSize = 256 << 10

// rowsPerCall is how many rows (or blocks) of so many bytes one call of assembly may work on.
func rowsPerCall(size int) int { return max(4, callSize/size) }
