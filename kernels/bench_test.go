package kernels

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/akidb/akidb/kernels/internal/plainread"
)

// The benchmarks report bytes read. Names are kernel/level/dimension/size; the sizes fit the
// first cache, fit the second, and fit none.
var (
	benchDims  = []int{128, 768}
	benchSizes = []struct {
		name string
		size int
	}{{"L1", 16 << 10}, {"L2", 512 << 10}, {"DRAM", 256 << 20}}
)

// dram is shared by the benchmarks of the largest size, so that filling it is paid once. It is
// small integers as float32, of which any byte is an int8.
var dram []byte

func benchBytes(size int) []byte {
	if len(dram) == 0 {
		dram = hugeBytes(benchSizes[len(benchSizes)-1].size)
		for i := 0; i < len(dram); i += 4 {
			binary.LittleEndian.PutUint32(dram[i:], math.Float32bits(float32(i/4*7%31)-15))
		}
	}
	return dram[:size]
}

func benchFloats(size int) []float32 {
	data := benchBytes(size)
	return unsafe.Slice((*float32)(unsafe.Pointer(&data[0])), size/4)
}

func benchLevels(b *testing.B, bench func(b *testing.B)) {
	before := level
	defer func() { level = before }()
	for _, l := range Levels() {
		level = l
		b.Run(l.String(), bench)
	}
}

func benchCases(b *testing.B, bench func(b *testing.B, dim, size int)) {
	benchLevels(b, func(b *testing.B) {
		for _, dim := range benchDims {
			for _, s := range benchSizes {
				b.Run(fmt.Sprintf("%d/%s", dim, s.name), func(b *testing.B) { bench(b, dim, s.size) })
			}
		}
	})
}

// BenchmarkRead is the bound of all others: the same bytes, read and nothing else.
func BenchmarkRead(b *testing.B) {
	benchLevels(b, func(b *testing.B) {
		for _, s := range benchSizes {
			b.Run(s.name, func(b *testing.B) {
				data := benchBytes(s.size)
				b.SetBytes(int64(s.size))
				for b.Loop() {
					plainread.Sum(data, level >= AVX512 && level <= AVX512VNNI)
				}
			})
		}
	})
}

func BenchmarkL2Rows(b *testing.B)  { benchRows(b, L2Rows) }
func BenchmarkDotRows(b *testing.B) { benchRows(b, DotRows) }

func benchRows(b *testing.B, kernel func(query, rows, out []float32)) {
	benchCases(b, func(b *testing.B, dim, size int) {
		count := size / 4 / dim
		query, rows, out := benchFloats(4*dim), benchFloats(size)[:count*dim], make([]float32, count)
		b.SetBytes(int64(4 * len(rows)))
		for b.Loop() {
			kernel(query, rows, out)
		}
	})
}

func BenchmarkL2Gather(b *testing.B)  { benchGather(b, L2Gather) }
func BenchmarkDotGather(b *testing.B) { benchGather(b, DotGather) }

const (
	benchGathered = 256                  // rows gathered in one call, at random, as a search does
	benchWhichAll = 4096 * benchGathered // as many before they come again, more than caches hold
)

func benchGather(b *testing.B, kernel func(query, rows []float32, which []uint32, out []float32)) {
	benchCases(b, func(b *testing.B, dim, size int) {
		count := size / 4 / dim
		query, rows := benchFloats(4*dim), benchFloats(size)
		which, out := benchWhich(count), make([]float32, benchGathered)
		b.SetBytes(int64(4 * dim * len(out)))
		for i := 0; b.Loop(); i = (i + benchGathered) % len(which) {
			kernel(query, rows, which[i:i+benchGathered], out)
		}
		reportRows(b, len(out))
	})
}

func reportRows(b *testing.B, count int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*count), "ns/row")
}

func benchWhich(count int) []uint32 {
	random := rand.New(rand.NewPCG(1, 2))
	which := make([]uint32, benchWhichAll)
	for i := range which {
		which[i] = uint32(random.IntN(count))
	}
	return which
}

