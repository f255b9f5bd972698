package columns

import (
	"bytes"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go/format"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write goldens instead of comparing")

// FORMAT.md must say what the constants are.
func TestFormatDocument(t *testing.T) {
	b, err := os.ReadFile("FORMAT.md")
	require.NoError(t, err)
	text := string(b)
	other := fmt.Sprintf("| %d rows or %d bytes |", pageRows, pageBytes)
	require.Equal(t, 3, strings.Count(text, other), other)
	for _, want := range []string{
		fmt.Sprintf("| %d bytes, at least 1 row, at most %d rows |", vectorPageBytes, pageRows),
		fmt.Sprintf("A row group ends at %d rows or %d bytes", groupRows, groupBytes),
		fmt.Sprintf("Vectors are 1 to %d long", MaxDimension),
		fmt.Sprintf("at most %d rows.", uint32(math.MaxUint32)),
		fmt.Sprintf("a footer of more than %d bytes and a page of more than %d bytes", maxFooterSize, maxPageSize),
		fmt.Sprintf("| `%s` | `%s` |", keyFormat, FormatName),
		fmt.Sprintf("| `%s` |", keyVersion),
		fmt.Sprintf("| `%s` |", keyDimension),
		fmt.Sprintf("\n| %d | yes | yes |", FormatVersion),
		fmt.Sprintf("A column chunk, %d bytes and two packed runs", layoutChunkSize),
	} {
		require.Contains(t, text, want)
	}
	for _, name := range columnNames {
		require.Contains(t, text, "| `"+name+"` |")
	}
}

// describeLayout writes the physical layout of a file in words.
func describeLayout(t *testing.T, b []byte) string {
	meta, footerSize, err := decodeFooter(b)
	require.NoError(t, err)
	f := openBytes(t, b)
	var out strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
	line("file: %d rows, %d row groups, %d bytes, footer %d bytes, created by %q", meta.NumRows, len(meta.RowGroups), len(b), footerSize, meta.CreatedBy)
	for _, kv := range meta.KeyValueMetadata {
		line("key %s = %s", kv.Key, kv.Value)
	}
	for _, e := range meta.Schema {
		logical := ""
		if e.LogicalType.Value != nil {
			logical = " " + e.LogicalType.Value.String()
		}
		switch {
		case e.Type.Valid:
			line("schema %v %v %s%s", e.RepetitionType.V, e.Type.V, e.Name, logical)
		default:
			line("schema %v group of %d %s%s", e.RepetitionType.V, e.NumChildren.V, e.Name, logical)
		}
	}
	for i, g := range meta.RowGroups {
		line("row group %d: %d rows at %d", i, g.NumRows, g.FileOffset)
		for column, c := range g.Columns {
			m := c.MetaData
			index, err := f.pageIndexOf(&f.groups[i], column)
			require.NoError(t, err)
			smallest, largest, rows := int64(math.MaxInt64), int64(0), 0
			for p := range index.ends {
				from, to := index.bytes(p)
				smallest, largest = min(smallest, to-from), max(largest, to-from)
				first, last := index.rows(p, f.groups[i].rows)
				rows = max(rows, last-first)
			}
			line("  %-8s at %d +%d: %v %v, %d values, %d pages of up to %d rows, %d to %d bytes, column index %d bytes, bounds %t, bloom %t",
				columnNames[column], m.DataPageOffset, m.TotalCompressedSize, m.Codec, m.Encoding, m.NumValues,
				len(index.ends), rows, smallest, largest, c.ColumnIndexLength, m.Statistics.MaxValue != nil, m.BloomFilterOffset != 0)
		}
	}
	return out.String()
}

func TestLayoutGolden(t *testing.T) {
	rng := rand.New(rand.NewPCG(31, 32))
	rows := makeRows(rng, 2500, 128)
	for _, file := range []struct {
		name string
		data []byte
	}{
		{"2500x128", writeFile(t, 128, rows)},
		{"empty", writeFile(t, 768)},
		{"groups", writeFile(t, 2, makeRows(rng, groupRows+3, 2))},
	} {
		t.Run(file.name, func(t *testing.T) {
			path := filepath.Join("testdata", "layout", file.name+".txt")
			got := describeLayout(t, file.data)
			if *update {
				require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
				require.NoError(t, os.WriteFile(path, []byte(got), 0o600))
			}
			want, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, string(want), got, "if the layout is meant to change: go test -run TestLayoutGolden -update")
		})
	}
}

// The version's fixture must stay readable for ever: it is never regenerated.
func TestCompatibility(t *testing.T) {
	files, err := filepath.Glob("testdata/compat/v*/data.parquet")
	require.NoError(t, err)
	require.Len(t, files, FormatVersion, "every version has its fixture")
	for _, path := range files {
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		requireSame(t, b, compatRows())
	}
}

// compatRows is what testdata/compat holds. It must never change.
func compatRows() []Row {
	rows := make([]Row, 70)
	for i := range rows {
		rows[i] = Row{ID: fmt.Sprintf("id-%d-é", i), Seq: uint64(i) * 0x1234567890ab}
		for j := range 384 {
			rows[i].Vector = append(rows[i].Vector, float32(i)-float32(j)/8)
		}
		if i%4 != 1 {
			rows[i].Metadata = fmt.Appendf(nil, `{"n": %d, "tags": ["x", "y%d"]}`, i, i)
		}
	}
	return rows
}

