package cache

import (
	"math"
	"sync"
	"time"

	"github.com/akidb/akidb/segments/blob"
	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// routingShelf keeps what tells searches where to look: few blocks, each of them
// asked for again and again. It admits everything and drops what was least
// recently used, so what it does is known from what was asked, to the byte.
type routingShelf struct {
	budget int64
	count  *counters
	now    func() time.Time

	mu     sync.Mutex
	bytes  int64
	blocks *simplelru.LRU[blob.Range, *routingBlock]
}

type routingBlock struct {
	block
	read time.Time // last
}

// routingIdle is how long routing data that nobody reads is kept when more
// comes in: that of segments which were merged into others will never be read
// again, and the room is better lent.
const routingIdle = time.Hour

func newRoutingShelf(budget int64, count *counters, now func() time.Time) *routingShelf {
	blocks, err := simplelru.NewLRU[blob.Range, *routingBlock](math.MaxInt, nil) // bounded by bytes
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return &routingShelf{budget: budget, count: count, now: now, blocks: blocks}
}

func (s *routingShelf) get(r blob.Range) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.blocks.Get(r.Bytes())
	if !ok {
		return nil, false
	}
	b.read = s.now()
	return b.bytes, true
}

// put keeps a block, and returns those that found no room.
func (s *routingShelf) put(r blob.Range, bytes []byte) (out []block) {
	cost := costOf(len(bytes))
	if cost > s.budget {
		return []block{{r, bytes}}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if _, have := s.blocks.Get(r.Bytes()); have {
		return nil
	}
	s.blocks.Add(r.Bytes(), &routingBlock{block{r, bytes}, now})
	s.bytes += cost
	for {
		_, oldest, _ := s.blocks.GetOldest()
		idle := now.Sub(oldest.read) > routingIdle
		if s.bytes <= s.budget && !idle {
			return out
		}
		s.blocks.RemoveOldest()
		s.bytes -= costOf(len(oldest.bytes))
		if idle {
			s.count.evictions.Add(1)
		} else {
			out = append(out, oldest.block)
		}
	}
}

// used is the cost of what is kept, in bytes.
func (s *routingShelf) used() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes
}
