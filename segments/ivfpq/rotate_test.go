package ivfpq

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestRotationKeepsLengthsAndAngles(t *testing.T) {
	random := rand.New(rand.NewPCG(2, 1))
	for _, dim := range []int{1, 2, 3, 15, 16, 17, 48, 100, 128, 384, 768, 1000, 1536, MaxDim - 1, MaxDim} {
		s := newSpace(Params{Dim: dim, Seed: uint64(dim)})
		a, b := normals(random, dim), normals(random, dim)
		ra, rb := make([]float32, CodeDim(dim)), make([]float32, CodeDim(dim))
		s.rotate(ra, a, 1)
		s.rotate(rb, b, 1)
		bound := 1e-5 * norm(a) * norm(b)
		if got, want := wideDot(ra, ra), wideDot(a, a); math.Abs(got-want) > bound {
			t.Errorf("dim %d: squared length %v after, %v before", dim, got, want)
		}
		if got, want := wideDot(ra, rb), wideDot(a, b); math.Abs(got-want) > bound {
			t.Errorf("dim %d: inner product %v after, %v before", dim, got, want)
		}
	}
}

// One bit a dimension is enough only if no dimension stands out: a unit vector must come out
// spread over all.
func TestRotationSpreads(t *testing.T) {
	for _, dim := range []int{16, 48, 100, 384, 768, 1024} {
		for _, axis := range []int{0, dim / 2, dim - 1} {
			x := make([]float32, CodeDim(dim))
			x[axis] = 1
			newRotation(dim, 5).apply(x)
			var widest, abs float64
			for _, v := range x {
				widest = max(widest, math.Abs(float64(v)))
				abs += math.Abs(float64(v))
			}
			if even := 1 / math.Sqrt(float64(len(x))); widest > 6*even || abs*even < 0.6 {
				t.Errorf("dim %d axis %d: largest %v, mean %v, spread evenly %v", dim, axis, widest, abs/float64(len(x)), even)
			}
		}
	}
}

// Stored segments depend on these bits, on every machine.
func TestRotationIsTheSameForEver(t *testing.T) {
	for _, golden := range []struct {
		dim  int
		seed uint64
		want [4]uint32
	}{
		{16, 1, goldenRotation16},
		{100, 42, goldenRotation100},
	} {
		x := make([]float32, CodeDim(golden.dim))
		for i := range golden.dim {
			x[i] = float32(i + 1)
		}
		newRotation(golden.dim, golden.seed).apply(x)
		var got [4]uint32
		for i := range got {
			got[i] = math.Float32bits(x[i*len(x)/4])
		}
		if got != golden.want {
			t.Errorf("dim %d seed %d: got %#08x, want %#08x", golden.dim, golden.seed, got, golden.want)
		}
	}
}

func TestSplitMix64(t *testing.T) {
	// The first outputs for seed 1234567, as published with the generator.
	state, want := uint64(1234567), []uint64{6457827717110365317, 3203168211198807973, 9817491932198370423}
	for i, w := range want {
		var got uint64
		if state, got = splitMix64(state); got != w {
			t.Errorf("output %d is %d, want %d", i, got, w)
		}
	}
}

var (
	goldenRotation16  = [4]uint32{0x40ac0000, 0x40780000, 0xc1970000, 0x3fd00000}
	goldenRotation100 = [4]uint32{0xc12ed003, 0x42a96600, 0x41e76800, 0xc2a745fe}
)
