package ivfpq

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// A corpus is an index with its vectors, searched the way a query process does.
type corpus struct {
	*Index
	dim      int
	metric   Metric
	vectors  []float32
	postings *Postings
}

func newCorpus(t testing.TB, vectors []float32, cfg Config) *corpus {
	t.Helper()
	x, err := Build(context.Background(), vectors, cfg)
	if err != nil {
		t.Fatal(err)
	}
	c := &corpus{Index: x, dim: cfg.Dim, metric: cfg.Metric, vectors: vectors}
	if x.Kind == Exact {
		return c
	}
	// What is searched went through its stored form.
	z, err := DecodeQuantizer(x.Quantizer.AppendBinary(nil))
	if err != nil {
		t.Fatal(err)
	}
	if c.postings, err = NewPostings(z, x.Lists, x.Calibration, x.Wider...); err != nil {
		t.Fatal(err)
	}
	for i, l := range x.Lists {
		if got, want := len(x.AppendList(nil, i)), z.ListSize(l); got != want {
			t.Fatalf("list %d has %d bytes, want %d", i, got, want)
		}
	}
	return c
}

func (c *corpus) vector(row int) []float32 { return c.vectors[row*c.dim : (row+1)*c.dim] }

func (c *corpus) query(t testing.TB, vec []float32) *Query {
	t.Helper()
	q, err := c.postings.Quantizer().Query(vec)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// search returns the ordinals of the k best with exact distances, best first.
func (c *corpus) search(t testing.TB, vec []float32, k int, recall float32, allowed Bitmap) []entry {
	t.Helper()
	if c.Kind == Exact {
		return c.exact(vec, k, allowed)
	}
	nprobe, depth := c.postings.Plan(recall, k)
	q := c.query(t, vec)
	defer q.Release()
	candidates := NewCandidates(depth)
	for _, p := range q.Choose(nprobe) {
		if err := q.ScanList(p, c.postings, c.list(p.List), allowed, 0, candidates); err != nil {
			t.Fatal(err)
		}
	}
	return c.finish(t, vec, k, candidates, []Part{{q, c.postings, c.Index}})
}

// finish scores the finalists of a search of one segment.
func (c *corpus) finish(t testing.TB, vec []float32, k int, candidates *Candidates, parts []Part) []entry {
	t.Helper()
	finalists, err := candidates.Finalists(k, parts)
	if err != nil {
		t.Fatal(err)
	}
	best := newShortlist(k)
	for _, key := range finalists {
		row := RowOf(key)
		var d [1]float32
		Distances(c.metric, vec, c.vector(int(c.Order[row.Ordinal])), d[:])
		best.add(entry{d[0], row.Ordinal})
	}
	return best.sorted()
}

// exact is the brute-force oracle.
func (c *corpus) exact(vec []float32, k int, allowed Bitmap) []entry {
	d := make([]float32, len(c.Order))
	Distances(c.metric, vec, c.vectors, d)
	best := newShortlist(k)
	for ordinal, row := range c.Order {
		if allowed == nil || allowed[ordinal/64]>>(ordinal%64)&1 != 0 {
			best.add(entry{d[row], uint32(ordinal)})
		}
	}
	return best.sorted()
}

// recall searches for every query and returns the share of the k nearest that were found; rows
// as near as the k-th count as it.
func (c *corpus) recall(t testing.TB, queries []float32, k int, target float32, allowed Bitmap) float64 {
	t.Helper()
	found, wanted := 0, 0
	for ; len(queries) > 0; queries = queries[c.dim:] {
		truth := c.exact(queries[:c.dim], k, allowed)
		wanted += len(truth)
		for _, x := range c.search(t, queries[:c.dim], k, target, allowed) {
			if x.distance <= truth[len(truth)-1].distance {
				found++
			}
			if allowed != nil && allowed[x.number/64]>>(x.number%64)&1 == 0 {
				t.Fatalf("row %d is masked and was returned", x.number)
			}
		}
	}
	if wanted == 0 {
		return 1
	}
	return float64(found) / float64(wanted)
}

// clustered makes n rows around random centres that share an offset and differ in size and
// shape, and queries of the same distribution that are not among the rows.
func clustered(seed uint64, n, queries, dim, clusters int) (rows, held []float32) {
	random := rand.New(rand.NewPCG(seed, 99))
	centres, shapes := make([]float64, clusters*dim), make([]float64, clusters*dim)
	for i := range centres {
		centres[i] = 3 + random.NormFloat64()
		shapes[i] = math.Exp(random.NormFloat64()/2) * 0.6
	}
	all := make([]float32, (n+queries)*dim)
	for i := range n + queries {
		cluster := int(float64(clusters) * random.Float64() * random.Float64())
		for j := range dim {
			at := cluster*dim + j
			all[i*dim+j] = float32(centres[at] + shapes[at]*random.NormFloat64())
		}
	}
	return all[:n*dim], all[n*dim:]
}

var metrics = []Metric{L2, Dot, Cosine}

// slackRecall is what a calibrated recall may miss on a hundred or so held-out queries: three
// standard errors, as recall@10 of one query deviates by about 0.1.
func slackRecall(queries int) float64 { return 3 * 0.1 / math.Sqrt(float64(queries)) }

func TestRecallReachesItsTarget(t *testing.T) {
	const n, held, dim = 4000, 120, 48
	rows, queries := clustered(1, n, held, dim, 60)
	for _, metric := range metrics {
		for _, kind := range []Kind{Flat, IVF} {
			c := newCorpus(t, rows, Config{Dim: dim, Metric: metric, Seed: 7, Kind: kind})
			for _, cal := range c.Calibration {
				got := c.recall(t, queries, 10, cal.Recall, nil)
				t.Logf("%v %v %+v: recall %.4f", metric, kind, cal, got)
				if got < float64(cal.Recall)-slackRecall(held) {
					t.Errorf("%v %v: recall@10 %.4f, calibrated for %v with %d lists of %d, depth %d", metric, kind, got, cal.Recall, cal.NProbe, len(c.Lists), cal.Depth)
				}
			}
			for _, k := range []int{1, 100} {
				if got := c.recall(t, queries, k, 0.95, nil); got < 0.95-slackRecall(held) {
					t.Errorf("%v %v: recall@%d %.4f, planned for 0.95", metric, kind, k, got)
				}
			}
			if got := c.recall(t, queries[:20*dim], 10, 1, nil); got < 0.999 {
				t.Errorf("%v %v: recall@10 %.4f with everything scanned", metric, kind, got)
			}
		}
	}
}

func TestRecallOfSixtyThousandRows(t *testing.T) {
	const n, held, dim = 60_000, 100, 16
	rows, queries := clustered(2, n, held, dim, 400)
	c := newCorpus(t, rows, Config{Dim: dim, Metric: L2, Seed: 3})
	if c.Kind != IVF {
		t.Fatalf("%d rows are %v, want ivf", n, c.Kind)
	}
	scanned, nprobe := 0, int(c.Calibration[1].NProbe)
	for _, l := range c.Lists {
		scanned += int(l.Count) * nprobe / len(c.Lists)
	}
	if got := c.recall(t, queries, 10, 0.95, nil); got < 0.95-slackRecall(held) {
		t.Errorf("recall@10 %.4f, planned for 0.95: %+v of %d lists", got, c.Calibration, len(c.Lists))
	}
	if scanned > n/4 {
		t.Errorf("recall 0.95 scans %d of %d rows: the lists are of no use", scanned, n)
	}
}

// Inner products of rows whose lengths differ twentyfold with short queries that are unlike them:
// calibration with such queries must hold, at a depth that is of use.
func TestRecallOfRowsOfManyLengths(t *testing.T) {
	const n, held, dim = 3000, 80, 32
	rows, queries := clustered(3, n, 300+held, dim, 30)
	random := rand.New(rand.NewPCG(3, 3))
	for i := range n {
		factor := float32(math.Exp(0.5 * random.NormFloat64()))
		for j := range dim {
			rows[i*dim+j] *= factor
		}
	}
	for i := range queries {
		queries[i] = (queries[i] - 3) * 1e-3
	}
	for _, kind := range []Kind{Flat, IVF} {
		c := newCorpus(t, rows, Config{Dim: dim, Metric: Dot, Seed: 1, Kind: kind, Queries: queries[held*dim:]})
		if got := c.recall(t, queries[:held*dim], 10, 0.95, nil); got < 0.95-slackRecall(held) {
			t.Errorf("%v: recall@10 %.4f with %+v of %d lists", kind, got, c.Calibration, len(c.Lists))
		}
		if depth := c.Calibration[1].Depth; depth > n/10 {
			t.Errorf("%v: depth %d for recall 0.95", kind, depth)
		}
	}
}

// A common offset a thousand times the spread must cost nothing: codes are taken around the mean.
func TestRecallDespiteAnOffset(t *testing.T) {
	const n, held, dim = 3000, 80, 32
	rows, queries := clustered(4, n, held, dim, 30)
	for _, v := range [][]float32{rows, queries} {
		for i := range v {
			v[i] += 1000
		}
	}
	for _, kind := range []Kind{Flat, IVF} {
		c := newCorpus(t, rows, Config{Dim: dim, Metric: L2, Seed: 1, Kind: kind})
		if got := c.recall(t, queries, 10, 0.95, nil); got < 0.95-slackRecall(held) {
			t.Errorf("%v: recall@10 %.4f with %+v", kind, got, c.Calibration)
		}
		if depth := c.Calibration[1].Depth; depth > 200 {
			t.Errorf("%v: depth %d for recall 0.95", kind, depth)
		}
	}
}

func TestMasksAreNeverBroken(t *testing.T) {
	const n, held, dim = 3000, 25, 20
	rows, queries := clustered(5, n, held, dim, 20)
	random := rand.New(rand.NewPCG(5, 5))
	for _, kind := range []Kind{Flat, IVF} {
		c := newCorpus(t, rows, Config{Dim: dim, Metric: L2, Seed: 2, Kind: kind})
		for _, share := range []float64{0, 0.001, 0.01, 0.1, 0.5, 0.99} {
			allowed := make(Bitmap, (n+63)/64)
			for row := range n {
				if random.Float64() < share {
					allowed[row/64] |= 1 << (row % 64)
				}
			}
			// All lists, so that a miss is the mask's fault and not the plan's. recall fails on
			// a masked row.
			if got := c.recall(t, queries, 10, 1, allowed); got < 0.999 {
				t.Errorf("%v share %v: recall@10 %.4f of the allowed rows", kind, share, got)
			}
			for _, l := range c.Lists {
				any := false
				for row := l.First; row < l.First+l.Count; row++ {
					any = any || allowed[row/64]>>(row%64)&1 != 0
				}
				if allowed.Any(l) != any {
					t.Errorf("%v share %v: Any(%v) is %v, want %v", kind, share, l, !any, any)
				}
			}
		}
	}
}

func TestSearchOfEveryShape(t *testing.T) {
	dims := []int{1, 2, 3, 7, 16, 100, 128, 384, 768, 1536}
	for _, dim := range dims {
		for _, n := range []int{1, 2, 31, 32, 33, 1000, 5000} {
			if n*dim > 400_000 {
				continue // the large ones add time and no new case
			}
			for _, kind := range []Kind{Auto, Flat, IVF} {
				metric := metrics[(dim+n)%3]
				t.Run(fmt.Sprintf("%dx%d/%v/%v", n, dim, metric, kind), func(t *testing.T) {
					searchShape(t, n, dim, metric, kind)
				})
			}
		}
	}
}

func searchShape(t *testing.T, n, dim int, metric Metric, kind Kind) {
	const held = 12
	rows, queries := clustered(uint64(n*dim), n, held, dim, 10)
	c := newCorpus(t, rows, Config{Dim: dim, Metric: metric, Seed: 4, Kind: kind, CalibrationQueries: 40})
	checkIndex(t, c)
	for row := range held {
		got := c.search(t, queries[row*dim:(row+1)*dim], 10, 0.95, nil)
		if len(got) != min(10, n) {
			t.Fatalf("%d results, want %d", len(got), min(10, n))
		}
	}
	if got := c.recall(t, queries, 10, 0.95, nil); got < 0.95-slackRecall(held) {
		t.Errorf("recall@10 %.4f, planned for 0.95: %+v", got, c.Calibration)
	}
}

// checkIndex holds what every built index promises.
func checkIndex(t *testing.T, c *corpus) {
	t.Helper()
	sorted := slices.Sorted(slices.Values(c.Order))
	for i, row := range sorted {
		if int(row) != i {
			t.Fatalf("order is no permutation: %d at %d", row, i)
		}
	}
	if len(sorted) != len(c.vectors)/c.dim {
		t.Fatalf("order has %d rows, want %d", len(sorted), len(c.vectors)/c.dim)
	}
	if c.Kind == Exact {
		return
	}
	next := uint32(0)
	for i, l := range c.Lists {
		if l.First != next {
			t.Errorf("list %d is %+v, want rows from %d", i, l, next)
		}
		next += l.Count
	}
	if int(next) != len(c.Order) {
		t.Errorf("lists hold %d rows, want %d", next, len(c.Order))
	}
	for i, cal := range c.Calibration {
		if cal.Recall != calibratedRecalls[i] {
			t.Errorf("calibration %d is for %v", i, cal.Recall)
		}
	}
}

// Segments of other quantizers have scales and origins of their own; their estimates must compare
// all the same.
func TestCandidatesOfSeveralSegments(t *testing.T) {
	const n, dim = 2000, 24
	rows, queries := clustered(6, 2*n, 10, dim, 20)
	for i := range rows[n*dim:] {
		rows[n*dim+i] *= 0.5
	}
	for _, metric := range metrics {
		whole := &corpus{Index: &Index{Order: sampleRows(2*n, 2*n, nil)}, dim: dim, metric: metric, vectors: rows}
		segments := []*corpus{
			newCorpus(t, rows[:n*dim], Config{Dim: dim, Metric: metric, Seed: 2, Kind: IVF}),
			newCorpus(t, rows[n*dim:], Config{Dim: dim, Metric: metric, Seed: 3, Kind: Flat}),
		}
		for rest := queries; len(rest) > 0; rest = rest[dim:] {
			shared, parts := NewCandidates(200), []Part(nil)
			for i, c := range segments {
				q := c.query(t, rest[:dim])
				parts = append(parts, Part{q, c.postings, c.Index})
				q.Relate(parts[0].Query)
				for _, p := range q.Probe(len(c.Lists)) {
					if err := q.ScanList(p, c.postings, c.list(p.List), nil, uint32(i), shared); err != nil {
						t.Fatal(err)
					}
				}
			}
			finalists, err := shared.Finalists(10, parts)
			if err != nil {
				t.Fatal(err)
			}
			found := map[uint32]bool{}
			for _, key := range finalists {
				row := RowOf(key)
				found[row.Segment*n+segments[row.Segment].Order[row.Ordinal]] = true
			}
			missed := 0
			for _, x := range whole.exact(rest[:dim], 10, nil) {
				if !found[whole.Order[x.number]] {
					missed++
				}
			}
			if missed > 1 {
				t.Errorf("%v: %d of the 10 nearest are not among the finalists of both segments", metric, missed)
			}
			for _, p := range parts {
				p.Query.Release()
			}
		}
	}
}
