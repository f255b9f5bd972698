package ivfpq

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"

	"github.com/akidb/akidb/kernels"
)

const (
	trainRows     = 64        // sampled rows a centroid
	trainBytes    = 512 << 20 // of sampled rows at the most, down to leastRows a centroid
	leastRows     = 16
	codebookRows  = 20_000 // residuals that a learned codebook is trained on
	codebookSteps = 12     // of Lloyd's algorithm, over 16 entries
)

// Train makes the quantizer of a new epoch from vectors, rows of cfg.Dim finite elements one after
// the other: those of a whole collection, or a fair sample of them. It takes cfg.Lists lists, or
// as many as suit that many rows, and some more where a list would be far larger than the others.
func Train(ctx context.Context, vectors []float32, cfg Config) (*Quantizer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("train quantizer: %w", err)
	}
	count, longest, err := checkRows(vectors, cfg.Dim)
	if err != nil {
		return nil, fmt.Errorf("train quantizer: %w", err)
	}
	src := &source{space: newSpace(cfg.params(longest)), vectors: vectors, count: count, workers: cfg.workers()}
	z, err := src.train(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("train quantizer: %w", err)
	}
	return z, nil
}

func (s *source) train(ctx context.Context, cfg Config) (*Quantizer, error) {
	random := rand.New(rand.NewPCG(cfg.Seed, 1))
	total := max(int(cfg.CollectionRows), s.count)
	lists := cfg.Lists
	if lists == 0 {
		lists = ListCount(total)
	}
	lists = min(lists, s.count)
	origin, err := s.mean(ctx)
	if err != nil {
		return nil, err
	}
	wanted := min(lists*trainRows, max(trainBytes/(4*s.codeDim), lists*leastRows))
	rows, err := s.load(ctx, sampleRows(s.count, min(s.count, wanted), random), origin)
	if err != nil {
		return nil, err
	}
	trained, err := trainCentroids(ctx, s.workers, rows, s.codeDim, lists, random)
	if err != nil {
		return nil, err
	}
	if trained, err = s.splitLarge(ctx, trained, rows); err != nil {
		return nil, err
	}
	// The grid's centroids, not those that were trained, are the quantizer's: storing them costs a
	// byte a dimension and loses nothing, as codes are made around what is stored.
	grid := gridOf(inTour(trained), s.codeDim)
	centroids := grid.expand(s.codeDim)
	residual, own, err := s.residuals(ctx, newClusters(s.codeDim, centroids), rows)
	if err != nil {
		return nil, err
	}
	var entries []float32
	if s.Codebook == Learned {
		entries = s.trainCodebook(ctx, rows, centroids, own, random)
	}
	z, err := newQuantizer(s.Params, origin, nil, grid, entries)
	if err != nil {
		return nil, err
	}
	z.Rows, z.Residual = uint64(total), residual
	return z, ctx.Err()
}

// ListCount is how many lists suit n rows: about four times the square root, with 128 to 512 rows
// a list.
func ListCount(n int) int {
	return max(1, min(max(int(4*math.Sqrt(float64(n))), n/512), n/128))
}

// listCap is the most rows a list may have: 1.6 times the mean. Probed lists are larger than
// the average one, and a cap scans up to a fifth fewer rows at recall 0.95.
func listCap(n, lists int) int { return max(64, n*8/(5*lists)) }

// splitLarge splits lists that have more than their share of the rows, and then lets the rows
// around them choose again.
func (s *source) splitLarge(ctx context.Context, c *clusters, rows []float32) (*clusters, error) {
	n := len(rows) / c.dim
	assigned, err := s.assignTo(ctx, c, rows)
	if err != nil {
		return nil, err
	}
	members := groupRows(assigned, c.count())
	limit := listCap(n, c.count())
	parts := make([][][]uint32, len(members))
	err = parallel(ctx, s.workers, len(members), func(_, i int) { parts[i] = split(rows, c.dim, members[i], limit) })
	if err != nil {
		return nil, err
	}
	groups := slices.Concat(parts...)
	centroids := make([]float32, len(groups)*c.dim)
	for i, g := range groups {
		meanOf(rows, c.dim, g, centroids[i*c.dim:(i+1)*c.dim])
		for _, row := range g {
			assigned[row] = uint32(i)
		}
	}
	out := newClusters(c.dim, centroids)
	if len(groups) == c.count() {
		return out, nil
	}
	return out, out.improve(ctx, s.workers, rows, assigned, splitIterations)
}

// assignTo returns the nearest centroid of each row.
func (s *source) assignTo(ctx context.Context, c *clusters, rows []float32) ([]uint32, error) {
	a, err := newAtlas(ctx, s.workers, c, trainNeighbours)
	if err != nil {
		return nil, err
	}
	n := len(rows) / c.dim
	assigned := make([]uint32, n)
	const batchRows = 4096
	scratch := make([]walker, s.workers)
	return assigned, parallel(ctx, s.workers, (n+batchRows-1)/batchRows, func(worker, batch int) {
		low, high := batch*batchRows, min((batch+1)*batchRows, n)
		scratch[worker].assignRows(a, rows[low*c.dim:high*c.dim], assigned[low:high])
	})
}

