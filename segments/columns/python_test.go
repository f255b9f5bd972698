package columns

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// runPython runs a script of testdata. Without Python or its packages the test
// is skipped, unless AKIDB_TEST_REQUIRE_PYTHON=1 makes that a failure.
func runPython(t *testing.T, script, argument string) []byte {
	t.Helper()
	if out, err := exec.Command("python3", "-c", "import duckdb, pyarrow").CombinedOutput(); err != nil {
		reason := fmt.Sprintf("python3 with duckdb and pyarrow is not here: %v %s", err, out)
		if os.Getenv("AKIDB_TEST_REQUIRE_PYTHON") == "1" {
			t.Fatal(reason)
		}
		t.Skip(reason)
	}
	out, err := exec.Command("python3", filepath.Join("testdata", script), argument).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		t.Fatalf("%s: %v\n%s", script, err, exit.Stderr)
	}
	require.NoError(t, err)
	return out
}

// Other tools read our files: right types, right values.
func TestOtherToolsReadOurs(t *testing.T) {
	for _, size := range []struct{ rows, dimension int }{{0, 3}, {1, 1}, {3000, 7}, {50, 768}, {3, 16384}} {
		t.Run(fmt.Sprintf("%dx%d", size.rows, size.dimension), func(t *testing.T) {
			rows := makeRows(rand.New(rand.NewPCG(21, uint64(size.rows))), size.rows, size.dimension)
			for i := range rows {
				rows[i].ID = fmt.Sprintf("row-%d", i)
			}
			path := filepath.Join(t.TempDir(), "data.parquet")
			require.NoError(t, os.WriteFile(path, writeFile(t, size.dimension, rows), 0o600))
			var got struct {
				DuckTypes []string          `json:"duckdb_types"`
				DuckRows  []json.RawMessage `json:"duckdb_rows"`
				Found     [][]uint64        `json:"duckdb_found"`
				JSON      int               `json:"duckdb_json"`
				Types     []string          `json:"arrow_types"`
				Rows      []json.RawMessage `json:"arrow_rows"`
			}
			require.NoError(t, json.Unmarshal(runPython(t, "read_back.py", path), &got))
			require.Equal(t, []string{"VARCHAR", "FLOAT[]", "VARCHAR", "UBIGINT"}, got.DuckTypes)
			require.Equal(t, []string{"string", "list<element: float not null>", "string", "uint64"}, got.Types)
			for _, read := range [][]json.RawMessage{got.DuckRows, got.Rows} {
				require.Len(t, read, len(rows))
				for i, raw := range read {
					var metadata *string
					var r Row
					require.NoError(t, json.Unmarshal(raw, &[]any{&r.ID, &r.Vector, &metadata, &r.Seq}))
					if metadata != nil {
						r.Metadata = []byte(*metadata)
					}
					requireRow(t, rows[i], r)
				}
			}
			if size.rows > 7 { // a pruned scan must not lose rows
				require.Equal(t, [][]uint64{{rows[7].Seq}}, got.Found)
				require.Equal(t, 1, got.JSON)
			}
		})
	}
}

// Files of other tools are imported: every type, list shape and codec.
func TestImportOtherTools(t *testing.T) {
	folder := t.TempDir()
	runPython(t, "make_imports.py", folder)
	files, err := filepath.Glob(filepath.Join(folder, "*.parquet"))
	require.NoError(t, err)
	require.Greater(t, len(files), 15)
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".parquet"), func(t *testing.T) {
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			text, err := os.ReadFile(strings.TrimSuffix(path, ".parquet") + ".json")
			require.NoError(t, err)
			var want []json.RawMessage
			require.NoError(t, json.Unmarshal(text, &want))
			im, err := OpenImport(bytes.NewReader(b), int64(len(b)), ImportConfig{})
			require.NoError(t, err)
			require.EqualValues(t, len(want), im.Rows())
			for _, first := range []int{0, 1, len(want) / 2, len(want)} {
				next := first
				require.NoError(t, im.Scan(int64(first), func(rows []ImportRow) error {
					for _, row := range rows {
						require.NoError(t, row.Err)
						require.EqualValues(t, next, row.Number)
						requireImported(t, want[next], row.Row)
						next++
					}
					return nil
				}))
				require.Equal(t, len(want), next)
			}
		})
	}
}

func requireImported(t *testing.T, want json.RawMessage, got Row) {
	t.Helper()
	require.NoError(t, ValidateMetadata(got.Metadata, 1<<20), "%s", got.Metadata)
	metadata := slices.Clone(got.Metadata)
	if metadata == nil {
		metadata = []byte("null")
	}
	require.JSONEq(t, string(want), fmt.Sprintf("[%s,%s,%s]", mustJSON(got.ID), mustJSON(got.Vector), metadata))
}
