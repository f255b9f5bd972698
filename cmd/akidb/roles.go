package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/akidb/akidb/cache"
	"github.com/akidb/akidb/internal/breaker"
	"github.com/akidb/akidb/internal/config"
	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/internal/telemetry"
	"github.com/akidb/akidb/query"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/bloburl"
	"github.com/akidb/akidb/segments/blob/s3blob"
	"github.com/akidb/akidb/writer"
	"github.com/akidb/akidb/writer/wal"
)

// runDev serves every role until ctx ends: reads from the query service, the
// rest from the writer, in one process.
func runDev(ctx context.Context, p *process, demo bool) error {
	b, err := p.openBackend(ctx, p.residentBytes())
	if err != nil {
		return err
	}
	defer b.close()
	// Half of the cores are for searches, and compaction leaves them the others
	// too while any runs.
	var searches atomic.Pointer[query.Service]
	w, err := p.openWriter(ctx, b, max(1, runtime.GOMAXPROCS(0)/2), func() {
		if q := searches.Load(); q != nil {
			q.Quiet()
		}
	})
	if err != nil {
		return err
	}
	q, err := p.newQuery(b, localWriter{w}, nil)
	if err != nil {
		return errors.Join(err, w.Close(ctx))
	}
	searches.Store(q)
	q.Start()
	r := p.routers()
	breaker.Register(r.rest, b.store)
	q.Register(r.rest)
	q.RegisterGRPC(r.grpc)
	w.Register(r.rest)
	w.RegisterGRPC(r.grpc)
	return p.serveWriter(ctx, w, q, r, func(ctx context.Context) error {
		if !demo {
			return nil
		}
		return loadDemo(ctx, "http://"+p.http.Addr().String(), p.stdout, p.stderr)
	})
}

// runWriter serves the ingest role until ctx ends.
func runWriter(ctx context.Context, p *process) error {
	b, err := p.openBackend(ctx, 0)
	if err != nil {
		return err
	}
	defer b.close()
	w, err := p.openWriter(ctx, b, 0, nil)
	if err != nil {
		return err
	}
	r := p.routers()
	breaker.Register(r.rest, b.store)
	w.Register(r.rest)
	w.RegisterReads(r.rest)
	w.RegisterGRPC(r.grpc)
	w.RegisterGRPCReads(r.grpc)
	return p.serveWriter(ctx, w, nil, r, nil)
}

// runQuery serves the search role until ctx ends.
func runQuery(ctx context.Context, p *process) error {
	b, err := p.openBackend(ctx, p.residentBytes())
	if err != nil {
		return err
	}
	defer b.close()
	var remote query.Writer
	if u := p.cfg.WriterURL; u != nil {
		hw, err := query.NewHTTPWriter(u.String())
		if err != nil {
			return err
		}
		defer hw.Close()
		remote = hw
	}
	var remoteGRPC *query.GRPCWriter
	if addr := p.cfg.WriterGRPCAddr; addr != "" {
		remoteGRPC, err = query.NewGRPCWriter(addr, p.cfg.WriterURL != nil && p.cfg.WriterURL.Scheme == "https", httpapi.Limits{})
		if err != nil {
			return err
		}
		defer remoteGRPC.Close()
	}
	others, closePeers, err := p.pods()
	if err != nil {
		return err
	}
	defer closePeers()
	q, err := p.newQuery(b, remote, others)
	if err != nil {
		return err
	}
	defer q.Close()
	if others != nil {
		p.join, p.leave = func(ctx context.Context) { q.Join(ctx, p.cfg.PrewarmTimeout) }, q.Leave
	}
	q.Start()
	r := p.routers()
	breaker.Register(r.rest, b.store)
	q.Register(r.rest)
	q.RegisterForwards(r.rest)
	q.RegisterGRPC(r.grpc)
	q.ForwardGRPC(r.grpc, remoteGRPC)
	q.RegisterPods(r.rest)
	return p.serve(ctx, r)
}

// s3Config is how S3 is reached, for a store that is on it.
func s3Config(cfg *config.Resolved) s3blob.Config {
	return s3blob.Config{Endpoint: cfg.S3Endpoint, Region: cfg.S3Region, PathStyle: cfg.S3PathStyle}
}

// backend is the store a role works on, and the cache before it.
type backend struct {
	store *blob.Guarded // over one that is counted
	cache *cache.Cache
	raw   io.Closer
}

