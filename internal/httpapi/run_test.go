package httpapi

import (
	"context"
	"net"
	"testing"
)

// TestRunThatIsStoppedAtOnce: a context that ends before the first connection is
// awaited must still end Run.
func TestRunThatIsStoppedAtOnce(t *testing.T) {
	for range 50 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s, err := NewServer(Config{}, NewRouter().Serve)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Run(ctx, ln); err != nil {
			t.Fatal(err)
		}
	}
}
