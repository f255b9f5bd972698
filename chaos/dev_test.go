package chaos

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// noFlush keeps rows out of segments until a test asks for it.
var noFlush = []string{"--flush-age", "24h"}

// What was imported is found, whatever happens to the process, and by another
// one that has nothing but the store.
func TestDev(t *testing.T) {
	for name, open := range map[string]func(*testing.T) dataset{"clustered": clustered, "sift10k": sift10k} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := open(t)
			dev := akidb.Start(t, "dev", Options{Args: noFlush})
			data.load(t, dev, "points")
			data.requireFound(t, "imported", dev, "points")
			require.Zero(t, dev.Collection(t, "points").SegmentCount)
			dev.Kill()
			dev.Restart()
			data.requireFound(t, "killed before the flush", dev, "points")
			dev.Stop()
			dev.Restart()
			data.requireFound(t, "stopped before the flush", dev, "points")

			dev.Flush(t, "points")
			c := dev.Collection(t, "points")
			require.NotZero(t, c.SegmentCount)
			require.Zero(t, c.UnindexedCount)
			data.requireFound(t, "flushed", dev, "points")
			dev.Kill()
			dev.Restart()
			data.requireFound(t, "killed after the flush", dev, "points")
			dev.Stop()
			dev.Restart()
			data.requireFound(t, "stopped after the flush", dev, "points")

			query := akidb.Start(t, "query", Options{Store: "file://" + filepath.Join(dev.DataDir, "objects")})
			data.requireFound(t, "another process, beside it", query, "points")
			dev.Kill()
			query.Stop()
			query.Restart()
			data.requireFound(t, "another process, alone", query, "points")
		})
	}
}

// An import that is run again goes on where the last one ended: nowhere.
func TestImportAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := writeVecs(t, filepath.Join(dir, "few.fvecs"), [][]float32{{1, 2}, {3, 4}, {5, 6}})
	dev := akidb.Start(t, "dev", Options{Args: noFlush})
	arguments := []string{"import", file, "--url", dev.URL(), "--collection", "few", "--create"}
	akidb.OK(t, arguments...)
	before := dev.Collection(t, "few")
	akidb.OK(t, arguments...)
	after := dev.Collection(t, "few")
	require.Equal(t, 3, before.VectorCount)
	require.Equal(t, 3, after.VectorCount)

	f := akidb.Run(t, nil, append(arguments, "--metric", "cosine")...)
	require.Equal(t, 1, f.Code, f.Stderr)
	require.Contains(t, f.Stderr, "l2")
	require.Equal(t, after, dev.Collection(t, "few"))

	f = akidb.Run(t, nil, "import", file, "--collection", "few", "--restart", "--url", "http://127.0.0.1:1", "--retry-for", "1ms")
	require.Equal(t, 1, f.Code, f.Stderr)
	require.Contains(t, f.Stderr, "refused")
}

// The first thing a person tries prints a search that works as it is.
func TestDemo(t *testing.T) {
	t.Parallel()
	dev := akidb.Start(t, "dev", Options{Args: []string{"--demo"}})
	var pasted string
	Eventually(t, "the demo prints a search", func() bool {
		_, after, found := strings.Cut(dev.Output(), "curl -s ")
		line, _, whole := strings.Cut(after, "\n")
		pasted = line
		return found && whole
	})
	address, after, ok := strings.Cut(pasted, " -d '")
	require.True(t, ok, pasted)
	path := strings.TrimPrefix(address, dev.URL())
	require.NotEqual(t, address, path, pasted)
	a, err := dev.Send("POST", path, strings.TrimSuffix(after, "'"), "Content-Type", "application/x-www-form-urlencoded")
	require.NoError(t, err)
	require.Equal(t, 200, a.Status, a.String())
	require.Equal(t, 5, strings.Count(string(a.Body), `"score"`), a.String())
}
