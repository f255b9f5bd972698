package kernels

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// The benchmarks read 1 MB a call, which fits a core's own cache, and report bytes read.
const benchSize = 1 << 20

var benchDims = []int{128, 768}

func BenchmarkL2Rows(b *testing.B)  { benchRows(b, L2Rows) }
func BenchmarkDotRows(b *testing.B) { benchRows(b, DotRows) }

func benchRows(b *testing.B, kernel func(query, rows, out []float32)) {
	for _, dim := range benchDims {
		b.Run(fmt.Sprint(dim), func(b *testing.B) {
			random := rand.New(rand.NewPCG(1, 2))
			query, rows := normals(random, dim), normals(random, benchSize/4/dim*dim)
			out := make([]float32, len(rows)/dim)
			b.SetBytes(int64(4 * len(rows)))
			for b.Loop() {
				kernel(query, rows, out)
			}
		})
	}
}

func BenchmarkL2Gather(b *testing.B)  { benchGather(b, L2Gather) }
func BenchmarkDotGather(b *testing.B) { benchGather(b, DotGather) }

func benchGather(b *testing.B, kernel func(query, rows []float32, which []uint32, out []float32)) {
	for _, dim := range benchDims {
		b.Run(fmt.Sprint(dim), func(b *testing.B) {
			random := rand.New(rand.NewPCG(1, 2))
			query, rows := normals(random, dim), normals(random, benchSize/4/dim*dim)
			which, out := make([]uint32, 256), make([]float32, 256)
			for i := range which {
				which[i] = uint32(random.IntN(len(rows) / dim))
			}
			b.SetBytes(int64(4 * dim * len(which)))
			for b.Loop() {
				kernel(query, rows, which, out)
			}
		})
	}
}

func BenchmarkDot8Rows(b *testing.B) {
	for _, dim := range benchDims {
		b.Run(fmt.Sprint(dim), func(b *testing.B) {
			random := rand.New(rand.NewPCG(1, 2))
			query, rows := int8s(random, dim), randomBytes(random, benchSize)
			out := make([]int32, benchSize/(dim+8))
			b.SetBytes(int64(dim * len(out)))
			for b.Loop() {
				Dot8Rows(query, rows, dim+8, out)
			}
		})
	}
}

func BenchmarkDot8Gather(b *testing.B) {
	for _, dim := range benchDims {
		b.Run(fmt.Sprint(dim), func(b *testing.B) {
			random := rand.New(rand.NewPCG(1, 2))
			query, rows := int8s(random, dim), randomBytes(random, benchSize)
			which, out := make([]uint32, 256), make([]int32, 256)
			for i := range which {
				which[i] = uint32(random.IntN(benchSize / (dim + 8)))
			}
			b.SetBytes(int64(dim * len(which)))
			for b.Loop() {
				Dot8Gather(query, rows, dim+8, which, out)
			}
		})
	}
}

func BenchmarkScan4(b *testing.B) {
	for _, dim := range benchDims {
		b.Run(fmt.Sprint(dim), func(b *testing.B) {
			random := rand.New(rand.NewPCG(1, 2))
			c := newScanCase(random, benchSize/BlockSize(dim/4), dim/4)
			c.scan.Limit = -1e30 // hardly ever kept, as in a search that is under way
			b.SetBytes(int64(len(c.blocks)))
			for b.Loop() {
				Scan4(c.blocks, c.lut, c.scan, c.mask, c.est, c.rows)
			}
		})
	}
}

func BenchmarkSignLUT(b *testing.B) {
	for _, dim := range benchDims {
		b.Run(fmt.Sprint(dim), func(b *testing.B) {
			query, lut := normals(rand.New(rand.NewPCG(1, 2)), dim), make([]byte, 4*dim)
			b.SetBytes(int64(len(lut)))
			for b.Loop() {
				SignLUT(query, lut)
			}
		})
	}
}

func BenchmarkNearest(b *testing.B) {
	for _, dim := range benchDims {
		b.Run(fmt.Sprint(dim), func(b *testing.B) {
			random := rand.New(rand.NewPCG(1, 2))
			rows, centroids, half := normals(random, 64*dim), normals(random, 256*dim), normals(random, 256)
			out := make([]uint32, 64)
			b.SetBytes(int64(4 * len(centroids) * len(out))) // as if each row read all centroids
			for b.Loop() {
				Nearest(rows, dim, centroids, half, out)
			}
		})
	}
}
