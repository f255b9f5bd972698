package chaos

import (
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// orders are all in which the parts of a fleet can be started.
var orders = [][]string{
	{"store", "writer", "queries"}, {"store", "queries", "writer"},
	{"writer", "store", "queries"}, {"writer", "queries", "store"},
	{"queries", "store", "writer"}, {"queries", "writer", "store"},
}

// Everything is killed at once under load and comes back in any order: in three
// of the six, at full length in all of them. Before
// that, store and writer are killed alone: what query processes have cached they
// go on to serve.
func TestBlackout(t *testing.T) {
	t.Parallel()
	f := startFleet(t)
	rng := f.load()
	for range rounds(1, 5) {
		for i, at := range rng.Perm(len(orders)) {
			if i >= len(orders)/2 && !full() {
				break
			}
			order := orders[at]
			f.waitForAcks(60)
			f.killStoreAndWriter()
			for _, q := range f.queries {
				q.Signal(syscall.SIGKILL)
			}
			for _, q := range f.queries {
				q.Wait()
			}
			f.inject("everything killed", 1)
			last := f.comeBack(order)
			f.whole()
			longest(&f.summary.RecoverySeconds, time.Since(last))
			f.inject("back as "+strings.Join(order, ", "), 1)
		}
	}
	f.waitForAcks(100)
	f.audit()
}

// killStoreAndWriter returns when the survivors have served reads for a while.
func (f *fleet) killStoreAndWriter() {
	f.writer.Signal(syscall.SIGKILL)
	f.store.Kill()
	f.writer.Wait()
	f.inject("store and writer killed", 1)
	stale := f.tallied(readStale)
	Eventually(f.t, "survivors serve cached reads", func() bool { return f.tallied(readStale) >= stale+20 })
}

// comeBack starts the parts, each when the one before has had its chance: it
// listens, or has ended because it found nobody. What ended is started again, as
// whoever runs the fleet would. It returns once all are ready, and when the last
// part was there.
func (f *fleet) comeBack(order []string) (last time.Time) {
	f.t.Helper()
	var back sync.WaitGroup
	problems := make(chan error, 3)
	supervise := func(s *Server) {
		chance := make(chan struct{})
		back.Go(func() {
			if err := s.supervise(chance); err != nil {
				problems <- err
			}
		})
		<-chance
	}
	for _, part := range order {
		switch part {
		case "store":
			f.store.Restart()
		case "writer":
			supervise(f.writer)
		case "queries":
			for _, q := range f.queries {
				supervise(q)
			}
		}
	}
	last = time.Now()
	back.Wait()
	close(problems)
	for err := range problems {
		f.t.Error(err)
	}
	require.False(f.t, f.t.Failed())
	return last
}

// supervise starts a process until one gets ready. It closes chance when the
// first listens or has ended.
func (s *Server) supervise(chance chan struct{}) error {
	for end := time.Now().Add(hang); ; <-time.After(backoff) {
		if err := s.launch(); err != nil {
			if chance != nil {
				close(chance)
			}
			return err
		}
		r := s.current()
		if chance != nil {
			select {
			case <-r.output.listening:
			case <-r.exited:
			case <-time.After(hang):
			}
			close(chance)
			chance = nil
		}
		err := s.awaitReady()
		if err == nil || time.Now().After(end) || s.alive() {
			return err
		}
		if code := r.cmd.ProcessState.ExitCode(); code != 1 {
			return fmt.Errorf("akidb %s ended with exit code %d, want 1 for want of the store", s.Role, code)
		}
	}
}
