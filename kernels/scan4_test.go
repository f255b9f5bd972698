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
			add := Float32(binary.LittleEndian.Uint16(block[16*subs+2*row:]))
			res := Float32(binary.LittleEndian.Uint16(block[16*subs+64+2*row:]))
			e := add + float32(res*(float32(c.scan.Scale*float32(sum))+c.scan.Bias))
			if e < c.scan.Limit && mask&(1<<row) != 0 {
				est, rows = append(est, e), append(rows, uint32(32*b+row))
			}
		}
	}
	return est, rows
}

type scanFunc func(blocks, lut []byte, scan Scan, mask []uint32, est []float32, rows []uint32) int

// check compares a kernel with the naive loop at every level. Estimates agree to the bit.
func (c *scanCase) check(kernel scanFunc) error {
	wantEst, wantRows := c.naive()
	return everyLevel(func() error {
		return everyPlace("blocks", c.blocks, func(blocks []byte) error {
			return everyPlace("lut", c.lut, func(lut []byte) error {
				return c.checkHere(kernel, blocks, lut, wantEst, wantRows)
			})
		})
	})
}

func (c *scanCase) checkHere(kernel scanFunc, blocks, lut []byte, wantEst []float32, wantRows []uint32) error {
	n := len(c.mask) * BlockRows
	est, rows := make([]float32, n+16), make([]uint32, n+16)
	for i := range 16 {
		est[n+i], rows[n+i] = canary, canary
	}
	kept := kernel(blocks, lut, c.scan, atGuard("mask", c.mask), est[:n], rows[:n])
	if !slices.Equal(rows[:kept], wantRows) {
		return fmt.Errorf("kept rows %v, want %v", rows[:kept], wantRows)
	}
	for i, want := range wantEst {
		if math.Float32bits(est[i]) != math.Float32bits(want) {
			return fmt.Errorf("row %d: estimate %v, want %v", rows[i], est[i], want)
		}
	}
	for i := range 16 {
		if est[n+i] != canary || rows[n+i] != canary {
			return fmt.Errorf("written past the destination")
		}
	}
	return nil
}

func TestScan4AgainstNaiveLoop(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 1))
	for _, subs := range []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 20, 25, 28, 31, 32, 36, 192, 255, 1023, 1024, 1025, 1039, 2060} {
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

func TestScan4WithSpecialFactorsInEachLane(t *testing.T) {
	random := rand.New(rand.NewPCG(12, 1))
	for lane := range 2 * BlockRows {
		for _, special := range append(halfSpecials, specials...) {
			c := newScanCase(random, 2, 5)
			c.setFactor(1, lane, special)
			if err := c.check(Scan4); err != nil {
				t.Errorf("factor %d is %v: %v", lane, special, err)
			}
		}
	}
	for _, special := range specials {
		for i := range 3 {
			c := newScanCase(random, 2, 5)
			*[]*float32{&c.scan.Scale, &c.scan.Bias, &c.scan.Limit}[i] = special
			if err := c.check(Scan4); err != nil {
				t.Errorf("%+v: %v", c.scan, err)
			}
		}
	}
}

func TestScan4KeepsExactlyTheAllowedLanes(t *testing.T) {
	c := newScanCase(rand.New(rand.NewPCG(13, 1)), 3, 4)
	for lane := range BlockRows {
		c.mask[0], c.mask[1], c.mask[2] = 1<<lane, 0, ^uint32(1<<lane)
		if err := c.check(Scan4); err != nil {
			t.Errorf("lane %d: %v", lane, err)
		}
	}
}

func TestScan4OverMoreThanOneCall(t *testing.T) {
	c := newScanCase(rand.New(rand.NewPCG(14, 1)), 3*callSize/BlockSize(192)+1, 192)
	if err := c.check(Scan4); err != nil {
		t.Error(err)
	}
}

// One row in each lane at a time has a sum that no other has: a sum of words would overflow from
// 1041 sub-quantizers on, and 2^24 is the last integer that a float32 holds exactly.
func TestScan4SumsAreExactAtTheirLargest(t *testing.T) {
	for _, subs := range []int{36, 257, 1024, 1025, 1040, 1041, 4096, MaxSubQuantizer} {
		c := newScanCase(rand.New(rand.NewPCG(7, 1)), 1, subs)
		clear(c.blocks)
		for i := range c.lut {
			c.lut[i] = byte(LUTMax - i%16)
		}
		c.scan.Scale, c.scan.Bias = 1, 0
		for j := range BlockRows {
			c.setFactor(0, j, 0)
			c.setFactor(0, 32+j, 1)
			for m := range j {
				c.blocks[16*m+j%16] |= 1 << (j / 16 * 4)
			}
		}
		if err := c.check(Scan4); err != nil {
			t.Errorf("%d sub-quantizers: %v", subs, err)
		}
		Scan4(c.blocks, c.lut, c.scan, c.mask, c.est, c.rows)
		for j, got := range c.est {
			if want := float32(subs*LUTMax - j); got != want {
				t.Errorf("%d sub-quantizers, row %d: got %v, want %v", subs, j, got, want)
			}
		}
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
