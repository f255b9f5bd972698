package columns

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

const (
	parquetMagic = "PAR1"
	trailerSize  = 8 // footer length, magic
)

// tailWriter passes pages through and holds back what parquet-go writes when it
// closes, because the column index must be corrected first: for a column whose
// bounds are skipped parquet-go records zero as smallest and largest value of
// every page, and a reader that prunes by it would drop rows. The corrected file
// has no column index for those columns, which the format allows and means
// "unknown".
type tailWriter struct {
	w      io.Writer
	offset int64 // bytes passed through
	hold   bool
	held   bytes.Buffer
}

func (t *tailWriter) Write(p []byte) (int, error) {
	if t.hold {
		return t.held.Write(p)
	}
	n, err := t.w.Write(p)
	t.offset += int64(n)
	return n, err
}

// finish writes the held bytes with the indexes rearranged: the column indexes
// of id and seq, then the offset indexes column by column, so that one read gets
// those of a whole column.
func (t *tailWriter) finish() error {
	held := t.held.Bytes()
	meta, footerSize, err := decodeFooter(held)
	if err != nil {
		return fmt.Errorf("BUG: parquet-go wrote a footer that does not decode: %w", err)
	}
	indexStart := t.offset + int64(len(held)-trailerSize-footerSize)
	for _, g := range meta.RowGroups {
		for _, c := range g.Columns {
			indexStart = min(indexStart, c.ColumnIndexOffset, c.OffsetIndexOffset)
		}
	}
	section := func(offset int64, size int32) []byte {
		return held[offset-t.offset:][:size]
	}
	out := bytes.NewBuffer(make([]byte, 0, len(held)))
	out.Write(held[:indexStart-t.offset])
	for column := range columnCount {
		for i := range meta.RowGroups {
			c := &meta.RowGroups[i].Columns[column]
			if column == columnID || column == columnSeq {
				index := section(c.ColumnIndexOffset, c.ColumnIndexLength)
				c.ColumnIndexOffset = t.offset + int64(out.Len())
				out.Write(index)
			} else {
				c.ColumnIndexOffset, c.ColumnIndexLength = 0, 0
			}
		}
	}
	for column := range columnCount {
		for i := range meta.RowGroups {
			c := &meta.RowGroups[i].Columns[column]
			index := section(c.OffsetIndexOffset, c.OffsetIndexLength)
			c.OffsetIndexOffset = t.offset + int64(out.Len())
			out.Write(index)
		}
	}
	footer, err := thrift.Marshal(new(thrift.CompactProtocol), meta)
	if err != nil {
		return fmt.Errorf("encode footer: %w", err)
	}
	if len(footer) > maxFooterSize {
		return fmt.Errorf("footer has %d bytes, at most %d are readable", len(footer), maxFooterSize)
	}
	out.Write(footer)
	out.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(footer))))
	out.WriteString(parquetMagic)
	_, err = t.w.Write(out.Bytes())
	return err
}

// maxFooterSize bounds the footer a reader accepts: a file of tens of thousands
// of row groups stays far below it.
const maxFooterSize = 16 << 20

// maxFooterItems bounds list elements and fields in a footer, which bounds the
// memory it decodes to.
const maxFooterItems = 1 << 20

// footerSizeOf reads the trailer, the last 8 bytes of a file of fileSize bytes.
func footerSizeOf(trailer []byte, fileSize int64) (int, error) {
	if got := string(trailer[4:]); got != parquetMagic {
		return 0, fmt.Errorf("file ends in %q, want %q: not a plain parquet file, or cut short", got, parquetMagic)
	}
	size := int64(binary.LittleEndian.Uint32(trailer))
	room := min(fileSize-trailerSize-int64(len(parquetMagic)), maxFooterSize)
	if size == 0 || size > room {
		return 0, fmt.Errorf("footer claims %d bytes, want 1 to %d", size, room)
	}
	return int(size), nil
}

// decodeFooter decodes the footer at the end of tail, the last bytes of a file.
func decodeFooter(tail []byte) (*format.FileMetaData, int, error) {
	if len(tail) < trailerSize {
		return nil, 0, fmt.Errorf("file has %d bytes, want at least %d", len(tail), trailerSize)
	}
	size, err := footerSizeOf(tail[len(tail)-trailerSize:], math.MaxInt64)
	if err != nil {
		return nil, 0, err
	}
	if size > len(tail)-trailerSize {
		return nil, 0, fmt.Errorf("footer claims %d bytes, %d remain", size, len(tail)-trailerSize)
	}
	meta := new(format.FileMetaData)
	footer := tail[len(tail)-trailerSize-size : len(tail)-trailerSize]
	if _, err := decodeThrift(footer, meta, maxFooterItems); err != nil {
		return nil, 0, fmt.Errorf("decode footer: %w", err)
	}
	return meta, size, nil
}
