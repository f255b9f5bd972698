package columns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
)

// A layout says where every page of a data.parquet lies, in a few bits a page,
// so that whoever keeps it reads rows of the file without reading its footer or
// a page index first. FORMAT.md draws it.
const (
	layoutHeadSize  = 4
	layoutGroupSize = 4  // and its chunks
	layoutChunkSize = 28 // and the packed numbers
)

// packing is how the same number of every page but the last of a chunk is
// stored: what it is above the least of them, in as few bits as the most takes.
// The last page has what remains.
type packing struct {
	least uint32
	width uint8 // bits, 0 to 32
}

func packingOf(values []uint32) packing {
	if len(values) == 0 {
		return packing{}
	}
	least, most := uint32(math.MaxUint32), uint32(0)
	for _, v := range values {
		least, most = min(least, v), max(most, v)
	}
	return packing{least, uint8(bits.Len32(most - least))}
}

// size is how many bytes count numbers take.
func (p packing) size(count int) int { return (count*int(p.width) + 7) / 8 }

// append appends the numbers, from the lowest bit of every byte up.
func (p packing) append(dst []byte, values []uint32) []byte {
	var held uint64
	have := 0
	for _, v := range values {
		held |= uint64(v-p.least) << have
		for have += int(p.width); have >= 8; have -= 8 {
			dst = append(dst, byte(held))
			held >>= 8
		}
	}
	if have > 0 {
		dst = append(dst, byte(held))
	}
	return dst
}

// each calls yield with the count numbers in b.
func (p packing) each(b []byte, count int, yield func(uint64)) {
	var held uint64
	have := 0
	for range count {
		for have < int(p.width) {
			held |= uint64(b[0]) << have
			b = b[1:]
			have += 8
		}
		yield(uint64(p.least) + held&(1<<p.width-1))
		held >>= p.width
		have -= int(p.width)
	}
}

// packedPages is the page index of a column chunk as a layout has it.
type packedPages struct {
	count       int
	rows, bytes packing
	numbers     []byte // of rows, then of bytes
}

// AppendLayout appends the layout of f, reading the page indexes that were not
// read yet.
func (f *File) AppendLayout(dst []byte) ([]byte, error) {
	le := binary.LittleEndian
	dst = le.AppendUint32(dst, uint32(len(f.groups)))
	for i := range f.groups {
		g := &f.groups[i]
		dst = le.AppendUint32(dst, uint32(g.rows))
		for column := range columnCount {
			pages, err := f.pageIndexOf(g, column)
			if err != nil {
				return nil, fmt.Errorf("columns: layout: %w", err)
			}
			rows, sizes := make([]uint32, 0, len(pages.ends)-1), make([]uint32, 0, len(pages.ends)-1)
			for page := range cap(rows) {
				first, last := pages.rows(page, g.rows)
				from, to := pages.bytes(page)
				rows, sizes = append(rows, uint32(last-first)), append(sizes, uint32(to-from))
			}
			r, s := packingOf(rows), packingOf(sizes)
			c := &g.chunks[column]
			dst = le.AppendUint64(dst, uint64(c.offset))
			dst = le.AppendUint32(dst, uint32(c.size))
			dst = le.AppendUint32(dst, uint32(len(pages.ends)))
			dst = le.AppendUint32(dst, r.least)
			dst = le.AppendUint32(dst, s.least)
			dst = append(dst, r.width, s.width, 0, 0)
			dst = s.append(r.append(dst, rows), sizes)
		}
	}
	return dst, nil
}

// FromLayout returns the file of size bytes and vectors of the given dimension
// whose layout is b, without reading anything. What it says of a page is checked
// when the page is first wanted. The file keeps b.
func FromLayout(r io.ReaderAt, size int64, dimension int, b []byte) (*File, error) {
	f := &File{r: r, dimension: dimension}
	if dimension < 1 || dimension > MaxDimension {
		return nil, fmt.Errorf("columns: layout: dimension is %d, want 1 to %d", dimension, MaxDimension)
	}
	if len(b) < layoutHeadSize {
		return nil, fmt.Errorf("columns: layout: %w", errLayoutShort)
	}
	groups := binary.LittleEndian.Uint32(b)
	b = b[layoutHeadSize:]
	if int64(groups)*(layoutGroupSize+columnCount*layoutChunkSize) > int64(len(b)) {
		return nil, fmt.Errorf("columns: layout: %d row groups in %d bytes: %w", groups, len(b), errLayoutShort)
	}
	f.groups = make([]rowGroup, groups)
	for i := range f.groups {
		var err error
		if b, err = f.decodeGroup(&f.groups[i], b, size); err != nil {
			return nil, fmt.Errorf("columns: layout: row group %d: %w", i, err)
		}
	}
	if len(b) != 0 {
		return nil, fmt.Errorf("columns: layout: %d bytes follow the last row group", len(b))
	}
	return f, nil
}

