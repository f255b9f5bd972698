package columns

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// makeRows invents rows; every third has no metadata.
func makeRows(rng *rand.Rand, count, dimension int) []Row {
	rows := make([]Row, count)
	for i := range rows {
		v := make([]float32, dimension)
		for j := range v {
			v[j] = rng.Float32()*2 - 1
		}
		rows[i] = Row{ID: fmt.Sprintf("row-%d-%x", i, rng.Uint32()), Vector: v, Seq: rng.Uint64()}
		if i%3 != 0 {
			rows[i].Metadata = fmt.Appendf(nil, `{"n":%d,"word":"w%d"}`, i, rng.IntN(50))
		}
	}
	return rows
}

func writeFile(t require.TestingT, dimension int, batches ...[]Row) []byte {
	var b bytes.Buffer
	w, err := NewWriter(&b, dimension)
	require.NoError(t, err)
	for _, rows := range batches {
		require.NoError(t, w.Append(rows))
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

func openBytes(t require.TestingT, b []byte) *File {
	f, err := Open(bytes.NewReader(b), int64(len(b)))
	require.NoError(t, err)
	return f
}

// readPoints reads rows by ordinal.
func readPoints(f *File, ordinals []uint32, want Projection) ([]Row, error) {
	p, err := f.Points(ordinals, want)
	if err != nil {
		return nil, err
	}
	read := map[ByteSpan][]byte{}
	for _, span := range p.Spans() {
		read[span] = make([]byte, span.Length)
		if err := readFull(f.r, read[span], span.Offset); err != nil {
			return nil, err
		}
	}
	rows := make([]Row, len(ordinals))
	for i := range rows {
		rows[i].Vector = make([]float32, f.Dimension())
	}
	return rows, p.Read(rows, func(s ByteSpan) []byte { return read[s] })
}

// requireSame reads everything back in every way there is.
func requireSame(t require.TestingT, b []byte, rows []Row) {
	f := openBytes(t, b)
	requireRows(t, f, b, rows)
	requireRows(t, byLayout(t, f, b), b, rows)
}

func requireRows(t require.TestingT, f *File, b []byte, rows []Row) {
	require.Equal(t, len(rows), f.Rows())
	var got []Row
	require.NoError(t, f.Scan(0, uint32(f.Rows()), ProjectAll, func(batch []Row) error {
		for _, r := range batch {
			r.Vector, r.Metadata = slices.Clone(r.Vector), slices.Clone(r.Metadata)
			got = append(got, r)
		}
		return nil
	}))
	ordinals := make([]uint32, len(rows))
	for i := range rows {
		ordinals[i] = uint32(i)
		requireRow(t, rows[i], got[i])
		offset, length, err := f.VectorRange(uint32(i))
		require.NoError(t, err)
		require.Equal(t, encodeFloats(rows[i].Vector), b[offset:offset+int64(length)])
	}
	points, err := readPoints(f, ordinals, ProjectAll)
	require.NoError(t, err)
	for i, want := range rows {
		requireRow(t, want, points[i])
	}
}

// requireRow compares vectors by bits: NaN must survive too.
func requireRow(t require.TestingT, want, got Row) {
	require.Equal(t, want.ID, got.ID)
	require.Equal(t, encodeFloats(want.Vector), encodeFloats(got.Vector))
	require.Equal(t, want.Metadata, got.Metadata)
	require.Equal(t, want.Seq, got.Seq)
}

func encodeFloats(v []float32) []byte {
	b := make([]byte, 0, 4*len(v))
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}

// Row counts around the page and batch borders of each dimension.
func TestRoundTripDimensions(t *testing.T) {
	for _, dimension := range []int{1, 2, 3, 7, 8, 9, 16, 128, 768, 1536, 4096, 16384} {
		page := rowsPerVectorPage(dimension)
		for _, count := range []int{0, 1, page - 1, page, page + 1, 3*page + 2} {
			t.Run(fmt.Sprintf("%dx%d", count, dimension), func(t *testing.T) {
				rows := makeRows(rand.New(rand.NewPCG(uint64(dimension), uint64(count))), count, dimension)
				requireSame(t, writeFile(t, dimension, rows), rows)
			})
		}
	}
}

func TestRoundTripRowGroups(t *testing.T) {
	const dimension = 4
	rows := makeRows(rand.New(rand.NewPCG(1, 2)), 2*groupRows+77, dimension)
	b := writeFile(t, dimension, rows[:100_000], rows[100_000:100_001], rows[100_001:])
	f := openBytes(t, b)
	require.Len(t, f.groups, 3)
	rng := rand.New(rand.NewPCG(3, 4))
	ordinals := []uint32{0, groupRows - 1, groupRows, 2*groupRows - 1, 2 * groupRows, uint32(len(rows) - 1)}
	for range 500 {
		ordinals = append(ordinals, rng.Uint32N(uint32(len(rows))))
	}
	points, err := readPoints(f, ordinals, ProjectAll)
	require.NoError(t, err)
	for i, ordinal := range ordinals {
		requireRow(t, rows[ordinal], points[i])
	}
	next := uint32(groupRows - 5)
	require.NoError(t, f.Scan(next, 2*groupRows+5, ProjectAll, func(batch []Row) error {
		for _, row := range batch {
			requireRow(t, rows[next], row)
			next++
		}
		return nil
	}))
	require.EqualValues(t, 2*groupRows+5, next)
}

// Large metadata must not make large pages, nor large row groups.
func TestRoundTripBigMetadata(t *testing.T) {
	rows := makeRows(rand.New(rand.NewPCG(5, 6)), 3000, 2)
	for i := range rows {
		rows[i].Metadata = append([]byte(`{"s":"`), bytes.Repeat([]byte{byte('a' + i%26)}, 60_000)...)
		rows[i].Metadata = append(rows[i].Metadata, `"}`...)
	}
	b := writeFile(t, 2, rows)
	f := openBytes(t, b)
	require.Len(t, f.groups, 3, "64 MiB of metadata end a row group")
	index, err := f.pageIndexOf(&f.groups[0], columnMetadata)
	require.NoError(t, err)
	require.Len(t, index.ends, f.groups[0].rows, "one such document fills a page")
	requireSame(t, b, rows)
}

func TestRoundTripRapid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dimension := rapid.IntRange(1, 40).Draw(t, "dimension")
		row := rapid.Custom(func(t *rapid.T) Row {
			r := Row{
				ID:     rapid.String().Draw(t, "id"),
				Vector: rapid.SliceOfN(rapid.Float32(), dimension, dimension).Draw(t, "vector"),
				Seq:    rapid.Uint64().Draw(t, "seq"),
			}
			if rapid.Bool().Draw(t, "has metadata") {
				r.Metadata = []byte(`{"s":` + string(mustJSON(rapid.String().Draw(t, "metadata"))) + `}`)
			}
			return r
		})
		batches := rapid.SliceOfN(rapid.SliceOfN(row, 0, 50), 0, 4).Draw(t, "batches")
		requireSame(t, writeFile(t, dimension, batches...), slices.Concat(batches...))
	})
}

