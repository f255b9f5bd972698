package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/inspect"
)

func newManifestCmd() *cobra.Command {
	c := &cobra.Command{Use: "manifest", Short: "Look at the versions of a collection, in the store itself"}
	c.AddCommand(newManifestShowCmd(), newManifestHistoryCmd())
	parent(c)
	return c
}

func newManifestShowCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "show C", Args: cobra.ExactArgs(1), Short: "Show a version of a collection, the newest unless another is asked for",
		Example: "  akidb manifest show movies --at 2026-01-31T12:00:00Z -o json",
	}
	return versionCommand(c, func(_ context.Context, f found, _ []string, p printer) error {
		m := f.of.Manifest(f.snapshot)
		return p.print(m, func(w io.Writer) { printManifest(w, m) })
	})
}

func printManifest(w io.Writer, m inspect.Manifest) {
	s := m.Manifest
	fmt.Fprintf(w, "collection\t%s (%s), dimension %d, %s\n", s.Collection.Name, s.Collection.ID, s.Collection.Dimension, s.Collection.Metric)
	newest := ""
	if m.Current {
		newest = ", the newest"
	}
	fmt.Fprintf(w, "version\t%d%s, format %d\nobject\t%s\n", s.Version, newest, s.Format, m.Key)
	if s.Parent != nil {
		fmt.Fprintf(w, "parent\t%d, sha256 %s\n", s.Parent.Version, s.Parent.SHA256)
	}
	fmt.Fprintf(w, "committed\t%s, in epoch %d, by log %s\n", moment(s.CreatedAt), s.Epoch, orDash(m.Owner))
	if s.Dropped {
		fmt.Fprintf(w, "dropped\tby this version\n")
	}
	fmt.Fprintf(w, "rows\t%d, in %d segments of %s\nflushed\tevery write up to seq %d\n", m.Rows, len(s.Segments), size(m.Bytes), s.FlushedSeq)
	if s.SetDigest != nil {
		fmt.Fprintf(w, "digest\t%s\n", s.SetDigest)
	}
	for _, origin := range s.Origins {
		fmt.Fprintf(w, "reads from\t%s\n", origin)
	}
	for _, q := range s.Quantizers {
		fmt.Fprintf(w, "quantizer\t%s: %d lists, trained on %d rows, %s\n", q.ID, q.Lists, q.Rows, size(q.Size))
	}
	for _, pin := range s.Pins {
		what := fmt.Sprintf("snapshot %s %s", pin.ID, pin.Name)
		if pin.Branch != "" {
			what = "branch " + pin.Branch
		}
		fmt.Fprintf(w, "pin\t%s: version %d, %d rows\n", what, pin.Manifest.Version, pin.Rows)
	}
	if len(s.Garbage) > 0 {
		fmt.Fprintf(w, "garbage\t%d objects\n", len(s.Garbage))
	}
}

func newManifestHistoryCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "history C", Args: cobra.ExactArgs(1), Short: "List the versions of a collection, newest first",
		Long: "Every manifest is held against the hash that the one after it has. Versions that nothing\n" +
			"keeps are removed after some minutes, so the list ends where they were.",
	}
	limit := c.Flags().Int("limit", 20, "at most `N` versions; 0 for all")
	return storeCommand(c, func(ctx context.Context, store blob.Store, args []string, p printer) error {
		if *limit < 0 {
			return usageErrorf("--limit is %d, want 0 or more", *limit)
		}
		of, err := inspect.Find(ctx, store, args[0])
		if err != nil {
			return err
		}
		h, err := of.History(ctx, *limit)
		if err != nil {
			return err
		}
		return p.print(h, func(w io.Writer) { printHistory(w, h) })
	})
}

func printHistory(w io.Writer, h inspect.Versions) {
	fmt.Fprintln(w, "VERSION\tEPOCH\tOWNER\tCOMMITTED\tFLUSHED\tROWS\tSEGMENTS\tSIZE\tPINS\tCOMMIT")
	for _, v := range h.Versions {
		fmt.Fprintf(w, "%d\t%d\t%s\t%s\t%d\t%d\t%d\t%s\t%d\t%s\n", v.Version, v.Epoch, orDash(abbreviate(v.Owner)), moment(v.CreatedAt),
			v.FlushedSeq, v.Rows, v.Segments, size(v.Bytes), v.Pins, abbreviate(v.CommitID))
	}
	switch h.Older {
	case "more":
		fmt.Fprintln(w, "older ones were not asked for (--limit)")
	case "collected":
		fmt.Fprintln(w, "older ones were removed")
	}
}
