package columns

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
	"github.com/stretchr/testify/require"
)

func setKey(m *format.FileMetaData, key, value string) {
	for i := range m.KeyValueMetadata {
		if m.KeyValueMetadata[i].Key == key {
			m.KeyValueMetadata[i].Value = value
		}
	}
}

// rewriteFooter replaces a file's footer by a changed one.
func rewriteFooter(t require.TestingT, b []byte, change func(*format.FileMetaData)) []byte {
	meta, size, err := decodeFooter(b)
	require.NoError(t, err)
	change(meta)
	footer, err := thrift.Marshal(new(thrift.CompactProtocol), meta)
	require.NoError(t, err)
	out := append(bytes.Clone(b[:len(b)-trailerSize-size]), footer...)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(footer)))
	return append(out, parquetMagic...)
}

// readEverything uses every way to read and returns the first error.
func readEverything(b []byte) ([]Row, error) {
	f, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, err
	}
	return readAll(f, int64(len(b)))
}

func readAll(f *File, size int64) ([]Row, error) {
	if f.Rows() > 1<<16 {
		return nil, nil // a damaged count that fits; the pages will tell, slowly
	}
	var rows []Row
	err := f.Scan(0, uint32(f.Rows()), ProjectAll, func(batch []Row) error {
		for _, r := range batch {
			r.Vector, r.Metadata = append([]float32(nil), r.Vector...), bytes.Clone(r.Metadata)
			rows = append(rows, r)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	ordinals := make([]uint32, f.Rows())
	for i := range ordinals {
		ordinals[i] = uint32(i)
		offset, length, err := f.VectorRange(uint32(i))
		if err != nil {
			return nil, err
		}
		if offset < 0 || offset+int64(length) > size {
			panic("BUG: vector range leaves the file")
		}
	}
	_, err = readPoints(f, ordinals, ProjectAll)
	return rows, err
}

// Any one damaged byte of the pages must be an error: pages carry a CRC. Damage
// elsewhere must be an error or change nothing that a reader is given.
func TestEveryDamagedByte(t *testing.T) {
	rows := makeRows(rand.New(rand.NewPCG(41, 42)), 20, 3)
	good := writeFile(t, 3, rows)
	meta, _, err := decodeFooter(good)
	require.NoError(t, err)
	inPage := func(at int) bool {
		for _, c := range meta.RowGroups[0].Columns {
			if m := c.MetaData; int64(at) >= m.DataPageOffset && int64(at) < m.DataPageOffset+m.TotalCompressedSize {
				return true
			}
		}
		return false
	}
	refused := 0
	for at := range good {
		for _, flip := range []byte{0x01, 0x80, 0xff} {
			bad := bytes.Clone(good)
			bad[at] ^= flip
			got, err := readEverything(bad)
			if err != nil {
				refused++
				continue
			}
			if inPage(at) {
				// Only bits of a page header that mean nothing may pass.
				require.Len(t, got, len(rows), "byte %d ^ %#x", at, flip)
			}
			for i := range got {
				requireRow(t, rows[i], got[i])
			}
		}
	}
	require.Greater(t, refused, len(good), "of %d", 3*len(good))
}

func TestEveryTruncation(t *testing.T) {
	good := writeFile(t, 3, makeRows(rand.New(rand.NewPCG(43, 44)), 20, 3))
	for size := range good {
		_, err := readEverything(good[:size])
		require.Error(t, err, "cut to %d bytes", size)
	}
}

// Offset indexes that lie must be refused before anything relies on them.
func TestPageIndexRefuses(t *testing.T) {
	type location = format.PageLocation
	const start, rows = 1000, 2000
	for name, test := range map[string]struct {
		pages []location
		want  string
	}{
		"good":         {[]location{{Offset: 1000, CompressedPageSize: 50, FirstRowIndex: 0}, {Offset: 1050, CompressedPageSize: 50, FirstRowIndex: 1024}}, ""},
		"no page":      {nil, "has 0 pages for 2000 rows"},
		"gap":          {[]location{{Offset: 1000, CompressedPageSize: 40}, {Offset: 1050, CompressedPageSize: 50, FirstRowIndex: 1000}}, "page 1 is at 1050, want 1040"},
		"empty page":   {[]location{{Offset: 1000}}, "page 0 has 0 bytes"},
		"late start":   {[]location{{Offset: 1000, CompressedPageSize: 100, FirstRowIndex: 1}}, "page 0 starts at row 1 of 2000"},
		"same row":     {[]location{{Offset: 1000, CompressedPageSize: 50}, {Offset: 1050, CompressedPageSize: 50}}, "page 1 starts at row 0 of 2000"},
		"past the end": {[]location{{Offset: 1000, CompressedPageSize: 50}, {Offset: 1050, CompressedPageSize: 50, FirstRowIndex: 2000}}, "page 1 starts at row 2000 of 2000"},
		"long page":    {[]location{{Offset: 1000, CompressedPageSize: 50}, {Offset: 1050, CompressedPageSize: 50, FirstRowIndex: 1025}}, "page 1 starts at row 1025, more than 1024"},
		"long last":    {[]location{{Offset: 1000, CompressedPageSize: 50}, {Offset: 1050, CompressedPageSize: 50, FirstRowIndex: 975}}, "last page ends at row 2000"},
		"short":        {[]location{{Offset: 1000, CompressedPageSize: 50}, {Offset: 1050, CompressedPageSize: 49, FirstRowIndex: 1000}}, "pages end at 1099, the column chunk at 1100"},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := thrift.Marshal(new(thrift.CompactProtocol), &format.OffsetIndex{PageLocations: test.pages})
			require.NoError(t, err)
			c := &chunk{offset: start, size: 100, indexSize: int64(len(b))}
			_, err = readPageIndex(bytes.NewReader(b), c, rows)
			if test.want == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, test.want)
			}
		})
	}
}

