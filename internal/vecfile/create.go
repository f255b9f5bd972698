package vecfile

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Writer takes rows in order. It is used by one goroutine.
type Writer interface {
	// Append writes one row and keeps nothing of it.
	Append(row Row) error
	// Close writes what is still to be written. The file itself stays open.
	Close() error
}

// CreateOptions says what rows to write.
type CreateOptions struct {
	Dimension int // of every vector
	// NewParquet writes .parquet files. Nil: they are refused.
	NewParquet func(w io.Writer, dimension int) Writer
}

// Writable is the list of name endings that can be written, for help texts.
const Writable = ".parquet .jsonl .ndjson"

// CheckWritable reports why no file of that name can be written.
func CheckWritable(path string) error {
	format, compression := formatOf(path)
	if compression != "" || !strings.Contains(Writable+" ", format+" ") || format == "" {
		return fmt.Errorf("%q: want a name that ends in one of %s", path, Writable)
	}
	return nil
}

// Create starts writing rows to w, in the format that the name of path says.
func Create(w io.Writer, path string, opts CreateOptions) (Writer, error) {
	if err := CheckWritable(path); err != nil {
		return nil, err
	}
	if format, _ := formatOf(path); format != ".parquet" {
		return &jsonlWriter{w: bufio.NewWriterSize(w, 1<<20), dimension: opts.Dimension}, nil
	}
	if opts.NewParquet == nil {
		return nil, fmt.Errorf("%q: Parquet is not built into this program", path)
	}
	return opts.NewParquet(w, opts.Dimension), nil
}

type jsonlWriter struct {
	w         *bufio.Writer
	dimension int
	line      []byte
}

// Append writes numbers as the shortest decimals that read back as the same float32.
func (j *jsonlWriter) Append(row Row) error {
	if len(row.Vector) != j.dimension {
		return fmt.Errorf("row %.40q: vector has %d values, want %d", row.ID, len(row.Vector), j.dimension)
	}
	line, err := jsontext.AppendQuote(append(j.line[:0], `{"id":`...), row.ID)
	if err != nil {
		return fmt.Errorf("row %.40q: id: %w", row.ID, err)
	}
	line = append(line, `,"vector":[`...)
	for i, x := range row.Vector {
		if i > 0 {
			line = append(line, ',')
		}
		line = strconv.AppendFloat(line, float64(x), 'g', -1, 32)
	}
	line = append(line, ']')
	if row.Metadata != nil {
		metadata := jsontext.Value(row.Metadata).Clone()
		if err := metadata.Compact(); err != nil { // a row is one line
			return fmt.Errorf("row %.40q: metadata: %w", row.ID, err)
		}
		line = append(append(line, `,"metadata":`...), metadata...)
	}
	j.line = append(line, '}', '\n')
	_, err = j.w.Write(j.line)
	return err
}

func (j *jsonlWriter) Close() error { return j.w.Flush() }
