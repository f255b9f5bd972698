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

// serverCommand makes c a command that asks a running server: it adds --url and
// -o, and do gets a client and what the user wants printed.
func serverCommand(c *cobra.Command, do func(ctx context.Context, server *client.Client, args []string, p printer) error) *cobra.Command {
	var url, format string
	urlFlag(c, &url)
	check := outputFlag(c, &format, "table", "json")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := check(); err != nil {
			return err
		}
		server, err := client.New(client.Config{URL: url, Notify: retryNotice(c.ErrOrStderr())})
		if err != nil {
			return withExitCode(exitUsage, err)
		}
		defer server.Close()
		ctx, stop := untilSignal(c.Context(), c.ErrOrStderr())
		defer stop()
		return do(ctx, server, args, printer{c.OutOrStdout(), format == "json"})
	}
	return c
}

// printer prints what a command found as a table or as JSON.
type printer struct {
	w    io.Writer
	json bool
}

// print prints v as JSON, or what table writes to a table.
func (p printer) print(v any, table func(w io.Writer)) error {
	if p.json {
		return printJSON(p.w, v)
	}
	t := tabwriter.NewWriter(p.w, 0, 0, 2, ' ', 0)
	table(t)
	return t.Flush()
}

// said is what a command that has nothing else to show did, for programs.
type said struct {
	Done         string `json:"done"` // deleted
	Collection   string `json:"collection"`
	SnapshotName string `json:"snapshot,omitempty"`
}

func (p printer) said(s said, format string, args ...any) error {
	return p.print(s, func(w io.Writer) { fmt.Fprintf(w, format+"\n", args...) })
}

// moment writes a time for people, to the millisecond.
func moment(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

func size(bytes int64) string { return humanize.IBytes(uint64(bytes)) }
