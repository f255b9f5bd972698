package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/akidb/akidb/cache"
)

// cacheCollector shows what the cache counts by itself. What is of the disk is
// there if there is one.
type cacheCollector struct{ cache *cache.Cache }

var (
	cacheRequests = prometheus.NewDesc("akidb_cache_requests_total", "Ranges asked of the cache, by result: hit (in memory), disk_hit, joined (somebody was reading it already) or miss.", []string{"result"}, nil)
	cacheReads    = prometheus.NewDesc("akidb_cache_store_reads_total", "Reads of the object store by the cache.", nil, nil)
	cacheBytes    = prometheus.NewDesc("akidb_cache_store_read_bytes_total", "Bytes the cache asked the object store for.", nil, nil)
	cacheHedges   = prometheus.NewDesc("akidb_cache_hedges_total", "Slow reads of the object store that were sent a second time, by whether the second was answered first: won or lost.", []string{"result"}, nil)
	cacheDropped  = prometheus.NewDesc("akidb_cache_dropped_total", "Blocks the cache did not keep in memory, by reason: evicted or rejected.", []string{"reason"}, nil)
	cacheCorrupt  = prometheus.NewDesc("akidb_cache_corrupt_total", "Reads whose checksum did not match, those a second read healed included.", nil, nil)

	diskState     = prometheus.NewDesc("akidb_disk_cache_state", "1 for what the disk cache does: on, read-only (it cannot write) or off.", []string{"state"}, nil)
	diskBytes     = prometheus.NewDesc("akidb_disk_cache_bytes", "Bytes of the disk cache's files.", nil, nil)
	diskBlocks    = prometheus.NewDesc("akidb_disk_cache_blocks", "Blocks that are found in the disk cache.", nil, nil)
	diskQueued    = prometheus.NewDesc("akidb_disk_cache_queued_bytes", "Bytes that wait to be written to the disk cache.", nil, nil)
	diskReadBytes = prometheus.NewDesc("akidb_disk_cache_read_bytes_total", "Bytes found in the disk cache.", nil, nil)
	diskWrites    = prometheus.NewDesc("akidb_disk_cache_written_bytes_total", "Bytes written to the disk cache.", nil, nil)
	diskDropped   = prometheus.NewDesc("akidb_disk_cache_dropped_total", "Blocks the disk cache did not keep, by reason: evicted, rejected (seldom asked for, or too many at once) or corrupt.", []string{"reason"}, nil)
	diskErrors    = prometheus.NewDesc("akidb_disk_cache_errors_total", "Errors of the file system that the disk cache is on.", nil, nil)
)

func (c cacheCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		cacheRequests, cacheReads, cacheBytes, cacheHedges, cacheDropped, cacheCorrupt,
		diskState, diskBytes, diskBlocks, diskQueued, diskReadBytes, diskWrites, diskDropped, diskErrors,
	} {
		out <- d
	}
}

func (c cacheCollector) Collect(out chan<- prometheus.Metric) {
	s := c.cache.Stats()
	count := func(d *prometheus.Desc, n int64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	gauge := func(d *prometheus.Desc, n int64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	count(cacheRequests, s.Hits, "hit")
	count(cacheRequests, s.DiskHits, "disk_hit")
	count(cacheRequests, s.Joined, "joined")
	count(cacheRequests, s.Misses-s.Joined, "miss")
	count(cacheReads, s.StoreGets)
	count(cacheBytes, s.StoreBytes)
	count(cacheHedges, s.HedgesWon, "won")
	count(cacheHedges, s.Hedged-s.HedgesWon, "lost")
	count(cacheDropped, s.Evictions, "evicted")
	count(cacheDropped, s.Rejections, "rejected")
	count(cacheCorrupt, s.Corrupt)
	if s.Disk.State == "" {
		return
	}
	for _, state := range []string{"on", "read-only", "off"} {
		is := int64(0)
		if s.Disk.State == state {
			is = 1
		}
		gauge(diskState, is, state)
	}
	gauge(diskBytes, s.Disk.Bytes)
	gauge(diskBlocks, s.Disk.Blocks)
	gauge(diskQueued, s.Disk.Queued)
	count(diskReadBytes, s.DiskBytes)
	count(diskWrites, s.Disk.WrittenBytes)
	count(diskDropped, s.Disk.Evictions, "evicted")
	count(diskDropped, s.Disk.Rejections, "rejected")
	count(diskDropped, s.Disk.Corrupt, "corrupt")
	count(diskErrors, s.Disk.Errors)
}
