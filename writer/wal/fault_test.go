package wal

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// gate makes every data sync of a log wait until it is opened once.
type gate struct {
	entered chan struct{} // one value for each sync that waits
	pass    chan struct{} // one value lets one through
}

func newGate(fs *memFS) *gate {
	g := &gate{entered: make(chan struct{}), pass: make(chan struct{})}
	fs.intercept(func(op, name string, _ int) error {
		if op == "syncdata" && strings.HasPrefix(name, testDir+"/0000000000000001") {
			g.entered <- struct{}{}
			<-g.pass
		}
		return nil
	})
	return g
}

// TestGroupCommit: everything enqueued while a sync runs shares the next one,
// and Applied sees it in order, durable, before any ticket of it resolves.
func TestGroupCommit(t *testing.T) {
	fs, cfg := newMemFS(), testConfig()
	var applied []uint64
	var tickets []*Ticket
	cfg.Applied = func(r Record, _ Position) {
		applied = append(applied, r.Seq)
		select {
		case <-tickets[r.Seq-1].done:
			t.Errorf("ticket %d resolved before it was applied", r.Seq)
		default:
		}
	}
	l, _ := mustOpen(t, fs, cfg)
	g := newGate(fs)
	add := func() {
		ticket, err := l.Enqueue(row(1, uint64(len(tickets)+1), 20))
		if err != nil {
			t.Fatal(err)
		}
		tickets = append(tickets, ticket)
	}
	add()
	<-g.entered // the first sync runs
	settled(l)  // and the next file is there
	writes := fs.calledTimes("write")
	for range 50 {
		add()
	}
	select {
	case <-tickets[0].done:
		t.Fatal("resolved before its sync returned")
	default:
	}
	g.pass <- struct{}{}
	<-g.entered // the second sync, for all the rest
	if got := fs.calledTimes("write") - writes; got != 1 {
		t.Errorf("writes for a group of 50: got %d, want 1", got)
	}
	g.pass <- struct{}{}
	for _, ticket := range tickets {
		if _, err := ticket.Wait(bg); err != nil {
			t.Fatal(err)
		}
	}
	if s := l.Stats(); s.Groups != 2 || s.Records != 51 || s.QueuedBytes != 0 {
		t.Errorf("got %d groups of %d records, %d bytes queued; want 2 of 51, none", s.Groups, s.Records, s.QueuedBytes)
	}
	for i, seq := range applied {
		if seq != uint64(i+1) {
			t.Fatalf("applied out of order: %v", applied)
		}
	}
	fs.intercept(nil)
	mustClose(t, l)
}

// TestConcurrentWriters: many callers, each ordering under its own lock.
func TestConcurrentWriters(t *testing.T) {
	fs, cfg := newMemFS(), testConfig()
	var applied atomic.Int64
	cfg.Applied = func(Record, Position) { applied.Add(1) }
	l, _ := mustOpen(t, fs, cfg)
	const writers, each = 8, 60
	var wg sync.WaitGroup
	for c := range writers {
		wg.Go(func() {
			for seq := uint64(1); seq <= each; seq++ {
				ticket, err := enqueue(l, row(byte(c), seq, int(seq)*20))
				if err != nil {
					t.Errorf("enqueue: %v", err)
					return
				}
				if _, err := ticket.Wait(bg); err != nil {
					t.Errorf("wait: %v", err)
				}
			}
		})
	}
	wg.Wait()
	mustClose(t, l)
	if got := applied.Load(); got != writers*each {
		t.Errorf("applied %d, want %d", got, writers*each)
	}
	l, got := mustOpen(t, fs, cfg)
	if len(got) != writers*each {
		t.Errorf("recovered %d, want %d", len(got), writers*each)
	}
	mustClose(t, l)
}

