// Package cache is a blob reader over a blob reader: it keeps verified ranges
// of immutable objects in memory and on the local disk.
//
//	ReadRange ──► ram ──► disk ──► flight ──► store
//	               ▲       │ ▲       │ one read for all who want it, hedged if it is slow
//	               └───────┘ └───────┤
//	               └─────────────────┘ what was read and verified goes up again
//
// What it promises:
//
//   - A block is known by object key, range and checksum. None of them ever
//     changes, so nothing is ever invalidated, and a block that was admitted is
//     right for ever. It is admitted only after its checksum was verified.
//   - The cache may drop anything at any time and never fails by itself: every
//     error is the store's, the checksum's or the caller's context's. A disk that
//     is full, broken or gone is a miss. So there is no method that could report
//     that the cache is ill; ask Stats.
//   - A range that many want at once is read once. The read goes on as long as
//     one of them still wants it, whoever asked first.
//   - Ranges that are asked for together and lie close together are read
//     together, then verified and kept one by one.
package cache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/akidb/akidb/segments/blob"
	"golang.org/x/sync/semaphore"
)

// Config sizes a cache.
type Config struct {
	// Bytes of memory for blocks, what it costs to keep them included. With 0
	// nothing is kept, but reads are still shared and coalesced.
	Bytes int64
	// BlockBytes is what a typical block holds; it sizes the admission
	// counters. 0 means 32 KiB.
	BlockBytes int64
	// GapBytes is how far apart two ranges of one object may lie to be read at
	// once: reading that much costs less than another read. 0 means 64 KiB:
	// the first search of a million rows of 128 dimensions then takes 27 reads
	// of 3.3 MB, with 256 KiB 24 of 3.8 MB; with -1 only ranges that touch are read at once.
	GapBytes int64
	// SpanBytes is how long a read of several ranges may get; a single range
	// may be longer. Reads * SpanBytes is what reading may take on top of
	// Bytes. 0 means 2 MiB.
	SpanBytes int64
	// Reads is how many reads of the store may be under way. 0 means 64.
	Reads int
	// HedgeFloor is how long a read of the store may take before a second one is
	// sent after it, however fast others are. 0 means that none ever is, as
	// suits a store on a local disk.
	HedgeFloor time.Duration
	// Disk is the local-disk tier; the zero value has none.
	Disk DiskConfig
}

func (c Config) withDefaults() Config {
	if c.BlockBytes == 0 {
		c.BlockBytes = 32 << 10
	}
	if c.GapBytes == 0 {
		c.GapBytes = 64 << 10
	}
	if c.SpanBytes == 0 {
		c.SpanBytes = 2 << 20
	}
	if c.Reads == 0 {
		c.Reads = 64
	}
	return c
}

// Validate reports every problem at once.
func (c Config) Validate() error {
	var errs []error
	check := func(name string, got, least int64) {
		if got < least {
			errs = append(errs, fmt.Errorf("cache.%s: got %d, want at least %d", name, got, least))
		}
	}
	check("Bytes", c.Bytes, 0)
	check("BlockBytes", c.BlockBytes, 0)
	check("GapBytes", c.GapBytes, -1)
	check("SpanBytes", c.SpanBytes, 0)
	check("Reads", int64(c.Reads), 0)
	check("HedgeFloor", int64(c.HedgeFloor), 0)
	if c.Disk.Dir != "" && c.Disk.slabBytes == 0 {
		check("Disk.Bytes", c.Disk.Bytes, leastDiskBytes)
	}
	return errors.Join(errs...)
}

// Cache implements blob.RangeReader. Its methods are safe for concurrent use,
// except Close.
type Cache struct {
	config Config
	store  blob.Store
	ram    *ram
	disk   *disk               // nil without a directory
	slots  *semaphore.Weighted // of reads of the store
	hedge  hedge
	count  counters

	mu      sync.Mutex
	flights map[blob.Range]*flight // by range without role; under way and still wanted
	jobs    sync.WaitGroup
}

var _ blob.RangeReader = (*Cache)(nil)

// New returns a cache over store, with what an earlier process left in the
// directory for the disk tier. A directory that cannot be used is reported to
// the logger and by Stats, and the cache does without. It must be closed.
func New(config Config, store blob.Store) (*Cache, error) {
	return open(config, store, osDir(config.Disk.Dir))
}

