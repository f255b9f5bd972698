package main

import (
	"context"
	"io"
	"testing"

	"github.com/akidb/akidb/internal/config"
)

// TestAServerStoppedAsItStartsEndsWell: the signal may come before every port
// has begun to be served.
func TestAServerStoppedAsItStartsEndsWell(t *testing.T) {
	for range 30 {
		cfg, err := config.Load(config.Dev, config.Sources{Flags: map[string]string{
			"data-dir": t.TempDir(), "http-addr": "127.0.0.1:0", "grpc-addr": "127.0.0.1:0", "admin-addr": "127.0.0.1:0",
		}})
		if err != nil {
			t.Fatal(err)
		}
		p, err := openProcess(t.Context(), cfg, io.Discard, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := p.serve(ctx, p.routers()); err != nil {
			t.Fatal(err)
		}
		p.close()
	}
}
