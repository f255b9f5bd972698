package kernels

import (
	"math/rand/v2"
	"testing"
)

func naiveDot8(query []int8, row []byte) int32 {
	var sum int64
	for i, q := range query {
		sum += int64(q) * int64(int8(row[i]))
	}
	return int32(sum)
}

func checkDot8Case(t *testing.T, query []int8, rows []byte, stride int) {
	t.Helper()
	count := (len(rows)-len(query))/stride + 1
	out := make([]int32, count)
	Dot8Rows(query, rows, stride, out)
	var which []uint32
	for i, got := range out {
		which = append(which, uint32(count-1-i))
		if want := naiveDot8(query, rows[i*stride:]); got != want {
			t.Errorf("dim %d stride %d row %d: got %d, want %d", len(query), stride, i, got, want)
		}
	}
	gathered := make([]int32, count)
	Dot8Gather(query, rows, stride, which, gathered)
	for i, got := range gathered {
		if want := out[which[i]]; got != want {
			t.Errorf("dim %d stride %d gathered row %d: got %d, want %d", len(query), stride, which[i], got, want)
		}
	}
}

func TestDot8IsExact(t *testing.T) {
	random := rand.New(rand.NewPCG(4, 1))
	for _, dim := range tails {
		for _, gap := range []int{0, 1, 8} {
			rows := randomBytes(random, 4*(dim+gap)+dim) // the last row ends with the bytes
			checkDot8Case(t, int8s(random, dim), rows, dim+gap)
		}
	}
}

func TestDot8AtItsExtremes(t *testing.T) {
	for _, dim := range []int{1, 63, 16384, MaxDot8Dim} {
		for _, a := range []int8{-128, 127} {
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
		d := int(dim)%64 + 1
		if len(rows) < d {
			return
		}
		query := make([]int8, d)
		for i := range query {
			query[i] = int8(rows[len(rows)-1-i])
		}
		checkDot8Case(t, query, rows, d+int(gap))
	})
}
