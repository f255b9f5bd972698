package vecfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// fixed reads rows that all take the same number of bytes: prefixed with their dimension (.fvecs, .bvecs) or, under a
// header that said it once (.fbin, .npy), bare.
type fixed struct {
	*stream
	prefix    string // of ids
	prefixed  bool   // every row starts with its int32 dimension
	dimension int    // 0 until the first prefixed row was seen
	valueSize int    // in bytes
	decode    func(dst []float32, src []byte)
	total     int64 // rows; -1 when not known
	row       int64
	raw       []byte
	vector    []float32
	buffered  bool // raw and vector have their size
}

func openFvecs(s *stream, opts Options) (Reader, error) {
	return openPrefixed(s, opts, 4, decodeFloat32)
}

func openBvecs(s *stream, opts Options) (Reader, error) { return openPrefixed(s, opts, 1, decodeUint8) }

func openPrefixed(s *stream, opts Options, valueSize int, decode func([]float32, []byte)) (Reader, error) {
	f := &fixed{stream: s, prefix: opts.IDPrefix, prefixed: true, valueSize: valueSize, decode: decode, total: -1}
	head, err := s.r.Peek(4)
	if len(head) == 0 && errors.Is(err, io.EOF) {
		f.total = 0
		return f, nil
	}
	if len(head) < 4 {
		return nil, s.fail(0, 0, cutShort(err, int64(len(head)), 4))
	}
	if f.dimension, err = checkDimension(int64(int32(binary.LittleEndian.Uint32(head)))); err != nil {
		return nil, s.fail(0, 0, err)
	}
	return f, f.checkSize()
}

func openFbin(s *stream, opts Options) (Reader, error) {
	var head [8]byte
	if n, err := s.full(head[:]); err != nil {
		return nil, s.fail(-1, 0, cutShort(err, int64(n), 8))
	}
	rows := int64(int32(binary.LittleEndian.Uint32(head[:4])))
	if rows < 0 {
		return nil, s.fail(-1, 0, fmt.Errorf("row count %d, want 0 or more", rows))
	}
	dimension, err := checkDimension(int64(int32(binary.LittleEndian.Uint32(head[4:]))))
	if err != nil {
		return nil, s.fail(-1, 4, err)
	}
	f := &fixed{stream: s, prefix: opts.IDPrefix, dimension: dimension, valueSize: 4, decode: decodeFloat32, total: rows}
	return f, f.checkSize()
}

func checkDimension(d int64) (int, error) {
	if d < 1 || d > MaxDimension {
		return 0, fmt.Errorf("dimension %d, want 1 to %d", d, MaxDimension)
	}
	return int(d), nil
}

func (f *fixed) rowBytes() int64 {
	n := int64(f.dimension) * int64(f.valueSize)
	if f.prefixed {
		n += 4
	}
	return n
}

// checkSize compares a plain file's size with its header before any row is handed out: a file that was cut short is
// refused whole, so that nobody imports half of it before noticing.
func (f *fixed) checkSize() error {
	if f.size < 0 {
		return nil
	}
	body, stride := f.size-f.offset, f.rowBytes()
	rows, rest := body/stride, body%stride
	switch {
	case f.total < 0 && rest == 0:
		f.total = rows
	case f.total < 0, rows < f.total:
		return f.fail(rows, f.offset+rows*stride, errTruncated(rest, stride))
	case rows > f.total || rest > 0:
		return f.fail(f.total, f.offset+f.total*stride, f.errTrailing())
	}
	return nil
}

func (f *fixed) errTrailing() error {
	return fmt.Errorf("bytes follow the %d rows of the header", f.total)
}

func (f *fixed) Next() (Row, error) {
	if !f.prefixed && f.row == f.total {
		return Row{}, f.checkEnd()
	}
	if !f.buffered {
		f.raw, f.vector, f.buffered = make([]byte, f.rowBytes()), make([]float32, f.dimension), true
	}
	at := f.offset
	n, err := f.full(f.raw)
	if err == io.EOF && f.prefixed {
		return Row{}, io.EOF
	}
	if err != nil {
		return Row{}, f.fail(f.row, at, cutShort(err, int64(n), int64(len(f.raw))))
	}
	values := f.raw
	if f.prefixed {
		if got := int32(binary.LittleEndian.Uint32(f.raw)); int64(got) != int64(f.dimension) {
			return Row{}, f.fail(f.row, at, fmt.Errorf("dimension %d, want %d as in row 0", got, f.dimension))
		}
		values = f.raw[4:]
	}
	f.decode(f.vector, values)
	f.row++
	return Row{ID: rowID(f.prefix, "", f.row-1), Vector: f.vector}, nil
}

// checkEnd looks behind the last row of a packed file; of a plain one the size was checked when it was opened.
func (f *fixed) checkEnd() error {
	if _, err := f.r.Peek(1); err == nil {
		return f.fail(f.row, f.offset, f.errTrailing())
	} else if !errors.Is(err, io.EOF) {
		return f.fail(f.row, f.offset, err)
	}
	return io.EOF
}

func (f *fixed) Skip(rows int64) error {
	if f.total >= 0 {
		rows = min(rows, f.total-f.row)
	}
	stride := f.rowBytes()
	if stride == 0 || rows <= 0 {
		return nil
	}
	at := f.offset
	got, err := f.skip(min(rows, math.MaxInt64/stride) * stride)
	whole := got / stride
	f.row += whole
	if err != nil || got%stride != 0 || (f.total >= 0 && whole < rows) {
		return f.fail(f.row, at+whole*stride, cutShort(err, got%stride, stride))
	}
	return nil
}

func (f *fixed) Position() int64 { return f.row }

func (f *fixed) Total() (int64, bool) { return max(f.total, 0), f.total >= 0 }

// cutShort turns the end of the data within a row or header into the error that says so; any other error is a read error.
func cutShort(err error, got, want int64) error {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errTruncated(got, want)
	}
	return err
}

func decodeFloat32(dst []float32, src []byte) {
	for i := range dst {
		dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
	}
}

func decodeUint8(dst []float32, src []byte) {
	for i := range dst {
		dst[i] = float32(src[i])
	}
}
