package columns

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sort"
	"sync/atomic"

	"github.com/parquet-go/parquet-go/format"
)

// ErrUnsupportedVersion is wrapped by Open when the file is of a version this
// program does not read.
var ErrUnsupportedVersion = errors.New("unsupported format version")

// openReadSize is how much of a file's end the first read of Open takes: the
// footer of a file of a million rows, usually.
const openReadSize = 64 << 10

// File reads one data.parquet. It is safe for concurrent use, and calls its
// io.ReaderAt from several goroutines at once. It keeps the places of pages it has looked up (4 to 8 bytes a page) and no
// page.
type File struct {
	r         io.ReaderAt
	dimension int
	rows      int
	groups    []rowGroup
}

type rowGroup struct {
	first  int // ordinal of its first row
	rows   int
	chunks [columnCount]chunk
}

// chunk is one column of one row group: pages back to back.
type chunk struct {
	offset, size           int64
	indexOffset, indexSize int64
	packed                 *packedPages // of a layout, which takes the place of the index in the file
	pages                  atomic.Pointer[pageIndex]
}

// Open reads and checks the footer of a file of size bytes: one ReadAt of the
// last 64 KiB, and a second only if the footer is longer. Page indexes are read
// when a row is first asked for, per row group and column.
func Open(r io.ReaderAt, size int64) (f *File, err error) {
	defer recoverInto(&err)
	meta, err := readFooter(r, size)
	if err != nil {
		return nil, fmt.Errorf("columns: open: %w", err)
	}
	f, err = newFile(r, size, meta)
	if err != nil {
		return nil, fmt.Errorf("columns: open: %w", err)
	}
	return f, nil
}

// recoverInto turns a panic over damaged input into an error: the library
// panics on some, and a server must not die of a file.
func recoverInto(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("columns: damaged parquet file: %v", p)
	}
}

func readFooter(r io.ReaderAt, size int64) (*format.FileMetaData, error) {
	if size < int64(len(parquetMagic)+trailerSize) {
		return nil, fmt.Errorf("file has %d bytes, too few for parquet", size)
	}
	tail := make([]byte, min(size, openReadSize))
	if err := readFull(r, tail, size-int64(len(tail))); err != nil {
		return nil, err
	}
	footerSize, err := footerSizeOf(tail[len(tail)-trailerSize:], size)
	if err != nil {
		return nil, err
	}
	if missing := footerSize + trailerSize - len(tail); missing > 0 {
		whole := make([]byte, footerSize+trailerSize)
		if err := readFull(r, whole[:missing], size-int64(len(whole))); err != nil {
			return nil, err
		}
		copy(whole[missing:], tail)
		tail = whole
	}
	meta, _, err := decodeFooter(tail)
	return meta, err
}

// readFull reads len(p) bytes at offset, and names the range if it cannot.
func readFull(r io.ReaderAt, p []byte, offset int64) error {
	n, err := r.ReadAt(p, offset)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read [%d, %d): got %d bytes: %w", offset, offset+int64(len(p)), n, err)
}

func newFile(r io.ReaderAt, size int64, meta *format.FileMetaData) (*File, error) {
	dimension, err := checkIdentity(meta.KeyValueMetadata)
	if err != nil {
		return nil, err
	}
	if err := checkSchema(meta.Schema); err != nil {
		return nil, err
	}
	f := &File{r: r, dimension: dimension, groups: make([]rowGroup, len(meta.RowGroups))}
	for i := range meta.RowGroups {
		g := &meta.RowGroups[i]
		if g.NumRows < 1 || g.NumRows > math.MaxUint32-int64(f.rows) {
			return nil, fmt.Errorf("row group %d has %d rows after %d, ordinals end at %d", i, g.NumRows, f.rows, uint32(math.MaxUint32))
		}
		f.groups[i].first, f.groups[i].rows = f.rows, int(g.NumRows)
		f.rows += int(g.NumRows)
		if got := len(g.Columns); got != columnCount {
			return nil, fmt.Errorf("row group %d has %d columns, want %d", i, got, columnCount)
		}
		for column := range columnCount {
			if err := f.checkChunk(&f.groups[i], column, &g.Columns[column], size); err != nil {
				return nil, fmt.Errorf("row group %d column %q: %w", i, columnNames[column], err)
			}
		}
	}
	if meta.NumRows != int64(f.rows) {
		return nil, fmt.Errorf("file claims %d rows, its row groups have %d", meta.NumRows, f.rows)
	}
	return f, nil
}

// checkChunk compares what a column chunk claims with what this version writes
// and with the size of the file, and records where it lies.
func (f *File) checkChunk(g *rowGroup, column int, c *format.ColumnChunk, fileSize int64) error {
	m := &c.MetaData
	values, codec, typ := int64(g.rows), format.Uncompressed, format.ByteArray
	switch column {
	case columnVector:
		values, typ = values*int64(f.dimension), format.Float
	case columnMetadata:
		codec = format.Zstd
	case columnSeq:
		typ = format.Int64
	}
	within := func(offset, size int64) bool {
		return offset >= int64(len(parquetMagic)) && size > 0 && size <= math.MaxUint32 && offset <= fileSize-size
	}
	switch {
	case c.FilePath != "":
		return fmt.Errorf("lies in another file %q", c.FilePath)
	case m.Type != typ:
		return fmt.Errorf("has type %v, want %v", m.Type, typ)
	case m.Codec != codec:
		return fmt.Errorf("has codec %v, want %v", m.Codec, codec)
	case m.NumValues != values:
		return fmt.Errorf("has %d values, want %d", m.NumValues, values)
	case m.DictionaryPageOffset != 0 || slices.ContainsFunc(m.Encoding, func(e format.Encoding) bool {
		return e != format.Plain && e != format.RLE
	}):
		return fmt.Errorf("has encodings %v, want PLAIN without a dictionary", m.Encoding)
	case !within(m.DataPageOffset, m.TotalCompressedSize):
		return fmt.Errorf("claims bytes [%d, +%d) of a file of %d", m.DataPageOffset, m.TotalCompressedSize, fileSize)
	case !within(c.OffsetIndexOffset, int64(c.OffsetIndexLength)):
		return fmt.Errorf("claims an offset index at [%d, +%d) of a file of %d", c.OffsetIndexOffset, c.OffsetIndexLength, fileSize)
	case column == columnVector && m.TotalCompressedSize < 4*values:
		return fmt.Errorf("has %d bytes, its %d values need %d", m.TotalCompressedSize, values, 4*values)
	}
	chunk := &g.chunks[column]
	chunk.offset, chunk.size = m.DataPageOffset, m.TotalCompressedSize
	chunk.indexOffset, chunk.indexSize = c.OffsetIndexOffset, int64(c.OffsetIndexLength)
	return nil
}

// Rows is how many rows the file has; ordinals go from 0 to Rows()-1.
func (f *File) Rows() int { return f.rows }

// Dimension is the length of every vector of the file.
func (f *File) Dimension() int { return f.dimension }

// groupOf finds the row group of an ordinal that the file has.
func (f *File) groupOf(ordinal int) *rowGroup {
	i := sort.Search(len(f.groups), func(i int) bool { return f.groups[i].first > ordinal })
	return &f.groups[i-1]
}

func (f *File) checkOrdinal(ordinal uint32) error {
	if int64(ordinal) >= int64(f.rows) {
		return fmt.Errorf("ordinal is %d, file has %d rows", ordinal, f.rows)
	}
	return nil
}