func TestPointReadsAnyOrder(t *testing.T) {
	rows := makeRows(rand.New(rand.NewPCG(7, 8)), 5000, 3)
	f := openBytes(t, writeFile(t, 3, rows))
	rapid.Check(t, func(t *rapid.T) {
		ordinals := rapid.SliceOf(rapid.Uint32Range(0, uint32(len(rows)-1))).Draw(t, "ordinals")
		want := Projection(rapid.Uint8Max(uint8(ProjectAll)).Draw(t, "projection"))
		points, err := readPoints(f, ordinals, want)
		require.NoError(t, err)
		for i, ordinal := range ordinals {
			row := Row{Vector: make([]float32, 3)}
			if want&ProjectID != 0 {
				row.ID = rows[ordinal].ID
			}
			if want&ProjectVector != 0 {
				row.Vector = rows[ordinal].Vector
			}
			if want&ProjectMetadata != 0 {
				row.Metadata = rows[ordinal].Metadata
			}
			if want&ProjectSeq != 0 {
				row.Seq = rows[ordinal].Seq
			}
			requireRow(t, row, points[i])
		}
	})
}

func TestScanProjectionAndRange(t *testing.T) {
	rows := makeRows(rand.New(rand.NewPCG(9, 10)), 3000, 5)
	f := openBytes(t, writeFile(t, 5, rows))
	rapid.Check(t, func(t *rapid.T) {
		from := rapid.IntRange(0, len(rows)).Draw(t, "from")
		to := rapid.IntRange(from, len(rows)).Draw(t, "to")
		projection := Projection(rapid.IntRange(0, int(ProjectAll)).Draw(t, "projection"))
		next := from
		require.NoError(t, f.Scan(uint32(from), uint32(to), projection, func(batch []Row) error {
			for _, got := range batch {
				want := Row{}
				if projection&ProjectID != 0 {
					want.ID = rows[next].ID
				}
				if projection&ProjectVector != 0 {
					want.Vector = rows[next].Vector
				}
				if projection&ProjectMetadata != 0 {
					want.Metadata = rows[next].Metadata
				}
				if projection&ProjectSeq != 0 {
					want.Seq = rows[next].Seq
				}
				require.Equal(t, want, got)
				next++
			}
			return nil
		}))
		require.Equal(t, to, next)
	})
}

func TestScanStopsAtError(t *testing.T) {
	f := openBytes(t, writeFile(t, 2, makeRows(rand.New(rand.NewPCG(1, 1)), 3000, 2)))
	calls := 0
	err := f.Scan(0, 3000, ProjectID, func([]Row) error { calls++; return io.ErrClosedPipe })
	require.Equal(t, io.ErrClosedPipe, err)
	require.Equal(t, 1, calls)
}

