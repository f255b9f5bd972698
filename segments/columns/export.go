package columns

import (
	"fmt"
	"io"
	"strconv"

	"github.com/parquet-go/parquet-go"
)

// exported is a row of an export: the columns of data.parquet, all of them
// compressed, because nobody reads single rows of it by offset.
type exported struct {
	ID       string    `parquet:"id,zstd"`
	Vector   []float32 `parquet:"vector,list,zstd"`
	Metadata *string   `parquet:"metadata,optional,zstd"`
	Seq      *uint64   `parquet:"seq,optional,zstd"` // null where the row has none
}

// exportGroupRows is how many rows a row group of an export has: what a reader
// holds at a time.
const exportGroupRows = 50_000

// ExportWriter streams rows into one Parquet file for other tools, compressed
// with zstd. It holds a row group in memory. It is not safe for concurrent use.
type ExportWriter struct {
	dimension int
	parquet   *parquet.GenericWriter[exported]
	batch     []exported
}

// NewExportWriter starts an export of vectors with the given dimension.
func NewExportWriter(w io.Writer, dimension int) *ExportWriter {
	return &ExportWriter{dimension: dimension, parquet: parquet.NewGenericWriter[exported](w,
		parquet.CreatedBy("akidb", strconv.Itoa(FormatVersion), FormatName),
		parquet.MaxRowsPerRowGroup(exportGroupRows),
		parquet.DataPageStatistics(false),
		parquet.KeyValueMetadata(keyDimension, strconv.Itoa(dimension)),
	)}
}

// Append adds rows in order. It keeps nothing of them after it returns.
func (w *ExportWriter) Append(rows []Row) error {
	w.batch = w.batch[:0]
	for _, r := range rows {
		if len(r.Vector) != w.dimension {
			return fmt.Errorf("columns: export %q: vector has %d values, want %d", r.ID, len(r.Vector), w.dimension)
		}
		out := exported{ID: r.ID, Vector: r.Vector}
		if r.Seq != 0 { // rows as a server hands them out have none
			out.Seq = &r.Seq
		}
		if r.Metadata != nil {
			text := string(r.Metadata)
			out.Metadata = &text
		}
		w.batch = append(w.batch, out)
	}
	if _, err := w.parquet.Write(w.batch); err != nil {
		return fmt.Errorf("columns: export: %w", err)
	}
	return nil
}

// Close writes the footer. The underlying io.Writer stays open.
func (w *ExportWriter) Close() error {
	if err := w.parquet.Close(); err != nil {
		return fmt.Errorf("columns: export: %w", err)
	}
	return nil
}
