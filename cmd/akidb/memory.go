package main

import (
	"log/slog"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/akidb/akidb/cache"
	"github.com/akidb/akidb/internal/config"
	"github.com/akidb/akidb/segments/blob"
)

// limitHeap keeps the collector from letting the heap grow to twice what the
// cache holds, which it does by itself and which a memory limit has no room for.
//
// Blocks of the cache are on Go's heap: whoever reads one may keep it as long as
// he likes, so nobody could say when memory of our own might be reused. They
// have no pointers, so that the collector does not look into them; what they
// cost is that it waits for as many bytes of garbage again. Under a soft limit
// it runs earlier as the limit comes near, and never costs more than half of the
// CPU: with 400 MiB of blocks that are replaced all the time the heap peaks at
// 752 MiB, and under a limit of 700 at 669, for 17 collections instead of 15.
// Segments that are in memory whole lie outside the heap, in arenas that
// are counted by hand, and come off the limit.
//
// Whoever sets GOMEMLIMIT has decided otherwise.
func (p *process) limitHeap(arenas int64) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	limit := heapLimit(config.MemoryLimit(), arenas)
	debug.SetMemoryLimit(limit)
	p.log.Debug("soft limit of the heap", slog.Int64("bytes", limit))
}

// heapLimit is what the heap may have of a process's memory: a tenth is left
// for what the system accounts for otherwise, such as buffers of the network.
// The heap has a quarter in any case, as it cannot do with nothing.
func heapLimit(memory, arenas int64) int64 { return max(memory-memory/10-arenas, memory/4) }

// memoryCollector shows akidb_memory_usage_bytes: who holds how much memory, by
// his own account. heap is what lives on Go's heap, and what the cache holds is
// a part of it; resident is outside.
type memoryCollector struct {
	mu      sync.Mutex
	holders []memoryHolder
}

type memoryHolder struct {
	component string
	bytes     func() int64
}

var memoryUsed = prometheus.NewDesc("akidb_memory_usage_bytes", "Memory held by a component, as it accounts for it.", []string{"component"}, nil)

// add adds a component. It may be called while metrics are collected.
func (m *memoryCollector) add(component string, bytes func() int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.holders = append(m.holders, memoryHolder{component, bytes})
}

// addCache adds the parts of a cache, by what they are for.
func (m *memoryCollector) addCache(c *cache.Cache) {
	for role := range blob.Role(blob.RoleCount) {
		m.add("cache_"+role.String(), func() int64 { return c.Stats().RoleBytes[role] })
	}
}

func (m *memoryCollector) Describe(out chan<- *prometheus.Desc) { out <- memoryUsed }

func (m *memoryCollector) Collect(out chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, h := range m.holders {
		out <- prometheus.MustNewConstMetric(memoryUsed, prometheus.GaugeValue, float64(h.bytes()), h.component)
	}
}

// heapBytes is what objects on Go's heap take, dead ones that were not collected
// yet included.
func heapBytes() int64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64())
}
