package segments

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"sort"

	"github.com/akidb/akidb/segments/blob"
)

// The id table lists a segment's ids in bytewise order with the ordinal of
// each, cut into blocks, with a fence a block in the footer. A look-up reads
// one block and needs nothing else; a scan in id order reads them one after
// the other.
//
// A block of n ids: n × ordinal u32, n+1 × offset u32 into the bytes that
// follow, the ids back to back.

// fence is the summary of one id-table block.
type fence struct {
	first  string // smallest id of the block
	offset int64  // in index.ivf
	length uint32 // bytes
	count  uint32 // ids
	crc32c uint32
}

// encodeIDTable returns the blocks, contiguous, and their fences with offsets
// counted from base. ids[i] is the id of ordinal i; ids are distinct.
func encodeIDTable(base int64, ids []string) ([]byte, []fence, error) {
	order := make([]uint32, len(ids))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(a, b uint32) int { return cmp.Compare(ids[a], ids[b]) })
	for i := 1; i < len(order); i++ {
		if ids[order[i]] == ids[order[i-1]] {
			return nil, nil, fmt.Errorf("id %q is given twice", ids[order[i]])
		}
	}
	var out []byte
	var fences []fence
	for part := range slices.Chunk(order, idBlockEntries) {
		start := len(out)
		for _, o := range part {
			out = binary.LittleEndian.AppendUint32(out, o)
		}
		end := uint32(0)
		out = binary.LittleEndian.AppendUint32(out, end)
		for _, o := range part {
			end += uint32(len(ids[o]))
			out = binary.LittleEndian.AppendUint32(out, end)
		}
		for _, o := range part {
			out = append(out, ids[o]...)
		}
		fences = append(fences, fence{
			first: ids[part[0]], offset: base + int64(start), length: uint32(len(out) - start), count: uint32(len(part)),
			crc32c: crc32.Checksum(out[start:], blob.Castagnoli),
		})
	}
	return out, fences, nil
}

func encodeFences(fences []fence) []byte {
	var b []byte
	for _, f := range fences {
		b = binary.LittleEndian.AppendUint64(b, uint64(f.offset))
		b = binary.LittleEndian.AppendUint32(b, f.length)
		b = binary.LittleEndian.AppendUint32(b, f.count)
		b = binary.LittleEndian.AppendUint32(b, f.crc32c)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(f.first)))
		b = append(b, f.first...)
	}
	return b
}

func decodeFences(b []byte, rows uint32) ([]fence, error) {
	var out []fence
	total := uint64(0)
	for len(b) > 0 {
		if len(b) < idFenceSize {
			return nil, fmt.Errorf("id fence of %d bytes: %w", len(b), blob.ErrCorrupt)
		}
		f := fence{
			offset: int64(binary.LittleEndian.Uint64(b)),
			length: binary.LittleEndian.Uint32(b[8:]),
			count:  binary.LittleEndian.Uint32(b[12:]),
			crc32c: binary.LittleEndian.Uint32(b[16:]),
		}
		n := binary.LittleEndian.Uint32(b[20:])
		if b = b[idFenceSize:]; uint64(n) > uint64(len(b)) {
			return nil, fmt.Errorf("id fence with an id of %d bytes, %d left: %w", n, len(b), blob.ErrCorrupt)
		}
		f.first, b = string(b[:n]), b[n:]
		if f.count == 0 || f.count > idBlockEntries || uint64(f.length) < uint64(f.count)*8+4 || f.offset < headerSize ||
			len(out) > 0 && f.first <= out[len(out)-1].first {
			return nil, fmt.Errorf("id block %d, %+v: %w", len(out), f, blob.ErrCorrupt)
		}
		total += uint64(f.count)
		out = append(out, f)
	}
	if total != uint64(rows) {
		return nil, fmt.Errorf("id table covers %d rows of %d: %w", total, rows, blob.ErrCorrupt)
	}
	return out, nil
}

// idBlock is one decoded block: a view of its bytes.
type idBlock struct {
	count   int
	numbers []byte // ordinals, then offsets
	ids     []byte
}

func (f fence) open(b []byte) (idBlock, error) {
	n := int(f.count)
	head := n*4 + (n+1)*4
	if len(b) < head {
		return idBlock{}, fmt.Errorf("id block of %d ids has %d bytes: %w", n, len(b), blob.ErrCorrupt)
	}
	blk := idBlock{count: n, numbers: b[:head], ids: b[head:]}
	end := uint32(0)
	for i := 0; i <= n; i++ {
		o := blk.offset(i)
		if o < end || i == 0 && o != 0 || i == n && int(o) != len(blk.ids) {
			return idBlock{}, fmt.Errorf("id block of %d ids has offset %d at %d after %d: %w", n, o, i, end, blob.ErrCorrupt)
		}
		end = o
	}
	return blk, nil
}

