package vecfile

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json/jsontext"
)

// maxLineBytes bounds a line of JSONL and a record of CSV: the longest vector written with 20 digits a value, its metadata,
// and as much again.
const maxLineBytes = 1 << 20

type jsonl struct {
	*stream
	opts   Options
	row    int64
	line   int64 // lines read
	long   []byte
	src    *bytes.Reader
	dec    *jsontext.Decoder
	vector []float32
	meta   metadata
}

func openJSONL(s *stream, opts Options) (Reader, error) {
	opts.IDColumn = cmp.Or(opts.IDColumn, "id")
	opts.VectorColumn = cmp.Or(opts.VectorColumn, "vector")
	src := bytes.NewReader(nil)
	return &jsonl{stream: s, opts: opts, src: src, dec: jsontext.NewDecoder(src)}, nil
}

// nextLine returns the next line that is not blank, without its end, and the offset of its first byte. The bytes are valid
// until the next call.
func (j *jsonl) nextLine() (line []byte, at int64, err error) {
	for {
		at = j.offset
		line, err = j.readLine()
		if err != nil {
			return nil, at, err
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			return line, at, nil
		}
	}
}

func (j *jsonl) readLine() ([]byte, error) {
	at := j.offset
	j.long = j.long[:0]
	for {
		part, err := j.r.ReadSlice('\n')
		j.offset += int64(len(part))
		if len(j.long)+len(part) > maxLineBytes {
			return nil, &Error{Path: j.path, Row: j.row, Line: j.line + 1, Offset: at, Cause: fmt.Errorf("line is longer than %d bytes", maxLineBytes)}
		}
		switch {
		case err == nil && len(j.long) == 0:
			j.line++
			return part, nil
		case errors.Is(err, io.EOF) && len(part)+len(j.long) == 0:
			return nil, io.EOF
		case err != nil && !errors.Is(err, bufio.ErrBufferFull) && !errors.Is(err, io.EOF):
			return nil, &Error{Path: j.path, Row: j.row, Line: j.line + 1, Offset: at, Cause: err}
		}
		j.long = append(j.long, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			j.line++
			return j.long, nil
		}
	}
}

func (j *jsonl) Next() (Row, error) {
	line, at, err := j.nextLine()
	if err != nil {
		return Row{}, err
	}
	j.row++
	row, err := j.parse(line)
	if err != nil {
		return Row{}, &Error{Path: j.path, Row: j.row - 1, Line: j.line, Offset: at, Cause: err, Skippable: true}
	}
	row.ID = rowID(j.opts.IDPrefix, row.ID, j.row-1)
	return row, nil
}

func (j *jsonl) parse(line []byte) (Row, error) {
	j.src.Reset(line)
	j.dec.Reset(j.src)
	j.meta.reset()
	var row Row
	hasVector := false
	err := eachField(j.dec, func(name string) (err error) {
		switch name {
		case j.opts.IDColumn:
			value, err := j.dec.ReadValue()
			if err != nil {
				return noEOF(err)
			}
			row.ID, err = parseID(value)
			return err
		case j.opts.VectorColumn:
			hasVector = true
			j.vector, err = ParseVector(j.dec, j.vector[:0])
			return err
		case "metadata":
			return j.meta.merge(j.dec)
		}
		value, err := j.dec.ReadValue()
		if err != nil {
			return noEOF(err)
		}
		return j.meta.add(name, value)
	})
	if err == nil {
		err = checkEnd(j.dec)
	}
	if err == nil && !hasVector {
		err = fmt.Errorf("no field %q", j.opts.VectorColumn)
	}
	row.Vector, row.Metadata = j.vector, j.meta.object()
	return row, err
}

func (j *jsonl) Skip(rows int64) error {
	for ; rows > 0; rows-- {
		if _, _, err := j.nextLine(); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		j.row++
	}
	return nil
}

func (j *jsonl) Position() int64 { return j.row }

func (j *jsonl) Total() (int64, bool) { return 0, false }
