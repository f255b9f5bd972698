package ivfpq

import (
	"errors"
	"fmt"
	"math"

	"github.com/akidb/akidb/kernels"
)

// Kind is the size class of an index. The numbers are stored in segments.
type Kind uint8

const (
	Auto  Kind = 0 // in a Config only: chosen by the number of rows
	Exact Kind = 1 // no codes: search scores every row
	Flat  Kind = 2 // one list, scanned whole
	IVF   Kind = 3 // many lists, the nearest are scanned
)

func (k Kind) String() string {
	switch k {
	case Auto:
		return "auto"
	case Exact:
		return "exact"
	case Flat:
		return "flat"
	case IVF:
		return "ivf"
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// MaxDim is the largest dimension of a vector.
const MaxDim = 16384

// maxExponent bounds Params.Exponent: 2^-149 is the smallest float32 and a vector of MaxDim of
// the largest is shorter than 2^135.
const maxExponent = 160

// Params is what a reader must know of an index besides its slices.
type Params struct {
	Dim      int    // elements of a vector, 1..MaxDim
	Metric   Metric // how rows are ranked
	Kind     Kind   // Exact, Flat or IVF
	Seed     uint64 // of the rotation
	Exponent int    // rows are scaled by 2^Exponent before they are coded; 0 under Cosine
}

// Validate reports everything that is wrong at once.
func (p Params) Validate() error {
	var errs []error
	if p.Dim < 1 || p.Dim > MaxDim {
		errs = append(errs, fmt.Errorf("dim %d, want 1..%d", p.Dim, MaxDim))
	}
	if _, ok := metricNames[p.Metric]; !ok {
		errs = append(errs, fmt.Errorf("metric %d, want 1..3", uint8(p.Metric)))
	}
	if p.Kind < Exact || p.Kind > IVF {
		errs = append(errs, fmt.Errorf("kind %d, want 1..3", uint8(p.Kind)))
	}
	if p.Exponent < -maxExponent || p.Exponent > maxExponent || p.Metric == Cosine && p.Exponent != 0 {
		errs = append(errs, fmt.Errorf("exponent %d, want -%d..%d, and 0 for cosine", p.Exponent, maxExponent, maxExponent))
	}
	return errors.Join(errs...)
}

// List is a run of rows in index order: First, First+1, … First+Count-1.
type List struct{ First, Count uint32 }

// Calibration says what a recall@10 took on the segment's own rows, with a margin for chance:
// scan NProbe lists, refine the Depth best estimates, and score the Finish(10) best of those.
type Calibration struct {
	Recall        float32
	NProbe, Depth uint32
}

const (
	codeDimStep    = 16 // four sub-quantizers, one 64-byte register of codes
	dimsPerCode    = 4  // dimensions of a sub-quantizer
	refineOverhead = 8  // bytes of scale and norm after a row's int8 codes
)

// CodeDim is the number of dimensions in rotated space: dim rounded up to a multiple of 16.
func CodeDim(dim int) int { return (dim + codeDimStep - 1) / codeDimStep * codeDimStep }

// CodeSize is the size in bytes of a list's scan codes, which come first in its stored bytes.
func CodeSize(p Params, count int) int {
	blocks := (count + kernels.BlockRows - 1) / kernels.BlockRows
	return blocks * kernels.BlockSize(CodeDim(p.Dim)/dimsPerCode)
}

// RefineStride is the size in bytes of one row's refine code. The refine codes of a list follow
// its scan codes, in row order.
func RefineStride(p Params) int { return CodeDim(p.Dim) + refineOverhead }

// ListSize is the size in bytes of a list of count rows as stored: scan codes, then refine codes.
func ListSize(p Params, count int) int { return CodeSize(p, count) + count*RefineStride(p) }

// exponentOf is the power of two that brings a length into [0.5, 1); 0 for length 0.
func exponentOf(length float64) int {
	_, exp := math.Frexp(length)
	return -exp
}
