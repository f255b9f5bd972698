package kernels

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// codebookLUTAtEveryLevel compares all levels with the first, to the bit, and returns what they
// built.
func codebookLUTAtEveryLevel(query, codebook []float32) (lut []byte, scale, bias float32, err error) {
	err = everyLevel(func() error {
		return everyPlace("query", query, func(query []float32) error {
			return everyPlace("codebook", codebook, func(codebook []float32) error {
				got := bytes.Repeat([]byte{canary}, 4*len(query)+16)
				gotScale, gotBias := CodebookLUT(query, codebook, got[:4*len(query)])
				if !bytes.Equal(got[4*len(query):], bytes.Repeat([]byte{canary}, 16)) {
					return fmt.Errorf("written past the destination")
				}
				got = got[:4*len(query)]
				if lut == nil { // the generic level
					lut, scale, bias = got, gotScale, gotBias
				}
				if !bytes.Equal(got, lut) || math.Float32bits(gotScale) != math.Float32bits(scale) || math.Float32bits(gotBias) != math.Float32bits(bias) {
					return fmt.Errorf("scale %v bias %v table %v, want %v %v %v", gotScale, gotBias, got, scale, bias, lut)
				}
				return nil
			})
		})
	})
	return lut, scale, bias, err
}

// checkCodebookLUT compares every entry with the product it stands for, within half a step and
// the rounding of float32.
func checkCodebookLUT(query, codebook []float32) error {
	lut, scale, bias, err := codebookLUTAtEveryLevel(query, codebook)
	if err != nil {
		return err
	}
	total, magnitudes, used := 0.0, 0.0, byte(0)
	for m := range len(query) / 4 {
		least, size := math.Inf(1), 0.0
		var value [16]float64
		for c := range value {
			for d := range 4 {
				product := float64(query[4*m+d]) * float64(codebook[64*m+16*d+c])
				value[c] += product
				size = max(size, math.Abs(product))
			}
			least = min(least, value[c])
		}
		for c, v := range value {
			entry := lut[16*m+c]
			used = max(used, entry)
			if !(math.Abs(float64(scale)*float64(entry)-(v-least)) <= float64(scale)*0.501+1e-6*size+1e-44) {
				return fmt.Errorf("table %d entry %d: %d times %v, want %v", m, c, entry, scale, v-least)
			}
		}
		total += least
		magnitudes += size
	}
	if !(math.Abs(float64(bias)-total) <= 1e-6*magnitudes*math.Sqrt(float64(len(query)))+1e-44) {
		return fmt.Errorf("bias %v, want %v", bias, total)
	}
	if scale != 0 && used != LUTMax {
		return fmt.Errorf("the largest entry is %d, want %d", used, LUTMax)
	}
	return nil
}

func TestCodebookLUTStandsForProducts(t *testing.T) {
	random := rand.New(rand.NewPCG(40, 1))
	for _, dim := range []int{4, 8, 12, 16, 20, 100, 128, 768, 4096} {
		for _, length := range []float32{1, 1e-30, 1e30} {
			query, codebook := normals(random, dim), normals(random, 16*dim)
			for i := range query {
				query[i] *= length
			}
			if err := checkCodebookLUT(query, codebook); err != nil {
				t.Errorf("dim %d length %v: %v", dim, length, err)
			}
		}
	}
}

func TestCodebookLUTWithSpecialValuesInEachLane(t *testing.T) {
	random := rand.New(rand.NewPCG(41, 1))
	for lane := range 8 + 128 {
		for _, special := range specials {
			if !(abs(special) <= 1e30) { // both are finite, and so are their products
				continue
			}
			query, codebook := normals(random, 8), normals(random, 128)
			if lane < 8 {
				query[lane] = special
			} else {
				codebook[lane-8] = special
			}
			if err := checkCodebookLUT(query, codebook); err != nil {
				t.Errorf("element %d is %v: %v", lane, special, err)
			}
		}
	}
}

