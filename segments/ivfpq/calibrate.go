package ivfpq

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
)

// Recalls that every index with codes is calibrated for.
var calibratedRecalls = [...]float32{0.90, 0.95, 0.98, 0.99}

const (
	// Queries of a sample: as many as make chance small where an exact answer is cheap.
	calibrationQueries = 320
	cheapQueries       = 800
	cheapElements      = 1 << 24 // of all rows together
	calibrationDepth   = 8192    // the most candidates refined
	// Of the loss that a recall allows, this share may come from lists not probed; lists cost
	// requests, refined candidates only bytes already at hand.
	probeLossShare = 0.75
	// How many standard errors of the measured recall must fit above the one asked for: a
	// sample of queries that was lucky must not promise too much.
	calibrationMargin = 3
	// Of the loss that a recall allows, this share is held back: the queries that come are not
	// quite like the rows that were there. Of 24 builds of 9 500 SIFT descriptors searched for
	// 500 others at 0.95, the worst reached 0.9516 without it.
	reservedLossShare = 0.1
)

// nobody is the self of a query that is no row.
const nobody = math.MaxUint32

// A trial is one query. Its truth is every row at most as far as the tenth nearest, itself not
// counted, so that ties count as found whichever of them is returned.
type trial struct {
	query     []float32
	self      uint32   // the ordinal of the row that the query is, or nobody
	bound     float32  // distance of the tenth nearest
	wanted    int      // 10, or all others in a tiny segment
	truth     []uint32 // ordinals within the bound, at most 40
	listRanks []int    // ascending, for each of the wanted, how many lists must be probed
	found     []int    // of the last run: recall at depths[i], as a count
}

// calibration measures an index through the same calls that a search makes.
type calibration struct {
	*Index
	src    *source
	router *Router
	trials []trial
	depths []int // grid of depths
}

// calibrate searches for a sample of rows, each without finding itself, or of the given queries,
// and stores the least effort that reached each recall.
func (x *Index) calibrate(ctx context.Context, src *source, cfg Config, random *rand.Rand) error {
	router, err := NewRouter(x.Params, x.Centroids, x.Lists, nil)
	if err != nil {
		return err
	}
	count := cfg.CalibrationQueries
	if count == 0 {
		count = calibrationQueries
		if src.count*x.Dim <= cheapElements {
			count = cheapQueries
		}
	}
	c := &calibration{Index: x, src: src, router: router, depths: steps(Finish(calibratedK), min(src.count, calibrationDepth))}
	if given := len(cfg.Queries) / x.Dim; given > 0 {
		for _, i := range sampleRows(given, min(count, given), random) {
			c.addTrial(cfg.Queries[int(i)*x.Dim:(int(i)+1)*x.Dim], nobody)
		}
	} else {
		for _, ordinal := range sampleRows(src.count, min(count, src.count), random) {
			c.addTrial(src.vector(x.Order[ordinal]), ordinal)
		}
	}
	if err := parallel(ctx, src.workers, len(c.trials), func(_, i int) { c.prepare(&c.trials[i]) }); err != nil {
		return err
	}
	return c.fill(ctx)
}

// addTrial leaves out a query that has nothing to find: the only row there is.
func (c *calibration) addTrial(query []float32, self uint32) {
	wanted := min(calibratedK, c.src.count)
	if self != nobody {
		wanted = min(calibratedK, c.src.count-1)
	}
	if wanted > 0 {
		c.trials = append(c.trials, trial{query: query, self: self, wanted: wanted, found: make([]int, len(c.depths))})
	}
}

// steps is a grid from low to high that grows by about a sixth, both ends included.
func steps(low, high int) []int {
	var grid []int
	for at := low; at < high; at += max(1, at/6) {
		grid = append(grid, at)
	}
	return append(grid, high)
}

// fill finds, for each recall, the fewest lists whose rows could reach it, then the least depth
// that does; where no depth does, more lists.
func (c *calibration) fill(ctx context.Context) error {
	grid := steps(1, len(c.Lists))
	at, measured, least := 0, -1, 0
	for _, recall := range calibratedRecalls {
		goal := 1 - (1-float64(recall))*(1-reservedLossShare)
		reach := 1 - (1-goal)*probeLossShare
		for at < len(grid)-1 && c.lowest(func(t *trial) int { return t.within(grid[at]) }) < reach {
			at++
		}
		depth := -1
		for depth < 0 {
			if measured != at {
				if err := c.measure(ctx, grid[at]); err != nil {
					return err
				}
				measured = at
			}
			depth = c.leastDepth(goal)
			if depth < 0 && at == len(grid)-1 {
				depth = len(c.depths) - 1 // all lists, all candidates: nothing is left to add
			}
			if depth < 0 {
				at++
			}
		}
		least = max(least, c.depths[depth]) // with more lists less may do, but effort never falls
		c.Calibration = append(c.Calibration, Calibration{Recall: recall, NProbe: uint32(grid[at]), Depth: uint32(least)})
	}
	return nil
}

