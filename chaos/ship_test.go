package chaos

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A writer is killed and its disk is lost while clients write. A takeover into
// an empty directory brings back everything that was acknowledged before what
// the lag in the last scrape says, and of what came later a part without holes
// that ends where the takeover says.
func TestDiskLost(t *testing.T) {
	for name, flags := range map[string][]string{
		"nothing flushed": noFlush,
		"often flushed":   {"--flush-bytes", "32KiB", "--flush-age", "300ms", "--wal-file-bytes", "1MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := stores["s3"](t)
			o.DataDir = filepath.Join(t.TempDir(), "lost")
			writer := akidb.Start(t, "writer", o.with(flags...))
			writer.Create(t, "points", 3, "l2")
			l := &losing{writer: writer, acked: map[string]ack{}, sent: map[string]Row{}}
			var clients sync.WaitGroup
			for i := range 4 {
				clients.Go(func() { l.write(t, i) })
			}
			var scraped time.Time
			var lag time.Duration
			Eventually(t, "a copy that keeps up with 200 acknowledged writes", func() bool {
				scraped = time.Now()
				lag = shipLag(t, writer)
				return lag < 500*time.Millisecond && l.ackedBefore(scraped.Add(-lag)) >= 200
			})
			writer.Kill()
			clients.Wait()
			require.NoError(t, os.RemoveAll(writer.DataDir))

			fresh := o
			fresh.DataDir = filepath.Join(t.TempDir(), "fresh")
			where := append([]string{"--data-dir", fresh.DataDir, "--store", o.Store}, o.Args...)
			f := akidb.Run(t, o.Env, append(append([]string{"writer"}, where...), anyPorts...)...)
			require.Equal(t, 3, f.Code, f.Stderr)
			require.Contains(t, f.Stderr, "recovers what that writer shipped of its log to the store")
			f = akidb.Run(t, o.Env, append([]string{"takeover", "--accept-loss"}, where...)...)
			require.Equal(t, 0, f.Code, f.Stderr)
			require.NotContains(t, f.Stdout, "NOT COMPLETE")
			m := regexp.MustCompile(`token greater than ([0-9]+)\.([0-9]+)\)`).FindStringSubmatch(f.Stdout)
			require.NotNil(t, m, f.Stdout)
			through, err := strconv.ParseUint(m[2], 10, 64)
			require.NoError(t, err)

			again := akidb.Start(t, "writer", fresh.with(flags...))
			query := akidb.Start(t, "query", Options{Store: o.Store, Env: o.Env, Args: append(o.Args, "--writer-url", again.URL())})
			found := map[string]bool{}
			for _, row := range query.Scroll(t, "points", "strong", 1000) {
				require.Equal(t, l.sent[row.ID].content(), row.content(), row.ID)
				found[row.ID] = true
			}
			kept := 0
			for id, a := range l.acked {
				require.Equal(t, a.seq <= through, found[id], "%s, seq %d, acknowledged %v before the kill: recovered through %d", id, a.seq, scraped.Sub(a.at), through)
				if a.at.Before(scraped.Add(-lag)) {
					require.True(t, found[id], "%s, seq %d, acknowledged %v before the scrape, which said a lag of %v", id, a.seq, scraped.Sub(a.at), lag)
				}
				if found[id] {
					kept++
				}
			}
			require.Len(t, found, int(through), "one row a sequence number")
			again.Upsert(t, "points", small("after", 1))
			require.Equal(t, int(through)+1, query.Count(t, "points", "strong"))
			t.Logf("lag %v; %d of %d acknowledged writes are there, and %d of unknown fate\n%s", lag, kept, len(l.acked), len(found)-kept, f.Stdout)
		})
	}
}

type losing struct {
	writer *Server

	mu    sync.Mutex
	acked map[string]ack
	sent  map[string]Row
}

// ack is when a write was acknowledged, at the latest, and with which number.
type ack struct {
	at  time.Time
	seq uint64
}

// write writes rows, one at a time, each once, until the writer is gone.
func (l *losing) write(t *testing.T, client int) {
	for n := 0; ; n++ {
		row := small(fmt.Sprintf("row-%d-%06d", client, n), n)
		l.mu.Lock()
		l.sent[row.ID] = row
		l.mu.Unlock()
		a, err := l.writer.Send("POST", "/api/v1/collections/points/vectors", map[string]any{"vectors": []Row{row}})
		if err != nil {
			return
		}
		at := time.Now()
		var got struct{ Token string }
		if a.Status == 429 || a.Status == 503 {
			continue
		}
		if err := decode(a.Body, &got); a.Status != 200 || err != nil {
			t.Errorf("write: %v, %v", a, err)
			return
		}
		_, seq, _ := strings.Cut(got.Token, ".")
		number, err := strconv.ParseUint(seq, 10, 64)
		if err != nil {
			t.Errorf("token %q", got.Token)
			return
		}
		l.mu.Lock()
		l.acked[row.ID] = ack{at, number}
		l.mu.Unlock()
	}
}

func (l *losing) ackedBefore(limit time.Time) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.acked {
		if a.at.Before(limit) {
			n++
		}
	}
	return n
}

// shipLag is what losing the disk would cost, as the writer has it.
func shipLag(t *testing.T, s *Server) time.Duration {
	t.Helper()
	resp, err := s.client.Get("http://" + s.Admin + "/metrics")
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	m := regexp.MustCompile(`(?m)^akidb_wal_ship_lag_seconds (\S+)$`).FindSubmatch(text)
	require.NotNil(t, m, "the writer does not ship its log")
	seconds, err := strconv.ParseFloat(string(m[1]), 64)
	require.NoError(t, err)
	return time.Duration(seconds * float64(time.Second))
}
