//go:build !noasm && (amd64 || arm64)

package kernels

import (
	"math"
	"slices"
	"sync"
)

// A panel holds the rows of a tile column by column, so that a vector is one element of many rows:
// no sum has to be added up across its lanes, and the nearest centroid of each row is kept in
// its lane. Every sum runs over the elements in order, so that a row has the same nearest
// centroid wherever it stands.
//
// Source: the register tiles of GotoBLAS (Goto, van de Geijn 2008) with the minimum fused in.
const (
	panelMaxRows = 32        // of all levels
	panelsSize   = 256 << 10 // panels that share a pass over the centroids stay in the second cache
	panelsMax    = 8
)

// nearestScratch is the memory of one call.
type nearestScratch struct {
	panels    []float32
	centroids []float32 // those of a tile that is not full
	halfNorms []float32
	best      [panelsMax * panelMaxRows]float32
	pick      [panelsMax * panelMaxRows]uint32
}

var nearestPool = sync.Pool{New: func() any { return new(nearestScratch) }}

func nearest(rows []float32, dim int, centroids, halfNorms []float32, out []uint32) {
	if level == Generic || len(out) == 0 {
		nearestGeneric(rows, dim, centroids, halfNorms, out)
		return
	}
	tileRows, tileCentroids := nearestTileShape()
	s := nearestPool.Get().(*nearestScratch)
	defer nearestPool.Put(s)
	if len(halfNorms) < tileCentroids {
		centroids, halfNorms = s.fillTile(centroids, halfNorms, dim, tileCentroids)
	}
	pass := tileRows * min(max(panelsSize/(4*dim*tileRows), 1), panelsMax)
	for len(out) > 0 {
		n := min(len(out), pass)
		s.pack(rows[:n*dim], dim, tileRows)
		for i := range s.best[:pass] {
			s.best[i], s.pick[i] = float32(math.Inf(1)), 0
		}
		// A last tile that is not full begins earlier: centroids that come again are not
		// strictly nearer than themselves.
		for c := 0; c < len(halfNorms); c += tileCentroids {
			first := min(c, len(halfNorms)-tileCentroids)
			for p := 0; p < n; p += tileRows {
				nearestOfTile(&s.panels[p*dim], dim, &centroids[first*dim], &halfNorms[first], first, &s.best[p], &s.pick[p])
			}
		}
		copy(out[:n], s.pick[:n])
		rows, out = rows[n*dim:], out[n:]
	}
}

// fillTile repeats the last centroid, which then is not strictly nearer than itself.
func (s *nearestScratch) fillTile(centroids, halfNorms []float32, dim, count int) (filled, filledHalf []float32) {
	s.centroids = append(s.centroids[:0], centroids...)
	s.halfNorms = append(s.halfNorms[:0], halfNorms...)
	for len(s.halfNorms) < count {
		s.centroids = append(s.centroids, centroids[len(centroids)-dim:]...)
		s.halfNorms = append(s.halfNorms, halfNorms[len(halfNorms)-1])
	}
	return s.centroids, s.halfNorms
}

// pack writes rows to panels of so many rows each. What is left of the last panel is whatever
// was there: the results of those lanes are not used.
func (s *nearestScratch) pack(rows []float32, dim, tileRows int) {
	size := (len(rows)/dim + tileRows - 1) / tileRows * tileRows * dim
	s.panels = slices.Grow(s.panels[:0], size)[:size]
	for i := 0; i*dim < len(rows); i++ {
		panel := s.panels[i/tileRows*tileRows*dim:][:tileRows*dim]
		at := i % tileRows
		for _, x := range rows[i*dim : (i+1)*dim] {
			panel[at] = x
			at += tileRows
		}
	}
}
