package cache

import (
	"hash/maphash"
	"sync/atomic"

	"github.com/akidb/akidb/segments/blob"
	"github.com/dgraph-io/ristretto/v2"
)

// shelf keeps blocks that compete for memory: a TinyLFU admission policy over sampled LFU
// eviction. What that means here:
//
//   - Admission is a guess. A block that is asked for less often than what it
//     would push out is turned away, so that one scan of a cold collection does
//     not empty the cache; asking again raises its count, hit or miss, until
//     it is let in. Old counts fade.
//   - Admission happens later, in another goroutine. Until then the block is
//     not found, and it takes memory that no budget knows of, so what waits is
//     bounded here.
//   - A block that does not fit next to others would push out many for one, and
//     may be turned away after it did. Such blocks are not offered.
type shelf struct {
	blocks  *ristretto.Cache[uint64, *block] // nil when nothing is kept
	seed    maphash.Seed
	largest int64 // cost of a block that is still offered
	count   *counters

	byRole [blob.RoleCount]atomic.Int64 // cost of what is kept or waits

	waiting      atomic.Int64 // blocks handed over and not yet looked at
	waitingBytes atomic.Int64
	maxBytes     int64 // for waitingBytes
}

// block remembers what it is of, because the shelf finds it by a hash.
type block struct {
	of    blob.Range
	bytes []byte
}

const (
	// maxWaiting is well below ristretto's queue of 32 768, which when full
	// would lose an update without a word.
	maxWaiting = 16 << 10
	// blockOverhead is what keeping a block costs besides its bytes: the block
	// itself, its entries in two maps with their slack, and bookkeeping.
	blockOverhead = 256
	// countersPerBlock and its bounds follow ristretto's advice: ten times as
	// many counters as blocks when full, three bytes each.
	countersPerBlock = 10
	leastCounters    = 1 << 10
	mostCounters     = 1 << 26
)

func newShelf(config Config, count *counters) (*shelf, error) {
	s := &shelf{seed: maphash.MakeSeed(), count: count, largest: config.Bytes / 4, maxBytes: config.Bytes / 16}
	if config.Bytes == 0 {
		return s, nil
	}
	var err error
	s.blocks, err = ristretto.NewCache(&ristretto.Config[uint64, *block]{
		NumCounters:        min(mostCounters, max(leastCounters, countersPerBlock*(config.Bytes/config.BlockBytes))),
		MaxCost:            config.Bytes,
		BufferItems:        64,
		IgnoreInternalCost: true, // blockOverhead has it
		KeyToHash:          func(key uint64) (uint64, uint64) { return key, 0 },
		Cost:               s.taken,
		OnEvict:            func(*ristretto.Item[*block]) { count.evictions.Add(1) },
		OnReject:           func(*ristretto.Item[*block]) { count.rejections.Add(1) },
		OnExit:             s.gone,
	})
	return s, err
}

func (s *shelf) key(r blob.Range) uint64 { return maphash.Comparable(s.seed, r.Bytes()) }

func (s *shelf) get(r blob.Range) ([]byte, bool) {
	if s.blocks == nil {
		return nil, false
	}
	b, ok := s.blocks.Get(s.key(r))
	if !ok || b.of.Bytes() != r.Bytes() {
		return nil, false
	}
	return b.bytes, true
}

// put offers a verified block. Whether it is kept is nobody's business.
func (s *shelf) put(r blob.Range, bytes []byte) {
	cost := costOf(len(bytes))
	if s.blocks == nil || cost > s.largest {
		return
	}
	b := &block{r, bytes}
	s.byRole[r.Role].Add(cost)
	n, queued := s.waiting.Add(1), s.waitingBytes.Add(cost)
	// One block may always wait, or a small cache would never get any.
	if n > maxWaiting || n > 1 && queued > s.maxBytes || !s.blocks.Set(s.key(r), b, 0) {
		s.waiting.Add(-1)
		s.waitingBytes.Add(-cost)
		s.gone(b)
		s.count.rejections.Add(1)
	}
}

// gone is called for every block that is not kept, or not any more.
func (s *shelf) gone(b *block) {
	if b != nil { // of a block that was deleted twice
		s.byRole[b.of.Role].Add(-costOf(len(b.bytes)))
	}
}

// limit changes how much is kept at most. What is too much goes now, whichever
// it is: that is rare, and waiting for newcomers that are worth more than what
// they push out could take for ever.
func (s *shelf) limit(bytes int64) {
	if s.blocks == nil || s.blocks.MaxCost() == bytes {
		return
	}
	s.blocks.UpdateMaxCost(bytes)
	over := s.used() - bytes
	if over <= 0 {
		return
	}
	var out []uint64
	s.blocks.IterValues(func(b *block) bool {
		out = append(out, s.key(b.of))
		over -= costOf(len(b.bytes))
		return over <= 0
	})
	for _, key := range out {
		s.blocks.Del(key)
		s.count.evictions.Add(1)
	}
}

// taken is called when the policy looks at a block that was handed over, and
// says its cost.
func (s *shelf) taken(b *block) int64 {
	cost := costOf(len(b.bytes))
	s.waiting.Add(-1)
	s.waitingBytes.Add(-cost)
	return cost
}

// used is the cost of what is kept, in bytes.
func (s *shelf) used() int64 {
	if s.blocks == nil {
		return 0
	}
	return s.blocks.MaxCost() - s.blocks.RemainingCost()
}

func (s *shelf) close() {
	if s.blocks != nil {
		s.blocks.Close()
	}
}

// costOf is the memory that a block of n bytes takes: the allocator rounds up
// to whole pages above 32 KiB, and to within an eighth below.
func costOf(n int) int64 {
	const page, small = 8 << 10, 32 << 10
	size := int64(n)
	if size > small {
		size = (size + page - 1) / page * page
	} else {
		size += size / 8
	}
	return size + blockOverhead
}
