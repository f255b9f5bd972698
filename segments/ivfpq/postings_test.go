package ivfpq

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
)

// testQuantizer has centroids that need no training.
func testQuantizer(t testing.TB, p Params, centroids []float32) *Quantizer {
	t.Helper()
	z, err := newQuantizer(p, make([]float32, CodeDim(p.Dim)), centroids, gridCodes{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func TestNewPostingsRejectsWhatDoesNotBelongTogether(t *testing.T) {
	z := testQuantizer(t, Params{Dim: 20, Metric: L2, Codebook: Sign}, make([]float32, 64))
	two := []List{{0, 3, 1}, {3, 4, 0}}
	for name, c := range map[string]struct {
		lists       []List
		calibration []Calibration
		want        string
	}{
		"a list too few":         {two[:1], nil, "1 lists, want 2"},
		"gap between lists":      {[]List{{0, 3, 0}, {4, 4, 0}}, nil, "list 1 starts at row 4, want 3"},
		"more rows than uint32":  {[]List{{0, math.MaxUint32, 0}, {math.MaxUint32, 4, 0}}, nil, "want at most"},
		"more spilled than rows": {[]List{{0, 3, 5}, {3, 4, 3}}, nil, "8 spilled"},
		"recall of 2":            {two, []Calibration{{2, 1, 1}}, "calibration 0"},
		"recall NaN":             {two, []Calibration{{float32(math.NaN()), 1, 1}}, "calibration 0"},
		"more probes than lists": {two, []Calibration{{0.9, 3, 1}}, "calibration 0"},
		"no depth":               {two, []Calibration{{0.9, 1, 0}}, "calibration 0"},
		"less effort for more":   {two, []Calibration{{0.9, 2, 30}, {0.95, 1, 40}}, "calibration 1"},
	} {
		if _, err := NewPostings(z, c.lists, c.calibration); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v does not say %q", name, err, c.want)
		}
	}
}

func TestQuantizerRejectsWhatDoesNotBelongTogether(t *testing.T) {
	nan := make([]float32, 64)
	nan[40] = float32(math.NaN())
	good := Params{Dim: 20, Metric: Dot, Codebook: Sign}
	for name, c := range map[string]struct {
		params                     Params
		origin, centroids, entries []float32
		want                       string
	}{
		"no centroids":         {good, make([]float32, 32), []float32{}, nil, "0 centroid elements"},
		"centroids cut":        {good, make([]float32, 32), make([]float32, 63), nil, "63 centroid elements"},
		"origin cut":           {good, make([]float32, 31), make([]float32, 64), nil, "origin of 31"},
		"NaN centroid":         {good, make([]float32, 32), nan, nil, "component 40"},
		"entries of signs":     {good, make([]float32, 32), make([]float32, 64), make([]float32, 512), "512 codebook elements, want 0"},
		"learned without them": {Params{Dim: 20, Metric: L2, Codebook: Learned}, make([]float32, 32), make([]float32, 64), nil, "0 codebook elements, want 512"},
		"no codebook":          {Params{Dim: 20, Metric: L2}, make([]float32, 32), make([]float32, 64), nil, "codebook 0"},
		"scaled cosine":        {Params{Dim: 20, Metric: Cosine, Codebook: Sign, Exponent: 1}, nil, nil, nil, "exponent 1"},
		"wild exponent":        {Params{Dim: 20, Metric: L2, Codebook: Sign, Exponent: 1 << 40}, nil, nil, nil, "exponent"},
	} {
		if _, err := newQuantizer(c.params, c.origin, c.centroids, gridCodes{}, c.entries); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v does not say %q", name, err, c.want)
		}
	}
}

// A quantizer goes through its stored form unchanged, to the bit of every centroid; any flipped
// bit and any cut is found.
func TestQuantizerStoredForm(t *testing.T) {
	rows, _ := clustered(40, 600, 0, 20, 5)
	for _, codebook := range []Codebook{Sign, Learned} {
		for _, metric := range metrics {
			z, err := Train(t.Context(), rows, Config{Dim: 20, Metric: metric, Codebook: codebook, Lists: 7, Seed: 9})
			if err != nil {
				t.Fatal(err)
			}
			stored := z.AppendBinary([]byte("before"))[6:]
			got, err := DecodeQuantizer(stored)
			if err != nil {
				t.Fatal(err)
			}
			if got.Params != z.Params || got.Rows != 600 || got.Residual != z.Residual || !slices.Equal(got.centroids, z.centroids) ||
				!slices.Equal(got.origin, z.origin) || !slices.Equal(got.entries, z.entries) || !slices.Equal(got.coarse.blocks, z.coarse.blocks) {
				t.Errorf("%v %v: the stored form decodes to something else", metric, codebook)
			}
			for i := range stored {
				damaged := slices.Clone(stored)
				damaged[i] ^= 1 << (i % 8)
				if _, err := DecodeQuantizer(damaged); !errors.Is(err, ErrQuantizerCorrupt) {
					t.Fatalf("byte %d flipped: %v", i, err)
				}
				if _, err := DecodeQuantizer(stored[:i]); !errors.Is(err, ErrQuantizerCorrupt) {
					t.Fatalf("%d bytes: %v", i, err)
				}
			}
		}
	}
}

func TestQuantizerOfANewerVersionIsUnsupported(t *testing.T) {
	z := testQuantizer(t, Params{Dim: 3, Metric: L2, Codebook: Sign}, make([]float32, 32))
	stored := z.AppendBinary(nil)
	stored[8]++
	body := stored[:len(stored)-4]
	binary.LittleEndian.PutUint32(stored[len(body):], crc32.Checksum(body, castagnoli))
	if _, err := DecodeQuantizer(stored); !errors.Is(err, ErrQuantizerVersion) {
		t.Errorf("got %v", err)
	}
}

func TestListOfSkipsEmptyLists(t *testing.T) {
	z := testQuantizer(t, Params{Dim: 16, Metric: L2, Codebook: Sign}, make([]float32, 7*16))
	p, err := NewPostings(z, []List{{0, 0, 0}, {0, 3, 0}, {3, 0, 0}, {3, 0, 0}, {3, 2, 0}, {5, 300, 0}, {305, 0, 0}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for ordinal := range uint32(305) {
		want := uint32(5)
		if ordinal < 5 {
			want = []uint32{1, 1, 1, 4, 4}[ordinal]
		}
		if got, ok := p.ListOf(ordinal); !ok || got != want {
			t.Errorf("row %d is in list %d, %v, want %d", ordinal, got, ok, want)
		}
	}
	if list, ok := p.ListOf(305); ok {
		t.Errorf("row 305 of 305 is in list %d", list)
	}
	q, err := z.Query(make([]float32, 16))
	if err != nil {
		t.Fatal(err)
	}
	out := NewCandidates(3)
	if err := q.ScanList(Probe{List: 2, anchor: 1}, p, nil, nil, 0, out); err != nil || out.Count() != 0 {
		t.Errorf("an empty list gave %v, %v", out.Count(), err)
	}
}

func TestPlan(t *testing.T) {
	lists := make([]List, 100)
	for i := range lists {
		lists[i] = List{First: uint32(200 * i), Count: 200}
	}
	calibration := []Calibration{{0.9, 5, 40}, {0.95, 8, 60}, {0.99, 20, 150}}
	z := testQuantizer(t, Params{Dim: 1, Metric: L2, Codebook: Sign}, make([]float32, 1600))
	p, err := NewPostings(z, lists, calibration)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		recall        float32
		k             int
		nprobe, depth int
	}{
		{0, 10, 5, 40}, {0.9, 10, 5, 40}, {0.91, 10, 8, 60}, {0.99, 10, 20, 150}, {0.95, 1, 8, 60},
		{0.95, 0, 8, 60}, {0.95, 100, 26, 425}, {0.995, 10, 40, 300}, {1, 10, 100, 40000}, {2, 5, 100, 40000},
		{0.9, 10_000, 100, 20000}, {0.9999, 10, 100, 14973}, {0.9, 40_000, 100, 40000},
	} {
		nprobe, depth := p.Plan(c.recall, c.k)
		// The last two digits of the large depths are float32 noise in the recall.
		if nprobe != c.nprobe || math.Abs(float64(depth-c.depth)) > float64(c.depth)/100 {
			t.Errorf("Plan(%v, %d) is %d, %d, want %d, %d", c.recall, c.k, nprobe, depth, c.nprobe, c.depth)
		}
	}
}

// TestPlanBetweenCurves: at a k that was calibrated the effort is what was measured, between two of them no
// less than at the lower and no more than at the higher, and it never falls.
func TestPlanBetweenCurves(t *testing.T) {
	lists := make([]List, 100)
	for i := range lists {
		lists[i] = List{First: uint32(200 * i), Count: 200}
	}
	z := testQuantizer(t, Params{Dim: 1, Metric: L2, Codebook: Sign}, make([]float32, 1600))
	curve := func(k uint32, probes, depth uint32) Curve {
		return Curve{K: k, Points: []Calibration{{0.9, probes, depth}, {0.99, 2 * probes, 2 * depth}}}
	}
	p, err := NewPostings(z, lists, curve(10, 2, 50).Points, curve(100, 1, 400), curve(1000, 40, 3000))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ k, nprobe, depth int }{{1, 2, 50}, {10, 2, 50}, {100, 2, 400}, {1000, 40, 3000}, {316, 12, 1095}, {4000, 80, 9748}} {
		nprobe, depth := p.Plan(0.9, c.k)
		if nprobe != c.nprobe || math.Abs(float64(depth-c.depth)) > float64(c.depth)/50 {
			t.Errorf("Plan(0.9, %d) is %d, %d, want %d, %d", c.k, nprobe, depth, c.nprobe, c.depth)
		}
	}
	lastProbes, lastDepth := 0, 0
	for k := 1; k < 5000; k += 1 + k/50 {
		nprobe, depth := p.Plan(0.95, k)
		if nprobe < lastProbes || depth < lastDepth {
			t.Errorf("for k %d the effort falls from %d, %d to %d, %d", k, lastProbes, lastDepth, nprobe, depth)
		}
		lastProbes, lastDepth = nprobe, depth
	}
	for name, wider := range map[string][]Curve{
		"not above 10":  {curve(10, 1, 1)},
		"not ascending": {curve(100, 1, 1), curve(100, 1, 1)},
		"empty":         {{K: 100}},
		"too many":      {curve(100, 101, 1)},
	} {
		if _, err := NewPostings(z, lists, curve(10, 2, 50).Points, wider...); err == nil {
			t.Errorf("curves %s are accepted", name)
		}
	}
	if _, err := NewPostings(z, lists, nil, curve(100, 1, 1)); err == nil {
		t.Error("a calibration for 100 is accepted without one for 10")
	}
}

// The quick looks at all centroids leave the lists that exact distances would choose.
func TestProbeAgainstExactDistances(t *testing.T) {
	const dim, lists, n, queries = 64, 1500, 8, 50
	rows, held := clustered(41, 6000, queries, dim, 100)
	for _, metric := range metrics {
		z, err := Train(t.Context(), rows, Config{Dim: dim, Metric: metric, Lists: lists})
		if err != nil {
			t.Fatal(err)
		}
		missed, total := 0, 0
		for i := range queries {
			q, err := z.Query(held[i*dim : (i+1)*dim])
			if err != nil {
				t.Fatal(err)
			}
			want := map[uint32]bool{}
			for _, p := range slices.Clone(q.Probe(z.Lists()))[:n] {
				want[p.List] = true
			}
			got := q.Probe(n)
			if len(got) != n || !slices.IsSortedFunc(got, compareProbes) {
				t.Fatalf("%d probes, want %d in order", len(got), n)
			}
			for _, p := range got {
				if !want[p.List] {
					missed++
				}
				total++
			}
			q.Release()
		}
		if missed > total/100 {
			t.Errorf("%v: %d of %d probed lists are not the nearest", metric, missed, total)
		}
	}
}

func TestQueryRejectsWrongVectors(t *testing.T) {
	z := testQuantizer(t, Params{Dim: 3, Metric: L2, Codebook: Sign}, make([]float32, 16))
	for want, v := range map[string][]float32{
		"2 elements, want 3":  {1, 2},
		"component 1 is NaN":  {1, float32(math.NaN()), 0},
		"component 2 is +Inf": {1, 2, float32(math.Inf(1))},
	} {
		if _, err := z.Query(v); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error %v does not say %q", v, err, want)
		}
	}
}

