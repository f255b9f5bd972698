package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/akidb/akidb/internal/client"
)

func newDLQCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "dlq",
		Short: "Look at background work that waits for the object store, and have it tried",
		Long: "Flushes, compactions and drops that failed again and again wait here for the object store\n" +
			"to be well. They are jobs and no data: their rows are in the writer's log and searchable.\n" +
			"They drain by themselves, within a minute of the store being back.",
	}
	c.AddCommand(newDLQListCmd(), newDLQRetryCmd(), newDLQRetryAllCmd(), newDLQDeleteCmd())
	parent(c)
	return c
}

// deadLetterList is what `akidb dlq list` prints.
type deadLetterList struct {
	Entries []client.DeadLetter `json:"entries"`
}

func newDLQListCmd() *cobra.Command {
	c := &cobra.Command{Use: "list", Args: cobra.NoArgs, Short: "List the jobs that wait"}
	return serverCommand(c, func(ctx context.Context, server *client.Client, _ []string, p printer) error {
		entries, err := server.DeadLetters(ctx)
		if err != nil {
			return err
		}
		return p.print(deadLetterList{entries}, func(w io.Writer) {
			fmt.Fprintln(w, "ID\tKIND\tCOLLECTION\tSEQS\tSIZE\tATTEMPTS\tSINCE\tLAST ERROR")
			for _, e := range entries {
				fmt.Fprintf(w, "%s\t%s\t%s\t%d-%d\t%s\t%d\t%s\t%s\n", e.ID, e.Kind, e.Collection, e.FirstSeq, e.LastSeq,
					size(max(0, e.Bytes)), e.Attempts, moment(e.FirstFailed), shorten(printable(e.LastError)))
			}
		})
	})
}

// retriedJobs is what the two commands that retry print.
type retriedJobs struct {
	Retried int `json:"retried"`
}

func (p printer) retried(n int) error {
	return p.print(retriedJobs{n}, func(w io.Writer) { fmt.Fprintf(w, "%d told to try again\n", n) })
}

func newDLQRetryCmd() *cobra.Command {
	c := &cobra.Command{Use: "retry ID", Args: cobra.ExactArgs(1), Short: "Try one of them now"}
	return serverCommand(c, func(ctx context.Context, server *client.Client, args []string, p printer) error {
		if err := server.RetryDeadLetter(ctx, args[0]); err != nil {
			return err
		}
		return p.retried(1)
	})
}

func newDLQRetryAllCmd() *cobra.Command {
	c := &cobra.Command{Use: "retry-all", Args: cobra.NoArgs, Short: "Try all of them now"}
	return serverCommand(c, func(ctx context.Context, server *client.Client, _ []string, p printer) error {
		n, err := server.RetryDeadLetters(ctx)
		if err != nil {
			return err
		}
		return p.retried(n)
	})
}

func newDLQDeleteCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "delete ID", Args: cobra.ExactArgs(1),
		Short: "Forget an entry: its job is tried at once, as if it had never failed, and no row is lost",
	}
	return serverCommand(c, func(ctx context.Context, server *client.Client, args []string, p printer) error {
		if err := server.DeleteDeadLetter(ctx, args[0]); err != nil {
			return err
		}
		return p.print(deletedEntry{args[0]}, func(w io.Writer) { fmt.Fprintf(w, "%s forgotten\n", args[0]) })
	})
}

// deletedEntry is what `akidb dlq delete` prints.
type deletedEntry struct {
	Deleted string `json:"deleted"`
}
