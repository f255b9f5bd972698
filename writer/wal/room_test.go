package wal

import (
	"slices"
	"testing"
)

// TestHolders: which collections keep the oldest files, however many files that
// is about.
func TestHolders(t *testing.T) {
	l, _ := mustOpen(t, newMemFS(), testConfig())
	mustAppend(t, l, row(1, 1, 1000), row(2, 1, 5000))
	mustAppend(t, l, row(2, 2, 5000))
	mustAppend(t, l, row(3, 1, 5000), row(2, 3, 5000)) // the second file
	if l.Stats().Files < 2 {
		t.Fatal("one file: this tests nothing")
	}
	holders := func(n int64, want ...byte) {
		t.Helper()
		var got []byte
		for _, c := range l.Holders(n) {
			got = append(got, c[15])
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("of the first %d bytes: got %v, want %v", n, got, want)
		}
	}
	holders(0)
	holders(1, 1, 2)
	holders(1<<40, 1, 2, 3)
	l.Release(collection(2), 2)
	holders(1, 1)
	holders(1<<40, 1, 2, 3)
	l.Release(collection(1), 1)
	settled(l)
	if s := l.Stats(); s.Removed != 1 || s.RemovedBytes < 11000 {
		t.Errorf("%d files with %d bytes of records are gone", s.Removed, s.RemovedBytes)
	}
	holders(1, 2, 3)
	mustClose(t, l)
}

// TestRetry: a log on a full disk takes records again when others made room, and
// says so before.
func TestRetry(t *testing.T) {
	fs := newMemFS()
	fs.setCapacity(40 << 10)
	l, _ := mustOpen(t, fs, testConfig())
	for seq := uint64(1); ; seq++ {
		ticket, err := enqueue(l, row(1, seq, 3000))
		if err != nil {
			break
		}
		if _, err := ticket.Wait(bg); err != nil {
			t.Fatal(err)
		}
	}
	settled(l)
	if !l.Stats().Full {
		t.Fatal("not full")
	}
	l.Retry()
	settled(l)
	if !l.Stats().Full {
		t.Error("full no more, and nobody made room")
	}
	fs.setCapacity(1 << 20)
	l.Retry()
	settled(l)
	if l.Stats().Full {
		t.Error("still full")
	}
	mustClose(t, l)
}
