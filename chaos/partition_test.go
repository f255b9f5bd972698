package chaos

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// partitions are ways in which a store can be away. Each returns with the fault
// there and leaves it to heal to end it.
var partitions = []struct {
	name   string
	inject func(f *fleet)
	opens  bool // a breaker
	fills  bool // it lasts until the log's budget is spent
	full   bool // only at full length
}{
	{name: "refused", inject: func(f *fleet) { f.toStore[0].refuse() }, opens: true, fills: true},
	{name: "reset", inject: func(f *fleet) { f.toStore[0].reset() }, opens: true, full: true},
	{name: "black hole", inject: func(f *fleet) { f.toStore[0].swallow() }, opens: true},
	{name: "slow", inject: func(f *fleet) { f.toStore[0].delay(5 * time.Second) }, opens: true, full: true},
	{name: "throttled", inject: func(f *fleet) { f.toStore[0].throttle(1) }, full: true},
	{name: "truncated", inject: func(f *fleet) { f.toStore[0].truncate(100) }, opens: true, full: true},
	{name: "flapping", inject: (*fleet).flap, full: true},
	{name: "answers lost", inject: (*fleet).loseAnswers},
}

// The store is away from the writer: writes are acknowledged all the same until
// the log's budget is spent, and refused for certain then; reads go on; and when
// the store is back everything is as it would have been.
func TestStorePartitioned(t *testing.T) {
	for _, c := range partitions {
		t.Run(c.name, func(t *testing.T) {
			if c.full && !full() {
				t.Skip("runs with AKIDB_CHAOS=full")
			}
			t.Parallel()
			flags := []string(nil)
			if c.fills {
				flags = []string{"--wal-max-bytes", "16MiB"}
			}
			f := startFleet(t, flags...)
			if c.fills {
				f.pad = 6 << 10
			}
			f.load()
			for range rounds(1, 3) {
				f.waitForAcks(100)
				f.partition(c.name, c.inject, c.opens, c.fills)
			}
			f.audit()
			require.False(t, t.Failed())
			require.Zero(t, f.counts[Unknown], "writes of unknown fate; none waits for the store")
			if !c.fills {
				require.Zero(t, f.tallied(upsertsRefused))
			}
		})
	}
}

func (f *fleet) partition(name string, inject func(*fleet), opens, fills bool) {
	t := f.t
	failed, reads := f.writer.failedCalls(), f.tallied(readFresh)
	_, cut := f.wires[0].passed()
	unread := f.tallied(readFailed)
	began := time.Now()
	inject(f)
	if opens {
		Eventually(t, "an open breaker", func() bool { return f.writer.openBreakers() > 0 })
		longest(&f.summary.BreakerOpenSeconds, time.Since(began))
		f.inject("breaker opened", 1)
		if _, has := f.writer.metric("akidb_dlq_entries"); has {
			Eventually(t, "a dead letter", func() bool { n, _ := f.writer.metric("akidb_dlq_entries"); return n > 0 })
			f.inject("dead letter", 1)
		}
	}
	f.waitForAcks(200)
	if fills {
		spent := f.overBudget()
		Eventually(t, "the log's budget is spent", func() bool { return f.overBudget() > spent+50 })
	}
	Eventually(t, "reads go on", func() bool { return f.tallied(readFresh) > reads+20 })
	_, cutNow := f.wires[0].passed()
	Eventually(t, "calls of the writer to the store that fail", func() bool { return f.writer.failedCalls() > failed })
	f.inject("store calls failed: "+name, f.writer.failedCalls()-failed)
	f.inject("answers cut", cutNow-cut)
	require.Equal(t, unread, f.tallied(readFailed), "reads that failed meanwhile")

	ended := time.Now()
	f.wires[0].set(rules{})
	f.toStore[0].heal()
	if _, has := f.writer.metric("akidb_dlq_entries"); has {
		Eventually(t, "no dead letters", func() bool { n, ok := f.writer.metric("akidb_dlq_entries"); return ok && n == 0 })
		longest(&f.summary.DLQDrainedSeconds, time.Since(ended))
	}
	f.whole()
	longest(&f.summary.RecoverySeconds, time.Since(ended))
	f.waitForAcks(100)
}

// flap has the store go and come back every few seconds.
func (f *fleet) flap() {
	for range 4 {
		f.toStore[0].refuse()
		<-time.After(3 * time.Second)
		f.toStore[0].heal()
		<-time.After(2 * time.Second)
	}
}

// loseAnswers has the store do what it is asked and every second put of a
// CURRENT, and every twentieth other, end without an answer.
func (f *fleet) loseAnswers() {
	var currents, others atomic.Int64
	f.wires[0].set(rules{after: func(r *http.Request) bool {
		switch {
		case r.Method != http.MethodPut:
			return false
		case isCurrent(r.URL.Path):
			return currents.Add(1)%2 == 0
		}
		return others.Add(1)%20 == 0
	}})
	Eventually(f.t, "answers are lost", func() bool { return currents.Load() >= 10 && others.Load() >= 40 })
}

// Both query processes are cut off, one from the store, the other from the
// writer, and their clients from them: what they still answer is right.
func TestQueryPartitioned(t *testing.T) {
	t.Parallel()
	f := startFleet(t)
	rng := f.load()
	for i := range rounds(1, 12) {
		f.waitForAcks(100)
		way := f.toWriter[1-i%2]
		bad := []struct {
			name  string
			fault func()
		}{{"refused", way.refuse}, {"reset", way.reset}, {"black hole", way.swallow}}[rng.IntN(3)]
		stale, failed := f.tallied(readStale), f.queries[i%2].failedCalls()
		f.toStore[1+i%2].swallow()
		bad.fault()
		f.clients[1+i%2].heal() // cuts what there is
		f.waitForAcks(100)
		Eventually(t, "reads as of earlier", func() bool { return f.tallied(readStale) > stale+10 })
		Eventually(t, "calls to the store that fail", func() bool { return f.queries[i%2].failedCalls() > failed })
		f.inject("store calls of a query process failed", f.queries[i%2].failedCalls()-failed)
		f.inject("query process without writer: "+bad.name, 1)
		f.inject("connections of clients cut", 1)
		ended := time.Now()
		f.toStore[1+i%2].heal()
		way.heal()
		f.whole()
		longest(&f.summary.RecoverySeconds, time.Since(ended))
	}
	f.waitForAcks(100)
	f.audit()
}
