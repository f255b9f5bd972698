package kernels

import (
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"
)

// naiveRotate is the definition, one element after the other. It is written apart from the
// reference, because stored codes depend on every bit.
func naiveRotate(x, signs []float32, block int) {
	n := len(x)
	for round := range RotateRounds {
		for i := range x {
			x[i] *= signs[round*n+i]
		}
		first := 0
		if round%2 == 1 {
			first = n - block
		}
		part := x[first : first+block]
		for stride := 1; stride < block; stride *= 2 {
			for i := range part {
				if i&stride == 0 {
					a, b := part[i], part[i+stride]
					part[i], part[i+stride] = a+b, a-b
				}
			}
		}
		for i := range part {
			part[i] *= float32(1 / math.Sqrt(float64(block)))
		}
		if block < n {
			for i := range n / 2 {
				sum, difference := x[i]+x[n/2+i], x[i]-x[n/2+i]
				x[i], x[n/2+i] = sum*float32(1/math.Sqrt2), difference*float32(1/math.Sqrt2)
			}
		}
	}
}

func randomSigns(random *rand.Rand, n int) []float32 {
	signs := make([]float32, n)
	for i := range signs {
		signs[i] = float32(1 - 2*random.IntN(2))
	}
	return signs
}

func checkRotate(kernel func(x, signs []float32, block int), x, signs []float32, block int) error {
	want := slices.Clone(x)
	naiveRotate(want, signs, block)
	return everyLevel(func() error {
		return everyPlace("signs", signs, func(signs []float32) error {
			padded := append(append([]float32{canary}, x...), canary, canary, canary, canary)
			for _, got := range [][]float32{padded[1 : len(x)+1], atGuard("x", x)} {
				kernel(got, signs, block)
				for i := range got {
					if math.Float32bits(got[i]) != math.Float32bits(want[i]) && (got[i] == got[i] || want[i] == want[i]) {
						return fmt.Errorf("element %d: got %v, want %v", i, got[i], want[i])
					}
				}
			}
			for _, i := range []int{0, len(x) + 1, len(x) + 2, len(x) + 3, len(x) + 4} {
				if padded[i] != canary {
					return fmt.Errorf("written past the destination")
				}
			}
			return nil
		})
	})
}

func TestRotateIsTheDefinition(t *testing.T) {
	random := rand.New(rand.NewPCG(30, 1))
	for _, n := range []int{16, 32, 48, 64, 80, 96, 112, 128, 144, 192, 256, 304, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 8192, 16384} {
		for block := 16; block <= n; block *= 2 {
			if err := checkRotate(Rotate, normals(random, n), randomSigns(random, RotateRounds*n), block); err != nil {
				t.Errorf("%d of %d elements: %v", block, n, err)
			}
		}
	}
}

func TestRotateWithSpecialValuesInEachLane(t *testing.T) {
	random := rand.New(rand.NewPCG(31, 1))
	for lane := range 144 {
		for _, special := range specials {
			x := normals(random, 144)
			x[lane] = special
			if err := checkRotate(Rotate, x, randomSigns(random, RotateRounds*144), 128); err != nil {
				t.Errorf("element %d is %v: %v", lane, special, err)
			}
		}
	}
	for _, length := range []float32{0, 1e-45, 1e-40, 1e-38, 1e37} { // sums of all sizes
		x := normals(random, 768)
		for i := range x {
			x[i] *= length
		}
		if err := checkRotate(Rotate, x, randomSigns(random, RotateRounds*768), 512); err != nil {
			t.Errorf("length %v: %v", length, err)
		}
	}
}

func TestRotateKeepsTheLength(t *testing.T) {
	random := rand.New(rand.NewPCG(32, 1))
	for _, n := range []int{16, 80, 128, 768, 16384} {
		x := normals(random, n)
		before, after := 0.0, 0.0
		for _, v := range x {
			before += float64(v) * float64(v)
		}
		Rotate(x, randomSigns(random, RotateRounds*n), 1<<(bits.Len(uint(n))-1))
		for _, v := range x {
			after += float64(v) * float64(v)
		}
		if !(math.Abs(after/before-1) < 1e-5) {
			t.Errorf("%d elements: squared length %v became %v", n, before, after)
		}
	}
}

func TestRotateCheckCatchesFusing(t *testing.T) {
	fused := func(x, signs []float32, block int) {
		Rotate(x, signs, block)
		if level != Generic {
			x[3] = math.Nextafter32(x[3], 9)
		}
	}
	random := rand.New(rand.NewPCG(33, 1))
	if err := checkRotate(fused, normals(random, 64), randomSigns(random, 256), 64); err == nil && len(Levels()) > 1 {
		t.Error("a kernel that is off by one bit passed")
	}
}

func TestRotateMisused(t *testing.T) {
	mustPanic(t, "nothing", func() { Rotate(nil, nil, 16) })
	mustPanic(t, "not of sixteens", func() { Rotate(make([]float32, 24), make([]float32, 96), 16) })
	mustPanic(t, "few signs", func() { Rotate(make([]float32, 32), make([]float32, 127), 16) })
	mustPanic(t, "small block", func() { Rotate(make([]float32, 32), make([]float32, 128), 8) })
	mustPanic(t, "large block", func() { Rotate(make([]float32, 32), make([]float32, 128), 64) })
	mustPanic(t, "block of no power of two", func() { Rotate(make([]float32, 64), make([]float32, 256), 48) })
}

func FuzzRotate(f *testing.F) {
	f.Add(uint64(1), uint8(47), uint8(2), uint8(7), uint8(3))
	f.Fuzz(func(t *testing.T, seed uint64, sixteens, smaller, lane, special uint8) {
		random := rand.New(rand.NewPCG(seed, 0))
		n := 16 * (int(sixteens)%100 + 1)
		largest := bits.Len(uint(n)) - 1
		block := 1 << max(4, largest-int(smaller)%3)
		x := normals(random, n)
		x[int(lane)%n] = specials[int(special)%len(specials)]
		if err := checkRotate(Rotate, x, randomSigns(random, RotateRounds*n), block); err != nil {
			t.Errorf("%d of %d elements: %v", block, n, err)
		}
	})
}
