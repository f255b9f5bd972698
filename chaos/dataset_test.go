package chaos

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// dataset is three files, as benchmarks come: rows, queries and, for each
// query, the numbers of its nearest rows.
type dataset struct{ base, queries, truth string }

const (
	clusteredRows, clusteredDim = 10_000, 64
	truthDepth                  = 10
)

// clustered writes rows around 100 centres, queries from the same distribution,
// and the truth by comparing everything with everything.
func clustered(t *testing.T) dataset {
	rng := rand.New(rand.NewPCG(1, 64))
	centres := make([][]float32, 100)
	for i := range centres {
		centres[i] = gaussian(rng, make([]float32, clusteredDim), 4)
	}
	draw := func(n int) [][]float32 {
		out := make([][]float32, n)
		for i := range out {
			out[i] = gaussian(rng, centres[rng.IntN(len(centres))], 1)
		}
		return out
	}
	base, queries := draw(clusteredRows), draw(100)
	truth := make([][]int32, len(queries))
	for i, q := range queries {
		truth[i] = nearest(base, q)
	}
	dir := t.TempDir()
	return dataset{
		writeVecs(t, filepath.Join(dir, "base.fvecs"), base),
		writeVecs(t, filepath.Join(dir, "query.fvecs"), queries),
		writeVecs(t, filepath.Join(dir, "groundtruth.ivecs"), truth),
	}
}

func gaussian(rng *rand.Rand, centre []float32, spread float64) []float32 {
	v := make([]float32, len(centre))
	for i := range v {
		v[i] = centre[i] + float32(spread*rng.NormFloat64())
	}
	return v
}

func squaredDistance(a, b []float32) (sum float64) {
	for i := range a {
		d := float64(a[i]) - float64(b[i])
		sum += d * d
	}
	return sum
}

func nearest(base [][]float32, q []float32) []int32 {
	distances, order := make([]float64, len(base)), make([]int32, len(base))
	for i, row := range base {
		distances[i], order[i] = squaredDistance(row, q), int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int {
		return cmp.Or(cmp.Compare(distances[a], distances[b]), cmp.Compare(a, b))
	})
	return order[:truthDepth]
}

// writeVecs writes .fvecs or .ivecs: before every row its length, as int32.
func writeVecs[T float32 | int32](t *testing.T, path string, rows [][]T) string {
	var b bytes.Buffer
	for _, row := range rows {
		require.NoError(t, binary.Write(&b, binary.LittleEndian, int32(len(row))))
		require.NoError(t, binary.Write(&b, binary.LittleEndian, row))
	}
	require.NoError(t, os.WriteFile(path, b.Bytes(), 0o600))
	return path
}

// sift10k finds the data set where it lies: AKIDB_TEST_SIFT_DIR, or beside the
// repository.
func sift10k(t *testing.T) dataset {
	dir := os.Getenv("AKIDB_TEST_SIFT_DIR")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "data", "sift10k")
		if _, err := os.Stat(dir); err != nil {
			t.Skipf("AKIDB_TEST_SIFT_DIR is not set and SIFT10k is not beside the repository: %v", err)
		}
	}
	abs, err := filepath.Abs(dir)
	require.NoError(t, err)
	d := dataset{filepath.Join(abs, "base.fvecs"), filepath.Join(abs, "query.fvecs"), filepath.Join(abs, "groundtruth.ivecs")}
	for _, file := range []string{d.base, d.queries, d.truth} {
		require.FileExists(t, file)
	}
	return d
}

// rowsIn is how many rows an .fvecs file has.
func rowsIn(t *testing.T, path string) int {
	head, err := os.Open(path)
	require.NoError(t, err)
	defer head.Close()
	var dim int32
	require.NoError(t, binary.Read(head, binary.LittleEndian, &dim))
	info, err := head.Stat()
	require.NoError(t, err)
	require.Zero(t, info.Size()%int64(4+4*dim))
	return int(info.Size() / int64(4+4*dim))
}

// load imports the rows into a collection that does not exist yet.
func (d dataset) load(t *testing.T, s *Server, collection string) {
	t.Helper()
	var got struct{ Rows int }
	out := akidb.OK(t, "import", d.base, "--url", s.URL(), "--collection", collection, "--create", "--metric", "l2", "-o", "json")
	require.NoError(t, decode([]byte(out), &got), out)
	require.Equal(t, rowsIn(t, d.base), got.Rows, out)
}

// requireFound demands every row and a recall@10 of 0.95 from a server.
func (d dataset) requireFound(t *testing.T, when string, s *Server, collection string) {
	t.Helper()
	require.Equal(t, rowsIn(t, d.base), s.Count(t, collection, "latest"), when)
	f := akidb.Run(t, nil, "search", "--url", s.URL(), "--collection", collection, "--k", "10",
		"--queries", d.queries, "--groundtruth", d.truth, "--min-recall", "0.95", "-o", "json")
	require.Zero(t, f.Code, "%s: %s%s", when, f.Stdout, f.Stderr)
	var got struct {
		Queries int
		Recall  struct{ Recall float64 }
	}
	require.NoError(t, decode([]byte(f.Stdout), &got), f.Stdout)
	require.Equal(t, rowsIn(t, d.queries), got.Queries)
	require.GreaterOrEqual(t, got.Recall.Recall, 0.95, f.Stdout)
	t.Logf("%s: recall@10 %.4f", when, got.Recall.Recall)
}
