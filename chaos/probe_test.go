package chaos

import (
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/akidb/akidb/segments/blob/s3test"
)

// A writer refuses a store whose conditional puts are not atomic: a real one,
// versitygw 1.7.0, which answers right as long as nobody races. Nothing is left
// in it. The next version it takes.
func TestUnsoundStoreIsRefused(t *testing.T) {
	t.Parallel()
	e := s3test.StartUnsound(t)
	o := onS3(e)
	for _, command := range [][]string{{"writer"}, {"dev"}, {"takeover", "--accept-loss"}} {
		args := append(command, "--store", o.Store, "--data-dir", t.TempDir())
		if command[0] != "takeover" {
			args = append(args, "--http-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0")
		}
		f := akidb.Run(t, o.Env, append(args, o.Args...)...)
		require.Equal(t, 1, f.Code, f.Stderr)
		require.Regexp(t, `unsound store: \d+ of 16 racing conditional puts \(If-(None-)?Match.*\) succeeded; `+
			`this store's conditional writes are not atomic and would lose data\. Use another store, or `, f.Stderr)
	}
	require.NoError(t, filepath.WalkDir(e.Dir, func(path string, d fs.DirEntry, err error) error {
		require.True(t, err != nil || d.IsDir(), path)
		return err
	}))

	sound := akidb.Start(t, "writer", onS3(s3test.Start(t)))
	sound.Create(t, "points", 3, "l2")
}
