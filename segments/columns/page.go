package columns

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go/encoding/rle"
	"github.com/parquet-go/parquet-go/format"
)

// maxPageSize bounds a page before compression. The writer ends pages near 64
// KiB; only a single larger value makes one that is bigger.
const maxPageSize = 256 << 20

// page is a decoded page: its levels and its values, PLAIN.
type page struct {
	rows       int
	repetition []byte // one level a value; nil where the column has none
	definition []byte
	values     []byte
}

var levelsOfBit = rle.Encoding{BitWidth: 1} // no column nests deeper

// decodePage checks and decodes the page in b, header included, that the page
// index says has so many rows. The result may alias b.
func (f *File) decodePage(b []byte, column, rows int) (p page, err error) {
	defer recoverInto(&err)
	var header format.PageHeader
	n, err := decodeThrift(b, &header, 64)
	if err != nil {
		return page{}, fmt.Errorf("page header: %w", err)
	}
	body := b[n:]
	h := &header.DataPageHeaderV2.V
	count := rows
	if column == columnVector {
		count *= f.dimension
	}
	levels := int64(h.RepetitionLevelsByteLength) + int64(h.DefinitionLevelsByteLength)
	switch {
	case header.Type != format.DataPageV2 || !header.DataPageHeaderV2.Valid:
		return page{}, fmt.Errorf("page is a %v, want a DATA_PAGE_V2", header.Type)
	case h.Encoding != format.Plain:
		return page{}, fmt.Errorf("page has encoding %v, want PLAIN", h.Encoding)
	case int(header.CompressedPageSize) != len(body):
		return page{}, fmt.Errorf("page has %d bytes, want %d", header.CompressedPageSize, len(body))
	case int(h.NumRows) != rows || int(h.NumValues) != count:
		return page{}, fmt.Errorf("page has %d rows and %d values, want %d and %d", h.NumRows, h.NumValues, rows, count)
	case h.RepetitionLevelsByteLength < 0 || h.DefinitionLevelsByteLength < 0 || levels > int64(len(body)):
		return page{}, fmt.Errorf("page has %d bytes of levels in %d", levels, len(body))
	case int64(header.UncompressedPageSize) < levels || header.UncompressedPageSize > maxPageSize:
		return page{}, fmt.Errorf("page has %d bytes before compression, want %d to %d", header.UncompressedPageSize, levels, maxPageSize)
	}
	if got, want := crc32.ChecksumIEEE(body), uint32(header.CRC); got != want {
		return page{}, fmt.Errorf("page has crc32 %08x, want %08x", got, want)
	}
	p = page{rows: rows}
	if p.repetition, err = decodeLevels(body[:h.RepetitionLevelsByteLength], column == columnVector, count); err != nil {
		return page{}, fmt.Errorf("repetition levels: %w", err)
	}
	nested := column == columnVector || column == columnMetadata
	if p.definition, err = decodeLevels(body[h.RepetitionLevelsByteLength:levels], nested, count); err != nil {
		return page{}, fmt.Errorf("definition levels: %w", err)
	}
	p.values, err = decompress(body[levels:], int(int64(header.UncompressedPageSize)-levels), column)
	return p, err
}

// decodeLevels decodes count levels of one bit, or none for a column without.
func decodeLevels(b []byte, want bool, count int) ([]byte, error) {
	if !want {
		if len(b) != 0 {
			return nil, fmt.Errorf("column has %d bytes of levels, want none", len(b))
		}
		return nil, nil
	}
	if err := checkLevelRuns(b, count); err != nil {
		return nil, err
	}
	levels, err := levelsOfBit.DecodeLevels(make([]byte, 0, count+8), b)
	if err != nil {
		return nil, err
	}
	if len(levels) < count || len(levels) >= count+8 { // the last run may be padded
		return nil, fmt.Errorf("%d levels, want %d", len(levels), count)
	}
	return levels[:count], nil
}

// checkLevelRuns makes sure that decoding allocates no more than count levels,
// rounded up to whole bit-packed groups of 8.
func checkLevelRuns(b []byte, count int) error {
	for room := uint64(count + 7); len(b) > 0; {
		head, n := binary.Uvarint(b)
		if n <= 0 {
			return errors.New("run header ends too early")
		}
		run, size := head>>1, uint64(1)
		if head&1 != 0 { // groups of 8 values, 1 byte each at 1 bit
			size = run
			if run > math.MaxUint64/8 {
				return errors.New("run is too long")
			}
			run *= 8
		}
		if run == 0 || run > room || size > uint64(len(b)-n) {
			return fmt.Errorf("run of %d levels in %d bytes, %d remain", run, len(b)-n, room)
		}
		room -= run
		b = b[uint64(n)+size:]
	}
	return nil
}

// zstdDecoder is shared: DecodeAll is safe for concurrent use.
var zstdDecoder = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxPageSize))
	if err != nil {
		panic("BUG: zstd decoder options: " + err.Error())
	}
	return d
})

func decompress(b []byte, size, column int) ([]byte, error) {
	if column == columnMetadata {
		var header zstd.Header
		if err := header.Decode(b); err != nil {
			return nil, fmt.Errorf("zstd header: %w", err)
		}
		if header.HasFCS && header.FrameContentSize != uint64(size) {
			return nil, fmt.Errorf("zstd frame has %d bytes, page has %d", header.FrameContentSize, size)
		}
		out, err := zstdDecoder().DecodeAll(b, make([]byte, 0, size))
		if err != nil {
			return nil, fmt.Errorf("decompress: %w", err)
		}
		b = out
	}
	if len(b) != size {
		return nil, fmt.Errorf("page has %d bytes of values, want %d", len(b), size)
	}
	return b, nil
}

// byteArrays splits PLAIN byte arrays, each a 4-byte length and its bytes, and
// calls yield for every row; null rows get nil. The values alias the page.
func (p *page) byteArrays(yield func(row int, value []byte)) error {
	b := p.values
	for row := range p.rows {
		if p.definition != nil && p.definition[row] == 0 {
			yield(row, nil)
			continue
		}
		if len(b) < 4 {
			return fmt.Errorf("value of row %d of the page ends too early", row)
		}
		n := binary.LittleEndian.Uint32(b)
		if uint64(n) > uint64(len(b)-4) {
			return fmt.Errorf("value of row %d of the page claims %d bytes, %d remain", row, n, len(b)-4)
		}
		yield(row, b[4:4+n:4+n])
		b = b[4+n:]
	}
	if len(b) != 0 {
		return fmt.Errorf("%d bytes follow the last value of the page", len(b))
	}
	return nil
}

// listLevels is what the levels of one list of a vector column look like.
type listLevels struct{ repetition, definition []byte }

func newListLevels(dimension int) listLevels {
	ones := bytes.Repeat([]byte{1}, dimension)
	repetition := bytes.Clone(ones)
	repetition[0] = 0
	return listLevels{repetition: repetition, definition: ones}
}

// checkLists makes sure that every list of a vector page is as long as want and
// that no element is missing.
func (p *page) checkLists(want listLevels) error {
	dimension := len(want.repetition)
	if size := 4 * dimension * p.rows; len(p.values) != size {
		return fmt.Errorf("page has %d bytes of values, want %d", len(p.values), size)
	}
	for row := range p.rows {
		from, to := row*dimension, (row+1)*dimension
		if !bytes.Equal(p.repetition[from:to], want.repetition) || !bytes.Equal(p.definition[from:to], want.definition) {
			return fmt.Errorf("list of row %d of the page is not %d long", row, dimension)
		}
	}
	return nil
}
