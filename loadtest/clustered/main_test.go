package main

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"testing"
)

// TestFiles checks the three files against each other with sums of its own, and
// that a seed names one data set.
func TestFiles(t *testing.T) {
	const rows, dim, queries = 400, 5, 7
	a, b, c := t.TempDir(), t.TempDir(), t.TempDir()
	for dir, seed := range map[string]uint64{a: 3, b: 3, c: 4} {
		if err := run(dir, rows, dim, 10, queries, seed); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"base.fvecs", "query.fvecs", "groundtruth.ivecs"} {
		if !bytes.Equal(read(t, a, name), read(t, b, name)) {
			t.Errorf("%s: one seed, two contents", name)
		}
		if bytes.Equal(read(t, a, name), read(t, c, name)) {
			t.Errorf("%s: two seeds, one content", name)
		}
	}
	base, query := floats(t, read(t, a, "base.fvecs"), dim), floats(t, read(t, a, "query.fvecs"), dim)
	truth := words(t, read(t, a, "groundtruth.ivecs"), neighbours)
	if len(base) != rows || len(query) != queries || len(truth) != queries {
		t.Fatalf("%d rows, %d queries, %d truths", len(base), len(query), len(truth))
	}
	for q := range query {
		last := 0.0
		seen := map[uint32]bool{}
		for _, row := range truth[q] {
			d := distance(query[q], base[row])
			if d < last*(1-1e-5) || seen[row] {
				t.Fatalf("query %d: row %d at %v after %v", q, row, d, last)
			}
			last, seen[row] = d, true
		}
		for row := range base {
			if !seen[uint32(row)] && distance(query[q], base[row]) < last*(1-1e-5) {
				t.Fatalf("query %d: row %d is nearer than the last of the truth and not in it", q, row)
			}
		}
	}
}

func read(t *testing.T, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func words(t *testing.T, b []byte, width int) (out [][]uint32) {
	t.Helper()
	for size := 4 * (width + 1); len(b) > 0; b = b[size:] {
		if got := binary.LittleEndian.Uint32(b); int(got) != width {
			t.Fatalf("row of %d, want %d", got, width)
		}
		var row []uint32
		for i := range width {
			row = append(row, binary.LittleEndian.Uint32(b[4*(i+1):]))
		}
		out = append(out, row)
	}
	return out
}

func floats(t *testing.T, b []byte, width int) (out [][]float64) {
	t.Helper()
	for _, row := range words(t, b, width) {
		var v []float64
		for _, w := range row {
			v = append(v, float64(math.Float32frombits(w)))
		}
		out = append(out, v)
	}
	return out
}

func distance(a, b []float64) (sum float64) {
	for i := range a {
		sum += (a[i] - b[i]) * (a[i] - b[i])
	}
	return sum
}