// No part of a vector or a document may leak into headers, indexes or footer,
// where it would cost every reader of them.
func TestIndexesHoldNoVectors(t *testing.T) {
	rows := makeRows(rand.New(rand.NewPCG(33, 34)), 300, 256)
	b := writeFile(t, 256, rows)
	meta, _, err := decodeFooter(b)
	require.NoError(t, err)
	end := int64(0)
	for _, g := range meta.RowGroups {
		for i, c := range g.Columns {
			end = max(end, c.MetaData.DataPageOffset+c.MetaData.TotalCompressedSize)
			require.Equal(t, i == columnID || i == columnSeq, c.ColumnIndexLength > 0, columnNames[i])
		}
	}
	for _, row := range rows {
		require.False(t, bytes.Contains(b[end:], encodeFloats(row.Vector[:2])))
		if row.Metadata != nil {
			require.False(t, bytes.Contains(b[end:], row.Metadata[:8]))
		}
		require.Equal(t, 1, bytes.Count(b, encodeFloats(row.Vector)))
	}
	overhead := float64(end-4)/float64(len(rows)*(4*256)) - 1
	require.Less(t, overhead, 0.08, "levels, headers, ids, metadata and seqs together")
}

// Each check of Open must fire on a footer that lies about just that.
func TestOpenRefuses(t *testing.T) {
	good := writeFile(t, 4, makeRows(rand.New(rand.NewPCG(35, 36)), 100, 4))
	vector := func(m *format.FileMetaData) *format.ColumnChunk { return &m.RowGroups[0].Columns[columnVector] }
	for name, test := range map[string]struct {
		change func(*format.FileMetaData)
		want   string
	}{
		"foreign file":      {func(m *format.FileMetaData) { m.KeyValueMetadata = nil }, `akidb.format is "", want "akidb.columns"`},
		"newer version":     {func(m *format.FileMetaData) { setKey(m, keyVersion, "2") }, "unsupported format version"},
		"dimension zero":    {func(m *format.FileMetaData) { setKey(m, keyDimension, "0") }, `akidb.dimension is "0"`},
		"other dimension":   {func(m *format.FileMetaData) { setKey(m, keyDimension, "5") }, "has 400 values, want 500"},
		"renamed column":    {func(m *format.FileMetaData) { m.Schema[1].Name = "key" }, `schema element 1 is "key", want "id"`},
		"optional id":       {func(m *format.FileMetaData) { m.Schema[1].RepetitionType.V = format.Optional }, `schema element 1`},
		"extra column":      {func(m *format.FileMetaData) { m.Schema = append(m.Schema, m.Schema[1]) }, "schema has 8 elements, want 7"},
		"row count":         {func(m *format.FileMetaData) { m.NumRows++ }, "file claims 101 rows, its row groups have 100"},
		"negative rows":     {func(m *format.FileMetaData) { m.RowGroups[0].NumRows = -1 }, "row group 0 has -1 rows"},
		"missing chunk":     {func(m *format.FileMetaData) { m.RowGroups[0].Columns = m.RowGroups[0].Columns[:3] }, "has 3 columns, want 4"},
		"values":            {func(m *format.FileMetaData) { vector(m).MetaData.NumValues-- }, "has 399 values, want 400"},
		"codec":             {func(m *format.FileMetaData) { vector(m).MetaData.Codec = format.Snappy }, "has codec"},
		"encoding":          {func(m *format.FileMetaData) { vector(m).MetaData.Encoding = []format.Encoding{format.RLEDictionary} }, "has encodings"},
		"chunk past end":    {func(m *format.FileMetaData) { vector(m).MetaData.DataPageOffset = 1 << 40 }, "claims bytes"},
		"huge chunk":        {func(m *format.FileMetaData) { vector(m).MetaData.TotalCompressedSize = math.MaxInt64 }, "claims bytes"},
		"small chunk":       {func(m *format.FileMetaData) { vector(m).MetaData.TotalCompressedSize = 1599 }, "its 400 values need 1600"},
		"index past end":    {func(m *format.FileMetaData) { vector(m).OffsetIndexOffset = int64(len(good)) }, "claims an offset index"},
		"no index":          {func(m *format.FileMetaData) { vector(m).OffsetIndexLength = 0 }, "claims an offset index"},
		"other file":        {func(m *format.FileMetaData) { vector(m).FilePath = "/etc/passwd" }, "lies in another file"},
		"other chunk type":  {func(m *format.FileMetaData) { vector(m).MetaData.Type = format.Double }, "has type"},
		"rows past ordinal": {func(m *format.FileMetaData) { m.RowGroups[0].NumRows = math.MaxInt64 }, "ordinals end at"},
	} {
		t.Run(name, func(t *testing.T) {
			b := rewriteFooter(t, good, test.change)
			_, err := Open(bytes.NewReader(b), int64(len(b)))
			require.ErrorContains(t, err, test.want)
			require.ErrorContains(t, err, "columns: open: ")
		})
	}
	_, err := Open(bytes.NewReader(rewriteFooter(t, good, func(m *format.FileMetaData) { setKey(m, keyVersion, "9") })), int64(len(good)))
	require.ErrorIs(t, err, ErrUnsupportedVersion)
}