func (b idBlock) ordinal(i int) uint32 { return binary.LittleEndian.Uint32(b.numbers[4*i:]) }
func (b idBlock) offset(i int) uint32  { return binary.LittleEndian.Uint32(b.numbers[4*(b.count+i):]) }
func (b idBlock) id(i int) []byte      { return b.ids[b.offset(i):b.offset(i+1)] }

// search returns the position of the first id that is not below id.
func (b idBlock) search(id string) int {
	return sort.Search(b.count, func(i int) bool { return string(b.id(i)) >= id })
}

// NoRow is what Lookup answers for an id the segment does not hold.
const NoRow = ^uint32(0)

// Lookup returns the ordinal of every id, NoRow where the segment has none.
// Deleted rows count as held: a segment does not know what was deleted later.
func (r *Reader) Lookup(ctx context.Context, ids []string) ([]uint32, error) {
	l := r.lookUp(ids)
	data, err := blob.ReadRanges(ctx, r.ranges, r.idRanges(l.blocks))
	if err != nil {
		return nil, fmt.Errorf("read id table of segment %q: %w", r.segment.ID, err)
	}
	return l.find(data)
}

// lookup is a look-up of ids before the blocks that may hold them are read.
type lookup struct {
	reader *Reader
	ids    []string
	blocks []int
	wanted map[int][]int // block → positions in ids that may lie in it
}

func (r *Reader) lookUp(ids []string) *lookup {
	l := &lookup{reader: r, ids: ids, wanted: map[int][]int{}}
	for i, id := range ids {
		if b := r.idBlockOf(id); b >= 0 {
			if _, have := l.wanted[b]; !have {
				l.blocks = append(l.blocks, b)
			}
			l.wanted[b] = append(l.wanted[b], i)
		}
	}
	slices.Sort(l.blocks)
	return l
}

// find takes what was read of the blocks.
func (l *lookup) find(data [][]byte) ([]uint32, error) {
	out := make([]uint32, len(l.ids))
	for i := range out {
		out[i] = NoRow
	}
	blocks, err := l.reader.openIDBlocks(l.blocks, data)
	if err != nil {
		return nil, err
	}
	for i, n := range l.blocks {
		b := blocks[i]
		for _, pos := range l.wanted[n] {
			if at := b.search(l.ids[pos]); at < b.count && string(b.id(at)) == l.ids[pos] {
				out[pos] = b.ordinal(at)
			}
		}
	}
	return out, nil
}

// idBlockOf returns the block that would hold id, -1 when id is below all.
func (r *Reader) idBlockOf(id string) int {
	f := r.footer.fences
	return sort.Search(len(f), func(i int) bool { return f[i].first > id }) - 1
}

// idBlocks reads and opens blocks of the id table.
func (r *Reader) idBlocks(ctx context.Context, numbers []int) ([]idBlock, error) {
	data, err := blob.ReadRanges(ctx, r.ranges, r.idRanges(numbers))
	if err != nil {
		return nil, fmt.Errorf("read id table of segment %q: %w", r.segment.ID, err)
	}
	return r.openIDBlocks(numbers, data)
}

func (r *Reader) idRanges(numbers []int) []blob.Range {
	ranges := make([]blob.Range, len(numbers))
	for i, n := range numbers {
		f := r.footer.fences[n]
		ranges[i] = blob.Range{Key: r.segment.Index.Key, Offset: f.offset, Length: int(f.length), CRC32C: f.crc32c, Role: blob.Routing}
	}
	return ranges
}

// openIDBlocks opens blocks that were read.
func (r *Reader) openIDBlocks(numbers []int, data [][]byte) (out []idBlock, err error) {
	out = make([]idBlock, len(numbers))
	for i, n := range numbers {
		if out[i], err = r.footer.fences[n].open(data[i]); err != nil {
			return nil, fmt.Errorf("read id table of segment %q: %w", r.segment.ID, err)
		}
		for j := range out[i].count {
			if o := out[i].ordinal(j); o >= r.footer.rows {
				return nil, fmt.Errorf("id table of segment %q names row %d of %d: %w", r.segment.ID, o, r.footer.rows, blob.ErrCorrupt)
			}
		}
	}
	return out, nil
}

// IDsAfter hands the segment's ids above after to fn, in bytewise order with
// their ordinals, until fn returns false. Deleted rows are included.
func (r *Reader) IDsAfter(ctx context.Context, after string, fn func(id string, ordinal uint32) bool) error {
	for n := max(r.idBlockOf(after), 0); n < len(r.footer.fences); n++ {
		blocks, err := r.idBlocks(ctx, []int{n})
		if err != nil {
			return err
		}
		b := blocks[0]
		for i := b.search(after); i < b.count; i++ {
			if id := string(b.id(i)); id != after && !fn(id, b.ordinal(i)) {
				return nil
			}
		}
	}
	return nil
}
