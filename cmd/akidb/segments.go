package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/akidb/akidb/segments/inspect"
)

func newSegmentsCmd() *cobra.Command {
	c := &cobra.Command{Use: "segments", Short: "Look at the segments of a collection, in the store itself"}
	c.AddCommand(newSegmentsListCmd(), newSegmentsInspectCmd())
	parent(c)
	return c
}

func newSegmentsListCmd() *cobra.Command {
	c := &cobra.Command{Use: "list C", Args: cobra.ExactArgs(1), Short: "List the segments of a collection, oldest first"}
	return versionCommand(c, func(_ context.Context, f found, _ []string, p printer) error {
		list := inspect.Segments(f.snapshot)
		return p.print(list, func(w io.Writer) {
			fmt.Fprintln(w, "SEGMENT\tROWS\tDELETED\tSEQS\tDATA\tINDEX\tQUANTIZER")
			for _, l := range list.Segments {
				fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\t%s\t%s\n", l.ID, l.Rows, l.Deleted, seqs(l.MinSeq, l.MaxSeq), size(l.DataBytes), size(l.IndexBytes), orDash(l.Quantizer))
			}
		})
	})
}

func newSegmentsInspectCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "inspect C SEGMENT", Args: cobra.ExactArgs(2), Short: "Open a segment and show what it is made of",
		Long: "A segment is named by its id, or by as much of the beginning as no other one has.",
	}
	rows := c.Flags().Uint32("rows", 0, "show the first `N` rows too, deleted ones included")
	return versionCommand(c, func(ctx context.Context, f found, args []string, p printer) error {
		seg, err := inspect.Inspect(ctx, f.store, f.snapshot, args[0], *rows)
		if err != nil {
			return err
		}
		return p.print(seg, func(w io.Writer) { printSegment(w, seg) })
	})
}

func printSegment(w io.Writer, s inspect.Segment) {
	fmt.Fprintf(w, "segment\t%s\nkind\t%s, format %d\n", s.ID, s.Kind, s.FormatVersion)
	fmt.Fprintf(w, "rows\t%d, %d of them deleted, seqs %s\n", s.Rows, s.Deleted, seqs(s.MinSeq, s.MaxSeq))
	fmt.Fprintf(w, "data\t%s, %s, crc32c %08x\n", s.Data.Key, size(s.Data.Size), s.Data.CRC32C)
	fmt.Fprintf(w, "index\t%s, %s, crc32c %08x\n", s.Index.Key, size(s.Index.Size), s.Index.CRC32C)
	fmt.Fprintf(w, "footer\t%s at %d, crc32c %08x\n", size(int64(s.Footer.Length)), s.Footer.Offset, s.Footer.CRC32C)
	if s.Deletes != nil {
		fmt.Fprintf(w, "deletes\t%s, %s\n", s.Deletes.Key, size(s.Deletes.Size))
	}
	if s.Codes != nil {
		printCodes(w, s.Quantizer, *s.Codes)
	}
	if s.Attributes != nil {
		printAttributes(w, *s.Attributes)
	}
	if len(s.First) == 0 {
		return
	}
	fmt.Fprintln(w, "\nROW\tID\tSEQ\tMETADATA\tVECTOR")
	for _, r := range s.First {
		mark := ""
		if r.Deleted {
			mark = " deleted"
		}
		fmt.Fprintf(w, "%d%s\t%s\t%d\t%s\t%s\n", r.Ordinal, mark, printable(r.ID), r.Seq, shorten(printable(string(r.Metadata))), shorten(fmt.Sprint(r.Vector)))
	}
}

func printAttributes(w io.Writer, a inspect.Attributes) {
	fmt.Fprintln(w, "\nKEY\tROWS\tVALUES\tLEAST\tMOST\t")
	for _, k := range a.Keys {
		note := ""
		switch {
		case k.Dropped:
			note = "not indexed"
		case k.Long > 0:
			note = fmt.Sprintf("%d rows with long strings", k.Long)
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\t%s\n", shorten(printable(k.Key)), k.Rows, k.Values, shorten(printable(string(k.Least))), shorten(printable(string(k.Most))), note)
	}
	if !a.Complete {
		fmt.Fprintln(w, "and more keys, which are not indexed")
	}
}

// barWidth is how long the longest bar of a distribution is.
const barWidth = 40

func printCodes(w io.Writer, quantizer string, c inspect.Codes) {
	if quantizer == "" {
		quantizer = "its own"
	}
	fmt.Fprintf(w, "quantizer\t%s, %s codebook, trained on %d rows\n", quantizer, c.Codebook, c.TrainedRows)
	fmt.Fprintf(w, "residual\t%.6g", c.Residual)
	if c.TrainedResidual > 0 {
		fmt.Fprintf(w, ", %.6g in training", c.TrainedResidual)
	}
	fmt.Fprintln(w)
	l := c.Lists
	fmt.Fprintf(w, "lists\t%d, %d of them empty; %d spilled codes\n", l.Count, l.Empty, l.Spilled)
	fmt.Fprintf(w, "list length\tmean %.1f, min %d, p50 %d, p90 %d, p99 %d, max %d\n", l.Mean, l.Min, l.P50, l.P90, l.P99, l.Max)
	most := 0
	for _, b := range l.Buckets {
		most = max(most, b.Lists)
	}
	fmt.Fprintln(w, "\nLENGTH\tLISTS\t")
	for _, b := range l.Buckets {
		fmt.Fprintf(w, "%d-%d\t%d\t%s\n", b.From, b.To, b.Lists, strings.Repeat("▇", max(1, b.Lists*barWidth/most)))
	}
	fmt.Fprintln(w, "\nRECALL\tPROBES\tDEPTH")
	for _, k := range c.Calibration {
		fmt.Fprintf(w, "%.2f\t%d\t%d\n", k.Recall, k.Probes, k.Depth)
	}
}
