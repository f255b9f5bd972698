package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/akidb/akidb/segments/blob"
)

// Service is the name a breaker of the object store has in metrics and answers.
func Service(class blob.Class) string { return "store_" + string(class) }

// WatchGuard registers akidb_circuit_breaker_state{service,state}, which is 1
// for the state that a breaker is in and 0 for the others, and
// akidb_store_retries_total{result}, made or refused.
func WatchGuard(g *blob.Guarded, reg prometheus.Registerer) { reg.MustRegister(guardCollector{g}) }

type guardCollector struct{ guard *blob.Guarded }

var (
	breakerState = prometheus.NewDesc("akidb_circuit_breaker_state", "1 for the state that a circuit breaker is in, 0 for the others.", []string{"service", "state"}, nil)
	storeRetries = prometheus.NewDesc("akidb_store_retries_total", "Calls to the object store tried again, and those that were not because the retry budget was spent.", []string{"result"}, nil)
)

func (c guardCollector) Describe(out chan<- *prometheus.Desc) {
	out <- breakerState
	out <- storeRetries
}

func (c guardCollector) Collect(out chan<- prometheus.Metric) {
	for _, b := range c.guard.State() {
		for _, state := range []blob.BreakerState{blob.Closed, blob.Open, blob.HalfOpen} {
			value := 0.0
			if b.State == state {
				value = 1
			}
			out <- prometheus.MustNewConstMetric(breakerState, prometheus.GaugeValue, value, Service(b.Class), string(state))
		}
	}
	made, refused := c.guard.Retries()
	out <- prometheus.MustNewConstMetric(storeRetries, prometheus.CounterValue, float64(made), "made")
	out <- prometheus.MustNewConstMetric(storeRetries, prometheus.CounterValue, float64(refused), "refused")
}
