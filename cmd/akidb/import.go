package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/akidb/akidb/internal/client"
	"github.com/akidb/akidb/internal/client/bulk"
	"github.com/akidb/akidb/internal/vecfile"
)

// importFlags are the flags of `akidb import`.
type importFlags struct {
	url           string
	collection    string
	create        bool
	metric        string
	batch         int
	parallel      int
	onError       string
	flush         bool
	restart       bool
	compress      bool
	retryFor      time.Duration
	checkpointDir string
	format        vecfile.Options
	output        string
}

// shownSkips is how many skipped rows are named one by one.
const shownSkips = 20

func newImportCmd() *cobra.Command {
	var f importFlags
	c := &cobra.Command{
		Use:   "import FILE… --collection C",
		Short: "Load files of vectors into a collection",
		Long: `Load files of vectors into a collection: ` + vecfile.Formats + `.

Rows without an id of their own get their number in the file, from 0, as id.

What the server has acknowledged is remembered in a small file in the user's cache directory, so an import that was
interrupted goes on where it stopped when the same command is run again. --restart starts over. A file that has changed
since starts over by itself.

With --on-error skip, rows that cannot be read or that the server refuses are left out and reported; the exit code is
still 0. With --on-error stop, the default, the first such row ends the import.

When a file holds an id twice, the later row is certain to win only with --parallel 1.

The server's API key is taken from AKIDB_API_KEY.`,
		Example: `  akidb import base.fvecs --collection sift --create --metric l2
  akidb import articles-*.parquet --collection articles --id-column uuid --vector-column embedding`,
		Args: cobra.MinimumNArgs(1),
	}
	flags := c.Flags()
	urlFlag(c, &f.url)
	flags.StringVarP(&f.collection, "collection", "c", "", "name or id of the collection (required)")
	flags.BoolVar(&f.create, "create", false, "create the collection, with the dimension of the first file, unless it exists")
	flags.StringVar(&f.metric, "metric", "l2", "with --create: l2, cosine or dot")
	flags.IntVar(&f.batch, "batch", 1000, "rows in one request, 1 to 10000")
	flags.IntVar(&f.parallel, "parallel", 2, "requests under way at once, 1 to 64")
	flags.StringVar(&f.onError, "on-error", "stop", "what a bad row does: stop or skip")
	flags.BoolVar(&f.flush, "flush", false, "at the end, have the server write everything to the object store")
	flags.BoolVar(&f.restart, "restart", false, "ignore what an earlier run has done")
	flags.BoolVar(&f.compress, "compress", false, "compress requests with zstd; pays only over slow links")
	flags.DurationVar(&f.retryFor, "retry-for", 5*time.Minute, "how long a request is repeated while the server is away or busy")
	flags.StringVar(&f.checkpointDir, "checkpoint-dir", "", "where to remember what is done (default: in the user's cache directory)")
	flags.StringVar(&f.format.IDPrefix, "id-prefix", "", "put before every id")
	flags.StringVar(&f.format.IDColumn, "id-column", "", `column or field of the id (default "id")`)
	flags.StringVar(&f.format.VectorColumn, "vector-column", "", `column or field of the vector (default "vector", in CSV also v0 … vN)`)
	checkOutput := outputFlag(c, &f.output, "table", "json")
	c.RunE = func(c *cobra.Command, files []string) error {
		if err := errors.Join(checkOutput(), f.validate(files)); err != nil {
			return withExitCode(exitUsage, err)
		}
		f.format.OpenParquet = openParquet
		ctx, stop := untilSignal(c.Context(), c.ErrOrStderr())
		defer stop()
		return f.run(ctx, c, files)
	}
	return c
}

// urlFlag adds --url, which every command that talks to a server has.
func urlFlag(c *cobra.Command, url *string) {
	c.Flags().Var((*addresses)(url), "url", "address of the server; given again, or with commas, of others that serve the same (default: AKIDB_URL, else "+client.DefaultURL+")")
}

// addresses are as the client takes them, put together from flags.
type addresses string

func (a *addresses) String() string { return string(*a) }
func (a *addresses) Type() string   { return "string" }
func (a *addresses) Set(more string) error {
	if *a != "" {
		more = string(*a) + "," + more
	}
	*a = addresses(more)
	return nil
}

