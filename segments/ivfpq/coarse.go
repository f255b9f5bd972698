package ivfpq

import (
	"math"
	"slices"

	"github.com/akidb/akidb/kernels"
)

// coarseSearch finds the centroids nearest to a vector: all of them by their scan codes, the best
// of those by int8 products, and a few exactly. It is for one goroutine at a time.
type coarseSearch struct {
	z      *Quantizer
	vector []float32 // in rotated space, less the origin; under Dot a query is not
	sign   table     // of the sign codebook
	code   []int8    // vector as int8
	scale  float32   // of code
	*scratch
}

// scratch is what a search needs only while one of its calls runs; many queries of one goroutine
// share it.
type scratch struct {
	est  []float32 // of centroids, and of the rows of a scan
	rows []uint32
	dots []int32
	mask []uint32
}

func newScratch(z *Quantizer) *scratch {
	room := max(scanRows, blocks(uint32(z.Lists()))*kernels.BlockRows)
	return &scratch{est: make([]float32, room), rows: make([]uint32, room), dots: make([]int32, refineBatch), mask: make([]uint32, scanBlocks)}
}

// table is a look-up table: what a code stands for is scale · (sum of its entries) + bias.
type table struct {
	lut         []byte
	scale, bias float32
}

func newCoarseSearch(z *Quantizer, s *scratch) coarseSearch {
	return coarseSearch{
		z:       z,
		vector:  make([]float32, z.codeDim),
		sign:    table{lut: make([]byte, z.subQuantizers*kernels.LUTEntries)},
		code:    make([]int8, z.codeDim),
		scratch: s,
	}
}

// begin takes vector as it is now.
func (c *coarseSearch) begin() {
	c.sign.scale, c.sign.bias = kernels.SignLUT(c.vector, c.sign.lut)
	c.scale = gridInt8(c.vector, c.code)
}

// How many centroids the scan of their codes leaves for the int8 look: with 4·n + 64 the lists
// probed are the same as with exact distances, but for one in a thousand.
const (
	coarseFactor = 4
	coarseExtra  = 64
	coarseSample = 16 // every so many blocks of centroids are looked at first, for a limit
)

// all returns every centroid.
func (c *coarseSearch) all() []uint32 {
	which := c.rows[:c.z.Lists()]
	for i := range which {
		which[i] = uint32(i)
	}
	return which
}

// nearest returns about so many of the nearest centroids under L2, in no order, out of the few that
// the codes of all leave, where there are enough that choosing pays.
func (c *coarseSearch) nearest(wanted, few int) []uint32 {
	if 2*few >= c.z.Lists() {
		return c.all()
	}
	which := c.rows[:c.scan(few)]
	return c.sharpen(which, wanted+wanted/4+4, false)
}

// scan looks at the codes of all centroids and leaves at least wanted of the nearest in c.rows, if
// there are as many, and few more. It returns how many.
func (c *coarseSearch) scan(wanted int) int {
	codes, blockSize := &c.z.coarse, c.z.blockSize
	scan := kernels.Scan{
		Scale: c.sign.scale * codes.scales[1] / codes.scales[0],
		Bias:  c.sign.bias * codes.scales[1] / codes.scales[0],
		Limit: float32(math.Inf(1)),
	}
	sampled := 0
	for b := 0; b < len(codes.mask); b += coarseSample {
		sampled += kernels.Scan4(codes.blocks[b*blockSize:(b+1)*blockSize], c.sign.lut, scan, codes.mask[b:b+1], c.est[sampled:], c.rows[sampled:])
	}
	if share := (wanted*5/4*sampled)/c.z.Lists() + 8; share < sampled {
		selectPairs(c.est[:sampled], c.rows[:sampled], share)
		scan.Limit = slices.Max(c.est[:share])
	}
	kept := kernels.Scan4(codes.blocks, c.sign.lut, scan, codes.mask, c.est, c.rows)
	if kept < wanted { // the sample was not like the rest
		scan.Limit = float32(math.Inf(1))
		kept = kernels.Scan4(codes.blocks, c.sign.lut, scan, codes.mask, c.est, c.rows)
	}
	if kept > wanted {
		selectPairs(c.est[:kept], c.rows[:kept], wanted)
		kept = wanted
	}
	return kept
}

// sharpen returns the nearest of some centroids, as their int8 codes tell: at most wanted, by
// distance or by inner product with vector.
func (c *coarseSearch) sharpen(which []uint32, wanted int, product bool) []uint32 {
	if wanted >= len(which) {
		return which
	}
	z, est := c.z, c.est[:len(which)]
	for done := 0; done < len(which); {
		part := which[done:min(done+refineBatch, len(which))]
		dots := c.dots[:len(part)]
		kernels.Dot8Gather(c.code, z.grid.bytes, z.codeDim, part, dots)
		for i, list := range part {
			p := float32(c.scale*z.grid.steps[list]) * float32(dots[i])
			if product {
				est[done+i] = -p
			} else {
				est[done+i] = z.squares[list] - 2*p
			}
		}
		done += len(part)
	}
	selectPairs(est, which, wanted)
	return which[:wanted]
}

// spillPenalty is the lambda of SOAR: how much parallel residuals cost. Among spillChoices nearest
// centroids compete for the second assignment.
const (
	spillPenalty = 1
	spillChoices = 12
	// assignFew centroids are looked at by their int8 codes: with 80 the nearest is found for
	// 1995 rows of 2000 of 128 dimensions, and the second that all would give for 1960.
	assignFew = 80
)

// An assigner chooses the lists of rows.
type assigner struct {
	coarseSearch
	residual []float32
}

func newAssigner(z *Quantizer) *assigner {
	return &assigner{coarseSearch: newCoarseSearch(z, newScratch(z)), residual: make([]float32, z.codeDim)}
}

// assign returns the nearest list of the row in a.vector and the one for its second code, whose
// residual points another way than that of the first: of the nearest centroids c' the one with the
// least |r'|² + lambda·<r',r>²/|r|². A query that misses the row's own list, because it lies
// across the residual of it, then meets the other. With a single list both are that.
//
// Source: SOAR (Sun, Simcha, Dopson, Guo, Kumar 2023).
func (a *assigner) assign() (first, second uint32) {
	z, y := a.z, a.vector
	a.begin()
	which := a.nearest(spillChoices+1, assignFew)
	distances := a.est[:len(which)]
	kernels.L2Gather(y, z.centroids, which, distances)
	count := min(len(which), spillChoices+1)
	selectPairs(distances, which, count)
	distances, which = distances[:count], which[:count]
	own := 0
	for i, d := range distances {
		if d < distances[own] || d == distances[own] && which[i] < which[own] {
			own = i
		}
	}
	first, square := which[own], distances[own]
	if count == 1 {
		return first, first
	}
	which[own], which[0] = which[0], which[own]
	distances[own], distances[0] = distances[0], distances[own]
	for i, c := range z.centroid(first) {
		a.residual[i] = y[i] - c
	}
	var products [spillChoices + 1]float32 // <c',r>
	kernels.DotGather(a.residual, z.centroids, which, products[:count])
	along := dot(y, a.residual)
	least := float32(math.Inf(1))
	for i, list := range which[1:] {
		loss := distances[i+1]
		if square > 0 {
			parallel := along - products[i+1]
			loss += spillPenalty * parallel * parallel / square
		}
		if loss < least || loss == least && list < second {
			least, second = loss, list
		}
	}
	return first, second
}
