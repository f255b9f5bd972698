package cache

import (
	"context"
	"sync/atomic"

	"github.com/akidb/akidb/segments/blob"
)

// Usage is what one query, or whatever else carries it in its context, took
// from the cache and the store. The zero value is ready to use.
type Usage struct {
	Hits       atomic.Int64 // ranges found in memory
	HitBytes   atomic.Int64
	DiskHits   atomic.Int64 // ranges found on the local disk
	DiskBytes  atomic.Int64
	Misses     atomic.Int64 // ranges found in neither
	Joined     atomic.Int64 // of those, the ones somebody was already reading
	StoreGets  atomic.Int64 // reads of the store this caller began, hedges included
	StoreBytes atomic.Int64 // that they asked for, gaps included
	Hedged     atomic.Int64 // reads of those that were slow, and sent a second time
	HedgesWon  atomic.Int64 // of those, the ones whose second request was answered first

	// Rounds is how many round trips to the store the caller's work took, one
	// after the other: the most waits for the store of which each began after
	// the one before it had ended. A wait is what a call of ReadRange or
	// ReadRanges spends on ranges that are not at hand. Waits that overlap, such
	// as those of goroutines that work side by side, do not add up, unless one
	// of them begins when another is over already: it might have needed its
	// answer. So goroutines that take turns count as more rounds than they are,
	// never as fewer. A read that is repeated within a wait, because it came
	// back damaged, does not count again.
	Rounds atomic.Int64
	ended  atomic.Int64 // the latest round that a wait which has ended was in
}

// beginWait returns the round in which a wait that begins now is: the one after
// all that have ended. u may be nil.
func (u *Usage) beginWait() (round int64) {
	if u == nil {
		return 0
	}
	round = u.ended.Load() + 1
	raise(&u.Rounds, round)
	return round
}

func (u *Usage) endWait(round int64) {
	if u != nil {
		raise(&u.ended, round)
	}
}

// raise makes a at least n.
func raise(a *atomic.Int64, n int64) {
	for {
		now := a.Load()
		if now >= n || a.CompareAndSwap(now, n) {
			return
		}
	}
}

// Taken is a Usage as of one moment, to be sent elsewhere.
type Taken struct {
	Hits, DiskHits, Misses, Joined, StoreGets, StoreBytes, Rounds int64
}

// Taken returns what was used so far.
func (u *Usage) Taken() Taken {
	return Taken{
		Hits: u.Hits.Load(), DiskHits: u.DiskHits.Load(), Misses: u.Misses.Load(), Joined: u.Joined.Load(),
		StoreGets: u.StoreGets.Load(), StoreBytes: u.StoreBytes.Load(), Rounds: u.Rounds.Load(),
	}
}

// Beside adds what somebody else took for the caller's work, at the same time.
func (u *Usage) Beside(t Taken) {
	u.Hits.Add(t.Hits)
	u.DiskHits.Add(t.DiskHits)
	u.Misses.Add(t.Misses)
	u.Joined.Add(t.Joined)
	u.StoreGets.Add(t.StoreGets)
	u.StoreBytes.Add(t.StoreBytes)
	raise(&u.Rounds, t.Rounds)
}

// HitRatio is the part of the ranges that was in memory or on the disk, 1 if none was asked for.
func (u *Usage) HitRatio() float64 {
	hits, misses := u.Hits.Load()+u.DiskHits.Load(), u.Misses.Load()
	if hits+misses == 0 {
		return 1
	}
	return float64(hits) / float64(hits+misses)
}

type usageKey struct{}

// WithUsage returns a context whose reads are added to u. A read that the
// caller gave up, and that goes on for others, is still added when it happens.
func WithUsage(ctx context.Context, u *Usage) context.Context {
	return context.WithValue(ctx, usageKey{}, u)
}

// UsageOf is what the reads under ctx are added to; nil if nothing is.
func UsageOf(ctx context.Context) *Usage {
	u, _ := ctx.Value(usageKey{}).(*Usage)
	return u
}

