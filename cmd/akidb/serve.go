package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/akidb/akidb/internal/config"
)

func newDevCmd() *cobra.Command {
	var demo bool
	c := serverCmd(config.Dev, "Run every role in one process, on an embedded object store", func(ctx context.Context, p *process) error {
		return runDev(ctx, p, demo)
	})
	c.Flags().BoolVar(&demo, "demo", false, "load the bundled sample collection and print a search to paste")
	return c
}

func newWriterCmd() *cobra.Command {
	return serverCmd(config.Writer, "Run the ingest role: log, segments, collections", runWriter)
}

func newQueryCmd() *cobra.Command {
	return serverCmd(config.Query, "Run the stateless search role", runQuery)
}

// serverCmd is the command of a role: it resolves the configuration, opens the
// listeners and gives both to serve.
func serverCmd(role config.Role, short string, serve func(context.Context, *process) error) *cobra.Command {
	c := &cobra.Command{Use: string(role), Short: short, Args: cobra.NoArgs}
	addConfigFlags(c.Flags(), role)
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := loadConfig(c.Flags(), role)
		if err != nil {
			return err
		}
		ctx, stop := untilSignal(c.Context(), c.ErrOrStderr())
		defer stop()
		p, err := openProcess(ctx, cfg, c.OutOrStdout(), c.ErrOrStderr())
		if err != nil {
			return err
		}
		defer p.close()
		return serve(ctx, p)
	}
	return c
}
