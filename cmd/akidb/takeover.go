package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/akidb/akidb/internal/config"
	"github.com/akidb/akidb/internal/telemetry"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/bloburl"
	"github.com/akidb/akidb/writer"
	"github.com/akidb/akidb/writer/wal"
)

func newTakeoverCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "takeover", Args: cobra.NoArgs,
		Short: "Give every collection of the store to the log in --data-dir",
		Long: "For when the writer that owned them, and its disk, are gone for good. What it shipped\n" +
			"of its log to the store is recovered; rows that only the log held are lost. Should it\n" +
			"still run, it stops at its next commit, and what it ships meanwhile may not be recovered.\n" +
			"Interrupted, it is run again on the same data directory.",
	}
	addConfigFlags(c.Flags(), config.Writer)
	accept := c.Flags().Bool("accept-loss", false, "yes, give up rows that were not shipped to the store")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if !*accept {
			return usageErrorf("takeover gives up rows that the other writer has not shipped to the store; say --accept-loss")
		}
		cfg, err := loadConfig(c.Flags(), config.Writer)
		if err != nil {
			return err
		}
		log, err := telemetry.NewLogger(c.ErrOrStderr(), cfg.LogLevel, cfg.LogFormat)
		if err != nil {
			return err
		}
		store, err := bloburl.Open(c.Context(), cfg.Store.String(), s3Config(cfg))
		if err != nil {
			return err
		}
		defer store.Close()
		taken, err := writer.Takeover(context.WithoutCancel(c.Context()), writer.Config{
			Store: blob.Guard(store, blob.GuardConfig{}), DataDir: cfg.DataDir, WAL: wal.Config{FileBytes: cfg.WALFileBytes}, MaxLogBytes: cfg.WALMaxBytes,
			Ship: cfg.WALShip, Logger: log,
		})
		if err != nil {
			return err
		}
		for _, r := range taken {
			printRecovered(c.OutOrStdout(), r)
		}
		fmt.Fprintf(c.OutOrStdout(), "%d collections taken over\n", len(taken))
		return nil
	}
	return c
}

// printRecovered says what is there of a collection, and what is not.
func printRecovered(out io.Writer, r writer.Recovered) {
	fmt.Fprintf(out, "collection %q (%s), from log %s:\n  flushed through seq %d\n", r.Name, r.ID, r.From, r.FlushedSeq)
	if r.ShippedAt.IsZero() {
		fmt.Fprintf(out, "  nothing shipped beyond that\n")
	} else {
		fmt.Fprintf(out, "  recovered through seq %d, shipped at %s\n", r.Through, r.ShippedAt.Format(time.RFC3339Nano))
	}
	if r.Problem != "" {
		fmt.Fprintf(out, "  NOT COMPLETE: %s\n", r.Problem)
	}
	fmt.Fprintf(out, "  what was acknowledged later than that (token greater than %v) is lost\n", r.Token())
}
