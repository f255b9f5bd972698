// Package segments is everything at rest: the immutable unit rows are stored
// and searched in.
//
// A segment is two objects over the same rows in the same order. data.parquet
// (package columns) holds ids, vectors, metadata and sequence numbers, and
// opens in any Parquet reader. index.ivf (package ivfpq, laid out in FORMAT.md)
// holds what search needs: posting lists of quantised codes, an id table, and a
// footer with everything a reader wants before its first search.
//
// Inside a segment a row is an ordinal, a uint32 in index order; only this
// package turns ordinals into ids. Builder writes a segment, Reader reads one,
// and View is all segments of one manifest snapshot with their deletes applied.
//
// Everything read is verified: the footer by the manifest, posting lists and id
// blocks by the footer, data.parquet in blocks by the footer.
package segments

import (
	"fmt"

	"github.com/akidb/akidb/segments/columns"
	"github.com/akidb/akidb/segments/ivfpq"
)

// Rows is a set of rows in memory, column by column: all slices have one entry
// a row, Vectors has dim of them.
type Rows struct {
	IDs      []string
	Vectors  []float32 // row-major
	Metadata [][]byte  // a JSON object, or nil
	Seqs     []uint64
}

// Len is the number of rows.
func (r *Rows) Len() int { return len(r.IDs) }

// Append adds one row, copying the vector.
func (r *Rows) Append(row columns.Row) {
	r.IDs = append(r.IDs, row.ID)
	r.Vectors = append(r.Vectors, row.Vector...)
	r.Metadata = append(r.Metadata, row.Metadata)
	r.Seqs = append(r.Seqs, row.Seq)
}

func (r *Rows) row(i, dim int) columns.Row {
	return columns.Row{ID: r.IDs[i], Vector: r.Vectors[i*dim : (i+1)*dim], Metadata: r.Metadata[i], Seq: r.Seqs[i]}
}

func (r *Rows) check(dim int) error {
	n := len(r.IDs)
	if n == 0 || n > maxRows {
		return fmt.Errorf("build segment: %d rows, want 1 to %d", n, maxRows)
	}
	if len(r.Vectors) != n*dim || len(r.Metadata) != n || len(r.Seqs) != n {
		return fmt.Errorf("build segment: %d ids, %d numbers in vectors of %d, %d metadata, %d sequence numbers", n, len(r.Vectors), dim, len(r.Metadata), len(r.Seqs))
	}
	return nil
}

// Metric is the index's name for a collection's metric.
func Metric(name string) (ivfpq.Metric, error) { return ivfpq.ParseMetric(name) }
