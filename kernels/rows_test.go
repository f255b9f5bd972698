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
	term   func(a, b float32) float32
}

var rowsKernels = []rowsKernel{
	{"L2", L2Rows, L2Gather, func(a, b float32) float32 { return float32((a - b) * (a - b)) }},
	{"Dot", DotRows, DotGather, func(a, b float32) float32 { return float32(a * b) }},
}

// checkPair compares one row with a naive loop, within the error of summing float32 in any
// order: elements · 2^-24 · the sum of magnitudes. Each of the differences of L2 adds two more.
func (k rowsKernel) checkPair(query, row []float32, got float32) error {
	var naive float32
	var magnitude float64
	for i := range query {
		t := k.term(query[i], row[i])
		naive += t
		magnitude += math.Abs(float64(t))
	}
	if bound := float64(len(query)+4) * 0x1p-24 * magnitude; !same(got, naive, bound) {
		return fmt.Errorf("%s of %d elements: got %v, want %v within %v", k.name, len(query), got, naive, bound)
	}
	return nil
}

// check runs the batch and the gathered form and compares every result.
func (k rowsKernel) check(query, rows []float32, which []uint32) error {
	dim := len(query)
	out := make([]float32, len(rows)/dim+1)
	out[len(out)-1] = 77 // a canary after the destination
	k.rows(query, rows, out[:len(out)-1])
	for i, got := range out[:len(out)-1] {
		if err := k.checkPair(query, rows[i*dim:(i+1)*dim], got); err != nil {
			return fmt.Errorf("row %d: %w", i, err)
		}
	}
	gathered := make([]float32, len(which))
	k.gather(query, rows, which, gathered)
	for i, row := range which {
		if !same(gathered[i], out[row], 0) {
			return fmt.Errorf("gathered row %d: got %v, want %v", row, gathered[i], out[row])
		}
	}
	if out[len(out)-1] != 77 {
		return fmt.Errorf("written past the destination")
	}
	return nil
}

func TestRowsAgainstNaiveLoop(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for _, k := range rowsKernels {
		for _, dim := range tails {
			for _, offset := range []int{0, 1, 3} { // misaligned starts
				query, rows := normals(random, dim+offset)[offset:], normals(random, 5*dim+offset)[offset:]
				if err := k.check(query, rows, []uint32{4, 0, 0, 2}); err != nil {
					t.Errorf("dim %d offset %d: %v", dim, offset, err)
				}
			}
		}
	}
}

func TestRowsWithSpecialValuesInEachLane(t *testing.T) {
	random := rand.New(rand.NewPCG(2, 1))
	for _, k := range rowsKernels {
		for _, dim := range []int{1, 3, 8, 11, 33} {
			for lane := range dim {
				for _, special := range specials {
					query, rows := normals(random, dim), normals(random, dim)
					rows[lane] = special
					if err := k.check(query, rows, []uint32{0}); err != nil {
						t.Errorf("dim %d lane %d %v: %v", dim, lane, special, err)
					}
					query[lane] = special
					if err := k.check(query, rows, []uint32{0}); err != nil {
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