// Stats is what the cache has done since it was made, and what it holds now.
type Stats struct {
	Hits       int64 // ranges found in memory
	DiskHits   int64 // ranges found on the local disk
	DiskBytes  int64 // that those have
	Misses     int64 // ranges found in neither
	Joined     int64 // of those, the ones somebody was already reading
	StoreGets  int64 // reads of the store, hedges included
	StoreBytes int64 // that they asked for, gaps included
	Hedged     int64 // reads of those that were slow, and sent a second time
	HedgesWon  int64 // of those, the ones whose second request was answered first
	Corrupt    int64 // checksums that did not match, healed ones included
	Evictions  int64
	Rejections int64 // blocks that were offered and not admitted
	Inflight   int64 // reads of the store under way
	Bytes      int64 // kept in memory now, what it costs to keep them included
	// RoleBytes are the same by role, with those that wait for admission.
	RoleBytes [blob.RoleCount]int64
	Disk      DiskStats
}

// DiskStats is what the disk tier has done and holds.
type DiskStats struct {
	State        string // "on", "read-only", "off", or "" when there is none
	Bytes        int64  // of its files
	Blocks       int64  // that can be found
	Queued       int64  // bytes that wait to be written
	Written      int64  // blocks
	WrittenBytes int64
	Rejections   int64 // blocks not written: not asked for often enough, or the queue was full
	Evictions    int64 // blocks dropped for others
	Corrupt      int64 // blocks, gaps and files that were not what they should be
	Errors       int64 // of the file system
}

// counters are the Stats that are counted along the way.
type counters struct {
	Usage
	corrupt, evictions, rejections, inflight atomic.Int64

	diskWrites, diskWrittenBytes, diskRejections, diskEvictions, diskCorrupt, diskErrors atomic.Int64
}

func (c *counters) hit(u *Usage, r blob.Range) (hits int64) {
	if u != nil {
		u.Hits.Add(1)
		u.HitBytes.Add(int64(r.Length))
	}
	c.HitBytes.Add(int64(r.Length))
	return c.Hits.Add(1)
}

func (c *counters) diskHit(u *Usage, r blob.Range) {
	for _, u := range both(c, u) {
		u.DiskHits.Add(1)
		u.DiskBytes.Add(int64(r.Length))
	}
}

func (c *counters) missed(u *Usage, count, joined int) {
	for _, u := range both(c, u) {
		u.Misses.Add(int64(count))
		u.Joined.Add(int64(joined))
	}
}

func (c *counters) read(u *Usage, size int) {
	for _, u := range both(c, u) {
		u.StoreGets.Add(1)
		u.StoreBytes.Add(int64(size))
	}
}

func (c *counters) hedged(u *Usage) {
	for _, u := range both(c, u) {
		u.Hedged.Add(1)
	}
}

func (c *counters) hedgeWon(u *Usage) {
	for _, u := range both(c, u) {
		u.HedgesWon.Add(1)
	}
}

// both is the cache's own usage and, if there is one, the caller's.
func both(c *counters, u *Usage) []*Usage {
	if u == nil {
		return []*Usage{&c.Usage}
	}
	return []*Usage{&c.Usage, u}
}

// Stats returns the counters, each exact, read one after the other.
func (c *Cache) Stats() Stats {
	s := Stats{
		Hits:       c.count.Hits.Load(),
		DiskHits:   c.count.DiskHits.Load(),
		DiskBytes:  c.count.DiskBytes.Load(),
		Misses:     c.count.Misses.Load(),
		Joined:     c.count.Joined.Load(),
		StoreGets:  c.count.StoreGets.Load(),
		StoreBytes: c.count.StoreBytes.Load(),
		Hedged:     c.count.Hedged.Load(),
		HedgesWon:  c.count.HedgesWon.Load(),
		Corrupt:    c.count.corrupt.Load(),
		Evictions:  c.count.evictions.Load(),
		Rejections: c.count.rejections.Load(),
		Inflight:   c.count.inflight.Load(),
		Bytes:      c.ram.used(),
		RoleBytes:  c.ram.byRole(),
	}
	if c.disk != nil {
		s.Disk = DiskStats{
			Queued:       c.disk.queuedBytes.Load(),
			Written:      c.count.diskWrites.Load(),
			WrittenBytes: c.count.diskWrittenBytes.Load(),
			Rejections:   c.count.diskRejections.Load(),
			Evictions:    c.count.diskEvictions.Load(),
			Corrupt:      c.count.diskCorrupt.Load(),
			Errors:       c.count.diskErrors.Load(),
		}
		s.Disk.Blocks, s.Disk.Bytes, s.Disk.State = c.disk.stats()
	}
	return s
}
