package main

import (
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"github.com/akidb/akidb/internal/client"
	"github.com/akidb/akidb/internal/client/clienttest"
)

// parsed is what was printed as JSON, read strictly.
func parsed[T any](t *testing.T, text string) (v T) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(text), &v, json.RejectUnknownMembers(true)), text)
	return v
}

func TestCollections(t *testing.T) {
	s := clienttest.New(t)
	do := func(want int, args ...string) string {
		t.Helper()
		code, stdout, stderr := against(t, s, append([]string{"collections"}, args...)...)
		require.Equal(t, want, code, stderr)
		return stdout + stderr
	}
	require.Equal(t, "NAME  DIMENSION  METRIC  ROWS  UNINDEXED  SEGMENTS  SIZE  TIER  VERSION  ID\n", do(0, "list"))
	require.Equal(t, "{\n  \"collections\": []\n}\n", do(0, "list", "-o", "json"))
	require.Equal(t, `name       movies
id         c-1
dimension  3
metric     cosine
rows       0, 0 of them not in segments yet
segments   0, 0 B
tier       
version    0
seq        0
created    0001-01-01T00:00:00.000Z
`, do(0, "create", "movies", "--dimension", "3", "--metric", "cosine"))
	require.Contains(t, do(exitFailed, "create", "movies", "--dimension", "3", "--metric", "cosine"), "409")
	require.Contains(t, do(exitUsage, "create", "movies"), `required flag(s) "dimension", "metric" not set`)
	require.Contains(t, do(exitUsage, "create", "--dimension", "3", "--metric", "l2"), "accepts 1 arg(s), received 0")
	require.Contains(t, do(exitUsage, "show"), "accepts 1 arg(s)")
	require.Contains(t, do(exitUsage, "shwo"), "did you mean show?")
	require.Contains(t, do(exitUsage, "list", "-o", "xml"), "want table|json")

	c := parsed[client.Collection](t, do(0, "show", "movies", "-o", "json"))
	require.Equal(t, []any{"c-1", "movies", 3}, []any{c.ID, c.Name, c.Dimension})
	code, _, stderr := against(t, s, "snapshots", "create", "movies", "--name", "then")
	require.Zero(t, code, stderr)
	c = parsed[client.Collection](t, do(0, "show", "movies", "--as-of", "then", "-o", "json"))
	require.Contains(t, do(exitFailed, "show", "movies", "--as-of", "never"), "404 snapshot_not_found")
	c = parsed[client.Collection](t, do(0, "branch", "movies", "now", "-o", "json"))
	require.Equal(t, []any{"c-2", "now"}, []any{c.ID, c.Name})
	require.Contains(t, do(0, "branch", "movies", "past", "--snapshot", "then"), "c-3")
	require.Contains(t, do(exitFailed, "branch", "movies", "x", "--snapshot", "never"), "404 snapshot_not_found")
	list := parsed[collectionList](t, do(0, "list", "-o", "json"))
	require.Len(t, list.Collections, 3)
	require.Equal(t, 4, strings.Count(do(0, "list"), "\n"))

	require.Equal(t, "collection \"now\" deleted\n", do(0, "delete", "now"))
	done := parsed[said](t, do(0, "delete", "past", "-o", "json"))
	require.Equal(t, said{Done: "deleted", Collection: "past"}, done)
	require.Contains(t, do(exitFailed, "delete", "past"), "404 collection_not_found")
	require.Contains(t, do(exitUsage, "list", "--url", "nowhere"), "want http://host:port")
}

func TestSnapshots(t *testing.T) {
	s := loaded(t, 5)
	do := func(want int, args ...string) string {
		t.Helper()
		code, stdout, stderr := against(t, s, append([]string{"snapshots"}, args...)...)
		require.Equal(t, want, code, stderr)
		return stdout + stderr
	}
	require.Equal(t, "ID   NAME  ROWS  VERSION  CREATED\ns-1        5     2        2026-01-31T12:00:00.000Z\n", do(0, "create", "x"))
	taken := parsed[client.Snapshot](t, do(0, "create", "x", "--name", "kept", "--export", "-o", "json"))
	require.Equal(t, []any{"s-2", "kept", int64(5)}, []any{taken.ID, taken.Name, taken.VectorCount})
	require.Contains(t, do(exitFailed, "create", "x", "--name", "kept"), "409 name_taken")
	list := parsed[snapshotList](t, do(0, "list", "x", "-o", "json"))
	require.Equal(t, taken, list.Snapshots[1])
	require.Equal(t, 3, strings.Count(do(0, "list", "x"), "\n"))

	require.Equal(t, "collection \"x\" has the 5 rows of snapshot s-2 again, as version 9; token 1-9\n", do(0, "restore", "x", "latest"))
	restored := parsed[client.Restored](t, do(0, "restore", "x", "kept", "-o", "json"))
	require.Equal(t, client.Restored{SnapshotID: "s-2", VectorCount: 5, ManifestVersion: 9, Token: "1-9"}, restored)
	require.Contains(t, do(exitFailed, "restore", "x", "never"), "404 snapshot_not_found")
	require.Contains(t, do(exitUsage, "restore", "x"), "accepts 2 arg(s), received 1")

	require.Equal(t, "snapshot \"s-1\" of collection \"x\" deleted\n", do(0, "delete", "x", "s-1"))
	done := parsed[said](t, do(0, "delete", "x", "latest", "-o", "json"))
	require.Equal(t, said{Done: "deleted", Collection: "x", SnapshotName: "latest"}, done)
	require.Contains(t, do(exitFailed, "delete", "x", "latest"), "404 snapshot_not_found")
	require.Equal(t, "{\n  \"snapshots\": []\n}\n", do(0, "list", "x", "-o", "json"))
}
