package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/verify"
)

func newVerifyCmd() *cobra.Command { return verifyCommand(verify.Store) }

// verifyCommand is `akidb verify` with what does the work.
func verifyCommand(check func(context.Context, blob.Store, verify.Options) (*verify.Report, error)) *cobra.Command {
	c := &cobra.Command{
		Use: "verify", Args: cobra.NoArgs, Short: "Prove a store whole",
		Long: "Read everything that the collections of a store consist of and hold it against the hashes\n" +
			"and checksums that lead down from each CURRENT: the chain of manifests, every object, every\n" +
			"row, what snapshots keep, and that nothing else is there. It changes nothing, and may run\n" +
			"beside a writer. The exit code is 5 when anything is wrong.",
		Example: "  akidb verify --store s3://bucket/prefix --collection movies",
	}
	var opts verify.Options
	c.Flags().StringArrayVarP(&opts.Collections, "collection", "c", nil, "look at this collection, by name or id; may be repeated (default: all)")
	c.Flags().BoolVar(&opts.Shallow, "shallow", false, "do not read the contents of objects: only that they exist, and how large they are")
	c.Flags().DurationVar(&opts.OrphanGrace, "orphan-grace", 2*time.Hour, "how old an object that nothing names may be that is not yet a problem")
	return storeCommand(c, func(ctx context.Context, store blob.Store, _ []string, p printer) error {
		if opts.OrphanGrace <= 0 {
			return usageErrorf("--orphan-grace is %s, want more than 0", opts.OrphanGrace)
		}
		report, err := check(ctx, store, opts)
		if err != nil {
			return err
		}
		if err := p.print(report, func(w io.Writer) { printReport(w, report) }); err != nil {
			return err
		}
		if n := len(report.Problems); n > 0 {
			return withExitCode(exitVerificationFailed, fmt.Errorf("verify: %w: %d problems", errNotWhole, n))
		}
		return nil
	})
}

var errNotWhole = errors.New("the store is not whole")

func printReport(w io.Writer, r *verify.Report) {
	fmt.Fprintln(w, "COLLECTION\tID\tVERSION\tVERSIONS\tPINS\tSEGMENTS\tROWS\tOBJECTS\tSIZE\tORPHANS\tIN FLIGHT\tFOREIGN")
	for _, c := range r.Collections {
		name := printable(c.Name)
		if c.Dropped {
			name += " (dropped)"
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%d\t%d\t%d\n", name, c.ID, c.Version, c.Chain, c.Pins, c.Segments, c.Rows,
			c.Objects, size(c.Bytes), c.Orphans, c.InFlight, c.Foreign)
	}
	for _, p := range r.Problems {
		fmt.Fprintf(w, "PROBLEM: %v\n", p)
	}
}
