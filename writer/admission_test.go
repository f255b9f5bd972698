package writer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/segments/blob/faultblob"
)

func TestAdmissionStates(t *testing.T) {
	for _, c := range []struct {
		was  admission
		use  float64
		full bool
		want admission
	}{
		{admitted, 0.49, false, admitted}, {admitted, 0.5, false, flushing}, {admitted, 0.8, false, throttled}, {admitted, 0.9, false, readOnly},
		{admitted, 0, true, readOnly}, {flushing, 0.79, false, flushing}, {flushing, 0.49, false, admitted},
		{throttled, 0.7, false, throttled}, {throttled, 0.69, false, flushing}, {throttled, 0.9, false, readOnly}, {throttled, 0.4, false, admitted},
		{readOnly, 0.89, false, readOnly}, {readOnly, 0.7, false, readOnly}, {readOnly, 0.69, false, flushing}, {readOnly, 0.1, true, readOnly}, {readOnly, 0.1, false, admitted},
	} {
		if got := c.was.next(c.use, c.full); got != c.want {
			t.Errorf("%v at %v, disk full %v: got %v, want %v", c.was, c.use, c.full, got, c.want)
		}
	}
}

// TestRetryAfterIsMeasured: what a client is told follows from what was released
// in the last minute, and is a minute when nothing was.
func TestRetryAfterIsMeasured(t *testing.T) {
	var p pressure
	var m meter
	c := &clock{}
	want := func(bytes float64, want time.Duration) {
		t.Helper()
		if got := p.wait(&m, bytes); got != want {
			t.Errorf("%v bytes: wait %v, want %v", bytes, got, want)
		}
	}
	want(1, time.Minute)
	m.observe(c.now(), 0)
	want(1, time.Minute)
	c.advance(10 * time.Second)
	m.observe(c.now(), 1000) // 100 a second
	want(1500, 15*time.Second)
	want(1501, 16*time.Second)
	want(3, time.Second)
	want(1e6, time.Minute)
	for range 200 { // a minute later the burst is forgotten
		c.advance(time.Second)
		m.observe(c.now(), 1000)
	}
	want(1, time.Minute)
	if n := len(m.samples); n > 65 {
		t.Errorf("%d samples are kept", n)
	}
}

// budget is a world whose log has room for some hundred small batches.
func budget(t *testing.T) (v *world, fault *faultblob.Store, said func() string) {
	var mu sync.Mutex
	var last string
	v = newWorld(t, func(c *Config) {
		c.WAL.FileBytes, c.MaxLogBytes = 8<<10, 80<<10
		c.FlushBytes, c.FlushAge = 8<<10, time.Hour
		c.Degraded = func(component, reason string) {
			mu.Lock()
			defer mu.Unlock()
			if component == "admission" {
				last = reason
			}
		}
	})
	fault = v.faulty()
	return v, fault, func() string { mu.Lock(); defer mu.Unlock(); return last }
}

func (v *world) state() admission {
	v.w.pressure.mu.Lock()
	defer v.w.pressure.mu.Unlock()
	return v.w.pressure.state
}

// settle waits until the writer's state is one of want, looking as often as a
// flush moves something.
func (v *world) settle(c *collection, want ...admission) {
	v.t.Helper()
	for {
		c.mu.RLock()
		moved := c.moved
		c.mu.RUnlock()
		v.w.Sweep(context.Background())
		for _, s := range want {
			if v.state() == s {
				return
			}
		}
		if err := v.w.Err(); err != nil {
			v.t.Fatal(err)
		}
		select {
		case <-moved:
		case <-time.After(time.Millisecond): // the log's files go a little later
		}
	}
}

// TestBudgetOfTheLog: with the store away writes go on up to the budget and are
// then refused, definitely; what was acknowledged is all there, and everything
// is as before when the store is back.
func TestBudgetOfTheLog(t *testing.T) {
	v, fault, said := budget(t)
	v.open()
	c := v.create("c", 3, "l2")
	fault.Down()
	acked := map[string]item{}
	var states []admission
	for i := 0; ; i++ {
		if s := v.state(); len(states) == 0 || states[len(states)-1] != s {
			states = append(states, s)
		}
		rows := some(10*i, 10)
		err := v.upsert(c, rows)
		if err == nil {
			maps.Copy(acked, rows)
			continue
		}
		e := asWriteError(err)
		if e.Status != 429 || e.Code != "flush_behind" || e.Applied != httpapi.NotApplied || e.RetryAfter != time.Minute {
			t.Fatalf("got %+v, want 429 flush_behind, not applied, in a minute: nothing is released", e)
		}
		break
	}
	if got := fmt.Sprint(append(states, v.state())); got != "[ok flushing throttled]" {
		t.Errorf("went through %v", got)
	}
	if use := float64(v.w.log.Size()) / float64(v.w.cfg.MaxLogBytes); use < throttleUse || use > readOnlyUse {
		t.Errorf("refused at %.2f of the budget, want from %v", use, throttleUse)
	}
	if got := said(); !strings.HasPrefix(got, "throttled: ") {
		t.Errorf("health says %q", got)
	}
	v.w.Sweep(context.Background())
	if err := compare(v.writerSees(c), acked); err != nil {
		t.Fatalf("with the store away: %v", err)
	}
	fault.Up()
	v.settle(c, admitted, flushing)
	v.mustUpsert(c, some(0, 5))
	v.settle(c, admitted)
	if got := said(); got != "" {
		t.Errorf("health still says %q", got)
	}
	v.check(c, acked)
	v.kill()
	v.open()
	v.check(v.collection("c"), acked)
}