// Claims of enormous lists must not be believed: the decoder would allocate.
func TestThriftClaims(t *testing.T) {
	for name, b := range map[string][]byte{
		"list of 2^31 structs": {0x19, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x07},
		"string of 2^31 bytes": {0x18, 0xff, 0xff, 0xff, 0xff, 0x07},
		"endless nesting":      bytes.Repeat([]byte{0x1c}, 1000),
		"endless lists":        bytes.Repeat([]byte{0x19}, 1000),
		"no end":               {0x15, 0x02},
		"empty":                {},
		"map":                  {0x1b, 0x01, 0x88, 0x00, 0x00, 0x00},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := decodeThrift(b, new(format.FileMetaData), maxFooterItems)
			require.ErrorContains(t, err, "thrift: ")
		})
	}
	many := append([]byte{0x19, 0xf3, 0x90, 0x4e}, make([]byte, 10_000)...) // 10 000 bytes
	_, err := decodeThrift(append(many, 0), new(format.FileMetaData), 100)
	require.EqualError(t, err, "thrift: too many elements")
}

func FuzzOpen(f *testing.F) {
	for _, dimension := range []int{1, 3, 40} {
		f.Add(writeFile(f, dimension, makeRows(rand.New(rand.NewPCG(45, 46)), 30, dimension)))
	}
	f.Add(writeFile(f, 2))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = readEverything(b) // must not panic
	})
}

func FuzzOpenImport(f *testing.F) {
	f.Add(writeFile(f, 3, makeRows(rand.New(rand.NewPCG(47, 48)), 30, 3)))
	f.Fuzz(func(t *testing.T, b []byte) {
		im, err := OpenImport(bytes.NewReader(b), int64(len(b)), ImportConfig{})
		if err != nil || im.Rows() > 1<<16 {
			return
		}
		_ = im.Scan(0, func([]ImportRow) error { return nil }) // must not panic
	})
}
