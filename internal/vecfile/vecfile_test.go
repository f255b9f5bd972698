package vecfile

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// writers holds, per name ending, how the rows of a test become a file.
var writers = map[string]func(rows [][]float32) []byte{
	".fvecs": func(rows [][]float32) []byte {
		var b []byte
		for _, row := range rows {
			b = binary.LittleEndian.AppendUint32(b, uint32(len(row)))
			b = appendFloats(b, row)
		}
		return b
	},
	".bvecs": func(rows [][]float32) []byte {
		var b []byte
		for _, row := range rows {
			b = binary.LittleEndian.AppendUint32(b, uint32(len(row)))
			for _, x := range row {
				b = append(b, byte(x))
			}
		}
		return b
	},
	".fbin": func(rows [][]float32) []byte {
		b := binary.LittleEndian.AppendUint32(nil, uint32(len(rows)))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(rows[0])))
		for _, row := range rows {
			b = appendFloats(b, row)
		}
		return b
	},
	".npy": func(rows [][]float32) []byte {
		b := npyHeader(1, fmt.Sprintf("{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d), }", len(rows), len(rows[0])))
		for _, row := range rows {
			b = appendFloats(b, row)
		}
		return b
	},
	".csv": func(rows [][]float32) []byte {
		b := []byte("vector\n")
		for _, row := range rows {
			b = append(append(append(b, '"'), numbers(row)...), "\"\n"...)
		}
		return b
	},
	".jsonl": func(rows [][]float32) []byte {
		var b []byte
		for _, row := range rows {
			b = append(append(append(b, `{"vector":`...), numbers(row)...), "}\n"...)
		}
		return b
	},
}

func appendFloats(b []byte, row []float32) []byte {
	for _, x := range row {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}

func numbers(row []float32) []byte {
	b, err := json.Marshal(row)
	if err != nil {
		panic(err)
	}
	return b
}

func npyHeader(major byte, dictionary string) []byte {
	b := append([]byte(npyMagic), major, 0)
	if major == 1 {
		b = binary.LittleEndian.AppendUint16(b, uint16(len(dictionary)+1))
	} else {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(dictionary)+1))
	}
	return append(append(b, dictionary...), '\n')
}

func pack(t require.TestingT, compression string, data []byte) []byte {
	var out bytes.Buffer
	switch compression {
	case "":
		return data
	case ".gz":
		w := gzip.NewWriter(&out)
		_, err := w.Write(data)
		require.NoError(t, err)
		require.NoError(t, w.Close())
	case ".zst":
		w, err := zstd.NewWriter(&out)
		require.NoError(t, err)
		_, err = w.Write(data)
		require.NoError(t, err)
		require.NoError(t, w.Close())
	}
	return out.Bytes()
}

func write(t require.TestingT, dir, name string, data []byte) string {
	path := filepath.Join(dir, name)
	require.NoError(t, os.WriteFile(path, data, 0o600))
	return path
}

// readAll reads to the end, keeping its own copies; a skippable error counts as a row and is returned beside them.
func readAll(r Reader) (rows []Row, skipped []error, err error) {
	for {
		row, err := r.Next()
		var failure *Error
		switch {
		case err == io.EOF:
			return rows, skipped, nil
		case errors.As(err, &failure) && failure.Skippable:
			skipped = append(skipped, err)
			continue
		case err != nil:
			return rows, skipped, err
		}
		row.Vector = append([]float32(nil), row.Vector...)
		row.Metadata = append(json.RawMessage(nil), row.Metadata...)
		rows = append(rows, row)
	}
}

func TestRoundTrip(t *testing.T) {
	dir := t.TempDir()
	for ext, encode := range writers {
		for _, compression := range []string{"", ".gz", ".zst"} {
			t.Run(ext+compression, func(t *testing.T) {
				rapid.Check(t, func(rt *rapid.T) {
					value := rapid.Float32Range(-math.MaxFloat32, math.MaxFloat32)
					if ext == ".bvecs" {
						value = rapid.Map(rapid.Byte(), func(b byte) float32 { return float32(b) })
					}
					d := rapid.IntRange(1, 40).Draw(rt, "dimension")
					want := rapid.SliceOfN(rapid.SliceOfN(value, d, d), 1, 20).Draw(rt, "rows")
					skip := rapid.Int64Range(0, int64(len(want))+2).Draw(rt, "skip")
					path := write(rt, dir, "rows"+ext+compression, pack(rt, compression, encode(want)))

					r, err := Open(path, Options{IDPrefix: "p-"})
					require.NoError(rt, err)
					defer r.Close()
					if total, known := r.Total(); known {
						require.EqualValues(rt, len(want), total)
					}
					require.NoError(rt, r.Skip(skip))
					skip = min(skip, int64(len(want)))
					require.Equal(rt, skip, r.Position())
					rows, skipped, err := readAll(r)
					require.NoError(rt, err)
					require.Empty(rt, skipped)
					require.Len(rt, rows, len(want)-int(skip))
					for i, row := range rows {
						require.Equal(rt, want[int(skip)+i], row.Vector)
						require.Equal(rt, fmt.Sprintf("p-%d", int(skip)+i), row.ID)
						require.Nil(rt, row.Metadata)
					}
				})
			})
		}
	}
}

