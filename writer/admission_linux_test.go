package writer

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/akidb/akidb/internal/httpapi"
)

// smallDisk mounts a filesystem of so many bytes.
func smallDisk(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("SKIPPED, the full disk is not tested: mounting a small filesystem takes root: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// filler takes up the disk but for so many bytes, as a stranger would.
func filler(t *testing.T, dir string, leave int64) string {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "stranger"))
	if err != nil {
		t.Fatal(err)
	}
	for { // others may take of it in between
		var s unix.Statfs_t
		if err := unix.Statfs(dir, &s); err != nil {
			t.Fatal(err)
		}
		err := unix.Fallocate(int(f.Fd()), 0, 0, int64(s.Bavail)*s.Bsize-leave)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
	}
	_ = f.Close()
	return f.Name()
}

// TestDiskFillsUp fills a real disk with the log while the store is away:
// writes are refused before anything breaks, reads go on, and when the store is
// back everything is as before, without anybody's help. The ballast is what the
// first flush is built in.
func TestDiskFillsUp(t *testing.T) {
	const mib = 1 << 20
	v := newWorld(t, func(c *Config) {
		c.WAL.FileBytes, c.FlushBytes, c.FlushAge = mib, 256<<10, time.Hour
		c.MaxLogBytes, c.BallastBytes, c.TierSegments = 64*mib, 256*mib, 1000
	})
	v.dir = smallDisk(t, "size=32m")
	fault := v.faulty()
	v.open()
	c := v.create("c", 1024, "l2")
	if held := allocated(v.w.ballast.name()); held < 32*mib/100*ballastPercent {
		t.Fatalf("the ballast has %d bytes of blocks", held)
	}
	fault.Down()
	vector := make([]float32, 1024)
	acked := map[string]item{}
	batch := func() error {
		rows := map[string]item{}
		for id := range some(len(acked), 40) {
			rows[id] = item{vector: vector}
		}
		err := v.upsert(c, rows)
		if err == nil {
			maps.Copy(acked, rows)
		}
		return err
	}
	var refused error
	for refused = batch(); refused == nil; refused = batch() {
		if v.state() == readOnly {
			t.Fatal("a write was taken though the disk is nearly full")
		}
	}
	definite := func(err error) {
		t.Helper()
		if e := asWriteError(err); e.Status != 507 || e.Code != "storage_full" || e.Applied != httpapi.NotApplied {
			t.Fatalf("got %v, want 507 storage_full, not applied", err)
		}
	}
	definite(refused)
	definite(batch())
	if v.state() != readOnly || v.w.ballast.held.Load() || allocated(v.w.ballast.name()) != 0 {
		t.Errorf("state %v, ballast held: %v", v.state(), v.w.ballast.held.Load())
	}
	if len(acked) < 4000 {
		t.Errorf("only %d rows fit", len(acked))
	}
	if err := compare(v.writerSees(c), acked); err != nil {
		t.Fatalf("with the disk full: %v", err)
	}
	v.kill() // and what was acknowledged is on that disk
	fault.Up()
	v.open()
	c = v.collection("c")
	if err := compare(v.writerSees(c), acked); err != nil {
		t.Fatalf("after a crash: %v", err)
	}
	v.settle(c, admitted)
	if err := batch(); err != nil {
		t.Fatal(err)
	}
	v.flush(c)
	v.check(c, acked)
	v.settle(c, admitted)
	if !v.w.ballast.held.Load() || allocated(v.w.ballast.name()) == 0 {
		t.Error("the ballast was not made again")
	}
}

// TestSomebodyElseFillsTheDisk takes it from ok over 429 to read-only and back.
func TestSomebodyElseFillsTheDisk(t *testing.T) {
	const mib = 1 << 20
	v := newWorld(t, func(c *Config) {
		c.WAL.FileBytes, c.FlushBytes, c.FlushAge = mib, 256<<10, time.Hour
		c.MaxLogBytes, c.BallastBytes, c.TierSegments = 8*mib, 256*mib, 1000
	})
	v.dir = smallDisk(t, "size=32m")
	fault := v.faulty()
	v.open()
	c := v.create("c", 1024, "l2")
	fault.Down()
	acked := map[string]item{}
	vector := make([]float32, 1024)
	write := func() *httpapi.Error {
		rows := map[string]item{}
		for id := range some(len(acked), 20) {
			rows[id] = item{vector: vector}
		}
		err := v.upsert(c, rows)
		if err == nil {
			maps.Copy(acked, rows)
			return nil
		}
		e := asWriteError(err)
		if e.Applied != httpapi.NotApplied {
			t.Fatalf("not definite: %v", err)
		}
		return e
	}
	e := write()
	for ; e == nil; e = write() {
	}
	if e.Status != 429 {
		t.Fatalf("got %v, want 429 first", e)
	}
	stranger := filler(t, v.dir, 256<<10)
	v.w.Sweep(context.Background())
	if e := write(); e == nil || e.Status != 507 {
		t.Fatalf("got %v, want 507 once the disk is full", e)
	}
	fault.Up()
	v.settle(c, admitted) // the log gives back more than the reserve
	if e := write(); e != nil {
		t.Fatal(e)
	}
	v.flush(c)
	v.check(c, acked)
	if err := os.Remove(stranger); err != nil {
		t.Fatal(err)
	}
	v.settle(c, admitted)
	v.check(c, acked)
}
