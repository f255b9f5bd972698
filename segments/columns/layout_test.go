package columns

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func layoutOf(t require.TestingT, f *File) []byte {
	layout, err := f.AppendLayout(nil)
	require.NoError(t, err)
	return layout
}

// byLayout is f known by its layout alone.
func byLayout(t require.TestingT, f *File, b []byte) *File {
	out, err := FromLayout(bytes.NewReader(b), int64(len(b)), f.Dimension(), layoutOf(t, f))
	require.NoError(t, err)
	return out
}

// The layout must say what the file's own footer and page indexes say.
func TestLayoutSaysWhatTheFileSays(t *testing.T) {
	rng := rand.New(rand.NewPCG(51, 52))
	long := makeRows(rng, 300, 3)
	for i := range long {
		long[i].Metadata = fmt.Appendf(nil, `{"text":%q}`, bytes.Repeat([]byte{'a' + byte(i%26)}, rng.IntN(9000)))
	}
	for name, file := range map[string][]byte{
		"many pages":   writeFile(t, 128, makeRows(rng, 2500, 128)),
		"a page a row": writeFile(t, 5000, makeRows(rng, 7, 5000)),
		"one row":      writeFile(t, 1, makeRows(rng, 1, 1)),
		"no row":       writeFile(t, 4),
		"uneven pages": writeFile(t, 3, long),
		"groups":       writeFile(t, 2, makeRows(rng, 2*groupRows+1, 2)),
	} {
		t.Run(name, func(t *testing.T) {
			want := openBytes(t, file)
			got := byLayout(t, want, file)
			require.Equal(t, want.rows, got.rows)
			require.Len(t, got.groups, len(want.groups))
			for i := range want.groups {
				w, g := &want.groups[i], &got.groups[i]
				require.Equal(t, w.first, g.first)
				require.Equal(t, w.rows, g.rows)
				for column := range columnCount {
					wantPages, err := want.pageIndexOf(w, column)
					require.NoError(t, err)
					gotPages, err := got.pageIndexOf(g, column)
					require.NoError(t, err)
					require.Equal(t, wantPages, gotPages, columnNames[column])
					require.Equal(t, w.chunks[column].offset, g.chunks[column].offset)
					require.Equal(t, w.chunks[column].size, g.chunks[column].size)
				}
			}
			require.Equal(t, layoutOf(t, want), layoutOf(t, got))
		})
	}
}

// A layout is part of what a segment reads first: it stays within two bits a
// vector page and a few KB for the rest.
func TestLayoutIsSmall(t *testing.T) {
	const rows, dimension = 20_000, 128
	f := openBytes(t, writeFile(t, dimension, makeRows(rand.New(rand.NewPCG(53, 54)), rows, dimension)))
	pages := rows / rowsPerVectorPage(dimension)
	size := len(layoutOf(t, f))
	require.Less(t, size, pages/4+400, "%d vector pages", pages)
	t.Logf("%d bytes for %d vector pages", size, pages)
}

func TestLayoutNeedsNoRead(t *testing.T) {
	b := writeFile(t, 4, makeRows(rand.New(rand.NewPCG(55, 56)), 5000, 4))
	r := &countingReader{r: bytes.NewReader(b)}
	f, err := FromLayout(r, int64(len(b)), 4, layoutOf(t, openBytes(t, b)))
	require.NoError(t, err)
	_, _, err = f.VectorRange(4999)
	require.NoError(t, err)
	require.Zero(t, r.calls.Load())
	_, err = readPoints(f, []uint32{7, 8}, ProjectID)
	require.NoError(t, err)
	require.Equal(t, int64(1), r.calls.Load())
}

func TestPackedNumbers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.SampledFrom([]uint32{0, 1, 3, 1000, 1<<32 - 1}).Draw(t, "most")
		values := rapid.SliceOfN(rapid.Uint32Max(most), 0, 100).Draw(t, "values")
		p := packingOf(values)
		b := p.append(nil, values)
		if len(b) != p.size(len(values)) {
			t.Fatalf("%d numbers take %d bytes, want %d", len(values), len(b), p.size(len(values)))
		}
		i := 0
		p.each(b, len(values), func(got uint64) {
			if got != uint64(values[i]) {
				t.Fatalf("number %d is %d, want %d", i, got, values[i])
			}
			i++
		})
	})
}

