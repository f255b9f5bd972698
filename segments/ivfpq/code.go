package ivfpq

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/akidb/akidb/kernels"
)

// factorBlocks gathers scan codes and their factors before they are written as blocks: the
// factors are halves, scaled by powers of two that only the whole list tells.
type factorBlocks struct {
	subQuantizers int
	rows          int
	codes         []byte // one nibble a byte, rows × subQuantizers
	add, res      []float32
}

// reset makes room for rows; each that is not put afterwards is one that never was.
func (b *factorBlocks) reset(rows int) {
	b.rows = rows
	b.codes = slices.Grow(b.codes[:0], rows*b.subQuantizers)[:rows*b.subQuantizers]
	b.add = slices.Grow(b.add[:0], rows)[:rows]
	b.res = slices.Grow(b.res[:0], rows)[:rows]
	clear(b.codes)
	clear(b.res)
	for i := range b.add {
		b.add[i] = float32(math.Inf(1))
	}
}

func (b *factorBlocks) nibbles(i int) []byte {
	return b.codes[i*b.subQuantizers:][:b.subQuantizers]
}

func (b *factorBlocks) put(i int, add, res float32) { b.add[i], b.res[i] = add, res }

func (b *factorBlocks) size() int { return blocks(uint32(b.rows)) * kernels.BlockSize(b.subQuantizers) }

// write fills dst, which is zeroed and size() long, and returns the scales that the halves are to
// be multiplied with.
func (b *factorBlocks) write(dst []byte) (scales [2]float32) {
	scales = [2]float32{halfScale(b.add), halfScale(b.res)}
	size := kernels.BlockSize(b.subQuantizers)
	for row := range blocks(uint32(b.rows)) * kernels.BlockRows {
		block := dst[row/kernels.BlockRows*size:][:size]
		j := row % kernels.BlockRows
		add, res := uint16(halfInf), uint16(0)
		if row < b.rows {
			at, shift := j%16, j/16*4
			for m, c := range b.nibbles(row) {
				block[m*16+at] |= c << shift
			}
			if x := b.add[row]; x < float32(math.Inf(1)) {
				add, res = half(x/scales[0]), half(b.res[row]/scales[1])
			}
		}
		factors := block[b.subQuantizers*16:]
		binary.LittleEndian.PutUint16(factors[2*j:], add)
		binary.LittleEndian.PutUint16(factors[2*kernels.BlockRows+2*j:], res)
	}
	return scales
}

// read puts the row that write put at a position of src, as row into.
func (b *factorBlocks) read(into int, src []byte, position int, scales [2]float32) {
	size := kernels.BlockSize(b.subQuantizers)
	block := src[position/kernels.BlockRows*size:][:size]
	j := position % kernels.BlockRows
	at, shift := j%16, j/16*4
	codes := b.nibbles(into)
	for m := range codes {
		codes[m] = block[m*16+at] >> shift & 15
	}
	factors := block[b.subQuantizers*16:]
	b.put(into, kernels.Float32(binary.LittleEndian.Uint16(factors[2*j:]))*scales[0],
		kernels.Float32(binary.LittleEndian.Uint16(factors[2*kernels.BlockRows+2*j:]))*scales[1])
}

const halfInf = 0x7c00

// half rounds to binary16; what is finite stays finite.
func half(x float32) uint16 {
	const largest = 65504
	return kernels.Float16(min(max(x, -largest), largest))
}

// leastScale keeps products of the scales and of any query finite: factors below it, of rows that
// lie 2^-40 of the longest from their centroid, count as 0.
const leastScale = -60

// halfScale is the power of two that brings the largest of v just within the range of a half, so
// that as few as possible are rounded to the steps near zero.
func halfScale(v []float32) float32 {
	var widest float32
	for _, x := range v {
		if x < float32(math.Inf(1)) { // rows that never were do not count
			widest = max(widest, x, -x)
		}
	}
	if widest == 0 {
		return 1
	}
	_, exp := math.Frexp(float64(widest)) // widest < 2^exp
	return float32(math.Ldexp(1, max(exp-15, leastScale)))
}

// signCode writes the nibbles of a residual's signs: bit j of code m is set where element 4m+j is
// not negative.
func signCode(r []float32, codes []byte) {
	for m := range codes {
		v := (*[dimsPerCode]float32)(r[m*dimsPerCode:])
		var c uint32
		for j, x := range v {
			c |= (^math.Float32bits(x) >> 31) << j
		}
		codes[m] = byte(c)
	}
}

// An encoder makes the codes of rows of one quantizer.
type encoder struct {
	*Quantizer
	residual []float32
	whole    []float32 // centroid with the origin, under Dot
	decoded  []float32 // of a learned code
	bytes    []int8
	list     uint32 // that whole belongs to
}

func newEncoder(z *Quantizer) *encoder {
	return &encoder{
		Quantizer: z, residual: make([]float32, z.codeDim), whole: make([]float32, z.codeDim),
		decoded: make([]float32, z.codeDim), bytes: make([]int8, z.codeDim), list: math.MaxUint32,
	}
}

