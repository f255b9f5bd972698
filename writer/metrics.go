package writer

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/akidb/akidb/internal/telemetry"
	"github.com/akidb/akidb/writer/wal"
	"github.com/akidb/akidb/writer/wal/ship"
)

type metrics struct {
	registerer prometheus.Registerer
	insert     *telemetry.Insert
	size       *telemetry.CollectionSize
	workers    *telemetry.Workers
}

func newMetrics(reg prometheus.Registerer) *metrics {
	return &metrics{
		registerer: reg,
		insert:     telemetry.NewInsert(reg),
		size:       telemetry.NewCollectionSize(reg),
		workers:    telemetry.NewWorkers(reg),
	}
}

func (m *metrics) gauge(name, help string, value func() float64) {
	m.registerer.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
}

// watchShipping exports how far the copy of the log is behind.
func (m *metrics) watchShipping(s *ship.Shipper) {
	m.gauge("akidb_wal_ship_lag_bytes", "Bytes of the write-ahead log that are neither shipped to the object store nor flushed.",
		func() float64 { behind, _ := s.Lag(); return float64(behind) })
	m.gauge("akidb_wal_ship_lag_seconds", "For how long at most an acknowledged row has waited to be shipped or flushed.",
		func() float64 { _, age := s.Lag(); return age.Seconds() })
}

// watch exports the log's own figures, and what waits for a flush.
func (m *metrics) watch(log *wal.Log, unflushed func() int64) {
	gauge := m.gauge
	gauge("akidb_wal_live_bytes", "Bytes of records the write-ahead log holds.",
		func() float64 { return float64(log.Stats().LiveBytes) })
	gauge("akidb_wal_disk_bytes", "Bytes the files of the write-ahead log occupy.",
		func() float64 { return float64(log.Stats().DiskBytes) })
	gauge("akidb_wal_queued_bytes", "Bytes of records accepted and not yet durable.",
		func() float64 { return float64(log.Stats().QueuedBytes) })
	gauge("akidb_memtable_bytes", "Bytes of rows that are not yet in the object store.",
		func() float64 { return float64(unflushed()) })
	count := func(name, help string, value func() float64) {
		m.registerer.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, value))
	}
	count("akidb_wal_records_total", "Records made durable since the process began.",
		func() float64 { return float64(log.Stats().Records) })
	count("akidb_wal_group_commits_total", "Group commits since the process began: one sync each.",
		func() float64 { return float64(log.Stats().Groups) })
}
