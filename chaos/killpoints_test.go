package chaos

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// points are the puts in the course of a flush. A writer can be killed before
// one of them reaches the store, and after, before it knows.
var points = []struct {
	name string
	is   func(path string) bool
}{
	{"segment", func(path string) bool { return strings.HasSuffix(path, "/data.parquet") }},
	{"manifest", func(path string) bool { return strings.Contains(path, "/manifest/") }},
	{"CURRENT", isCurrent},
}

func isCurrent(path string) bool { return strings.HasSuffix(path, "/CURRENT") }

// The writer of a fleet is killed at every point of a flush, before and after,
// and at random.
func TestKillPoints(t *testing.T) {
	t.Parallel()
	f := startFleet(t)
	rng := f.load()
	f.waitForAcks(100)
	for range rounds(1, 20) {
		for _, p := range points {
			for _, when := range []string{"before", "after"} {
				f.killAt(p.is, when == "after", 1+rng.IntN(4))
				f.inject("killed "+when+" the put of "+p.name, 1)
				f.waitForAcks(50)
			}
		}
		for range 2 {
			f.waitForAcks(50 + rng.IntN(300))
			f.writer.Kill()
			f.inject("killed at random", 1)
			f.restartWriter()
		}
	}
	f.waitForAcks(100)
	f.audit()
}

// killAt kills the writer at the n-th put of such an object from now.
func (f *fleet) killAt(is func(string) bool, after bool, n int) {
	f.t.Helper()
	reached, killed := make(chan struct{}), make(chan struct{})
	counted := make(chan int, 1)
	counted <- 0
	rule := func(r *http.Request) bool {
		if r.Method != http.MethodPut || !is(r.URL.Path) {
			return false
		}
		seen := <-counted + 1
		counted <- seen
		if seen == n {
			close(reached)
		}
		if seen < n {
			return false
		}
		<-killed
		return true
	}
	if after {
		f.wires[0].set(rules{after: rule})
	} else {
		f.wires[0].set(rules{before: rule})
	}
	select {
	case <-reached:
	case <-f.ended:
		f.t.FailNow()
	case <-time.After(hang):
		close(killed)
		f.t.Fatal("the writer never gets to the point")
	}
	f.writer.Kill()
	f.wires[0].set(rules{})
	close(killed)
	f.restartWriter()
}

func (f *fleet) restartWriter() {
	f.t.Helper()
	began := time.Now()
	f.writer.Restart()
	longest(&f.summary.RecoverySeconds, time.Since(began))
}

// Query processes are killed in turn while clients write and read through them.
func TestQueryKilled(t *testing.T) {
	t.Parallel()
	f := startFleet(t)
	rng := f.load()
	for i := range rounds(4, 10) {
		f.waitForAcks(50 + rng.IntN(200))
		f.queries[i%2].Kill()
		f.inject("killed a query process", 1)
		f.waitForAcks(50) // without it
		began := time.Now()
		f.queries[i%2].Restart()
		longest(&f.summary.RecoverySeconds, time.Since(began))
	}
	f.waitForAcks(100)
	f.audit()
	require.NotZero(t, f.tallied(readFailed), "nobody noticed")
	require.NotZero(t, f.tallied(readFresh))
}
