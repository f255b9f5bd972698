package ivfpq

import (
	"encoding/binary"
	"math"

	"github.com/akidb/akidb/kernels"
)

// An encoder writes the stored bytes of one list. Rows arrive rotated.
type encoder struct {
	*space
	origin   []float32 // of the index
	centroid []float32 // of the list
	codes    []byte    // blocks of the list
	refine   []byte    // refine codes of the list
	scratch  []float32 // one vector
	bytes    []int8    // one vector
}

func newEncoder(s *space, origin []float32) *encoder {
	return &encoder{space: s, origin: origin, scratch: make([]float32, s.codeDim), bytes: make([]int8, s.codeDim)}
}

// begin points the encoder at the zeroed bytes of a list of count rows, and marks the rows of
// the last block that do not exist.
func (e *encoder) begin(data []byte, centroid []float32, count int) {
	size := CodeSize(e.Params, count)
	e.centroid, e.codes, e.refine = centroid, data[:size], data[size:]
	for row := count; row%kernels.BlockRows != 0; row++ {
		e.putFactors(row, float32(math.Inf(1)), 0)
	}
}

// row encodes row number i of the list. zero says that the user's vector was all zeros.
func (e *encoder) row(i int, rotated []float32, zero bool) {
	// Under Cosine a zero vector is treated as a unit vector at a right angle to everything, so
	// that its estimate is that of cosine 0, as its score is.
	var extra float32
	if e.Metric == Cosine && zero {
		extra = 1
	}
	e.scan(i, rotated, extra)
	e.refineRow(i, rotated, extra)
}

// scan writes the signs of the residual r = x - c and the factors of its estimate. With s the
// signs and α = |r|²/<r,s>, <r,y> is about α<s,y> for any y, without bias over rotations. So
//
//	L2:  |x-q|² = |r|² + |q-c|² - 2<r,q-c> ≈ (|r|² + 2α<s,c>) - 2α<s,q> + |q-c|²
//	Dot: -<x,q> = -<q,c> - <r,q-tc> - t<r,c> ≈ t(α<s,c> - <r,c>) - α<s,q> - <q,c>
//
// where under L2 c and q are taken from the origin, and t is the query's choice (see Query).
// A residual of zero has α = 0 and needs no estimate.
func (e *encoder) scan(i int, rotated []float32, extra float32) {
	var square, abs, signCentroid, dotCentroid float64
	block := e.codes[i/kernels.BlockRows*kernels.BlockSize(e.codeDim/dimsPerCode):]
	at, shift := i%16, i%kernels.BlockRows/16*4
	for j, x := range rotated {
		c := e.centroid[j]
		r := float64(x - c)
		if e.Metric != Dot {
			c -= e.origin[j]
		}
		square += float64(r * r)
		dotCentroid += float64(r * float64(c))
		if r >= 0 {
			abs += r
			signCentroid += float64(c)
			block[j/dimsPerCode*16+at] |= 1 << (j%dimsPerCode + shift)
		} else {
			abs -= r
			signCentroid -= float64(c)
		}
	}
	alpha := 0.0
	if abs > 0 {
		alpha = square / abs
	}
	if e.Metric == Dot {
		e.putFactors(i, float32(float64(alpha*signCentroid)-dotCentroid), float32(-alpha))
		return
	}
	e.putFactors(i, float32(square+float64(2*alpha*signCentroid))+extra, float32(-2*alpha))
}

func (e *encoder) putFactors(i int, add, res float32) {
	size := kernels.BlockSize(e.codeDim / dimsPerCode)
	block := e.codes[i/kernels.BlockRows*size:][:size]
	at := e.codeDim/dimsPerCode*16 + i%kernels.BlockRows*4
	binary.LittleEndian.PutUint32(block[at:], math.Float32bits(add))
	binary.LittleEndian.PutUint32(block[at+4*kernels.BlockRows:], math.Float32bits(res))
}

// refineRow writes the int8 code of y = x - origin, its scale, and |y|². It does not depend on
// the list, so that moving a row between lists leaves it as it is.
func (e *encoder) refineRow(i int, rotated []float32, extra float32) {
	var square float64
	for j, x := range rotated {
		y := x - e.origin[j]
		e.scratch[j] = y
		square += float64(float64(y) * float64(y))
	}
	scale := quantizeInt8(e.scratch, e.bytes)
	row := e.refine[i*RefineStride(e.Params):][:RefineStride(e.Params)]
	for j, b := range e.bytes {
		row[j] = byte(b)
	}
	binary.LittleEndian.PutUint32(row[e.codeDim:], math.Float32bits(scale))
	binary.LittleEndian.PutUint32(row[e.codeDim+4:], math.Float32bits(float32(square)+extra))
}

// quantizeInt8 writes the nearest codes of v in -127..127 and returns the scale that makes
// scale · <code,y> an unbiased estimate of <v,y>: |v|²/<v,code> rather than the step of the grid.
func quantizeInt8(v []float32, code []int8) (scale float32) {
	var widest float32
	for _, x := range v {
		widest = max(widest, x, -x)
	}
	if widest == 0 {
		clear(code)
		return 0
	}
	var square, dot float64
	for i, x := range v {
		rounded := math.RoundToEven(float64(x) / float64(widest) * 127)
		code[i] = int8(rounded)
		square += float64(float64(x) * float64(x))
		dot += float64(float64(x) * rounded)
	}
	return float32(square / dot)
}
