package kernels

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"
)

// tails are sizes around every unrolling and vector width.
var tails = []int{1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 768, 1536}

// specials are the values that arithmetic treats differently.
var specials = []float32{
	0, float32(math.Copysign(0, -1)), 1e-45, -1e-45, 1e-39, math.MaxFloat32, -math.MaxFloat32, 1e30,
	float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN()),
}

// halfSpecials are those of binary16, beside what the others become in it: the smallest and the
// largest subnormal, the smallest and the largest normal value, and a signalling NaN.
var halfSpecials = []float32{0x1p-24, -0x1p-24, 0x1.ff8p-15, 0x1p-14, 65504, -65504, math.Float32frombits(0x7f802000)}

func normals(random *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(random.NormFloat64())
	}
	return v
}

func int8s(random *rand.Rand, n int) []int8 {
	v := make([]int8, n)
	for i := range v {
		v[i] = int8(random.Uint32())
	}
	return v
}

func randomBytes(random *rand.Rand, n int) []byte {
	v := make([]byte, n)
	for i := range v {
		v[i] = byte(random.Uint32())
	}
	return v
}

// same compares where both may be NaN or infinite, and otherwise within bound.
func same(got, want float32, bound float64) bool {
	if got != got || want != want {
		return got != got && want != want
	}
	return got == want || math.Abs(float64(got)-float64(want)) <= bound
}

// mustPanic wants the call to fail with a BUG.
func mustPanic(t *testing.T, name string, call func()) {
	t.Helper()
	defer func() {
		if text, ok := recover().(string); !ok || len(text) < 4 || text[:4] != "BUG:" {
			t.Errorf("%s: recovered %q, want a BUG", name, text)
		}
	}()
	call()
}

// Shared by tests and benchmarks: blocks with random codes and factors, everything allowed.
type scanCase struct {
	blocks, lut []byte
	scan        Scan
	mask        []uint32
	est         []float32
	rows        []uint32
}

func newScanCase(random *rand.Rand, blocks, subQuantizers int) *scanCase {
	c := &scanCase{
		blocks: randomBytes(random, blocks*BlockSize(subQuantizers)),
		lut:    randomBytes(random, subQuantizers*LUTEntries),
		scan:   Scan{Scale: 0.01, Bias: -1, Limit: float32(math.Inf(1))},
		mask:   make([]uint32, blocks),
		est:    make([]float32, blocks*BlockRows),
		rows:   make([]uint32, blocks*BlockRows),
	}
	for i := range c.lut {
		c.lut[i] &= LUTMax
	}
	for b := range c.mask {
		c.mask[b] = math.MaxUint32
		for j := range 2 * BlockRows {
			c.setFactor(b, j, float32(random.NormFloat64()))
		}
	}
	return c
}

// setFactor sets the additive factor of row j, or the other one of row j-32.
func (c *scanCase) setFactor(block, j int, value float32) {
	at := block*BlockSize(len(c.lut)/LUTEntries) + len(c.lut) + 2*j
	binary.LittleEndian.PutUint16(c.blocks[at:], Float16(value))
}
