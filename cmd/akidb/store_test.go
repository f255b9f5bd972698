package main

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/inspect"
)

// inProcess runs akidb in this process.
func inProcess(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(context.Background(), args, &out, &errs)
	return code, out.String(), errs.String()
}

// The tools look at the store of a dev beside it and after it, by any way of
// saying where it is.
func TestStoreTools(t *testing.T) {
	cacheDir(t)
	dir := t.TempDir()
	dev := serve(t, "dev", "--data-dir", dir, "--flush-age", "24h")
	base := writeVectors(t, filepath.Join(dir, "base.fvecs"), 300)
	few := writeVectors(t, filepath.Join(dir, "few.fvecs"), 10)
	for _, args := range [][]string{
		{"import", base, "-c", "x", "--create", "--flush"},
		{"import", few, "-c", "x", "--flush", "--id-prefix", "q"},
		{"import", few, "-c", "x", "--flush", "--restart"}, // replaces ten of the first
		{"snapshots", "create", "x", "--name", "kept"},
	} {
		code, _, stderr := inProcess(append(args, "--url", dev.http)...)
		require.Zero(t, code, stderr)
	}
	tool := func(want int, args ...string) string {
		t.Helper()
		code, stdout, stderr := inProcess(append(args, "--data-dir", dir)...)
		require.Equal(t, want, code, stderr)
		return stdout + stderr
	}

	m := parsed[inspect.Manifest](t, tool(0, "manifest", "show", "x", "-o", "json"))
	require.True(t, m.Current)
	require.EqualValues(t, 310, m.Rows)
	require.NotEmpty(t, m.Owner)
	require.Equal(t, "kept", m.Manifest.Pins[0].Name)
	newest := m.Manifest
	require.Contains(t, tool(0, "manifest", "show", "x"), "snapshot "+newest.Pins[0].ID+" kept: version ")
	m = parsed[inspect.Manifest](t, tool(0, "manifest", "show", "x", "--version", "1", "-o", "json"))
	require.False(t, m.Current)
	require.Zero(t, m.Rows)
	m = parsed[inspect.Manifest](t, tool(0, "manifest", "show", newest.Collection.ID, "--at", newest.CreatedAt.Format("2006-01-02T15:04:05.999999999Z07:00"), "-o", "json"))
	require.Equal(t, newest.Version, m.Manifest.Version)

	h := parsed[inspect.Versions](t, tool(0, "manifest", "history", "x", "-o", "json"))
	require.Equal(t, "", h.Older)
	require.Equal(t, newest.Version, h.Versions[0].Version)
	require.Len(t, h.Versions, int(newest.Version))
	require.Equal(t, 1, h.Versions[0].Pins)
	table := tool(0, "manifest", "history", "x", "--limit", "2")
	require.Equal(t, 4, strings.Count(table, "\n"), table)
	require.True(t, strings.HasSuffix(table, "older ones were not asked for (--limit)\n"), table)

	list := parsed[inspect.SegmentList](t, tool(0, "segments", "list", "x", "-o", "json"))
	rows, deleted := 0, 0
	var replaced inspect.SegmentLine
	for _, line := range list.Segments {
		rows, deleted = rows+int(line.Rows), deleted+int(line.Deleted)
		if line.Deleted > 0 {
			replaced = line
		}
	}
	require.Equal(t, []int{320, 10}, []int{rows, deleted})
	require.Equal(t, len(list.Segments)+1, strings.Count(tool(0, "segments", "list", "x"), "\n"))
	list = parsed[inspect.SegmentList](t, tool(0, "segments", "list", "x", "--version", "1", "-o", "json"))
	require.Empty(t, list.Segments)

	seg := parsed[inspect.Segment](t, tool(0, "segments", "inspect", "x", replaced.ID, "--rows", "1000", "-o", "json"))
	require.Equal(t, replaced, seg.SegmentLine)
	require.Len(t, seg.First, 300)
	require.NotNil(t, seg.Deletes)
	gone := 0
	for _, r := range seg.First {
		if r.Deleted {
			require.Len(t, r.ID, 1, "the rows 0 to 9 were replaced")
			gone++
		}
	}
	require.Equal(t, 10, gone)
	text := tool(0, "segments", "inspect", "x", replaced.ID, "--rows", "3")
	require.Contains(t, text, "rows     300, 10 of them deleted, seqs 1-300\n")
	require.Contains(t, text, "ROW")

	for _, c := range []struct {
		code int
		args string
		want string
	}{
		{exitFailed, "manifest show nobody", `collection "nobody": no such collection`},
		{exitFailed, "manifest show x --version 99", "no such version"},
		{exitFailed, "manifest show x --at 1999-01-01T00:00:00Z", "no such version"},
		{exitUsage, "manifest show x --at yesterday", `--at is "yesterday", want a time`},
		{exitUsage, "manifest show x --at 2026-01-31T12:00:00Z --version 1", "none of the others can be"},
		{exitUsage, "manifest history x --limit -1", "--limit is -1"},
		{exitUsage, "segments inspect x", "accepts 2 arg(s)"},
		{exitFailed, "segments inspect x nothing", "want 1"},
		{exitUsage, "segments list x --store ftp://x", "store is"},
		{exitUsage, "segments list x --http-addr :1", "unknown flag"},
	} {
		require.Contains(t, tool(c.code, strings.Fields(c.args)...), c.want, c.args)
	}

	// Alone, and by environment and file; the server's own settings there mean nothing to a tool.
	require.Zero(t, dev.stop(t, syscall.SIGTERM))
	before := tool(0, "manifest", "show", "x", "-o", "json")
	t.Setenv("AKIDB_STORE", "file://"+filepath.Join(dir, "objects"))
	t.Setenv("AKIDB_FLUSH_AGE", "24h")
	code, stdout, stderr := inProcess("manifest", "show", "x", "-o", "json")
	require.Zero(t, code, stderr)
	require.Equal(t, before, stdout)
	t.Setenv("AKIDB_STORE", "")
	file := filepath.Join(dir, "akidb.toml")
	require.NoError(t, os.WriteFile(file, []byte("data-dir = '"+dir+"'\nlog-level = 'warn'\n"), 0o600))
	code, stdout, stderr = inProcess("manifest", "show", "x", "-o", "json", "--config", file)
	require.Zero(t, code, stderr)
	require.Equal(t, before, stdout)

	// A store that is not there is not made.
	missing := filepath.Join(dir, "missing")
	code, _, stderr = inProcess("segments", "list", "x", "--store", "file://"+missing)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "no such file")
	require.NoDirExists(t, missing)
}

// What a newer program wrote is not an error of the store.
func TestStoreToolsMeetANewerFormat(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "objects", "collections", "ID", "CURRENT")
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	text := "{\n  \"format\": 99"
	text += fmt.Sprintf(",\n  \"crc32c\": \"%08x\"\n}\n", crc32.Checksum([]byte(text), blob.Castagnoli))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	code, _, stderr := inProcess("manifest", "show", "ID", "--data-dir", dir)
	require.Equal(t, exitUnsupported, code, stderr)
	require.Contains(t, stderr, "unsupported format")
}
