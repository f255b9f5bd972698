package bulk

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/akidb/akidb/internal/client"
	"github.com/akidb/akidb/internal/vecfile"
)

// Dimension is the length of a file's first vector that can be read.
func Dimension(path string, format vecfile.Options) (int, error) {
	r, err := vecfile.Open(path, format)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	var first error
	for {
		row, err := r.Next()
		var failure *vecfile.Error
		switch {
		case err == nil && len(row.Vector) == 0:
			err = &vecfile.Error{Path: path, Row: r.Position() - 1, Offset: -1, Cause: errors.New("vector is empty")}
		case err == nil:
			return len(row.Vector), nil
		case err == io.EOF && first != nil:
			return 0, first
		case err == io.EOF:
			return 0, fmt.Errorf("read %q: the file has no rows", path)
		case !errors.As(err, &failure) || !failure.Skippable:
			return 0, err
		}
		if first == nil {
			first = err
		}
	}
}

// EnsureCollection creates a collection, or takes the one that has the name if its dimension is right and its metric is too.
// anyMetric accepts whatever metric an existing one has.
func EnsureCollection(ctx context.Context, c *client.Client, want client.NewCollection, anyMetric bool) (client.Collection, error) {
	created, err := c.CreateCollection(ctx, want)
	if !client.IsConflict(err) {
		return created, err
	}
	found, err := c.GetCollection(ctx, want.Name)
	if err != nil {
		return found, err
	}
	if found.Dimension != want.Dimension || (!anyMetric && found.Metric != want.Metric) {
		return found, fmt.Errorf("collection %q exists with dimension %d and metric %s; want dimension %d and metric %s",
			want.Name, found.Dimension, found.Metric, want.Dimension, want.Metric)
	}
	return found, nil
}
