package ivfpq

import (
	"context"
	"fmt"
	"math"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func TestBuildIsTheSameOnAnyNumberOfCPUs(t *testing.T) {
	rows, _ := clustered(11, 1500, 0, 24, 20)
	for _, metric := range metrics {
		for _, kind := range []Kind{Flat, IVF} {
			cfg := Config{Dim: 24, Metric: metric, Seed: 5, Kind: kind, CalibrationQueries: 50}
			var first *Index
			for _, procs := range []int{1, 2, 7} {
				previous := runtime.GOMAXPROCS(procs)
				x, err := Build(t.Context(), rows, cfg)
				runtime.GOMAXPROCS(previous)
				if err != nil {
					t.Fatal(err)
				}
				if first == nil {
					first = x
				}
				if !reflect.DeepEqual(first.stored(), x.stored()) {
					t.Errorf("%v %v: the index differs on %d CPUs", metric, kind, procs)
				}
			}
			cfg.Seed++
			if x, err := Build(t.Context(), rows, cfg); err != nil || slices.Equal(x.data, first.data) {
				t.Errorf("%v %v: another seed made the same codes (%v)", metric, kind, err)
			}
		}
	}
}

// stored is all of an index that is kept.
func (x *Index) stored() []any {
	return []any{x.Kind, x.Order, x.Lists, x.Calibration, x.Wider, x.Residual, x.data, x.Quantizer.AppendBinary(nil)}
}

// Data at the edges of float32: whatever is built answers every query with finite distances and
// finds what exact search finds.
func TestExtremes(t *testing.T) {
	const dim, n = 6, 200
	base, _ := clustered(12, n, 0, dim, 5)
	scaled := func(factor float64) []float32 {
		rows := slices.Clone(base)
		for i, x := range rows {
			rows[i] = float32(float64(x) * factor)
		}
		return rows
	}
	mixed := scaled(1)
	for i := range mixed[:n/2*dim] {
		mixed[i] *= 1e-25
	}
	zeros := scaled(1)
	clear(zeros[:n/4*dim])
	equal := slices.Repeat(base[:dim], n)
	outlier := scaled(1)
	outlier[0] = 1e30
	for name, rows := range map[string][]float32{
		"huge": scaled(1e30), "largest": scaled(3e37), "small": scaled(1e-30), "denormal": scaled(1e-43),
		"mixed": mixed, "zeros": zeros, "equal": equal, "all zero": make([]float32, n*dim), "outlier": outlier, "one": base[:dim],
	} {
		for _, metric := range metrics {
			for _, kind := range []Kind{Exact, Flat, IVF} {
				t.Run(fmt.Sprintf("%s/%v/%v", name, metric, kind), func(t *testing.T) {
					c := newCorpus(t, rows, Config{Dim: dim, Metric: metric, Seed: 1, Kind: kind, Lists: 6, CalibrationQueries: 30})
					checkIndex(t, c)
					checkFiniteIndex(t, c)
					queries := slices.Concat(rows[:dim], rows[len(rows)-dim:], make([]float32, dim), base[dim:2*dim], scaled(1e30)[:dim], scaled(1e-30)[:dim], scaled(3e37)[:dim])
					for ; len(queries) > 0; queries = queries[dim:] {
						checkFiniteSearch(t, c, queries[:dim])
					}
				})
			}
		}
	}
}

func checkFiniteIndex(t *testing.T, c *corpus) {
	t.Helper()
	if c.Kind == Exact {
		return
	}
	z := c.postings.Quantizer()
	if err := checkFinite(z.centroids); err != nil {
		t.Errorf("centroids: %v", err)
	}
	for i, l := range c.Lists {
		v, err := z.view(l, c.list(uint32(i)))
		if err != nil {
			t.Fatal(err)
		}
		var scan factorBlocks
		scan.subQuantizers = z.subQuantizers
		scan.reset(int(l.Count) + int(l.Spilled))
		for row := range int(l.Count) {
			scan.read(row, v.blocks, row, v.scales)
			_, scale, square := v.refineOf(row, z.codeDim)
			if err := checkFinite([]float32{scale, square}); err != nil {
				t.Fatalf("list %d row %d: scale %v, square %v", i, row, scale, square)
			}
		}
		for j := range int(l.Spilled) {
			scan.read(int(l.Count)+j, v.blocks, l.spillStart()+j, v.scales)
		}
		if err := checkFinite(append(scan.add, scan.res...)); err != nil {
			t.Fatalf("list %d: factors: %v", i, err)
		}
	}
}

// checkFiniteSearch scans everything and wants every row kept with a finite estimate, and the
// distances of the search with everything refined to be those of exact search.
func checkFiniteSearch(t *testing.T, c *corpus, query []float32) {
	t.Helper()
	n := len(c.Order)
	if c.Kind != Exact {
		q := c.query(t, query)
		defer q.Release()
		all := NewCandidates(2 * n)
		for _, p := range q.Probe(len(c.Lists)) {
			if err := checkFinite([]float32{p.Distance}); err != nil {
				t.Errorf("probe: %v", err)
			}
			if err := q.ScanList(p, c.postings, c.list(p.List), nil, 0, all); err != nil {
				t.Fatal(err)
			}
		}
		if all.Count() != n {
			t.Errorf("query %v: %d of %d rows kept", query, all.Count(), n)
		}
		if err := checkFinite(all.est); err != nil {
			t.Errorf("query %v: estimates: %v", query, err)
		}
		if _, err := all.refine([]Part{{q, c.postings, c.Index}}); err != nil {
			t.Fatal(err)
		}
		if err := checkFinite(all.est); err != nil {
			t.Errorf("query %v: refined: %v", query, err)
		}
	}
	got, want := c.search(t, query, 1, 1, nil), c.exact(query, 1, nil)
	if len(got) != 1 || checkFinite([]float32{got[0].distance, want[0].distance}) != nil {
		t.Errorf("query %v: got %v, want %v", query, got, want)
	}
}

func TestSearchFindsWhatIsThereAtAnyScale(t *testing.T) {
	const n, held, dim = 1500, 40, 32
	base, baseQueries := clustered(13, n, held, dim, 10)
	for _, exponent := range []int{-130, -60, 0, 60, 120} {
		rows, queries := slices.Clone(base), slices.Clone(baseQueries)
		for _, v := range [][]float32{rows, queries} {
			for i, x := range v {
				v[i] = float32(math.Ldexp(float64(x), exponent))
			}
		}
		for _, metric := range []Metric{L2, Cosine} { // an inner product would not fit
			c := newCorpus(t, rows, Config{Dim: dim, Metric: metric, Seed: 1, Kind: Flat, CalibrationQueries: 120})
			if got := c.recall(t, queries, 10, 0.95, nil); got < 0.95-slackRecall(held) {
				t.Errorf("%v at 2^%d: recall@10 %.4f", metric, exponent, got)
			}
		}
	}
}

func TestBuildRejectsWhatItCannotIndex(t *testing.T) {
	good := Config{Dim: 2, Metric: L2}
	nan, inf := float32(math.NaN()), float32(math.Inf(-1))
	for name, c := range map[string]struct {
		rows []float32
		cfg  Config
		want []string
	}{
		"no rows":    {nil, good, []string{"0 elements"}},
		"half a row": {make([]float32, 3), good, []string{"3 elements"}},
		"NaN":        {[]float32{1, 2, 3, nan}, good, []string{"row 1", "component 1", "NaN"}},
		"Inf":        {[]float32{inf, 2, 3, 4}, good, []string{"row 0", "component 0", "-Inf"}},
		"bad query":  {make([]float32, 4), Config{Dim: 2, Metric: L2, Queries: []float32{1}}, []string{"1 query elements"}},
		"everything": {nil, Config{Dim: 0, Metric: 7, Kind: 9, Lists: -1, CalibrationQueries: -2, Workers: -3},
			[]string{"dim 0", "metric 7", "kind 9", "lists -1", "calibration queries -2", "workers -3"}},
		"too wide": {nil, Config{Dim: MaxDim + 1, Metric: L2}, []string{"dim 16385"}},
	} {
		_, err := Build(context.Background(), c.rows, c.cfg)
		if err == nil {
			t.Errorf("%s: built", name)
			continue
		}
		for _, want := range append(c.want, "build index: ") {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %q does not say %q", name, err, want)
			}
		}
	}
}

func TestSizeClasses(t *testing.T) {
	for rows, want := range map[int]Kind{1: Exact, ExactRows - 1: Exact, ExactRows: Flat, FlatRows - 1: Flat, FlatRows: IVF} {
		if got := (Config{}).kind(rows, 1); got != want {
			t.Errorf("%d rows are %v, want %v", rows, got, want)
		}
	}
	rows, _ := clustered(14, 400, 0, 4, 3)
	z, err := Train(t.Context(), rows, Config{Dim: 4, Metric: L2, Lists: 4})
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Dim: 4, Metric: L2, Quantizer: z}
	if got := cfg.kind(FlatRows, 1e12); got != Flat {
		t.Errorf("rows far longer than those of the quantizer are %v, want flat", got)
	}
	z.squares = make([]float32, FlatRows) // as if it had many lists
	if got := cfg.kind(FlatRows, 1); got != Flat {
		t.Errorf("one row a list is %v, want flat", got)
	}
}