// One table spans nothing, or all of them: of products, of zeros, and of zeros of both signs.
func TestCodebookLUTOfEqualEntries(t *testing.T) {
	random := rand.New(rand.NewPCG(42, 1))
	query, codebook := normals(random, 12), normals(random, 192)
	for i := range 16 {
		for d := range 4 {
			codebook[64+16*d+i] = float32(d) - 1.5
		}
	}
	if err := checkCodebookLUT(query, codebook); err != nil {
		t.Error(err)
	}
	equal := codebook[64:128]
	lut, scale, bias, err := codebookLUTAtEveryLevel(query[4:8], equal)
	want := float32(query[4]*equal[0]) + float32(query[5]*equal[16])
	want += float32(query[6] * equal[32])
	want += float32(query[7] * equal[48])
	if err != nil || scale != 0 || bias != want || !bytes.Equal(lut, make([]byte, 16)) {
		t.Errorf("equal entries: scale %v, bias %v, table %v, error %v; want bias %v", scale, bias, lut, err, want)
	}
	for _, zero := range []float32{0, float32(math.Copysign(0, -1))} {
		lut, scale, bias, err = codebookLUTAtEveryLevel([]float32{zero, zero, zero, zero}, codebook[:64])
		if err != nil || scale != 0 || bias != 0 || !bytes.Equal(lut, make([]byte, 16)) {
			t.Errorf("a query of %v: scale %v, bias %v, table %v, error %v", zero, scale, bias, lut, err)
		}
	}
}

// What CodebookLUT builds is what Scan4 takes: the sum of the entries of a row's codes.
func TestCodebookLUTWithScan4(t *testing.T) {
	random := rand.New(rand.NewPCG(43, 1))
	query, codebook := normals(random, 64), normals(random, 1024)
	c := newScanCase(random, 1, 16)
	scale, bias := CodebookLUT(query, codebook, c.lut)
	c.scan = Scan{Scale: scale, Bias: bias, Limit: float32(math.Inf(1))}
	for j := range BlockRows {
		c.setFactor(0, j, 0)
		c.setFactor(0, 32+j, 1)
	}
	if kept := Scan4(c.blocks, c.lut, c.scan, c.mask, c.est, c.rows); kept != BlockRows {
		t.Fatalf("kept %d rows", kept)
	}
	for row, got := range c.est {
		want := 0.0
		for m := range 16 {
			code := c.blocks[16*m+row%16] >> (row / 16 * 4) & 15
			for d := range 4 {
				want += float64(query[4*m+d]) * float64(codebook[64*m+16*d+int(code)])
			}
		}
		if !(math.Abs(float64(got)-want) <= 16*float64(scale)/2+1e-4) {
			t.Errorf("row %d: got %v, want %v", row, got, want)
		}
	}
}

func TestCodebookLUTCheckCatchesAWrongOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(44, 1))
	query, codebook := normals(random, 8), normals(random, 128)
	lut := make([]byte, 32)
	CodebookLUT(query, codebook, lut)
	query[0], query[1] = query[1], query[0]
	other := make([]byte, 32)
	CodebookLUT(query, codebook, other)
	if bytes.Equal(lut, other) {
		t.Error("the order of the elements makes no difference")
	}
}

func TestCodebookLUTMisused(t *testing.T) {
	mustPanic(t, "no query", func() { CodebookLUT(nil, nil, nil) })
	mustPanic(t, "query not of fours", func() { CodebookLUT(make([]float32, 6), make([]float32, 64), make([]byte, 16)) })
	mustPanic(t, "short codebook", func() { CodebookLUT(make([]float32, 8), make([]float32, 127), make([]byte, 32)) })
	mustPanic(t, "short table", func() { CodebookLUT(make([]float32, 8), make([]float32, 128), make([]byte, 31)) })
}

func FuzzCodebookLUT(f *testing.F) {
	f.Add(uint64(1), uint8(3), uint8(5), float32(1e-40))
	f.Fuzz(func(t *testing.T, seed uint64, tables, lane uint8, value float32) {
		if !(abs(value) <= 1e15) { // products are finite
			return
		}
		random := rand.New(rand.NewPCG(seed, 0))
		n := int(tables)%50 + 1
		query, codebook := normals(random, 4*n), normals(random, 64*n)
		query[int(lane)%len(query)] = value
		codebook[int(seed%uint64(len(codebook)))] = value / 7
		if err := checkCodebookLUT(query, codebook); err != nil {
			t.Error(err)
		}
	})
}
