package main

import (
	"context"
	"fmt"
	"io"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/akidb/akidb/internal/client"
)

func newCollectionsCmd() *cobra.Command {
	c := &cobra.Command{Use: "collections", Short: "List, show, create, branch and delete the collections of a server"}
	c.AddCommand(newCollectionsListCmd(), newCollectionsShowCmd(), newCollectionsCreateCmd(), newCollectionsBranchCmd(), newCollectionsDeleteCmd())
	parent(c)
	return c
}

// collectionList is what `akidb collections list` prints.
type collectionList struct {
	Collections []client.Collection `json:"collections"`
}

func newCollectionsListCmd() *cobra.Command {
	c := &cobra.Command{Use: "list", Args: cobra.NoArgs, Short: "List every collection, by name"}
	return serverCommand(c, func(ctx context.Context, server *client.Client, _ []string, p printer) error {
		list, err := server.ListCollections(ctx)
		if err != nil {
			return err
		}
		return p.print(collectionList{list}, func(w io.Writer) {
			fmt.Fprintln(w, "NAME\tDIMENSION\tMETRIC\tROWS\tUNINDEXED\tSEGMENTS\tSIZE\tTIER\tVERSION\tID")
			for _, c := range list {
				fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%d\t%d\t%s\t%s\t%d\t%s\n",
					c.Name, c.Dimension, c.Metric, c.VectorCount, c.UnindexedCount, c.SegmentCount, size(c.SizeBytes), c.Tier, c.ManifestVersion, c.ID)
			}
		})
	})
}

func newCollectionsShowCmd() *cobra.Command {
	c := &cobra.Command{Use: "show C", Args: cobra.ExactArgs(1), Short: "Show one collection, by name or id"}
	asOf := c.Flags().String("as-of", "", "as it was: a manifest version, a time as in 2026-01-31T12:00:00Z, or a snapshot")
	return serverCommand(c, func(ctx context.Context, server *client.Client, args []string, p printer) error {
		found, err := collectionAsOf(ctx, server, args[0], *asOf)
		if err != nil {
			return err
		}
		return printCollection(p, found)
	})
}

func collectionAsOf(ctx context.Context, server *client.Client, name, asOf string) (client.Collection, error) {
	if asOf == "" {
		return server.GetCollection(ctx, name)
	}
	return server.GetCollectionAsOf(ctx, name, asOf)
}

func printCollection(p printer, c client.Collection) error {
	return p.print(c, func(w io.Writer) {
		fmt.Fprintf(w, "name\t%s\nid\t%s\ndimension\t%d\nmetric\t%s\n", c.Name, c.ID, c.Dimension, c.Metric)
		fmt.Fprintf(w, "rows\t%s, %s of them not in segments yet\n", humanize.Comma(c.VectorCount), humanize.Comma(c.UnindexedCount))
		fmt.Fprintf(w, "segments\t%d, %s\ntier\t%s\n", c.SegmentCount, size(c.SizeBytes), c.Tier)
		fmt.Fprintf(w, "version\t%d\nseq\t%d\ncreated\t%s\n", c.ManifestVersion, c.Seq, moment(c.CreatedAt))
	})
}

func newCollectionsCreateCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "create C --dimension N --metric M", Args: cobra.ExactArgs(1), Short: "Create an empty collection",
		Example: "  akidb collections create movies --dimension 768 --metric cosine",
	}
	dimension := c.Flags().Int("dimension", 0, "values in each vector, 1 to 16384 (required)")
	metric := c.Flags().String("metric", "", "l2, cosine or dot (required)")
	for _, flag := range []string{"dimension", "metric"} {
		if err := c.MarkFlagRequired(flag); err != nil {
			panic(fmt.Sprintf("BUG: %v", err))
		}
	}
	return serverCommand(c, func(ctx context.Context, server *client.Client, args []string, p printer) error {
		created, err := server.CreateCollection(ctx, client.NewCollection{Name: args[0], Dimension: *dimension, Metric: *metric})
		if err != nil {
			return err
		}
		return printCollection(p, created)
	})
}

func newCollectionsBranchCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "branch C NEW", Args: cobra.ExactArgs(2), Short: "Make a collection that begins as another one is, or was; nothing is copied",
		Example: "  akidb collections branch movies movies-experiment --snapshot before-migration",
	}
	snapshot := c.Flags().String("snapshot", "", "begin as in this snapshot: its id, its name, or latest (default: the rows as they are now)")
	return serverCommand(c, func(ctx context.Context, server *client.Client, args []string, p printer) error {
		made, err := server.Branch(ctx, args[0], args[1], *snapshot)
		if err != nil {
			return err
		}
		return printCollection(p, made)
	})
}

func newCollectionsDeleteCmd() *cobra.Command {
	c := &cobra.Command{Use: "delete C", Args: cobra.ExactArgs(1), Short: "Delete a collection, its rows and its snapshots"}
	return serverCommand(c, func(ctx context.Context, server *client.Client, args []string, p printer) error {
		if err := server.DeleteCollection(ctx, args[0]); err != nil {
			return err
		}
		return p.said(said{Done: "deleted", Collection: args[0]}, "collection %q deleted", args[0])
	})
}
