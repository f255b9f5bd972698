// Command clustered writes a data set to measure with: clustered vectors, as
// embeddings are, queries from the same clusters, and their exact nearest
// neighbours. The same flags give the same files on every machine.
//
//	go run ./loadtest/clustered --rows 200000 --dim 128 --out /tmp/clustered
//	akidb import /tmp/clustered/base.fvecs --collection c --create --metric l2 --flush
//	akidb search --collection c --queries /tmp/clustered/query.fvecs --groundtruth /tmp/clustered/groundtruth.ivecs
package main

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"github.com/akidb/akidb/kernels"
)

// neighbours is how many nearest rows the ground truth has a query.
const neighbours = 100

func main() {
	rows := flag.Int("rows", 100_000, "vectors to search in")
	dim := flag.Int("dim", 128, "numbers a vector")
	clusters := flag.Int("clusters", 1000, "clusters they lie in")
	queries := flag.Int("queries", 1000, "vectors to search for")
	seed := flag.Uint64("seed", 1, "of everything random")
	out := flag.String("out", "", "`DIR` for base.fvecs, query.fvecs and groundtruth.ivecs")
	flag.Parse()
	if *out == "" || *rows < neighbours || *dim < 1 || *clusters < 1 || *queries < 1 || flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "clustered: want --out DIR, at least %d rows, and at least one of everything else\n", neighbours)
		os.Exit(2)
	}
	if err := run(*out, *rows, *dim, *clusters, *queries, *seed); err != nil {
		fmt.Fprintln(os.Stderr, "clustered:", err)
		os.Exit(1)
	}
}

func run(out string, rows, dim, clusters, queries int, seed uint64) error {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	g := newGenerator(rand.New(rand.NewPCG(seed, 0)), clusters, dim)
	base, query := g.draw(rows), g.draw(queries)
	if err := write(filepath.Join(out, "base.fvecs"), dim, base, math.Float32bits); err != nil {
		return err
	}
	if err := write(filepath.Join(out, "query.fvecs"), dim, query, math.Float32bits); err != nil {
		return err
	}
	return write(filepath.Join(out, "groundtruth.ivecs"), neighbours, nearest(base, query, dim), func(row uint32) uint32 { return row })
}

// generator draws vectors around centres, each cluster with a width of its own
// in every dimension.
type generator struct {
	rng             *rand.Rand
	dim             int
	centres, widths []float32
}

func newGenerator(rng *rand.Rand, clusters, dim int) *generator {
	g := &generator{rng: rng, dim: dim}
	for range clusters * dim {
		g.centres = append(g.centres, float32(rng.NormFloat64()))
		g.widths = append(g.widths, float32(0.25+0.5*rng.Float64()))
	}
	return g
}

func (g *generator) draw(n int) []float32 {
	out := make([]float32, 0, n*g.dim)
	for range n {
		at := g.rng.IntN(len(g.centres)/g.dim) * g.dim
		for d := range g.dim {
			out = append(out, g.centres[at+d]+float32(g.widths[at+d]*float32(g.rng.NormFloat64())))
		}
	}
	return out
}

// nearest returns the rows nearest to every query, best first, ties by row.
func nearest(base, query []float32, dim int) []uint32 {
	n, queries := len(base)/dim, len(query)/dim
	out := make([]uint32, queries*neighbours)
	next := make(chan int, queries)
	for q := range queries {
		next <- q
	}
	close(next)
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			distances, order := make([]float32, n), make([]uint32, n)
			for q := range next {
				kernels.L2Rows(query[q*dim:(q+1)*dim], base, distances)
				for i := range order {
					order[i] = uint32(i)
				}
				slices.SortFunc(order, func(a, b uint32) int {
					return cmp.Or(cmp.Compare(distances[a], distances[b]), cmp.Compare(a, b))
				})
				copy(out[q*neighbours:], order[:neighbours])
			}
		})
	}
	workers.Wait()
	return out
}

// write writes rows of width values in the .fvecs and .ivecs layout: the width,
// then the values, all 32 bits, little-endian.
func write[T any](path string, width int, values []T, bits func(T) uint32) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	row := make([]byte, 0, 4*(width+1))
	for part := range slices.Chunk(values, width) {
		row = binary.LittleEndian.AppendUint32(row[:0], uint32(width))
		for _, v := range part {
			row = binary.LittleEndian.AppendUint32(row, bits(v))
		}
		if _, err := w.Write(row); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}
