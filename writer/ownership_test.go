package writer

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/faultblob"
	"github.com/akidb/akidb/segments/manifest"
	"github.com/akidb/akidb/writer/wal"
)

// owned is a site, and what its looks at CLUSTER.json meet.
func owned(t *testing.T) (s *site, fault *faultblob.Store) {
	s = &site{world: newWorld(t, neverByItself)}
	fault = faultblob.New(s.store)
	s.store = fault
	s.serve()
	s.movies("l2")
	return s, fault
}

// countLooks counts looks from here on without changing them.
func countLooks(fault *faultblob.Store) func() int {
	rule := fault.Inject(faultblob.All(faultblob.On(faultblob.Get), faultblob.Key(clusterKey)), faultblob.Effect{})
	return rule.Fired
}

const oneMovie = `{"id": "a", "vector": [1, 2, 3]}`

func (s *site) upsertMovie() reply {
	return s.do("POST", "/collections/movies/vectors", oneMovie)
}

// takenOver gives the store to the log in another directory.
func (s *site) takenOver() {
	s.t.Helper()
	if _, err := Takeover(context.Background(), Config{Store: s.store, DataDir: s.t.TempDir(), unseatWait: 1}); err != nil {
		s.t.Fatal(err)
	}
}

// requireZombie demands that a write is not acknowledged and the Writer stops.
func (s *site) requireZombie(r reply) {
	s.t.Helper()
	// Found out after the log had taken it, or just before.
	unknown := r.errorField("code") == "outcome_unknown" && r.header.Get("X-AkiDB-Write-Applied") == "unknown"
	refused := r.errorField("code") == "shutting_down" && r.header.Get("X-AkiDB-Write-Applied") == "false"
	if r.status != 503 || !unknown && !refused {
		s.t.Errorf("a write to a writer that was taken over: %d %s", r.status, r.raw)
	}
	<-s.w.Done()
	var exit *ExitError
	if !errors.As(s.w.Err(), &exit) || exit.ExitCode() != 3 || !errors.Is(exit, manifest.ErrFenced) {
		s.t.Errorf("stops with %v, want exit code 3", s.w.Err())
	}
	if r := s.upsertMovie(); r.status != 503 || r.header.Get("X-AkiDB-Write-Applied") != "false" {
		s.t.Errorf("a write after that: %d %s", r.status, r.raw)
	}
}

// TestOwnershipIsConfirmedBeforeAcknowledging, and costs nothing while it is
// fresh.
func TestOwnershipIsConfirmedBeforeAcknowledging(t *testing.T) {
	s, fault := owned(t)
	looks := countLooks(fault)
	for range 50 {
		s.want(s.upsertMovie(), 200)
	}
	if n := looks(); n != 0 {
		t.Errorf("%d looks, want none: the store was claimed just now", n)
	}
	s.clock.advance(lookFresh - 1)
	s.want(s.upsertMovie(), 200)
	if n := looks(); n != 0 {
		t.Errorf("%d looks just before 2 s", n)
	}
	s.clock.advance(1)
	for range 50 {
		s.want(s.upsertMovie(), 200)
	}
	if n := looks(); n != 1 {
		t.Errorf("%d looks, want one after 2 s", n)
	}
	s.takenOver()
	s.want(s.upsertMovie(), 200) // less than 2 s ago it was ours: that much is accepted
	s.clock.advance(lookFresh)
	s.requireZombie(s.upsertMovie())
}

// TestZombieAcknowledgesNothing: also what takes no place in the log.
func TestZombieAcknowledgesNothing(t *testing.T) {
	for name, write := range map[string]func(*site) reply{
		"repeated": func(s *site) reply {
			return s.do("POST", "/collections/movies/vectors", oneMovie, "Idempotency-Key", "k")
		},
		"nothing to do": func(s *site) reply { return s.do("DELETE", "/collections/movies/vectors/nobody", nil) },
		"patch":         func(s *site) reply { return s.do("PATCH", "/collections/movies/vectors/a", `{"metadata":{"a":1}}`) },
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := owned(t)
			s.want(s.do("POST", "/collections/movies/vectors", oneMovie, "Idempotency-Key", "k"), 200)
			s.takenOver()
			s.clock.advance(time.Hour)
			s.requireZombie(write(s))
		})
	}
}

// TestLookFromBeforeThePause: the answer to a look that was under way when the
// process was stopped says what was true then.
func TestLookFromBeforeThePause(t *testing.T) {
	s, fault := owned(t)
	gate := faultblob.NewGate()
	fault.Inject(faultblob.All(faultblob.On(faultblob.Get), faultblob.Key(clusterKey), faultblob.First(1)), faultblob.HoldReply(gate))
	s.w.owns.timeout = time.Hour
	s.clock.advance(lookFresh)
	s.w.owns.expect()
	<-gate.Arrived() // it has seen that the store is ours
	s.takenOver()
	s.clock.advance(time.Minute)
	answered := make(chan error, 1)
	go func() { answered <- s.w.owns.confirm(context.Background()) }()
	gate.Open()
	if err := <-answered; !errors.Is(err, wal.ErrUnknown) || !errors.Is(err, manifest.ErrFenced) {
		t.Errorf("got %v, want unknown because fenced", err)
	}
}

// TestStoreAwayStopsNoWrite, and slows none: one look in 2 s is waited for.
func TestStoreAwayStopsNoWrite(t *testing.T) {
	for name, effect := range map[string]faultblob.Effect{
		"refused": faultblob.Fail(blob.ErrUnavailable), "hanging": faultblob.Hold(faultblob.NewGate()), "damaged": faultblob.Truncate(5),
	} {
		t.Run(name, func(t *testing.T) {
			s, fault := owned(t)
			rule := fault.Inject(faultblob.All(faultblob.On(faultblob.Get), faultblob.Key(clusterKey)), effect)
			s.w.owns.timeout = time.Millisecond
			s.clock.advance(lookFresh)
			for range 20 {
				s.want(s.upsertMovie(), 200)
			}
			if n := rule.Fired(); n != 1 {
				t.Errorf("%d looks, want 1", n)
			}
			fault.Remove(rule)
			s.takenOver()
			s.clock.advance(lookFresh)
			s.requireZombie(s.upsertMovie()) // it was no confirmation
		})
	}
}

// TestConfirmIsBounded by the request's own time.
func TestConfirmIsBounded(t *testing.T) {
	s, fault := owned(t)
	gate := faultblob.NewGate()
	fault.Inject(faultblob.All(faultblob.On(faultblob.Get), faultblob.Key(clusterKey)), faultblob.Hold(gate))
	s.w.owns.timeout = time.Hour
	s.clock.advance(lookFresh)
	ctx, cancel := context.WithCancel(context.Background())
	answered := make(chan error, 2)
	for range cap(answered) {
		go func() { answered <- s.w.owns.confirm(ctx) }()
	}
	<-gate.Arrived()
	cancel()
	for range cap(answered) {
		if err := <-answered; !errors.Is(err, wal.ErrUnknown) {
			t.Errorf("got %v, want unknown", err)
		}
	}
	gate.Open()
}

// TestAgeByTwoClocks: neither a machine that slept nor a wall clock that was set
// back makes a look younger.
func TestAgeByTwoClocks(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		then time.Time
		want time.Duration
	}{
		"both":          {now.Add(-time.Second), time.Second},
		"only the wall": {now.Round(0).Add(-time.Hour), time.Hour},
		"set back":      {now.Round(0).Add(time.Hour), -time.Hour},
	} {
		if got := age(now, c.then); got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}
