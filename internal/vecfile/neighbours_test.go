package vecfile

import (
	"encoding/binary"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

func ivecs(rows ...[]int32) (b []byte) {
	for _, row := range rows {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(row)))
		for _, id := range row {
			b = binary.LittleEndian.AppendUint32(b, uint32(id))
		}
	}
	return b
}

func readNeighbours(t require.TestingT, path string) ([][]int32, error) {
	n, err := OpenNeighbours(path)
	if err != nil {
		return nil, err
	}
	defer n.Close()
	var rows [][]int32
	for {
		row, err := n.Next()
		if err == io.EOF {
			return rows, nil
		}
		if err != nil {
			return rows, err
		}
		rows = append(rows, row)
	}
}

func TestNeighboursRoundTrip(t *testing.T) {
	want := [][]int32{{3, 1, 2}, {}, {-1}, {7, 8}}
	for _, compression := range []string{"", ".gz", ".zst"} {
		got, err := readNeighbours(t, write(t, t.TempDir(), "gt.ivecs"+compression, pack(t, compression, ivecs(want...))))
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

func TestNeighboursRefuseDamage(t *testing.T) {
	whole := ivecs([]int32{3, 1, 2}, []int32{4, 5, 6})
	for cut := range whole {
		for _, compression := range []string{"", ".gz"} {
			got, err := readNeighbours(t, write(t, t.TempDir(), "gt.ivecs"+compression, pack(t, compression, whole[:cut])))
			require.Len(t, got, cut/16)
			if cut%16 == 0 {
				require.NoError(t, err)
				continue
			}
			require.ErrorIs(t, err, io.ErrUnexpectedEOF, "cut at %d", cut)
		}
	}
	_, err := readNeighbours(t, write(t, t.TempDir(), "gt.ivecs", []byte{0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0}))
	require.ErrorContains(t, err, "row 0 at byte 0: 2147483647 neighbours, want 0 to 131072")
	_, err = OpenNeighbours("gt.fvecs")
	require.ErrorContains(t, err, "ground truth is read from .ivecs files")
}
