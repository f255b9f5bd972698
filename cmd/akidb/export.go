package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/akidb/akidb/internal/client"
	"github.com/akidb/akidb/internal/client/bulk"
	"github.com/akidb/akidb/internal/vecfile"
	"github.com/akidb/akidb/segments/columns"
)

// exportFlags are the flags of `akidb export`.
type exportFlags struct {
	url        string
	collection string
	out        string
	asOf       string
	retryFor   time.Duration
	output     string
}

func newExportCmd() *cobra.Command {
	var f exportFlags
	c := &cobra.Command{
		Use:   "export --collection C --out FILE.parquet|FILE.jsonl",
		Short: "Write a collection into one file",
		Long: `Write every row of a collection into one file that import reads: Parquet with the columns id, vector (a list of float32) and
metadata (JSON), or JSON lines. Vectors are the same to the bit.

The rows are those of one moment, whatever is written meanwhile: a snapshot named export-… is taken first and deleted at the
end, also after a failure or SIGINT. With --as-of they are those of an earlier version instead, and no snapshot is taken; unless
a snapshot keeps that version, it may be removed in the middle, which ends the export.

The file gets its name once it is whole; one that had it is replaced. Until then it is a hidden file beside it.

The server's API key is taken from AKIDB_API_KEY.`,
		Example: `  akidb export --collection movies --out movies.parquet
  akidb export --collection movies --out movies.jsonl --as-of before-migration`,
		Args: cobra.NoArgs,
	}
	flags := c.Flags()
	urlFlag(c, &f.url)
	flags.StringVarP(&f.collection, "collection", "c", "", "name or id of the collection (required)")
	flags.StringVar(&f.out, "out", "", "the file to write: "+vecfile.Writable+" (required)")
	flags.StringVar(&f.asOf, "as-of", "", "a manifest version, a time as in 2026-01-31T12:00:00Z, or a snapshot (default: the rows as they are now)")
	flags.DurationVar(&f.retryFor, "retry-for", 5*time.Minute, "how long a request is repeated while the server is away or busy")
	checkOutput := outputFlag(c, &f.output, "table", "json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := errors.Join(checkOutput(), f.validate()); err != nil {
			return withExitCode(exitUsage, err)
		}
		ctx, stop := untilSignal(c.Context(), c.ErrOrStderr())
		defer stop()
		return f.run(ctx, c)
	}
	return c
}

func (f *exportFlags) validate() error {
	var errs []error
	if f.collection == "" {
		errs = append(errs, errors.New("--collection is missing"))
	}
	if f.out == "" {
		errs = append(errs, errors.New("--out is missing"))
	} else if err := vecfile.CheckWritable(f.out); err != nil {
		errs = append(errs, fmt.Errorf("--out is %w", err))
	}
	if f.retryFor <= 0 {
		errs = append(errs, fmt.Errorf("--retry-for is %s, want more than 0", f.retryFor))
	}
	return errors.Join(errs...)
}

func (f *exportFlags) run(ctx context.Context, c *cobra.Command) error {
	server, err := client.New(client.Config{URL: f.url, RetryFor: f.retryFor, Notify: retryNotice(c.ErrOrStderr())})
	if err != nil {
		return withExitCode(exitUsage, err)
	}
	defer server.Close()
	done, err := bulk.Export(ctx, bulk.ExportConfig{
		Client: server, Collection: f.collection, AsOf: f.asOf, Path: f.out, NewParquet: newParquet, Progress: newProgress(c.ErrOrStderr()),
	})
	if err != nil {
		return err
	}
	return printer{c.OutOrStdout(), f.output == "json"}.print(done, func(w io.Writer) {
		fmt.Fprintf(w, "%s rows of %q, as of version %d, written to %s in %.1f s: %s rows/s, %s\n", humanize.Comma(done.Rows), done.Collection,
			done.ManifestVersion, done.Path, done.Seconds, humanize.Comma(int64(done.RowsPerSec)), size(done.Bytes))
	})
}

// parquetWriter writes rows as a snapshot's export has them.
type parquetWriter struct{ *columns.ExportWriter }

func newParquet(w io.Writer, dimension int) vecfile.Writer {
	return parquetWriter{columns.NewExportWriter(w, dimension)}
}

func (p parquetWriter) Append(row vecfile.Row) error {
	return p.ExportWriter.Append([]columns.Row{{ID: row.ID, Vector: row.Vector, Metadata: row.Metadata}})
}
