package main

import (
	"context"
	"fmt"
	"io"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/akidb/akidb/internal/client"
)

func newSnapshotsCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "snapshots", Short: "Keep the rows of a collection as they are, and go back to them",
		Long: "A snapshot keeps a version of a collection for as long as the snapshot exists. Nothing is\n" +
			"copied. It is named by its id, its name, or as latest; searches read it with as_of.",
	}
	c.AddCommand(newSnapshotsListCmd(), newSnapshotsCreateCmd(), newSnapshotsDeleteCmd(), newSnapshotsRestoreCmd())
	parent(c)
	return c
}

// snapshotList is what `akidb snapshots list` prints.
type snapshotList struct {
	Snapshots []client.Snapshot `json:"snapshots"`
}

func newSnapshotsListCmd() *cobra.Command {
	c := &cobra.Command{Use: "list C", Args: cobra.ExactArgs(1), Short: "List a collection's snapshots, oldest first"}
	return serverCommand(c, func(ctx context.Context, server *client.Client, args []string, p printer) error {
		list, err := server.ListSnapshots(ctx, args[0])
		if err != nil {
			return err
		}
		return p.print(snapshotList{list}, func(w io.Writer) { printSnapshots(w, list...) })
	})
}

func printSnapshots(w io.Writer, list ...client.Snapshot) {
	fmt.Fprintln(w, "ID\tNAME\tROWS\tVERSION\tCREATED")
	for _, s := range list {
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\n", s.ID, s.Name, s.VectorCount, s.ManifestVersion, moment(s.CreatedAt))
	}
}

func newSnapshotsCreateCmd() *cobra.Command {
	c := &cobra.Command{Use: "create C", Args: cobra.ExactArgs(1), Short: "Keep the rows as they are now"}
	var n client.NewSnapshot
	c.Flags().StringVar(&n.Name, "name", "", "what to call it (default: it has an id only)")
	c.Flags().BoolVar(&n.Export, "export", false, "have the server write a Parquet file of it into the object store too")
	return serverCommand(c, func(ctx context.Context, server *client.Client, args []string, p printer) error {
		taken, err := server.CreateSnapshot(ctx, args[0], n)
		if err != nil {
			return err
		}
		return p.print(taken, func(w io.Writer) { printSnapshots(w, taken) })
	})
}

func newSnapshotsDeleteCmd() *cobra.Command {
	c := &cobra.Command{Use: "delete C S", Args: cobra.ExactArgs(2), Short: "Give up a snapshot"}
	return serverCommand(c, func(ctx context.Context, server *client.Client, args []string, p printer) error {
		if err := server.DeleteSnapshot(ctx, args[0], args[1]); err != nil {
			return err
		}
		return p.said(said{Done: "deleted", Collection: args[0], SnapshotName: args[1]}, "snapshot %q of collection %q deleted", args[1], args[0])
	})
}

func newSnapshotsRestoreCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "restore C S", Args: cobra.ExactArgs(2), Short: "Make the rows those of a snapshot again",
		Long: "What was written since is undone, and can be brought back only from another snapshot.",
	}
	return serverCommand(c, func(ctx context.Context, server *client.Client, args []string, p printer) error {
		restored, err := server.Restore(ctx, args[0], args[1])
		if err != nil {
			return err
		}
		return p.print(restored, func(w io.Writer) {
			fmt.Fprintf(w, "collection %q has the %s rows of snapshot %s again, as version %d; token %s\n",
				args[0], humanize.Comma(restored.VectorCount), restored.SnapshotID, restored.ManifestVersion, restored.Token)
		})
	})
}
