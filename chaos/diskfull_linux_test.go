package chaos

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/akidb/akidb/segments/blob/s3test"
)

// cable is the network between a process and its store, which can be pulled.
type cable struct {
	listener net.Listener
	to       string

	mu     sync.Mutex
	pulled bool
	conns  map[net.Conn]bool
}

func newCable(t *testing.T, to string) *cable {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c := &cable{listener: ln, to: to, conns: map[net.Conn]bool{}}
	go c.serve()
	t.Cleanup(func() { _ = ln.Close(); c.pull() })
	return c
}

func (c *cable) serve() {
	for {
		near, err := c.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", c.to)
		if err != nil {
			_ = near.Close()
			continue
		}
		if !c.keep(near, far) {
			continue
		}
		for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
			go func() {
				_, _ = io.Copy(way[0], way[1])
				_, _ = way[0].Close(), way[1].Close()
			}()
		}
	}
}

// keep notes connections, or closes them when the cable is pulled.
func (c *cable) keep(conns ...net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range conns {
		if c.pulled {
			_ = conn.Close()
		}
		c.conns[conn] = true
	}
	return !c.pulled
}

func (c *cable) pull() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pulled = true
	for conn := range c.conns {
		_ = conn.Close()
	}
	clear(c.conns)
}

func (c *cable) plug() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pulled = false
}

// The store is away, the writer's disk fills up, the writer is killed and started
// again without the store, and the store comes back: every refusal is definite,
// nothing acknowledged is lost, and nobody has to do anything.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64m"); err != nil {
		t.Skipf("SKIPPED, the full disk is not tested: mounting a small filesystem takes root: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	e := s3test.Start(t)
	network := newCable(t, strings.TrimPrefix(e.URL, "http://"))
	o := Options{
		Store: "s3://" + e.Bucket + "/full", Env: e.Env(), DataDir: dir,
		Args: []string{"--s3-endpoint", "http://" + network.listener.Addr().String(), "--s3-region", e.Region, "--s3-path-style",
			"--wal-file-bytes", "4MiB", "--wal-max-bytes", "1GiB", "--flush-bytes", "1MiB", "--flush-age", "24h"},
	}
	writer := akidb.Start(t, "writer", o)
	const dim = 1024
	writer.Create(t, "points", dim, "l2")
	rows := func(from int) (rows []Row) {
		for i := from; i < from+100; i++ {
			r := Row{ID: fmt.Sprintf("row-%05d", i), Vector: make([]float32, dim)}
			r.Vector[i%dim] = float32(i + 1)
			rows = append(rows, r)
		}
		return rows
	}
	status := func() string { return string(writer.Call(t, "GET", "/health", nil).Body) }

	network.pull()
	var acked []Row
	// write sends the next rows once and returns the refusal, if it is one.
	write := func() int {
		batch := rows(len(acked))
		a := writer.Call(t, "POST", "/collections/points/vectors", map[string]any{"vectors": batch})
		if a.Status == 200 {
			acked = append(acked, batch...)
			return 200
		}
		require.Equal(t, "false", a.Header.Get(headerApplied), a.String())
		return a.Status
	}
	last := write()
	for last == 200 {
		last = write()
	}
	require.Equal(t, 507, last)
	require.Greater(t, len(acked), 5000)
	require.Contains(t, status(), "read_only")
	t.Logf("%d rows acknowledged on a disk of 64 MiB", len(acked))

	writer.Kill()
	writer.Restart()                                  // without the store
	for last = write(); last == 200; last = write() { // into what the end of the log has left
	}
	require.Equal(t, 507, last)
	network.plug()
	Eventually(t, "writes are taken again", func() bool { return write() == 200 })
	Eventually(t, "all is well", func() bool { return strings.Contains(status(), `"status":"ok"`) })
	writer.Flush(t, "points")
	writer.Kill()
	direct := o.with()
	direct.DataDir = ""
	direct.Args = []string{"--s3-endpoint", e.URL, "--s3-region", e.Region, "--s3-path-style"}
	requireRows(t, acked, akidb.Start(t, "query", direct).Scroll(t, "points", "latest", 1000))
}
