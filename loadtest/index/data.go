package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"

	"github.com/akidb/akidb/segments/ivfpq"
)

// dataset is what is searched, for what, and what should be found.
type dataset struct {
	dir, name string
	dim       int
	metric    ivfpq.Metric
	rows      int
	base      []float32 // nil once the segment is there
	queries   []float32
	truth     [][]uint32 // 100 nearest of each query
}

func loadSet(dir string) (*dataset, error) {
	var meta struct {
		Name   string
		Rows   int
		Dim    int
		Metric string
	}
	b, err := os.ReadFile(filepath.Join(dir, "meta.json"))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &meta); err != nil {
		return nil, fmt.Errorf("meta.json: %w", err)
	}
	set := &dataset{dir: dir, name: meta.Name, dim: meta.Dim, rows: meta.Rows}
	if set.metric, err = ivfpq.ParseMetric(meta.Metric); err != nil {
		return nil, err
	}
	if set.queries, err = readVecs(pathIn(set, "query.fvecs"), set.dim, math.Float32frombits); err != nil {
		return nil, err
	}
	const neighbours = 100
	truth, err := readVecs(pathIn(set, "groundtruth.ivecs"), neighbours, func(x uint32) uint32 { return x })
	if err != nil {
		return nil, err
	}
	for ; len(truth) > 0; truth = truth[neighbours:] {
		set.truth = append(set.truth, truth[:neighbours])
	}
	if len(set.truth) != len(set.queries)/set.dim {
		return nil, fmt.Errorf("%d queries and the neighbours of %d", len(set.queries)/set.dim, len(set.truth))
	}
	return set, nil
}

// loadBase reads the rows, which only a build needs.
func (s *dataset) loadBase() (err error) {
	if s.base, err = readVecs(pathIn(s, "base.fvecs"), s.dim, math.Float32frombits); err == nil && len(s.base) != s.rows*s.dim {
		err = fmt.Errorf("base.fvecs has %d rows, meta.json says %d", len(s.base)/s.dim, s.rows)
	}
	return err
}

func (s *dataset) query(i int) []float32 { return s.queries[i*s.dim : (i+1)*s.dim] }

// readVecs reads .fvecs or .ivecs of dim elements.
func readVecs[T any](path string, dim int, decode func(uint32) T) ([]T, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	size := int64(4 * (dim + 1))
	if info.Size()%size != 0 {
		return nil, fmt.Errorf("%s: %d bytes are no rows of %d elements", path, info.Size(), dim)
	}
	out := make([]T, 0, info.Size()/size*int64(dim))
	in := bufio.NewReaderSize(f, 1<<20)
	row := make([]byte, size)
	for range info.Size() / size {
		if _, err := io.ReadFull(in, row); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if got := binary.LittleEndian.Uint32(row); int(got) != dim {
			return nil, fmt.Errorf("%s: a row of %d elements, want %d", path, got, dim)
		}
		for b := row[4:]; len(b) > 0; b = b[4:] {
			out = append(out, decode(binary.LittleEndian.Uint32(b)))
		}
	}
	return out, nil
}
