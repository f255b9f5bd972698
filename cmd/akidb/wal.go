package main

import (
	"fmt"
	"io"
	"path/filepath"
	"text/tabwriter"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"github.com/akidb/akidb/writer/wal"
)

const defaultDataDir = "./akidb-data"

func newWALCmd() *cobra.Command {
	c := &cobra.Command{Use: "wal", Short: "Look into a writer's log, and repair it"}
	c.AddCommand(newWALDumpCmd(), newWALRepairCmd())
	parent(c)
	return c
}

// walDirFlag adds the flag that says where the log is.
func walDirFlag(c *cobra.Command) func() string {
	dir := c.Flags().String("data-dir", defaultDataDir, "the writer's data `DIR`")
	return func() string { return filepath.Join(*dir, "wal") }
}

// walLine is one line of a dump.
type walLine struct {
	File       uint64 `json:"file"`
	Offset     int64  `json:"offset"`
	End        int64  `json:"end"`
	Kind       string `json:"kind"`
	Collection string `json:"collection,omitempty"` // the ULID as a UUID
	Epoch      uint64 `json:"epoch,omitempty"`
	FirstSeq   uint64 `json:"first_seq,omitempty"`
	LastSeq    uint64 `json:"last_seq,omitempty"`
	Bytes      int    `json:"payload_bytes,omitempty"`
	Problem    string `json:"problem,omitempty"`
}

func newWALDumpCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "dump", Args: cobra.NoArgs,
		Short: "List everything in the log, damage included; changes nothing",
	}
	dir := walDirFlag(c)
	var format string
	check := outputFlag(c, &format, "table", "json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := check(); err != nil {
			return err
		}
		write, finish := walPrinter(c.OutOrStdout(), format)
		if err := wal.Inspect(wal.OS(), dir(), func(e wal.Entry) error { return write(lineOf(e)) }); err != nil {
			return err
		}
		return finish()
	}
	return c
}

func lineOf(e wal.Entry) walLine {
	l := walLine{File: e.Position.File, Offset: e.Position.Offset, End: e.End, Kind: e.Kind, Problem: e.Problem}
	if r := e.Record; r.Count > 0 {
		l.Collection, l.Epoch = r.Collection.String(), r.Epoch
		l.FirstSeq, l.LastSeq, l.Bytes = r.Seq, r.Seq+uint64(r.Count)-1, len(r.Payload)
	}
	return l
}

// walPrinter writes one line at a time: a log may be large.
func walPrinter(w io.Writer, format string) (write func(walLine) error, finish func() error) {
	if format == "json" {
		return func(l walLine) error {
			b, err := json.Marshal(l)
			if err == nil {
				_, err = w.Write(append(b, '\n'))
			}
			return err
		}, func() error { return nil }
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "FILE\tOFFSET\tEND\tKIND\tCOLLECTION\tEPOCH\tSEQS\tBYTES\tPROBLEM")
	return func(l walLine) error {
		seqs := ""
		if l.LastSeq > 0 {
			seqs = fmt.Sprintf("%d-%d", l.FirstSeq, l.LastSeq)
		}
		_, err := fmt.Fprintf(t, "%d\t%d\t%d\t%s\t%s\t%d\t%s\t%d\t%s\n", l.File, l.Offset, l.End, l.Kind, l.Collection, l.Epoch, seqs, l.Bytes, l.Problem)
		return err
	}, t.Flush
}

func newWALRepairCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "repair", Args: cobra.NoArgs,
		Short: "Make a damaged log usable by giving up what cannot be read",
		Long: "Repair keeps every record that is whole, gives up what is damaged, and says which\n" +
			"sequence numbers are lost. The files are copied to a backup first. The writer must\n" +
			"be stopped. A log that is intact is left as it is.",
	}
	dir := walDirFlag(c)
	backup := c.Flags().String("backup-dir", "", "where the files are copied first (default: a new folder inside the log's)")
	accept := c.Flags().Bool("accept-loss", false, "yes, give up acknowledged writes that cannot be read")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if !*accept {
			return usageErrorf("repair may give up acknowledged writes; say --accept-loss, after `akidb wal dump` has shown what is damaged")
		}
		report, err := wal.Repair(wal.OS(), dir(), wal.RepairOptions{BackupDir: *backup})
		if err != nil {
			return err
		}
		printRepair(c.OutOrStdout(), report)
		return nil
	}
	return c
}

func printRepair(w io.Writer, r *wal.RepairReport) {
	if r.Intact {
		fmt.Fprintf(w, "the log is intact: %d records, nothing changed\n", r.Kept)
		return
	}
	fmt.Fprintf(w, "%d records kept; the files as they were are in %s\n", r.Kept, r.BackupDir)
	for _, l := range r.Dropped {
		if l.To == 0 {
			fmt.Fprintf(w, "given up: file %d: %s\n", l.File, l.Cause)
			continue
		}
		fmt.Fprintf(w, "given up: file %d, bytes %d to %d: %s\n", l.File, l.From, l.To, l.Cause)
	}
	for _, l := range r.Lost {
		fmt.Fprintf(w, "lost: %v\n", l)
	}
}