// listBytes are lists in memory.
type listBytes [][]byte

func (l listBytes) List(list uint32) []byte { return l[list] }

func TestReadersRejectWhatIsNotTheList(t *testing.T) {
	rows, _ := clustered(20, 100, 0, 16, 2)
	c := newCorpus(t, rows, Config{Dim: 16, Metric: L2, Kind: Flat})
	q, out := c.query(t, rows[:16]), NewCandidates(100)
	probe := q.Probe(1)[0]
	data := c.list(0)
	z := c.postings.Quantizer()
	scan := func(p Probe, data []byte, allowed Bitmap) error {
		return q.ScanList(p, c.postings, data, allowed, 0, out)
	}
	if err := scan(probe, data[:z.ScanSize(c.Lists[0])], nil); err != nil || out.Count() != 100 {
		t.Errorf("codes alone: %v, %d rows", err, out.Count())
	}
	other := slices.Clone(data)
	binary.LittleEndian.PutUint32(other[8:], 99)
	infinite := slices.Clone(data)
	binary.LittleEndian.PutUint32(infinite, math.Float32bits(float32(math.Inf(1))))
	refine := func(row uint32, data []byte, p Part) error {
		x := NewCandidates(9)
		x.add(1, keyOf(0, row))
		p.Data = listBytes{data}
		_, err := x.Finalists(10, []Part{p})
		return err
	}
	part := Part{Query: q, Postings: c.postings}
	if err := refine(99, data, part); err != nil {
		t.Errorf("refine of the last row: %v", err)
	}
	for name, err := range map[string]error{
		"scan of a cut list":          scan(probe, data[:len(data)-1], nil),
		"scan of nothing":             scan(probe, nil, nil),
		"scan of another list":        scan(Probe{List: 1, anchor: 1}, data, nil),
		"scan of other rows":          scan(probe, other, nil),
		"scan with endless factors":   scan(probe, infinite, nil),
		"scan with a short mask":      scan(probe, data, make(Bitmap, 1)),
		"refine of codes alone":       refine(0, data[:z.ScanSize(c.Lists[0])], part),
		"refine of another row":       refine(100, data, part),
		"refine of another's segment": refine(0, data, Part{}),
	} {
		if err == nil {
			t.Errorf("%s passed", name)
		}
	}
}