// leastDepth is the first of the depths that reached a recall in the last run, or -1.
func (c *calibration) leastDepth(recall float64) int {
	for i := range c.depths {
		if c.lowest(func(t *trial) int { return t.found[i] }) >= recall {
			return i
		}
	}
	return -1
}

// lowest is the recall of all trials, less the margin for chance.
func (c *calibration) lowest(found func(*trial) int) float64 {
	var sum, squares float64
	for i := range c.trials {
		t := &c.trials[i]
		recall := float64(found(t)) / float64(t.wanted)
		sum += recall
		squares += float64(recall * recall)
	}
	n := float64(len(c.trials))
	if n == 0 {
		return 1 // a segment of one row has nobody to miss
	}
	mean := sum / n
	return mean - calibrationMargin*math.Sqrt(max(squares/n-mean*mean, 0)/n)
}

// within is how many of the wanted lie in the first lists probed.
func (t *trial) within(nprobe int) int {
	at, _ := slices.BinarySearch(t.listRanks, nprobe+1)
	return at
}

// prepare finds the truth of a trial by scoring every row.
func (c *calibration) prepare(t *trial) {
	best := NewCandidates(4 * calibratedK)
	var d [1]float32
	for ordinal, row := range c.Order {
		if uint32(ordinal) != t.self {
			Distances(c.Metric, t.query, c.src.vector(row), d[:])
			best.Add(Candidate{Distance: d[0], Ordinal: uint32(ordinal)})
		}
	}
	nearest := best.Sorted()
	t.bound = nearest[t.wanted-1].Distance
	for _, n := range nearest {
		if n.Distance <= t.bound {
			t.truth = append(t.truth, n.Ordinal)
		}
	}
	c.rankLists(t)
}

func (c *calibration) rankLists(t *trial) {
	q := c.query(t)
	defer q.Release()
	ranks := make([]int, len(c.Lists))
	for rank, p := range q.Probe(len(c.Lists)) {
		ranks[p.List] = rank + 1
	}
	for _, ordinal := range t.truth {
		list, _ := c.router.ListOf(ordinal)
		t.listRanks = append(t.listRanks, ranks[list])
	}
	slices.Sort(t.listRanks)
	t.listRanks = t.listRanks[:t.wanted]
}

func (c *calibration) query(t *trial) *Query {
	q, err := c.router.Query(t.query)
	if err != nil {
		panic("BUG: ivfpq: a checked vector is no query: " + err.Error())
	}
	return q
}

func (c *calibration) measure(ctx context.Context, nprobe int) error {
	return parallel(ctx, c.src.workers, len(c.trials), func(_, i int) {
		c.run(&c.trials[i], nprobe)
	})
}

// run searches for one trial and counts, for every depth, the truth among the Finish best.
func (c *calibration) run(t *trial, nprobe int) {
	q := c.query(t)
	defer q.Release()
	deepest := c.depths[len(c.depths)-1]
	estimated := NewCandidates(deepest + 1) // one more: the query's own row
	for _, p := range q.Probe(nprobe) {
		must(q.ScanList(p, c.list(int(p.List)), nil, estimated))
	}
	candidates := slices.DeleteFunc(slices.Clone(estimated.Sorted()), func(x Candidate) bool { return x.Ordinal == t.self })
	for i := range candidates {
		list, _ := c.router.ListOf(candidates[i].Ordinal)
		must(q.RefineList(list, c.list(int(list)), candidates[i:i+1]))
	}
	best := NewCandidates(Finish(calibratedK))
	seen := 0
	for i, depth := range c.depths {
		for ; seen < min(depth, len(candidates)); seen++ {
			best.Add(candidates[seen])
		}
		t.found[i] = c.score(t, best.Sorted())
	}
}

// score counts how many of the wanted are among the finalists, as exact scoring will show.
func (c *calibration) score(t *trial, finalists []Candidate) int {
	hits := 0
	var d [1]float32
	for _, f := range finalists {
		Distances(c.Metric, t.query, c.src.vector(c.Order[f.Ordinal]), d[:])
		if d[0] <= t.bound {
			hits++
		}
	}
	return min(hits, t.wanted)
}

// must is for calls on an index that this process just built.
func must(err error) {
	if err != nil {
		panic("BUG: ivfpq: " + err.Error())
	}
}
