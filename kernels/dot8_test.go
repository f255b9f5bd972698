package kernels

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

func naiveDot8(query []int8, row []byte) int32 {
	var sum int64
	for i, q := range query {
		sum += int64(q) * int64(int8(row[i]))
	}
	return int32(sum)
}

// checkDot8Case compares every row with a naive loop, at every level.
func checkDot8Case(t *testing.T, query []int8, rows []byte, stride int) {
	t.Helper()
	err := everyLevel(func() error {
		return everyPlace("query", query, func(query []int8) error {
			return everyPlace("rows", rows, func(rows []byte) error {
				return dot8Differs(Dot8Rows, query, rows, stride)
			})
		})
	})
	if err != nil {
		t.Error(err)
	}
}

// symmetric replaces -128, which not every kernel takes in a query.
func symmetric(query []int8) []int8 {
	query = slices.Clone(query)
	for i, q := range query {
		query[i] = max(q, -127)
	}
	return query
}

type dot8Func func(query []int8, rows []byte, stride int, out []int32)

func dot8Differs(kernel dot8Func, query []int8, rows []byte, stride int) error {
	count := (len(rows)-len(query))/stride + 1
	which := make([]uint32, count)
	out, gathered := make([]int32, count+8), make([]int32, count+8)
	for i := range 8 {
		out[count+i], gathered[count+i] = canary, canary
	}
	kernel(query, rows, stride, out[:count])
	for i, got := range out[:count] {
		which[i] = uint32(count - 1 - i)
		if want := naiveDot8(query, rows[i*stride:]); got != want {
			return fmt.Errorf("dim %d stride %d row %d: got %d, want %d", len(query), stride, i, got, want)
		}
	}
	Dot8Gather(query, rows, stride, atGuard("which", which), gathered[:count])
	for i, got := range gathered[:count] {
		if want := out[which[i]]; got != want {
			return fmt.Errorf("dim %d stride %d gathered row %d: got %d, want %d", len(query), stride, which[i], got, want)
		}
	}
	each, pointers := make([]int32, count+8), make([]*byte, count)
	for i := range 8 {
		each[count+i] = canary
	}
	for i, row := range which {
		pointers[i] = &rows[int(row)*stride]
	}
	Dot8Each(query, pointers, each[:count])
	for i := range each {
		if each[i] != gathered[i] {
			return fmt.Errorf("dim %d stride %d row %d by pointer: got %d, want %d", len(query), stride, i, each[i], gathered[i])
		}
	}
	for i := range 8 {
		if out[count+i] != canary || gathered[count+i] != canary {
			return fmt.Errorf("dim %d stride %d: written past the destination", len(query), stride)
		}
	}
	return nil
}

func TestDot8IsExact(t *testing.T) {
	random := rand.New(rand.NewPCG(4, 1))
	for _, dim := range tails {
		for _, gap := range []int{0, 1, 8} {
			for _, offset := range []int{0, 1, 7} {
				for count := range 9 { // every length of a last group, alone and after others
					rows := randomBytes(random, count*(dim+gap)+dim+offset) // the last row ends with the bytes
					query := int8s(random, dim+offset)[offset:]
					checkDot8Case(t, query, rows[offset:], dim+gap)
					checkDot8Case(t, symmetric(query), rows[offset:], dim+gap)
				}
			}
		}
	}
}

// A pair of the largest products is 2^15, which 16 bits cannot hold; -128 has no opposite.
func TestDot8WithExtremesInEachLane(t *testing.T) {
	random := rand.New(rand.NewPCG(15, 1))
	for _, dim := range []int{17, 33, 130} {
		for lane := range dim {
			for _, a := range []int8{-128, -127, 127} {
				for _, b := range []int8{-128, -127, 127} {
					query, rows := int8s(random, dim), randomBytes(random, 2*dim)
					for _, l := range []int{lane, lane ^ 1} {
						l = min(l, dim-1)
						query[l], rows[l], rows[dim+l] = a, byte(b), byte(a)
					}
					checkDot8Case(t, query, rows, dim)
					checkDot8Case(t, symmetric(query), rows, dim)
				}
			}
		}
	}
}

func TestDot8OverMoreThanOneCall(t *testing.T) {
	random := rand.New(rand.NewPCG(16, 1))
	checkDot8Case(t, int8s(random, 768), randomBytes(random, 3*callSize+123), 776)
}

func TestDot8CheckCatchesSaturation(t *testing.T) {
	saturating := func(query []int8, rows []byte, stride int, out []int32) {
		dot8RowsGeneric(query, rows, stride, out)
		for i := range out {
			out[i] = min(out[i], 1<<15-1)
		}
	}
	query, row := []int8{-128, -128}, []byte{128, 128}
	if err := dot8Differs(saturating, query, row, 2); err == nil {
		t.Error("a kernel that saturates 16 bits passed")
	}
	if err := dot8Differs(saturating, query[:1], row, 1); err != nil {
		t.Errorf("one product: %v", err)
	}
}

func TestDot8AtItsExtremes(t *testing.T) {
	for _, dim := range []int{1, 63, 16384, MaxDot8Dim} {
		for _, a := range []int8{-128, -127, 127} {
			for _, b := range []int8{-128, 127} {
				query, row := make([]int8, dim), make([]byte, dim)
				for i := range query {
					query[i], row[i] = a, byte(b)
				}
				checkDot8Case(t, query, row, dim)
			}
		}
	}
}

func TestDot8Misused(t *testing.T) {
	query, rows := make([]int8, 16), make([]byte, 40)
	mustPanic(t, "rows overlap", func() { Dot8Rows(query, rows, 15, make([]int32, 1)) })
	mustPanic(t, "last row cut", func() { Dot8Rows(query, rows, 25, make([]int32, 2)) })
	mustPanic(t, "gathered row cut", func() { Dot8Gather(query, rows, 25, []uint32{1}, make([]int32, 1)) })
	mustPanic(t, "results of another length", func() { Dot8Gather(query, rows, 16, []uint32{1}, nil) })
	mustPanic(t, "no dimension", func() { Dot8Rows(nil, rows, 16, nil) })
	Dot8Rows(query, nil, 16, nil)
	Dot8Rows(query, rows, 24, make([]int32, 2)) // 24 + 16 = 40: the last row needs no gap
}

func FuzzDot8(f *testing.F) {
	f.Add([]byte{1, 2, 255, 128}, uint8(2), uint8(1))
	f.Fuzz(func(t *testing.T, rows []byte, dim, gap uint8) {
		d := int(dim)%200 + 1
		if len(rows) < d {
			return
		}
		query := make([]int8, d)
		for i := range query {
			query[i] = int8(rows[len(rows)-1-i])
		}
		checkDot8Case(t, query, rows, d+int(gap))
		checkDot8Case(t, symmetric(query), rows, d+int(gap))
	})
}