// countingReader counts reads and bytes.
type countingReader struct {
	r     io.ReaderAt
	calls atomic.Int64
	bytes atomic.Int64
}

func (c *countingReader) ReadAt(p []byte, off int64) (int, error) {
	c.calls.Add(1)
	c.bytes.Add(int64(len(p)))
	return c.r.ReadAt(p, off)
}

// The number of reads is part of what a cold query costs.
func TestFewReads(t *testing.T) {
	rows := makeRows(rand.New(rand.NewPCG(11, 12)), 20_000, 16)
	b := writeFile(t, 16, rows)
	r := &countingReader{r: bytes.NewReader(b)}
	step := func(name string, calls int64, do func() error) {
		t.Helper()
		r.calls.Store(0)
		r.bytes.Store(0)
		require.NoError(t, do())
		require.LessOrEqual(t, r.calls.Load(), calls, name)
	}
	var f *File
	step("open", 1, func() (err error) { f, err = Open(r, int64(len(b))); return err })
	step("first vector range", 1, func() error { _, _, err := f.VectorRange(19_999); return err })
	step("next vector range", 0, func() error { _, _, err := f.VectorRange(3); return err })
	step("first ids", 1, func() error { _, err := f.Points([]uint32{5, 6, 1000}, ProjectID); return err })
	step("all of other rows", 2, func() error { _, err := f.Points([]uint32{1, 10_000, 19_000}, ProjectAll); return err })
	p, err := f.Points([]uint32{1, 19_000, 2, 1}, ProjectID|ProjectVector)
	require.NoError(t, err)
	require.Len(t, p.Spans(), 2+4, "two pages of ids, and vectors")
	step("scan", 20, func() error { return f.Scan(0, 20_000, ProjectAll, func([]Row) error { return nil }) })
	require.LessOrEqual(t, r.bytes.Load(), int64(len(b)))
}

func TestWriterRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		row  Row
		want string
	}{
		"wrong dimension": {Row{ID: "a", Vector: []float32{1}}, "columns: append row 0: vector has 1 values, want 2"},
		"bad id":          {Row{ID: "\xff", Vector: []float32{1, 2}}, `columns: append row 0: id "\xff" is not valid utf-8`},
		"bad metadata":    {Row{ID: "a", Vector: []float32{1, 2}, Metadata: []byte("\xff")}, `columns: append row 0: metadata of id "a" is not valid utf-8`},
	} {
		t.Run(name, func(t *testing.T) {
			w, err := NewWriter(io.Discard, 2)
			require.NoError(t, err)
			require.EqualError(t, w.Append([]Row{test.row}), test.want)
			require.EqualError(t, w.Append([]Row{{ID: "a", Vector: []float32{1, 2}}}), test.want, "the writer stays failed")
			require.EqualError(t, w.Close(), test.want)
		})
	}
	_, err := NewWriter(io.Discard, 0)
	require.EqualError(t, err, "columns: dimension is 0, want 1 to 16384")
	_, err = NewWriter(io.Discard, MaxDimension+1)
	require.EqualError(t, err, "columns: dimension is 16385, want 1 to 16384")
}

// failingWriter accepts some bytes, then fails.
type failingWriter struct{ left int }

func (w *failingWriter) Write(p []byte) (int, error) {
	if len(p) > w.left {
		return 0, io.ErrShortWrite
	}
	w.left -= len(p)
	return len(p), nil
}

func TestWriterReportsEveryWriteError(t *testing.T) {
	rows := makeRows(rand.New(rand.NewPCG(15, 16)), 300, 8)
	size := len(writeFile(t, 8, rows))
	for left := 0; left < size; left += 1 + size/97 {
		w, err := NewWriter(&failingWriter{left: left}, 8)
		require.NoError(t, err)
		err = w.Append(rows)
		if err == nil {
			err = w.Close()
		}
		require.ErrorIs(t, err, io.ErrShortWrite, "after %d bytes", left)
	}
}

func TestOrdinalOutOfRange(t *testing.T) {
	f := openBytes(t, writeFile(t, 2, makeRows(rand.New(rand.NewPCG(1, 1)), 3, 2)))
	_, _, err := f.VectorRange(3)
	require.EqualError(t, err, "columns: vector range: ordinal is 3, file has 3 rows")
	_, err = f.Points([]uint32{0, 4}, ProjectID)
	require.EqualError(t, err, `columns: read "id": ordinal is 4, file has 3 rows`)
	_, err = f.Points([]uint32{0, 4}, ProjectVector)
	require.EqualError(t, err, "columns: vector range: ordinal is 4, file has 3 rows")
	require.EqualError(t, f.Scan(2, 4, ProjectAll, nil), "columns: scan [2, 4): file has 3 rows")
}
