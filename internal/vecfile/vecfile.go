// Package vecfile reads files of vectors, and writes those that hold whole rows, one row at a time, in constant memory.
//
// What it promises:
//
//   - Formats: .fvecs, .bvecs, .fbin, .npy, .csv, .jsonl (.ndjson), each also as .gz or .zst, and Parquet through an
//     opener that the caller brings. Neighbour lists (.ivecs) are read by [OpenNeighbours].
//   - Files are not trusted. A header's numbers are checked before anything is allocated; a row that is cut short, too
//     large or malformed is an [*Error] that names the file, the row, the byte offset, what was found and what was
//     wanted. Never a panic, never an allocation that the file's own bytes do not pay for.
//   - Rows are numbered from 0 in file order, malformed rows included, so a row's number never depends on how its
//     neighbours were handled. A row without an id of its own gets its number, which is how neighbour lists name rows.
//
// Little-endian layouts, all of them as their inventors defined them:
//
//	.fvecs   repeated: | d int32 | d x float32 |
//	.bvecs   repeated: | d int32 | d x uint8   |
//	.ivecs   repeated: | k int32 | k x int32   |
//	.fbin    | n int32 | d int32 | n x d x float32 |
//	.npy     | magic, version, header | n x d x float16, float32 or float64, C order |
//
// CSV wants a header line. The vector is one column holding a JSON array, or the columns v0 … vN. The id is an optional
// column. Every other column is metadata: a cell that is exactly a JSON number, true or false has that type, an empty one
// is left out, anything else is a string; a column called "metadata" holds a JSON object whose fields are taken over.
//
// JSONL holds one object a line. Every field besides id, vector and metadata joins the metadata; a blank line is no row.
//
// [Create] writes JSONL, and Parquet through a writer that the caller brings: what [Open] reads back as the same rows, to the bit.
package vecfile

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
)

// MaxDimension is the longest vector a file may hold, in values. It is the product's own limit, and what keeps a hostile
// header from asking for memory.
const MaxDimension = 16384

// Row is one vector and what belongs to it. Vector and Metadata are valid until the next call to Next.
type Row struct {
	ID       string
	Vector   []float32
	Metadata json.RawMessage // a JSON object; nil for none
}

// Reader yields the rows of one file in order. It is used by one goroutine.
type Reader interface {
	// Next returns the row at Position and moves past it; io.EOF after the last. After an *Error that is Skippable the
	// reader stands behind the bad row and Next may be called again; after any other error it may not.
	Next() (Row, error)
	// Skip moves past rows without decoding them, at most to the end of the file.
	Skip(rows int64) error
	// Position is the number of the row that Next will return.
	Position() int64
	// Total is how many rows the file holds, when that is known without reading it.
	Total() (rows int64, known bool)
	Close() error
}

// Options says how to read a file. The zero value reads every format's defaults.
type Options struct {
	// IDPrefix is put before every id, read or made. Empty: none.
	IDPrefix string
	// IDColumn names the column or field that holds the id. Empty: "id", and row numbers when a file has no such column.
	// Formats without columns refuse a name.
	IDColumn string
	// VectorColumn names the column or field that holds the vector. Empty: "vector", and for CSV the columns v0 … vN when
	// there is no column of that name. Formats without columns refuse a name.
	VectorColumn string
	// OpenParquet opens .parquet files. Nil: they are refused. The opener applies IDColumn and VectorColumn; IDPrefix and
	// row numbers for rows with an empty id are applied here.
	OpenParquet func(path string, opts Options) (Reader, error)
}

// Formats is the list of name endings [Open] takes, for help texts.
const Formats = ".fvecs .bvecs .fbin .npy .csv .jsonl .ndjson .parquet, all but .parquet also as .gz or .zst"

// Open opens the file at path, whose name ending says what it holds.
func Open(path string, opts Options) (Reader, error) {
	format, compression := formatOf(path)
	columns := format == ".csv" || format == ".jsonl" || format == ".ndjson" || format == ".parquet"
	if !columns && (opts.IDColumn != "" || opts.VectorColumn != "") {
		return nil, fmt.Errorf("open %q: a %s file has no columns to choose an id or a vector from", path, format)
	}
	if format == ".parquet" {
		return openParquet(path, compression, opts)
	}
	open, ok := map[string]func(*stream, Options) (Reader, error){
		".fvecs": openFvecs, ".bvecs": openBvecs, ".fbin": openFbin, ".npy": openNpy,
		".csv": openCSV, ".jsonl": openJSONL, ".ndjson": openJSONL,
	}[format]
	switch {
	case format == ".ivecs":
		return nil, fmt.Errorf("open %q: an .ivecs file holds lists of neighbours, not vectors", path)
	case !ok:
		return nil, fmt.Errorf("open %q: unknown format %q, want one of %s", path, format, Formats)
	}
	s, err := openStream(path, compression)
	if err != nil {
		return nil, err
	}
	r, err := open(s, opts)
	if err != nil {
		s.Close()
		return nil, err
	}
	return r, nil
}

// formatOf splits "x.fvecs.gz" into ".fvecs" and ".gz".
func formatOf(path string) (format, compression string) {
	name := strings.ToLower(filepath.Base(path))
	if ext := filepath.Ext(name); ext == ".gz" || ext == ".zst" {
		compression, name = ext, strings.TrimSuffix(name, ext)
	}
	return filepath.Ext(name), compression
}

func openParquet(path, compression string, opts Options) (Reader, error) {
	if compression != "" {
		return nil, fmt.Errorf("open %q: a Parquet file is read from both ends and compresses its own pages; unpack the %s first", path, compression)
	}
	if opts.OpenParquet == nil {
		return nil, fmt.Errorf("open %q: Parquet is not built into this program", path)
	}
	r, err := opts.OpenParquet(path, opts)
	if err != nil {
		return nil, err
	}
	return &named{Reader: r, prefix: opts.IDPrefix}, nil
}

// named gives the rows of a reader brought by the caller their final ids.
type named struct {
	Reader
	prefix string
}

func (n *named) Next() (Row, error) {
	at := n.Position()
	row, err := n.Reader.Next()
	if err == nil {
		row.ID = rowID(n.prefix, row.ID, at)
	}
	return row, err
}

func rowID(prefix, id string, row int64) string {
	if id == "" {
		id = strconv.FormatInt(row, 10)
	}
	return prefix + id
}

// Error is a defect of a file: where it lies and what was found there.
type Error struct {
	Path   string
	Row    int64 // -1: before the first row
	Line   int64 // from 1, in formats made of lines; 0 in others
	Offset int64 // of the row's or header's first byte in the unpacked data; -1 when not known
	Cause  error
	// Skippable says that only this row is lost: the rows behind it can still be read.
	Skippable bool
}

func (e *Error) Error() string {
	where := "header"
	if e.Row >= 0 {
		where = "row " + strconv.FormatInt(e.Row, 10)
	}
	switch {
	case e.Line > 0:
		where += " (line " + strconv.FormatInt(e.Line, 10) + ")"
	case e.Offset >= 0:
		where += " at byte " + strconv.FormatInt(e.Offset, 10)
	}
	return fmt.Sprintf("read %q: %s: %v", e.Path, where, e.Cause)
}

func (e *Error) Unwrap() error { return e.Cause }

// errTruncated says how much of a row is there. It is io.ErrUnexpectedEOF to callers who ask.
func errTruncated(got, want int64) error {
	return fmt.Errorf("the file ends after %d of %d bytes: %w", got, want, io.ErrUnexpectedEOF)
}
