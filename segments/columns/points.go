package columns

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
)

// Point reads fetch whole pages. Pages closer than readGap are read as one range
// of up to readLimit bytes; ranges are read at the same time, readParallel of
// them, because to a cold object store a range costs a round trip.
const (
	readGap      = 32 << 10
	readLimit    = 4 << 20
	readParallel = 32
)

// IDs returns the ids of rows, in the order asked for. Ordinals may come in any
// order and repeat; every page is read and decoded once.
func (f *File) IDs(ordinals []uint32) ([]string, error) {
	out := make([]string, len(ordinals))
	err := f.readPoints(columnID, ordinals, func(p *page, picks []pick) error {
		return pickByteArrays(p, picks, func(i int, value []byte) { out[i] = string(value) })
	})
	if err != nil {
		return nil, fmt.Errorf("columns: read ids: %w", err)
	}
	return out, nil
}

// Metadata returns the JSON objects of rows, in the order asked for; nil for a
// row without. Ordinals may come in any order and repeat. The caller owns the
// result.
func (f *File) Metadata(ordinals []uint32) ([][]byte, error) {
	out := make([][]byte, len(ordinals))
	err := f.readPoints(columnMetadata, ordinals, func(p *page, picks []pick) error {
		return pickByteArrays(p, picks, func(i int, value []byte) { out[i] = slices.Clone(value) })
	})
	if err != nil {
		return nil, fmt.Errorf("columns: read metadata: %w", err)
	}
	return out, nil
}

// Seqs returns the sequence numbers of rows, in the order asked for. Ordinals
// may come in any order and repeat.
func (f *File) Seqs(ordinals []uint32) ([]uint64, error) {
	out := make([]uint64, len(ordinals))
	err := f.readPoints(columnSeq, ordinals, func(p *page, picks []pick) error {
		if err := p.checkSeqs(); err != nil {
			return err
		}
		for _, pick := range picks {
			out[pick.index] = binary.LittleEndian.Uint64(p.values[8*pick.row:])
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("columns: read seqs: %w", err)
	}
	return out, nil
}

func (p *page) checkSeqs() error {
	if want := 8 * p.rows; len(p.values) != want {
		return fmt.Errorf("page has %d bytes of values, want %d", len(p.values), want)
	}
	return nil
}

// pick is one asked-for row of a page: index is its place in the result.
type pick struct{ row, index int }

// pickByteArrays hands out the picked rows; picks are sorted by row.
func pickByteArrays(p *page, picks []pick, yield func(index int, value []byte)) error {
	return p.byteArrays(func(row int, value []byte) {
		for len(picks) > 0 && picks[0].row == row {
			yield(picks[0].index, value)
			picks = picks[1:]
		}
	})
}

// wantedPage is a page to read and what to take out of it.
type wantedPage struct {
	from, to int64 // in the file
	rows     int
	picks    []pick
}

// readPoints reads the pages of a column that hold the ordinals and hands each
// to take, once. Calls of take overlap, with different picks.
func (f *File) readPoints(column int, ordinals []uint32, take func(*page, []pick) error) error {
	wanted, err := f.planPoints(column, ordinals)
	if err != nil {
		return err
	}
	spans := spansOf(wanted)
	if len(spans) == 1 {
		return f.readSpan(column, spans[0], take)
	}
	var group errgroup.Group
	group.SetLimit(readParallel)
	for _, span := range spans {
		group.Go(func() error { return f.readSpan(column, span, take) })
	}
	return group.Wait()
}

// planPoints lists the pages that hold the ordinals, in file order.
func (f *File) planPoints(column int, ordinals []uint32) ([]wantedPage, error) {
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
		base := g.chunks[column].offset
		wanted = append(wanted, wantedPage{from: base + from, to: base + to, rows: lastRow - firstRow, picks: order[:n]})
		order = order[n:]
	}
	return wanted, nil
}

// spansOf groups pages that one read should fetch together.
func spansOf(wanted []wantedPage) [][]wantedPage {
	var spans [][]wantedPage
	for from := 0; from < len(wanted); {
		to := from + 1
		for to < len(wanted) && wanted[to].from-wanted[to-1].to <= readGap && wanted[to].to-wanted[from].from <= readLimit {
			to++
		}
		spans = append(spans, wanted[from:to])
		from = to
	}
	return spans
}

func (f *File) readSpan(column int, span []wantedPage, take func(*page, []pick) error) error {
	start := span[0].from
	b := make([]byte, span[len(span)-1].to-start)
	if err := readFull(f.r, b, start); err != nil {
		return err
	}
	for _, w := range span {
		p, err := f.decodePage(b[w.from-start:w.to-start], column, w.rows)
		if err == nil {
			err = take(&p, w.picks)
		}
		if err != nil {
			return fmt.Errorf("page of %q at [%d, %d): %w", columnNames[column], w.from, w.to, err)
		}
	}
	return nil
}
