package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/akidb/akidb/internal/nearest"
	"github.com/akidb/akidb/kernels"
)

// Exit codes of the contract. An error may choose one by implementing
// ExitCode() int; any other error of a command that ran is exitFailed.
const (
	exitFailed             = 1
	exitUsage              = 2
	exitFenced             = 3
	exitUnsupported        = 4
	exitVerificationFailed = 5
)

// codedError is an error with an exit code.
type codedError struct {
	code int
	err  error
}

func (e *codedError) Error() string { return e.err.Error() }
func (e *codedError) Unwrap() error { return e.err }
func (e *codedError) ExitCode() int { return e.code }

// withExitCode gives err an exit code; nil stays nil.
func withExitCode(code int, err error) error {
	if err == nil {
		return nil
	}
	return &codedError{code, err}
}

// usageErrorf is an error in how the command was called.
func usageErrorf(format string, args ...any) error {
	return &codedError{exitUsage, fmt.Errorf(format, args...)}
}

// run executes one command line and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if err := kernels.LevelError(); err != nil {
		fmt.Fprintf(stderr, "akidb: %v\n", err)
		return exitUsage
	}
	return execute(ctx, newRootCmd(), args, stdout, stderr)
}

func execute(ctx context.Context, root *cobra.Command, args []string, stdout, stderr io.Writer) int {
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)

	// Whatever fails before a command's own code ran is about how it was called:
	// arguments, required flags, flags that exclude each other.
	started := false
	forEachCommand(root, func(c *cobra.Command) {
		if inner := c.RunE; inner != nil {
			c.RunE = func(c *cobra.Command, args []string) error {
				started = true
				return inner(c, args)
			}
		}
	})
	called, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	code := exitUsage
	if coded, ok := errors.AsType[interface {
		error
		ExitCode() int
	}](err); ok {
		code = coded.ExitCode()
	} else if started {
		code = exitFailed
	}
	fmt.Fprintf(stderr, "akidb: %v\n", err)
	if code == exitUsage {
		fmt.Fprintf(stderr, "run '%s --help' for usage\n", called.CommandPath())
	}
	return code
}

func forEachCommand(c *cobra.Command, do func(*cobra.Command)) {
	do(c)
	for _, sub := range c.Commands() {
		forEachCommand(sub, do)
	}
}

func newRootCmd() *cobra.Command {
	root := &cobra.Command{
		Use:           "akidb",
		Short:         "A vector database whose only shared state is an object store",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddCommand(
		newDevCmd(), newWriterCmd(), newQueryCmd(),
		newImportCmd(), newSearchCmd(),
		newWALCmd(), newDLQCmd(), newTakeoverCmd(),
		newConfigCmd(), newVersionCmd(),
	)
	parent(root)
	root.SetFlagErrorFunc(flagError)
	return root
}

// parent makes c a command that only has subcommands: alone it prints its help,
// and an unknown subcommand is a usage error with a suggestion.
func parent(c *cobra.Command) {
	c.Args = cobra.ArbitraryArgs
	c.SuggestionsMinimumDistance = 2
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return c.Help()
		}
		if near := c.SuggestionsFor(args[0]); len(near) > 0 {
			return usageErrorf("unknown command %q for %q; did you mean %s?", args[0], c.CommandPath(), strings.Join(near, " or "))
		}
		return usageErrorf("unknown command %q for %q", args[0], c.CommandPath())
	}
}

// flagError makes every error of flag parsing a usage error, and names the flag
// that was probably meant.
func flagError(c *cobra.Command, err error) error {
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok || unknown.GetSpecifiedShortnames() != "" {
		return withExitCode(exitUsage, err)
	}
	var known []string
	c.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
	if near := nearest.Name(unknown.GetSpecifiedName(), known); near != "" {
		return usageErrorf("%w; did you mean --%s?", err, near)
	}
	return withExitCode(exitUsage, err)
}

// outputFlag adds -o, the format of what a command prints, and returns a check
// for the command to call first.
func outputFlag(c *cobra.Command, format *string, allowed ...string) (check func() error) {
	want := strings.Join(allowed, "|")
	c.Flags().StringVarP(format, "output", "o", allowed[0], "format of the output: "+want)
	return func() error {
		for _, a := range allowed {
			if *format == a {
				return nil
			}
		}
		return usageErrorf("-o is %q, want %s", *format, want)
	}
}
