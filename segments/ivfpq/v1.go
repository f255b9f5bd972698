package ivfpq

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/akidb/akidb/kernels"
)

// Version 1 of the codes had a quantizer a segment, no spilled rows, factors as float32, and the
// factors of a refine code behind it. Its lists are read by turning them into those of version 2.

const v1FactorSize = 2 * kernels.BlockRows * 4

// V1Quantizer is the quantizer of a version 1 index: its origin is not stored but the mean of the
// centroids, weighted by the rows of their lists.
func V1Quantizer(p Params, centroids []float32, lists []List) (*Quantizer, error) {
	p.Codebook = Sign
	if err := p.Validate(); err != nil {
		return nil, err
	}
	dim := CodeDim(p.Dim)
	if len(lists) == 0 || len(centroids) != len(lists)*dim {
		return nil, fmt.Errorf("%d centroid elements, want %d for %d lists of %d dimensions", len(centroids), len(lists)*dim, len(lists), dim)
	}
	sum := make([]float64, dim)
	total := 0.0
	for i, l := range lists {
		weight := float64(l.Count)
		total += weight
		for j, x := range centroids[i*dim : (i+1)*dim] {
			sum[j] += float64(weight * float64(x))
		}
	}
	origin := make([]float32, dim)
	if total > 0 {
		for j, x := range sum {
			origin[j] = float32(x / total)
		}
	}
	relative := make([]float32, len(centroids))
	for i, x := range centroids {
		relative[i] = x - origin[i%dim]
	}
	z, err := newQuantizer(p, origin, relative, gridCodes{}, nil)
	if err == nil {
		z.Rows = uint64(total)
	}
	return z, err
}

// V1ListSize is the size in bytes of a version 1 list of count rows of dim elements.
func V1ListSize(dim, count int) int {
	s := shapeOf(dim)
	return blocks(uint32(count))*(s.subQuantizers*16+v1FactorSize) + count*(s.codeDim+refineFactors)
}

// UpgradeV1 returns a version 1 list as this version stores it.
func (z *Quantizer) UpgradeV1(l List, data []byte) ([]byte, error) {
	count := int(l.Count)
	if want := V1ListSize(z.Dim, count); len(data) != want || l.Spilled != 0 {
		return nil, fmt.Errorf("version 1 list of %d rows has %d bytes, want %d", l.Count, len(data), want)
	}
	out := make([]byte, z.ListSize(l))
	w := listWriter{shape: z.shape}
	w.begin(l, out)
	codes := z.subQuantizers * 16
	refine := data[blocks(l.Count)*(codes+v1FactorSize):]
	float := func(b []byte) float32 { return math.Float32frombits(binary.LittleEndian.Uint32(b)) }
	for row := range count {
		block := data[row/kernels.BlockRows*(codes+v1FactorSize):]
		j := row % kernels.BlockRows
		for m := range w.scan.nibbles(row) {
			w.scan.nibbles(row)[m] = block[m*16+j%16] >> (j / 16 * 4) & 15
		}
		w.scan.put(row, float(block[codes+4*j:]), float(block[codes+v1FactorSize/2+4*j:]))
		own := refine[row*(z.codeDim+refineFactors):]
		copy(w.refineSlot(row), own[:z.codeDim])
		w.putRefineFactors(row, float(own[z.codeDim:]), float(own[z.codeDim+4:]))
	}
	w.finish()
	return out, nil
}