func (f *importFlags) validate(files []string) error {
	var errs []error
	if f.collection == "" {
		errs = append(errs, errors.New("--collection is missing"))
	}
	if f.metric != "l2" && f.metric != "cosine" && f.metric != "dot" {
		errs = append(errs, fmt.Errorf("--metric is %q, want l2, cosine or dot", f.metric))
	}
	if f.onError != "stop" && f.onError != "skip" {
		errs = append(errs, fmt.Errorf("--on-error is %q, want stop or skip", f.onError))
	}
	if f.batch < 1 || f.batch > 10000 {
		errs = append(errs, fmt.Errorf("--batch is %d, want 1 to 10000", f.batch))
	}
	if f.parallel < 1 || f.parallel > 64 {
		errs = append(errs, fmt.Errorf("--parallel is %d, want 1 to 64", f.parallel))
	}
	if f.retryFor <= 0 {
		errs = append(errs, fmt.Errorf("--retry-for is %s, want more than 0", f.retryFor))
	}
	seen := map[string]bool{}
	for _, file := range files {
		if seen[filepath.Clean(file)] {
			errs = append(errs, fmt.Errorf("%q is given twice", file))
		}
		seen[filepath.Clean(file)] = true
	}
	return errors.Join(errs...)
}

func (f *importFlags) run(ctx context.Context, c *cobra.Command, files []string) error {
	stderr := c.ErrOrStderr()
	server, err := client.New(client.Config{
		URL: f.url, RetryFor: f.retryFor, Compress: f.compress, Connections: f.parallel, Notify: retryNotice(stderr),
	})
	if err != nil {
		return withExitCode(exitUsage, err)
	}
	defer server.Close()
	collection, err := f.prepare(ctx, c, server, files)
	if err != nil {
		return err
	}
	dir, err := f.checkpoints()
	if err != nil {
		fmt.Fprintf(stderr, "akidb: %v; an interrupted import will start over\n", err)
	}
	report := importReport{Collection: collection.Name, CollectionID: collection.ID}
	for _, file := range files {
		skips := skipNotice{w: stderr, path: file}
		summary, err := bulk.Run(ctx, bulk.Config{
			Path: file, Format: f.format, Client: server, Collection: collection, Batch: f.batch, Parallel: f.parallel,
			SkipBad: f.onError == "skip", Skipped: skips.skipped, CheckpointDir: dir, Restart: f.restart,
			Note: func(text string) { fmt.Fprintf(stderr, "akidb: %s\n", text) }, Progress: newProgress(stderr),
		})
		skips.finish()
		report.add(summary)
		if errors.Is(err, context.Canceled) && ctx.Err() != nil {
			err = fmt.Errorf("import %q: interrupted", file)
		}
		if err != nil {
			return errors.Join(err, f.resumeHint(summary, dir))
		}
	}
	if f.flush {
		if err := server.Flush(ctx, collection.ID); err != nil {
			return fmt.Errorf("every row was imported, but flushing failed: %w", err)
		}
		report.Flushed = true
	}
	for _, summary := range report.Files {
		if err := summary.Forget(); err != nil {
			fmt.Fprintf(stderr, "akidb: %v\n", err)
		}
	}
	if f.output == "json" {
		return printJSON(c.OutOrStdout(), report)
	}
	return report.print(c.OutOrStdout())
}

// prepare looks at the first row of every file before any is sent, and makes sure of the collection.
func (f *importFlags) prepare(ctx context.Context, c *cobra.Command, server *client.Client, files []string) (client.Collection, error) {
	dimension := 0
	for _, file := range files {
		d, err := bulk.Dimension(file, f.format)
		if err != nil {
			return client.Collection{}, err
		}
		if dimension != 0 && d != dimension {
			return client.Collection{}, fmt.Errorf("%q has vectors of %d values, %q of %d", file, d, files[0], dimension)
		}
		dimension = d
	}
	if f.create {
		want := client.NewCollection{Name: f.collection, Dimension: dimension, Metric: f.metric}
		return bulk.EnsureCollection(ctx, server, want, !c.Flags().Changed("metric"))
	}
	found, err := server.GetCollection(ctx, f.collection)
	switch {
	case client.IsNotFound(err):
		return found, fmt.Errorf("%w; --create creates it", err)
	case err == nil && found.Dimension != dimension:
		err = fmt.Errorf("%q has vectors of %d values; collection %q needs %d", files[0], dimension, found.Name, found.Dimension)
	}
	return found, err
}

