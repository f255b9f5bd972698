package kernels

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// checkSignLUT compares every entry with the sum it stands for, within half a step and the
// rounding of float32, and every level with the reference, to the bit.
func checkSignLUT(t *testing.T, query []float32) {
	t.Helper()
	lut := make([]byte, 4*len(query))
	scale, bias := signLUTAtEveryLevel(t, query, lut)
	half := 0.0
	for _, x := range query {
		half += math.Abs(float64(x))
	}
	if math.Abs(float64(bias)+half) > 1e-6*half*math.Sqrt(float64(len(query))) {
		t.Errorf("dim %d: bias %v, want %v", len(query), bias, -half)
	}
	for m := 0; m < len(query)/4; m++ {
		span := 0.0
		for _, x := range query[4*m : 4*m+4] {
			span += math.Abs(float64(x))
		}
		for code := range LUTEntries {
			want := 0.0
			for bit, x := range query[4*m : 4*m+4] {
				if code>>bit&1 != 0 {
					want += float64(x)
				} else {
					want -= float64(x)
				}
			}
			got := float64(scale)*float64(lut[16*m+code]) - span
			if !(math.Abs(got-want) <= float64(scale)*0.501+1e-44) {
				t.Fatalf("dim %d table %d code %d: got %v, want %v within half of %v", len(query), m, code, got, want, scale)
			}
		}
	}
}

// signLUTAtEveryLevel leaves the table of the reference in lut.
func signLUTAtEveryLevel(t *testing.T, query []float32, lut []byte) (scale, bias float32) {
	t.Helper()
	first := true
	err := everyLevel(func() error {
		return everyPlace("query", query, func(query []float32) error {
			got := make([]byte, len(lut)+16)
			for i := range 16 {
				got[len(lut)+i] = canary
			}
			gotScale, gotBias := SignLUT(query, got[:len(lut)])
			for i := range 16 {
				if got[len(lut)+i] != canary {
					return fmt.Errorf("written past the destination")
				}
			}
			if first { // the generic level
				first, scale, bias = false, gotScale, gotBias
				copy(lut, got)
			}
			if !bytes.Equal(got[:len(lut)], lut) || gotScale != scale || gotBias != bias {
				return fmt.Errorf("scale %v bias %v table %v, want %v %v %v", gotScale, gotBias, got[:len(lut)], scale, bias, lut)
			}
			return nil
		})
	})
	if err != nil {
		t.Errorf("query %v: %v", query, err)
	}
	return scale, bias
}

func TestSignLUTWithSpecialValuesInEachLane(t *testing.T) {
	random := rand.New(rand.NewPCG(21, 1))
	for lane := range 12 {
		for _, special := range specials {
			if !(abs(special) <= 1e30) { // a query is finite, and so are its sums
				continue
			}
			query := normals(random, 12)
			query[lane] = special
			checkSignLUT(t, query)
		}
	}
}

func TestSignLUTStandsForSignedSums(t *testing.T) {
	random := rand.New(rand.NewPCG(10, 1))
	for _, dim := range []int{4, 8, 12, 16, 100, 128, 768, 16384} {
		checkSignLUT(t, normals(random, dim))
	}
	for _, length := range []float32{1e-30, 1e-38, 1e30, 1e37} {
		query := normals(random, 32)
		for i := range query {
			query[i] *= length / 8
		}
		checkSignLUT(t, query)
	}
	checkSignLUT(t, []float32{0, 0, 0, 0, 1, 0, 0, 0}) // a table of zeros beside another
}

func TestSignLUTOfZeros(t *testing.T) {
	lut := []byte{0: 9, 31: 9}
	scale, bias := SignLUT(make([]float32, 8), lut)
	if scale != 0 || bias != 0 || lut[0] != 0 || lut[31] != 0 {
		t.Errorf("got scale %v, bias %v, table %v, want zeros", scale, bias, lut)
	}
}

func TestSignLUTMisused(t *testing.T) {
	mustPanic(t, "no query", func() { SignLUT(nil, nil) })
	mustPanic(t, "query not of fours", func() { SignLUT(make([]float32, 6), make([]byte, 24)) })
	mustPanic(t, "short table", func() { SignLUT(make([]float32, 8), make([]byte, 31)) })
}

func FuzzSignLUT(f *testing.F) {
	f.Add(float32(1), float32(-2), float32(0), float32(1e-40))
	f.Fuzz(func(t *testing.T, a, b, c, d float32) {
		query := []float32{a, b, c, d, d, c, -b, a}
		for _, x := range query {
			if !(math.Abs(float64(x)) <= 1e37) { // sums of eight stay finite
				return
			}
		}
		if max(a, -a, b, -b, c, -c, d, -d) < 1e-36 {
			signLUTAtEveryLevel(t, query, make([]byte, 32)) // steps of denormals: no accuracy to promise
			return
		}
		checkSignLUT(t, query)
	})
}
