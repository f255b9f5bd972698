package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/akidb/akidb/internal/client"
)

func newDLQCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "dlq",
		Short: "Look at background work that waits for the object store, and have it tried",
		Long: `Flushes, compactions and drops that failed again and again wait here for the object store to be well. They are jobs and no data:
their rows are in the writer's log and searchable. They drain by themselves, within a minute of the store being back.

The server's API key is taken from AKIDB_API_KEY.`,
	}
	c.AddCommand(
		dlqCommand("list", "List the jobs that wait", cobra.NoArgs, listDeadLetters),
		dlqCommand("retry ID", "Try one of them now", cobra.ExactArgs(1), func(ctx context.Context, s *client.Client, args []string) (any, error) {
			return retriedJobs{1}, s.RetryDeadLetter(ctx, args[0])
		}),
		dlqCommand("retry-all", "Try all of them now", cobra.NoArgs, func(ctx context.Context, s *client.Client, _ []string) (any, error) {
			n, err := s.RetryDeadLetters(ctx)
			return retriedJobs{n}, err
		}),
		dlqCommand("delete ID", "Forget an entry: its job is tried at once, as if it had never failed, and no row is lost", cobra.ExactArgs(1),
			func(ctx context.Context, s *client.Client, args []string) (any, error) {
				return deletedEntry{args[0]}, s.DeleteDeadLetter(ctx, args[0])
			}),
	)
	parent(c)
	return c
}

// dlqCommand is one that asks the server and prints what it said.
func dlqCommand(use, short string, args cobra.PositionalArgs, ask func(context.Context, *client.Client, []string) (any, error)) *cobra.Command {
	var url, output string
	c := &cobra.Command{Use: use, Short: short, Args: args}
	urlFlag(c, &url)
	check := outputFlag(c, &output, "table", "json")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := check(); err != nil {
			return err
		}
		server, err := client.New(client.Config{URL: url, RetryFor: searchRetry, Notify: retryNotice(c.ErrOrStderr())})
		if err != nil {
			return withExitCode(exitUsage, err)
		}
		defer server.Close()
		ctx, stop := untilSignal(c.Context(), c.ErrOrStderr())
		defer stop()
		answer, err := ask(ctx, server, args)
		if err != nil {
			return err
		}
		if output == "json" {
			return printJSON(c.OutOrStdout(), answer)
		}
		return answer.(interface{ printTable(w io.Writer) error }).printTable(c.OutOrStdout())
	}
	return c
}

// deadLetterList is what list prints.
type deadLetterList struct {
	Entries []client.DeadLetter `json:"entries"`
}

func listDeadLetters(ctx context.Context, s *client.Client, _ []string) (any, error) {
	entries, err := s.DeadLetters(ctx)
	return deadLetterList{entries}, err
}

func (l deadLetterList) printTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tKIND\tCOLLECTION\tSEQS\tSIZE\tATTEMPTS\tSINCE\tLAST ERROR")
	for _, e := range l.Entries {
		fmt.Fprintf(t, "%s\t%s\t%s\t%d-%d\t%s\t%d\t%s\t%s\n", e.ID, e.Kind, e.Collection, e.FirstSeq, e.LastSeq,
			humanize.IBytes(uint64(max(0, e.Bytes))), e.Attempts, e.FirstFailed.UTC().Format(time.RFC3339), shorten(printable(e.LastError)))
	}
	return t.Flush()
}

type retriedJobs struct {
	Retried int `json:"retried"`
}

func (r retriedJobs) printTable(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%d told to try again\n", r.Retried)
	return err
}

type deletedEntry struct {
	Deleted string `json:"deleted"`
}

func (d deletedEntry) printTable(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%s forgotten\n", d.Deleted)
	return err
}
