// Command report shows what chaos scenarios came to, as a table: a line for each
// line of the file that AKIDB_CHAOS_REPORT named when they ran.
//
//	go run ./chaos/report FILE
package main

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/go-json-experiment/json"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	if len(args) != 1 {
		return fmt.Errorf("got %d arguments, want the name of a file", len(args))
	}
	file, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer file.Close()
	return show(file, out)
}

// line is the part of a scenario's summary that is shown.
type line struct {
	Scenario     string         `json:"scenario"`
	Passed       bool           `json:"passed"`
	Acknowledged int            `json:"acknowledged"`
	Unknown      int            `json:"unknown"`
	Refused      int            `json:"refused"`
	Lost         int            `json:"lost"`
	Resurrected  int            `json:"resurrected"`
	Duplicated   int            `json:"duplicated"`
	Invented     int            `json:"invented"`
	Torn         int            `json:"torn"`
	Recovery     float64        `json:"recovery_seconds"`
	BreakerOpen  float64        `json:"breaker_open_seconds"`
	DLQDrained   float64        `json:"dlq_drained_seconds"`
	Faults       map[string]int `json:"faults"`
}

func show(in io.Reader, out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "scenario\t\tacked\tunknown\trefused\tlost\tresurrected\tduplicated\tinvented\ttorn\trecovery\tbreaker\tdlq\tfaults")
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return fmt.Errorf("%q: %w", lines.Text(), err)
		}
		result := "FAILED"
		if l.Passed {
			result = "ok"
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t%s\n", strings.TrimPrefix(l.Scenario, "Test"), result,
			l.Acknowledged, l.Unknown, l.Refused, l.Lost, l.Resurrected, l.Duplicated, l.Invented, l.Torn,
			seconds(l.Recovery), seconds(l.BreakerOpen), seconds(l.DLQDrained), counts(l.Faults))
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return w.Flush()
}

func seconds(s float64) string {
	if s == 0 {
		return "-" // not measured
	}
	return fmt.Sprintf("%.1f s", s)
}

func counts(m map[string]int) string {
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(m)) {
		if m[what] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", m[what], what))
		}
	}
	return strings.Join(parts, ", ")
}
