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
	states     *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		registerer: reg,
		insert:     telemetry.NewInsert(reg),
		size:       telemetry.NewCollectionSize(reg),
		workers:    telemetry.NewWorkers(reg),
		states: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "akidb_admission_state", Help: "1 for what becomes of writes now: ok, flushing, throttled (429) or read_only (507).",
		}, []string{"state"}),
	}
	reg.MustRegister(m.states)
	m.admission(admitted)
	return m
}

// admission exports the state of admission.
func (m *metrics) admission(now admission) {
	for state, name := range admissions {
		value := 0.0
		if admission(state) == now {
			value = 1
		}
		m.states.WithLabelValues(name).Set(value)
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

// watch exports the log's own figures, how much of its budget is used, and what
// waits for the store.
func (m *metrics) watch(log *wal.Log, budget int64, unflushed func() int64, dead func() []DeadLetter) {
	gauge := m.gauge
	gauge("akidb_wal_live_bytes", "Bytes of records the write-ahead log holds.",
		func() float64 { return float64(log.Stats().LiveBytes) })
	gauge("akidb_wal_budget_ratio", "Share of the log's budget that its records use.",
		func() float64 { return float64(log.Size()) / float64(budget) })
	gauge("akidb_wal_disk_bytes", "Bytes the files of the write-ahead log occupy.",
		func() float64 { return float64(log.Stats().DiskBytes) })
	gauge("akidb_wal_queued_bytes", "Bytes of records accepted and not yet durable.",
		func() float64 { return float64(log.Stats().QueuedBytes) })
	gauge("akidb_dlq_entries", "Jobs that failed again and again and wait for the object store.",
		func() float64 { return float64(len(dead())) })
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
