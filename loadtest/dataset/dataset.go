// Package dataset reads the folders that measurements are made on: base.fvecs, query.fvecs,
// groundtruth.ivecs with the exact 100 nearest rows of every query, and meta.json, as
// ../peers/data.py makes them.
package dataset

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/akidb/akidb/internal/vecfile"
	"github.com/akidb/akidb/segments/ivfpq"
)

// Set is what is searched, for what, and what should be found.
type Set struct {
	Dir, Name string
	Dim       int
	Metric    ivfpq.Metric
	Rows      int
	Base      []float32  // row-major; nil until LoadBase
	Queries   []float32  // row-major
	Truth     [][]uint32 // Neighbours nearest rows of each query, nearest first
}

// Neighbours is how many nearest rows the truth has a query.
const Neighbours = 100

// Load reads all of a folder but the rows.
func Load(dir string) (*Set, error) {
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
	set := &Set{Dir: dir, Name: meta.Name, Dim: meta.Dim, Rows: meta.Rows}
	if set.Metric, err = ivfpq.ParseMetric(meta.Metric); err != nil {
		return nil, err
	}
	if set.Queries, err = readVectors(set.Path("query.fvecs"), set.Dim); err != nil {
		return nil, err
	}
	if set.Truth, err = readTruth(set.Path("groundtruth.ivecs")); err != nil {
		return nil, err
	}
	if len(set.Truth) != len(set.Queries)/set.Dim {
		return nil, fmt.Errorf("%d queries and the neighbours of %d", len(set.Queries)/set.Dim, len(set.Truth))
	}
	return set, nil
}

// LoadBase reads the rows, which only builds and exact answers need.
func (s *Set) LoadBase() (err error) {
	if s.Base, err = readVectors(s.Path("base.fvecs"), s.Dim); err == nil && len(s.Base) != s.Rows*s.Dim {
		err = fmt.Errorf("base.fvecs has %d rows, meta.json says %d", len(s.Base)/s.Dim, s.Rows)
	}
	return err
}

// Path is a file of the folder.
func (s *Set) Path(parts ...string) string {
	return filepath.Join(append([]string{s.Dir}, parts...)...)
}

// Query is the i-th query.
func (s *Set) Query(i int) []float32 { return s.Queries[i*s.Dim : (i+1)*s.Dim] }

// Trim leaves the first count queries, if there are more.
func (s *Set) Trim(count int) {
	if count > 0 && count < len(s.Truth) {
		s.Truth, s.Queries = s.Truth[:count], s.Queries[:count*s.Dim]
	}
}

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
		if len(list) != Neighbours {
			return nil, fmt.Errorf("%s: %d neighbours of query %d, want %d", path, len(list), len(out), Neighbours)
		}
		rows := make([]uint32, len(list))
		for i, row := range list {
			rows[i] = uint32(row)
		}
		out = append(out, rows)
	}
}
