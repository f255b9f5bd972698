package ivfpq

import (
	"math"
	"math/rand/v2"
	"testing"
)

// FuzzScanList reads arbitrary bytes as a list: no panic, no row that does not exist or is
// masked, no distance that is not finite; wrong lengths are errors.
func FuzzScanList(f *testing.F) {
	f.Add([]byte{0}, uint8(33), uint8(1), uint64(0), false)
	f.Add([]byte{0xff, 0x7f, 0x80, 0xff}, uint8(40), uint8(2), uint64(math.MaxUint64), true)
	f.Fuzz(func(t *testing.T, data []byte, count, metric uint8, bits uint64, cut bool) {
		p := Params{Dim: 20, Metric: metrics[int(metric)%3], Kind: IVF, Seed: 1}
		lists := []List{{0, 5}, {5, uint32(count)}}
		random := rand.New(rand.NewPCG(bits, 1))
		r, err := NewRouter(p, normals(random, 2*CodeDim(p.Dim)), lists, nil)
		if err != nil {
			t.Fatal(err)
		}
		q, err := r.Query(normals(random, p.Dim))
		if err != nil {
			t.Fatal(err)
		}
		stored := make([]byte, ListSize(p, int(count)))
		for i := range stored {
			if len(data) > 0 {
				stored[i] = data[i%len(data)]
			}
		}
		if cut {
			if err := q.ScanList(Probe{List: 1}, append(stored, 0), nil, NewCandidates(9)); err == nil {
				t.Error("a byte too many passed")
			}
		}
		allowed := make(Bitmap, (5+int(count)+63)/64)
		for i := range allowed {
			allowed[i] = bits
		}
		out := NewCandidates(int(bits%50) + 1)
		if err := q.ScanList(Probe{List: 1}, stored, allowed, out); err != nil {
			t.Fatal(err)
		}
		found := out.Sorted()
		for pass := range 2 {
			for _, x := range found {
				if x.Ordinal < 5 || x.Ordinal >= 5+uint32(count) || bits>>(x.Ordinal%64)&1 == 0 {
					t.Errorf("row %d of 5..%d is not allowed", x.Ordinal, 5+count)
				}
				if checkFinite([]float32{x.Distance}) != nil {
					t.Errorf("row %d: distance %v in pass %d", x.Ordinal, x.Distance, pass)
				}
			}
			if err := q.RefineList(1, stored, found); err != nil {
				t.Fatal(err)
			}
		}
	})
}
