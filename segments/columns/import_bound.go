package columns

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go/format"
)

// SizeError is that of a file whose rows are larger than asked for.
type SizeError struct{ Size int64 } // bytes, at least

func (e *SizeError) Error() string {
	return fmt.Sprintf("the rows have at least %d bytes", e.Size)
}

// headerSizes are how much of a page to look at for its header: they are small,
// unless they have the least and the largest value of the page, twice.
var headerSizes = []int{512, 16 << 10, 5 * 4 * MaxDimension}

// bound makes sure, from the headers of all pages, that no more than limit bytes
// come out of decompressing them, nor out of a dictionary or runs: there a page
// of a few bytes may stand for millions of vectors.
func (im *Import) bound(r io.ReaderAt, limit int64) error {
	vector := im.vector.onlyLeaf()
	width := int64(4)
	if vector.rep == 0 {
		width = int64(vector.typ.Length())
	}
	b := bufio.NewReaderSize(nil, headerSizes[len(headerSizes)-1])
	pages, numbers := int64(0), int64(0)
	for i, group := range im.file.Metadata().RowGroups {
		for column := range group.Columns {
			err := eachPage(r, b, &group.Columns[column].MetaData, func(p *format.PageHeader) error {
				pages += int64(p.UncompressedPageSize)
				if column == vector.leaf {
					numbers += width * (int64(p.DataPageHeader.V.NumValues) + int64(p.DataPageHeaderV2.V.NumValues))
				} else { // a value is a byte of JSON, at least
					numbers += int64(p.DataPageHeader.V.NumValues) + int64(p.DataPageHeaderV2.V.NumValues)
				}
				if size := max(pages, numbers); size > limit {
					return &SizeError{size}
				}
				return nil
			})
			if err != nil {
				return fmt.Errorf("columns: import: row group %d: column %d: %w", i, column, err)
			}
		}
	}
	return nil
}

// eachPage calls fn with the header of every page of a column chunk. It reads,
// through b, what a reader of the pages reads.
func eachPage(r io.ReaderAt, b *bufio.Reader, chunk *format.ColumnMetaData, fn func(*format.PageHeader) error) error {
	offset := chunk.DataPageOffset
	if chunk.DictionaryPageOffset != 0 {
		offset = chunk.DictionaryPageOffset
	}
	left := chunk.TotalCompressedSize
	if offset < 0 || left < 0 {
		return fmt.Errorf("claims %d bytes at %d", left, offset)
	}
	b.Reset(io.NewSectionReader(r, offset, left))
	for {
		if _, err := b.Peek(1); err == io.EOF {
			return nil
		}
		header, size, err := peekHeader(b)
		if err != nil {
			return fmt.Errorf("page header: %w", err)
		}
		if header.CompressedPageSize < 0 || header.UncompressedPageSize < 0 ||
			header.DataPageHeader.V.NumValues < 0 || header.DataPageHeaderV2.V.NumValues < 0 {
			return errors.New("page header: a negative size")
		}
		if err := fn(header); err != nil {
			return err
		}
		if _, err := b.Discard(size + int(header.CompressedPageSize)); err != nil {
			return fmt.Errorf("page of %d bytes: %w", header.CompressedPageSize, err)
		}
	}
}

func peekHeader(b *bufio.Reader) (header *format.PageHeader, size int, err error) {
	for _, n := range headerSizes {
		text, _ := b.Peek(n)
		header = new(format.PageHeader)
		if size, err = decodeThrift(text, header, 256); !errors.Is(err, errThriftShort) {
			return header, size, err
		}
	}
	return nil, 0, err
}
