package chaos

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// A writer is stopped in the middle of its work, its collections are given to
// another, and it goes on: it must not acknowledge anything any more and end
// with exit code 3, and the other's history is its own alone.
func TestZombie(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("SKIPPED: whether a process is stopped is read from /proc")
	}
	t.Parallel()
	o := stores["file"](t)
	zombie := akidb.Start(t, "writer", o.with(noFlush...))
	t.Cleanup(func() { _ = zombie.current().cmd.Process.Signal(syscall.SIGCONT) }) // or it cannot end
	zombie.Create(t, "points", 3, "l2")

	var stopped atomic.Bool
	var acked, late atomic.Int64 // late: of writes sent when it was already stopped
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() {
			for n := 0; ; n++ {
				after := stopped.Load()
				a, err := zombie.Send("POST", "/api/v1/collections/points/vectors", small(fmt.Sprintf("old-%d-%05d", i, n), n))
				switch {
				case err != nil: // it is gone
					return
				case a.Status == 200 && after:
					late.Add(1)
				case a.Status == 200:
					acked.Add(1)
				}
			}
		})
	}
	Eventually(t, "it works", func() bool { return acked.Load() > 200 })
	zombie.Flush(t, "points")
	more := acked.Load() + 200
	Eventually(t, "it works on", func() bool { return acked.Load() > more })
	zombie.Pause()
	Eventually(t, "it is stopped", func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", zombie.current().cmd.Process.Pid))
		return err == nil && bytes.Contains(b, []byte(") T "))
	})
	stopped.Store(true)

	dir := filepath.Join(t.TempDir(), "heir")
	akidb.OK(t, "takeover", "--accept-loss", "--data-dir", dir, "--store", o.Store)
	heir := akidb.Start(t, "writer", Options{DataDir: dir, Store: o.Store, Args: noFlush})
	alone := akidb.Start(t, "query", o.with("--writer-url", heir.URL()))
	inherited := alone.Scroll(t, "points", "strong", 1000)
	require.NotEmpty(t, inherited, "something was flushed")
	heir.Upsert(t, "points", numbered(0, 100)...)
	heir.Flush(t, "points")
	heir.Upsert(t, "points", numbered(100, 200)...)
	want := append(inherited, numbered(0, 200)...)

	// These wait in its sockets when it goes on.
	const waiting = 32
	var asked atomic.Int64
	for i := range waiting {
		clients.Go(func() {
			if a, err := zombie.Send("POST", "/api/v1/collections/points/vectors", small(fmt.Sprintf("late-%d", i), i)); err == nil && a.Status == 200 {
				late.Add(1)
			}
			asked.Add(1)
		})
	}
	before := acked.Load()
	zombie.Signal(syscall.SIGCONT)
	require.Equal(t, 3, zombie.Wait(), "exit code")
	clients.Wait()
	require.EqualValues(t, waiting, asked.Load(), "writes that waited for it")
	require.Zero(t, late.Load(), "writes that it acknowledged after it was taken over")
	t.Logf("%d acknowledged before the stop, %d of those under way at it after", before, acked.Load()-before)

	requireRows(t, want, alone.Scroll(t, "points", "strong", 1000))
	heir.Kill()
	heir.Restart()
	requireFresh(t, "the zombie's end", alone, want)
	alone.Flush(t, "points")
	requireRows(t, want, akidb.Start(t, "query", Options{Store: o.Store}).Scroll(t, "points", "latest", 1000))
	code := akidb.Run(t, nil, "writer", "--data-dir", zombie.DataDir, "--store", o.Store, "--http-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0")
	require.Equal(t, 3, code.Code, "the zombie, started again")
}