// scan writes the code of y, a rotated row less the origin, in a list, and the factors of its
// estimate. With r = y - c the residual, s what its code stands for and α = |r|²/<r,s>, <r,v> is
// about α<s,v> for any v, without bias over rotations. So
//
//	L2:  |y-q|² = |r|² + |q-c|² - 2<r,q-c> ≈ (|r|² + 2α<s,c>) - 2α<s,q> + |q-c|²
//	Dot: -<x,q> = -<q,o+c> - <r,q-ta> - t<r,a> ≈ t(α<s,a> - <r,a>) - α<s,q> - <q,o+c>
//
// where under L2 q is taken from the origin, and under Dot a = o + c and t is the query's choice
// (see Query.terms). A residual of zero has α = 0 and needs no estimate. extra is added to |r|².
func (e *encoder) scan(y []float32, list uint32, extra float32, codes []byte) (add, res float32) {
	c := e.centroid(list)
	r := e.residual
	for i, x := range y {
		r[i] = x - c[i]
	}
	anchor := c
	if e.Metric == Dot {
		if e.list != list {
			e.uncentred(e.whole, list)
			e.list = list
		}
		anchor = e.whole
	}
	var rs, sa float32 // <r,s> and <s,anchor>
	if e.Codebook == Sign {
		signCode(r, codes)
		rs, sa = signDots(r, anchor)
	} else {
		e.learnedCode(r, codes)
		rs, sa = dot(r, e.decoded), dot(e.decoded, anchor)
	}
	square := dot(r, r)
	var alpha float32
	if rs > 0 {
		alpha = square / rs
	}
	if e.Metric == Dot {
		return float32(alpha*sa) - dot(r, anchor), -alpha
	}
	return square + float32(2*alpha*sa) + extra, -2 * alpha
}

// signDots returns Σ|r| and <s,a> for the signs s of r.
func signDots(r, a []float32) (rs, sa float32) {
	a = a[:len(r)]
	var r0, r1, s0, s1 float32
	for i := 0; i+2 <= len(r); i += 2 {
		x, y := math.Float32bits(r[i]), math.Float32bits(r[i+1])
		r0 += math.Float32frombits(x &^ (1 << 31))
		r1 += math.Float32frombits(y &^ (1 << 31))
		s0 += math.Float32frombits(math.Float32bits(a[i]) ^ x&(1<<31))
		s1 += math.Float32frombits(math.Float32bits(a[i+1]) ^ y&(1<<31))
	}
	return r0 + r1, s0 + s1
}

// learnedCode picks the nearest entry of each sub-quantizer, and decodes what it picked.
func (e *encoder) learnedCode(r []float32, codes []byte) {
	for m := range codes {
		v := (*[dimsPerCode]float32)(r[m*dimsPerCode:])
		table := (*[dimsPerCode * kernels.LUTEntries]float32)(e.entries[m*dimsPerCode*kernels.LUTEntries:])
		pick := nearestEntry(v, table)
		codes[m] = byte(pick)
		for d := range dimsPerCode {
			e.decoded[m*dimsPerCode+d] = table[d*kernels.LUTEntries+pick]
		}
	}
}

// nearestEntry is the entry of a table with the least squared distance to v; the first of equals.
func nearestEntry(v *[dimsPerCode]float32, table *[dimsPerCode * kernels.LUTEntries]float32) int {
	best, pick := float32(math.Inf(1)), 0
	for c := range kernels.LUTEntries {
		var d float32
		for j, x := range v {
			diff := x - table[j*kernels.LUTEntries+c]
			d += float32(diff * diff)
		}
		if d < best {
			best, pick = d, c
		}
	}
	return pick
}

// refine writes the int8 code of y, and returns its scale and |y|². It does not depend on the
// list, so that moving a row between lists leaves it as it is.
func (e *encoder) refine(y []float32, extra float32, code []byte) (scale, square float32) {
	scale = quantizeInt8(y, e.bytes)
	for j, b := range e.bytes {
		code[j] = byte(b)
	}
	return scale, dot(y, y) + extra
}

// gridInt8 writes the nearest codes of v in -127..127 and returns the step of the grid.
func gridInt8(v []float32, code []int8) (step float32) {
	var widest float32
	for _, x := range v {
		widest = max(widest, x, -x)
	}
	// A widest that small has no inverse in float32, and no code worth having.
	if widest < math.SmallestNonzeroFloat32*(1<<23)*127 {
		clear(code)
		return 0
	}
	scale := 127 / widest
	for i, x := range v {
		// Adding and taking off 1.5·2^23 rounds to the nearest even integer.
		const round = 1.5 * (1 << 23)
		code[i] = int8((float32(x*scale) + round) - round)
	}
	return widest / 127
}

// quantizeInt8 writes the nearest codes of v in -127..127 and returns the scale that makes
// scale · <code,y> an unbiased estimate of <v,y>: |v|²/<v,code> rather than the step of the grid.
func quantizeInt8(v []float32, code []int8) (scale float32) {
	if gridInt8(v, code) == 0 {
		return 0
	}
	var square, product float64
	for i, x := range v {
		square += float64(float64(x) * float64(x))
		product += float64(float64(x) * float64(code[i]))
	}
	return float32(square / product)
}
