package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/akidb/akidb/internal/config"
)

// addConfigFlags registers --config and the flag of every key of role. They are
// read back by loadConfig.
func addConfigFlags(fs *pflag.FlagSet, role config.Role) {
	fs.String("config", "", "TOML `FILE` with the same names as the flags")
	for _, k := range config.Keys(role) {
		if k.Bool() {
			fs.Bool(k.Name, k.Default(role) == "true", k.Help)
			continue
		}
		fs.String(k.Name, k.Default(role), fmt.Sprintf("`%s`: %s", k.Arg, k.Help))
	}
}

// loadConfig resolves the configuration of role from the flags given, the
// environment and the file. What is wrong with it is a usage error.
func loadConfig(fs *pflag.FlagSet, role config.Role) (*config.Resolved, error) {
	flags := map[string]string{}
	known := map[string]bool{"config": true}
	for _, k := range config.Keys(role) {
		known[k.Name] = true
	}
	fs.Visit(func(f *pflag.Flag) {
		if known[f.Name] {
			flags[f.Name] = f.Value.String()
		}
	})
	r, err := config.Load(role, config.Sources{Flags: flags, Environ: os.Environ()})
	return r, withExitCode(exitUsage, err)
}

func newConfigCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "config",
		Short: "Look at and check the configuration of a server",
	}
	c.AddCommand(newConfigPrintCmd(), newConfigValidateCmd())
	parent(c)
	return c
}

// roleFlag adds --role and the configuration flags of every role, so that any
// server command line can be given as it is.
func roleFlag(c *cobra.Command, role *string) {
	c.Flags().StringVar(role, "role", string(config.Dev), "`ROLE` of the server: dev, writer or query")
	addConfigFlags(c.Flags(), config.Dev)
}

func loadRole(c *cobra.Command, role string) (*config.Resolved, error) {
	r, err := config.ParseRole(role)
	if err != nil {
		return nil, withExitCode(exitUsage, err)
	}
	return loadConfig(c.Flags(), r)
}

func newConfigPrintCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "print",
		Short: "Print the effective configuration, secrets redacted",
		Args:  cobra.NoArgs,
	}
	var role, format string
	var origin bool
	roleFlag(c, &role)
	c.Flags().BoolVar(&origin, "origin", false, "say where each value comes from")
	check := outputFlag(c, &format, config.PrintFormats...)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := check(); err != nil {
			return err
		}
		r, err := loadRole(c, role)
		if err != nil {
			return err
		}
		return r.Print(c.OutOrStdout(), format, origin)
	}
	return c
}

func newConfigValidateCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "validate",
		Short: "Check the configuration and report every problem",
		Args:  cobra.NoArgs,
	}
	var role string
	roleFlag(c, &role)
	c.RunE = func(c *cobra.Command, _ []string) error {
		r, err := loadRole(c, role)
		if err != nil {
			return err
		}
		for _, w := range r.Warnings() {
			fmt.Fprintf(c.ErrOrStderr(), "warning: %s\n", w)
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "the configuration of %s is valid\n", r.Role)
		return err
	}
	return c
}