// decodeGroup reads a row group from the start of b and returns what follows.
func (f *File) decodeGroup(g *rowGroup, b []byte, fileSize int64) ([]byte, error) {
	if len(b) < layoutGroupSize {
		return nil, errLayoutShort
	}
	rows := binary.LittleEndian.Uint32(b)
	b = b[layoutGroupSize:]
	if rows == 0 || rows > groupRows || int64(rows) > math.MaxUint32-int64(f.rows) {
		return nil, fmt.Errorf("%d rows after %d, want 1 to %d", rows, f.rows, groupRows)
	}
	g.first, g.rows = f.rows, int(rows)
	for column := range columnCount {
		var err error
		if b, err = g.chunks[column].decode(b, g.rows, fileSize); err != nil {
			return nil, fmt.Errorf("column %q: %w", columnNames[column], err)
		}
	}
	f.rows += g.rows
	return b, nil
}

var errLayoutShort = errors.New("data ends too early")

// decode reads where a column chunk and its pages lie from the start of b and
// returns what follows.
func (c *chunk) decode(b []byte, rows int, fileSize int64) ([]byte, error) {
	if len(b) < layoutChunkSize {
		return nil, errLayoutShort
	}
	le := binary.LittleEndian
	c.offset, c.size = int64(le.Uint64(b)), int64(le.Uint32(b[8:]))
	p := &packedPages{
		count: int(le.Uint32(b[12:])),
		rows:  packing{le.Uint32(b[16:]), b[24]},
		bytes: packing{le.Uint32(b[20:]), b[25]},
	}
	if c.offset < int64(len(parquetMagic)) || c.size == 0 || c.offset > fileSize-c.size {
		return nil, fmt.Errorf("claims bytes [%d, +%d) of a file of %d", c.offset, c.size, fileSize)
	}
	if p.count < 1 || p.count > rows || p.rows.width > 32 || p.bytes.width > 32 {
		return nil, fmt.Errorf("has %d pages for %d rows, numbers of %d and %d bits", p.count, rows, p.rows.width, p.bytes.width)
	}
	b = b[layoutChunkSize:]
	size := p.rows.size(p.count-1) + p.bytes.size(p.count-1)
	if size > len(b) {
		return nil, errLayoutShort
	}
	p.numbers = b[:size:size]
	c.packed = p
	return b[size:], nil
}

// unpack returns the page index of a column chunk of so many rows and bytes, and
// checks what readPageIndex checks.
func (p *packedPages) unpack(rows int, size int64) (*pageIndex, error) {
	split := p.rows.size(p.count - 1)
	firsts, err := p.rows.ends(p.numbers[:split], p.count, pageRows, rows)
	if err != nil {
		return nil, fmt.Errorf("rows: %w", err)
	}
	copy(firsts[1:], firsts) // a page starts where the one before ends
	firsts[0] = 0
	ends, err := p.bytes.ends(p.numbers[split:], p.count, int(size), int(size))
	if err != nil {
		return nil, fmt.Errorf("bytes: %w", err)
	}
	return &pageIndex{firstRows: firsts, ends: ends}, nil
}

// ends adds the numbers of pages up. Each is at least 1 and at most most; total
// is what all of them have together.
func (p packing) ends(b []byte, pages, most, total int) ([]uint32, error) {
	out := make([]uint32, 0, pages)
	end := uint64(0)
	var err error
	add := func(n uint64) {
		if err == nil && (n < 1 || n > uint64(most) || end+n > uint64(total)) {
			err = fmt.Errorf("page %d has %d after %d of %d, want 1 to %d", len(out), n, end, total, most)
		}
		if err == nil {
			end += n
			out = append(out, uint32(end))
		}
	}
	p.each(b, pages-1, add)
	add(uint64(total) - end)
	return out, err
}