// residuals returns the mean squared distance of rows to their centroids, and those centroids.
func (s *source) residuals(ctx context.Context, c *clusters, rows []float32) (float64, []uint32, error) {
	own, err := s.assignTo(ctx, c, rows)
	if err != nil {
		return 0, nil, err
	}
	var total float64
	var square [1]float32
	for i, list := range own {
		kernels.L2Rows(c.row(int(list)), rows[i*c.dim:(i+1)*c.dim], square[:])
		total += float64(square[0])
	}
	return total / float64(len(own)), own, nil
}

// split halves a list until its parts have no more than limit rows; nothing comes of no rows.
func split(rows []float32, dim int, members []uint32, limit int) [][]uint32 {
	switch {
	case len(members) == 0:
		return nil
	case len(members) <= limit:
		return [][]uint32{members}
	}
	low, high := halve(chosen(rows, dim, members), dim, members)
	return append(split(rows, dim, low, limit), split(rows, dim, high, limit)...)
}

// halve divides a list by the plane between two centres: 2-means, or where that leaves one side
// with less than an eighth (duplicates, outliers), in the middle along the same direction.
func halve(rows []float32, dim int, members []uint32) (low, high []uint32) {
	side := make([]float32, len(members))
	a, b := farPair(rows, dim)
	for range 6 {
		square := float32(0)
		direction := make([]float32, dim)
		for j := range direction {
			direction[j] = b[j] - a[j]
			square += float32(direction[j] * (b[j] + a[j]))
		}
		kernels.DotRows(direction, rows, side)
		for i := range side {
			side[i] -= square / 2
		}
		var near, far []uint32
		for i, d := range side {
			if d < 0 {
				near = append(near, uint32(i))
			} else {
				far = append(far, uint32(i))
			}
		}
		meanOf(rows, dim, near, a)
		meanOf(rows, dim, far, b)
	}
	order := newShortlist(len(members))
	below := 0
	for i, d := range side {
		order.add(entry{distance: d, number: uint32(i)})
		if d < 0 {
			below++
		}
	}
	if below < len(members)/8 || below > len(members)-len(members)/8 {
		below = len(members) / 2
	}
	for i, c := range order.sorted() {
		if i < below {
			low = append(low, members[c.number])
		} else {
			high = append(high, members[c.number])
		}
	}
	slices.Sort(low)
	slices.Sort(high)
	return low, high
}

// farPair returns copies of two rows far apart: the furthest from the first, and the furthest
// from that.
func farPair(rows []float32, dim int) (a, b []float32) {
	square := make([]float32, len(rows)/dim)
	pick := rows[:dim]
	furthest := func() []float32 {
		kernels.L2Rows(pick, rows, square)
		best := 0
		for i, d := range square {
			if d > square[best] {
				best = i
			}
		}
		return rows[best*dim : (best+1)*dim]
	}
	pick = furthest()
	return slices.Clone(pick), slices.Clone(furthest())
}

// inTour returns centroids so that neighbours follow each other: from each to the nearest not yet
// visited. Lists probed together then lie together, and are read together.
func inTour(c *clusters) []float32 {
	count, dim := c.count(), c.dim
	rest, left := slices.Clone(c.centroids), make([]int, count)
	for i := range left {
		left[i] = i
	}
	out := make([]float32, 0, len(c.centroids))
	square := make([]float32, count)
	at, here := 0, make([]float32, dim)
	for len(left) > 0 {
		copy(here, rest[at*dim:])
		out = append(out, here...)
		last := len(left) - 1
		copy(rest[at*dim:(at+1)*dim], rest[last*dim:])
		left[at] = left[last]
		left, rest, square = left[:last], rest[:last*dim], square[:last]
		kernels.L2Rows(here, rest, square)
		at = 0
		for i, d := range square {
			if d < square[at] || d == square[at] && left[i] < left[at] {
				at = i
			}
		}
	}
	return out
}

