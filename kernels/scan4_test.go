package kernels

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// naive reads the documented layout row by row.
func (c *scanCase) naive() (est []float32, rows []uint32) {
	subs := len(c.lut) / LUTEntries
	size := BlockSize(subs)
	for b, mask := range c.mask {
		block := c.blocks[b*size : (b+1)*size]
		for row := range BlockRows {
			sum := 0
			for m := range subs {
				code := block[16*m+row%16]
				if row >= 16 {
					code >>= 4
				}
				sum += int(c.lut[16*m+int(code&15)])
			}
			add := math.Float32frombits(binary.LittleEndian.Uint32(block[16*subs+4*row:]))
			res := math.Float32frombits(binary.LittleEndian.Uint32(block[16*subs+128+4*row:]))
			e := add + float32(res*(float32(c.scan.Scale*float32(sum))+c.scan.Bias))
			if e < c.scan.Limit && mask&(1<<row) != 0 {
				est, rows = append(est, e), append(rows, uint32(32*b+row))
			}
		}
	}
	return est, rows
}

type scanFunc func(blocks, lut []byte, scan Scan, mask []uint32, est []float32, rows []uint32) int

// check compares a kernel with the naive loop. The reference must agree to the bit.
func (c *scanCase) check(kernel scanFunc) error {
	wantEst, wantRows := c.naive()
	kept := kernel(c.blocks, c.lut, c.scan, c.mask, c.est, c.rows)
	if !slices.Equal(c.rows[:kept], wantRows) {
		return fmt.Errorf("kept rows %v, want %v", c.rows[:kept], wantRows)
	}
	if !slices.Equal(c.est[:kept], wantEst) {
		return fmt.Errorf("estimates %v, want %v", c.est[:kept], wantEst)
	}
	return nil
}

func TestScan4AgainstNaiveLoop(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 1))
	for _, subs := range []int{1, 2, 3, 4, 5, 8, 25, 32, 192, 300, 4096} {
		for _, blocks := range []int{0, 1, 2, 5} {
			for _, limit := range []float32{float32(math.Inf(1)), 0, -0.5, float32(math.Inf(-1)), float32(math.NaN())} {
				c := newScanCase(random, blocks, subs)
				c.scan.Limit = limit
				for b := range c.mask {
					c.mask[b] = random.Uint32() & random.Uint32()
				}
				if err := c.check(Scan4); err != nil {
					t.Errorf("%d sub-quantizers, %d blocks, limit %v: %v", subs, blocks, limit, err)
				}
			}
		}
	}
}

func TestScan4NeverKeepsPaddingNorNaN(t *testing.T) {
	random := rand.New(rand.NewPCG(6, 1))
	c := newScanCase(random, 3, 16)
	c.setFactor(0, 31, float32(math.Inf(1)))
	c.setFactor(1, 0, float32(math.NaN()))
	c.setFactor(2, 32+7, float32(math.NaN()))
	c.setFactor(2, 9, float32(math.Inf(-1)))
	if err := c.check(Scan4); err != nil {
		t.Fatal(err)
	}
	kept := Scan4(c.blocks, c.lut, c.scan, c.mask, c.est, c.rows)
	if want := 3*BlockRows - 3; kept != want {
		t.Errorf("kept %d rows, want %d", kept, want)
	}
	for _, row := range []uint32{31, 32, 64 + 7} {
		if slices.Contains(c.rows[:kept], row) {
			t.Errorf("kept row %d", row)
		}
	}
	if !slices.Contains(c.rows[:kept], 64+9) {
		t.Error("dropped the row with -Inf")
	}
}

func TestScan4SumsAreExactAtTheirLargest(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 1))
	c := newScanCase(random, 1, 16384/4)
	for i := range c.lut {
		c.lut[i] = 255
	}
	c.scan.Scale, c.scan.Bias = 1, 0
	for j := range BlockRows {
		c.setFactor(0, j, 0)
		c.setFactor(0, 32+j, 1)
	}
	kept := Scan4(c.blocks, c.lut, c.scan, c.mask, c.est, c.rows)
	if kept != BlockRows || c.est[0] != 4096*255 || c.est[31] != 4096*255 {
		t.Errorf("kept %d with %v … %v, want 32 with %d", kept, c.est[0], c.est[31], 4096*255)
	}
}

func TestScan4CheckCatchesSwappedHalves(t *testing.T) {
	swapped := func(blocks, lut []byte, scan Scan, mask []uint32, est []float32, rows []uint32) int {
		blocks = slices.Clone(blocks)
		size := BlockSize(len(lut) / LUTEntries)
		for b := range mask {
			for i, code := range blocks[b*size : b*size+len(lut)] {
				blocks[b*size+i] = code>>4 | code<<4
			}
		}
		return scan4Generic(blocks, lut, scan, mask, est, rows)
	}
	if err := newScanCase(rand.New(rand.NewPCG(8, 1)), 1, 4).check(swapped); err == nil {
		t.Error("a kernel that swaps the halves of a block passed")
	}
}

func TestScan4Misused(t *testing.T) {
	c := newScanCase(rand.New(rand.NewPCG(9, 1)), 2, 4)
	mustPanic(t, "table cut", func() { Scan4(c.blocks, c.lut[:63], c.scan, c.mask, c.est, c.rows) })
	mustPanic(t, "no table", func() { Scan4(c.blocks, nil, c.scan, c.mask, c.est, c.rows) })
	mustPanic(t, "blocks cut", func() { Scan4(c.blocks[1:], c.lut, c.scan, c.mask, c.est, c.rows) })
	mustPanic(t, "short estimates", func() { Scan4(c.blocks, c.lut, c.scan, c.mask, c.est[1:], c.rows) })
	mustPanic(t, "short rows", func() { Scan4(c.blocks, c.lut, c.scan, c.mask, c.est, c.rows[1:]) })
}

func FuzzScan4(f *testing.F) {
	f.Add([]byte("arbitrary"), uint64(1), float32(0.5), uint32(math.MaxUint32))
	f.Fuzz(func(t *testing.T, data []byte, seed uint64, limit float32, mask uint32) {
		c := newScanCase(rand.New(rand.NewPCG(seed, 0)), 2, int(seed%40)+1)
		for i, b := range data {
			c.blocks[(i*7919)%len(c.blocks)] = b // factors included: any bits are a float
		}
		c.scan.Limit, c.mask[0] = limit, mask
		if err := c.check(Scan4); err != nil {
			t.Error(err)
		}
	})
}
