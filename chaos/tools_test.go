package chaos

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"github.com/akidb/akidb/internal/client"
	"github.com/akidb/akidb/internal/client/bulk"
	"github.com/akidb/akidb/segments/inspect"
)

// tools are the commands for looking inside, on one store and one server of it.
type tools struct {
	store  Options
	server *Server
}

func (o tools) run(t *testing.T, args ...string) Finished {
	t.Helper()
	switch args[0] {
	case "manifest", "segments":
		return akidb.Run(t, o.store.Env, append(append(args, "--store", o.store.Store), o.store.Args...)...)
	}
	return akidb.Run(t, nil, append(args, "--url", o.server.URL())...)
}

// tool runs a command, and reads what it prints as JSON, strictly.
func tool[T any](t *testing.T, o tools, args ...string) (v T) {
	t.Helper()
	f := o.run(t, append(args, "-o", "json")...)
	require.Zero(t, f.Code, "%s: %s", strings.Join(args, " "), f.Stderr)
	require.NoError(t, json.Unmarshal([]byte(f.Stdout), &v, json.RejectUnknownMembers(true)), f.Stdout)

	// The table is for people, but it is there.
	if table := o.tableOf(t, args); table != "" {
		require.NotContains(t, table, `{"`)
	}
	return v
}

// tableOf is the table of a command that may be run twice.
func (o tools) tableOf(t *testing.T, args []string) string {
	if !slices.Contains([]string{"list", "show", "history", "inspect"}, args[1]) || slices.Contains(args, "--rows") {
		return ""
	}
	f := o.run(t, args...)
	require.Zero(t, f.Code, f.Stderr)
	require.NotEmpty(t, f.Stdout)
	return f.Stdout
}

// rowsFile writes rows as JSON lines.
func rowsFile(t *testing.T, rows []Row) string {
	t.Helper()
	var b []byte
	for _, row := range rows {
		line, err := json.Marshal(row)
		require.NoError(t, err)
		b = append(append(b, line...), '\n')
	}
	path := filepath.Join(t.TempDir(), "rows.jsonl")
	require.NoError(t, os.WriteFile(path, b, 0o600))
	return path
}

// importReport is what import prints.
type importReport struct {
	Collection   string         `json:"collection"`
	CollectionID string         `json:"collection_id"`
	Files        []bulk.Summary `json:"files"`
	Rows         int            `json:"rows"`
	Skipped      int            `json:"rows_skipped"`
	Earlier      int            `json:"rows_done_earlier"`
	Bytes        int64          `json:"bytes_sent"`
	Seconds      float64        `json:"seconds"`
	RowsPerSec   float64        `json:"rows_per_second"`
	Flushed      bool           `json:"flushed"`
}

// What the other commands print is of types that they share with the rest, but for these.
type (
	collectionList struct {
		Collections []client.Collection `json:"collections"`
	}
	snapshotList struct {
		Snapshots []client.Snapshot `json:"snapshots"`
	}
	done struct {
		Done       string `json:"done"`
		Collection string `json:"collection"`
		Snapshot   string `json:"snapshot"`
	}
)

// What an operator does to collections and looks up in the store, beside the
// processes and after they are gone.
func TestTools(t *testing.T) {
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := tools{store: open(t)}
			writer := akidb.Start(t, "writer", o.store.with(noFlush...))
			o.server = akidb.Start(t, "query", o.store.with("--writer-url", writer.URL()))
			o.collections(t)
			o.restored(t)
			newest := o.inspected(t)

			require.Zero(t, tool[importReport](t, o, "import", rowsFile(t, numbered(0, 5)), "-c", "points").Skipped)
			writer.Kill()
			o.server.Kill()
			require.Equal(t, newest, tool[inspect.Manifest](t, o, "manifest", "show", "points"), "what was not flushed is not in the store")
		})
	}
}

