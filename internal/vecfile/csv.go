package vecfile

import (
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

type csvFile struct {
	*stream
	opts   Options
	budget *budget
	csv    *csv.Reader
	header []string

	id       int   // column; -1: none
	vector   int   // column of a JSON array; -1: the values lie in the columns of spread
	spread   []int // columns of v0, v1, …
	metadata []int // every other column
	object   int   // column called metadata; -1: none

	row    int64
	src    *strings.Reader
	dec    *jsontext.Decoder
	values []float32
	meta   metadata
}

// budget is a reader that runs dry in the middle of a record: an unclosed quote must not swallow a file into memory.
type budget struct {
	r    io.Reader
	left int64
}

var errRecordTooLong = fmt.Errorf("record is longer than %d bytes; is a quote left open?", maxLineBytes)

func (b *budget) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errRecordTooLong
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

func openCSV(s *stream, opts Options) (Reader, error) {
	b := &budget{r: s.r, left: maxLineBytes}
	src := strings.NewReader("")
	c := &csvFile{stream: s, opts: opts, budget: b, csv: csv.NewReader(b), src: src, dec: jsontext.NewDecoder(src)}
	c.csv.ReuseRecord = true
	header, err := c.csv.Read()
	if err != nil {
		return nil, s.fail(-1, 0, fmt.Errorf("header line: %w", noEOF(err)))
	}
	c.header = slices.Clone(header)
	c.header[0] = strings.TrimPrefix(c.header[0], "\ufeff") // the byte order mark of spreadsheet exports
	if err := c.assignColumns(); err != nil {
		return nil, s.fail(-1, 0, err)
	}
	return c, nil
}

func (c *csvFile) assignColumns() error {
	at := map[string]int{}
	for i, name := range c.header {
		if _, twice := at[name]; twice {
			return fmt.Errorf("two columns are called %.60q", name)
		}
		at[name] = i
	}
	find := func(name string) int {
		if i, ok := at[name]; ok {
			return i
		}
		return -1
	}
	c.id, c.vector, c.object = find(cmp.Or(c.opts.IDColumn, "id")), find(cmp.Or(c.opts.VectorColumn, "vector")), find("metadata")
	if c.id < 0 && c.opts.IDColumn != "" {
		return fmt.Errorf("no column %q among %.200q", c.opts.IDColumn, c.header)
	}
	if c.vector < 0 {
		if c.opts.VectorColumn == "" {
			for i := find("v0"); i >= 0; i = find("v" + strconv.Itoa(len(c.spread))) {
				c.spread = append(c.spread, i)
			}
		}
		if len(c.spread) == 0 || len(c.spread) > MaxDimension {
			return fmt.Errorf("no column %q (or 1 to %d columns v0, v1, …) among %.200q", cmp.Or(c.opts.VectorColumn, "vector"), MaxDimension, c.header)
		}
	}
	isSpread := make([]bool, len(c.header))
	for _, i := range c.spread {
		isSpread[i] = true
	}
	for i := range c.header {
		if i != c.id && i != c.vector && i != c.object && !isSpread[i] {
			c.metadata = append(c.metadata, i)
		}
	}
	return nil
}

// record reads the next record. A record with the wrong number of fields or a stray quote costs only itself.
func (c *csvFile) record() ([]string, *Error, error) {
	// What the csv package has buffered ahead was paid for by an earlier record; a new record gets the full budget.
	c.budget.left = maxLineBytes
	at := c.csv.InputOffset()
	record, err := c.csv.Read()
	if err == io.EOF {
		return nil, nil, io.EOF
	}
	c.row++
	if err == nil {
		line, _ := c.csv.FieldPos(0)
		return record, &Error{Path: c.path, Row: c.row - 1, Line: int64(line), Offset: at, Skippable: true}, nil
	}
	failure := &Error{Path: c.path, Row: c.row - 1, Offset: at, Cause: err}
	var parse *csv.ParseError
	if errors.As(err, &parse) {
		failure.Line, failure.Cause = int64(parse.StartLine), parse.Err
		failure.Skippable = true
		if errors.Is(parse.Err, csv.ErrFieldCount) {
			failure.Cause = fmt.Errorf("%d fields, want %d as in the header", len(record), len(c.header))
		}
	}
	return nil, nil, failure
}

func (c *csvFile) Next() (Row, error) {
	record, failure, err := c.record()
	if err != nil {
		return Row{}, err
	}
	row, err := c.parse(record)
	if err != nil {
		failure.Cause = err
		return Row{}, failure
	}
	row.ID = rowID(c.opts.IDPrefix, row.ID, c.row-1)
	return row, nil
}

func (c *csvFile) parse(record []string) (Row, error) {
	var row Row
	if c.id >= 0 {
		if row.ID = record[c.id]; row.ID == "" {
			return row, fmt.Errorf("column %q is empty, want an id", c.header[c.id])
		}
	}
	if err := c.parseValues(record); err != nil {
		return row, err
	}
	c.meta.reset()
	if c.object >= 0 && record[c.object] != "" {
		c.decode(record[c.object])
		if err := c.meta.merge(c.dec); err != nil {
			return row, fmt.Errorf("column \"metadata\": %w", err)
		}
		if err := checkEnd(c.dec); err != nil {
			return row, fmt.Errorf("column \"metadata\": %w", err)
		}
	}
	for _, i := range c.metadata {
		if record[i] == "" {
			continue
		}
		value, err := cellJSON(record[i])
		if err == nil {
			err = c.meta.add(c.header[i], value)
		}
		if err != nil {
			return row, fmt.Errorf("column %q: %w", c.header[i], err)
		}
	}
	row.Vector, row.Metadata = c.values, c.meta.object()
	return row, nil
}

func (c *csvFile) parseValues(record []string) (err error) {
	c.values = c.values[:0]
	if c.vector >= 0 {
		c.decode(record[c.vector])
		if c.values, err = ParseVector(c.dec, c.values); err == nil {
			err = checkEnd(c.dec)
		}
		if err != nil {
			return fmt.Errorf("column %q: %w", c.header[c.vector], err)
		}
		return nil
	}
	for _, i := range c.spread {
		x, err := parseFloat32(strings.TrimSpace(record[i]))
		if err != nil {
			return fmt.Errorf("column %q: %w", c.header[i], err)
		}
		c.values = append(c.values, x)
	}
	return nil
}

func (c *csvFile) decode(cell string) {
	c.src.Reset(cell)
	c.dec.Reset(c.src)
}

// cellJSON is a cell as a JSON value: a number, true or false when it is exactly that, a string otherwise.
func cellJSON(cell string) ([]byte, error) {
	value := jsontext.Value(cell)
	if cell == "true" || cell == "false" {
		return value, nil
	}
	if first := cell[0]; (first == '-' || first >= '0' && first <= '9') && value.IsValid() && len(strings.TrimSpace(cell)) == len(cell) {
		if _, err := strconv.ParseFloat(cell, 64); err == nil {
			return value, nil
		}
	}
	return jsontext.AppendQuote(nil, cell)
}

func (c *csvFile) Skip(rows int64) error {
	for ; rows > 0; rows-- {
		_, _, err := c.record()
		var failure *Error
		switch {
		case err == io.EOF:
			return nil
		case errors.As(err, &failure) && !failure.Skippable:
			return err
		}
	}
	return nil
}

func (c *csvFile) Position() int64 { return c.row }

func (c *csvFile) Total() (int64, bool) { return 0, false }
