// Package kernels holds the distance and code-scan loops that a search spends its time in.
//
// Every kernel is a batch: one call answers for a whole list of rows, so that the checks and the
// choice of instruction set are paid once per list and not once per vector. Each has two files:
// X.go has the contract and checks every length, so that the loops below may trust them, and
// X_generic.go has the reference in portable Go, which every other implementation is tested
// against.
//
// What all kernels promise:
//   - Slices in, slices out. Nothing is allocated, kept or read past its length.
//   - Integer results are exact and the same on every machine. Floating-point results may differ
//     between implementations by the order of summation; the reference itself is the same
//     everywhere, because it writes float32(a*b) + s, which forbids fusing.
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
