package chaos

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/akidb/akidb/segments/blob/s3test"
)

// The disk that the cache is on is full from the start: searches do not notice.
// When there is room, it is used.
func TestDiskCacheOnAFullDisk(t *testing.T) {
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=32m"); err != nil {
		t.Skipf("SKIPPED, the full disk is not tested: mounting a small filesystem takes root: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(disk, unix.MNT_DETACH) })
	d, o := clustered(t), onS3(s3test.Start(t))
	writer := akidb.Start(t, "writer", o)
	d.load(t, writer, "points")
	writer.Flush(t, "points")
	want, _ := askMany(t, akidb.Start(t, "query", o), "points")

	full := filepath.Join(disk, "full")
	filler, err := os.Create(full)
	require.NoError(t, err)
	for block := make([]byte, 64<<10); err == nil; {
		_, err = filler.Write(block)
	}
	require.True(t, errors.Is(err, syscall.ENOSPC), "%v", err)
	require.NoError(t, filler.Close())

	// Of so little memory that the second time most of it is not there any more.
	q := akidb.Start(t, "query", o.with("--disk-cache-dir", filepath.Join(disk, "cache"), "--disk-cache-bytes", "16MiB", "--cache-bytes", "1MiB"))
	for range 2 {
		got, from := askMany(t, q, "points")
		require.Equal(t, want, got)
		require.Zero(t, from["warm"], "%v", from)
	}
	blocks, found := q.metric("akidb_disk_cache_blocks")
	require.True(t, found)
	require.Zero(t, blocks)
	require.NoError(t, os.Remove(full))
	Eventually(t, "searches are warm", func() bool {
		got, from := askMany(t, q, "points")
		require.Equal(t, want, got)
		return from["warm"] > 0
	})
	q.Kill()
	q.Restart()
	got, from := askMany(t, q, "points")
	require.Equal(t, want, got)
	require.Positive(t, from["warm"], "%v", from)
}
