package ivfpq

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/akidb/akidb/kernels"
)

// The stored bytes of a list: a header, the scan codes of its own rows, those of rows spilled
// from other lists, which rows those are, and the refine codes of its own rows. FORMAT.md draws
// it.

// listView is a list's bytes, taken apart. Without refine codes the last two are empty.
type listView struct {
	scales  [2]float32 // of the additive factors and of those of the inner product
	blocks  []byte     // own rows, then, from the next whole block on, spilled ones
	spilled []byte     // ordinal of each spilled row
	codes   []byte     // int8, count × codeDim
	factors []byte     // scale and square of each row
}

// view takes a list apart. data is all of its bytes or those of its scan codes.
func (s *shape) view(l List, data []byte) (v listView, err error) {
	scan, whole := s.ScanSize(l), s.ListSize(l)
	if len(data) != scan && len(data) != whole {
		return v, fmt.Errorf("got %d bytes, want %d, or %d with refine codes", len(data), scan, whole)
	}
	if whole == 0 {
		return v, nil
	}
	le := binary.LittleEndian
	if count, spilled := le.Uint32(data[8:]), le.Uint32(data[12:]); count != l.Count || spilled != l.Spilled {
		return v, fmt.Errorf("list says %d rows and %d spilled ones, want %d and %d", count, spilled, l.Count, l.Spilled)
	}
	for i := range v.scales {
		v.scales[i] = math.Float32frombits(le.Uint32(data[4*i:]))
		if !(v.scales[i] > 0 && v.scales[i] <= math.MaxFloat32) {
			return v, fmt.Errorf("scale of factors is %v, want a positive number", v.scales[i])
		}
	}
	end := listHeader + (blocks(l.Count)+blocks(l.Spilled))*s.blockSize
	v.blocks = data[listHeader:end]
	v.spilled = data[end:][:4*l.Spilled]
	if len(data) == whole {
		v.codes = data[scan:][:int(l.Count)*s.codeDim]
		v.factors = data[scan+len(v.codes):][:int(l.Count)*refineFactors]
	}
	return v, nil
}

// spillStart is the position in a scan of the first spilled row.
func (l List) spillStart() int { return blocks(l.Count) * kernels.BlockRows }

// refineOf returns the int8 code of the list's row i, its scale and its square.
func (v *listView) refineOf(i, dim int) (code []byte, scale, square float32) {
	scale, square = decodeFactors((*[refineFactors]byte)(v.factors[i*refineFactors:]))
	return v.codes[i*dim:][:dim], scale, square
}

func decodeFactors(f *[refineFactors]byte) (scale, square float32) {
	return math.Float32frombits(binary.LittleEndian.Uint32(f[:])), math.Float32frombits(binary.LittleEndian.Uint32(f[4:]))
}

// listWriter assembles the bytes of one list after the other.
type listWriter struct {
	shape
	scan    factorBlocks
	list    List
	spilled []uint32
	out     []byte // the list's bytes; refine codes are written straight into it
}

// begin starts a list whose bytes are data, zeroed, ListSize of them.
func (w *listWriter) begin(l List, data []byte) {
	w.list, w.out, w.spilled = l, data, w.spilled[:0]
	w.scan.subQuantizers = w.subQuantizers
	rows := int(l.Count)
	if l.Spilled > 0 {
		rows = l.spillStart() + int(l.Spilled)
	}
	w.scan.reset(rows)
}

// refineSlot is where the int8 code of own row i goes.
func (w *listWriter) refineSlot(i int) []byte {
	return w.out[w.ScanSize(w.list)+i*w.codeDim:][:w.codeDim]
}

func (w *listWriter) putRefineFactors(i int, scale, square float32) {
	at := w.out[w.ScanSize(w.list)+int(w.list.Count)*w.codeDim+i*refineFactors:]
	binary.LittleEndian.PutUint32(at, math.Float32bits(scale))
	binary.LittleEndian.PutUint32(at[4:], math.Float32bits(square))
}

// finish writes what only the whole list tells.
func (w *listWriter) finish() {
	if len(w.out) == 0 {
		return
	}
	end := listHeader + w.scan.size()
	scales := w.scan.write(w.out[listHeader:end])
	le := binary.LittleEndian
	le.PutUint32(w.out, math.Float32bits(scales[0]))
	le.PutUint32(w.out[4:], math.Float32bits(scales[1]))
	le.PutUint32(w.out[8:], w.list.Count)
	le.PutUint32(w.out[12:], w.list.Spilled)
	for i, row := range w.spilled {
		le.PutUint32(w.out[end+4*i:], row)
	}
}
