package telemetry

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/akidb/akidb/segments/blob"
)

func TestWatchGuard(t *testing.T) {
	reg := prometheus.NewRegistry()
	g := blob.Guard(&answeringStore{err: blob.ErrUnavailable}, blob.GuardConfig{Attempts: 2, FirstDelay: 1, RetryBurst: 1, RetryEvery: time.Hour})
	WatchGuard(g, reg)
	for range 4 { // 1 + 1 attempts, and then one each
		_, _, _ = g.Get(context.Background(), "k")
	}
	wantExposed(t, reg,
		`akidb_circuit_breaker_state{service="store_delete",state="closed"} 1`,
		`akidb_circuit_breaker_state{service="store_delete",state="half_open"} 0`,
		`akidb_circuit_breaker_state{service="store_delete",state="open"} 0`,
		`akidb_circuit_breaker_state{service="store_list",state="closed"} 1`,
		`akidb_circuit_breaker_state{service="store_list",state="half_open"} 0`,
		`akidb_circuit_breaker_state{service="store_list",state="open"} 0`,
		`akidb_circuit_breaker_state{service="store_read",state="closed"} 0`,
		`akidb_circuit_breaker_state{service="store_read",state="half_open"} 0`,
		`akidb_circuit_breaker_state{service="store_read",state="open"} 1`,
		`akidb_circuit_breaker_state{service="store_write",state="closed"} 1`,
		`akidb_circuit_breaker_state{service="store_write",state="half_open"} 0`,
		`akidb_circuit_breaker_state{service="store_write",state="open"} 0`,
		`akidb_store_retries_total{result="made"} 1`,
		`akidb_store_retries_total{result="refused"} 3`,
	)
}
