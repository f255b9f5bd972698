package columns

import (
	"encoding/binary"
	"fmt"
	"math"
	"unsafe"
)

// Projection says which columns a scan fills in.
type Projection uint8

// Columns of a scan, to be ORed together.
const (
	ProjectID Projection = 1 << iota
	ProjectVector
	ProjectMetadata
	ProjectSeq
	ProjectAll = ProjectID | ProjectVector | ProjectMetadata | ProjectSeq
)

const (
	scanBatchRows  = 1024    // most rows of a batch
	scanBatchBytes = 4 << 20 // most bytes of its vectors, unless one row is more
	scanReadBytes  = 1 << 20 // of a column, per ReadAt, unless one page is more
)

// Scan calls batch with the rows of ordinals from ≤ ordinal < to, in order, up
// to 1024 at a time; fields outside the projection are zero. Rows, vectors and
// metadata are valid until batch returns, ids for good. An error of batch ends
// the scan and is returned as it is.
func (f *File) Scan(from, to uint32, projection Projection, batch func([]Row) error) error {
	if from > to || int64(to) > int64(f.rows) {
		return fmt.Errorf("columns: scan [%d, %d): file has %d rows", from, to, f.rows)
	}
	s := &scan{file: f, batchRows: min(scanBatchRows, max(1, scanBatchBytes/(4*f.dimension)))}
	if projection&ProjectVector != 0 {
		s.levels = newListLevels(f.dimension)
		s.vectors = make([]float32, s.batchRows*f.dimension)
	}
	s.rows = make([]Row, s.batchRows)
	for next := int(from); next < int(to); {
		g := f.groupOf(next)
		end := min(int(to), g.first+g.rows)
		if err := s.openGroup(g, projection, next-g.first, end-g.first); err != nil {
			return fmt.Errorf("columns: scan: %w", err)
		}
		for next < end {
			n := min(s.batchRows, end-next)
			rows := s.rows[:n]
			clear(rows)
			for i := range s.cursors {
				if err := s.fill(&s.cursors[i], rows); err != nil {
					return fmt.Errorf("columns: scan: %w", err)
				}
			}
			if err := batch(rows); err != nil {
				return err
			}
			next += n
		}
	}
	return nil
}

type scan struct {
	file      *File
	batchRows int
	rows      []Row
	vectors   []float32 // of the batch; rows alias it
	levels    listLevels
	cursors   []cursor
}

// cursor walks the pages of one column of one row group.
type cursor struct {
	column  int
	group   *rowGroup
	index   *pageIndex
	next    int    // page to decode next
	last    int    // row of the group where the scan ends
	buffer  []byte // raw pages from next on
	page    page
	row     int // next row of page
	strings [][]byte
}

func (s *scan) openGroup(g *rowGroup, projection Projection, first, last int) error {
	s.cursors = s.cursors[:0]
	for column := range columnCount {
		if projection&(1<<column) == 0 {
			continue
		}
		index, err := s.file.pageIndexOf(g, column)
		if err != nil {
			return err
		}
		c := cursor{column: column, group: g, index: index, next: index.pageOf(first), last: last}
		firstOfPage, _ := index.rows(c.next, g.rows)
		if err := s.decodeNext(&c); err != nil {
			return err
		}
		c.row = first - firstOfPage
		s.cursors = append(s.cursors, c)
	}
	return nil
}

// decodeNext moves to the next page, reading ahead if nothing is buffered.
func (s *scan) decodeNext(c *cursor) error {
	base := c.group.chunks[c.column].offset
	from, to := c.index.bytes(c.next)
	if len(c.buffer) == 0 {
		end := to
		for p := c.next + 1; p < len(c.index.ends) && int(c.index.firstRows[p]) < c.last; p++ {
			_, pageEnd := c.index.bytes(p)
			if pageEnd-from > scanReadBytes {
				break
			}
			end = pageEnd
		}
		c.buffer = make([]byte, end-from)
		if err := readFull(s.file.r, c.buffer, base+from); err != nil {
			return err
		}
	}
	raw := c.buffer[:to-from]
	c.buffer = c.buffer[to-from:]
	first, last := c.index.rows(c.next, c.group.rows)
	p, err := s.file.decodePage(raw, c.column, last-first)
	if err == nil {
		c.page, c.row = p, 0
		err = s.preparePage(c)
	}
	if err != nil {
		return fmt.Errorf("page of %q at [%d, %d): %w", columnNames[c.column], base+from, base+to, err)
	}
	c.next++
	return nil
}

// preparePage checks the values of a fresh page and finds where they start.
func (s *scan) preparePage(c *cursor) error {
	switch c.column {
	case columnVector:
		return c.page.checkLists(s.levels)
	case columnSeq:
		return c.page.checkSeqs()
	}
	c.strings = c.strings[:0]
	return c.page.byteArrays(func(_ int, value []byte) { c.strings = append(c.strings, value) })
}

// fill sets the cursor's field of the next len(rows) rows.
func (s *scan) fill(c *cursor, rows []Row) error {
	for i := range rows {
		if c.row == c.page.rows {
			if err := s.decodeNext(c); err != nil {
				return err
			}
		}
		switch row := &rows[i]; c.column {
		case columnID:
			row.ID = string(c.strings[c.row])
		case columnVector:
			d := s.file.dimension
			row.Vector = s.vectors[i*d : (i+1)*d : (i+1)*d]
			decodeFloats(row.Vector, c.page.values[4*d*c.row:])
		case columnMetadata:
			row.Metadata = c.strings[c.row]
		case columnSeq:
			row.Seq = binary.LittleEndian.Uint64(c.page.values[8*c.row:])
		}
		c.row++
	}
	return nil
}

var hostIsLittleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// decodeFloats reads len(dst) little-endian float32 from b.
func decodeFloats(dst []float32, b []byte) {
	b = b[:4*len(dst)]
	if hostIsLittleEndian && len(dst) > 0 {
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&dst[0])), len(b)), b)
		return
	}
	for i := range dst {
		dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
}
