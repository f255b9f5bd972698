package ivfpq

import (
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestNewRouterRejectsWhatDoesNotBelongTogether(t *testing.T) {
	flat := Params{Dim: 20, Metric: L2, Kind: Flat}
	ivf := Params{Dim: 20, Metric: Dot, Kind: IVF}
	nan := make([]float32, 64)
	nan[40] = float32(math.NaN())
	two := []List{{0, 3}, {3, 4}}
	for name, c := range map[string]struct {
		params      Params
		centroids   []float32
		lists       []List
		calibration []Calibration
		want        string
	}{
		"exact with lists":       {Params{Dim: 20, Metric: L2, Kind: Exact}, make([]float32, 32), two[:1], nil, "want none"},
		"flat with two lists":    {flat, make([]float32, 64), two, nil, "2 lists, want 1"},
		"ivf without lists":      {ivf, nil, nil, nil, "no lists"},
		"centroids cut":          {ivf, make([]float32, 63), two, nil, "63 centroid elements, want 64"},
		"gap between lists":      {ivf, make([]float32, 64), []List{{0, 3}, {4, 4}}, nil, "list 1 starts at row 4, want 3"},
		"more rows than uint32":  {ivf, make([]float32, 64), []List{{0, math.MaxUint32}, {math.MaxUint32, 4}}, nil, "rows, want at most"},
		"NaN centroid":           {ivf, nan, two, nil, "component 40"},
		"recall of 2":            {ivf, make([]float32, 64), two, []Calibration{{2, 1, 1}}, "calibration 0"},
		"recall NaN":             {ivf, make([]float32, 64), two, []Calibration{{float32(math.NaN()), 1, 1}}, "calibration 0"},
		"more probes than lists": {ivf, make([]float32, 64), two, []Calibration{{0.9, 3, 1}}, "calibration 0"},
		"no depth":               {ivf, make([]float32, 64), two, []Calibration{{0.9, 1, 0}}, "calibration 0"},
		"less effort for more":   {ivf, make([]float32, 64), two, []Calibration{{0.9, 2, 30}, {0.95, 1, 40}}, "calibration 1"},
		"auto":                   {Params{Dim: 20, Metric: L2}, nil, nil, nil, "kind 0"},
		"scaled cosine":          {Params{Dim: 20, Metric: Cosine, Kind: Exact, Exponent: 1}, nil, nil, nil, "exponent 1"},
		"wild exponent":          {Params{Dim: 20, Metric: L2, Kind: Exact, Exponent: 1 << 40}, nil, nil, nil, "exponent"},
	} {
		if _, err := NewRouter(c.params, c.centroids, c.lists, c.calibration); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v does not say %q", name, err, c.want)
		}
	}
}

func TestListOfSkipsEmptyLists(t *testing.T) {
	lists := []List{{0, 0}, {0, 3}, {3, 0}, {3, 0}, {3, 2}, {5, 0}}
	r, err := NewRouter(Params{Dim: 16, Metric: L2, Kind: IVF}, make([]float32, 6*16), lists, nil)
	if err != nil {
		t.Fatal(err)
	}
	for ordinal, want := range []uint32{1, 1, 1, 4, 4} {
		if got, ok := r.ListOf(uint32(ordinal)); !ok || got != want {
			t.Errorf("row %d is in list %d, %v, want %d", ordinal, got, ok, want)
		}
	}
	if list, ok := r.ListOf(5); ok {
		t.Errorf("row 5 of 5 is in list %d", list)
	}
	q, err := r.Query(make([]float32, 16))
	if err != nil {
		t.Fatal(err)
	}
	out := NewCandidates(3)
	if err := q.ScanList(Probe{List: 2}, nil, nil, out); err != nil || len(out.Sorted()) != 0 {
		t.Errorf("an empty list gave %v, %v", out.Sorted(), err)
	}
}

