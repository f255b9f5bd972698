package chaos

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/akidb/akidb/segments/blob/s3test"
)

// asked is what a search found, and where.
type asked struct {
	Results []Hit
	Usage   struct {
		StoreGets int    `json:"store_gets"`
		Rounds    int    `json:"rounds"`
		Cache     string `json:"cache"`
	}
}

// askMany searches for the neighbours of a number of rows, and counts the
// answers by where they came from.
func askMany(t *testing.T, s *Server, collection string) (answers [][]Hit, from map[string]int) {
	t.Helper()
	from = map[string]int{}
	for i := range 50 {
		var got asked
		s.OK(t, "POST", "/collections/"+collection+"/search", map[string]any{"id": strconv.Itoa(i * 199), "k": 20}, &got)
		require.Len(t, got.Results, 20)
		require.Equal(t, got.Usage.Cache == "cold", got.Usage.Rounds > 0)
		answers = append(answers, got.Results)
		from[got.Usage.Cache]++
	}
	return answers, from
}

// settled waits until a process that was searched has its only segment in
// memory, and what it has read from the store on its disk.
func (s *Server) settled() {
	s.t.Helper()
	Eventually(s.t, "what was read from the store is on the disk", func() bool {
		loads, _ := s.metric("akidb_background_worker_runs_total", `worker="load"`, `result="ok"`)
		blocks, _ := s.metric("akidb_disk_cache_blocks")
		queued, found := s.metric("akidb_disk_cache_queued_bytes")
		return loads > 0 && blocks > 0 && found && queued == 0
	})
}

// A query process is killed and started again on what its disk has: nothing is
// read from the store but the manifest. Then the disk is damaged, and answers
// are the same, while the damage is counted and mended.
func TestDiskCacheOutlivesTheProcess(t *testing.T) {
	t.Parallel()
	d, o := clustered(t), onS3(s3test.Start(t))
	writer := akidb.Start(t, "writer", o)
	d.load(t, writer, "points")
	writer.Flush(t, "points")
	writer.OK(t, "POST", "/admin/collections/points/compact", nil, nil)
	dir := filepath.Join(t.TempDir(), "cache")
	q := akidb.Start(t, "query", o.with("--disk-cache-dir", dir, "--disk-cache-bytes", "64MiB", "--cache-bytes", "32MiB"))
	want, from := askMany(t, q, "points")
	require.Positive(t, from["cold"])
	q.settled()

	q.Kill()
	q.Restart()
	got, from := askMany(t, q, "points")
	require.Equal(t, want, got)
	require.Zero(t, from["cold"], "%v", from)
	require.Positive(t, from["warm"], "%v", from)
	reads, found := q.metric("akidb_cache_store_reads_total")
	require.True(t, found)
	require.Zero(t, reads)
	t.Logf("after a kill: %v, no read of the store", from)
	blocks, _ := q.metric("akidb_disk_cache_blocks")

	q.Kill()
	damaged := damage(t, dir)
	q.Restart()
	got, from = askMany(t, q, "points")
	require.Equal(t, want, got)
	reads, _ = q.metric("akidb_cache_store_reads_total")
	corrupt, _ := q.metric("akidb_disk_cache_dropped_total", `reason="corrupt"`)
	require.Positive(t, corrupt)
	require.Less(t, reads, blocks/2, "most of it was whole")
	on, _ := q.metric("akidb_disk_cache_state", `state="on"`)
	require.EqualValues(t, 1, on)
	t.Logf("after damage to %d bytes: %v, %v reads of the store, %v blocks were damaged", damaged, from, reads, corrupt)
	q.settled()

	q.Kill()
	q.Restart()
	got, from = askMany(t, q, "points")
	require.Equal(t, want, got)
	require.Zero(t, from["cold"], "the damage was not mended: %v", from)
}

// damage changes a byte in every 128 KiB or so of every slab.
func damage(t *testing.T, dir string) (bytes int) {
	t.Helper()
	slabs, err := filepath.Glob(filepath.Join(dir, "slab-*.akidb"))
	require.NoError(t, err)
	require.NotEmpty(t, slabs)
	rng := rand.New(rand.NewPCG(1, 2))
	for _, slab := range slabs {
		b, err := os.ReadFile(slab)
		require.NoError(t, err)
		for at := 64 + rng.IntN(64<<10); at < len(b); at += 1 + rng.IntN(256<<10) {
			b[at] ^= 1 << rng.IntN(8)
			bytes++
		}
		require.NoError(t, os.WriteFile(slab, b, 0o600))
	}
	return bytes
}