// TestPoison: whatever write or sync fails, what was in flight is unknown,
// what was not yet written and what comes later is definite, nothing is tried
// again, and a restart keeps every promise.
func TestPoison(t *testing.T) {
	for _, fault := range []struct {
		op  string
		err error
	}{
		{"write", syscall.EIO}, {"write", errShort}, {"write", syscall.ENOSPC},
		{"syncdata", syscall.EIO}, {"syncdata", syscall.ENOSPC},
	} {
		t.Run(fault.op+" "+fault.err.Error(), func(t *testing.T) {
			fs := newMemFS()
			l, _ := mustOpen(t, fs, testConfig())
			mustAppend(t, l, row(1, 1, 100))
			settled(l)

			entered, pass := make(chan struct{}), make(chan struct{})
			failed := 0
			fs.intercept(func(op, _ string, _ int) error {
				if op != fault.op {
					return nil
				}
				if failed++; failed == 1 {
					close(entered)
					<-pass
				}
				return fault.err
			})
			inFlight, err := l.Enqueue(row(1, 2, 100))
			if err != nil {
				t.Fatal(err)
			}
			<-entered
			queued, err := l.Enqueue(row(1, 3, 100))
			if err != nil {
				t.Fatal(err)
			}
			close(pass)
			if _, err := inFlight.Wait(bg); !errors.Is(err, ErrUnknown) || errors.Is(err, ErrNotApplied) || !errors.Is(err, fault.err) {
				t.Errorf("in flight: got %v, want ErrUnknown", err)
			}
			<-l.Done()
			if _, err := queued.Wait(bg); !errors.Is(err, ErrPoisoned) || !errors.Is(err, ErrNotApplied) || errors.Is(err, ErrUnknown) {
				t.Errorf("queued: got %v, want ErrPoisoned", err)
			}
			if _, err := l.Enqueue(row(1, 4, 1)); !errors.Is(err, ErrPoisoned) || !errors.Is(err, ErrNotApplied) {
				t.Errorf("later: got %v, want ErrPoisoned", err)
			}
			if err := l.WaitRoom(bg, row(1, 4, 1)); !errors.Is(err, ErrPoisoned) {
				t.Errorf("waiting later: got %v, want ErrPoisoned", err)
			}
			if !errors.Is(l.Err(), fault.err) || !errors.Is(l.Close(), fault.err) {
				t.Errorf("the reason is not told: %v", l.Err())
			}
			if failed != 1 {
				t.Errorf("%s was called %d times after it failed", fault.op, failed-1)
			}
			again := onDisk(fs.disk)
			l, got := mustOpen(t, again, testConfig())
			if len(got) == 0 || len(got) > 2 || !equal(got[0], row(1, 1, 100)) {
				t.Errorf("recovered %d records, want the first and perhaps the second", len(got))
			}
			mustClose(t, l)
		})
	}
}

// TestMarkFailurePoisonsButDoesNotLie: the group before a failed mark is
// durable, and is told so.
func TestMarkFailurePoisonsButDoesNotLie(t *testing.T) {
	fs := newMemFS()
	l, _ := mustOpen(t, fs, testConfig())
	mustAppend(t, l, row(1, 1, 100))
	settled(l)
	writes := 0
	fs.intercept(func(op, _ string, _ int) error {
		if op == "write" {
			if writes++; writes == 2 {
				return syscall.EIO
			}
		}
		return nil
	})
	mustAppend(t, l, row(1, 2, 100))
	<-l.Done()
	if err := l.Close(); !errors.Is(err, syscall.EIO) {
		t.Errorf("close: got %v, want EIO", err)
	}
	l, got := mustOpen(t, onDisk(fs.disk), testConfig())
	requireRecords(t, got, []Record{row(1, 1, 100), row(1, 2, 100)})
	mustClose(t, l)
}

// TestFailedSyncIsNotBelieved: after a failed fsync the bytes can be read and
// are not on the disk. What a restart replays from them has to survive the
// next power failure all the same.
func TestFailedSyncIsNotBelieved(t *testing.T) {
	fs := newMemFS()
	l, _ := mustOpen(t, fs, testConfig())
	mustAppend(t, l, row(1, 1, 100))
	settled(l)
	fs.intercept(func(op, _ string, _ int) error {
		if op == "syncdata" {
			return syscall.EIO
		}
		return nil
	})
	ticket, err := l.Enqueue(row(1, 2, 5000))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ticket.Wait(bg); !errors.Is(err, ErrUnknown) {
		t.Fatalf("got %v, want ErrUnknown", err)
	}
	_ = l.Close()

	want := []Record{row(1, 1, 100), row(1, 2, 5000)}
	after := onDisk(fs.disk)
	l, got := mustOpen(t, after, testConfig())
	requireRecords(t, got, want)
	if !l.Recovery().Rewritten || l.Recovery().Clean {
		t.Errorf("the tail was believed: %+v", l.Recovery())
	}
	crashed := after.crash(nil, 0)
	mustClose(t, l)
	l, got = mustOpen(t, crashed, testConfig())
	requireRecords(t, got, want)
	mustClose(t, l)
}

