package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"github.com/akidb/akidb/kernels"
)

// version and commit are set by the build: -ldflags "-X main.version=… -X main.commit=…".
var (
	version = ""
	commit  = ""
)

// buildInfo is what `akidb version` says.
type buildInfo struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
	SIMD    string `json:"simd"` // the level of the kernels on this machine
}

// thisBuild prefers what the build set to what the Go tool recorded.
func thisBuild() buildInfo {
	b := buildInfo{version, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH, kernels.ActiveLevel()}
	if info, ok := debug.ReadBuildInfo(); ok {
		if b.Version == "" && info.Main.Version != "(devel)" {
			b.Version = info.Main.Version
		}
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && b.Commit == "" {
				b.Commit = s.Value
			}
		}
	}
	if b.Version == "" {
		b.Version = "dev"
	}
	if b.Commit == "" {
		b.Commit = "unknown"
	}
	return b
}

func newVersionCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "version",
		Short: "Print what this build is",
		Args:  cobra.NoArgs,
	}
	var format string
	check := outputFlag(c, &format, "table", "json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := check(); err != nil {
			return err
		}
		b := thisBuild()
		if format == "json" {
			return printJSON(c.OutOrStdout(), b)
		}
		_, err := fmt.Fprintf(c.OutOrStdout(), "akidb %s (commit %s, %s, %s/%s, %s)\n", b.Version, b.Commit, b.Go, b.OS, b.Arch, b.SIMD)
		return err
	}
	return c
}

// printJSON prints v for people and programs alike: indented, one final newline.
func printJSON(w io.Writer, v any) error {
	b, err := json.Marshal(v, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		return fmt.Errorf("print json: %w", err)
	}
	_, err = w.Write(append(b, '\n'))
	return err
}
