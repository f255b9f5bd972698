package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"github.com/akidb/akidb/internal/apidocs"
	"github.com/akidb/akidb/internal/config"
	"github.com/akidb/akidb/internal/grpcapi"
	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/internal/telemetry"
	"github.com/akidb/akidb/kernels"
)

// process is what every server role has: its ports, already open, and the means
// to be observed. A role registers its handlers on router() and calls serve.
type process struct {
	cfg      *config.Resolved
	log      *slog.Logger
	announce *slog.Logger // like log, but never too quiet for the line with the addresses
	registry *prometheus.Registry
	memory   *memoryCollector
	health   *httpapi.Health
	tracing  *telemetry.Tracing // nil: no traces

	http, grpc, admin net.Listener

	// join and leave, which may be nil, are what a role does before it is ready,
	// once it can be reached, and when it drains, while requests finish.
	join, leave func(context.Context)

	stdout, stderr io.Writer
}

// openProcess opens the log, the exporter and the listeners, in this order, so
// that a port in use is reported before any role has begun to recover.
func openProcess(ctx context.Context, cfg *config.Resolved, stdout, stderr io.Writer) (*process, error) {
	build := thisBuild()
	p := &process{
		cfg:      cfg,
		registry: telemetry.NewRegistry(build.Version),
		memory:   &memoryCollector{},
		health:   httpapi.NewHealth(string(cfg.Role), build.Version),
		stdout:   stdout, stderr: stderr,
	}
	p.memory.add("heap", heapBytes)
	p.registry.MustRegister(p.memory)
	var err error
	if p.log, err = telemetry.NewLogger(stderr, cfg.LogLevel, cfg.LogFormat); err != nil {
		return nil, err
	}
	if p.announce, err = telemetry.NewLogger(stderr, "info", cfg.LogFormat); err != nil {
		return nil, err
	}
	for _, w := range cfg.Warnings() {
		p.log.Warn(w)
	}
	if cfg.OTLPEndpoint != "" {
		p.tracing, err = telemetry.OpenTracing(ctx, telemetry.TraceConfig{
			Endpoint: cfg.OTLPEndpoint, Role: string(cfg.Role), Version: build.Version, Logger: p.log,
		})
		if err != nil {
			return nil, err
		}
	}
	for _, l := range []struct {
		name, addr string
		listener   *net.Listener
	}{
		{"http-addr", cfg.HTTPAddr, &p.http}, {"grpc-addr", cfg.GRPCAddr, &p.grpc}, {"admin-addr", cfg.AdminAddr, &p.admin},
	} {
		if *l.listener, err = httpapi.Listen(ctx, l.addr); err != nil {
			p.close()
			return nil, fmt.Errorf("open %s: %w", l.name, err)
		}
	}
	return p, nil
}

// close gives back what openProcess took. Listeners that served are closed
// already; closing them again does nothing.
func (p *process) close() {
	for _, l := range []net.Listener{p.http, p.grpc, p.admin} {
		if l != nil {
			_ = l.Close()
		}
	}
	if p.tracing == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := p.tracing.Close(ctx); err != nil {
		p.log.Warn("last traces lost", slog.Any("error", err))
	}
}

// routers returns routers of which REST's already answers the probes and shows the
// API's reference.
func (p *process) routers() routers {
	r := routers{httpapi.NewRouter(), grpcapi.NewRouter()}
	p.health.Register(r.rest, p.registry)
	apidocs.Register(r.rest)
	return r
}

// routers say who answers what of the two APIs.
type routers struct {
	rest *httpapi.Router
	grpc *grpcapi.Router
}

// serve answers on all ports until ctx ends, then drains: the process turns
// unready, requests in flight finish, and the admin port closes last, so that
// the drain can be watched.
func (p *process) serve(ctx context.Context, r routers) error {
	var tracer trace.Tracer
	if p.tracing != nil {
		tracer = p.tracing.Tracer
	}
	rest, err := httpapi.NewServer(httpapi.Config{
		Logger: p.log, Registerer: p.registry, Tracer: tracer, ShutdownGrace: p.cfg.ShutdownGrace,
	}, r.rest.Serve)
	if err != nil {
		return err
	}
	rpc, err := grpcapi.NewServer(grpcapi.Config{
		Logger: p.log, Registerer: p.registry, Tracer: tracer, ShutdownGrace: p.cfg.ShutdownGrace,
	}, r.grpc)
	if err != nil {
		return err
	}
	admin := &http.Server{
		Handler:           p.health.AdminHandler(p.registry, p.cfg.Pprof),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	}
	all, ctx := errgroup.WithContext(ctx)
	all.Go(func() error {
		if err := admin.Serve(p.admin); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve admin: %w", err)
		}
		return nil
	})
	all.Go(func() error {
		requests, ctx := errgroup.WithContext(ctx)
		requests.Go(func() error { return rest.Run(ctx, p.http) })
		requests.Go(func() error { return rpc.Run(ctx, p.grpc) })
		requests.Go(func() error {
			<-ctx.Done()
			if p.leave != nil {
				p.leave(context.WithoutCancel(ctx))
			}
			return nil
		})
		p.listening()
		if p.join != nil {
			p.join(ctx)
			p.health.SetPhase(httpapi.Serving)
		}
		context.AfterFunc(ctx, func() { p.health.SetPhase(httpapi.Draining) })
		return errors.Join(requests.Wait(), admin.Close())
	})
	return all.Wait()
}

// listening says where the process can be reached. It is ready, too, unless it
// has to join others first.
func (p *process) listening() {
	if p.join == nil {
		p.health.SetPhase(httpapi.Serving)
	}
	p.announce.Info("listening",
		slog.String("role", string(p.cfg.Role)),
		slog.String("http", p.http.Addr().String()),
		slog.String("grpc", p.grpc.Addr().String()),
		slog.String("admin", p.admin.Addr().String()),
		slog.String("store", p.cfg.Store.String()),
		slog.String("version", thisBuild().Version),
		slog.String("simd", kernels.ActiveLevel()),
	)
}
