// Package telemetry is how a process is seen from outside: its log, its
// Prometheus metrics under their documented names, and its traces.
//
// A registry belongs to one process. The small metric types (Search, Insert, …)
// are made once by the package that updates them, with the process's registry,
// so a metric that is exposed is a metric that moves.
package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// LogLevels and LogFormats are the values NewLogger takes.
var (
	LogLevels  = []string{"debug", "info", "warn", "error"}
	LogFormats = []string{"text", "json"}
)

// NewLogger returns a logger of the given level and format that writes to w.
func NewLogger(w io.Writer, level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log level %q, want %s", level, strings.Join(LogLevels, ", "))
	}
	opts := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return nil, fmt.Errorf("log format %q, want %s", format, strings.Join(LogFormats, " or "))
}

// NewRegistry returns a registry that already has the process, the Go runtime
// and akidb_build_info.
func NewRegistry(version string) *prometheus.Registry {
	reg := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "akidb_build_info",
		Help:        "Always 1; its labels say what is running.",
		ConstLabels: prometheus.Labels{"version": version, "go_version": runtime.Version()},
	})
	build.Set(1)
	reg.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		build,
	)
	return reg
}