// TestReadOnlyAtTheEnd: a batch that was taken just below 80 % may carry the log
// beyond 90 %; from there the way back is below 70 %.
func TestReadOnlyAtTheEnd(t *testing.T) {
	v, fault, _ := budget(t)
	v.open()
	c := v.create("c", 3, "l2")
	fault.Down()
	want := map[string]item{}
	write := func(rows map[string]item) {
		t.Helper()
		v.mustUpsert(c, rows)
		maps.Copy(want, rows)
	}
	for v.w.log.Size() < v.w.cfg.MaxLogBytes*7/10 {
		write(some(len(want), 10))
	}
	write(some(len(want), 800))
	if use := float64(v.w.log.Size()) / float64(v.w.cfg.MaxLogBytes); use < readOnlyUse {
		t.Fatalf("at %.2f: this tests nothing", use)
	}
	e := asWriteError(v.upsert(c, some(0, 1)))
	if e.Status != 507 || e.Code != "storage_full" || e.Applied != httpapi.NotApplied {
		t.Errorf("got %+v, want 507 storage_full, not applied", e)
	}
	if err := compare(v.writerSees(c), want); err != nil {
		t.Fatalf("with the store away: %v", err)
	}
	fault.Up()
	v.settle(c, admitted)
	v.check(c, want)
}

// TestOldestIsFlushedFirst: the collection that keeps the log large is not the
// one that is written to.
func TestOldestIsFlushedFirst(t *testing.T) {
	v, _, _ := budget(t)
	v.open()
	old, busy, idle := v.create("old", 3, "l2"), v.create("busy", 3, "l2"), v.create("idle", 3, "l2")
	v.mustUpsert(old, some(0, 3))
	for v.state() == admitted {
		v.mustUpsert(busy, some(0, 10))
	}
	v.mustUpsert(idle, some(0, 1)) // in the last file
	v.settle(old, admitted)
	if got := old.state().view.Snapshot.FlushedSeq; got != 3 {
		t.Errorf("flushed up to %d, want 3", got)
	}
	if got := idle.state().view.Snapshot.FlushedSeq; got != 0 {
		t.Errorf("a collection that keeps no old file was flushed up to %d", got)
	}
}

// TestMemoryIsBoundWhileAFlushHangs: neither does the table behind it grow beyond
// its size, nor all of them beyond the bound.
func TestMemoryIsBoundWhileAFlushHangs(t *testing.T) {
	v := newWorld(t, func(c *Config) {
		c.FlushBytes, c.MaxUnflushedBytes, c.FlushAge = 4<<10, 40<<10, time.Hour
	})
	fault := v.faulty()
	v.open()
	c := v.create("c", 3, "l2")
	gate := faultblob.NewGate()
	fault.Inject(faultblob.All(faultblob.On(faultblob.Put), faultblob.Key("**/segments/*/*")), faultblob.Hold(gate))
	want := map[string]item{}
	for i := 0; ; i++ {
		rows := some(i, 1)
		err := v.upsert(c, rows)
		if err != nil {
			if e, ok := errors.AsType[*httpapi.Error](err); !ok || e.Status != 429 || e.RetryAfter != time.Minute {
				t.Fatalf("got %v, want 429", err)
			}
			break
		}
		maps.Copy(want, rows)
	}
	if got, most := v.w.unflushed.Load(), v.w.cfg.MaxUnflushedBytes+200; got > most {
		t.Errorf("%d bytes in memory, want at most %d", got, most)
	}
	if n := len(c.state().tables); n < 8 {
		t.Errorf("%d tables: they grow beyond their size", n)
	}
	<-gate.Arrived()
	gate.Open()
	v.flush(c)
	v.check(c, want)
}
