package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/akidb/akidb/internal/vecfile"
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
	if set.queries, err = readVectors(pathIn(set, "query.fvecs"), set.dim); err != nil {
		return nil, err
	}
	if set.truth, err = readTruth(pathIn(set, "groundtruth.ivecs")); err != nil {
		return nil, err
	}
	if len(set.truth) != len(set.queries)/set.dim {
		return nil, fmt.Errorf("%d queries and the neighbours of %d", len(set.queries)/set.dim, len(set.truth))
	}
	return set, nil
}

// loadBase reads the rows, which only a build needs.
func (s *dataset) loadBase() (err error) {
	if s.base, err = readVectors(pathIn(s, "base.fvecs"), s.dim); err == nil && len(s.base) != s.rows*s.dim {
		err = fmt.Errorf("base.fvecs has %d rows, meta.json says %d", len(s.base)/s.dim, s.rows)
	}
	return err
}

func (s *dataset) query(i int) []float32 { return s.queries[i*s.dim : (i+1)*s.dim] }

// readVectors reads a file of vectors of dim elements, row-major.
func readVectors(path string, dim int) ([]float32, error) {
	in, err := vecfile.Open(path, vecfile.Options{})
	if err != nil {
		return nil, err
	}
	defer in.Close()
	rows, _ := in.Total()
	out := make([]float32, 0, int(rows)*dim)
	for {
		row, err := in.Next()
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		if len(row.Vector) != dim {
			return nil, fmt.Errorf("%s: rows of %d elements, want %d", path, len(row.Vector), dim)
		}
		out = append(out, row.Vector...)
	}
}

// neighbours is how many nearest rows the truth has a query: recall@100 wants them all.
const neighbours = 100

func readTruth(path string) (out [][]uint32, err error) {
	in, err := vecfile.OpenNeighbours(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	for {
		list, err := in.Next()
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		if len(list) != neighbours {
			return nil, fmt.Errorf("%s: %d neighbours of query %d, want %d", path, len(list), len(out), neighbours)
		}
		rows := make([]uint32, len(list))
		for i, row := range list {
			rows[i] = uint32(row)
		}
		out = append(out, rows)
	}
}