func TestTotalIsKnownBeforeReading(t *testing.T) {
	rows := [][]float32{{1, 2}, {3, 4}, {5, 6}}
	for name, want := range map[string]bool{
		"x.fvecs": true, "x.bvecs": true, "x.fbin": true, "x.npy": true, "x.fbin.gz": true, "x.npy.zst": true,
		"x.fvecs.gz": false, "x.csv": false, "x.jsonl": false,
	} {
		format, compression := formatOf(name)
		r, err := Open(write(t, t.TempDir(), name, pack(t, compression, writers[format](rows))), Options{})
		require.NoError(t, err, name)
		defer r.Close()
		total, known := r.Total()
		require.Equal(t, want, known, name)
		if known {
			require.EqualValues(t, 3, total, name)
		}
	}
}

// TestTruncation cuts every fixed layout at every byte: whole rows of a prefixed layout are a shorter file, every other cut is an
// error that names the row it falls into, packed or not.
func TestTruncation(t *testing.T) {
	rows := [][]float32{{1, 2, 3}, {4, 5, 6}, {7, 8, 9}}
	dir := t.TempDir()
	for _, ext := range []string{".fvecs", ".bvecs", ".fbin", ".npy"} {
		for _, compression := range []string{"", ".gz"} {
			whole := writers[ext](rows)
			body := len(writers[ext](rows[:1])) // of the header, if any, and one row
			stride := (len(whole) - body) / 2
			for cut := range whole {
				path := write(t, dir, "cut"+ext+compression, pack(t, compression, whole[:cut]))
				name := fmt.Sprintf("%s cut to %d of %d bytes", ext+compression, cut, len(whole))
				r, err := Open(path, Options{})
				var got []Row
				if err == nil {
					got, _, err = readAll(r)
					r.Close()
				}
				atRow := int64(-1)
				if at := cut - (body - stride); at >= 0 {
					atRow = int64(at / stride)
				}
				if prefixed := ext == ".fvecs" || ext == ".bvecs"; prefixed && cut%stride == 0 {
					require.NoError(t, err, name)
					require.Len(t, got, cut/stride, name)
					continue
				}
				var failure *Error
				require.ErrorAs(t, err, &failure, name)
				require.ErrorIs(t, err, io.ErrUnexpectedEOF, name)
				require.Equal(t, atRow, failure.Row, name)
				require.False(t, failure.Skippable, name)
				if compression == "" {
					require.Empty(t, got, "%s: a plain file that was cut must be refused before its first row", name)
				}
			}
		}
	}
}

