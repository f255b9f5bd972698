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

// Codebook says what the 16 entries of a sub-quantizer are. The numbers are stored in quantizers.
type Codebook uint8

const (
	Sign    Codebook = 1 // the corners of a hypercube: nothing to train
	Learned Codebook = 2 // k-means of residuals, for each sub-quantizer its own
)

func (c Codebook) String() string {
	switch c {
	case Sign:
		return "sign"
	case Learned:
		return "learned"
	}
	return fmt.Sprintf("Codebook(%d)", uint8(c))
}

// ParseCodebook is the inverse of String.
func ParseCodebook(name string) (Codebook, error) {
	for _, c := range []Codebook{Sign, Learned} {
		if c.String() == name {
			return c, nil
		}
	}
	return 0, fmt.Errorf("parse codebook %q: want sign or learned", name)
}

// MaxDim is the largest dimension of a vector.
const MaxDim = 16384

// maxExponent bounds Params.Exponent: 2^-149 is the smallest float32 and a vector of MaxDim of
// the largest is shorter than 2^135.
const maxExponent = 160

// Params is what a reader must know of a quantizer besides its slices.
type Params struct {
	Dim      int      // elements of a vector, 1..MaxDim
	Metric   Metric   // how rows are ranked
	Codebook Codebook // of the scan codes
	Seed     uint64   // of the rotation
	Exponent int      // rows are scaled by 2^Exponent before they are coded; 0 under Cosine
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
	if p.Codebook != Sign && p.Codebook != Learned {
		errs = append(errs, fmt.Errorf("codebook %d, want 1..2", uint8(p.Codebook)))
	}
	if p.Exponent < -maxExponent || p.Exponent > maxExponent || p.Metric == Cosine && p.Exponent != 0 {
		errs = append(errs, fmt.Errorf("exponent %d, want -%d..%d, and 0 for cosine", p.Exponent, maxExponent, maxExponent))
	}
	return errors.Join(errs...)
}

// Calibration says what a recall@10 took on the segment's own rows, with a margin for chance:
// scan the lists that Query.Choose takes for NProbe, refine the Depth best estimates, and score the Finish(10) best
// of those.
type Calibration struct {
	Recall        float32
	NProbe, Depth uint32
}

// Curve is what recalls took for another k than 10: recall@K, and the Finish(K) best of the candidates
// scored.
type Curve struct {
	K      uint32
	Points []Calibration // ascending recall
}

const (
	codeDimStep   = 16 // four sub-quantizers, one 64-byte register of codes
	dimsPerCode   = 4  // dimensions of a sub-quantizer
	refineFactors = 8  // bytes of scale and norm of a row's refine code
	listHeader    = 64 // bytes before a list's codes
	listAlign     = 64 // every part of a list begins at a multiple
)

// CodeDim is the number of dimensions in rotated space: dim rounded up to a multiple of 16.
func CodeDim(dim int) int { return (dim + codeDimStep - 1) / codeDimStep * codeDimStep }

// shape has the sizes that follow from the dimension.
type shape struct {
	codeDim       int
	subQuantizers int
	blockSize     int // bytes of a block of scan codes
}

func shapeOf(dim int) shape {
	s := shape{codeDim: CodeDim(dim), subQuantizers: CodeDim(dim) / dimsPerCode}
	s.blockSize = kernels.BlockSize(s.subQuantizers)
	return s
}

// List is one posting list of a segment: rows First, First+1, … First+Count-1 have their codes
// in it, and Spilled others, whose own lists are elsewhere, a second scan code.
type List struct{ First, Count, Spilled uint32 }

// ScanSize is the size in bytes of what a scan reads of a list, which comes first in its bytes.
func (s *shape) ScanSize(l List) int {
	if l.Count+l.Spilled == 0 {
		return 0
	}
	return listHeader + (blocks(l.Count)+blocks(l.Spilled))*s.blockSize + aligned(4*int(l.Spilled))
}

// ListSize is the size in bytes of a list as stored: scan codes, then refine codes.
func (s *shape) ListSize(l List) int {
	return s.ScanSize(l) + aligned(int(l.Count)*(s.codeDim+refineFactors))
}

func blocks(rows uint32) int { return int((uint64(rows) + kernels.BlockRows - 1) / kernels.BlockRows) }

func aligned(size int) int { return (size + listAlign - 1) / listAlign * listAlign }

// exponentOf is the power of two that brings a length into [0.5, 1); 0 for length 0.
func exponentOf(length float64) int {
	_, exp := math.Frexp(length)
	return -exp
}
