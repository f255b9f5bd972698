package main

import (
	"context"
	"fmt"
	"io"

	"github.com/akidb/akidb/internal/client"
	"github.com/akidb/akidb/internal/sample"
)

// demoBatch is small enough that the bar moves.
const demoBatch = 250

// loadDemo loads the bundled sample through the REST API of the server at url,
// unless it is there already, and prints a search to paste.
func loadDemo(ctx context.Context, url string, stdout, stderr io.Writer) error {
	meta, rows, err := sample.Load()
	if err != nil {
		return err
	}
	c, err := client.New(client.Config{URL: url})
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Fprintf(stderr, "demo: %d nouns with their definitions; %s\n", len(rows), meta.Source)
	fmt.Fprintf(stderr, "demo: licence: %s\n", meta.Licence)
	if err := fillDemo(ctx, c, meta, rows, stderr); err != nil {
		if ctx.Err() != nil {
			return nil // stopped by a signal, which is no failure
		}
		return fmt.Errorf("load demo: %w", err)
	}
	fmt.Fprintf(stdout, "\nThe collection %q is loaded. Nouns that mean something like %q:\n\n"+
		"  curl -s %s/api/v1/collections/%s/search -d '{\"id\": %q, \"k\": 5}'\n\n", meta.Name, meta.ExampleID, url, meta.Name, meta.ExampleID)
	return nil
}

func fillDemo(ctx context.Context, c *client.Client, meta sample.Meta, rows []sample.Row, stderr io.Writer) error {
	_, err := c.CreateCollection(ctx, client.NewCollection{Name: meta.Name, Dimension: meta.Dimension, Metric: meta.Metric})
	if err != nil && !client.IsConflict(err) {
		return err
	}
	if n, err := c.Count(ctx, meta.Name, nil); err != nil || n == int64(len(rows)) {
		return err
	}
	progress := newProgress(stderr)
	progress.Start("demo", int64(len(rows)), 0)
	defer progress.Finish()
	var batch client.Batch
	for i, row := range rows {
		if err := batch.Add(row.ID, row.Vector, row.Metadata); err != nil {
			return err
		}
		if batch.Len() == demoBatch || i == len(rows)-1 {
			if _, err := c.UpsertRepeatable(ctx, meta.Name, &batch); err != nil {
				return err
			}
			progress.Advance(int64(batch.Len()))
			batch.Reset()
		}
	}
	return c.Flush(ctx, meta.Name)
}
