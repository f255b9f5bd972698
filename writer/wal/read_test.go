package wal

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
)

// readAll reads what is behind a position, at most n records.
func readAll(t fataler, l *Log, from Position, n int) ([]Record, Position) {
	t.Helper()
	var got []Record
	next, err := l.ReadFrom(from, func(r Record) bool {
		if len(got) == n {
			return false
		}
		got = append(got, clone(r))
		return true
	})
	if err != nil {
		t.Fatalf("read from %v: %v", from, err)
	}
	return got, next
}

// TestReadFrom reads in pieces of every size, over files, restarts and records
// that need a file of their own.
func TestReadFrom(t *testing.T) {
	fs, cfg := newMemFS(), testConfig()
	l, _ := mustOpen(t, fs, cfg)
	var want []Record
	rng := rand.New(rand.NewPCG(1, 1))
	for seq := uint64(1); seq <= 60; seq++ {
		r := row(byte(seq%2), (seq+1)/2, rng.IntN(3000))
		if seq == 30 {
			r.Payload = make([]byte, 40<<10)
		}
		r.IdempotencyKey = string(make([]byte, rng.IntN(20)))
		want = append(want, r)
	}
	mustAppend(t, l, want[:45]...)
	mustClose(t, l)
	if _, err := l.ReadFrom(Position{}, func(Record) bool { return true }); !errors.Is(err, ErrClosed) {
		t.Errorf("read from a closed log: %v", err)
	}
	l, _ = mustOpen(t, fs, cfg)
	mustAppend(t, l, want[45:]...)
	for _, piece := range []int{1, 7, len(want)} {
		var got []Record
		var at Position
		for {
			behind := l.Behind(at)
			some, next := readAll(t, l, at, piece)
			if len(some) == 0 {
				if behind != 0 || at != l.Durable() {
					t.Errorf("nothing behind %v, durable up to %v; %d bytes are", at, l.Durable(), behind)
				}
				break
			}
			got, at = append(got, some...), next
		}
		requireRecords(t, got, want)
	}
	// Released files are passed over.
	l.Release(collection(0), 20)
	l.Release(collection(1), 20)
	settled(l)
	if l.Stats().Removed == 0 {
		t.Fatal("nothing was removed: this tests nothing")
	}
	got, _ := readAll(t, l, Position{}, len(want))
	if len(got) == 0 || len(got) == len(want) {
		t.Errorf("got %d records", len(got))
	}
	requireRecords(t, got, want[len(want)-len(got):])
	if l.Released(collection(1)) != 20 || l.Released(collection(2)) != 0 {
		t.Error("released")
	}
	mustClose(t, l)
}

// TestReadFromShowsOnlyWhatIsDurable: a record that is written and not synced is
// not there yet; once it is acknowledged it is.
func TestReadFromShowsOnlyWhatIsDurable(t *testing.T) {
	fs, cfg := newMemFS(), testConfig()
	l, _ := mustOpen(t, fs, cfg)
	g := newGate(fs)
	ticket, err := l.Enqueue(row(1, 1, 20))
	if err != nil {
		t.Fatal(err)
	}
	<-g.entered
	if got, at := readAll(t, l, Position{}, 10); len(got) != 0 || at != (Position{}) || l.Behind(Position{}) != 0 {
		t.Errorf("before the sync: %d records, up to %v", len(got), at)
	}
	g.pass <- struct{}{}
	if _, err := ticket.Wait(bg); err != nil {
		t.Fatal(err)
	}
	if got, _ := readAll(t, l, Position{}, 10); len(got) != 1 {
		t.Errorf("after the answer: %d records", len(got))
	}
	fs.intercept(nil)
	mustClose(t, l)
}

// TestReadFromFindsDamage: what was synced and is not there any more is told.
func TestReadFromFindsDamage(t *testing.T) {
	fs, cfg := newMemFS(), testConfig()
	l, _ := mustOpen(t, fs, cfg)
	mustAppend(t, l, row(1, 1, 100), row(1, 2, 100), row(1, 3, 100))
	_, second := readAll(t, l, Position{}, 1)
	if _, err := l.files[0].handle.WriteAt([]byte("damage"), second.Offset+150); err != nil {
		t.Fatal(err)
	}
	n := 0
	at, err := l.ReadFrom(Position{}, func(Record) bool { n++; return true })
	var corrupt *CorruptError
	if !errors.As(err, &corrupt) || n != 1 || at != second || corrupt.From != second.Offset {
		t.Errorf("got %d records up to %v, %v", n, at, err)
	}
	if _, err := l.ReadFrom(Position{1, second.Offset + alignBytes}, func(Record) bool { return true }); !errors.As(err, &corrupt) {
		t.Errorf("where no record begins: %v", err)
	}
	mustClose(t, l)
}

// TestReadFromBesideEverything: a reader that follows writers and a janitor that
// removes what it has read sees every record once, in order.
func TestReadFromBesideEverything(t *testing.T) {
	fs, cfg := newMemFS(), testConfig()
	l, _ := mustOpen(t, fs, cfg)
	const writers, each = 4, 150
	var group sync.WaitGroup
	for c := range writers {
		group.Go(func() {
			for seq := uint64(1); seq <= each; seq++ {
				ticket, err := enqueue(l, row(byte(c), seq, int(seq)*10))
				if err == nil {
					_, err = ticket.Wait(bg)
				}
				if err != nil {
					t.Errorf("write: %v", err)
					return
				}
			}
		})
	}
	next := map[CollectionID]uint64{}
	var at Position
	for read := 0; read < writers*each && !t.Failed(); {
		some, to := readAll(t, l, at, 5)
		for _, r := range some {
			if want := next[r.Collection] + 1; r.Seq != want {
				t.Fatalf("got seq %d, want %d", r.Seq, want)
			}
			next[r.Collection] = r.Seq
			l.Release(r.Collection, r.Seq)
		}
		read, at = read+len(some), to
	}
	group.Wait()
	settled(l)
	if l.Stats().Removed == 0 {
		t.Error("nothing was removed: this tests nothing")
	}
	mustClose(t, l)
}
