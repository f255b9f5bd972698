// Package writer is the life of a write: from a request through the log and
// the memtable into segments in the object store, and all that keeps those in
// good order.
//
// What is promised:
//
//   - A write that was acknowledged survives any crash of the process. One that
//     failed says whether it was certainly not applied or may have been.
//   - A request is one atomic batch, whatever its size: all of its rows or none.
//     (The one exception, a delete by filter, says so where it is.)
//   - Writes of a collection have one order, that of their sequence numbers;
//     conditional ones (patch, counted deletes, upserts with if_absent or
//     if_version) see what they replace.
//   - The state that readers see (the segments' rows, hidden by what the
//     memtables say of their ids) is exactly the acknowledged writes, at every
//     moment, flush and compaction or not.
//   - A Writer that learns that another owns one of its collections stops, and
//     it makes sure before it acknowledges anything.
//
// A write is validated (batch.go), given its place in the log (apply.go), kept
// in a memtable (collection.go), flushed (flush.go) and merged (compact.go);
// commit.go is the only place that changes a manifest.
//
// Locks, outermost first: a collection's commit lock, its order, its mu, the
// catalog's. Under none but the first is anything waited for, store or disk.
package writer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/akidb/akidb/writer/wal"
	"github.com/akidb/akidb/writer/wal/ship"
)

// Writer owns collections: it alone changes them. Open makes one.
type Writer struct {
	cfg     Config
	metrics *metrics
	log     *wal.Log
	owner   string        // uuid of the log, as manifests name it
	shipper *ship.Shipper // nil if the log is not shipped
	catalog *catalog

	unflushed    atomic.Int64 // bytes in all memtables
	flushedBytes atomic.Int64 // bytes of memtables that reached the store, since Open
	pressure     pressure
	ballast      *ballast

	dead      *deadLetters
	owns      *ownership
	builds    semaphore // flushes that build a segment
	compacts  semaphore // one compaction a process
	compactor chan struct{}

	local   *localCatalog
	cluster string      // id of the store's cluster; "" until it is met
	probed  bool        // the store's conditional puts are atomic, as far as was seen
	joined  atomic.Bool // every collection is claimed
	// orphans are records of collections that are perhaps dropped; until joined.
	orphans map[wal.CollectionID]int
	storeUp chan struct{} // the store is seen to work

	ctx    context.Context // of background work
	cancel context.CancelFunc

	mu      sync.Mutex
	closing bool
	workers sync.WaitGroup // added to under mu while not closing
	err     error          // why the process must exit
	done    chan struct{}
}

// flushBuilds is how many collections build a segment at the same time: a build
// uses every core for itself, a second one fills the gaps.
const flushBuilds = 2

// Open takes the log in cfg.DataDir, claims every collection of the store, and
// replays what the store does not have yet. When the store is away, and DataDir
// knows its collections, it goes on with those and claims them later.
//
// Errors with an ExitCode: 3 when another writer owns a collection, 4 when the
// store or the log was written by a newer version.
func Open(ctx context.Context, cfg Config) (*Writer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	w := newWriter(cfg.withDefaults())
	if err := w.boot(ctx); err != nil {
		return nil, withExitCode(errors.Join(err, w.Close(ctx)))
	}
	w.start()
	return w, nil
}

func newWriter(cfg Config) *Writer {
	w := &Writer{
		cfg: cfg, metrics: newMetrics(cfg.Registerer), catalog: newCatalog(),
		builds: newSemaphore(flushBuilds), compacts: newSemaphore(1), compactor: make(chan struct{}, 1), storeUp: make(chan struct{}, 1),
		done: make(chan struct{}),
	}
	w.dead, w.owns = newDeadLetters(w), newOwnership(w)
	w.ctx, w.cancel = context.WithCancel(context.Background())
	return w
}

// start sets the background work going.
func (w *Writer) start() {
	w.dead.load()
	for _, c := range w.catalog.all() {
		if c.ready.Load() {
			c.start()
		}
	}
	if !w.joined.Load() {
		w.background(w.rejoin)
	}
	w.background(w.watchLog)
	w.startShipping()
	w.background(w.compactLoop)
	w.background(w.dead.loop)
	w.background(w.owns.loop)
	if w.cfg.StoreUp != nil {
		w.cfg.StoreUp(w.seenUp)
	}
	w.wakeCompactor()
	if w.cfg.SweepEvery > 0 {
		w.background(w.sweepLoop)
	}
}

// seenUp is told that the store works.
func (w *Writer) seenUp() {
	w.dead.retryAll()
	select {
	case w.storeUp <- struct{}{}:
	default:
	}
}

