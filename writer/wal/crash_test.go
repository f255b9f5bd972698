package wal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
)

// history is what a client of the log may hold it to.
type history struct {
	mu       sync.Mutex
	order    []Record // accepted, in the order of Enqueue
	acked    []bool   // of the same length
	released map[CollectionID]uint64
}

// moment is a history frozen around a crash: what was acknowledged just
// before it, and what had been accepted just after.
type moment struct {
	order    []Record
	acked    []bool
	released map[CollectionID]uint64
}

func (h *history) ackedNow() []bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]bool(nil), h.acked...)
}

func (h *history) momentSince(acked []bool) moment {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := moment{order: h.order[:len(h.order):len(h.order)], acked: acked, released: map[CollectionID]uint64{}}
	for c, seq := range h.released {
		m.released[c] = seq
	}
	return m
}

// check holds what a log replayed against what it promised: the records are a
// run of those accepted, in order, none twice, none changed; and no record
// that was acknowledged and not released is missing.
func (m moment) check(got []Record) error {
	first := 0
	if len(got) > 0 {
		first = -1
		for i := range m.order {
			if equal(m.order[i], got[0]) {
				first = i
			}
		}
		if first < 0 {
			return fmt.Errorf("first record %s was never accepted", brief(got[0]))
		}
	}
	for i, r := range got {
		if first+i >= len(m.order) {
			return fmt.Errorf("record %d, %s: nothing was accepted after %d records", i, brief(r), len(m.order))
		}
		if want := m.order[first+i]; !equal(r, want) {
			return fmt.Errorf("record %d: got %s, want %s, or they differ within", i, brief(r), brief(want))
		}
	}
	for i, acked := range m.acked {
		r := m.order[i]
		recovered := len(got) > 0 && i >= first && i < first+len(got)
		if acked && !recovered && r.Seq+uint64(r.Count)-1 > m.released[r.Collection] {
			return fmt.Errorf("acknowledged record %d of %d, %s, is lost: recovered %d from %d", i, len(m.order), brief(r), len(got), first)
		}
	}
	return nil
}

// opener is how a crashed log is opened; tests plant worse ones.
type opener func(FS, Config) (*Log, []Record, error)

func honestOpen(fs FS, cfg Config) (*Log, []Record, error) {
	replay, got := collect()
	l, err := Open(fs, testDir, cfg, replay)
	return l, *got, err
}

// simulation drives a log with random work and crashes it at every step.
type simulation struct {
	rng     *rand.Rand
	fs      *memFS
	log     *Log
	history history
	seq     [3]uint64
	id      uint64

	crashRNG *rand.Rand // of the hook, which runs on other goroutines
	crashMu  sync.Mutex
	every    int // crash at one call in so many
	crashes  int
	failure  error
}

func newSimulation(seed uint64, fs *memFS, every int) *simulation {
	return &simulation{
		rng:      rand.New(rand.NewPCG(seed, 1)),
		crashRNG: rand.New(rand.NewPCG(seed, 2)),
		fs:       fs, every: every,
		seq:     [3]uint64{1, 1, 1},
		history: history{released: map[CollectionID]uint64{}},
	}
}

// run does the work and returns the first broken promise.
func (s *simulation) run(steps int) error {
	s.fs.intercept(s.crashBefore)
	if err := s.open(); err != nil {
		return err // a new disk: nothing to close
	}
	for range steps {
		if err := s.step(); err != nil {
			return errors.Join(err, s.log.Close())
		}
	}
	if err := s.log.Close(); err != nil {
		return fmt.Errorf("last close: %w", err)
	}
	s.crashMu.Lock()
	defer s.crashMu.Unlock()
	return s.failure
}

func (s *simulation) step() error {
	switch n := s.rng.IntN(20); {
	case n < 15:
		return s.burst(1 + s.rng.IntN(6))
	case n < 17:
		s.release()
		return nil
	case n < 18:
		if err := s.log.Close(); err != nil {
			return fmt.Errorf("close: %w", err)
		}
		return s.open()
	default:
		return s.killAndOpen()
	}
}

