package cache

import (
	"sync"
	"time"

	"github.com/akidb/akidb/segments/blob"
)

// ram is the memory tier. What every search begins with has a shelf of its own,
// so that no amount of posting lists pushes it out; the rest competes for the
// other one.
//
//	┌─ routing: at most a quarter ─┬─ blocks: whatever routing does not use ──┐
//	│ least recently used goes     │ least asked for goes, newcomers are vetted│
//	└──────────────────────────────┴───────────────────────────────────────────┘
//
// Routing data that finds no room in its quarter competes with the others.
type ram struct {
	budget  int64
	routing *routingShelf
	blocks  *shelf

	mu sync.Mutex // over how the budget is divided
}

const (
	// routingShare is the part of memory that routing data can be sure of. In a
	// segment it is about a tenth of what a search may read: ids, centroids and
	// directories beside codes.
	routingShare = 4
	// lendingSteps bounds how often the border between the shelves moves.
	lendingSteps = 64
)

func newRAM(config Config, count *counters, now func() time.Time) (*ram, error) {
	blocks, err := newShelf(config, count)
	if err != nil {
		return nil, err
	}
	return &ram{
		budget:  config.Bytes,
		routing: newRoutingShelf(config.Bytes/routingShare, count, now),
		blocks:  blocks,
	}, nil
}

func (m *ram) get(r blob.Range) ([]byte, bool) {
	if r.Role == blob.Routing {
		if b, ok := m.routing.get(r); ok {
			return b, true
		}
	}
	return m.blocks.get(r)
}

// put offers a verified block. Whether it is kept is nobody's business.
func (m *ram) put(r blob.Range, bytes []byte) {
	if r.Role != blob.Routing {
		m.blocks.put(r, bytes)
		return
	}
	for _, b := range m.routing.put(r, bytes) {
		m.blocks.put(b.of, b.bytes)
	}
	m.divide()
}

// divide gives the blocks what routing data does not use. What they have
// borrowed they give back at once, so that the budget holds.
func (m *ram) divide() {
	m.mu.Lock()
	defer m.mu.Unlock()
	step := max(m.budget/lendingSteps, 1)
	used := (m.routing.used() + step - 1) / step * step
	m.blocks.limit(m.budget - min(used, m.routing.budget))
}

// used is the cost of what is kept, in bytes.
func (m *ram) used() int64 { return m.routing.used() + m.blocks.used() }

// byRole is the cost of what is kept, in bytes, with what is about to be looked
// at by the admission policy.
func (m *ram) byRole() (bytes [blob.RoleCount]int64) {
	for role := range bytes {
		bytes[role] = m.blocks.byRole[role].Load()
	}
	bytes[blob.Routing] += m.routing.used()
	return bytes
}

// settle returns when everything that was put is kept or turned away.
func (m *ram) settle() {
	if m.blocks.blocks != nil {
		m.blocks.blocks.Wait()
	}
}

func (m *ram) close() { m.blocks.close() }
