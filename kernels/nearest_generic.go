package kernels

import "math"

// nearestTile is how many rows share a pass over the centroids: each centroid element loaded
// once serves them all.
const nearestTile = 4

func nearestGeneric(rows []float32, dim int, centroids, halfNorms []float32, out []uint32) {
	i := 0
	for ; i+nearestTile <= len(out); i += nearestTile {
		nearest4Generic(rows[i*dim:(i+nearestTile)*dim], dim, centroids, halfNorms, out[i:i+nearestTile])
	}
	for ; i < len(out); i++ {
		row := rows[i*dim : (i+1)*dim]
		best := float32(math.Inf(1))
		out[i] = 0
		for c, half := range halfNorms {
			if d := half - dot1Generic(row, centroids[c*dim:(c+1)*dim]); d < best {
				best, out[i] = d, uint32(c)
			}
		}
	}
}

func nearest4Generic(rows []float32, dim int, centroids, halfNorms []float32, out []uint32) {
	r0, r1, r2, r3 := rows[:dim], rows[dim:2*dim], rows[2*dim:3*dim], rows[3*dim:4*dim]
	inf := float32(math.Inf(1))
	best := [nearestTile]float32{inf, inf, inf, inf}
	var pick [nearestTile]uint32
	for c, half := range halfNorms {
		d0, d1, d2, d3 := dot4Generic(r0, r1, r2, r3, centroids[c*dim:(c+1)*dim])
		for j, d := range [nearestTile]float32{half - d0, half - d1, half - d2, half - d3} {
			if d < best[j] {
				best[j], pick[j] = d, uint32(c)
			}
		}
	}
	copy(out, pick[:])
}

// dot4Generic is four inner products with one vector, each summed exactly as dot1Generic does,
// so that the nearest centroid of a row does not depend on where the row stands.
func dot4Generic(r0, r1, r2, r3, c []float32) (d0, d1, d2, d3 float32) {
	r0, r1, r2, r3 = r0[:len(c)], r1[:len(c)], r2[:len(c)], r3[:len(c)]
	var a0, a1, a2, a3, b0, b1, b2, b3 float32
	i := 0
	for ; i+4 <= len(c); i += 4 {
		x := (*[4]float32)(c[i:])
		p0, p1, p2, p3 := (*[4]float32)(r0[i:]), (*[4]float32)(r1[i:]), (*[4]float32)(r2[i:]), (*[4]float32)(r3[i:])
		a0 += float32(x[0] * p0[0])
		a1 += float32(x[0] * p1[0])
		a2 += float32(x[0] * p2[0])
		a3 += float32(x[0] * p3[0])
		b0 += float32(x[1] * p0[1])
		b1 += float32(x[1] * p1[1])
		b2 += float32(x[1] * p2[1])
		b3 += float32(x[1] * p3[1])
		a0 += float32(x[2] * p0[2])
		a1 += float32(x[2] * p1[2])
		a2 += float32(x[2] * p2[2])
		a3 += float32(x[2] * p3[2])
		b0 += float32(x[3] * p0[3])
		b1 += float32(x[3] * p1[3])
		b2 += float32(x[3] * p2[3])
		b3 += float32(x[3] * p3[3])
	}
	for ; i < len(c); i++ {
		a0 += float32(c[i] * r0[i])
		a1 += float32(c[i] * r1[i])
		a2 += float32(c[i] * r2[i])
		a3 += float32(c[i] * r3[i])
	}
	return a0 + b0, a1 + b1, a2 + b2, a3 + b3
}

func dot1Generic(r, c []float32) float32 {
	r = r[:len(c)]
	var a, b float32
	i := 0
	for ; i+4 <= len(c); i += 4 {
		x, p := (*[4]float32)(c[i:]), (*[4]float32)(r[i:])
		a += float32(x[0] * p[0])
		b += float32(x[1] * p[1])
		a += float32(x[2] * p[2])
		b += float32(x[3] * p[3])
	}
	for ; i < len(c); i++ {
		a += float32(c[i] * r[i])
	}
	return a + b
}