func (s *simulation) nextRecord() Record {
	c := s.rng.IntN(len(s.seq))
	size := s.rng.IntN(300)
	switch s.rng.IntN(10) {
	case 0:
		size = s.rng.IntN(14 << 10)
	case 1, 2:
		size = s.rng.IntN(6 << 10)
	case 3:
		size = 0
	}
	s.id++
	r := row(byte(c), s.seq[c], size)
	r.Count = 1 + s.rng.Uint32N(3)
	r.IdempotencyKey = fmt.Sprint(s.id) // makes every record one of its kind
	return r
}

// accept enqueues the next record, as a writer would: order under a lock.
func (s *simulation) accept() (*Ticket, error) {
	r := s.nextRecord()
	for {
		s.history.mu.Lock()
		ticket, err := s.log.Enqueue(r)
		if err == nil {
			s.history.order = append(s.history.order, r)
			s.history.acked = append(s.history.acked, false)
			s.seq[r.Collection[15]] += uint64(r.Count)
		}
		s.history.mu.Unlock()
		if !errors.Is(err, ErrBusy) {
			return ticket, err
		}
		if err := s.log.WaitRoom(bg, r); err != nil {
			return nil, err
		}
	}
}

func (s *simulation) burst(n int) error {
	var tickets []*Ticket
	from := len(s.history.order)
	for range n {
		ticket, err := s.accept()
		if err != nil {
			return fmt.Errorf("enqueue: %w", err)
		}
		tickets = append(tickets, ticket)
	}
	for i, ticket := range tickets {
		if _, err := ticket.Wait(bg); err != nil {
			return fmt.Errorf("wait: %w", err)
		}
		s.history.mu.Lock()
		s.history.acked[from+i] = true
		s.history.mu.Unlock()
	}
	return nil
}

func (s *simulation) release() {
	s.history.mu.Lock()
	c := s.rng.IntN(len(s.seq))
	seq := s.rng.Uint64N(s.seq[c])
	id := collection(byte(c))
	s.history.released[id] = max(seq, s.history.released[id])
	s.history.mu.Unlock()
	s.log.Release(id, seq)
	if s.rng.IntN(2) == 0 {
		for i := range s.seq { // often all of it, so that files do go
			id := collection(byte(i))
			s.history.mu.Lock()
			s.history.released[id] = s.seq[i] - 1
			s.history.mu.Unlock()
			s.log.Release(id, s.seq[i]-1)
		}
	}
}

// killAndOpen ends the process in the middle of a burst and starts another one
// on the same machine: what was written is readable, synced or not.
func (s *simulation) killAndOpen() error {
	if s.rng.IntN(2) == 0 {
		s.fs.killInSync()
	}
	for range s.rng.IntN(5) {
		if _, err := s.accept(); errors.Is(err, ErrPoisoned) {
			break // dead already
		} else if err != nil {
			return fmt.Errorf("enqueue: %w", err)
		}
	}
	s.fs.kill()
	_ = s.log.Close()
	old := s.fs
	s.fs = onDisk(old.disk)
	s.fs.lieSyncData, s.fs.lieSyncDir = old.lieSyncData, old.lieSyncDir
	s.fs.intercept(s.crashBefore)
	return s.open()
}

// open starts the log. What it replays it vouches for from then on; what it
// does not is gone for good.
func (s *simulation) open() error {
	acked := s.history.ackedNow()
	l, got, err := honestOpen(s.fs, testConfig())
	if err != nil {
		return fmt.Errorf("open after a kill or a clean stop: %w", err)
	}
	s.log = l
	if err := s.history.momentSince(acked).check(got); err != nil {
		return fmt.Errorf("after a kill or a clean stop: %w", err)
	}
	h := &s.history
	h.mu.Lock()
	defer h.mu.Unlock()
	last := len(h.order) - 1
	if len(got) > 0 {
		for last >= 0 && !equal(h.order[last], got[len(got)-1]) {
			last--
		}
	} else {
		for last >= 0 && !h.acked[last] {
			last--
		}
	}
	h.order, h.acked = h.order[:last+1:last+1], h.acked[:last+1]
	for i := range h.acked {
		h.acked[i] = true
	}
	s.seq = [3]uint64{1, 1, 1}
	for _, r := range h.order {
		s.seq[r.Collection[15]] = r.Seq + uint64(r.Count)
	}
	return nil
}

