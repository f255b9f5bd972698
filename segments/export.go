package segments

import (
	"bufio"
	"context"
	"fmt"
	"io"

	"github.com/akidb/akidb/segments/columns"
)

// Rows hands every live row of the view to fn, segment by segment, in batches
// that are used again between calls.
func (v *View) Rows(ctx context.Context, projection columns.Projection, fn func([]columns.Row) error) error {
	for _, seg := range v.Segments {
		err := seg.Scan(ctx, 0, seg.Rows(), projection, func(first uint32, rows []columns.Row) error {
			live := rows
			if seg.Deleted != nil {
				live = make([]columns.Row, 0, len(rows))
				for i, r := range rows {
					if !seg.Deleted.Contains(first + uint32(i)) {
						live = append(live, r)
					}
				}
			}
			if len(live) == 0 {
				return nil
			}
			return fn(live)
		})
		if err != nil {
			return fmt.Errorf("read segment %q: %w", seg.Segment().ID, err)
		}
	}
	return nil
}

// Export writes the live rows as one Parquet file for other tools and returns
// its size in bytes.
func (v *View) Export(ctx context.Context, w io.Writer) (size int64, err error) {
	counted := &countingWriter{w: bufio.NewWriterSize(w, 1<<20)}
	e := columns.NewExportWriter(counted, v.Snapshot.Collection.Dimension)
	if err := v.Rows(ctx, columns.ProjectAll, e.Append); err != nil {
		return 0, err
	}
	if err := e.Close(); err != nil {
		return 0, err
	}
	return counted.size, counted.w.Flush()
}

type countingWriter struct {
	w    *bufio.Writer
	size int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.size += int64(n)
	return n, err
}
