package wal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	bg       = context.Background()
	testUUID = UUID{0xa, 0x1, 0xd, 0xb, 5: 7, 15: 1}
)

func testConfig() Config {
	return Config{FileBytes: 16 << 10, NewUUID: func() UUID { return testUUID }}
}

func collection(n byte) CollectionID { return CollectionID{0: 'c', 15: n} }

// row is a record of one collection with a payload of its own.
func row(c byte, seq uint64, payloadBytes int) Record {
	p := make([]byte, payloadBytes)
	for i := range p {
		p[i] = byte(uint64(i)*7 + seq*13 + uint64(c))
	}
	if len(p) >= 8 {
		binary.LittleEndian.PutUint64(p, seq)
	}
	return Record{Collection: collection(c), Epoch: 1, Seq: seq, Count: 1, Kind: 1, Payload: p}
}

func clone(r Record) Record {
	r.Payload = bytes.Clone(r.Payload)
	return r
}

func equal(a, b Record) bool {
	pa, pb := a.Payload, b.Payload
	return bytes.Equal(pa, pb) && a.Collection == b.Collection && a.Epoch == b.Epoch && a.Seq == b.Seq && a.Count == b.Count &&
		a.Kind == b.Kind && a.Gap == b.Gap && a.IdempotencyKey == b.IdempotencyKey && a.Digest == b.Digest
}

func brief(r Record) string {
	return fmt.Sprintf("%d/%d+%d(%d bytes)", r.Collection[15], r.Seq, r.Count, len(r.Payload))
}

// collect returns a replay function and what it has seen.
func collect() (func(Record, Position) error, *[]Record) {
	var got []Record
	return func(r Record, _ Position) error {
		got = append(got, clone(r))
		return nil
	}, &got
}

type fataler interface {
	Helper()
	Fatalf(string, ...any)
}

func mustOpen(t fataler, fs FS, cfg Config) (*Log, []Record) {
	t.Helper()
	replay, got := collect()
	l, err := Open(fs, testDir, cfg, replay)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return l, *got
}

func mustClose(t fataler, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

// enqueue waits for room and enqueues.
func enqueue(l *Log, r Record) (*Ticket, error) {
	for {
		ticket, err := l.Enqueue(r)
		if !errors.Is(err, ErrBusy) {
			return ticket, err
		}
		if err := l.WaitRoom(bg, r); err != nil {
			return nil, err
		}
	}
}

func mustAppend(t fataler, l *Log, records ...Record) {
	t.Helper()
	for _, r := range records {
		ticket, err := enqueue(l, r)
		if err != nil {
			t.Fatalf("enqueue %s: %v", brief(r), err)
		}
		if _, err := ticket.Wait(bg); err != nil {
			t.Fatalf("wait for %s: %v", brief(r), err)
		}
	}
}

func requireRecords(t fataler, got, want []Record) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %d records, want %d", len(got), len(want))
	}
	for i := range want {
		if !equal(got[i], want[i]) {
			t.Fatalf("record %d: got %s, want %s, or they differ within", i, brief(got[i]), brief(want[i]))
		}
	}
}

// settled waits until the janitor has done what it was asked.
func settled(l *Log) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.err == nil && (l.janitorDue || l.janitorRuns != l.janitorDone) {
		l.cond.Wait()
	}
}

// drawRecord draws the pieces of a record, so that a failure prints shortly.
func drawRecord(t *rapid.T, c byte, seq, epoch uint64) Record {
	size := rapid.OneOf(rapid.IntRange(0, 200), rapid.IntRange(0, 9000), rapid.SampledFrom([]int{20 << 10, 40 << 10})).Draw(t, "size")
	r := row(c, seq, size)
	r.Epoch = epoch
	r.Count = rapid.Uint32Range(1, 100).Draw(t, "count")
	r.Kind = rapid.Byte().Draw(t, "kind")
	r.IdempotencyKey = string(rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "key"))
	if r.IdempotencyKey != "" {
		copy(r.Digest[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "digest"))
	}
	return r
}

// TestRoundTrip: whatever is appended, over any number of clean stops, comes
// back the same, in order, at the position the ticket named.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fs, cfg := newMemFS(), testConfig()
		var want []Record
		var places []Position
		seq, epoch := [4]uint64{1, 1, 100, 1 << 40}, uint64(1)
		for range rapid.IntRange(1, 4).Draw(t, "stops") {
			var applied []Record
			cfg.Applied = func(r Record, _ Position) { applied = append(applied, clone(r)) }
			l, got := mustOpen(t, fs, cfg)
			requireRecords(t, got, want)
			before := len(want)
			var tickets []*Ticket
			for range rapid.IntRange(0, 12).Draw(t, "records") {
				c := rapid.IntRange(0, 3).Draw(t, "collection")
				epoch += rapid.Uint64Range(0, 1).Draw(t, "epoch")
				r := drawRecord(t, byte(c), seq[c], epoch)
				ticket, err := enqueue(l, r)
				if err != nil {
					t.Fatalf("enqueue: %v", err)
				}
				seq[c] += uint64(r.Count)
				want, tickets = append(want, r), append(tickets, ticket)
			}
			for _, ticket := range tickets {
				pos, err := ticket.Wait(bg)
				if err != nil {
					t.Fatalf("wait: %v", err)
				}
				places = append(places, pos)
			}
			mustClose(t, l)
			requireRecords(t, applied, want[before:])
		}
		var seen []Position
		l, err := Open(fs, testDir, cfg, func(_ Record, p Position) error { seen = append(seen, p); return nil })
		if err != nil {
			t.Fatalf("open: %v", err)
		}
		if !l.Recovery().Clean || l.Recovery().Rewritten {
			t.Fatalf("after a clean stop: %+v", l.Recovery())
		}
		mustClose(t, l)
		if !slices.Equal(seen, places) {
			t.Fatalf("positions: got %v, want %v", seen, places)
		}
		if !slices.IsSortedFunc(seen, Position.Compare) {
			t.Fatalf("positions out of order: %v", seen)
		}
	})
}