// crashBefore takes the disk as it could be found if the power failed now.
func (s *simulation) crashBefore(string, string, int) error {
	s.crashMu.Lock()
	defer s.crashMu.Unlock()
	if s.failure != nil || s.crashRNG.IntN(s.every) != 0 {
		return nil
	}
	acked := s.history.ackedNow()
	percent := []int{0, 20, 50, 80, 100}[s.crashRNG.IntN(5)]
	crashed := s.fs.crash(s.crashRNG, percent)
	now := s.history.momentSince(acked)
	s.crashes++
	if err := checkCrash(crashed, now, s.crashRNG, honestOpen); err != nil {
		s.failure = fmt.Errorf("crash %d, %d %% of what was not synced kept: %w", s.crashes, percent, err)
	}
	return nil
}

// checkCrash recovers a crashed disk and holds the result to the moment of the
// crash; recovers it again; and crashes the recovery itself now and then.
func checkCrash(disk *memFS, now moment, rng *rand.Rand, open opener) (err error) {
	var logs []*Log
	defer func() {
		for _, l := range logs {
			err = errors.Join(err, l.Close())
		}
	}()
	recovered := func(fs FS) (*Log, []Record, error) {
		l, got, err := open(fs, testConfig())
		if err == nil {
			logs = append(logs, l)
		}
		return l, got, err
	}
	var halfway []*memFS
	if rng.IntN(4) == 0 {
		disk.intercept(func(string, string, int) error {
			if rng.IntN(3) == 0 {
				halfway = append(halfway, disk.crash(rng, 25*rng.IntN(5)))
			}
			return nil
		})
	}
	l, first, err := recovered(disk)
	disk.intercept(nil)
	if err != nil {
		return err
	}
	if err := now.check(first); err != nil {
		return err
	}
	for i, again := range halfway {
		_, got, err := recovered(again)
		if err := errors.Join(err, same(got, first)); err != nil {
			return fmt.Errorf("after crash %d of recovery: %w", i, err)
		}
	}
	// What was replayed is durable, and the log goes on from there.
	_, second, err := recovered(disk.crash(rng, 0))
	if err := errors.Join(err, same(second, first)); err != nil {
		return fmt.Errorf("second recovery: %w", err)
	}
	more := row(9, 1, rng.IntN(3000))
	ticket, err := enqueue(l, more)
	if err == nil {
		_, err = ticket.Wait(bg)
	}
	if err != nil {
		return fmt.Errorf("append after recovery: %w", err)
	}
	_, third, err := recovered(disk.crash(rng, 50))
	if err := errors.Join(err, same(third, append(first[:len(first):len(first)], more))); err != nil {
		return fmt.Errorf("third recovery: %w", err)
	}
	return nil
}

func same(got, want []Record) error {
	if len(got) != len(want) {
		return fmt.Errorf("got %d records, want %d", len(got), len(want))
	}
	for i := range want {
		if !equal(got[i], want[i]) {
			return fmt.Errorf("record %d: got %s, want %s", i, brief(got[i]), brief(want[i]))
		}
	}
	return nil
}

// TestCrash: thousands of power failures, at every call that changes the disk,
// keeping from none to all of what was not synced.
func TestCrash(t *testing.T) {
	base := rand.Uint64()
	crashes, simulations := 0, 60
	switch {
	case testing.Short():
		simulations = 10
	case os.Getenv("AKIDB_SOAK") == "1":
		simulations *= 50
	}
	for i := range simulations {
		s := newSimulation(base+uint64(i), newMemFS(), 4)
		if err := s.run(30); err != nil {
			t.Fatalf("seed %d (the schedule of goroutines is not part of it): %v", base+uint64(i), err)
		}
		crashes += s.crashes
	}
	t.Logf("%d crashes", crashes)
	if crashes < 40*simulations {
		t.Fatalf("only %d crashes: the simulation has gone blind", crashes)
	}
}

