package columns

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"
)

// writeForeign writes rows of any struct with parquet-go's defaults.
func writeForeign[T any](t *testing.T, rows ...T) []byte {
	var b bytes.Buffer
	w := parquet.NewGenericWriter[T](&b)
	_, err := w.Write(rows)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.Bytes()
}

func importAll(t *testing.T, b []byte, config ImportConfig) []ImportRow {
	im, err := OpenImport(bytes.NewReader(b), int64(len(b)), config)
	require.NoError(t, err)
	var out []ImportRow
	require.NoError(t, im.Scan(0, func(rows []ImportRow) error {
		for _, r := range rows {
			r.Vector, r.Metadata = append([]float32(nil), r.Vector...), bytes.Clone(r.Metadata)
			out = append(out, r)
		}
		return nil
	}))
	return out
}

// Our own files import as what they are.
func TestImportOurs(t *testing.T) {
	rows := makeRows(rand.New(rand.NewPCG(51, 52)), 1000, 6)
	b := writeFile(t, 6, rows)
	im, err := OpenImport(bytes.NewReader(b), int64(len(b)), ImportConfig{})
	require.NoError(t, err)
	require.Equal(t, []string{"seq"}, im.Ignored())
	for i, got := range importAll(t, b, ImportConfig{}) {
		require.NoError(t, got.Err)
		want := rows[i]
		want.Seq = 0
		requireRow(t, want, got.Row)
	}
}

// Bad rows carry errors that name row and column; good ones come through.
func TestImportBadRows(t *testing.T) {
	type foreign struct {
		Key  *string    `parquet:"key,optional"`
		Vec  []*float64 `parquet:"vec,list"`
		Meta *string    `parquet:"meta,optional"`
	}
	text := func(s string) *string { return &s }
	number := func(f float64) *float64 { return &f }
	b := writeForeign(t,
		foreign{text("good"), []*float64{number(1), number(math.Inf(1))}, text(`{"a":1}`)},
		foreign{nil, []*float64{number(1)}, nil},
		foreign{text("x"), nil, nil},
		foreign{text("x"), []*float64{number(1), nil}, nil},
		foreign{text("x"), []*float64{number(1e300)}, nil},
		foreign{text("x"), []*float64{number(1)}, text("not json")},
		foreign{text("x"), []*float64{number(1)}, text("[1]")},
		foreign{text("last"), []*float64{number(0.5)}, text("null")},
	)
	got := importAll(t, b, ImportConfig{IDColumn: "key", VectorColumn: "vec", MetadataColumn: "meta"})
	require.Len(t, got, 8)
	for i, want := range []string{
		"",
		`row 1 column "key": is null, want an id`,
		`row 2 column "vec": is null or empty, want a vector`,
		`row 3 column "vec": value 1 is null`,
		`row 4 column "vec": value 0 is 1e+300, too large for float32`,
		`row 5 column "meta": not json: `,
		`row 6 column "meta": is an array, want a JSON object`,
		"",
	} {
		require.EqualValues(t, i, got[i].Number)
		if want == "" {
			require.NoError(t, got[i].Err)
		} else {
			require.ErrorContains(t, got[i].Err, want)
		}
	}
	require.Equal(t, Row{ID: "good", Vector: []float32{1, float32(math.Inf(1))}, Metadata: []byte(`{"a":1}`)}, got[0].Row)
	require.Equal(t, Row{ID: "last", Vector: []float32{0.5}}, got[7].Row)
}

func TestImportColumnErrors(t *testing.T) {
	type foreign struct {
		ID     float64   `parquet:"id"`
		Key    string    `parquet:"key"`
		Vector string    `parquet:"vector"`
		Floats []float32 `parquet:"floats,list"`
		Extra  int32     `parquet:"extra"`
	}
	b := writeForeign(t, foreign{Key: "a", Floats: []float32{1}})
	for _, test := range []struct {
		config ImportConfig
		want   string
	}{
		{ImportConfig{}, `columns: import: id column "id" is DOUBLE, want strings or integers`},
		{ImportConfig{IDColumn: "name"}, `columns: import: file has no id column name, it has ["id" "key" "vector" "floats" "extra"]`},
		{ImportConfig{IDColumn: "key"}, `columns: import: vector column "vector" is STRING, want a list of floats or fixed-size bytes of them`},
		{ImportConfig{IDColumn: "key", VectorColumn: "floats", MetadataColumn: "extra"}, `columns: import: metadata column "extra" is INT(32,true), want a string of JSON or a struct`},
		{ImportConfig{IDColumn: "key", VectorColumn: "floats", MetadataColumn: "more"}, `columns: import: file has no metadata column more, it has ["id" "key" "vector" "floats" "extra"]`},
	} {
		_, err := OpenImport(bytes.NewReader(b), int64(len(b)), test.config)
		require.EqualError(t, err, test.want)
	}
	_, err := OpenImport(bytes.NewReader([]byte("id,vector\n1,2\n")), 14, ImportConfig{})
	require.ErrorContains(t, err, "not a plain parquet file")
}

func TestImportStopsAtError(t *testing.T) {
	b := writeFile(t, 2, makeRows(rand.New(rand.NewPCG(53, 54)), 1000, 2))
	im, err := OpenImport(bytes.NewReader(b), int64(len(b)), ImportConfig{})
	require.NoError(t, err)
	stop, calls := errors.New("stop"), 0
	require.Equal(t, stop, im.Scan(0, func([]ImportRow) error { calls++; return stop }))
	require.Equal(t, 1, calls)
}