// TestReleaseRemovesOnlyFromTheFront: a file goes when everything in it is
// released and nothing older is left, and what remains still opens.
func TestReleaseRemovesOnlyFromTheFront(t *testing.T) {
	fs, cfg := newMemFS(), testConfig()
	l, _ := mustOpen(t, fs, cfg)
	var all []Record
	for seq := uint64(1); seq <= 12; seq++ { // two of 5 KiB fill a file
		all = append(all, row(byte(seq%2), (seq+1)/2, 5<<10))
	}
	mustAppend(t, l, all...)
	settled(l)
	if got := l.Stats().Files; got != 7 { // six and one prepared
		t.Fatalf("files: got %d, want 7", got)
	}
	l.Release(collection(1), 6)
	settled(l)
	if got := l.Stats().Files; got != 7 {
		t.Fatalf("files after releasing one of two collections: got %d, want 7", got)
	}
	l.Release(collection(0), 2)
	settled(l)
	if got := l.Stats().Files; got != 5 {
		t.Fatalf("files after releasing four records: got %d, want 5", got)
	}
	l.Drop(collection(0))
	settled(l)
	if got, size := l.Stats().Files, l.Size(); got != 2 || size == 0 { // the tail stays
		t.Fatalf("files after dropping: got %d of %d bytes, want 2", got, size)
	}
	if _, err := l.Enqueue(row(0, 7, 1)); !errors.Is(err, ErrInvalid) {
		t.Fatalf("append to a dropped collection: got %v, want ErrInvalid", err)
	}
	mustClose(t, l)
	l, got := mustOpen(t, fs, cfg)
	requireRecords(t, got, all[10:])
	mustAppend(t, l, row(1, 7, 10))
	mustClose(t, l)
}

// TestEnqueueRefusals: what the caller gets wrong is told, definitely, and
// does not disturb the order.
func TestEnqueueRefusals(t *testing.T) {
	cfg := testConfig()
	cfg.MaxRecordBytes = 1000
	l, _ := mustOpen(t, newMemFS(), cfg)
	mustAppend(t, l, row(1, 5, 10))
	bad := func(change func(*Record)) Record {
		r := row(1, 6, 10)
		change(&r)
		return r
	}
	for name, test := range map[string]struct {
		rec  Record
		want error
	}{
		"gap":             {bad(func(r *Record) { r.Seq = 7 }), ErrInvalid},
		"repetition":      {bad(func(r *Record) { r.Seq = 5 }), ErrInvalid},
		"seq zero":        {bad(func(r *Record) { r.Seq = 0 }), ErrInvalid},
		"no rows":         {bad(func(r *Record) { r.Count = 0 }), ErrInvalid},
		"overflow":        {bad(func(r *Record) { r.Seq = 1<<64 - 1 }), ErrInvalid},
		"older epoch":     {bad(func(r *Record) { r.Epoch = 0 }), ErrInvalid},
		"gap flag":        {bad(func(r *Record) { r.Gap = true }), ErrInvalid},
		"long key":        {bad(func(r *Record) { r.IdempotencyKey = string(make([]byte, 256)) }), ErrInvalid},
		"payload too big": {bad(func(r *Record) { r.Payload = make([]byte, 1001) }), ErrTooLarge},
	} {
		if _, err := l.Enqueue(test.rec); !errors.Is(err, test.want) || !errors.Is(err, ErrNotApplied) {
			t.Errorf("%s: got %v, want %v and ErrNotApplied", name, err, test.want)
		}
	}
	mustAppend(t, l, row(1, 6, 10))
	mustClose(t, l)
	if _, err := l.Enqueue(row(1, 7, 10)); !errors.Is(err, ErrClosed) || !errors.Is(err, ErrNotApplied) {
		t.Errorf("after close: got %v, want ErrClosed", err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}

func TestConfigReportsEveryProblem(t *testing.T) {
	err := Config{FileBytes: 1, MaxRecordBytes: MaxPayloadBytes + 1, MaxQueueBytes: -1, ReserveBytes: -1}.Validate()
	for _, name := range []string{"FileBytes", "MaxRecordBytes", "MaxQueueBytes", "ReserveBytes"} {
		if err == nil || !bytes.Contains([]byte(err.Error()), []byte(name)) {
			t.Errorf("%s is not reported: %v", name, err)
		}
	}
	if err := (Config{}).Validate(); err != nil {
		t.Errorf("zero config: %v", err)
	}
}

func TestReplayErrorEndsOpen(t *testing.T) {
	fs := newMemFS()
	l, _ := mustOpen(t, fs, testConfig())
	mustAppend(t, l, row(1, 1, 10))
	mustClose(t, l)
	boom := errors.New("boom")
	if _, err := Open(fs, testDir, testConfig(), func(Record, Position) error { return boom }); !errors.Is(err, boom) {
		t.Fatalf("got %v, want boom", err)
	}
	l, got := mustOpen(t, fs, testConfig()) // the lock was given up
	if len(got) != 1 {
		t.Fatalf("got %d records, want 1", len(got))
	}
	if _, err := Open(fs, testDir, testConfig(), nil); !errors.Is(err, ErrLocked) {
		t.Fatalf("second open: got %v, want ErrLocked", err)
	}
	mustClose(t, l)
}
