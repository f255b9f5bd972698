package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/akidb/akidb/internal/client"
	"github.com/akidb/akidb/internal/client/recall"
	"github.com/akidb/akidb/internal/vecfile"
)

// measure runs a file of queries and reports latency and, given the truth, recall.
func (f *searchFlags) measure(ctx context.Context, c *cobra.Command, server *client.Client, request client.SearchRequest) error {
	collection, err := server.GetCollection(ctx, f.collection)
	if err != nil {
		return err
	}
	format := vecfile.Options{VectorColumn: f.vectorField, OpenParquet: openParquet}
	queries, err := recall.ReadQueries(f.queries, format, f.limit, collection.Dimension)
	if err != nil {
		return err
	}
	var truth [][]int32
	if f.groundTruth != "" {
		if truth, err = recall.ReadTruth(f.groundTruth, len(queries), f.k, f.limit > 0); err != nil {
			return err
		}
	}
	report, err := recall.Measure(ctx, recall.Config{
		Client: server, Collection: collection, Queries: queries, Truth: truth, IDPrefix: f.idPrefix,
		Search: request, Concurrency: f.concurrency,
	})
	if err != nil {
		return err
	}
	if f.output == "json" {
		err = printJSON(c.OutOrStdout(), report)
	} else {
		err = printMeasured(c.OutOrStdout(), report)
	}
	if err != nil {
		return err
	}
	if q := report.Quality; q != nil {
		if q.Nearer > 0 {
			fmt.Fprintf(c.ErrOrStderr(), "akidb: %d results are nearer than the ground truth's k-th neighbour: it was computed on other rows\n", q.Nearer)
		}
		if q.Recall < f.minRecall {
			return withExitCode(exitVerificationFailed, fmt.Errorf("recall@%d is %.4f, want at least %v", report.K, q.Recall, f.minRecall))
		}
	}
	return nil
}

func printMeasured(w io.Writer, r recall.Report) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "collection\t%s (%s)\n", r.Collection, r.Metric)
	fmt.Fprintf(table, "queries\t%d, k = %d, %d at once\n", r.Queries, r.K, r.Concurrency)
	if q := r.Quality; q != nil {
		fmt.Fprintf(table, "recall@%d\t%.4f (%d of %d, %d of them proven ties)\n", r.K, q.Recall, q.Found, q.Wanted, q.Ties)
		fmt.Fprintf(table, "worst query\t%.4f (query %d)\n", q.Worst, q.WorstQuery)
		if q.Missing > 0 {
			fmt.Fprintf(table, "missing results\t%d\n", q.Missing)
		}
	}
	l := r.Latency
	fmt.Fprintf(table, "latency\tmean %.3f ms, p50 %.3f, p90 %.3f, p99 %.3f, max %.3f\n", l.Mean, l.P50, l.P90, l.P99, l.Max)
	fmt.Fprintf(table, "throughput\t%.0f queries/s\n", r.QPS)
	return table.Flush()
}

// printable keeps a stored string from moving the cursor or colouring the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '·'
	}, s)
}

// shorten cuts a table cell to a length that still reads.
func shorten(s string) string {
	if runes := []rune(s); len(runes) > shownRunes {
		return string(runes[:shownRunes-1]) + "…"
	}
	return s
}