func open(config Config, store blob.Store, fs diskFS) (*Cache, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	config = config.withDefaults()
	c := &Cache{
		config:  config,
		store:   store,
		slots:   semaphore.NewWeighted(int64(config.Reads)),
		flights: map[blob.Range]*flight{},
		hedge:   hedge{floor: config.HedgeFloor},
	}
	var err error
	if c.ram, err = newRAM(config, &c.count, time.Now); err != nil {
		return nil, fmt.Errorf("new cache of %d bytes: %w", config.Bytes, err)
	}
	if config.Disk.Dir != "" {
		c.disk = openDisk(config.Disk, fs, &c.count)
		select {
		case <-c.disk.scanned:
		case <-time.After(diskPatience):
		}
	}
	return c, nil
}

// Close stops the cache's goroutines. It waits for reads that were given up to
// notice it; none may be under way that is still wanted, and none may follow.
func (c *Cache) Close() {
	c.jobs.Wait()
	if c.disk != nil {
		c.disk.close()
	}
	c.ram.close()
}

// ReadRange implements blob.RangeReader. The bytes are shared with the cache
// and with other callers: nobody may write to them.
func (c *Cache) ReadRange(ctx context.Context, r blob.Range) ([]byte, error) {
	if b, ok := c.ram.get(r); ok {
		c.hit(UsageOf(ctx), r, b)
		return b, nil
	}
	bs, err := c.readRanges(ctx, []blob.Range{r}, false)
	if err != nil {
		return nil, err
	}
	return bs[0], nil
}

// ReadRanges reads many ranges, of any objects and in any order, and returns
// their bytes in that order. It asks the store for everything that is missing
// at once, one read for ranges that lie close together. It fails with the
// first range that does, and then gives up the others.
//
// The bytes are shared with the cache and with other callers: nobody may write
// to them.
func (c *Cache) ReadRanges(ctx context.Context, rs []blob.Range) ([][]byte, error) {
	return c.readRanges(ctx, rs, true)
}

// readRanges looks in memory only if look says so, so that a range is not
// counted twice by the admission policy.
func (c *Cache) readRanges(ctx context.Context, rs []blob.Range, look bool) ([][]byte, error) {
	usage := UsageOf(ctx)
	out := make([][]byte, len(rs))
	var missing []int // into rs
	for i, r := range rs {
		if r.Length <= 0 {
			if err := r.Verify(nil); err != nil {
				return nil, err
			}
			out[i] = []byte{}
			continue
		}
		if look {
			var ok bool
			if out[i], ok = c.ram.get(r); ok {
				c.hit(usage, r, out[i])
				continue
			}
		}
		missing = append(missing, i)
	}
	missing = c.fromDisk(ctx, usage, rs, missing, out)
	if len(missing) == 0 {
		return out, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := c.afford(ctx, rs, missing); err != nil {
		return nil, err
	}
	flights := c.board(ctx, usage, rs, missing)
	defer c.leave(flights)
	defer usage.endWait(usage.beginWait())
	arrived, err := BeginWaiting(ctx)
	if err != nil {
		return nil, err
	}
	defer arrived()
	for n, f := range flights {
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if f.err != nil {
			return nil, f.err
		}
		out[missing[n]] = f.bytes
	}
	return out, nil
}

// fromDisk fills in those of rs[missing] that are on the disk and returns the
// others.
func (c *Cache) fromDisk(ctx context.Context, usage *Usage, rs []blob.Range, missing []int, out [][]byte) []int {
	if c.disk == nil || len(missing) == 0 {
		return missing
	}
	still := c.disk.getAll(ctx, rs, missing, out)
	if len(still) == len(missing) {
		return missing
	}
	for _, i := range missing {
		if out[i] != nil {
			c.count.diskHit(usage, rs[i])
			if keeps(ctx, rs[i]) {
				c.ram.put(rs[i], out[i])
			}
		}
	}
	return still
}

// hit counts a range that was in memory. Every so often the disk is told: what
// is never asked of it because it is in memory all the time has to be there
// when the next process starts.
func (c *Cache) hit(usage *Usage, r blob.Range, b []byte) {
	const tellDiskEvery = 61 // a prime, so that it is not the same block of every query
	if c.count.hit(usage, r)%tellDiskEvery == 0 && c.disk != nil {
		c.disk.touch(r, b)
	}
}
