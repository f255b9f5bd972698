package ivfpq

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/akidb/akidb/kernels"
)

// A Quantizer is what all segments of an epoch share: the rotation, the centroids of the lists,
// and the codebook. It does not change and is safe for any number of goroutines. One search
// prepares one Query for it, whatever the number of segments.
type Quantizer struct {
	*space
	// Rows is how many rows the collection had when the quantizer was trained, and Residual the
	// mean squared distance of those rows to their centroids, in scaled space: newer rows that
	// lie further out have drifted.
	Rows     uint64
	Residual float64

	origin    []float32 // mean of the rows it was trained on, rotated and scaled
	centroids []float32 // lists × codeDim, less the origin
	grid      gridCodes // the centroids again: as they are stored, and for a quick look at them
	squares   []float32 // |centroid|², less the origin
	entries   []float32 // of a learned codebook: sub-quantizers × 4 dimensions × 16 entries

	// Under Dot, what ranks a list does not depend on the origin: <q,o+c> and |o+c|².
	lengths []float32

	coarse  coarseCodes
	queries sync.Pool
}

// coarseCodes are the centroids as a scan sees them, for the first look at all of them.
type coarseCodes struct {
	blocks []byte // scan codes of the centroids, as those of a list's rows
	scales [2]float32
	mask   []uint32 // rows of the blocks that exist
}

// newQuantizer makes a quantizer of its stored parts. The centroids are given either as they are,
// or, with nil for them, by the grid of int8 on which they lie.
func newQuantizer(p Params, origin, centroids []float32, grid gridCodes, entries []float32) (*Quantizer, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	dim := CodeDim(p.Dim)
	if centroids == nil {
		centroids = grid.expand(dim)
	} else {
		grid = gridOf(centroids, dim)
	}
	z := &Quantizer{space: newSpace(p), origin: origin, centroids: centroids, entries: entries, grid: grid}
	lists := len(centroids) / dim
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(len(origin) == dim, "origin of %d elements, want %d", len(origin), dim)
	check(lists > 0 && len(centroids) == lists*dim, "%d centroid elements, want a multiple of %d", len(centroids), dim)
	want := 0
	if p.Codebook == Learned {
		want = dim * kernels.LUTEntries
	}
	check(len(entries) == want, "%d codebook elements, want %d", len(entries), want)
	for _, part := range [][]float32{origin, centroids, entries} {
		if err := checkFinite(part); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	z.derive(lists)
	return z, nil
}

// derive fills what follows from the stored parts.
func (z *Quantizer) derive(lists int) {
	z.squares = make([]float32, lists)
	for i := range z.squares {
		c := z.centroid(uint32(i))
		z.squares[i] = dot(c, c)
	}
	if z.Metric == Dot {
		z.lengths = make([]float32, lists)
		whole := make([]float32, z.codeDim)
		for i := range z.lengths {
			z.uncentred(whole, uint32(i))
			z.lengths[i] = dot(whole, whole)
		}
	}
	z.deriveCoarse(lists)
}

// deriveCoarse codes every centroid by its signs, as a residual around the origin: then
// |y-c|² ≈ |c|² - 2α<s,y> + |y|², with α = |c|²/<c,s>.
func (z *Quantizer) deriveCoarse(lists int) {
	enc := factorBlocks{subQuantizers: z.subQuantizers}
	enc.reset(lists)
	for i := range lists {
		c := z.centroid(uint32(i))
		var abs float32
		for _, x := range c {
			abs += float32(math.Abs(float64(x)))
		}
		var alpha float32
		if abs > 0 {
			alpha = z.squares[i] / abs
		}
		signCode(c, enc.nibbles(i))
		enc.put(i, z.squares[i], -2*alpha)
	}
	z.coarse.blocks = make([]byte, enc.size())
	z.coarse.scales = enc.write(z.coarse.blocks)
	z.coarse.mask = make([]uint32, blocks(uint32(lists)))
	Bitmap(nil).masks(z.coarse.mask, 0, uint32(lists))
}

// Lists is how many lists a segment of this quantizer has.
func (z *Quantizer) Lists() int { return len(z.squares) }

func (z *Quantizer) centroid(list uint32) []float32 {
	return z.centroids[int(list)*z.codeDim:][:z.codeDim]
}

// uncentred writes a centroid with the origin added back.
func (z *Quantizer) uncentred(dst []float32, list uint32) {
	for i, x := range z.centroid(list) {
		dst[i] = x + z.origin[i]
	}
}

// gridCodes are vectors as int8 elements and a step each.
type gridCodes struct {
	bytes []byte // int8, one vector after the other
	steps []float32
}

func gridOf(vectors []float32, dim int) gridCodes {
	g := gridCodes{make([]byte, len(vectors)), make([]float32, len(vectors)/dim)}
	code := make([]int8, dim)
	for i := range g.steps {
		g.steps[i] = gridInt8(vectors[i*dim:(i+1)*dim], code)
		for j, b := range code {
			g.bytes[i*dim+j] = byte(b)
		}
	}
	return g
}

func (g gridCodes) expand(dim int) []float32 {
	out := make([]float32, len(g.bytes))
	for i, b := range g.bytes {
		out[i] = g.steps[i/dim] * float32(int8(b))
	}
	return out
}

// flatQuantizer is the quantizer of a single list around the mean of its rows.
func flatQuantizer(p Params, origin []float32, rows int) (*Quantizer, error) {
	p.Codebook = Sign
	z, err := newQuantizer(p, slices.Clone(origin), make([]float32, CodeDim(p.Dim)), gridCodes{}, nil)
	if err == nil {
		z.Rows = uint64(rows)
	}
	return z, err
}

// Fits reports whether vectors as long as length can be coded: their squares must neither
// overflow nor vanish beside those that the quantizer was trained on.
func (z *Quantizer) Fits(length float64) bool {
	return z.Metric == Cosine || math.Ldexp(length, z.Exponent) < fittingLength
}

// fittingLength, of a row in scaled space, where those of training are below 1.
const fittingLength = 1 << 20