// Layouts that lie must be refused before anything relies on them, at the latest
// when a page is asked for.
func TestLayoutRefuses(t *testing.T) {
	const dimension, rows = 3, 3000
	file := writeFile(t, dimension, makeRows(rand.New(rand.NewPCG(57, 58)), rows, dimension))
	good := layoutOf(t, openBytes(t, file))
	le := binary.LittleEndian
	const group = layoutHeadSize
	const ids = group + layoutGroupSize // the chunk of the id column
	for name, test := range map[string]struct {
		change func(b []byte) []byte
		want   string
	}{
		"good":            {func(b []byte) []byte { return b }, ""},
		"empty":           {func([]byte) []byte { return nil }, "too early"},
		"cut":             {func(b []byte) []byte { return b[:len(b)-1] }, "too early"},
		"more":            {func(b []byte) []byte { return append(b, 0) }, "1 bytes follow"},
		"many groups":     {func(b []byte) []byte { le.PutUint32(b, 1<<31); return b }, "2147483648 row groups"},
		"no rows":         {func(b []byte) []byte { le.PutUint32(b[group:], 0); return b }, "0 rows after 0"},
		"long group":      {func(b []byte) []byte { le.PutUint32(b[group:], groupRows+1); return b }, "131073 rows after 0"},
		"more rows":       {func(b []byte) []byte { le.PutUint32(b[group:], rows+1024); return b }, "rows: page 2 has"},
		"before the file": {func(b []byte) []byte { le.PutUint64(b[ids:], 3); return b }, "claims bytes [3, "},
		"past the file":   {func(b []byte) []byte { le.PutUint64(b[ids:], uint64(len(file))); return b }, "claims bytes ["},
		"negative":        {func(b []byte) []byte { le.PutUint64(b[ids:], 1<<63); return b }, "claims bytes ["},
		"no bytes":        {func(b []byte) []byte { le.PutUint32(b[ids+8:], 0); return b }, "+0) of a file"},
		"short chunk":     {func(b []byte) []byte { le.PutUint32(b[ids+8:], 100); return b }, "bytes: page 0 has"},
		"no pages":        {func(b []byte) []byte { le.PutUint32(b[ids+12:], 0); return b }, "has 0 pages for 3000 rows"},
		"many pages":      {func(b []byte) []byte { le.PutUint32(b[ids+12:], rows+1); return b }, "has 3001 pages for 3000 rows"},
		"wide rows":       {func(b []byte) []byte { b[ids+24] = 33; return b }, "numbers of 33 and"},
		"wide bytes":      {func(b []byte) []byte { b[ids+25] = 33; return b }, "and 33 bits"},
		"long page":       {func(b []byte) []byte { le.PutUint32(b[ids+16:], 1025); return b }, "rows: page 0 has 1025 after 0 of 3000, want 1 to 1024"},
		"empty page":      {func(b []byte) []byte { le.PutUint32(b[ids+16:], 0); return b }, "rows: page 0 has 0"},
		"bytes of nobody": {func(b []byte) []byte { le.PutUint32(b[ids+20:], 0); return b }, ""}, // a page's own checks tell
		"vectors too close": {func(b []byte) []byte {
			// Rows and bytes are swapped between the vector column and the next.
			vectors := ids + chunkBytes(b[ids:])
			le.PutUint32(b[vectors+20:], 1)
			return b
		}, "vectors need"},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := FromLayout(bytes.NewReader(file), int64(len(file)), dimension, test.change(bytes.Clone(good)))
			if err == nil {
				_, err = readAll(f, int64(len(file)))
			}
			switch {
			case test.want != "":
				require.ErrorContains(t, err, test.want)
			case name == "good":
				require.NoError(t, err)
			default:
				require.Error(t, err)
			}
		})
	}
	for _, dim := range []int{0, MaxDimension + 1} {
		_, err := FromLayout(bytes.NewReader(file), int64(len(file)), dim, good)
		require.ErrorContains(t, err, "dimension is")
	}
}

// chunkBytes is how long the stored chunk at the start of b is.
func chunkBytes(b []byte) int {
	var c chunk
	rest, err := c.decode(b, groupRows, 1<<62)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return len(b) - len(rest)
}

// Any one damaged byte of a layout must be an error or change nothing: what is
// read through it still has the CRC of its page, and vectors are inside.
func TestEveryDamagedByteOfALayout(t *testing.T) {
	rows := makeRows(rand.New(rand.NewPCG(59, 60)), 20, 3)
	file := writeFile(t, 3, rows)
	good := layoutOf(t, openBytes(t, file))
	for at := range good {
		for _, flip := range []byte{0x01, 0x80, 0xff} {
			bad := bytes.Clone(good)
			bad[at] ^= flip
			f, err := FromLayout(bytes.NewReader(file), int64(len(file)), 3, bad)
			if err != nil || f.Rows() != len(rows) { // a segment knows how many it has
				continue
			}
			got, err := readAll(f, int64(len(file)))
			if err != nil {
				continue
			}
			require.Len(t, got, len(rows), "byte %d ^ %#x", at, flip)
			for i := range got {
				requireRow(t, rows[i], got[i])
			}
		}
	}
}

// The bytes of a layout are part of a format: they may not change.
func TestLayoutBytesGolden(t *testing.T) {
	file := writeFile(t, 128, makeRows(rand.New(rand.NewPCG(31, 32)), 2500, 128))
	got := fmt.Sprintf("%x\n", layoutOf(t, openBytes(t, file)))
	path := filepath.Join("testdata", "layout", "2500x128.hex")
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

func FuzzFromLayout(f *testing.F) {
	file := writeFile(f, 3, makeRows(rand.New(rand.NewPCG(61, 62)), 1500, 3))
	f.Add(layoutOf(f, openBytes(f, file)))
	f.Add(layoutOf(f, openBytes(f, writeFile(f, 3))))
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := FromLayout(bytes.NewReader(file), int64(len(file)), 3, b)
		if err == nil {
			_, _ = readAll(g, int64(len(file))) // must not panic
		}
	})
}