// TestPreparationFailurePoisons: a disk that fails while a file is prepared is
// a broken disk too.
func TestPreparationFailurePoisons(t *testing.T) {
	for _, op := range []string{"create", "write", "preallocate", "syncdata", "rename", "syncdir"} {
		fs := newMemFS()
		l, _ := mustOpen(t, fs, testConfig())
		fs.intercept(func(got, name string, _ int) error {
			if got == op && (strings.HasPrefix(name, testDir+"/0000000000000002") || op == "syncdir") {
				return syscall.EIO
			}
			return nil
		})
		ticket, err := l.Enqueue(row(1, 1, 100)) // takes the prepared file, so the next is made
		if err != nil {
			t.Fatal(err)
		}
		<-l.Done()
		if _, err := ticket.Wait(bg); err != nil && !errors.Is(err, ErrPoisoned) {
			t.Errorf("%s: got %v, want nil or ErrPoisoned", op, err)
		}
		if err := l.Close(); !errors.Is(err, syscall.EIO) && op != "syncdir" {
			t.Errorf("%s: close: got %v, want EIO", op, err)
		}
	}
}

// TestWaitGivesUp: a caller that stops waiting learns that it does not know.
func TestWaitGivesUp(t *testing.T) {
	fs := newMemFS()
	l, _ := mustOpen(t, fs, testConfig())
	g := newGate(fs)
	ticket, err := l.Enqueue(row(1, 1, 100))
	if err != nil {
		t.Fatal(err)
	}
	<-g.entered
	ctx, cancel := context.WithCancel(bg)
	cancel()
	if _, err := ticket.Wait(ctx); !errors.Is(err, ErrUnknown) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want ErrUnknown and the reason", err)
	}
	if err := l.WaitRoom(ctx, row(1, 2, 100)); !errors.Is(err, ErrNotApplied) || !errors.Is(err, context.Canceled) {
		t.Errorf("wait for room: got %v, want ErrNotApplied and the reason", err)
	}
	g.pass <- struct{}{}
	if _, err := ticket.Wait(bg); err != nil {
		t.Errorf("it was written after all: %v", err)
	}
	if _, err := ticket.Wait(ctx); err != nil {
		t.Errorf("a known outcome is told to a caller in a hurry too: %v", err)
	}
	fs.intercept(nil)
	mustClose(t, l)
}

// TestQueueIsBounded: a stuck disk does not fill the memory.
func TestQueueIsBounded(t *testing.T) {
	fs, cfg := newMemFS(), testConfig()
	cfg.MaxQueueBytes = 3000
	l, _ := mustOpen(t, fs, cfg)
	g := newGate(fs)
	first, err := l.Enqueue(row(1, 1, 5000)) // larger than the bound, but alone
	if err != nil {
		t.Fatal(err)
	}
	<-g.entered
	if _, err := l.Enqueue(row(1, 2, 1000)); !errors.Is(err, ErrBusy) || !errors.Is(err, ErrNotApplied) {
		t.Fatalf("got %v, want ErrBusy", err)
	}
	g.pass <- struct{}{}
	if _, err := first.Wait(bg); err != nil {
		t.Fatal(err)
	}
	fs.intercept(nil)
	mustAppend(t, l, row(1, 2, 1000))
	mustClose(t, l)
}

// TestFullDisk: a full disk is met while preparing a file, never while writing
// a record; refusals are definite; and the log goes on when there is room.
func TestFullDisk(t *testing.T) {
	for name, grow := range map[string]func(*memFS, *Log, uint64){
		"space appears": func(fs *memFS, _ *Log, _ uint64) { fs.setCapacity(1 << 20) },
		"own space is freed": func(_ *memFS, l *Log, flushed uint64) {
			l.Release(collection(1), flushed)
			settled(l)
		},
	} {
		t.Run(name, func(t *testing.T) {
			fs := newMemFS()
			fs.setCapacity(40 << 10) // two files of 16 KiB and a header, or three of nothing
			l, _ := mustOpen(t, fs, testConfig())
			seq := uint64(1)
			var want []Record
			for ; ; seq++ {
				r := row(1, seq, 2000)
				ticket, err := enqueue(l, r)
				if errors.Is(err, ErrFull) && errors.Is(err, ErrNotApplied) {
					break
				}
				if err != nil {
					t.Fatalf("enqueue: %v", err)
				}
				if _, err := ticket.Wait(bg); err != nil {
					t.Fatalf("an accepted record failed: %v", err)
				}
				want = append(want, r)
			}
			if len(want) < 8 {
				t.Fatalf("only %d records fit", len(want))
			}
			if l.Err() != nil {
				t.Fatalf("a full disk poisoned the log: %v", l.Err())
			}
			grow(fs, l, seq-1)
			r := row(1, seq, 2000)
			if err := l.WaitRoom(bg, r); err != nil {
				t.Fatalf("room is back, but: %v", err)
			}
			mustAppend(t, l, r)
			mustClose(t, l)
			l, got := mustOpen(t, fs, testConfig())
			if len(got) == 0 || !equal(got[len(got)-1], r) {
				t.Fatalf("recovered %d records without the last one", len(got))
			}
			mustClose(t, l)
		})
	}
}

