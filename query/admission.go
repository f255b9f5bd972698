package query

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/akidb/akidb/internal/httpapi"
)

const (
	// slotsPerCore is how many reads compute at once for every core Go uses. One
	// would be enough if nothing ever blocked; two keep the cores busy while a
	// read waits for a lock or a page, and add no latency worth measuring.
	slotsPerCore = 2
	// queueTime is how much work may wait for a slot, as the time it will take at
	// the rate that was measured. It is also a period of the kernel's CPU quota:
	// what a process frozen by that finds when it goes on is enough for the next.
	queueTime = 100 * time.Millisecond
	// waitMost is how long anything waits, whatever was expected of it.
	waitMost = time.Second
	// assumedService is what a read is taken to need of a slot before any was
	// measured, generously.
	assumedService = time.Millisecond
	// storeWaiters is how many reads may wait for the object store at once: each
	// holds memory, and needs no slot.
	storeWaiters = 512
	// retryMost bounds Retry-After.
	retryMost = 30 * time.Second
)

// admission decides which reads compute now, which wait, and which are refused.
//
// What is scarce is CPU, so a read holds a slot while it computes and gives it
// back while it waits for the object store: a slow store keeps no core idle and
// makes no cached read wait. The queue before the slots is bounded in time, not
// in length: it holds what can be served within queueTime, measured while all
// slots were taken, so it is thousands of reads deep on a quick machine and a
// dozen on one whose CPU quota was cut. Who finds it full is refused at once,
// and who cannot be served before its deadline never joins it. Collections take
// turns, and a full queue makes room for one that has less than its share of it
// by giving up the last read of the one that has most.
//
// It is safe for concurrent use.
type admission struct {
	now   func() time.Time
	procs func() int

	count *prometheus.CounterVec
	waits prometheus.Histogram

	mu        sync.Mutex
	slots     int
	looked    time.Time // at procs
	computing int       // may exceed slots, when reads come back from the store
	away      int       // wait for the store
	queued    int
	turns     []*line // collections that wait, the next to be served first
	lines     map[string]*line
	pace      pace
}

// line is what waits of one collection, oldest first.
type line struct {
	collection string
	waiters    []*waiter
}

// waiter is a read in the queue. done is closed with err set: nil if it has a slot.
type waiter struct {
	done chan struct{}
	err  error
}

func newAdmission(now func() time.Time, reg prometheus.Registerer) *admission {
	a := &admission{now: now, procs: func() int { return runtime.GOMAXPROCS(0) }, lines: map[string]*line{}}
	a.count = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "akidb_search_admission_total",
		Help: "Reads of rows by what became of them before they computed: admitted, full, deadline, expired, displaced, cancelled or store.",
	}, []string{"result"})
	a.waits = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "akidb_search_queue_seconds",
		Help:    "How long admitted reads waited for a slot, those that did not at all included.",
		Buckets: []float64{.0001, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1},
	})
	gauge := func(name, help string, of func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			a.mu.Lock()
			defer a.mu.Unlock()
			return float64(of())
		})
	}
	reg.MustRegister(a.count, a.waits,
		gauge("akidb_search_slots", "Reads that may compute at once.", func() int { a.look(a.now()); return a.slots }),
		gauge("akidb_search_computing", "Reads that compute.", func() int { return a.computing }),
		gauge("akidb_search_store_waiting", "Admitted reads that wait for the object store.", func() int { return a.away }),
		gauge("akidb_search_queued", "Reads that wait for a slot.", func() int { return a.queued }),
	)
	return a
}

// look follows GOMAXPROCS, which follows the quota of the process.
func (a *admission) look(now time.Time) {
	if a.slots == 0 || now.Sub(a.looked) >= time.Second {
		a.slots, a.looked = slotsPerCore*max(1, a.procs()), now
	}
}

// gate says early, before a request is decoded, that enter would refuse it.
func (a *admission) gate(collection string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	a.look(now)
	if a.queued < a.room(now) || a.displaces(collection) != nil {
		return nil
	}
	a.pace.asked()
	return a.refuse("full", now)
}

