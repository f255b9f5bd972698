package vecfile

import (
	"encoding/binary"
	"fmt"
	"io"
)

// maxNeighbours bounds a row of an .ivecs file, in ids: above any k a search can ask for.
const maxNeighbours = 1 << 17

// Neighbours reads an .ivecs file: for every query, the row numbers of its nearest rows, nearest first.
type Neighbours struct {
	*stream
	row int64
	raw []byte
}

// OpenNeighbours opens an .ivecs file, also as .gz or .zst.
func OpenNeighbours(path string) (*Neighbours, error) {
	format, compression := formatOf(path)
	if format != ".ivecs" {
		return nil, fmt.Errorf("open %q: ground truth is read from .ivecs files, got %q", path, format)
	}
	s, err := openStream(path, compression)
	if err != nil {
		return nil, err
	}
	return &Neighbours{stream: s}, nil
}

// Next returns the list of the next query, a fresh slice; io.EOF after the last. Lists may differ in length.
func (n *Neighbours) Next() ([]int32, error) {
	at := n.offset
	var head [4]byte
	got, err := n.full(head[:])
	if err == io.EOF {
		return nil, io.EOF
	}
	if err != nil {
		return nil, n.fail(n.row, at, cutShort(err, int64(got), 4))
	}
	k := int32(binary.LittleEndian.Uint32(head[:]))
	if k < 0 || k > maxNeighbours {
		return nil, n.fail(n.row, at, fmt.Errorf("%d neighbours, want 0 to %d", k, maxNeighbours))
	}
	if n.size >= 0 && n.size-n.offset < 4*int64(k) {
		return nil, n.fail(n.row, at, errTruncated(n.size-at, 4+4*int64(k)))
	}
	if want := 4 * int(k); cap(n.raw) < want {
		n.raw = make([]byte, want)
	}
	n.raw = n.raw[:4*k]
	if got, err := n.full(n.raw); err != nil {
		return nil, n.fail(n.row, at, cutShort(err, int64(got)+4, 4+4*int64(k)))
	}
	ids := make([]int32, k)
	for i := range ids {
		ids[i] = int32(binary.LittleEndian.Uint32(n.raw[4*i:]))
	}
	n.row++
	return ids, nil
}
