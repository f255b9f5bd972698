package segments

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/akidb/akidb/segments/blob/memblob"
	"github.com/akidb/akidb/segments/ivfpq"
)

// What is resident is what reading list by list and row by row gives.
func TestResidentHasEveryListAndID(t *testing.T) {
	const dim = 9
	for _, kind := range []ivfpq.Kind{ivfpq.Flat, ivfpq.IVF} {
		store := memblob.New()
		rows := makeRows(rand.New(rand.NewPCG(8, 1)), "id-", 2100, dim)
		seg, order := build(t, store, "S", dim, kind, rows)
		v := open(t, store, dim, seg)
		lists, err := v.AllLists(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		memory := make([]byte, v.Segments[0].ResidentSize())
		res, err := v.LoadResident(t.Context(), 0, memory, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range lists {
			if !bytes.Equal(res.List(uint32(i)), want) {
				t.Errorf("%v: list %d differs", kind, i)
			}
		}
		for ordinal, in := range order {
			if got := res.ID(uint32(ordinal)); got != rows.IDs[in] {
				t.Fatalf("%v: row %d is %q, want %q", kind, ordinal, got, rows.IDs[in])
			}
		}
		if _, err := v.LoadResident(t.Context(), 0, memory[1:], nil); err == nil {
			t.Errorf("%v: loaded into too little memory", kind)
		}
	}
	store := memblob.New()
	seg, _ := build(t, store, "S", dim, ivfpq.Exact, makeRows(rand.New(rand.NewPCG(8, 2)), "id-", 10, dim))
	v := open(t, store, dim, seg)
	if n := v.Segments[0].ResidentSize(); n != 0 {
		t.Errorf("an exact segment wants %d bytes", n)
	}
	if _, err := v.LoadResident(t.Context(), 0, nil, nil); err == nil {
		t.Error("an exact segment was loaded")
	}
}
