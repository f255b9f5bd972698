package ivfpq

import (
	"encoding/binary"
	"slices"
	"testing"
)

// A merge that copies what its inputs know makes the index that coding all rows anew would make,
// but for the rounding of factors to another scale.
func TestMergeOfPriorsIsTheIndexOfTheirRows(t *testing.T) {
	const dim, n = 24, 3000
	rows, queries := clustered(50, n, 60, dim, 30)
	for _, metric := range metrics {
		for _, codebook := range []Codebook{Sign, Learned} {
			cfg := Config{Dim: dim, Metric: metric, Codebook: codebook, Seed: 4, Lists: 20, Kind: IVF, CalibrationQueries: 80}
			z, err := Train(t.Context(), rows, cfg)
			if err != nil {
				t.Fatal(err)
			}
			cfg.Quantizer = z
			// Two inputs, every seventh row of which is gone, and a tail that is new.
			const half, old = 1200, 2400
			kept, priors := []float32(nil), []Prior(nil)
			for part := range 2 {
				x, err := Build(t.Context(), rows[part*half*dim:(part+1)*half*dim], cfg)
				if err != nil {
					t.Fatal(err)
				}
				p, err := NewPostings(z, x.Lists, nil)
				if err != nil {
					t.Fatal(err)
				}
				places := make([]int, half) // of the input's rows, by ordinal
				for ordinal, row := range x.Order {
					if places[ordinal] = -1; row%7 != 0 {
						places[ordinal] = len(kept) / dim
						kept = append(kept, rows[(part*half+int(row))*dim:][:dim]...)
					}
				}
				priors = append(priors, Prior{p, x, func(ordinal uint32) (uint32, bool) {
					return uint32(max(places[ordinal], 0)), places[ordinal] >= 0
				}})
			}
			kept = append(kept, rows[old*dim:]...)
			want := newCorpus(t, kept, cfg)
			cfg.Priors = priors
			got := newCorpus(t, kept, cfg)
			if !slices.Equal(got.Order, want.Order) || !slices.Equal(got.Lists, want.Lists) {
				t.Fatalf("%v %v: another order", metric, codebook)
			}
			checkSameCodes(t, got, want)
			if r := got.recall(t, queries, 10, 0.95, nil); r < 0.95-slackRecall(60) {
				t.Errorf("%v %v: recall %v, planned for 0.95", metric, codebook, r)
			}
		}
	}
}

func checkSameCodes(t *testing.T, got, want *corpus) {
	t.Helper()
	z := got.postings.Quantizer()
	for i, l := range got.Lists {
		g, err := z.view(l, got.list(uint32(i)))
		if err != nil {
			t.Fatal(err)
		}
		w, err := z.view(l, want.list(uint32(i)))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(g.codes, w.codes) || !slices.Equal(g.factors, w.factors) {
			t.Fatalf("list %d has other refine codes", i)
		}
		// The same rows are spilled here, perhaps in another order.
		if !slices.Equal(g.spilled, w.spilled) {
			t.Fatalf("list %d has other spilled rows", i)
		}
		rows := int(l.Count) + int(l.Spilled)
		a, b := factorBlocks{subQuantizers: z.subQuantizers}, factorBlocks{subQuantizers: z.subQuantizers}
		a.reset(rows)
		b.reset(rows)
		for j := range rows {
			at := j
			if j >= int(l.Count) {
				at = l.spillStart() + j - int(l.Count)
			}
			a.read(j, g.blocks, at, g.scales)
			b.read(j, w.blocks, at, w.scales)
			close := func(x, y, scale float32) bool { return x-y <= 32*scale && y-x <= 32*scale } // 2^-10 of the largest
			if !slices.Equal(a.nibbles(j), b.nibbles(j)) || !close(a.add[j], b.add[j], w.scales[0]) || !close(a.res[j], b.res[j], w.scales[1]) {
				t.Fatalf("list %d row %d: %v %v %v, want %v %v %v", i, j, a.nibbles(j), a.add[j], a.res[j], b.nibbles(j), b.add[j], b.res[j])
			}
		}
	}
}

// What a prior claims is not believed blindly.
func TestBuildRejectsPriorsThatDoNotFit(t *testing.T) {
	const dim, n = 8, 400
	rows, _ := clustered(51, n, 0, dim, 5)
	cfg := Config{Dim: dim, Metric: L2, Lists: 5, Kind: IVF, CalibrationQueries: 5}
	z, err := Train(t.Context(), rows, cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Quantizer = z
	x, err := Build(t.Context(), rows, cfg)
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewPostings(z, x.Lists, nil)
	if err != nil {
		t.Fatal(err)
	}
	all := func(ordinal uint32) (uint32, bool) { return ordinal, true }
	other, err := Train(t.Context(), rows, Config{Dim: dim, Metric: L2, Lists: 5, Seed: 8})
	if err != nil {
		t.Fatal(err)
	}
	cut := make(listBytes, len(x.Lists))
	for i := range cut {
		cut[i] = x.list(uint32(i))[:z.ScanSize(x.Lists[i])]
	}
	wild := make(listBytes, len(x.Lists))
	for i, l := range x.Lists {
		wild[i] = x.AppendList(nil, i)
		v, err := z.view(l, wild[i])
		if err != nil {
			t.Fatal(err)
		}
		binary.LittleEndian.PutUint32(v.spilled, n)
	}
	for name, c := range map[string]Config{
		"another quantizer":    {Dim: dim, Metric: L2, Kind: IVF, Quantizer: other, Priors: []Prior{{p, x, all}}},
		"codes without refine": {Dim: dim, Metric: L2, Kind: IVF, Quantizer: z, Priors: []Prior{{p, cut, all}}},
		"rows of no input":     {Dim: dim, Metric: L2, Kind: IVF, Quantizer: z, Priors: []Prior{{p, x, func(uint32) (uint32, bool) { return n, true }}}},
		"spilled out of range": {Dim: dim, Metric: L2, Kind: IVF, Quantizer: z, Priors: []Prior{{p, wild, all}}},
		"no quantizer":         {Dim: dim, Metric: L2, Kind: IVF, Priors: []Prior{{p, x, all}}},
	} {
		if _, err := Build(t.Context(), rows, c); err == nil {
			t.Errorf("%s: built", name)
		}
	}
}
