package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/akidb/akidb/cache"
)

// cacheCollector shows what the cache counts by itself.
type cacheCollector struct{ cache *cache.Cache }

var (
	cacheRequests = prometheus.NewDesc("akidb_cache_requests_total", "Ranges asked of the cache, by result: hit, joined (somebody was reading it already) or miss.", []string{"result"}, nil)
	cacheReads    = prometheus.NewDesc("akidb_cache_store_reads_total", "Reads of the object store by the cache.", nil, nil)
	cacheBytes    = prometheus.NewDesc("akidb_cache_store_read_bytes_total", "Bytes the cache asked the object store for.", nil, nil)
	cacheDropped  = prometheus.NewDesc("akidb_cache_dropped_total", "Blocks the cache did not keep, by reason: evicted or rejected.", []string{"reason"}, nil)
	cacheCorrupt  = prometheus.NewDesc("akidb_cache_corrupt_total", "Reads whose checksum did not match, those a second read healed included.", nil, nil)
	memoryUsed    = prometheus.NewDesc("akidb_memory_usage_bytes", "Memory held by a component, as it accounts for it.", []string{"component"}, nil)
)

func (c cacheCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{cacheRequests, cacheReads, cacheBytes, cacheDropped, cacheCorrupt, memoryUsed} {
		out <- d
	}
}

func (c cacheCollector) Collect(out chan<- prometheus.Metric) {
	s := c.cache.Stats()
	count := func(d *prometheus.Desc, n int64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	count(cacheRequests, s.Hits, "hit")
	count(cacheRequests, s.Joined, "joined")
	count(cacheRequests, s.Misses-s.Joined, "miss")
	count(cacheReads, s.StoreGets)
	count(cacheBytes, s.StoreBytes)
	count(cacheDropped, s.Evictions, "evicted")
	count(cacheDropped, s.Rejections, "rejected")
	count(cacheCorrupt, s.Corrupt)
	out <- prometheus.MustNewConstMetric(memoryUsed, prometheus.GaugeValue, float64(s.Bytes), "cache")
}