// Done is closed when the process must exit: the log is poisoned, or another
// writer has taken over. Err then says why, with an ExitCode.
func (w *Writer) Done() <-chan struct{} { return w.done }

// Err is nil until Done is closed.
func (w *Writer) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// fail stops the Writer for good. The first reason counts.
func (w *Writer) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = withExitCode(err)
		w.cancel()
		close(w.done)
	}
}

// Close refuses new writes, finishes those under way, ends background work and
// closes the log. Nothing is flushed: the log has it. A second Close does
// nothing.
func (w *Writer) Close(ctx context.Context) error {
	w.mu.Lock()
	if w.closing {
		w.mu.Unlock()
		return nil
	}
	w.closing = true
	w.mu.Unlock()
	w.cancel()
	ended := make(chan struct{})
	go func() { w.workers.Wait(); close(ended) }()
	var err error
	select {
	case <-ended:
	case <-ctx.Done():
		err = fmt.Errorf("close writer: background work: %w", context.Cause(ctx))
	}
	if w.log != nil {
		err = errors.Join(err, w.log.Close())
	}
	<-ended // it may not outlive the log it uses; its contexts have ended
	return err
}

// refusal is why no write is accepted, if so.
func (w *Writer) refusal() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.err != nil:
		return fmt.Errorf("%w: %w", errStopped, w.err)
	case w.closing:
		return errStopped
	}
	return nil
}

// background runs fn until w.ctx ends, and has Close wait for it. After Close
// it does nothing and says so.
func (w *Writer) background(fn func(context.Context)) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closing {
		return false
	}
	w.workers.Go(func() { fn(w.ctx) })
	return true
}

func (w *Writer) watchLog(ctx context.Context) {
	select {
	case <-w.log.Done():
		w.fail(fmt.Errorf("write-ahead log: %w", w.log.Err()))
	case <-ctx.Done():
	}
}

// sweepLoop looks at ages until ctx ends.
func (w *Writer) sweepLoop(ctx context.Context) {
	tick := time.NewTicker(w.cfg.SweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			w.Sweep(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// Sweep does what is due by the clock: it looks whether there is room, starts
// flushes of old rows and removes garbage beyond its grace. The Writer calls it every SweepEvery.
func (w *Writer) Sweep(ctx context.Context) {
	w.relieve()
	for _, c := range w.catalog.all() {
		c.wakeIfDue()
		if c.ready.Load() {
			w.releaseBranches(ctx, c)
			w.collectGarbage(ctx, c)
		}
	}
	w.removeTombstones(ctx)
}

// retry repeats op until it succeeds, fails for good or ctx ends. Every failed
// attempt is logged and counted for worker. A job in ctx becomes a dead letter
// when there are too many.
func (w *Writer) retry(ctx context.Context, worker, what string, op func() error) error {
	for attempt := 0; ; attempt++ {
		err := op()
		if j := jobOf(ctx); err == nil && j != nil {
			j.progressed()
		}
		if err == nil || isFinal(err) || ctx.Err() != nil {
			return err
		}
		w.metrics.workers.Ran(worker, err)
		w.cfg.Logger.Warn("background work failed and is tried again", "worker", worker, "what", what, "attempt", attempt+1, "error", err)
		if ended := w.pause(ctx, attempt, err); ended != nil {
			return fmt.Errorf("%w: %w", ended, err)
		}
	}
}

// pause waits before a retry, counted from 0, of what failed with cause: full
// jitter under a limit that doubles from RetryFirst to RetryMost. A job that is a
// dead letter waits to be told.
func (w *Writer) pause(ctx context.Context, attempt int, cause error) error {
	if j := jobOf(ctx); j != nil && ctx.Err() == nil && j.failed(cause) {
		return j.park(ctx)
	}
	limit := min(w.cfg.RetryMost, w.cfg.RetryFirst<<min(attempt, 20))
	b := backoff.NewExponentialBackOff(
		// From nothing to twice the half: full jitter.
		backoff.WithInitialInterval(limit/2), backoff.WithRandomizationFactor(1))
	return sleep(ctx, b.NextBackOff())
}

// sleep waits, unless ctx ends before.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (w *Writer) tempDir() string { return filepath.Join(w.cfg.DataDir, "tmp") }

// wipeTemp removes what an earlier process was building.
func (w *Writer) wipeTemp() error {
	if err := os.RemoveAll(w.tempDir()); err != nil {
		return err
	}
	return os.MkdirAll(w.tempDir(), 0o755)
}

// semaphore admits as many as it has room for.
type semaphore chan struct{}

func newSemaphore(n int) semaphore { return make(semaphore, n) }

func (s semaphore) acquire(ctx context.Context) error {
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s semaphore) release() { <-s }