// collections makes "points" with 600 rows, a snapshot "before" of them, ten
// rows replaced, ten deleted and ten more, and a branch "then" of the snapshot.
func (o tools) collections(t *testing.T) {
	created := tool[client.Collection](t, o, "collections", "create", "points", "--dimension", "3", "--metric", "l2")
	require.Equal(t, []any{"points", 3, "l2"}, []any{created.Name, created.Dimension, created.Metric})
	imported := tool[importReport](t, o, "import", rowsFile(t, numbered(0, 600)), "-c", "points", "--flush")
	require.Equal(t, 600, imported.Rows)
	taken := tool[client.Snapshot](t, o, "snapshots", "create", "points", "--name", "before")
	require.EqualValues(t, 600, taken.VectorCount)
	o.change(t)

	branch := tool[client.Collection](t, o, "collections", "branch", "points", "then", "--snapshot", "before")
	require.EqualValues(t, 600, branch.VectorCount)
	list := tool[collectionList](t, o, "collections", "list")
	require.Equal(t, []string{"points", "then"}, []string{list.Collections[0].Name, list.Collections[1].Name})
	require.EqualValues(t, 600, tool[client.Collection](t, o, "collections", "show", "points").VectorCount)
	require.EqualValues(t, taken.ManifestVersion, tool[client.Collection](t, o, "collections", "show", "points", "--as-of", "before").ManifestVersion)

	o.exported(t, "points", "", changedRows())
	o.exported(t, "points", "before", numbered(0, 600))
	o.exported(t, "then", "", numbered(0, 600))
	snapshots := tool[snapshotList](t, o, "snapshots", "list", "points")
	require.Equal(t, []client.Snapshot{taken}, snapshots.Snapshots, "those that exports took are gone")

	f := o.run(t, "collections", "delete", "points")
	require.Equal(t, 1, f.Code)
	require.Contains(t, f.Stderr, "collection_has_branches")
}

func (o tools) change(t *testing.T) {
	var replaced []Row
	for i := range 10 {
		replaced = append(replaced, Row{numbered(i, i+1)[0].ID, []float32{-1, float32(i), 0.1}, jsontext.Value(`{"number":-1}`)})
	}
	o.server.Upsert(t, "points", append(replaced, numbered(600, 610)...)...)
	var ids []string
	for _, row := range numbered(100, 110) {
		ids = append(ids, row.ID)
	}
	o.server.OK(t, "POST", "/collections/points/vectors/delete", map[string]any{"ids": ids}, nil)
}

func changedRows() []Row {
	rows := slices.Concat(numbered(0, 100), numbered(110, 610))
	for i := range 10 {
		rows[i] = Row{rows[i].ID, []float32{-1, float32(i), 0.1}, jsontext.Value(`{"number":-1}`)}
	}
	return rows
}

// exported writes a collection as it is or was to a file of either format, and
// imports that into another one, which has to have these rows to the bit.
func (o tools) exported(t *testing.T, name, asOf string, want []Row) {
	t.Helper()
	for i, format := range []string{"parquet", "jsonl"} {
		out := filepath.Join(t.TempDir(), "rows."+format)
		args := []string{"export", "--collection", name, "--out", out}
		if asOf != "" {
			args = append(args, "--as-of", asOf)
		}
		written := tool[bulk.Exported](t, o, args...)
		require.EqualValues(t, len(want), written.Rows)
		info, err := os.Stat(out)
		require.NoError(t, err)
		require.Equal(t, info.Size(), written.Bytes)

		again := []string{"again-p", "again-j"}[i]
		require.Equal(t, len(want), tool[importReport](t, o, "import", out, "-c", again, "--create").Rows)
		requireRows(t, want, o.server.Scroll(t, again, "latest", 1000))
		require.Equal(t, "deleted", tool[done](t, o, "collections", "delete", again).Done)
	}
}

func (o tools) restored(t *testing.T) {
	o.exported(t, "points", "", changedRows())
	kept := tool[client.Snapshot](t, o, "snapshots", "create", "points", "--export")
	restored := tool[client.Restored](t, o, "snapshots", "restore", "points", "before")
	require.EqualValues(t, 600, restored.VectorCount)
	o.exported(t, "points", "", numbered(0, 600))
	tool[client.Restored](t, o, "snapshots", "restore", "points", kept.ID)
	o.exported(t, "points", "", changedRows())
	require.Equal(t, "deleted", tool[done](t, o, "snapshots", "delete", "points", kept.ID).Done)
}

