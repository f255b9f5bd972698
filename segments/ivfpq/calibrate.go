package ivfpq

import (
	"context"
	"math"
	"slices"

	"github.com/akidb/akidb/kernels"
)

// Recalls that every index with codes is calibrated for.
var calibratedRecalls = [...]float32{0.90, 0.95, 0.98, 0.99}

const (
	// Queries of a sample: as many as make chance small where an exact answer is cheap.
	calibrationQueries = 960
	cheapQueries       = 800
	cheapElements      = 1 << 24 // of all rows together
	calibrationDepth   = 8192    // the most candidates refined, or so many
	calibrationFactor  = 16      // times the rows that are scored in the end
	// Of the loss that a recall allows, this share may come from lists not probed; lists cost
	// requests, refined candidates only bytes already at hand.
	probeLossShare = 0.75
	// How many standard errors of the measured recall must fit above the one asked for: a
	// sample of queries that was lucky must not promise too much.
	// With 960 queries that is one point of recall at 0.95; with 320, two, for which a search of a
	// million rows scanned half as many codes again.
	calibrationMargin = 3
	// Of the loss that a recall allows, this share is held back: the queries that come are not
	// quite like the rows that were there. Of 24 builds of 9 500 SIFT descriptors searched for
	// 500 others at 0.95, the worst reached 0.9516 without it.
	reservedLossShare = 0.1
	// Refined distances are good enough to find the nearest rows among so many times as many.
	truthFactor = 4
	// Of many it takes fewer, as those at the end are few of them.
	widerTruthFactor = 2
)

// wider are the other numbers of neighbours calibrated for, each with every so many of the queries: the
// more neighbours a query has, the less its recall is a matter of chance. How the effort grows with k
// depends on the data. Where clusters have 50 rows, the ten nearest took 1 of 500 lists, the hundred nearest
// 34 and the thousand nearest 91; where they have 1 000, it was 7, 8 and 8.
var wider = [...]struct{ k, every int }{{100, 8}, {1000, 32}}

// nobody is the self of a query that is no row.
const nobody = math.MaxUint32

// A trial is one query. Its truth is every row at most as far as the k-th nearest, itself not
// counted, so that ties count as found whichever of them is returned.
type trial struct {
	vector  []float32
	self    uint32 // the ordinal of the row that the query is, or nobody
	query   *Query
	nearest []entry // of the rows but itself, and some more than the most neighbours asked of it
	ranks   []int   // for each of those, how many lists must be probed
	near    int     // lists that are probed in any case, see Query.Choose

	// For the k that is being calibrated:
	bound     float32  // distance of the k-th nearest
	wanted    int      // k, or all others in a tiny segment
	truth     []uint32 // ordinals within the bound, as far as they are among nearest
	isTruth   map[uint32]bool
	listRanks []int // ascending, of the wanted
	found     []int // of the last run: recall at depths[i], as a count
}

// calibration measures an index through the same calls that a search makes.
type calibration struct {
	*Index
	src      *source
	postings *Postings
	all      []trial
	k        int
	trials   []*trial // those for k
	depths   []int    // grid of depths for k
}

// calibrate searches for a sample of rows, each without finding itself, or of the given queries,
// and stores the least effort that reached each recall.
func (x *Index) calibrate(ctx context.Context, src *source, cfg Config) error {
	c, err := x.newCalibration(src, cfg)
	if err != nil {
		return err
	}
	defer c.release()
	if err := c.findTruth(ctx); err != nil {
		return err
	}
	if x.Calibration, err = c.fill(ctx); err != nil {
		return err
	}
	for _, w := range wider {
		if w.k >= src.count {
			break
		}
		c.aim(w.k, w.every)
		points, err := c.fill(ctx)
		if err != nil {
			return err
		}
		x.Wider = append(x.Wider, Curve{K: uint32(w.k), Points: points})
	}
	return nil
}

// aim makes k the number of neighbours to find, for every so many of the trials.
func (c *calibration) aim(k, every int) {
	c.k, c.trials = k, nil
	c.depths = steps(Finish(k), min(2*c.src.count, max(calibrationDepth, calibrationFactor*Finish(k))))
	for i := 0; i < len(c.all); i += every {
		t := &c.all[i]
		t.aim(k, len(c.depths))
		c.trials = append(c.trials, t)
	}
}

