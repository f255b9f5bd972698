package telemetry

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// durationBuckets spans a search answered from RAM to a flush to a slow store.
var durationBuckets = []float64{.00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

// Search times searches. Tier is hot, warm or cold; mode says how the query ran
// (exact, ivf, …).
type Search struct{ seconds *prometheus.HistogramVec }

// NewSearch registers akidb_vector_search_duration_seconds.
func NewSearch(reg prometheus.Registerer) *Search {
	s := &Search{prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "akidb_vector_search_duration_seconds",
		Help:    "Time of one search, from the decoded request to its results.",
		Buckets: durationBuckets,
	}, []string{"tier", "mode"})}
	reg.MustRegister(s.seconds)
	return s
}

// Observe records one search.
func (s *Search) Observe(tier, mode string, took time.Duration) {
	s.seconds.WithLabelValues(tier, mode).Observe(took.Seconds())
}

// Insert times acknowledged upserts by the durability they waited for, disk or
// object.
type Insert struct{ seconds *prometheus.HistogramVec }

// NewInsert registers akidb_vector_insert_duration_seconds.
func NewInsert(reg prometheus.Registerer) *Insert {
	i := &Insert{prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "akidb_vector_insert_duration_seconds",
		Help:    "Time of one upsert request, from the decoded request to its acknowledgement.",
		Buckets: durationBuckets,
	}, []string{"durability"})}
	reg.MustRegister(i.seconds)
	return i
}

// Observe records one acknowledged upsert.
func (i *Insert) Observe(durability string, took time.Duration) {
	i.seconds.WithLabelValues(durability).Observe(took.Seconds())
}

// CollectionSize counts the rows of each collection.
type CollectionSize struct{ vectors *prometheus.GaugeVec }

// NewCollectionSize registers akidb_collection_size_vectors.
func NewCollectionSize(reg prometheus.Registerer) *CollectionSize {
	c := &CollectionSize{prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: sizeName, Help: sizeHelp}, []string{"collection"})}
	reg.MustRegister(c.vectors)
	return c
}

const (
	sizeName = "akidb_collection_size_vectors"
	sizeHelp = "Rows of a collection, unflushed ones included, deleted ones not."
)

// WatchCollectionSizes registers the same metric for a role that counts when it
// is asked: each reports the rows of every collection. Where another role of the
// process reports them it does nothing.
func WatchCollectionSizes(reg prometheus.Registerer, each func(report func(collection string, vectors uint64))) {
	registered[prometheus.Collector](reg, sizes{prometheus.NewDesc(sizeName, sizeHelp, []string{"collection"}, nil), each})
}

// sizes is a collector of what each reports.
type sizes struct {
	desc *prometheus.Desc
	each func(report func(collection string, vectors uint64))
}

// Describe implements prometheus.Collector.
func (s sizes) Describe(out chan<- *prometheus.Desc) { out <- s.desc }

// Collect implements prometheus.Collector.
func (s sizes) Collect(out chan<- prometheus.Metric) {
	s.each(func(collection string, vectors uint64) {
		out <- prometheus.MustNewConstMetric(s.desc, prometheus.GaugeValue, float64(vectors), collection)
	})
}

// Set records the rows of a collection.
func (c *CollectionSize) Set(collection string, vectors int64) {
	c.vectors.WithLabelValues(collection).Set(float64(vectors))
}

// Remove forgets a collection that was deleted.
func (c *CollectionSize) Remove(collection string) { c.vectors.DeleteLabelValues(collection) }

// registered is c, or what the registry has under its name already: in a process
// of several roles they share it.
func registered[C prometheus.Collector](reg prometheus.Registerer, c C) C {
	err := reg.Register(c)
	if there, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		return there.ExistingCollector.(C)
	}
	if err != nil {
		panic(fmt.Sprintf("BUG: %v", err))
	}
	return c
}

// Workers counts the runs of background work (flush, compaction, …).
type Workers struct{ runs *prometheus.CounterVec }

// NewWorkers registers akidb_background_worker_runs_total.
func NewWorkers(reg prometheus.Registerer) *Workers {
	w := &Workers{prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "akidb_background_worker_runs_total",
		Help: "Runs of background work that ended, by result: ok or error.",
	}, []string{"worker", "result"})}
	w.runs = registered(reg, w.runs)
	return w
}

// Ran counts one run of a worker that ended with err.
func (w *Workers) Ran(worker string, err error) {
	result := "ok"
	if err != nil {
		result = "error"
	}
	w.runs.WithLabelValues(worker, result).Inc()
}

// Recall is what live searches found of what they should have, as far as they
// were searched again exactly.
type Recall struct {
	shares  *prometheus.HistogramVec
	samples *prometheus.CounterVec
}

// NewRecall registers akidb_search_recall and akidb_search_recall_samples_total.
func NewRecall(reg prometheus.Registerer) *Recall {
	r := &Recall{
		prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "akidb_search_recall",
			Help:    "Share of the true nearest rows that sampled searches found.",
			Buckets: []float64{0, 0.5, 0.7, 0.8, 0.9, 0.94, 0.96, 0.98, 0.99, 1},
		}, []string{"mode"}),
		prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "akidb_search_recall_samples_total",
			Help: "Searches chosen for being repeated exactly.",
		}, []string{"result"}),
	}
	reg.MustRegister(r.shares, r.samples)
	// They are there before the first sample, which may be long in coming.
	r.shares.WithLabelValues("approximate")
	r.samples.WithLabelValues("measured")
	return r
}

// Observe records the recall of one search. Mode is as for Search.
func (r *Recall) Observe(mode string, share float64) {
	r.samples.WithLabelValues("measured").Inc()
	r.shares.WithLabelValues(mode).Observe(share)
}

// Skipped records a sample that was not measured: cold, because that would have
// read the store, or error.
func (r *Recall) Skipped(result string) { r.samples.WithLabelValues(result).Inc() }