// Candidates whose lists are not at hand are finalists by their estimates.
func TestFinalistsWithoutRefineCodes(t *testing.T) {
	const dim = 16
	rows, queries := clustered(23, 400, 1, dim, 4)
	c := newCorpus(t, rows, Config{Dim: dim, Metric: L2, Kind: IVF, Lists: 4})
	q := c.query(t, queries)
	defer q.Release()
	out := NewCandidates(400)
	for _, p := range q.Probe(4) {
		if err := q.ScanList(p, c.postings, c.list(p.List), nil, 0, out); err != nil {
			t.Fatal(err)
		}
	}
	data := make(listBytes, len(c.Lists))
	nearest := q.Probe(1)[0].List
	data[nearest] = c.list(nearest)
	got, err := out.Finalists(2, []Part{{q, c.postings, data}})
	if err != nil {
		t.Fatal(err)
	}
	inside := 0
	for _, key := range got {
		if list, _ := c.postings.ListOf(RowOf(key).Ordinal); list == nearest {
			inside++
		}
	}
	if inside != Finish(2) || len(got) != 2*Finish(2) {
		t.Errorf("%d of %d finalists have refine codes, want %d of %d", inside, len(got), Finish(2), 2*Finish(2))
	}
}

func TestScanningDoesNotAllocate(t *testing.T) {
	rows, queries := clustered(21, 3000, 1, 32, 10)
	c := newCorpus(t, rows, Config{Dim: 32, Metric: Cosine, Kind: IVF})
	q, out := c.query(t, queries), NewCandidates(100)
	parts := []Part{{q, c.postings, c.Index}}
	search := func() {
		out.Reset(100)
		for _, p := range q.Probe(8) {
			if err := q.ScanList(p, c.postings, c.list(p.List), nil, 0, out); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := out.Finalists(10, parts); err != nil {
			t.Fatal(err)
		}
	}
	search() // the collector grows once
	if allocations := testing.AllocsPerRun(20, search); allocations != 0 {
		t.Errorf("a search allocates %v times", allocations)
	}
}

// Queries of one quantizer run side by side, and each finds what it finds alone.
func TestQueriesFromManyGoroutines(t *testing.T) {
	const dim, held = 32, 24
	rows, queries := clustered(22, 2000, held, dim, 10)
	c := newCorpus(t, rows, Config{Dim: dim, Metric: L2, Kind: IVF, CalibrationQueries: 40})
	found := make([][]entry, held)
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