func (t *trial) aim(k, depths int) {
	t.wanted = min(k, len(t.nearest))
	t.bound = t.nearest[t.wanted-1].distance
	t.truth, t.listRanks, t.found, t.isTruth = t.truth[:0], t.listRanks[:0], make([]int, depths), map[uint32]bool{}
	for i, n := range t.nearest {
		if n.distance <= t.bound {
			t.truth, t.listRanks = append(t.truth, n.number), append(t.listRanks, t.ranks[i])
			t.isTruth[n.number] = true
		}
	}
	slices.Sort(t.listRanks)
	t.listRanks = t.listRanks[:t.wanted]
}

func (x *Index) newCalibration(src *source, cfg Config) (*calibration, error) {
	postings, err := NewPostings(x.Quantizer, x.Lists, nil)
	if err != nil {
		return nil, err
	}
	c := &calibration{Index: x, src: src, postings: postings}
	count := cfg.CalibrationQueries
	if count == 0 {
		count = calibrationQueries
		if c.cheap() {
			count = cheapQueries
		}
	}
	random := cfg.random()
	if given := len(cfg.Queries) / src.Dim; given > 0 {
		for _, i := range sampleRows(given, min(count, given), random) {
			c.addTrial(cfg.Queries[int(i)*src.Dim:(int(i)+1)*src.Dim], nobody)
		}
	} else {
		for _, ordinal := range sampleRows(src.count, min(count, src.count), random) {
			c.addTrial(src.vector(x.Order[ordinal]), ordinal)
		}
	}
	return c, nil
}

// addTrial leaves out a query that has nothing to find: the only row there is.
func (c *calibration) addTrial(vector []float32, self uint32) {
	if self != nobody && c.src.count == 1 {
		return
	}
	q, err := c.Quantizer.Query(vector)
	must(err)
	c.all = append(c.all, trial{vector: vector, self: self, query: q})
}