// enter waits for a slot. The error is a 503 that tells when to come back. The
// slot has to be left.
func (a *admission) enter(ctx context.Context, collection string) (*slot, error) {
	a.mu.Lock()
	began := a.now()
	a.look(began)
	a.pace.asked()
	if a.computing < a.slots {
		a.take(began)
		a.mu.Unlock()
		a.waits.Observe(0)
		return a.admitted(), nil
	}
	w, err := a.join(ctx, collection, began)
	a.mu.Unlock()
	if err != nil {
		return nil, err
	}
	timer := time.NewTimer(waitMost)
	defer timer.Stop()
	select {
	case <-w.done:
		if w.err != nil {
			return nil, w.err
		}
		a.waits.Observe(a.now().Sub(began).Seconds())
		return a.admitted(), nil
	case <-timer.C:
		if err = a.giveUp(collection, w, "expired"); err == nil {
			return a.admitted(), nil
		}
		return nil, err
	case <-ctx.Done():
		if err := a.giveUp(collection, w, "cancelled"); err == nil {
			(&slot{of: a}).leave() // which it was given in the same moment
		}
		return nil, fmt.Errorf("wait for a slot: %w", context.Cause(ctx))
	}
}

// giveUp takes a waiter out of the queue and says why it is refused; nil if it
// has been given a slot meanwhile.
func (a *admission) giveUp(collection string, w *waiter, result string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.drop(collection, w) {
		return w.err
	}
	return a.refuse(result, a.now())
}

func (a *admission) admitted() *slot {
	a.count.WithLabelValues("admitted").Inc()
	return &slot{of: a}
}

// join appends a waiter to the line of its collection, if it can be served in
// time.
func (a *admission) join(ctx context.Context, collection string, now time.Time) (*waiter, error) {
	if deadline, ok := ctx.Deadline(); ok && a.pace.rate(now) > 0 {
		ahead := float64(a.queued + a.slots) // those that compute take as long as there are slots
		if until := time.Until(deadline).Seconds(); ahead > until*a.rate(now) {
			return nil, a.refuse("deadline", now)
		}
	}
	if a.queued >= a.room(now) {
		l := a.displaces(collection)
		if l == nil {
			return nil, a.refuse("full", now)
		}
		last := l.waiters[len(l.waiters)-1]
		a.drop(l.collection, last)
		last.err = a.refuse("displaced", now)
		close(last.done)
	}
	l := a.lines[collection]
	if l == nil {
		l = &line{collection: collection}
		a.lines[collection] = l
		a.turns = append(a.turns, l)
	}
	w := &waiter{done: make(chan struct{})}
	l.waiters = append(l.waiters, w)
	a.queued++
	return w, nil
}

// displaces is the longest line, if a collection waits with less than that even
// after it has joined.
func (a *admission) displaces(collection string) *line {
	var longest *line
	for _, l := range a.turns {
		if longest == nil || len(l.waiters) > len(longest.waiters) {
			longest = l
		}
	}
	mine := 0
	if l := a.lines[collection]; l != nil {
		mine = len(l.waiters)
	}
	if longest == nil || mine+1 >= len(longest.waiters) {
		return nil
	}
	return longest
}

// drop takes a waiter out of the queue; false if it is not in it any more.
func (a *admission) drop(collection string, w *waiter) bool {
	l := a.lines[collection]
	if l == nil {
		return false
	}
	for i, other := range l.waiters {
		if other == w {
			l.waiters = append(l.waiters[:i], l.waiters[i+1:]...)
			a.queued--
			a.tidy(l)
			return true
		}
	}
	return false
}

// tidy forgets a line nobody stands in.
func (a *admission) tidy(l *line) {
	if len(l.waiters) > 0 {
		return
	}
	delete(a.lines, l.collection)
	for i, other := range a.turns {
		if other == l {
			a.turns = append(a.turns[:i], a.turns[i+1:]...)
			return
		}
	}
}

// take and release move one read in and out of the slots.
func (a *admission) take(now time.Time) {
	a.computing++
	a.pace.full(a.computing >= a.slots, now)
}

