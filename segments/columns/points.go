package columns

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
)

// ByteSpan is a run of bytes of a file.
type ByteSpan struct {
	Offset int64
	Length int
}

// Points are rows of a file before they are read. All bytes they take are known
// at once, so that whoever reads them does so in one round, and those of other
// files with them: to a cold object store a round is what costs.
type Points struct {
	file    *File
	rows    int
	vectors []ByteSpan // by row; nil when no vectors are wanted
	pages   [columnCount][]wantedPage
}

// wantedPage is a page to read and what to take out of it.
type wantedPage struct {
	ByteSpan
	rows  int
	picks []pick // by row
}

// pick is one asked-for row of a page: index is its place in the result.
type pick struct{ row, index int }

// Points plans to read the columns of the projection of rows. Ordinals may come
// in any order and repeat; every page is read and decoded once, and of a vector
// its own bytes alone. Nothing is read but the page indexes of a file that was
// opened without a layout, the first time they are needed.
func (f *File) Points(ordinals []uint32, projection Projection) (*Points, error) {
	p := &Points{file: f, rows: len(ordinals)}
	var err error
	if projection&ProjectVector != 0 {
		p.vectors = make([]ByteSpan, len(ordinals))
		for i, ordinal := range ordinals {
			if p.vectors[i].Offset, p.vectors[i].Length, err = f.VectorRange(ordinal); err != nil {
				return nil, err
			}
		}
	}
	for column := range columnCount {
		if column == columnVector || projection&(1<<column) == 0 {
			continue
		}
		if p.pages[column], err = f.planPages(column, ordinals); err != nil {
			return nil, fmt.Errorf("columns: read %q: %w", columnNames[column], err)
		}
	}
	return p, nil
}

// Spans lists what has to be read, in no order.
func (p *Points) Spans() []ByteSpan {
	out := slices.Clone(p.vectors)
	for _, pages := range p.pages {
		for _, w := range pages {
			out = append(out, w.ByteSpan)
		}
	}
	return out
}

// Read fills in the rows, which are as many as were asked for and in their
// order: the fields of the projection, vectors in place, which have to be as
// long as the file's. bytes returns what one of Spans holds; nothing is kept of
// it but for vectors, which are copied.
func (p *Points) Read(rows []Row, bytes func(ByteSpan) []byte) error {
	if len(rows) != p.rows {
		panic(fmt.Sprintf("BUG: %d rows for %d points", len(rows), p.rows))
	}
	for i, span := range p.vectors {
		decodeFloats(rows[i].Vector[:p.file.dimension], bytes(span))
	}
	for column, pages := range p.pages {
		for _, w := range pages {
			page, err := p.file.decodePage(bytes(w.ByteSpan), column, w.rows)
			if err == nil {
				err = page.fill(column, w.picks, rows)
			}
			if err != nil {
				return fmt.Errorf("columns: page of %q at [%d, +%d): %w", columnNames[column], w.Offset, w.Length, err)
			}
		}
	}
	return nil
}

// fill sets the page's field of the picked rows.
func (p *page) fill(column int, picks []pick, rows []Row) error {
	if column == columnSeq {
		if err := p.checkSeqs(); err != nil {
			return err
		}
		for _, pick := range picks {
			rows[pick.index].Seq = binary.LittleEndian.Uint64(p.values[8*pick.row:])
		}
		return nil
	}
	return p.byteArrays(func(row int, value []byte) {
		for ; len(picks) > 0 && picks[0].row == row; picks = picks[1:] {
			if column == columnID {
				rows[picks[0].index].ID = string(value)
			} else {
				rows[picks[0].index].Metadata = slices.Clone(value)
			}
		}
	})
}

func (p *page) checkSeqs() error {
	if want := 8 * p.rows; len(p.values) != want {
		return fmt.Errorf("page has %d bytes of values, want %d", len(p.values), want)
	}
	return nil
}

// planPages lists the pages of a column that hold the ordinals, in file order.
func (f *File) planPages(column int, ordinals []uint32) ([]wantedPage, error) {
	order := make([]pick, len(ordinals))
	for i, ordinal := range ordinals {
		if err := f.checkOrdinal(ordinal); err != nil {
			return nil, err
		}
		order[i] = pick{row: int(ordinal), index: i}
	}
	slices.SortFunc(order, func(a, b pick) int { return cmp.Compare(a.row, b.row) })

	var wanted []wantedPage
	for len(order) > 0 {
		g := f.groupOf(order[0].row)
		index, err := f.pageIndexOf(g, column)
		if err != nil {
			return nil, err
		}
		page := index.pageOf(order[0].row - g.first)
		firstRow, lastRow := index.rows(page, g.rows)
		n := 0
		for n < len(order) && order[n].row < g.first+lastRow {
			order[n].row -= g.first + firstRow
			n++
		}
		from, to := index.bytes(page)
		wanted = append(wanted, wantedPage{
			ByteSpan: ByteSpan{g.chunks[column].offset + from, int(to - from)}, rows: lastRow - firstRow, picks: order[:n],
		})
		order = order[n:]
	}
	return wanted, nil
}
