package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// A rowsKernel is L2Rows or DotRows, with the term that a naive loop adds up.
type rowsKernel struct {
	name   string
	rows   func(query, rows, out []float32)
	gather func(query, rows []float32, which []uint32, out []float32)
	term   func(a, b float64) float64
}

var rowsKernels = []rowsKernel{
	{"L2", L2Rows, L2Gather, func(a, b float64) float64 { return (a - b) * (a - b) }},
	{"Dot", DotRows, DotGather, func(a, b float64) float64 { return a * b }},
}

// checkPair compares one row with a naive loop in float64. A sum of n products in float32 is off
// by at most n · 2^-24 · the sum of magnitudes, whatever the order and however much is fused; a
// rounded difference, squared, adds 2 · 2^-24 of each; and a product too small for a normal
// number is off by a denormal. A sum of magnitudes past all float32 may overflow.
func (k rowsKernel) checkPair(query, row []float32, got float32) error {
	var exact, magnitude float64
	for i := range query {
		t := k.term(float64(query[i]), float64(row[i]))
		exact += t
		magnitude += math.Abs(t)
	}
	n, wide := float64(len(query)), float64(got)
	bound := 1.001*(n+3)*0x1p-24*magnitude + n*0x1p-149
	switch {
	case math.IsNaN(exact) && math.IsNaN(wide), math.IsInf(exact, 0) && wide == exact:
	case !math.IsInf(exact, 0) && math.Abs(wide-exact) <= bound:
	case magnitude > math.MaxFloat32/2 && math.IsInf(wide, int(math.Copysign(1, exact))):
	default:
		return fmt.Errorf("%s of %d elements: got %v, want %v within %v", k.name, len(query), got, exact, bound)
	}
	return nil
}

const canary = 77

// check runs the batch and the gathered form at every level and compares every result.
func (k rowsKernel) check(query, rows []float32, which []uint32) error {
	return everyLevel(func() error {
		return everyPlace("query", query, func(query []float32) error {
			return everyPlace("rows", rows, func(rows []float32) error {
				return k.checkHere(query, rows, atGuard("which", which))
			})
		})
	})
}

func (k rowsKernel) checkHere(query, rows []float32, which []uint32) error {
	dim := len(query)
	count := len(rows) / dim
	out, gathered := make([]float32, count+8), make([]float32, len(which)+8)
	for i := range 8 {
		out[count+i], gathered[len(which)+i] = canary, canary
	}
	k.rows(query, rows, out[:count])
	for i, got := range out[:count] {
		if err := k.checkPair(query, rows[i*dim:(i+1)*dim], got); err != nil {
			return fmt.Errorf("row %d: %w", i, err)
		}
	}
	k.gather(query, rows, which, gathered[:len(which)])
	for i, row := range which {
		if !same(gathered[i], out[row], 0) {
			return fmt.Errorf("gathered row %d: got %v, want %v", row, gathered[i], out[row])
		}
	}
	for i := range 8 {
		if out[count+i] != canary || gathered[len(which)+i] != canary {
			return fmt.Errorf("written past the destination")
		}
	}
	return nil
}

func TestRowsAgainstNaiveLoop(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for _, k := range rowsKernels {
		for _, dim := range tails {
			for _, offset := range []int{0, 1, 3} { // misaligned starts
				for count := range 10 { // every length of a last group, alone and after others
					query, rows := normals(random, dim+offset)[offset:], normals(random, count*dim+offset)[offset:]
					which := make([]uint32, min(40, 40*count)) // more than are prefetched at once
					for i := range which {
						which[i] = uint32(random.IntN(count))
					}
					if err := k.check(query, rows, which[:random.IntN(len(which)+1)]); err != nil {
						t.Errorf("dim %d offset %d count %d: %v", dim, offset, count, err)
					}
				}
			}
		}
	}
}

func TestRowsOverMoreThanOneCall(t *testing.T) {
	random := rand.New(rand.NewPCG(22, 1))
	const dim, count = 768, 2*callSize/(4*768) + 3
	for _, k := range rowsKernels {
		which := make([]uint32, count+1)
		for i := range which {
			which[i] = uint32(random.IntN(count))
		}
		if err := k.check(normals(random, dim), normals(random, count*dim), which); err != nil {
			t.Error(err)
		}
	}
}

func TestRowsWithSpecialValuesInEachLane(t *testing.T) {
	random := rand.New(rand.NewPCG(2, 1))
	for _, k := range rowsKernels {
		for _, dim := range []int{1, 3, 8, 11, 33, 39} {
			for lane := range dim {
				for _, special := range specials {
					query, rows := normals(random, dim), normals(random, 5*dim)
					rows[random.IntN(5)*dim+lane] = special
					if err := k.check(query, rows, []uint32{0, 3, 1, 2, 4}); err != nil {
						t.Errorf("dim %d lane %d %v: %v", dim, lane, special, err)
					}
					query[lane] = special
					if err := k.check(query, rows, []uint32{0, 3, 1, 2, 4}); err != nil {
						t.Errorf("dim %d lane %d %v twice: %v", dim, lane, special, err)
					}
				}
			}
		}
	}
}

func TestRowsCheckCatchesAForgottenTail(t *testing.T) {
	planted := rowsKernels[0]
	planted.rows = func(query, rows, out []float32) {
		for i := range out {
			whole := len(query) / 8 * 8
			out[i] = l2Generic(query[:whole], rows[i*len(query):i*len(query)+whole])
		}
	}
	random := rand.New(rand.NewPCG(3, 1))
	if err := planted.check(normals(random, 16), normals(random, 16), nil); err != nil {
		t.Errorf("without a tail: %v", err)
	}
	if err := planted.check(normals(random, 17), normals(random, 17), nil); err == nil {
		t.Error("a kernel that forgets its tail passed")
	}
}

func TestRowsEmptyAndMisused(t *testing.T) {
	for _, k := range rowsKernels {
		k.rows([]float32{1}, nil, nil)
		k.gather([]float32{1}, nil, nil, nil)
		mustPanic(t, "no dimension", func() { k.rows(nil, nil, nil) })
		mustPanic(t, "short rows", func() { k.rows(make([]float32, 4), make([]float32, 7), make([]float32, 2)) })
		mustPanic(t, "row past the end", func() {
			k.gather(make([]float32, 4), make([]float32, 8), []uint32{2}, make([]float32, 1))
		})
		mustPanic(t, "results of another length", func() {
			k.gather(make([]float32, 4), make([]float32, 8), []uint32{1}, make([]float32, 2))
		})
	}
}

func FuzzRows(f *testing.F) {
	f.Add(uint64(1), uint16(7), uint8(3), uint8(0))
	f.Add(uint64(2), uint16(128), uint8(1), uint8(10))
	f.Fuzz(func(t *testing.T, seed uint64, dim uint16, lane, special uint8) {
		random := rand.New(rand.NewPCG(seed, 0))
		d := int(dim)%300 + 1
		query, rows := normals(random, d), normals(random, 3*d)
		rows[int(lane)%len(rows)] = specials[int(special)%len(specials)]
		for _, k := range rowsKernels {
			if err := k.check(query, rows, []uint32{2, 1}); err != nil {
				t.Error(err)
			}
		}
	})
}
