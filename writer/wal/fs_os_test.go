package wal

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestOS: the log on the machine's own filesystem, large payloads included.
func TestOS(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "for", "the", "log")
	cfg := Config{FileBytes: 1 << 20}
	l, err := Open(OS(), dir, cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(OS(), dir, cfg, nil); !errors.Is(err, ErrLocked) {
		t.Errorf("second open: got %v, want ErrLocked", err)
	}
	if _, err := Repair(OS(), dir, RepairOptions{}); !errors.Is(err, ErrLocked) {
		t.Errorf("repair of an open log: got %v, want ErrLocked", err)
	}
	want := []Record{row(1, 1, 100), row(1, 2, 900<<10), row(2, 1, 3<<20), row(2, 2, 0), row(1, 3, directBytes+5)}
	mustAppend(t, l, want...)
	settled(l)
	info, err := os.Stat(filepath.Join(dir, fileName(l.last)))
	if err != nil || info.Size() != cfg.FileBytes {
		t.Errorf("prepared file: got %v, %v, want %d bytes", info, err, cfg.FileBytes)
	}
	uuid := l.UUID()
	mustClose(t, l)

	// A process that dies: its files are as they are, its lock is gone.
	l, err = Open(OS(), dir, cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	last := row(1, 4, 5000)
	mustAppend(t, l, last)
	settled(l)
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	mustClose(t, l)
	replay, got := collect()
	l, err = Open(OS(), copied, cfg, replay)
	if err != nil {
		t.Fatal(err)
	}
	requireRecords(t, *got, append(want, last))
	if r := l.Recovery(); r.Clean || r.Rewritten || l.UUID() != uuid {
		t.Errorf("got %+v of log %v, want an unclean stop with a proven tail of log %v", r, l.UUID(), uuid)
	}
	l.Drop(collection(1))
	l.Drop(collection(2))
	settled(l)
	if s := l.Stats(); s.Files > 2 || s.Removed == 0 {
		t.Errorf("after dropping everything: %+v", s)
	}
	mustClose(t, l)
}

func TestOSFreeBytes(t *testing.T) {
	free, err := OS().FreeBytes(t.TempDir())
	if err != nil || free <= 0 {
		t.Errorf("got %d, %v", free, err)
	}
	if _, err := OS().FreeBytes("/does/not/exist"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want not exist", err)
	}
}

// TestOSRefusals: a directory that cannot be one, a file that is not there.
func TestOSRefusals(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(OS(), file, Config{}, nil); err == nil {
		t.Error("a file was taken for a directory")
	}
	if _, err := OS().OpenReadWrite(file + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want not exist", err)
	}
	if err := OS().SyncDir(file + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want not exist", err)
	}
}

// BenchmarkAppend appends records of 1000 bytes on the machine's disk: one at
// a time, and a hundred at once.
func BenchmarkAppend(b *testing.B) {
	for name, together := range map[string]int{"alone": 1, "hundred": 100} {
		b.Run(name, func(b *testing.B) {
			l, err := Open(OS(), b.TempDir(), Config{}, nil)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(1000 * together))
			tickets := make([]*Ticket, together)
			r := row(1, 1, 1000)
			for b.Loop() {
				for i := range tickets {
					if tickets[i], err = enqueue(l, r); err != nil {
						b.Fatal(err)
					}
					r.Seq++
				}
				for _, ticket := range tickets {
					if _, err := ticket.Wait(bg); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(l.Stats().Records)/float64(l.Stats().Groups), "records/sync")
			mustClose(b, l)
		})
	}
}
