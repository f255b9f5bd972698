package ivfpq

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Size classes, by rows. Scanning all codes of FlatRows rows costs less than choosing lists, and
// below ExactRows the vectors themselves are read as fast as codes and refined ones.
const (
	ExactRows = 2_000
	FlatRows  = 20_000
)

// leastFill is how many rows a list of an IVF has on average at the least: with fewer, most of a
// block of codes is padding, and scanning all of them costs no more.
const leastFill = 8

// maxRows keeps every ordinal, and one past the last, in a uint32.
const maxRows = math.MaxUint32

// Index is a built index, ready to be stored.
type Index struct {
	Kind        Kind
	Quantizer   *Quantizer    // nil for Exact; of its own for Flat; shared, or just trained, for IVF
	Order       []uint32      // Order[ordinal] is the row of the input that stands there
	Lists       []List        // one a list of the quantizer; none for Exact
	Calibration []Calibration // ascending recall; none for Exact
	Wider       []Curve       // ascending k above 10, as far as there are more rows than k
	// Residual is the mean squared distance of rows to their centroids, in scaled space.
	Residual float64

	data    []byte
	offsets []int // of list i in data; one more than lists
	second  []uint32
}

// Build indexes vectors, n rows of cfg.Dim finite elements one after the other, at least one.
// It needs memory for the index, and a part of the vectors again while it trains, and keeps no
// reference to vectors.
func Build(ctx context.Context, vectors []float32, cfg Config) (*Index, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("build index: %w", err)
	}
	count, longest, err := checkRows(vectors, cfg.Dim)
	if err != nil {
		return nil, fmt.Errorf("build index: %w", err)
	}
	if err := checkFinite(cfg.Queries); err != nil || len(cfg.Queries)%cfg.Dim != 0 {
		return nil, fmt.Errorf("build index: %d query elements, want rows of %d: %w", len(cfg.Queries), cfg.Dim, err)
	}
	x := &Index{Kind: cfg.kind(count, longest)}
	if x.Kind == Exact {
		x.Order = sampleRows(count, count, nil)
		return x, nil
	}
	src := &source{space: newSpace(cfg.params(longest)), vectors: vectors, count: count, workers: cfg.workers()}
	if err := x.build(ctx, src, cfg); err != nil {
		return nil, fmt.Errorf("build index: %w", err)
	}
	return x, nil
}

// kind is the size class of so many rows, the longest of that length.
func (c Config) kind(rows int, longest float64) Kind {
	switch {
	case c.Kind != Auto:
		return c.Kind
	case rows < ExactRows:
		return Exact
	case rows < FlatRows, c.Quantizer != nil && (rows < leastFill*c.Quantizer.Lists() || !c.Quantizer.Fits(longest)):
		return Flat
	}
	return IVF
}

func (x *Index) build(ctx context.Context, src *source, cfg Config) error {
	if err := x.choose(ctx, src, cfg); err != nil {
		return err
	}
	src.space = x.Quantizer.space
	rows, known, err := x.assign(ctx, src, cfg.Priors)
	if err != nil {
		return err
	}
	if err := x.encode(ctx, src, rows, known); err != nil {
		return err
	}
	return x.calibrate(ctx, src, cfg)
}

// choose sets the quantizer.
func (x *Index) choose(ctx context.Context, src *source, cfg Config) (err error) {
	switch {
	case x.Kind == Flat:
		origin, err := src.mean(ctx)
		if err != nil {
			return err
		}
		x.Quantizer, err = flatQuantizer(src.Params, origin, src.count)
		return err
	case cfg.Quantizer != nil:
		x.Quantizer = cfg.Quantizer
	default:
		x.Quantizer, err = src.train(ctx, cfg)
	}
	return err
}

// listRows are the rows of a list, by their numbers in the input.
type listRows struct{ own, spilled []uint32 }

// assign chooses the lists of every row and with them the order.
func (x *Index) assign(ctx context.Context, src *source, priors []Prior) ([]listRows, *known, error) {
	z := x.Quantizer
	lists := make([]listRows, z.Lists())
	first := make([]uint32, src.count)
	var second []uint32
	if z.Lists() > 1 {
		second = make([]uint32, src.count)
	}
	known, err := x.takePriors(priors, first, second)
	if err != nil {
		return nil, nil, err
	}
	if second != nil {
		if err := x.assignLists(ctx, src, known, first, second); err != nil {
			return nil, nil, err
		}
	}
	for i, own := range groupRows(first, z.Lists()) {
		lists[i].own = own
		x.Lists = append(x.Lists, List{First: uint32(len(x.Order)), Count: uint32(len(own))})
		x.Order = append(x.Order, own...)
	}
	if second == nil {
		return lists, known, nil
	}
	x.second = make([]uint32, src.count)
	for ordinal, row := range x.Order {
		x.second[ordinal] = second[row]
	}
	for i, ordinals := range groupRows(x.second, z.Lists()) {
		lists[i].spilled = ordinals
		x.Lists[i].Spilled = uint32(len(ordinals))
	}
	return lists, known, nil
}