func TestFloat16(t *testing.T) {
	for bits, want := range map[uint16]float32{
		0x0000: 0, 0x3c00: 1, 0xc000: -2, 0x7bff: 65504, 0x0001: 1.0 / (1 << 24), 0x03ff: 1023.0 / (1 << 24), 0x0400: 1.0 / (1 << 14), 0x3555: 0.333251953125,
		0x7c00: float32(math.Inf(1)), 0xfc00: float32(math.Inf(-1)),
	} {
		require.Equal(t, want, float16(bits), "%#04x", bits)
	}
	require.True(t, math.IsNaN(float64(float16(0x7e00))))
	require.True(t, math.Signbit(float64(float16(0x8000))))
}

// TestImportBoundsMetadata: one long text in a dictionary is as many long texts
// as there are rows, which must not all be made to be refused.
func TestImportBoundsMetadata(t *testing.T) {
	type foreign struct {
		ID     string    `parquet:"id"`
		Vector []float32 `parquet:"vector,list"`
		Title  string    `parquet:"title,dict"`
		Year   *int32    `parquet:"year,optional"`
	}
	long, year := strings.Repeat("x", 4<<20), int32(1995)
	rows := []foreign{{"small", []float32{1}, "Heat", &year}}
	for i := range 200 {
		rows = append(rows, foreign{fmt.Sprint("large", i), []float32{1}, long, nil})
	}
	b := writeForeign(t, rows...)
	im, err := OpenImport(bytes.NewReader(b), int64(len(b)), ImportConfig{MetadataBytes: 30})
	require.NoError(t, err)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n := 0
	require.NoError(t, im.Scan(0, func(rows []ImportRow) error {
		for _, r := range rows {
			if n++; n == 1 {
				require.NoError(t, r.Err)
				require.JSONEq(t, `{"title":"Heat","year":1995}`, string(r.Metadata))
				continue
			}
			var large *MetadataSizeError
			require.ErrorAs(t, r.Err, &large)
			require.Equal(t, len(long), large.Size)
		}
		return nil
	}))
	runtime.ReadMemStats(&after)
	require.Equal(t, len(rows), n)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(100<<20), "bytes allocated; the texts have 800 MiB")
}

// TestImportBoundsBytes: a dictionary, or runs of one value, make gigabytes of a
// few kilobytes, which must be refused before they are made.
func TestImportBoundsBytes(t *testing.T) {
	type list struct {
		ID     string    `parquet:"id"`
		Vector []float32 `parquet:"vector,list,dict"`
	}
	type fixed struct {
		ID     string        `parquet:"id"`
		Vector [1 << 14]byte `parquet:"vector,dict"`
	}
	type tagged struct {
		ID     string    `parquet:"id"`
		Vector []float32 `parquet:"vector,list"`
		Tags   []int32   `parquet:"tags,list,dict"`
	}
	type zipped struct {
		ID     string    `parquet:"id"`
		Vector []float32 `parquet:"vector,list,gzip"`
	}
	const limit = 4 << 20
	lists, fixeds := make([]list, 100), make([]fixed, 1000)
	for i := range lists {
		lists[i] = list{"a", make([]float32, 1<<17)}
	}
	for i := range fixeds {
		fixeds[i].ID = "a"
	}
	for name, b := range map[string][]byte{
		"lists": writeForeign(t, lists...), "fixed": writeForeign(t, fixeds...),
		"tags": writeForeign(t, tagged{"a", []float32{1}, make([]int32, 6<<20)}),
		"gzip": writeForeign(t, zipped{"a", make([]float32, 2<<20)}),
	} {
		t.Run(name, func(t *testing.T) {
			require.Less(t, len(b), limit/4, "the file is not small")
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := OpenImport(bytes.NewReader(b), int64(len(b)), ImportConfig{Bytes: limit})
			runtime.ReadMemStats(&after)
			var large *SizeError
			require.ErrorAs(t, err, &large)
			require.Greater(t, large.Size, int64(limit))
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(limit), "bytes allocated")
			_, err = OpenImport(bytes.NewReader(b), int64(len(b)), ImportConfig{})
			require.NoError(t, err)
		})
	}
	// Up to the limit nothing is refused, whatever it takes on the way.
	b := writeFile(t, 64, makeRows(rand.New(rand.NewPCG(55, 56)), 1000, 64))
	require.Len(t, importAll(t, b, ImportConfig{Bytes: 400_000}), 1000)
	_, err := OpenImport(bytes.NewReader(b), int64(len(b)), ImportConfig{Bytes: 1000 * 64 * 4})
	require.Error(t, err)
}

// TestImportBoundsEveryPage: what a damaged file says of its pages is an error.
func TestImportBoundsEveryPage(t *testing.T) {
	b := writeFile(t, 2, makeRows(rand.New(rand.NewPCG(57, 58)), 100, 2))
	r := rand.New(rand.NewPCG(59, 60))
	refused := 0
	for range 2000 {
		damaged := bytes.Clone(b)
		damaged[r.IntN(len(b))] ^= byte(1 << r.IntN(8))
		if _, err := OpenImport(bytes.NewReader(damaged), int64(len(b)), ImportConfig{Bytes: 1 << 30}); err != nil {
			refused++
		}
	}
	require.NotZero(t, refused)
}