// trainCodebook learns the 16 entries of each sub-quantizer from residuals of rows, scaled to
// length 1: the factors of a code scale it again.
func (s *source) trainCodebook(ctx context.Context, rows, centroids []float32, own []uint32, random *rand.Rand) []float32 {
	dim := s.codeDim
	sample := sampleRows(len(own), min(len(own), codebookRows), random)
	residuals := make([]float32, 0, len(sample)*dim)
	for _, i := range sample {
		r := make([]float32, dim)
		for j, x := range rows[int(i)*dim : (int(i)+1)*dim] {
			r[j] = x - centroids[int(own[i])*dim+j]
		}
		if n := norm(r); n > 0 {
			for j := range r {
				r[j] = float32(float64(r[j]) / n)
			}
		}
		residuals = append(residuals, r...)
	}
	entries := make([]float32, dim*kernels.LUTEntries)
	seeds := make([]uint64, dim/dimsPerCode)
	for i := range seeds {
		seeds[i] = random.Uint64()
	}
	_ = parallel(ctx, s.workers, len(seeds), func(_, m int) { // the caller looks at ctx
		part := make([]float32, 0, len(sample)*dimsPerCode)
		for i := range sample {
			part = append(part, residuals[i*dim+m*dimsPerCode:][:dimsPerCode]...)
		}
		table := (*[dimsPerCode * kernels.LUTEntries]float32)(entries[m*dimsPerCode*kernels.LUTEntries:])
		trainEntries(part, table, rand.New(rand.NewPCG(seeds[m], 2)))
	})
	return entries
}

// trainEntries is k-means over the 4 dimensions of a sub-quantizer.
func trainEntries(rows []float32, table *[dimsPerCode * kernels.LUTEntries]float32, random *rand.Rand) {
	n := len(rows) / dimsPerCode
	for c, i := range sampleRows(n, kernels.LUTEntries, random) {
		for d := range dimsPerCode {
			table[d*kernels.LUTEntries+c] = rows[int(i)*dimsPerCode+d]
		}
	}
	for range codebookSteps {
		var sum [dimsPerCode * kernels.LUTEntries]float64
		var count [kernels.LUTEntries]int
		for i := range n {
			v := (*[dimsPerCode]float32)(rows[i*dimsPerCode:])
			c := nearestEntry(v, table)
			count[c]++
			for d, x := range v {
				sum[d*kernels.LUTEntries+c] += float64(x)
			}
		}
		for c, k := range count {
			for d := range dimsPerCode {
				if k > 0 {
					table[d*kernels.LUTEntries+c] = float32(sum[d*kernels.LUTEntries+c] / float64(k))
				}
			}
		}
	}
}

// params are those of a new quantizer for rows of which the longest is so long.
func (c Config) params(longest float64) Params {
	p := Params{Dim: c.Dim, Metric: c.Metric, Codebook: c.Codebook, Seed: c.Seed}
	if p.Codebook == 0 {
		p.Codebook = Sign
	}
	if p.Metric != Cosine {
		p.Exponent = exponentOf(longest)
	}
	return p
}

func (c Config) workers() int {
	if c.Workers == 0 {
		return runtime.GOMAXPROCS(0)
	}
	return c.Workers
}

// Config says how to train and build.
type Config struct {
	Dim      int      // elements of a vector, 1..MaxDim
	Metric   Metric   // how rows are ranked
	Seed     uint64   // of the rotation and of every random choice; any number will do
	Codebook Codebook // of the scan codes; 0 means Sign
	Kind     Kind     // Auto (the zero value) chooses by ExactRows and FlatRows

	// Quantizer is the collection's. An IVF is built around it; nil trains one from the rows.
	Quantizer *Quantizer
	// Priors are segments of that quantizer of which rows are among the input. Only an IVF uses
	// them.
	Priors []Prior
	// CollectionRows is how many rows the collection has of which the input may be a part; 0 means
	// those of the input. A training makes lists for so many.
	CollectionRows uint64
	// Lists overrides how many lists a training makes; 0 means ListCount of the collection's rows.
	// Oversized lists are split afterwards, so that there may be more.
	Lists int
	// CalibrationQueries is how many vectors are searched for to calibrate; 0 means 320.
	CalibrationQueries int
	// Queries are vectors like those that users search with, row-major, to calibrate with. None
	// means rows of the segment, which is right where queries resemble rows; where they do not
	// (other modality, or inner products of vectors of many lengths), recall falls short of what
	// such a calibration promises.
	Queries []float32
	// Workers is how many goroutines share the work; 0 means GOMAXPROCS. The index does not
	// depend on it.
	Workers int
}

// Validate reports everything that is wrong at once.
func (c Config) Validate() error {
	errs := []error{c.params(1).Validate()}
	if c.Kind > IVF {
		errs = append(errs, fmt.Errorf("kind %d, want 0..3", uint8(c.Kind)))
	}
	for _, field := range []struct {
		name  string
		value int
	}{{"lists", c.Lists}, {"calibration queries", c.CalibrationQueries}, {"workers", c.Workers}} {
		if field.value < 0 {
			errs = append(errs, fmt.Errorf("%s %d, want 0 or more", field.name, field.value))
		}
	}
	if len(c.Priors) > 0 && c.Quantizer == nil {
		errs = append(errs, errors.New("priors without a quantizer"))
	}
	if z := c.Quantizer; z != nil && (z.Dim != c.Dim || z.Metric != c.Metric) {
		errs = append(errs, fmt.Errorf("quantizer of %d dimensions under %v, want %d under %v", z.Dim, z.Metric, c.Dim, c.Metric))
	}
	return errors.Join(errs...)
}