// TestFullDiskWithOneFile: a disk that holds one file and no more is not a
// dead end: when all of it is flushed it makes room for its successor.
func TestFullDiskWithOneFile(t *testing.T) {
	fs := newMemFS()
	fs.setCapacity(16<<10 + fileHeaderBytes)
	l, _ := mustOpen(t, fs, testConfig())
	uuid := l.UUID()
	for round := uint64(0); round < 3; round++ {
		for i := uint64(1); i <= 5; i++ {
			mustAppend(t, l, row(1, round*5+i, 2000))
		}
		if _, err := enqueue(l, row(1, round*5+6, 2000)); !errors.Is(err, ErrFull) {
			t.Fatalf("round %d: got %v, want ErrFull", round, err)
		}
		l.Release(collection(1), round*5+5)
		settled(l)
	}
	mustClose(t, l)
	l, _ = mustOpen(t, fs, testConfig())
	if l.UUID() != uuid {
		t.Errorf("the log lost its identity: got %v, want %v", l.UUID(), uuid)
	}
	mustClose(t, l)
}

// TestCreateOnAFullDisk: without a single file a log has no identity, so there
// is none.
func TestCreateOnAFullDisk(t *testing.T) {
	fs := newMemFS()
	fs.setCapacity(1000)
	if _, err := Open(fs, testDir, testConfig(), nil); !errors.Is(err, ErrFull) {
		t.Fatalf("got %v, want ErrFull", err)
	}
	fs.setCapacity(5000) // room for a header: it opens, and refuses records
	l, _ := mustOpen(t, fs, testConfig())
	if _, err := enqueue(l, row(1, 1, 10)); !errors.Is(err, ErrFull) {
		t.Fatalf("got %v, want ErrFull", err)
	}
	fs.setCapacity(1 << 20)
	r := row(1, 1, 10)
	if err := l.WaitRoom(bg, r); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, r)
	mustClose(t, l)
}

// TestReserveIsKept: the log leaves the reserve to those who flush.
func TestReserveIsKept(t *testing.T) {
	fs, cfg := newMemFS(), testConfig()
	fs.setCapacity(100 << 10)
	cfg.ReserveBytes = 50 << 10
	l, _ := mustOpen(t, fs, cfg)
	seq := uint64(1)
	for ; ; seq++ {
		if _, err := enqueue(l, row(1, seq, 3000)); err != nil {
			if !errors.Is(err, ErrFull) {
				t.Fatalf("got %v, want ErrFull", err)
			}
			break
		}
	}
	settled(l)
	if free, _ := fs.FreeBytes(testDir); free < cfg.ReserveBytes-fileHeaderBytes { // a bare header is no room
		t.Errorf("free: got %d, want about %d", free, cfg.ReserveBytes)
	}
	mustClose(t, l)
}

// TestOpenOnAFullDisk: a crash on a full disk must not need more disk.
func TestOpenOnAFullDisk(t *testing.T) {
	fs := newMemFS()
	fs.setCapacity(32<<10 + fileHeaderBytes)
	l, _ := mustOpen(t, fs, testConfig())
	want := []Record{row(1, 1, 4000), row(1, 2, 4000)}
	mustAppend(t, l, want...)
	settled(l)
	fs.intercept(func(op, _ string, _ int) error {
		if op == "syncdata" {
			return syscall.EIO
		}
		return nil
	})
	ticket, err := l.Enqueue(row(1, 3, 1000))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = ticket.Wait(bg)
	_ = l.Close()
	after := onDisk(fs.disk)
	after.setCapacity(fs.capacity)
	l, got := mustOpen(t, after, testConfig())
	requireRecords(t, got[:2], want)
	if !l.Recovery().Rewritten {
		t.Error("the unproven tail was kept")
	}
	mustClose(t, l)
}
