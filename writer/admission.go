package writer

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/writer/wal"
)

// admission is what becomes of writes, by how full the log and its disk are.
type admission int

// From one to the next there is less room.
const (
	admitted  admission = iota // as they come
	flushing                   // as they come, while flushes are hurried
	throttled                  // 429
	readOnly                   // 507
)

// admissions are the names of the states, in their order.
var admissions = [...]string{"ok", "flushing", "throttled", "read_only"}

func (a admission) String() string { return admissions[a] }

// Shares of the log's budget at which the state changes. Once writes are refused
// they are until recoverUse: a state that flaps is worse than one that lasts, and
// Retry-After can only be true of a mark that lies well below.
const (
	flushUse    = 0.5
	recoverUse  = 0.7
	throttleUse = 0.8
	readOnlyUse = 0.9
)

// next is the state that follows on a. full says that the disk is.
func (a admission) next(use float64, full bool) admission {
	switch {
	case full || use >= readOnlyUse:
		return readOnly
	case a >= throttled && use >= recoverUse:
		return a
	case use >= throttleUse:
		return throttled
	case use >= flushUse:
		return flushing
	}
	return admitted
}

// pressure is what admission is decided by.
type pressure struct {
	mu      sync.Mutex
	state   admission
	lowDisk bool // less is free than the reserve; until twice as much is
	// refused: a record found no room on the disk. Until the log has prepared some.
	refused bool

	released meter // bytes of records in log files that were removed
	flushed  meter // bytes of memtables that reached the store
}

// nearlyFull says that the disk is. Callers hold mu.
func (p *pressure) nearlyFull() bool { return p.lowDisk || p.refused }

// admit refuses writes while the Writer cannot take more. What was accepted
// before is kept whatever the state.
func (w *Writer) admit() error {
	if err := w.refusal(); err != nil {
		return err
	}
	s := w.log.Stats()
	state, full := w.judge(s)
	p := &w.pressure
	switch {
	case state == readOnly && full:
		return httpapi.StorageFull("storage_full", "the disk of the data directory is nearly full").
			WithHint("reads go on; writes do when flushes, or somebody else, have freed some of it")
	case state == readOnly:
		return httpapi.StorageFull("storage_full", "the log holds %d bytes that wait to be flushed to the object store; its budget is %d", s.LiveBytes, w.cfg.MaxLogBytes).
			WithHint("reads go on; writes do when flushes have brought it below %.0f %% of that", 100*recoverUse)
	case state == throttled:
		over := float64(s.LiveBytes) - recoverUse*float64(w.cfg.MaxLogBytes)
		return httpapi.TooManyRequests("flush_behind", p.wait(&p.released, over),
			"the log holds %d bytes that wait to be flushed to the object store; its budget is %d", s.LiveBytes, w.cfg.MaxLogBytes)
	}
	// Also while a flush is running: the table behind it grows no further.
	if got := w.unflushed.Load() + s.QueuedBytes; got > w.cfg.MaxUnflushedBytes {
		return httpapi.TooManyRequests("flush_behind", p.wait(&p.flushed, float64(got-w.cfg.MaxUnflushedBytes)),
			"%d bytes of rows wait to be flushed to the object store; at most %d are kept in memory", got, w.cfg.MaxUnflushedBytes)
	}
	return nil
}

// judge brings the state up to date; full says that it is the disk's.
func (w *Writer) judge(s wal.Stats) (state admission, full bool) {
	use := float64(s.LiveBytes) / float64(w.cfg.MaxLogBytes)
	p := &w.pressure
	p.mu.Lock()
	p.refused = p.refused && s.Full
	was, full := p.state, p.nearlyFull()
	state = was.next(use, full)
	if state == admitted && s.Full {
		state = flushing // before a record finds no room
	}
	p.state = state
	if state != was {
		w.metrics.admission(state)
		w.cfg.Degraded("admission", reason(state, use, full))
	}
	p.mu.Unlock()
	if state != was {
		w.cfg.Logger.Warn("admission of writes changes", "from", was.String(), "to", state.String(), "log_bytes", s.LiveBytes, "budget_bytes", w.cfg.MaxLogBytes, "disk_full", full)
		w.hurry(s)
	}
	return state, full
}

// reason is what /health says of a state, "" when all is well.
func reason(a admission, use float64, full bool) string {
	switch {
	case a == admitted:
		return ""
	case full:
		return a.String() + ": the disk of the data directory is nearly full"
	}
	return fmt.Sprintf("%v: the log was at %.0f %% of its budget", a, 100*use)
}

// hurry has those collections flushed whose records keep the log large.
func (w *Writer) hurry(s wal.Stats) {
	over := s.LiveBytes - int64(flushUse*float64(w.cfg.MaxLogBytes))
	w.pressure.mu.Lock()
	if s.Full || w.pressure.nearlyFull() {
		over = math.MaxInt64
	}
	w.pressure.mu.Unlock()
	for _, id := range w.log.Holders(over) {
		if c := w.catalog.byWAL(id); c != nil {
			c.want(c.state().seq)
		}
	}
}

// relieve looks at the log and the disk, and does what makes room in them.
func (w *Writer) relieve() {
	s := w.log.Stats()
	now, p := w.cfg.Now(), &w.pressure
	free, err := w.cfg.FS.FreeBytes(w.cfg.DataDir)
	if err != nil {
		w.cfg.Logger.Error("free space of the data directory is not known", "error", err)
	}
	p.mu.Lock()
	if err == nil {
		p.lowDisk = free < w.cfg.WAL.ReserveBytes || p.lowDisk && free < 2*w.cfg.WAL.ReserveBytes
	}
	p.released.observe(now, s.RemovedBytes)
	p.flushed.observe(now, w.flushedBytes.Load())
	full := p.nearlyFull()
	p.mu.Unlock()
	if err := w.ballast.balance(full, w.unflushed.Load() > 0); err != nil {
		w.cfg.Logger.Warn("ballast", "error", err)
	}
	w.log.Retry()
	if state, _ := w.judge(s); state > admitted {
		w.hurry(s)
	}
}

// noRoom is told when a record found no room on the disk.
func (w *Writer) noRoom(err error) {
	if !errors.Is(err, wal.ErrFull) {
		return
	}
	w.pressure.mu.Lock()
	w.pressure.refused = true
	w.pressure.mu.Unlock()
	w.relieve()
}

// Bounds of what a client is told to wait. The rate is of the last minute, so it
// has nothing to say of a longer time.
const (
	waitLeast = time.Second
	waitMost  = time.Minute
)

// wait is how long it takes, at the rate that was measured, until bytes are gone.
func (p *pressure) wait(m *meter, bytes float64) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	rate := m.rate()
	if rate <= 0 || bytes/rate >= waitMost.Seconds() {
		return waitMost
	}
	return max(waitLeast, time.Duration(math.Ceil(bytes/rate))*time.Second)
}

// meter measures how fast a total grew over the last minute or so.
type meter struct{ samples []sample }

type sample struct {
	at    time.Time
	total int64
}

func (m *meter) observe(now time.Time, total int64) {
	m.samples = append(m.samples, sample{now, total})
	for len(m.samples) > 2 && now.Sub(m.samples[1].at) >= waitMost {
		m.samples = m.samples[1:]
	}
}

// rate is a second's growth; 0 when nothing is known.
func (m *meter) rate() float64 {
	if len(m.samples) < 2 {
		return 0
	}
	first, last := m.samples[0], m.samples[len(m.samples)-1]
	if took := last.at.Sub(first.at).Seconds(); took > 0 {
		return float64(last.total-first.total) / took
	}
	return 0
}
