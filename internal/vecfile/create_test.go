package vecfile

import (
	"bytes"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// What is written is read back: ids and vectors to the bit, metadata without the blanks between its tokens.
func TestCreateRoundTrip(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		dimension := rapid.IntRange(1, 9).Draw(t, "dimension")
		value := rapid.OneOf(
			rapid.Float32(),
			rapid.SampledFrom([]float32{float32(math.Copysign(0, -1)), math.SmallestNonzeroFloat32, math.MaxFloat32, 1e21, 0.1}),
		)
		metadata := rapid.SampledFrom([]string{"", "{}", `{"a":{"b":[1,null,"ß\n"]},"id":"x","vector":3}`, "{ \"n\" :\n1.50 }", `{"metadata":{"metadata":1e400}}`})
		rows := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Row {
			row := Row{
				ID:     rapid.StringMatching(`[ -~ü"\\]{1,12}`).Draw(t, "id"),
				Vector: rapid.SliceOfN(value, dimension, dimension).Draw(t, "vector"),
			}
			if text := metadata.Draw(t, "metadata"); text != "" {
				row.Metadata = []byte(text)
			}
			return row
		}), 0, 20).Draw(t, "rows")

		path := filepath.Join(dir, "rows.jsonl")
		var file bytes.Buffer
		w, err := Create(&file, path, CreateOptions{Dimension: dimension})
		require.NoError(t, err)
		for _, row := range rows {
			require.NoError(t, w.Append(row))
		}
		require.NoError(t, w.Close())
		require.Equal(t, len(rows), bytes.Count(file.Bytes(), []byte("\n")))
		require.NoError(t, os.WriteFile(path, file.Bytes(), 0o600))

		r, err := Open(path, Options{})
		require.NoError(t, err)
		defer r.Close()
		for _, want := range rows {
			got, err := r.Next()
			require.NoError(t, err)
			require.Equal(t, want.ID, got.ID)
			for i, x := range want.Vector {
				require.Equal(t, math.Float32bits(x), math.Float32bits(got.Vector[i]))
			}
			compact := jsontext.Value(want.Metadata).Clone()
			if compact != nil {
				require.NoError(t, compact.Compact())
			}
			require.Equal(t, string(compact), string(got.Metadata))
			require.Equal(t, want.Metadata == nil, got.Metadata == nil)
		}
		_, err = r.Next()
		require.ErrorIs(t, err, io.EOF)
	})
}

func TestCreateRefuses(t *testing.T) {
	for path, ok := range map[string]bool{
		"a.parquet": true, "a.jsonl": true, "B.NDJSON": true,
		"a.csv": false, "a.jsonl.gz": false, "a": false, "": false, ".": false, "a.json": false, "a.": false,
	} {
		require.Equal(t, ok, CheckWritable(path) == nil, path)
	}
	_, err := Create(io.Discard, "a.parquet", CreateOptions{Dimension: 2})
	require.ErrorContains(t, err, "not built in")

	w, err := Create(io.Discard, "a.jsonl", CreateOptions{Dimension: 2})
	require.NoError(t, err)
	require.ErrorContains(t, w.Append(Row{ID: "a", Vector: []float32{1}}), "vector has 1 values, want 2")
	require.ErrorContains(t, w.Append(Row{ID: "a", Vector: []float32{1, 2}, Metadata: []byte("{")}), "metadata")
	require.ErrorContains(t, w.Append(Row{ID: "\xff", Vector: []float32{1, 2}}), "id")

	w, err = Create(brokenDisk{}, "a.jsonl", CreateOptions{Dimension: 1})
	require.NoError(t, err)
	require.NoError(t, w.Append(Row{ID: "a", Vector: []float32{1}}))
	require.ErrorIs(t, w.Close(), errBroken)
}

var errBroken = errors.New("broken")

type brokenDisk struct{}

func (brokenDisk) Write([]byte) (int, error) { return 0, errBroken }