// openBackend leaves residentBytes of the cache's memory to segments that a query
// process keeps whole.
func (p *process) openBackend(ctx context.Context, residentBytes int64) (*backend, error) {
	raw, err := bloburl.Open(ctx, p.cfg.Store.String(), s3Config(p.cfg))
	if err != nil {
		return nil, err
	}
	store := blob.Guard(telemetry.InstrumentStore(raw, p.registry), blob.GuardConfig{})
	telemetry.WatchGuard(store, p.registry)
	breaker.Watch(store, p.health, p.log)
	p.limitHeap(residentBytes)
	c, err := cache.New(p.cacheConfig(residentBytes), store)
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	p.registry.MustRegister(cacheCollector{c})
	p.memory.addCache(c)
	return &backend{store: store, cache: c, raw: raw}, nil
}

// hedgeFloor is how long a read of a remote store may take before it is worth
// another request. One of a local disk is not: the second waits for the same disk.
const hedgeFloor = 10 * time.Millisecond

func (p *process) cacheConfig(residentBytes int64) cache.Config {
	c := cache.Config{
		Bytes: p.cfg.CacheBytes - residentBytes,
		Disk:  cache.DiskConfig{Dir: p.cfg.DiskCacheDir, Bytes: p.cfg.DiskCacheBytes, Logger: p.log},
	}
	if p.cfg.Store.Scheme == "s3" {
		c.HedgeFloor = hedgeFloor
	}
	return c
}

// close gives the store back; nothing may be reading any more.
func (b *backend) close() {
	b.cache.Close()
	_ = b.raw.Close()
}

func (p *process) openWriter(ctx context.Context, b *backend, buildWorkers int, yield func()) (*writer.Writer, error) {
	if err := os.MkdirAll(p.cfg.DataDir, 0o755); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	return writer.Open(ctx, writer.Config{
		Store: b.store, Ranges: b.cache, DataDir: p.cfg.DataDir,
		FlushBytes: p.cfg.FlushBytes, FlushAge: p.cfg.FlushAge, GarbageGrace: p.cfg.GarbageGrace, CompactMemory: p.cfg.CompactMemory, BuildWorkers: buildWorkers, Yield: yield,
		WAL: wal.Config{FileBytes: p.cfg.WALFileBytes}, MaxLogBytes: p.cfg.WALMaxBytes,
		Ship: p.cfg.WALShip, ShipEvery: p.cfg.WALShipInterval,
		BallastBytes: p.cfg.BallastBytes, Degraded: p.health.SetDegraded,
		StoreUp: func(notify func()) {
			b.store.OnChange(func(_ blob.Class, _, to blob.BreakerState) {
				if to == blob.Closed {
					notify()
				}
			})
		},
		Logger: p.log, Registerer: p.registry,
	})
}

// residentBytes is half of the cache: the other half is for vectors and metadata,
// which are read row by row, and for segments that are searched now and then.
func (p *process) residentBytes() int64 { return p.cfg.CacheBytes / 2 }

func (p *process) newQuery(b *backend, w query.Writer, others *query.PodsConfig) (*query.Service, error) {
	q, err := query.New(query.Config{
		Store: b.store, Ranges: b.cache, Writer: w, Pods: others, ResidentBytes: p.residentBytes(),
		Degraded: p.health.SetDegraded, Logger: p.log, Registerer: p.registry,
	})
	if err == nil {
		p.memory.add("resident", q.ResidentBytes)
	}
	return q, err
}

// serveWriter serves r until ctx ends or the writer has to stop, and runs
// begun, which may be nil, once requests are answered. q may be nil.
func (p *process) serveWriter(ctx context.Context, w *writer.Writer, q *query.Service, r routers, begun func(context.Context) error) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() {
		select {
		case <-w.Done():
			stop(w.Err())
		case <-ctx.Done():
		}
	}()
	began := make(chan error, 1)
	go func() {
		var err error
		if begun != nil {
			if err = begun(ctx); err != nil {
				stop(err)
			}
		}
		began <- err
	}()
	err := p.serve(ctx, r)
	stop(nil)
	err = errors.Join(err, <-began)
	if q != nil {
		q.Close() // before the writer it asks
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.cfg.ShutdownGrace)
	defer cancel()
	return errors.Join(w.Err(), err, w.Close(closing))
}

// localWriter is the writer in the same process.
type localWriter struct{ *writer.Writer }

func (l localWriter) Tail(ctx context.Context, collection string, after uint64) ([]byte, error) {
	b, err := l.Writer.Tail(ctx, collection, after)
	if e, ok := errors.AsType[*httpapi.Error](err); ok && e.Status == http.StatusNotFound {
		return nil, query.ErrNoCollection
	}
	return b, err
}

// Forward is never asked: the writer's own routes answer in this process.
func (localWriter) Forward(*fasthttp.RequestCtx) error {
	panic("BUG: a write was forwarded inside one process")
}