func (c *calibration) release() {
	for i := range c.all {
		c.all[i].query.Release()
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
func (c *calibration) fill(ctx context.Context) (points []Calibration, err error) {
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
					return nil, err
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
		points = append(points, Calibration{Recall: recall, NProbe: uint32(grid[at]), Depth: uint32(least)})
	}
	return points, nil
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
	for _, t := range c.trials {
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

// within is how many of the wanted lie in the lists that are chosen for nprobe.
func (t *trial) within(nprobe int) int {
	at, _ := slices.BinarySearch(t.listRanks, max(nprobe, t.near)+1)
	return at
}

// findTruth finds the nearest rows of all trials: the best of all scan codes, of those the best by
// their refine codes, and of those exactly. So many have refine codes looked at that none of the
// nearest is missed; where the segment is small, all.
func (c *calibration) findTruth(ctx context.Context) error {
	depth := 2 * c.src.count
	if !c.cheap() {
		depth = truthDepth + c.src.count/truthShare
	}
	if err := parallel(ctx, c.src.workers, len(c.all), func(_, i int) { c.truthOf(&c.all[i], depth, truthsKept(i, c.src.count)) }); err != nil {
		return err
	}
	c.aim(calibratedK, 1)
	return nil
}

// truthsKept is how many of the nearest of a trial are needed.
func truthsKept(trial, rows int) int {
	kept := truthFactor * calibratedK
	for _, w := range wider {
		if w.k < rows && trial%w.every == 0 {
			kept = widerTruthFactor * w.k
		}
	}
	return kept
}

const (
	truthDepth = 2000
	truthShare = 200 // one in so many rows
	// The truth is looked for in this share of the lists, the nearest: recall 0.99 takes a tenth of them
	// or less, and what lies beyond moves it in the fourth digit.
	truthListShare = 4
)

// cheap says that the truth may take every row.
func (c *calibration) cheap() bool { return c.src.count*c.src.Dim <= cheapElements }

// truthLists is how many of the nearest lists the truth is looked for in.
func (c *calibration) truthLists() int {
	if c.cheap() {
		return len(c.Lists)
	}
	return (len(c.Lists) + truthListShare - 1) / truthListShare
}

func (c *calibration) truthOf(t *trial, depth, kept int) {
	all := NewCandidates(depth)
	for _, p := range t.query.Probe(c.truthLists()) {
		must(t.query.ScanList(p, c.postings, c.list(p.List), nil, 0, all))
	}
	all.shrink()
	all.dedup()
	_, err := all.refine([]Part{{t.query, c.postings, c.Index}})
	must(err)
	near := newShortlist(kept)
	for i, key := range all.keys {
		if ordinal := RowOf(key).Ordinal; ordinal != t.self {
			near.add(entry{distance: all.est[i], number: ordinal})
		}
	}
	c.settleTruth(t, near)
}

func (c *calibration) settleTruth(t *trial, near *shortlist) {
	var d [1]float32
	exact := newShortlist(near.depth)
	for _, n := range near.sorted() {
		Distances(c.src.Metric, t.vector, c.src.vector(c.Order[n.number]), d[:])
		exact.add(entry{distance: d[0], number: n.number})
	}
	t.nearest = exact.sorted()
	c.rankLists(t)
}

// rankLists finds out how many lists must be probed for each of the nearest: up to the nearer of
// the two that have it.
func (c *calibration) rankLists(t *trial) {
	t.near = len(t.query.Choose(1))
	ranks := make([]int, len(c.Lists))
	for rank, p := range t.query.Probe(len(c.Lists)) {
		ranks[p.List] = rank + 1
	}
	for _, n := range t.nearest {
		list, _ := c.postings.ListOf(n.number)
		rank := ranks[list]
		if c.second != nil {
			rank = min(rank, ranks[c.second[n.number]])
		}
		t.ranks = append(t.ranks, rank)
	}
}

func (c *calibration) measure(ctx context.Context, nprobe int) error {
	return parallel(ctx, c.src.workers, len(c.trials), func(_, i int) {
		c.run(c.trials[i], nprobe)
	})
}

// List implements ListData.
func (x *Index) List(list uint32) []byte { return x.list(list) }

// run searches for one trial and counts, for every depth, the truth among the Finish best.
func (c *calibration) run(t *trial, nprobe int) {
	deepest := c.depths[len(c.depths)-1]
	estimated := NewCandidates(deepest + 2) // more by two: the query's own row, spilled
	for _, p := range t.query.Choose(nprobe) {
		must(t.query.ScanList(p, c.postings, c.list(p.List), nil, 0, estimated))
	}
	found := estimated.inOrder()
	best := newShortlist(Finish(c.k))
	seen, entries := map[uint32]bool{t.self: true}, 0
	for i, depth := range c.depths {
		for ; entries < depth && len(found) > 0; found = found[1:] {
			ordinal := found[0].number
			if ordinal == t.self {
				continue // and does not count
			}
			entries++
			if !seen[ordinal] {
				seen[ordinal] = true
				best.add(entry{distance: c.refinedDistance(t, ordinal), number: ordinal})
			}
		}
		t.found[i] = c.score(t, best)
	}
}

// inOrder returns what a search of one segment holds, by estimate; rows that came twice are twice
// there.
func (c *Candidates) inOrder() []entry {
	c.shrink()
	out := make([]entry, len(c.keys))
	for i, key := range c.keys {
		out[i] = entry{c.est[i], RowOf(key).Ordinal}
	}
	slices.SortFunc(out, entry.compare)
	return out
}

func (c *calibration) refinedDistance(t *trial, ordinal uint32) float32 {
	list, _ := c.postings.ListOf(ordinal)
	l := c.Lists[list]
	v, err := c.Quantizer.view(l, c.list(list))
	must(err)
	code, scale, square := v.refineOf(int(ordinal-l.First), c.Quantizer.codeDim)
	var product [1]int32
	kernels.Dot8Rows(t.query.code, code, len(code), product[:])
	return t.query.refined(product[0], scale, square)
}

// score counts how many of the wanted are among the finalists, as exact scoring will show.
func (c *calibration) score(t *trial, finalists *shortlist) int {
	finalists.shrink()
	hits := 0
	for _, ordinal := range finalists.numbers {
		if t.isTruth[ordinal] {
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
