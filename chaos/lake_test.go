package chaos

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"
)

// lake is what other tools read in Parquet files.
type lake struct {
	DuckTypes  []string    `json:"duckdb_types"`
	ArrowTypes []string    `json:"arrow_types"`
	Duck       []storedRow `json:"duckdb"`
	Arrow      []storedRow
	Filtered   []string
}

type storedRow struct {
	ID, Metadata string
	Vector       []float32
}

// requireBoth checks the rows that each tool read.
func (l lake) requireBoth(t *testing.T, want []Row) {
	t.Helper()
	for tool, read := range map[string][]storedRow{"duckdb": l.Duck, "pyarrow": l.Arrow} {
		t.Logf("%s reads %d rows", tool, len(read))
		rows := make([]Row, len(read))
		for i, r := range read {
			rows[i] = Row{r.ID, r.Vector, jsontext.Value(r.Metadata)}
		}
		requireRows(t, want, rows)
	}
}

// readSegments has Python read files. Without it or its packages the test is
// skipped, unless AKIDB_TEST_REQUIRE_PYTHON=1 makes that a failure.
func readSegments(t *testing.T, files ...string) (l lake) {
	t.Helper()
	if out, err := exec.Command("python3", "-c", "import duckdb, pyarrow").CombinedOutput(); err != nil {
		reason := fmt.Sprintf("SKIPPED, NO OTHER TOOL READ A SEGMENT: python3 with duckdb and pyarrow is not here: %v %s", err, out)
		if os.Getenv("AKIDB_TEST_REQUIRE_PYTHON") == "1" {
			t.Fatal(reason)
		}
		t.Skip(reason)
	}
	out, err := exec.Command("python3", append([]string{filepath.Join("testdata", "read_segments.py")}, files...)...).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		t.Fatalf("%v\n%s", err, exit.Stderr)
	}
	require.NoError(t, err)
	require.NoError(t, decode(out, &l))
	return l
}

// The store is the lake: after a flush, other tools read what was written.
func TestLake(t *testing.T) {
	t.Parallel()
	dev := akidb.Start(t, "dev", Options{Args: noFlush})
	c := dev.Create(t, "articles", 24, "dot")
	rng := rand.New(rand.NewPCG(6, 6))
	var want []Row
	for i := range 3000 {
		row := Row{fmt.Sprintf("artikel/%04d ü", i), gaussian(rng, make([]float32, 24), 1), jsontext.Value(fmt.Sprintf(`{"number":%d,"a":{"b":[1,null,"ß"]}}`, i))}
		want = append(want, row)
	}
	// Two segments, whose rows are all current.
	for _, part := range [][]Row{want[:2000], want[2000:]} {
		dev.Upsert(t, "articles", part...)
		dev.Flush(t, "articles")
	}

	files, err := filepath.Glob(filepath.Join(dev.DataDir, "objects", "collections", c.ID, "segments", "*", "data.parquet"))
	require.NoError(t, err)
	require.Len(t, files, 2)
	got := readSegments(t, files...)
	require.Equal(t, []string{"VARCHAR", "FLOAT[]"}, got.DuckTypes)
	require.Equal(t, []string{"string", "list<element: float not null>"}, got.ArrowTypes)
	for _, read := range [][]storedRow{got.Duck, got.Arrow} {
		slices.SortFunc(read, func(a, b storedRow) int { return cmp.Compare(a.ID, b.ID) })
	}
	got.requireBoth(t, want)
	require.Len(t, got.Filtered, 30)
	require.Equal(t, "artikel/0042 ü", got.Filtered[0])
}
