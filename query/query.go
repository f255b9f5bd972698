// Package query is the life of a query: it pins one snapshot of a collection,
// plans, scans, reranks, and merges with what the writer has acknowledged but
// not yet flushed. It holds nothing but caches; everything it knows it can read
// from the object store again.
//
//	server   routes and requests; grpc answers the same as messages
//	catalog  collection names to collections
//	state    what one query sees: a view of the store joined with the tail
//	replica  keeping the state fresh: manifest, tail deltas, consistency
//	admission  who computes now, who waits, who is refused
//	search   plan → scan → refine → exact finish → merge
//	rows     get, scroll, count
//
// Promises: a query sees one state from plan to merge. The writer's tail is
// never joined across a gap. A row that the tail replaces is never scored in a
// segment. A search returns min(k, rows that match) results, ties by id. What
// consistency was given is said, never assumed.
package query

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/internal/telemetry"
	"github.com/akidb/akidb/segments/blob"
)

// Writer is how a query process reaches the writer. Both methods are safe for
// concurrent use.
type Writer interface {
	// Tail returns the encoded memtable.Delta of everything acknowledged after
	// sequence number after.
	Tail(ctx context.Context, collection string, after uint64) ([]byte, error)
	// Forward hands over a request that writes, and answers it.
	Forward(ctx *fasthttp.RequestCtx) error
}

// Config configures a Service.
type Config struct {
	Store  blob.Store       // CURRENT and manifests
	Ranges blob.RangeReader // everything immutable; usually a cache over Store
	// Writer is nil where there is none to ask: reads are then as fresh as the
	// store, and writes are refused.
	Writer Writer
	Limits httpapi.Limits // zero fields mean the defaults
	// ResidentBytes is how much memory, outside Go's heap, may hold the postings
	// and ids of segments that are searched often. 0 means none: every list is
	// read through Ranges.
	ResidentBytes int64
	// CoolAfter is how long a segment that is in memory for its use alone may go
	// without a search before it is released. 0 means 15 min.
	CoolAfter time.Duration
	// Pods are the other query processes, with which segments are divided. Nil
	// where there is none.
	Pods *PodsConfig
	// MaxStaleness is how old a manifest may be before a read with consistency
	// latest looks for a newer one. 0 means 1 s.
	MaxStaleness time.Duration
	// Degraded is told that reads go on without a component, "writer" or
	// "store", and why; "" says that it is back. Nil means nobody asks.
	Degraded   func(component, reason string)
	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil keeps metrics to itself
	Now        func() time.Time      // nil means time.Now
}

func (c Config) withDefaults() Config {
	c.Limits = c.Limits.WithDefaults()
	if c.MaxStaleness == 0 {
		c.MaxStaleness = time.Second
	}
	if c.CoolAfter == 0 {
		c.CoolAfter = 15 * time.Minute
	}
	if c.Degraded == nil {
		c.Degraded = func(string, string) {}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Registerer == nil {
		c.Registerer = prometheus.NewRegistry()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// Validate reports every problem of c at once.
func (c Config) Validate() error {
	var errs []error
	if c.Store == nil || c.Ranges == nil {
		errs = append(errs, errors.New("query: store and ranges must be set"))
	}
	if c.ResidentBytes < 0 {
		errs = append(errs, fmt.Errorf("query: resident bytes are %d, want at least 0", c.ResidentBytes))
	}
	if c.CoolAfter < 0 {
		errs = append(errs, fmt.Errorf("query: cool after is %v, want at least 0", c.CoolAfter))
	}
	if c.MaxStaleness < 0 {
		errs = append(errs, fmt.Errorf("query: max staleness is %v, want at least 0", c.MaxStaleness))
	}
	return errors.Join(append(errs, c.Limits.WithDefaults().Validate())...)
}

// filterCacheBytes bounds what is kept of filters' results, a bit a row of one
// segment each: those of 30 filters over 16 million rows.
const filterCacheBytes = 64 << 20

// Service answers queries. It is safe for concurrent use.
type Service struct {
	cfg      Config
	catalog  *catalog
	filters  *filterCache
	searches *telemetry.Search
	workers  *telemetry.Workers
	warming  sync.Map  // what is being warmed in the background
	listed   time.Time // when collections were last listed; of tick alone
	resident *residents
	fanout   *telemetry.Fanout
	fleet    *fleet // nil: this process is on its own
	// background ends when the service is closed; refreshes that no request
	// waits for run under it.
	background context.Context
	stop       context.CancelFunc
	searching  atomic.Int64 // requests that search right now
	admission  *admission
	// random draws a number below n. It is safe for concurrent use.
	random func(n uint64) uint64
	live   *liveRecall
	// writerDown is when the writer may be asked again after it could not be
	// reached, in Unix nanoseconds.
	writerDown atomic.Int64
}

// quietLook is how often Quiet looks, quietMost how long it waits at most.
const (
	quietLook = 200 * time.Microsecond
	quietMost = 5 * time.Millisecond
)

// Quiet waits until no search runs, and no longer than 5 ms: background work in
// the same process leaves the cores to searches without ever being starved by
// them.
func (s *Service) Quiet() {
	for waited := time.Duration(0); s.searching.Load() > 0 && waited < quietMost; waited += quietLook {
		time.Sleep(quietLook)
	}
}

// writerPause is how long reads with consistency latest go without asking a
// writer that could not be reached, so that an outage costs one of them a
// time-out now and then, and not each.
const writerPause = 500 * time.Millisecond

func (s *Service) writerUp(now time.Time) bool {
	return s.cfg.Writer != nil && now.UnixNano() >= s.writerDown.Load()
}

func (s *Service) writerAnswered() {
	if s.writerDown.Swap(0) != 0 {
		s.cfg.Degraded("writer", "")
	}
}

func (s *Service) writerFailed(collection string, err error) {
	s.writerDown.Store(s.cfg.Now().Add(writerPause).UnixNano())
	s.cfg.Degraded("writer", "cannot be asked for rows that are not in the store yet")
	s.cfg.Logger.Warn("tail not read, serving what the store has", "collection", collection, "err", err)
}

// New returns a Service. It does no I/O.
func New(cfg Config) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Service{cfg: cfg.withDefaults()}
	var err error
	if s.filters, err = newFilterCache(filterCacheBytes); err != nil {
		return nil, err
	}
	s.resident = newResidents(s, s.cfg.ResidentBytes)
	s.searches = telemetry.NewSearch(s.cfg.Registerer)
	s.random = rand.Uint64N
	s.live = newLiveRecall(s)
	s.workers = telemetry.NewWorkers(s.cfg.Registerer)
	telemetry.WatchCollectionSizes(s.cfg.Registerer, s.reportSizes)
	s.cfg.Registerer.MustRegister(tierCollector{s})
	s.fanout = telemetry.NewFanout(s.cfg.Registerer)
	if s.cfg.Pods != nil {
		s.fleet = newFleet(s, *s.cfg.Pods)
	}
	s.admission = newAdmission(s.cfg.Now, s.cfg.Registerer)
	s.background, s.stop = context.WithCancel(context.Background())
	s.catalog = newCatalog(s)
	return s, nil
}

// ResidentBytes is how much memory, outside Go's heap, segments take that are
// kept whole.
func (s *Service) ResidentBytes() int64 { return s.resident.hot.Bytes() }

// Close ends background work and waits for it.
func (s *Service) Close() {
	s.stop()
	s.catalog.wait()
	s.resident.hot.Close()
}
