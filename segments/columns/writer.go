package columns

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go"
)

// Writer streams rows into one data.parquet. It holds one row group (about
// 64 MiB) and the page index of the whole file (about 20 bytes a page) in
// memory. It is not safe for concurrent use. After an error it stays failed and
// what was written is not a file.
type Writer struct {
	dimension int
	tail      *tailWriter
	parquet   *parquet.GenericWriter[record]
	err       error

	// batch is rows taken but not yet handed to parquet-go; they alias the
	// caller's memory and never outlive a call of Append.
	batch     []record
	rows      int64
	group     extent              // of the open row group
	page      [columnCount]extent // of each column's open page
	pageLimit [columnCount]extent // what ends a page
}

// extent is an amount of rows and of their bytes before compression.
type extent struct {
	rows  int
	bytes int
}

// NewWriter starts a file of vectors with the given dimension.
func NewWriter(w io.Writer, dimension int) (*Writer, error) {
	if dimension < 1 || dimension > MaxDimension {
		return nil, fmt.Errorf("columns: dimension is %d, want 1 to %d", dimension, MaxDimension)
	}
	tail := &tailWriter{w: w}
	vectorPage := extent{rows: rowsPerVectorPage(dimension), bytes: math.MaxInt}
	otherPage := extent{rows: pageRows, bytes: pageBytes}
	return &Writer{
		dimension: dimension,
		tail:      tail,
		batch:     make([]record, 0, vectorPage.rows),
		pageLimit: [columnCount]extent{otherPage, vectorPage, otherPage, otherPage},
		parquet: parquet.NewGenericWriter[record](tail,
			parquet.CreatedBy("akidb", strconv.Itoa(FormatVersion), FormatName),
			parquet.DataPageVersion(2),
			// The writer ends pages itself. This only has to be more than any
			// page it lets grow, and small enough to be a first allocation.
			parquet.PageBufferSize(4*pageBytes),
			// On by default, these put the smallest and the largest value into
			// every page header; and bounds of whole vectors or documents would
			// land in the footer.
			parquet.DataPageStatistics(false),
			parquet.SkipPageBounds("vector", "list", "element"),
			parquet.SkipPageBounds("metadata"),
			parquet.KeyValueMetadata(keyFormat, FormatName),
			parquet.KeyValueMetadata(keyVersion, strconv.Itoa(FormatVersion)),
			parquet.KeyValueMetadata(keyDimension, strconv.Itoa(dimension)),
		),
	}, nil
}

// Append adds rows in order. It keeps nothing of them after it returns. Ids and
// metadata must be UTF-8, or no other tool could read the file.
func (w *Writer) Append(rows []Row) error {
	if w.err != nil {
		return w.err
	}
	for i := range rows {
		if err := w.appendRow(&rows[i]); err != nil {
			w.err = fmt.Errorf("columns: append row %d: %w", w.rows, err)
			return w.err
		}
		w.rows++
	}
	if err := w.writeBatch(); err != nil {
		w.err = fmt.Errorf("columns: append row %d: %w", w.rows, err)
	}
	return w.err
}

func (w *Writer) appendRow(row *Row) error {
	switch {
	case w.rows == math.MaxUint32:
		return fmt.Errorf("file is full: ordinals end at %d", uint32(math.MaxUint32))
	case len(row.Vector) != w.dimension:
		return fmt.Errorf("vector has %d values, want %d", len(row.Vector), w.dimension)
	case !utf8.ValidString(row.ID):
		return fmt.Errorf("id %q is not valid utf-8", row.ID)
	case !utf8.Valid(row.Metadata):
		return fmt.Errorf("metadata of id %q is not valid utf-8", row.ID)
	}
	size := [columnCount]int{len(row.ID), 4 * w.dimension, len(row.Metadata), 8}
	for column, bytes := range size {
		if p := w.page[column]; p.rows > 0 && p.bytes+bytes > w.pageLimit[column].bytes {
			if err := w.endPage(column); err != nil {
				return err
			}
		}
	}
	r := record{ID: row.ID, Vector: row.Vector, Seq: row.Seq}
	if len(row.Metadata) > 0 {
		text := string(row.Metadata)
		r.Metadata = &text
	}
	w.batch = append(w.batch, r)
	w.group.rows++
	for column, bytes := range size {
		w.group.bytes += bytes
		w.page[column].rows++
		w.page[column].bytes += bytes
		if w.page[column].rows == w.pageLimit[column].rows {
			if err := w.endPage(column); err != nil {
				return err
			}
		}
	}
	if w.group.rows >= groupRows || w.group.bytes >= groupBytes {
		return w.endGroup()
	}
	return nil
}

// endPage ends the open page of a column.
func (w *Writer) endPage(column int) error {
	if err := w.writeBatch(); err != nil {
		return err
	}
	w.page[column] = extent{}
	return w.parquet.ColumnWriters()[column].Flush()
}

func (w *Writer) endGroup() error {
	if err := w.writeBatch(); err != nil {
		return err
	}
	w.group, w.page = extent{}, [columnCount]extent{}
	return w.parquet.Flush()
}

// writeBatch hands the batch to parquet-go, which copies it.
func (w *Writer) writeBatch() error {
	if len(w.batch) == 0 {
		return nil
	}
	_, err := w.parquet.Write(w.batch)
	clear(w.batch)
	w.batch = w.batch[:0]
	return err
}

// Rows is how many rows have been appended.
func (w *Writer) Rows() int64 { return w.rows }

// Close writes the page index and the footer. The underlying io.Writer stays
// open. A second Close fails.
func (w *Writer) Close() error {
	if w.err != nil {
		return w.err
	}
	w.err = errors.New("columns: writer is closed")
	if err := w.endGroup(); err != nil {
		return fmt.Errorf("columns: close: %w", err)
	}
	w.tail.hold = true
	if err := w.parquet.Close(); err != nil {
		return fmt.Errorf("columns: close: %w", err)
	}
	if err := w.tail.finish(); err != nil {
		return fmt.Errorf("columns: close: %w", err)
	}
	return nil
}