// assignLists chooses the two lists of every row that has none yet.
func (x *Index) assignLists(ctx context.Context, src *source, known *known, first, second []uint32) error {
	z := x.Quantizer
	var rows []uint32
	for row := range uint32(src.count) {
		if !known.has(row) {
			rows = append(rows, row)
		}
	}
	if len(rows) == 0 {
		return nil
	}
	batches := slices.Collect(slices.Chunk(rows, assignBatch))
	assigners := make([]*assigner, src.workers)
	return parallel(ctx, src.workers, len(batches), func(worker, i int) {
		a := assigners[worker]
		if a == nil {
			a = newAssigner(z)
			assigners[worker] = a
		}
		for _, row := range batches[i] {
			z.load(a.vector, src.vector(row))
			first[row], second[row] = a.assign()
		}
	})
}

// encode writes every list.
func (x *Index) encode(ctx context.Context, src *source, lists []listRows, known *known) error {
	x.layOut()
	sums := make([]residualSum, len(lists))
	errs := make([]error, len(lists))
	err := parallel(ctx, src.workers, len(lists), func(_, i int) {
		errs[i] = x.encodeList(src, uint32(i), lists[i], known, &sums[i])
	})
	if err := errors.Join(append(errs, err)...); err != nil {
		return err
	}
	var total residualSum
	for _, s := range sums {
		total.square += s.square
		total.rows += s.rows
	}
	x.Residual = x.Quantizer.Residual // where nothing was coded, nothing can have drifted
	if total.rows > 0 {
		x.Residual = total.square / float64(total.rows)
	}
	return nil
}

// residualSum is the squared length of the residuals of rows that were coded.
type residualSum struct {
	square float64
	rows   int
}

func (x *Index) encodeList(src *source, list uint32, rows listRows, known *known, sum *residualSum) error {
	views, err := known.views(list)
	if err != nil {
		return err
	}
	z, l := x.Quantizer, x.Lists[list]
	e, y := newEncoder(z), make([]float32, z.codeDim)
	w := listWriter{shape: z.shape}
	w.begin(l, x.list(list))
	code := func(row uint32, at int) (extra float32) {
		extra = z.load(y, src.vector(row))
		add, res := e.scan(y, list, extra, w.scan.nibbles(at))
		w.scan.put(at, add, res)
		return extra
	}
	for j, row := range rows.own {
		if known.has(row) {
			known.copyOwn(&w, j, row, list, views)
			continue
		}
		extra := code(row, j)
		sum.square += float64(dot(e.residual, e.residual))
		sum.rows++
		scale, square := e.refine(y, extra, w.refineSlot(j))
		w.putRefineFactors(j, scale, square)
	}
	for j, ordinal := range rows.spilled {
		row, at := x.Order[ordinal], l.spillStart()+j
		if known.has(row) {
			known.copySpilled(&w, at, row, list, views)
			continue
		}
		code(row, at)
	}
	w.spilled = append(w.spilled, rows.spilled...)
	w.finish()
	return nil
}

// layOut makes room for the lists.
func (x *Index) layOut() {
	x.offsets = make([]int, 1, len(x.Lists)+1)
	for _, l := range x.Lists {
		x.offsets = append(x.offsets, x.offsets[len(x.offsets)-1]+x.Quantizer.ListSize(l))
	}
	x.data = make([]byte, x.offsets[len(x.Lists)])
}

// load writes a user's vector to y, rotated and less the origin, and returns what its squared
// length is to be counted more.
func (z *Quantizer) load(y, v []float32) (extra float32) {
	z.rotate(y, v, z.rowFactor(v))
	for j, o := range z.origin {
		y[j] -= o
	}
	// Under Cosine a zero vector is treated as a unit vector at a right angle to everything, so
	// that its estimate is that of cosine 0, as its score is.
	if z.Metric == Cosine && !slices.ContainsFunc(v, func(x float32) bool { return x != 0 }) {
		return 1
	}
	return 0
}

func (x *Index) list(i uint32) []byte { return x.data[x.offsets[i]:x.offsets[i+1]:x.offsets[i+1]] }

// AppendList appends the stored bytes of a list, ListSize of them, to dst.
func (x *Index) AppendList(dst []byte, list int) []byte {
	return append(dst, x.list(uint32(list))...)
}

// random draws what calibration samples; training has a sequence of its own, so that the sample
// does not depend on whether the quantizer was at hand.
func (c Config) random() *rand.Rand { return rand.New(rand.NewPCG(c.Seed, 3)) }
