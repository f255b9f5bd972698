package main

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/verify"
)

// What verify is told reaches the check, and what that finds decides how it ends.
func TestVerify(t *testing.T) {
	dir := t.TempDir()
	var got verify.Options
	report := &verify.Report{Collections: []verify.Collection{{ID: "ID", Name: "movies", Version: 3, Chain: 3, Rows: 7, Bytes: 2048, Dropped: true}}}
	var failure error
	do := func(want int, args ...string) (stdout, stderr string) {
		t.Helper()
		root := &cobra.Command{Use: "akidb", SilenceErrors: true, SilenceUsage: true}
		root.AddCommand(verifyCommand(func(ctx context.Context, store blob.Store, opts verify.Options) (*verify.Report, error) {
			got = opts
			_, _, err := store.Get(ctx, "nothing")
			require.ErrorIs(t, err, blob.ErrNotFound)
			return report, failure
		}))
		var out, errs bytes.Buffer
		code := execute(t.Context(), root, append([]string{"verify", "--store", "file://" + dir}, args...), &out, &errs)
		require.Equal(t, want, code, errs.String())
		return out.String(), errs.String()
	}
	stdout, _ := do(0)
	require.Equal(t, `COLLECTION        ID  VERSION  VERSIONS  PINS  SEGMENTS  ROWS  OBJECTS  SIZE     ORPHANS  IN FLIGHT  FOREIGN
movies (dropped)  ID  3        3         0     0         7     0        2.0 KiB  0        0          0
`, stdout)
	require.Equal(t, verify.Options{OrphanGrace: 2 * time.Hour}, got)
	stdout, _ = do(0, "-o", "json", "--collection", "movies", "-c", "a,b", "--shallow", "--orphan-grace", "5m")
	require.Equal(t, verify.Options{Collections: []string{"movies", "a,b"}, Shallow: true, OrphanGrace: 5 * time.Minute}, got)
	require.Equal(t, report.Collections, parsed[verify.Report](t, stdout).Collections)
	require.Contains(t, stdout, `"problems": []`)

	report.Problems = []verify.Problem{{Collection: "ID", Key: "collections/ID/x", What: "is gone"}, {Collection: "ID", What: "odd"}, {What: "very odd"}}
	stdout, stderr := do(exitVerificationFailed)
	require.Contains(t, stdout, "PROBLEM: collections/ID/x: is gone\nPROBLEM: collection ID: odd\nPROBLEM: very odd\n")
	require.Equal(t, "akidb: verify: the store is not whole: 3 problems\n", stderr)
	stdout, _ = do(exitVerificationFailed, "-o", "json")
	require.Equal(t, *report, parsed[verify.Report](t, stdout))

	failure = errors.New("the store is away")
	stdout, stderr = do(exitFailed)
	require.Empty(t, stdout)
	require.Equal(t, "akidb: the store is away\n", stderr)
	_, stderr = do(exitUsage, "--orphan-grace", "0s")
	require.Contains(t, stderr, "--orphan-grace is 0s")
	_, stderr = do(exitUsage, "extra")
	require.Contains(t, stderr, `unknown command "extra"`)
}
