package segments

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/akidb/akidb/segments/ivfpq"
)

// Resident is what a search needs of one segment, whole and in memory: its
// posting lists, and the id of every row by ordinal. It lives in memory that
// whoever loaded it provided, and is valid as long as that is.
//
//	list 0 │ list 1 │ …        each as a scan wants it, aligned
//	u32 × (rows+1)             where the id of each row begins
//	ids, back to back
type Resident struct {
	memory   []byte
	offsets  []uint64 // of list i in memory; one more than lists
	idStarts []byte
	ids      []byte
}

// ResidentSize is how much memory LoadResident needs; 0 for a segment that has
// no lists, and so nothing worth keeping.
func (r *Reader) ResidentSize() int64 { return r.residentSize }

// residentLists returns where lists go, and the end of them.
func (r *Reader) residentLists() (offsets []uint64, end uint64) {
	z := r.postings.Quantizer()
	offsets = make([]uint64, 1, len(r.footer.lists)+1)
	for _, l := range r.footer.lists {
		end += uint64(z.ListSize(l.List)) // a multiple of the alignment
		offsets = append(offsets, end)
	}
	return offsets, end
}

// idBytes is how many bytes the ids have together: blocks of the table without
// their numbers.
func (r *Reader) idBytes() (n int64) {
	for _, f := range r.footer.fences {
		n += int64(f.length) - 8*int64(f.count) - 4
	}
	return n
}

// LoadResident reads the posting lists and ids of the segment into memory,
// ResidentSize zeroed bytes aligned to 64, which the result is made of. It calls
// between, which may be nil, between reads: what loads in the background can
// wait there for what must not.
func (v *View) LoadResident(ctx context.Context, segment int, memory []byte, between func()) (*Resident, error) {
	if between == nil {
		between = func() {}
	}
	r := v.Segments[segment].Reader
	if r.postings == nil || int64(len(memory)) != r.ResidentSize() || r.idBytes() > math.MaxUint32 {
		return nil, fmt.Errorf("keep segment %q in memory: %d bytes, want %d, and at most %d of ids", r.segment.ID, len(memory), r.ResidentSize(), uint32(math.MaxUint32))
	}
	res := &Resident{memory: memory}
	var end uint64
	res.offsets, end = r.residentLists()
	res.idStarts = memory[end:][:4*(int(r.footer.rows)+1)]
	res.ids = memory[int(end)+len(res.idStarts):]
	for first := 0; first < len(r.footer.lists); first += listsAtOnce {
		between()
		refs := make([]ListRef, min(listsAtOnce, len(r.footer.lists)-first))
		for i := range refs {
			refs[i] = ListRef{Segment: segment, List: uint32(first + i)}
		}
		lists, err := v.Lists(ctx, refs)
		if err != nil {
			return nil, err
		}
		for i, b := range lists {
			copy(res.List(uint32(first+i)), b)
		}
	}
	return res, res.loadIDs(ctx, r, between)
}

// idBlocksBetween is how many blocks of ids are read between two waits.
const idBlocksBetween = 64

// loadIDs turns the id table, which is sorted by id, into one by ordinal. It
// reads the table twice: for the lengths, and for the ids.
func (res *Resident) loadIDs(ctx context.Context, r *Reader, between func()) error {
	le := binary.LittleEndian
	each := func(fn func(ordinal uint32, id []byte)) error {
		for n := range r.footer.fences {
			if n%idBlocksBetween == 0 {
				between()
			}
			blocks, err := r.idBlocks(ctx, []int{n})
			if err != nil {
				return err
			}
			for i := range blocks[0].count {
				fn(blocks[0].ordinal(i), blocks[0].id(i))
			}
		}
		return nil
	}
	if err := each(func(ordinal uint32, id []byte) { le.PutUint32(res.idStarts[4*(ordinal+1):], uint32(len(id))) }); err != nil {
		return err
	}
	var start uint32
	for at := 0; at < len(res.idStarts); at += 4 {
		start += le.Uint32(res.idStarts[at:])
		le.PutUint32(res.idStarts[at:], start)
	}
	if int(start) != len(res.ids) {
		return fmt.Errorf("id table of segment %q has %d bytes of ids by row, want %d", r.segment.ID, start, len(res.ids))
	}
	return each(func(ordinal uint32, id []byte) { copy(res.ids[le.Uint32(res.idStarts[4*ordinal:]):], id) })
}

// List implements ivfpq.ListData. The bytes are not to be written to.
func (res *Resident) List(list uint32) []byte {
	return res.memory[res.offsets[list]:res.offsets[list+1]:res.offsets[list+1]]
}

// ID returns the id of a row, copied out.
func (res *Resident) ID(ordinal uint32) string {
	le := binary.LittleEndian
	return string(res.ids[le.Uint32(res.idStarts[4*ordinal:]):le.Uint32(res.idStarts[4*ordinal+4:])])
}

var _ ivfpq.ListData = (*Resident)(nil)
