package columns

import (
	"fmt"
	"io"
	"math"
	"sort"

	"github.com/parquet-go/parquet-go/format"
)

// pageIndex is where the pages of one column chunk lie. Pages are back to back,
// so ends say everything. Both slices have one element a page.
type pageIndex struct {
	firstRows []uint32 // within the row group
	ends      []uint32 // bytes from the start of the chunk
}

// pageOf finds the page of a row of the row group.
func (p *pageIndex) pageOf(row int) int {
	return sort.Search(len(p.firstRows), func(i int) bool { return int(p.firstRows[i]) > row }) - 1
}

// bytes is the range of a page, header included, from the start of the chunk.
func (p *pageIndex) bytes(page int) (from, to int64) {
	if page > 0 {
		from = int64(p.ends[page-1])
	}
	return from, int64(p.ends[page])
}

// rows is the range of rows of a page, within a row group of groupRows.
func (p *pageIndex) rows(page, groupRows int) (from, to int) {
	if page+1 < len(p.firstRows) {
		groupRows = int(p.firstRows[page+1])
	}
	return int(p.firstRows[page]), groupRows
}

// pageIndexOf returns the page index of a column chunk, reading it the first
// time. Two callers at once may both read it; either result is the same.
func (f *File) pageIndexOf(g *rowGroup, column int) (*pageIndex, error) {
	c := &g.chunks[column]
	if p := c.pages.Load(); p != nil {
		return p, nil
	}
	p, err := f.findPages(c, g.rows)
	if err == nil && column == columnVector {
		err = f.checkVectorPages(p, g.rows)
	}
	if err != nil {
		return nil, fmt.Errorf("pages of %q at [%d, +%d): %w", columnNames[column], c.offset, c.size, err)
	}
	c.pages.Store(p)
	return p, nil
}

func (f *File) findPages(c *chunk, rows int) (*pageIndex, error) {
	if c.packed != nil {
		return c.packed.unpack(rows, c.size)
	}
	p, err := readPageIndex(f.r, c, rows)
	if err != nil {
		return nil, fmt.Errorf("offset index at [%d, +%d): %w", c.indexOffset, c.indexSize, err)
	}
	return p, nil
}

func readPageIndex(r io.ReaderAt, c *chunk, rows int) (_ *pageIndex, err error) {
	defer recoverInto(&err)
	b := make([]byte, c.indexSize)
	if err := readFull(r, b, c.indexOffset); err != nil {
		return nil, err
	}
	var index format.OffsetIndex
	// A page takes four items: itself and three fields.
	if _, err := decodeThrift(b, &index, 8+8*rows); err != nil {
		return nil, err
	}
	locations := index.PageLocations
	if len(locations) == 0 || len(locations) > rows {
		return nil, fmt.Errorf("has %d pages for %d rows", len(locations), rows)
	}
	p := &pageIndex{firstRows: make([]uint32, len(locations)), ends: make([]uint32, len(locations))}
	end, nextRow, limit := c.offset, int64(0), int64(1)
	for i, l := range locations {
		switch {
		case l.Offset != end:
			return nil, fmt.Errorf("page %d is at %d, want %d: pages are back to back", i, l.Offset, end)
		case l.CompressedPageSize < 1:
			return nil, fmt.Errorf("page %d has %d bytes", i, l.CompressedPageSize)
		case l.FirstRowIndex < nextRow, l.FirstRowIndex >= int64(rows), i == 0 && l.FirstRowIndex != 0:
			return nil, fmt.Errorf("page %d starts at row %d of %d", i, l.FirstRowIndex, rows)
		case l.FirstRowIndex >= limit:
			return nil, fmt.Errorf("page %d starts at row %d, more than %d after the one before", i, l.FirstRowIndex, pageRows)
		}
		end += int64(l.CompressedPageSize)
		nextRow, limit = l.FirstRowIndex+1, l.FirstRowIndex+pageRows+1
		if end-c.offset > math.MaxUint32 {
			return nil, fmt.Errorf("pages take more than %d bytes", c.size)
		}
		p.firstRows[i], p.ends[i] = uint32(l.FirstRowIndex), uint32(end-c.offset)
	}
	if int64(rows) >= limit {
		return nil, fmt.Errorf("last page ends at row %d, more than %d after its start", rows, pageRows)
	}
	if end != c.offset+c.size {
		return nil, fmt.Errorf("pages end at %d, the column chunk at %d", end, c.offset+c.size)
	}
	return p, nil
}

// checkVectorPages makes sure that the values of every page fit into it, so that
// arithmetic on them stays inside.
func (f *File) checkVectorPages(p *pageIndex, groupRows int) error {
	for page := range p.ends {
		from, to := p.bytes(page)
		first, last := p.rows(page, groupRows)
		if want := int64(last-first) * int64(4*f.dimension); to-from < want {
			return fmt.Errorf("page %d has %d bytes, its %d vectors need %d", page, to-from, last-first, want)
		}
	}
	return nil
}

// VectorRange is the byte range of the values of one vector: Dimension() float32
// in little-endian order. It is arithmetic on the page index: the values of a
// plain, uncompressed page are its last bytes. Only the first call for a row
// group reads anything.
func (f *File) VectorRange(ordinal uint32) (offset int64, length int, err error) {
	if err := f.checkOrdinal(ordinal); err != nil {
		return 0, 0, fmt.Errorf("columns: vector range: %w", err)
	}
	g := f.groupOf(int(ordinal))
	p, err := f.pageIndexOf(g, columnVector)
	if err != nil {
		return 0, 0, fmt.Errorf("columns: vector range: %w", err)
	}
	row := int(ordinal) - g.first
	page := p.pageOf(row)
	_, end := p.bytes(page)
	_, lastRow := p.rows(page, g.rows)
	length = 4 * f.dimension
	return g.chunks[columnVector].offset + end - int64(lastRow-row)*int64(length), length, nil
}
