// Package breaker shows the circuit breakers of a process's object store to
// people: as what is wrong with its health, in its log, and as a route that
// closes them.
package breaker

import (
	"context"
	"log/slog"

	"github.com/valyala/fasthttp"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/internal/telemetry"
	"github.com/akidb/akidb/segments/blob"
)

// reasons are what health says of a breaker that is not closed.
var reasons = map[blob.BreakerState]string{
	blob.Open:     "circuit breaker open: too many calls failed, new ones are refused for a few seconds",
	blob.HalfOpen: "circuit breaker half open: the next call decides",
}

// Watch makes health degraded while a breaker of g is not closed, and logs
// every change.
func Watch(g *blob.Guarded, health *httpapi.Health, log *slog.Logger) {
	g.OnChange(func(class blob.Class, from, to blob.BreakerState) {
		service := telemetry.Service(class)
		health.SetDegraded(service, reasons[to])
		level := slog.LevelInfo
		if to == blob.Open {
			level = slog.LevelWarn
		}
		log.Log(context.Background(), level, "circuit breaker", "service", service, "from", string(from), "to", string(to))
	})
}

type resetAnswer struct {
	Breakers []resetBreaker `json:"breakers"`
}

type resetBreaker struct {
	Service  string            `json:"service"`
	Previous blob.BreakerState `json:"previous"`
	State    blob.BreakerState `json:"state"`
}

// Register adds POST /admin/circuit-breaker/reset, which closes the breakers of
// g, those of this process.
func Register(r *httpapi.Router, g *blob.Guarded) {
	r.Handle(fasthttp.MethodPost, "/admin/circuit-breaker/reset", func(ctx *fasthttp.RequestCtx) error {
		previous, now := g.Reset()
		answer := resetAnswer{make([]resetBreaker, len(now))}
		for i := range now {
			answer.Breakers[i] = resetBreaker{telemetry.Service(now[i].Class), previous[i].State, now[i].State}
		}
		return httpapi.WriteJSON(ctx, fasthttp.StatusOK, answer)
	})
}