func TestPlan(t *testing.T) {
	lists := make([]List, 100)
	for i := range lists {
		lists[i] = List{First: uint32(200 * i), Count: 200}
	}
	calibration := []Calibration{{0.9, 5, 40}, {0.95, 8, 60}, {0.99, 20, 150}}
	r, err := NewRouter(Params{Dim: 1, Metric: L2, Kind: IVF}, make([]float32, 1600), lists, calibration)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		recall        float32
		k             int
		nprobe, depth int
	}{
		{0, 10, 5, 40}, {0.9, 10, 5, 40}, {0.91, 10, 8, 60}, {0.99, 10, 20, 150}, {0.95, 1, 8, 60},
		{0.95, 0, 8, 60}, {0.95, 100, 26, 425}, {0.995, 10, 40, 300}, {1, 10, 100, 20000}, {2, 5, 100, 20000},
		{0.9, 10_000, 100, 15005}, {0.9999, 10, 100, 14973}, {0.9, 20_000, 100, 20000},
	} {
		nprobe, depth := r.Plan(c.recall, c.k)
		// The last two digits of the large depths are float32 noise in the recall.
		if nprobe != c.nprobe || math.Abs(float64(depth-c.depth)) > float64(c.depth)/100 {
			t.Errorf("Plan(%v, %d) is %d, %d, want %d, %d", c.recall, c.k, nprobe, depth, c.nprobe, c.depth)
		}
	}
	exact, err := NewRouter(Params{Dim: 1, Metric: L2, Kind: Exact}, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if nprobe, depth := exact.Plan(0.95, 10); nprobe != 0 || depth != 0 {
		t.Errorf("without lists: Plan is %d, %d", nprobe, depth)
	}
	if q, err := exact.Query([]float32{1}); err != nil || len(q.Probe(5)) != 0 {
		t.Errorf("without lists: Probe gives something, %v", err)
	}
}

func TestQueryRejectsWrongVectors(t *testing.T) {
	r, err := NewRouter(Params{Dim: 3, Metric: L2, Kind: Exact}, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for want, v := range map[string][]float32{
		"2 elements, want 3":  {1, 2},
		"component 1 is NaN":  {1, float32(math.NaN()), 0},
		"component 2 is +Inf": {1, 2, float32(math.Inf(1))},
	} {
		if _, err := r.Query(v); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error %v does not say %q", v, err, want)
		}
	}
}

func TestReadersRejectWrongLengths(t *testing.T) {
	rows, _ := clustered(20, 100, 0, 16, 2)
	c := newCorpus(t, rows, Config{Dim: 16, Metric: L2, Kind: Flat})
	q, out := c.query(t, rows[:16]), NewCandidates(100)
	data := c.lists[0]
	codes := data[:CodeSize(c.Params, 100)]
	if err := q.ScanList(Probe{}, codes, nil, out); err != nil || len(out.Sorted()) != 100 {
		t.Errorf("codes alone: %v, %d rows", err, len(out.Sorted()))
	}
	for name, err := range map[string]error{
		"scan of a cut list":     q.ScanList(Probe{}, data[:len(data)-1], nil, out),
		"scan of nothing":        q.ScanList(Probe{}, nil, nil, out),
		"scan of another list":   q.ScanList(Probe{List: 1}, data, nil, out),
		"scan with a short mask": q.ScanList(Probe{}, data, make(Bitmap, 1), out),
		"refine of codes alone":  q.RefineList(0, codes, nil),
		"refine of another list": q.RefineList(1, data, nil),
		"refine of another row":  q.RefineList(0, data, []Candidate{{Ordinal: 99}, {Ordinal: 100}}),
	} {
		if err == nil {
			t.Errorf("%s passed", name)
		}
	}
}

func TestScanningDoesNotAllocate(t *testing.T) {
	rows, queries := clustered(21, 3000, 1, 32, 10)
	c := newCorpus(t, rows, Config{Dim: 32, Metric: Cosine, Kind: IVF})
	q, out := c.query(t, queries), NewCandidates(100)
	one := make([]Candidate, 1)
	search := func() {
		out.Reset(100)
		for _, p := range q.Probe(8) {
			if err := q.ScanList(p, c.lists[p.List], nil, out); err != nil {
				t.Fatal(err)
			}
		}
		one[0] = out.Sorted()[0]
		list, _ := c.router.ListOf(one[0].Ordinal)
		if err := q.RefineList(list, c.lists[list], one); err != nil {
			t.Fatal(err)
		}
	}
	search() // the collector grows once
	if allocations := testing.AllocsPerRun(20, search); allocations != 0 {
		t.Errorf("a search allocates %v times", allocations)
	}
}

// Queries of one router run side by side, and each finds what it finds alone.
func TestQueriesFromManyGoroutines(t *testing.T) {
	const dim, held = 32, 24
	rows, queries := clustered(22, 2000, held, dim, 10)
	c := newCorpus(t, rows, Config{Dim: dim, Metric: L2, Kind: IVF, CalibrationQueries: 40})
	found := make([][]Candidate, held)
	var group sync.WaitGroup
	for i := range held {
		group.Go(func() { found[i] = c.search(t, queries[i*dim:(i+1)*dim], 10, 0.95, nil) })
	}
	group.Wait()
	for i, got := range found {
		if want := c.search(t, queries[i*dim:(i+1)*dim], 10, 0.95, nil); !slices.Equal(got, want) {
			t.Errorf("query %d: got %v, alone %v", i, got, want)
		}
	}
}
