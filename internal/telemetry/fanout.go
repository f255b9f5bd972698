package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Fanout is what a query process has to do with the others.
type Fanout struct {
	ready     prometheus.Gauge
	requests  *prometheus.CounterVec
	fallbacks *prometheus.CounterVec
	seconds   prometheus.Histogram
}

// NewFanout registers akidb_pods_ready, akidb_fanout_requests_total,
// akidb_fanout_fallbacks_total and akidb_fanout_duration_seconds. A process is
// alone until it is said otherwise.
func NewFanout(reg prometheus.Registerer) *Fanout {
	f := &Fanout{
		ready: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "akidb_pods_ready",
			Help: "Query processes that segments are divided among, as this one sees it, itself included.",
		}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "akidb_fanout_requests_total",
			Help: "Parts of searches that another query process was asked for, by result.",
		}, []string{"result"}),
		fallbacks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "akidb_fanout_fallbacks_total",
			Help: "Parts of searches begun here although another process was to do them, by reason.",
		}, []string{"reason"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "akidb_fanout_duration_seconds",
			Help:    "Time of searches that other processes took part in, until the last part was there.",
			Buckets: durationBuckets,
		}),
	}
	f.ready.Set(1)
	for _, result := range []string{"ok", "refused", "failed", "corrupt", "timeout", "canceled", "outrun"} {
		f.requests.WithLabelValues(result)
	}
	for _, reason := range []string{"slow", "away", "refused", "failed", "corrupt", "timeout"} {
		f.fallbacks.WithLabelValues(reason)
	}
	reg.MustRegister(f.ready, f.requests, f.fallbacks, f.seconds)
	return f
}

// Ready records how many processes there are.
func (f *Fanout) Ready(pods int) { f.ready.Set(float64(pods)) }

// Asked counts parts that were asked for, by what came of them.
func (f *Fanout) Asked(result string) prometheus.Counter { return f.requests.WithLabelValues(result) }

// FellBack counts parts that were begun in this process instead, by why.
func (f *Fanout) FellBack(reason string) prometheus.Counter {
	return f.fallbacks.WithLabelValues(reason)
}

// Took records the time of a search that others took part in.
func (f *Fanout) Took(d time.Duration) { f.seconds.Observe(d.Seconds()) }
