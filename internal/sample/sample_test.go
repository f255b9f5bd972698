package sample

import (
	"cmp"
	"math"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
)

type nounMetadata struct {
	Word       string   `json:"word"`
	Definition string   `json:"definition"`
	Category   string   `json:"category"`
	Synonyms   []string `json:"synonyms"`
}

func TestLoad(t *testing.T) {
	meta, rows, err := Load()
	require.NoError(t, err)
	require.Len(t, rows, 4000)
	require.Less(t, len(packedRows)+len(packedVectors), 2<<20, "the sample must stay small")
	require.Contains(t, LicenceText, "Princeton University")

	categories := map[string]int{}
	ids := map[string]bool{}
	for i, row := range rows {
		require.False(t, ids[row.ID], "id %q twice", row.ID)
		ids[row.ID] = true
		require.Regexp(t, `^[a-z0-9]+(-[a-z0-9]+)*$`, row.ID)
		if i > 0 {
			require.Less(t, rows[i-1].ID, row.ID)
		}
		require.Len(t, row.Vector, meta.Dimension)
		require.InDelta(t, 1, dot(row.Vector, row.Vector), 1e-5, row.ID)

		var m nounMetadata
		require.NoError(t, json.Unmarshal(row.Metadata, &m, json.RejectUnknownMembers(true)))
		require.True(t, utf8.Valid(row.Metadata))
		require.NotEmpty(t, m.Word)
		require.NotEmpty(t, m.Definition)
		categories[m.Category]++
	}
	require.Len(t, categories, 8)
	require.True(t, ids[meta.ExampleID])
}

func dot(a, b []float32) (sum float64) {
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}

// TestNeighboursMakeSense holds the demo to what a person expects to see.
func TestNeighboursMakeSense(t *testing.T) {
	meta, rows, err := Load()
	require.NoError(t, err)
	for id, want := range map[string][]string{
		meta.ExampleID: {"bowed-stringed-instrument", "bass-fiddle", "banjo", "harp"},
		"coffee":       {"coffee-cup", "percolator", "coffeepot"},
		"rain":         {"fog", "snow", "mist"},
	} {
		at := slices.IndexFunc(rows, func(r Row) bool { return r.ID == id })
		require.GreaterOrEqual(t, at, 0, id)
		near := slices.Clone(rows)
		slices.SortFunc(near, func(a, b Row) int { return cmp.Compare(dot(b.Vector, rows[at].Vector), dot(a.Vector, rows[at].Vector)) })
		require.Equal(t, id, near[0].ID)
		var got []string
		for _, r := range near[1:8] {
			got = append(got, r.ID)
		}
		require.Subset(t, got, want, "neighbours of %s", id)
	}
}

func TestUnit(t *testing.T) {
	got := make([]float32, 2)
	unit(got, []byte{3, 0xfc}) // 3, -4
	require.Equal(t, []float32{0.6, -0.8}, got)
	unit(got, []byte{0, 0})
	require.Equal(t, []float32{0, 0}, got)
	for _, x := range got {
		require.False(t, math.IsNaN(float64(x)))
	}
}

func TestLoadRefusesDamage(t *testing.T) {
	packer, err := zstd.NewWriter(nil)
	require.NoError(t, err)
	row := packer.EncodeAll([]byte(`{"id":"a","metadata":{}}`), nil)
	_, err = load(row, packer.EncodeAll(make([]byte, dimension-1), nil))
	require.ErrorContains(t, err, "383 bytes of vectors, want 384 for 1 rows")
	_, err = load(packer.EncodeAll([]byte(`{"id":1}`), nil), nil)
	require.ErrorContains(t, err, "row 0: ")
	_, err = load(packedRows[:100], packedVectors)
	require.ErrorContains(t, err, "rows: ")
	_, err = load(row, packedVectors[:100])
	require.ErrorContains(t, err, "vectors: ")
}
