package ivfpq

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
)

// Size classes, by rows. Scanning all codes of FlatRows rows costs less than choosing lists, and
// below ExactRows the vectors themselves are read as fast as codes and refined ones.
const (
	ExactRows = 2_000
	FlatRows  = 20_000
)

// maxRows keeps every ordinal, and one past the last, in a uint32.
const maxRows = math.MaxUint32

// Config says how to build.
type Config struct {
	Dim    int    // elements of a vector, 1..MaxDim
	Metric Metric // how rows are ranked
	Seed   uint64 // of the rotation and of every random choice; any number will do
	Kind   Kind   // Auto (the zero value) chooses by ExactRows and FlatRows

	// Lists is how many lists an IVF trains; 0 means about 4·sqrt(rows). Oversized lists are
	// split afterwards, so that an index may have more, and empty ones dropped.
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
	p := Params{Dim: c.Dim, Metric: c.Metric, Kind: c.Kind}
	if p.Kind == Auto {
		p.Kind = Exact
	}
	errs := []error{p.Validate()}
	for _, field := range []struct {
		name  string
		value int
	}{{"lists", c.Lists}, {"calibration queries", c.CalibrationQueries}, {"workers", c.Workers}} {
		if field.value < 0 {
			errs = append(errs, fmt.Errorf("%s %d, want 0 or more", field.name, field.value))
		}
	}
	return errors.Join(errs...)
}

// Index is a built index, ready to be stored.
type Index struct {
	Params
	Order       []uint32      // Order[ordinal] is the row of the input that stands there
	Lists       []List        // none for Exact
	Centroids   []float32     // len(Lists) × CodeDim, in rotated space
	Calibration []Calibration // ascending recall; none for Exact

	data    []byte
	offsets []int // of list i in data; one more than lists
}

// Build indexes vectors, n rows of cfg.Dim finite elements one after the other, at least one.
// It needs memory for the index, and up to half of the vectors again while it trains, and
// keeps no reference to vectors.
func Build(ctx context.Context, vectors []float32, cfg Config) (*Index, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("build index: %w", err)
	}
	n := len(vectors) / cfg.Dim
	if n == 0 || len(vectors)%cfg.Dim != 0 || n > maxRows {
		return nil, fmt.Errorf("build index: %d elements are not 1..%d rows of %d", len(vectors), uint32(maxRows), cfg.Dim)
	}
	if err := checkFinite(cfg.Queries); err != nil || len(cfg.Queries)%cfg.Dim != 0 {
		return nil, fmt.Errorf("build index: %d query elements, want rows of %d: %w", len(cfg.Queries), cfg.Dim, err)
	}
	longest := 0.0
	for row := range n {
		v := vectors[row*cfg.Dim : (row+1)*cfg.Dim]
		if err := checkFinite(v); err != nil {
			return nil, fmt.Errorf("build index: row %d: %w", row, err)
		}
		longest = max(longest, norm(v))
	}
	x := &Index{Params: Params{Dim: cfg.Dim, Metric: cfg.Metric, Kind: cfg.Kind, Seed: cfg.Seed}}
	if x.Kind == Auto {
		x.Kind = kindFor(n)
	}
	if x.Metric != Cosine {
		x.Exponent = exponentOf(longest)
	}
	if x.Kind == Exact {
		x.Order = sampleRows(n, n, nil)
		return x, nil
	}
	if cfg.Workers == 0 {
		cfg.Workers = runtime.GOMAXPROCS(0)
	}
	if err := x.build(ctx, vectors, cfg); err != nil {
		return nil, fmt.Errorf("build index: %w", err)
	}
	return x, nil
}

func kindFor(rows int) Kind {
	switch {
	case rows < ExactRows:
		return Exact
	case rows < FlatRows:
		return Flat
	}
	return IVF
}

func (x *Index) build(ctx context.Context, vectors []float32, cfg Config) error {
	src, err := newSource(ctx, newSpace(x.Params), vectors, cfg.Workers)
	if err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(cfg.Seed, 1))
	groups := [][]uint32{sampleRows(src.count, src.count, nil)}
	if x.Kind == IVF {
		lists := cfg.Lists
		if lists == 0 {
			lists = listCount(src.count)
		}
		if groups, err = src.partition(ctx, min(lists, src.count), random); err != nil {
			return err
		}
	}
	if groups, err = x.arrange(ctx, src, groups); err != nil {
		return err
	}
	if err := x.encode(ctx, src, groups); err != nil {
		return err
	}
	return x.calibrate(ctx, src, cfg, random)
}

// arrange puts the lists in tour order around the means of their rows, and returns them so.
func (x *Index) arrange(ctx context.Context, src *source, groups [][]uint32) ([][]uint32, error) {
	dim := src.codeDim
	means := make([]float32, len(groups)*dim)
	err := parallel(ctx, src.workers, len(groups), func(_, i int) {
		src.listMean(groups[i], means[i*dim:(i+1)*dim])
	})
	if err != nil {
		return nil, err
	}
	sorted := make([][]uint32, 0, len(groups))
	for _, i := range tour(dim, means) {
		x.Lists = append(x.Lists, List{First: uint32(len(x.Order)), Count: uint32(len(groups[i]))})
		x.Order = append(x.Order, groups[i]...)
		for j, m := range means[i*dim : (i+1)*dim] {
			x.Centroids = append(x.Centroids, m+src.mean[j])
		}
		sorted = append(sorted, groups[i])
	}
	return sorted, nil
}

// listMean writes the mean of a list's rows, relative to the mean of all.
func (s *source) listMean(members []uint32, mean []float32) {
	sum := make([]float64, s.codeDim)
	row := make([]float32, s.codeDim)
	for _, m := range members {
		s.centred(row, m)
		for j, x := range row {
			sum[j] += float64(x)
		}
	}
	for j, x := range sum {
		mean[j] = float32(x / float64(len(members)))
	}
}

func (x *Index) encode(ctx context.Context, src *source, groups [][]uint32) error {
	x.offsets = make([]int, 1, len(groups)+1)
	for _, g := range groups {
		x.offsets = append(x.offsets, x.offsets[len(x.offsets)-1]+ListSize(x.Params, len(g)))
	}
	x.data = make([]byte, x.offsets[len(groups)])
	origin := originOf(src.codeDim, x.Centroids, x.Lists)
	return parallel(ctx, src.workers, len(groups), func(_, i int) {
		e := newEncoder(src.space, origin)
		e.begin(x.list(i), x.Centroids[i*src.codeDim:(i+1)*src.codeDim], len(groups[i]))
		rotated := make([]float32, src.codeDim)
		for j, row := range groups[i] {
			src.rotated(rotated, row)
			zero := !slices.ContainsFunc(src.vector(row), func(v float32) bool { return v != 0 })
			e.row(j, rotated, zero)
		}
	})
}

func (x *Index) list(i int) []byte { return x.data[x.offsets[i]:x.offsets[i+1]:x.offsets[i+1]] }

// AppendList appends the stored bytes of a list, ListSize of them, to dst.
func (x *Index) AppendList(dst []byte, list int) []byte { return append(dst, x.list(list)...) }