// inspected looks at the store itself, and returns the newest manifest.
func (o tools) inspected(t *testing.T) inspect.Manifest {
	o.server.Flush(t, "points")
	described := o.server.Collection(t, "points")
	m := tool[inspect.Manifest](t, o, "manifest", "show", "points")
	require.True(t, m.Current)
	require.Equal(t, described.ManifestVersion, m.Manifest.Version)
	require.EqualValues(t, described.VectorCount, m.Rows)
	require.Equal(t, described.SizeBytes > 0, m.Bytes > 0)
	var pins []string
	for _, pin := range m.Manifest.Pins {
		pins = append(pins, cmp.Or(pin.Name, "branch"))
	}
	slices.Sort(pins)
	require.Equal(t, []string{"before", "branch"}, slices.Compact(pins))

	h := tool[inspect.Versions](t, o, "manifest", "history", "points", "--limit", "0")
	require.Equal(t, "", h.Older)
	require.Len(t, h.Versions, int(m.Manifest.Version), "all there ever were")
	for i, v := range h.Versions {
		require.Equal(t, m.Manifest.Version-uint64(i), v.Version)
		require.Equal(t, m.Owner, v.Owner)
		at := tool[inspect.Manifest](t, o, "manifest", "show", described.ID, "--at", v.CreatedAt.Format("2006-01-02T15:04:05.999999999Z07:00"))
		require.GreaterOrEqual(t, at.Manifest.Version, v.Version)
		if i > 3 {
			continue
		}
		by := tool[inspect.Manifest](t, o, "manifest", "show", "points", "--version", strconv.FormatUint(v.Version, 10))
		require.Equal(t, []any{v.CommitID, v.Rows, v.Bytes}, []any{by.Manifest.CommitID, by.Rows, by.Bytes})
	}

	// Every row there is lies in some segment, with the sequence number and the vector it has.
	list := tool[inspect.SegmentList](t, o, "segments", "list", "points")
	require.Len(t, list.Segments, described.SegmentCount)
	var stored []Row
	for _, line := range list.Segments {
		seg := tool[inspect.Segment](t, o, "segments", "inspect", "points", line.ID, "--rows", "100000")
		require.Equal(t, line, seg.SegmentLine)
		require.Len(t, seg.First, int(line.Rows))
		for _, r := range seg.First {
			require.GreaterOrEqual(t, r.Seq, line.MinSeq)
			require.LessOrEqual(t, r.Seq, line.MaxSeq)
			if !r.Deleted {
				require.NoError(t, r.Metadata.Compact()) // it was indented like all that is printed
				stored = append(stored, Row{r.ID, r.Vector, r.Metadata})
			}
		}
	}
	slices.SortFunc(stored, func(a, b Row) int { return cmp.Compare(a.ID, b.ID) })
	requireRows(t, changedRows(), stored)

	foreign := tool[inspect.SegmentList](t, o, "segments", "list", "then")
	require.NotEmpty(t, foreign.Segments)
	require.True(t, foreign.Segments[0].Foreign)
	return m
}

// An export is a file of the lake like any other.
func TestExportedLake(t *testing.T) {
	t.Parallel()
	dev := akidb.Start(t, "dev", Options{Args: noFlush})
	dev.Create(t, "points", 3, "l2")
	want := numbered(0, 2500)
	dev.Upsert(t, "points", want...)
	out := filepath.Join(t.TempDir(), "points.parquet")
	akidb.OK(t, "export", "-c", "points", "--out", out, "--url", dev.URL())
	got := readSegments(t, out)
	require.Equal(t, []string{"VARCHAR", "FLOAT[]"}, got.DuckTypes)
	got.requireBoth(t, want)
	require.Len(t, got.Filtered, 25)
}