// TestTornMark: the mark at the end of a file that is being left must not be
// torn by the crash that tears the first group of the next one; or a log
// would be refused that has lost nothing.
func TestTornMark(t *testing.T) {
	const blockBytes = 4096 // the disk keeps or loses these whole
	fs := newMemFS()
	l, _ := mustOpen(t, fs, testConfig())
	first := row(1, 1, 3*blockBytes-headerBytes/2-fileHeaderBytes-headerBytes-4)
	mustAppend(t, l, first)
	if at := l.durable.Offset % blockBytes; at+headerBytes <= blockBytes {
		t.Fatalf("the mark at %v lies within a block", l.durable)
	}
	settled(l)
	rng := rand.New(rand.NewPCG(3, 4))
	var mu sync.Mutex // committer and janitor both come by
	var crashed []*memFS
	fs.intercept(func(string, string, int) error {
		mu.Lock()
		defer mu.Unlock()
		for range 30 {
			crashed = append(crashed, fs.crash(rng, 50))
		}
		return nil
	})
	mustAppend(t, l, row(1, 2, 8000))
	settled(l)
	fs.intercept(nil)
	if l.Stats().Groups != 2 || l.durable.File != 2 {
		t.Fatalf("the second record did not go to the next file: %v", l.durable)
	}
	mustClose(t, l)
	for i, disk := range crashed {
		l, got := mustOpen(t, disk, testConfig())
		if len(got) == 0 || !equal(got[0], first) {
			t.Fatalf("crash %d: the first record is lost", i)
		}
		mustClose(t, l)
	}
}

// TestStaleRecordsStayAway: what a torn tail leaves behind its first hole is
// never joined to records written into that hole later.
func TestStaleRecordsStayAway(t *testing.T) {
	fs := newMemFS()
	l, _ := mustOpen(t, fs, testConfig())
	g := newGate(fs)
	var tickets []*Ticket
	for seq := uint64(1); seq <= 3; seq++ { // the first alone, the others in one group
		ticket, err := l.Enqueue(row(1, seq, 500))
		if err != nil {
			t.Fatal(err)
		}
		tickets = append(tickets, ticket)
		if seq == 1 {
			<-g.entered
		}
	}
	g.pass <- struct{}{}
	<-g.entered
	g.pass <- struct{}{}
	for _, ticket := range tickets {
		if _, err := ticket.Wait(bg); err != nil {
			t.Fatal(err)
		}
	}
	fs.intercept(nil)
	crashed := fs.crash(nil, 0)
	mustClose(t, l)
	zero(crashed, tickets[1].pos, tickets[1].size) // as if the group had been torn

	l, got := mustOpen(t, crashed, testConfig())
	requireRecords(t, got, []Record{row(1, 1, 500)})
	other := row(2, 1, 500) // as large as the hole
	mustAppend(t, l, other)
	crashed = crashed.crash(nil, 0)
	mustClose(t, l)
	l, got = mustOpen(t, crashed, testConfig())
	requireRecords(t, got, []Record{row(1, 1, 500), other})
	mustClose(t, l)
}

// TestCrashCheckerCatches plants bugs and wants each found.
func TestCrashCheckerCatches(t *testing.T) {
	for name, plant := range map[string]func(*memFS){
		"acknowledging before the sync":  func(fs *memFS) { fs.lieSyncData = true },
		"no directory sync after create": func(fs *memFS) { fs.lieSyncDir = true },
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(20) {
				fs := newMemFS()
				plant(fs)
				s := newSimulation(seed, fs, 4)
				if err := s.run(30); err != nil {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Fatal("not found in 20 simulations")
		})
	}
}