func TestMalformedFilesNameTheDefect(t *testing.T) {
	fvecs := writers[".fvecs"]([][]float32{{1, 2}, {3, 4}})
	wrongDimension := bytes.Clone(fvecs)
	wrongDimension[12] = 7
	npy := func(dictionary string) []byte { return append(npyHeader(1, dictionary), make([]byte, 16)...) }
	le := func(values ...uint32) (b []byte) {
		for _, v := range values {
			b = binary.LittleEndian.AppendUint32(b, v)
		}
		return b
	}
	for _, c := range []struct {
		name string
		data []byte
		want string
	}{
		{"a.fvecs", wrongDimension, "row 1 at byte 12: dimension 7, want 2 as in row 0"},
		{"b.fvecs", le(0), "row 0 at byte 0: dimension 0, want 1 to 16384"},
		{"c.fvecs", le(math.MaxInt32), "row 0 at byte 0: dimension 2147483647, want 1 to 16384"},
		{"d.bvecs", le(math.MaxUint32), "row 0 at byte 0: dimension -1, want 1 to 16384"},
		{"e.fvecs", fvecs[:20], "row 1 at byte 12: the file ends after 8 of 12 bytes: unexpected EOF"},
		{"f.fbin", le(math.MaxInt32, 16384, 0), "row 0 at byte 8: the file ends after 4 of 65536 bytes"},
		{"g.fbin", le(math.MaxUint32, 2), "header at byte 0: row count -1, want 0 or more"},
		{"h.fbin", le(1, 0), "header at byte 4: dimension 0, want 1 to 16384"},
		{"i.fbin", le(1, 1, 0, 0), "row 1 at byte 12: bytes follow the 1 rows of the header"},
		{"j.fbin.gz", pack(t, ".gz", le(1, 1, 0, 0)), "row 1 at byte 12: bytes follow the 1 rows of the header"},
		{"k.npy", []byte("PK\x03\x04 not an array"), `header at byte 0: starts with "PK\x03\x04 n", want "\x93NUMPY"`},
		{"l.npy", append([]byte(npyMagic), 9, 0, 0, 0), "header at byte 6: version 9.0, want 1.0, 2.0 or 3.0"},
		{"m.npy", append(append([]byte(npyMagic), 2, 0), le(math.MaxUint32)...), "header of 4294967295 bytes, want at most 65536"},
		{"n.npy", npy("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }"), `fortran_order "True", want False`},
		{"o.npy", npy("{'descr': '<i8', 'fortran_order': False, 'shape': (1, 2), }"), `descr "<i8", want f2, f4 or f8`},
		{"p.npy", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }"), "shape (4,), want (rows, dimension)"},
		{"q.npy", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4, 1, 1), }"), "want (rows, dimension)"},
		{"r.npy", npy("{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (2, 2), }"), "want descr, fortran_order and shape of a plain array"},
		{"s.npy", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999, 2), }"), "value out of range"},
		{"t.npy", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 2), }"), "more than any file holds"},
		{"u.npy", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), } x"), `goes on after its end with " x`},
		{"v.npy", npy("{'fortran_order': False, 'shape': (2, 2), }"), `descr "", want f2, f4 or f8`},
		{"w.npy", npy("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2, 2)}"), `holds "descr" twice`},
		{"x.csv", []byte("id,title\n1,x\n"), `no column "vector" (or 1 to 16384 columns v0, v1, …) among ["id" "title"]`},
		{"y.csv", []byte("vector,vector\n"), `two columns are called "vector"`},
		{"z.csv", nil, "header at byte 0: header line: unexpected EOF"},
		{"aa.csv", []byte("vector\n\"" + strings.Repeat("x", 2*maxLineBytes)), "row 0 at byte 7: record is longer than 1048576 bytes; is a quote left open?"},
		{"ab.jsonl", []byte(`{"vector":[1]}` + "\n" + strings.Repeat(" ", 2*maxLineBytes)), "row 1 (line 2): line is longer than 1048576 bytes"},
		{"ac.fvecs.gz", pack(t, ".gz", fvecs)[:20], "unexpected EOF"},
		{"ad.fvecs.zst", []byte("plain"), "row 0 at byte 0"},
		{"ae.ivecs", le(0), "an .ivecs file holds lists of neighbours, not vectors"},
		{"af.tar", nil, `unknown format ".tar", want one of .fvecs`},
		{"ag.parquet", nil, "Parquet is not built into this program"},
		{"ah.parquet.gz", nil, "unpack the .gz first"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := write(t, t.TempDir(), c.name, c.data)
			r, err := Open(path, Options{})
			if err == nil {
				_, _, err = readAll(r)
				r.Close()
			}
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, path)
		})
	}
}

// TestHostileHeadersAllocateNothing measures what opening and reading a few hostile bytes costs.
func TestHostileHeadersAllocateNothing(t *testing.T) {
	dir := t.TempDir()
	huge := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, math.MaxInt32), MaxDimension)
	for name, data := range map[string][]byte{
		"a.fbin":  huge,
		"b.fvecs": huge,
		"c.npy":   npyHeader(3, "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000, 16384), }"),
	} {
		path := write(t, dir, name, data)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r, err := Open(path, Options{})
		if err == nil {
			_, _, err = readAll(r)
			r.Close()
		}
		runtime.ReadMemStats(&after)
		require.Error(t, err, name)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(2*readBufferBytes), name)
	}
}

func TestColumnNamesAreRefusedWhereThereAreNone(t *testing.T) {
	_, err := Open("x.fvecs", Options{IDColumn: "key"})
	require.ErrorContains(t, err, "a .fvecs file has no columns")
}

func TestParquetComesFromTheCaller(t *testing.T) {
	inner := write(t, t.TempDir(), "x.jsonl", []byte(`{"vector":[1]}`+"\n"+`{"id":"b","vector":[2]}`+"\n"))
	opts := Options{IDPrefix: "p-", IDColumn: "key", OpenParquet: func(path string, opts Options) (Reader, error) {
		require.Equal(t, "dir/x.parquet", path)
		require.Equal(t, "key", opts.IDColumn)
		return &bareIDs{open(t, inner)}, nil
	}}
	r, err := Open("dir/x.parquet", opts)
	require.NoError(t, err)
	defer r.Close()
	rows, _, err := readAll(r)
	require.NoError(t, err)
	require.Equal(t, []string{"p-0", "p-b"}, []string{rows[0].ID, rows[1].ID})
}

// bareIDs hands out an empty id where the file has none, as an opener of Parquet files does.
type bareIDs struct{ Reader }

func (b *bareIDs) Next() (Row, error) {
	row, err := b.Reader.Next()
	if row.ID == "0" {
		row.ID = ""
	}
	return row, err
}

func open(t *testing.T, path string) Reader {
	r, err := Open(path, Options{})
	require.NoError(t, err)
	t.Cleanup(func() { r.Close() })
	return r
}
