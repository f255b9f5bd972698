package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/akidb/akidb/internal/config"
	"github.com/akidb/akidb/internal/telemetry"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/bloburl"
	"github.com/akidb/akidb/writer"
)

func newTakeoverCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "takeover", Args: cobra.NoArgs,
		Short: "Give every collection of the store to the log in --data-dir",
		Long: "For when the writer that owned them, and its disk, are gone for good. Rows that only\n" +
			"its log held are lost. Should it still run, it stops at its next commit.",
	}
	addConfigFlags(c.Flags(), config.Writer)
	accept := c.Flags().Bool("accept-loss", false, "yes, give up rows that only the lost log holds")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if !*accept {
			return usageErrorf("takeover gives up rows that only the other writer's log holds; say --accept-loss")
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
		return writer.Takeover(context.WithoutCancel(c.Context()), writer.Config{
			Store: blob.Guard(store, blob.GuardConfig{}), DataDir: cfg.DataDir, Logger: log,
		})
	}
	return c
}