func (f *importFlags) checkpoints() (string, error) {
	if f.checkpointDir != "" {
		return f.checkpointDir, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no place for checkpoints: %w", err)
	}
	return filepath.Join(cache, "akidb", "import"), nil
}

// resumeHint says how far an import that failed has come.
func (f *importFlags) resumeHint(s bulk.Summary, dir string) error {
	done := s.RowsResumed + s.Rows + s.RowsSkipped
	if dir == "" {
		return fmt.Errorf("%d rows of %q were imported; run the same command to start over", done, s.Path)
	}
	return fmt.Errorf("%d rows of %q are done; run the same command to go on from there", done, s.Path)
}

// retryNotice reports the first of a row of failed attempts, so that a wait is explained and a log is not flooded.
func retryNotice(w io.Writer) func(error, time.Duration) {
	var mu sync.Mutex // requests fail concurrently
	last := time.Time{}
	return func(err error, _ time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		if now := time.Now(); now.Sub(last) >= 10*time.Second {
			last = now
			fmt.Fprintf(w, "akidb: %v; trying again\n", err)
		}
	}
}

func newProgress(stderr io.Writer) bulk.Progress {
	if f, ok := stderr.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return bulk.NewBar(stderr)
	}
	return bulk.NewLines(stderr, time.Now)
}

// skipNotice names the first rows that are skipped, and counts all by reason.
type skipNotice struct {
	w     io.Writer
	path  string
	count int
}

func (s *skipNotice) skipped(row int64, cause error) {
	if s.count++; s.count <= shownSkips {
		fmt.Fprintf(s.w, "akidb: %s: row %d skipped: %v\n", s.path, row, cause)
	}
}

func (s *skipNotice) finish() {
	if hidden := s.count - shownSkips; hidden > 0 {
		fmt.Fprintf(s.w, "akidb: %s: %d more rows skipped\n", s.path, hidden)
	}
}

// importReport is what the command prints.
type importReport struct {
	Collection   string         `json:"collection"`
	CollectionID string         `json:"collection_id"`
	Files        []bulk.Summary `json:"files"`
	Rows         int64          `json:"rows"`
	RowsSkipped  int64          `json:"rows_skipped"`
	RowsResumed  int64          `json:"rows_done_earlier"`
	Bytes        int64          `json:"bytes_sent"`
	Seconds      float64        `json:"seconds"`
	RowsPerSec   float64        `json:"rows_per_second"`
	Flushed      bool           `json:"flushed"`
}

func (r *importReport) add(s bulk.Summary) {
	r.Files = append(r.Files, s)
	r.Rows += s.Rows
	r.RowsSkipped += s.RowsSkipped
	r.RowsResumed += s.RowsResumed
	r.Bytes += s.Bytes
	r.Seconds += s.Seconds
	if r.Seconds > 0 {
		r.RowsPerSec = float64(r.Rows) / r.Seconds
	}
}

func (r *importReport) print(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s rows imported into %q in %.1f s: %s rows/s, %s sent",
		humanize.Comma(r.Rows), cmp.Or(r.Collection, r.CollectionID), r.Seconds, humanize.Comma(int64(r.RowsPerSec)), humanize.IBytes(uint64(r.Bytes)))
	if r.RowsResumed > 0 {
		fmt.Fprintf(&b, "; %s were done by an earlier run", humanize.Comma(r.RowsResumed))
	}
	if r.RowsSkipped > 0 {
		fmt.Fprintf(&b, "; %s skipped", humanize.Comma(r.RowsSkipped))
	}
	if r.Flushed {
		b.WriteString("; flushed")
	}
	b.WriteByte('\n')
	_, err := io.WriteString(w, b.String())
	return err
}