func (a *admission) release(now time.Time) {
	a.computing--
	for a.queued > 0 && a.computing < a.slots {
		l := a.turns[0]
		w := l.waiters[0]
		l.waiters = l.waiters[1:]
		a.queued--
		a.turns = append(a.turns[1:], l)
		a.tidy(l)
		a.computing++
		close(w.done)
	}
	a.pace.full(a.computing >= a.slots, now)
}

// rate is how many reads a second all slots together serve.
func (a *admission) rate(now time.Time) float64 {
	if r := a.pace.rate(now); r > 0 {
		return r
	}
	return float64(a.slots) / assumedService.Seconds()
}

// room is how long the queue may be: never less than what the slots can take at once.
func (a *admission) room(now time.Time) int {
	return max(a.slots, int(a.rate(now)*queueTime.Seconds()))
}

// refuse counts a read that is not served and is what its client is told: to
// come back when all who were refused, spread over that time, will be no more
// than can be served.
func (a *admission) refuse(result string, now time.Time) *httpapi.Error {
	a.count.WithLabelValues(result).Inc()
	wait := min(retryMost, max(time.Second, time.Duration(math.Round(a.pace.demand()))*time.Second))
	return httpapi.Unavailable("overloaded", wait, "more is asked of this process than it can answer").
		WithHint("come back after Retry-After, ask another query process, or add one")
}

// slot is what a read holds while it computes.
type slot struct {
	of    *admission
	waits int  // for the store, under way
	left  bool // what is still under way is not waited for
}

// leave ends it.
func (s *slot) leave() {
	a := s.of
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	s.left = true
	a.pace.served()
	if s.waits == 0 {
		a.release(now)
	}
}

// wait is called when a read has to wait for the store, and what it returns when
// it need not any more. It goes on at once then: it has waited its turn, and
// those in the queue wait until there are fewer than slots again. Several waits
// of one read may overlap.
func (s *slot) wait() (resume func(), err error) {
	a := s.of
	a.mu.Lock()
	defer a.mu.Unlock()
	if s.waits == 0 {
		if a.away >= storeWaiters {
			return nil, a.refuse("store", a.now()).WithHint("the object store is slow; what is cached is still served")
		}
		a.away++
		if !s.left {
			a.release(a.now())
		}
	}
	s.waits++
	return s.resume, nil
}

func (s *slot) resume() {
	a := s.of
	a.mu.Lock()
	defer a.mu.Unlock()
	if s.waits--; s.waits == 0 {
		a.away--
		if !s.left {
			a.take(a.now())
		}
	}
}

// paceWindow is how much time with all slots taken a measurement is made of. It
// is short, so that a quota that was cut shows soon, and holds two of its periods.
const paceWindow = 2 * queueTime

// pace measures what is served while all slots are taken, over the last one to
// two windows of such time.
type pace struct {
	since      time.Time // when all were, zero while some are free
	this, last window
}

// window is what happened while all slots were taken.
type window struct {
	took        time.Duration
	came, ended float64
}

// full says whether all slots are taken from now on.
func (p *pace) full(is bool, now time.Time) {
	if !p.since.IsZero() {
		p.this.took += now.Sub(p.since)
		p.since = time.Time{}
	}
	if is {
		p.since = now
	}
	if p.this.took >= paceWindow && p.this.ended > 0 {
		p.last, p.this = p.this, window{}
	}
}

// asked and served count a read that came or ended while all slots were taken.
func (p *pace) asked() {
	if !p.since.IsZero() {
		p.this.came++
	}
}

func (p *pace) served() {
	if !p.since.IsZero() {
		p.this.ended++
	}
}

// rate is how many end a second; 0 when too little is known.
func (p *pace) rate(now time.Time) float64 {
	took := p.last.took + p.this.took
	if !p.since.IsZero() {
		took += now.Sub(p.since)
	}
	if took < paceWindow/2 {
		return 0
	}
	return max(1, p.last.ended+p.this.ended) / took.Seconds()
}

// demand is how many come for one that ends.
func (p *pace) demand() float64 {
	return (p.last.came + p.this.came) / max(1, p.last.ended+p.this.ended)
}
