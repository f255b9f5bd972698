package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/akidb/akidb/internal/config"
	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/bloburl"
	"github.com/akidb/akidb/segments/inspect"
	"github.com/akidb/akidb/segments/manifest"
)

// storeCommand makes c a command that looks at the store itself, whether or not
// anything runs on it: it adds the flags that say where it is, and -o. It reads
// and changes nothing.
func storeCommand(c *cobra.Command, do func(ctx context.Context, store blob.Store, args []string, p printer) error) *cobra.Command {
	var format string
	addConfigFlags(c.Flags(), config.Tool)
	check := outputFlag(c, &format, "table", "json")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := check(); err != nil {
			return err
		}
		cfg, err := loadConfig(c.Flags(), config.Tool)
		if err != nil {
			return err
		}
		store, err := bloburl.OpenReadOnly(c.Context(), cfg.Store.String(), s3Config(cfg))
		if err != nil {
			return err
		}
		defer store.Close()
		ctx, stop := untilSignal(c.Context(), c.ErrOrStderr())
		defer stop()
		err = do(ctx, blob.Guard(store, blob.GuardConfig{}), args, printer{c.OutOrStdout(), format == "json"})
		if errors.Is(err, manifest.ErrUnsupported) || errors.Is(err, segments.ErrUnsupported) {
			err = withExitCode(exitUnsupported, err)
		}
		return err
	}
	return c
}

// found is a version of a collection, in its store.
type found struct {
	store    blob.Store
	of       *inspect.Collection
	snapshot *manifest.Snapshot
}

// versionCommand makes c a storeCommand that looks at a version of the
// collection that its first argument names: the newest, or the one of its flags.
func versionCommand(c *cobra.Command, do func(ctx context.Context, f found, args []string, p printer) error) *cobra.Command {
	version := versionFlags(c)
	return storeCommand(c, func(ctx context.Context, store blob.Store, args []string, p printer) error {
		of, err := inspect.Find(ctx, store, args[0])
		if err != nil {
			return err
		}
		s, err := version(ctx, of)
		if err != nil {
			return err
		}
		return do(ctx, found{store, of, s}, args[1:], p)
	})
}

// versionFlags add the choice of a version, and return what finds it.
func versionFlags(c *cobra.Command) func(ctx context.Context, of *inspect.Collection) (*manifest.Snapshot, error) {
	version := c.Flags().Uint64("version", 0, "the `N`-th version (default: the newest)")
	at := c.Flags().String("at", "", "the newest version there was at a `TIME`, as in 2026-01-31T12:00:00Z")
	c.MarkFlagsMutuallyExclusive("version", "at")
	return func(ctx context.Context, of *inspect.Collection) (*manifest.Snapshot, error) {
		if *at == "" {
			return of.At(ctx, *version)
		}
		moment, err := time.Parse(time.RFC3339Nano, *at)
		if err != nil {
			return nil, usageErrorf("--at is %q, want a time like 2026-01-31T12:00:00Z", *at)
		}
		return of.AtTime(ctx, moment)
	}
}

// shownHash is how much of a hash or an id a table shows.
const shownHash = 12

func abbreviate(id string) string {
	if len(id) <= shownHash {
		return id
	}
	return id[:shownHash] + "…"
}

// orDash keeps an empty cell from being overlooked.
func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// seqs is the sequence numbers of some rows.
func seqs(from, to uint64) string { return fmt.Sprintf("%d-%d", from, to) }