func BenchmarkDot8Rows(b *testing.B) {
	benchCases(b, func(b *testing.B, dim, size int) {
		query, rows := symmetric(int8s(rand.New(rand.NewPCG(1, 2)), dim)), benchBytes(size)
		out := make([]int32, size/(dim+8))
		b.SetBytes(int64((dim + 8) * len(out)))
		for b.Loop() {
			Dot8Rows(query, rows, dim+8, out)
		}
	})
}

func BenchmarkDot8Gather(b *testing.B) {
	benchCases(b, func(b *testing.B, dim, size int) {
		query, rows := symmetric(int8s(rand.New(rand.NewPCG(1, 2)), dim)), benchBytes(size)
		which, out := benchWhich(size/(dim+8)), make([]int32, benchGathered)
		b.SetBytes(int64(dim * len(out)))
		for i := 0; b.Loop(); i = (i + benchGathered) % len(which) {
			Dot8Gather(query, rows, dim+8, which[i:i+benchGathered], out)
		}
		reportRows(b, len(out))
	})
}

func BenchmarkScan4(b *testing.B) {
	benchCases(b, func(b *testing.B, dim, size int) {
		random := rand.New(rand.NewPCG(1, 2))
		count := size / BlockSize(dim/4)
		c := newScanCase(random, 1, dim/4)
		blocks := make([]byte, 0, count*len(c.blocks))
		for range count {
			blocks = append(blocks, c.blocks...)
		}
		mask, est, rows := make([]uint32, count), make([]float32, count*BlockRows), make([]uint32, count*BlockRows)
		for i := range mask {
			mask[i] = c.mask[0]
		}
		c.scan.Limit = -1e30 // hardly ever kept, as in a search that is under way
		b.SetBytes(int64(len(blocks)))
		for b.Loop() {
			Scan4(blocks, c.lut, c.scan, mask, est, rows)
		}
	})
}

func BenchmarkRotate(b *testing.B) {
	benchLevels(b, func(b *testing.B) {
		for _, dim := range []int{16, 128, 384, 768, 1536, 16384} {
			b.Run(fmt.Sprint(dim), func(b *testing.B) {
				random := rand.New(rand.NewPCG(1, 2))
				x, signs := normals(random, dim), randomSigns(random, RotateRounds*dim)
				block := 1 << (bits.Len(uint(dim)) - 1)
				for b.Loop() {
					Rotate(x, signs, block)
				}
			})
		}
	})
}

func BenchmarkSignLUT(b *testing.B) {
	benchLevels(b, func(b *testing.B) {
		for _, dim := range benchDims {
			b.Run(fmt.Sprint(dim), func(b *testing.B) {
				query, lut := normals(rand.New(rand.NewPCG(1, 2)), dim), make([]byte, 4*dim)
				for b.Loop() {
					SignLUT(query, lut)
				}
			})
		}
	})
}

func BenchmarkCodebookLUT(b *testing.B) {
	benchLevels(b, func(b *testing.B) {
		for _, dim := range benchDims {
			b.Run(fmt.Sprint(dim), func(b *testing.B) {
				random := rand.New(rand.NewPCG(1, 2))
				query, codebook, lut := normals(random, dim), normals(random, 16*dim), make([]byte, 4*dim)
				for b.Loop() {
					CodebookLUT(query, codebook, lut)
				}
			})
		}
	})
}

// BenchmarkNearest reports bytes as if each row read every centroid: half of them is the number
// of floating-point operations.
func BenchmarkNearest(b *testing.B) {
	benchLevels(b, func(b *testing.B) {
		for _, dim := range benchDims {
			b.Run(fmt.Sprint(dim), func(b *testing.B) {
				random := rand.New(rand.NewPCG(1, 2))
				rows, centroids, half := normals(random, 256*dim), normals(random, 1024*dim), normals(random, 1024)
				out := make([]uint32, 256)
				b.SetBytes(int64(4 * len(centroids) * len(out)))
				for b.Loop() {
					Nearest(rows, dim, centroids, half, out)
				}
			})
		}
	})
}
