package config

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/pelletier/go-toml/v2"
)

// PrintFormats are the formats Print knows.
var PrintFormats = []string{"table", "json", "toml"}

// Print writes the effective configuration, with where each value came from when
// origin is set. The toml format can be given back as a file.
func (r *Resolved) Print(w io.Writer, format string, origin bool) error {
	switch format {
	case "table":
		return r.printTable(w, origin)
	case "json":
		return r.printJSON(w, origin)
	case "toml":
		return r.printTOML(w, origin)
	}
	return fmt.Errorf("print configuration: format is %q, want table, json or toml", format)
}

func (r *Resolved) printTable(w io.Writer, origin bool) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	header, row := "KEY\tVALUE", "%s\t%s\n"
	if origin {
		header, row = header+"\tORIGIN", "%s\t%s\t%s\n"
	}
	fmt.Fprintln(tw, header)
	for _, v := range r.shown() {
		if origin {
			fmt.Fprintf(tw, row, v.Key.Name, v.Text, v.Origin)
		} else {
			fmt.Fprintf(tw, row, v.Key.Name, v.Text)
		}
	}
	return tw.Flush()
}

type originValue struct {
	Value  any    `json:"value"`
	Origin string `json:"origin"`
}

func (r *Resolved) printJSON(w io.Writer, origin bool) error {
	out := map[string]any{}
	for _, v := range r.shown() {
		value := v.native()
		if origin {
			value = originValue{value, v.Origin}
		}
		out[v.Key.Name] = value
	}
	b, err := json.Marshal(out, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		return fmt.Errorf("print configuration: %w", err)
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

func (r *Resolved) printTOML(w io.Writer, origin bool) error {
	for _, v := range r.shown() {
		line, err := toml.Marshal(map[string]any{v.Key.Name: v.native()})
		if err != nil {
			return fmt.Errorf("print configuration: %w", err)
		}
		line = bytes.TrimRight(line, "\n")
		if origin {
			line = append(line, " # "+v.Origin...)
		}
		if _, err := w.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	return nil
}

// native is the value as JSON and TOML have it.
func (v Value) native() any {
	if v.Key.Bool() {
		return v.Text == "true"
	}
	return v.Text
}

// shown are the values in the form that takes effect: switches as true or false,
// directories absolute, the store dev derives spelled out.
func (r *Resolved) shown() []Value {
	out := make([]Value, len(r.Values))
	for i, v := range r.Values {
		switch {
		case v.Key.Bool():
			b, _ := strconv.ParseBool(v.Text) // Load accepted it
			v.Text = strconv.FormatBool(b)
		case v.Key.Name == "data-dir":
			v.Text = r.DataDir
		case v.Key.Name == "disk-cache-dir":
			v.Text = r.DiskCacheDir
		case v.Key.Name == "disk-cache-bytes" && r.DiskCacheDir != "":
			v.Text = strconv.FormatInt(r.DiskCacheBytes, 10)
		case v.Key.Name == "store" && v.Text == "":
			v.Text = r.Store.String()
		case v.Key.Name == "cache-bytes":
			v.Text = strconv.FormatInt(r.CacheBytes, 10)
		}
		out[i] = v
	}
	return out
}
