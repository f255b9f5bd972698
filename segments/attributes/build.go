package attributes

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"unsafe"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/columns"
)

// Builder collects the attributes of a segment's rows. It is for one goroutine.
type Builder struct {
	limits   Limits
	places   []place
	row      uint32
	rows     uint32
	spent    int64
	complete bool
	arena    []byte // what keys are copied to
}

// place is a place in documents, numbered for columns.Walk.
type place struct {
	path    string
	members map[string]int
	each    int // 0 if there is none
	shape   columns.Shape
	values  *dictionary // nil for none
}

// dictionary is the values at a place, and who has them.
type dictionary struct {
	numbers map[string]uint32
	keys    []string // by number
	pairs   []byte   // of varints: how much further the row is than the last, and the value
	last    uint32
	count   int   // of pairs
	spent   int64 // bytes
	dropped bool
}

// NewBuilder returns a builder for an index within limits.
func NewBuilder(limits Limits) *Builder {
	return &Builder{limits: limits.withDefaults(), places: make([]place, 1), complete: true}
}

// Add takes the next row's metadata; nil for none.
func (b *Builder) Add(metadata []byte) {
	b.row = b.rows
	b.rows++
	if len(metadata) > 0 {
		columns.Walk(metadata, b)
	}
}

// Member implements columns.Walker.
func (b *Builder) Member(at int, name []byte) (int, bool) {
	if member, ok := b.places[at].members[string(name)]; ok {
		return member, member > 0
	}
	if bytes.IndexByte(name, '"') >= 0 || b.full() {
		return 0, false // no filter can ask for a name with a quote
	}
	path := []byte(b.places[at].path)
	if at != 0 {
		path = append(path, '.')
	}
	member := b.place(columns.AppendKeyName(path, string(name)))
	if member == 0 {
		return 0, false
	}
	if b.places[at].members == nil {
		b.places[at].members = map[string]int{}
	}
	b.places[at].members[string(name)] = member
	return member, true
}

// Each implements columns.Walker.
func (b *Builder) Each(at int) (int, bool) {
	if each := b.places[at].each; each > 0 {
		return each, true
	}
	if b.full() {
		return 0, false
	}
	each := b.place([]byte(b.places[at].path + "[]"))
	b.places[at].each = each
	return each, each > 0
}

// full says whether there are as many places as may be, and that some are left out.
func (b *Builder) full() bool {
	if len(b.places) <= placesPerPath*b.limits.Paths {
		return false
	}
	b.complete = false
	return true
}

// place makes a new place, or 0 if its path is too long.
func (b *Builder) place(path []byte) int {
	if len(path) > pathBytes {
		b.complete = false
		return 0
	}
	b.places = append(b.places, place{path: string(path)})
	return len(b.places) - 1
}

// Shape implements columns.Walker.
func (b *Builder) Shape(at int, shape columns.Shape) {
	p := &b.places[at]
	p.shape |= shape
	if p.values == nil {
		p.values = &dictionary{numbers: map[string]uint32{}} // an empty array has no value
	}
}

var longKey = []byte{columns.KeyLong}

// keyCost is what a value takes besides its bytes, in a map and a list.
const keyCost = 64

// Value implements columns.Walker.
func (b *Builder) Value(at int, key []byte) {
	d := b.places[at].values
	if d == nil {
		d = &dictionary{numbers: map[string]uint32{}}
		b.places[at].values = d
	}
	if d.dropped {
		return
	}
	if len(key) > maxKeyBytes {
		key = longKey
	}
	before := d.spent
	number, known := d.numbers[string(key)]
	if !known {
		number = uint32(len(d.keys))
		own := b.keep(key)
		d.numbers[own] = number
		d.keys = append(d.keys, own)
		d.spent += int64(len(key)) + keyCost
	}
	size := len(d.pairs)
	d.pairs = binary.AppendUvarint(d.pairs, uint64(b.row-d.last))
	d.pairs = binary.AppendUvarint(d.pairs, uint64(number))
	d.spent += int64(len(d.pairs) - size)
	d.last = b.row
	d.count++
	if b.spent += d.spent - before; b.spent > b.limits.Bytes {
		b.drop()
	}
}

// keep copies a key. Keys of a dictionary that is dropped keep their memory until
// the builder goes.
func (b *Builder) keep(key []byte) string {
	if len(b.arena)+len(key) > cap(b.arena) {
		b.arena = make([]byte, 0, 64<<10)
	}
	at := len(b.arena)
	b.arena = append(b.arena, key...)
	return unsafe.String(&b.arena[at], len(key))
}

// drop leaves out what takes most.
func (b *Builder) drop() {
	var most *dictionary
	for i := range b.places {
		if d := b.places[i].values; d != nil && !d.dropped && (most == nil || d.spent > most.spent) {
			most = d
		}
	}
	b.spent -= most.spent
	*most = dictionary{dropped: true, count: most.count}
}

// Encode writes the index, which begins at offset base of its file, in pieces, and
// returns its directory.
func (b *Builder) Encode(base int64, write func([]byte) error) (directory []byte, err error) {
	var chosen []*place
	for i := range b.places {
		if b.places[i].values != nil {
			chosen = append(chosen, &b.places[i])
		}
	}
	if len(chosen) > b.limits.Paths {
		slices.SortFunc(chosen, func(x, y *place) int {
			return cmp.Or(cmp.Compare(y.values.count, x.values.count), cmp.Compare(x.path, y.path))
		})
		chosen, b.complete = chosen[:b.limits.Paths], false
	}
	slices.SortFunc(chosen, func(x, y *place) int { return cmp.Compare(x.path, y.path) })
	d := Directory{Rows: b.rows, Complete: b.complete}
	at := base
	for _, p := range chosen {
		e := &pathEncoder{Path: Path{Name: p.path, Shape: p.shape, Dropped: p.values.dropped, base: at}, write: func(p []byte) error {
			at += int64(len(p))
			return write(p)
		}}
		if !e.Dropped {
			if err := e.encode(p.values); err != nil {
				return nil, fmt.Errorf("encode attribute %q: %w", p.path, err)
			}
			if record := e.table.encode(); len(record) <= inlineFences {
				e.inline = record
			} else {
				e.fences = Place{Offset: at, Length: len(record), CRC32C: crc32.Checksum(record, blob.Castagnoli)}
				if err := e.write(record); err != nil {
					return nil, fmt.Errorf("encode attribute %q: %w", p.path, err)
				}
			}
		}
		d.Paths = append(d.Paths, e.Path)
	}
	return d.encode(), nil
}

// byValue turns the pairs round: rows[starts[v]:ends[v]] are those of value v.
func (d *dictionary) byValue() (starts, ends, rows []uint32) {
	starts, ends = make([]uint32, len(d.keys)+1), make([]uint32, len(d.keys))
	each := func(fn func(row, value uint32)) {
		row := uint32(0)
		for pairs := d.pairs; len(pairs) > 0; {
			step, n := binary.Uvarint(pairs)
			value, m := binary.Uvarint(pairs[n:])
			pairs = pairs[n+m:]
			row += uint32(step)
			fn(row, uint32(value))
		}
	}
	each(func(_, value uint32) { starts[value+1]++ })
	for v := range ends {
		starts[v+1] += starts[v]
		ends[v] = starts[v]
	}
	rows = make([]uint32, d.count)
	each(func(row, value uint32) {
		if end := ends[value]; end == starts[value] || rows[end-1] != row { // an array may have a value twice
			rows[end] = row
			ends[value]++
		}
	})
	return starts, ends, rows
}

// pathEncoder writes the values of one path.
type pathEncoder struct {
	Path
	write  func([]byte) error
	table  Fences
	unions [][]byte

	block    []byte
	previous string // key in the block
	fence    fence
	union    []uint32 // rows of the block's values, in no order
}

func (e *pathEncoder) encode(d *dictionary) error {
	starts, ends, rows := d.byValue()
	order := make([]uint32, len(d.keys))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(a, b uint32) int { return cmp.Compare(d.keys[a], d.keys[b]) })
	for _, v := range order {
		key, of := d.keys[v], rows[starts[v]:ends[v]]
		e.count(key, of)
		if err := e.add(key, of); err != nil {
			return err
		}
		e.table.last = []byte(key)
	}
	if err := e.end(); err != nil {
		return err
	}
	slices.SortStableFunc(e.Common, func(a, b Common) int { return cmp.Compare(b.Rows, a.Rows) })
	e.Common = slices.Clip(e.Common[:min(len(e.Common), commonValues)])
	for _, u := range e.unions {
		if err := e.write(u); err != nil {
			return err
		}
	}
	return nil
}

// count keeps the statistics.
func (e *pathEncoder) count(key string, rows []uint32) {
	n := uint32(len(rows))
	switch key[0] {
	case columns.KeyFilled:
		e.Rows = n
	case columns.KeyNull:
		e.Nulls = n
	case columns.KeyLong:
		e.Long = n
	case columns.KeyOther:
	default:
		e.Values++
		e.Pairs += uint64(n)
		cut := []byte(key[:min(len(key), statKeyBytes)])
		if e.Least == nil {
			e.Least = cut
		}
		e.Most = cut
		if len(cut) < len(key) {
			return
		}
		if e.Common = append(e.Common, Common{cut, n}); len(e.Common) >= 64*commonValues {
			slices.SortStableFunc(e.Common, func(a, b Common) int { return cmp.Compare(b.Rows, a.Rows) })
			e.Common = e.Common[:commonValues]
		}
	}
}

func (e *pathEncoder) add(key string, rows []uint32) error {
	if len(e.block) == 0 {
		e.fence = fence{first: []byte(key)}
		e.previous = ""
	}
	shared := 0
	for shared < min(len(key), len(e.previous)) && key[shared] == e.previous[shared] {
		shared++
	}
	e.block = binary.AppendUvarint(e.block, uint64(shared))
	e.block = binary.AppendUvarint(e.block, uint64(len(key)-shared))
	e.block = append(e.block, key[shared:]...)
	e.block = appendRows(e.block, rows)
	e.previous = key
	e.fence.values++
	e.fence.rows += uint64(len(rows))
	e.union = append(e.union, rows...)
	if len(e.block) >= blockBytes {
		return e.end()
	}
	return nil
}

// end writes the block and keeps its union for later.
func (e *pathEncoder) end() error {
	if len(e.block) == 0 {
		return nil
	}
	e.fence.length, e.fence.crc32c = uint32(len(e.block)), crc32.Checksum(e.block, blob.Castagnoli)
	if e.fence.values > 1 {
		slices.Sort(e.union)
		union := appendRows(nil, slices.Compact(e.union))
		e.fence.unionLength, e.fence.unionCRC = uint32(len(union)), crc32.Checksum(union, blob.Castagnoli)
		e.unions = append(e.unions, union)
	}
	e.table.fences = append(e.table.fences, e.fence)
	err := e.write(e.block)
	e.block, e.union = e.block[:0], e.union[:0]
	return err
}

// appendRows appends a set of rows, which ascend: how many; then the steps from
// each to the next, or the length of a bitmap and the bitmap.
func appendRows(dst []byte, rows []uint32) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(rows)))
	if len(rows) <= deltaRows {
		last := uint32(0)
		for _, row := range rows {
			dst = binary.AppendUvarint(dst, uint64(row-last))
			last = row
		}
		return dst
	}
	set := roaring.New()
	set.AddMany(rows)
	set.RunOptimize()
	b, err := set.ToBytes()
	if err != nil {
		panic(fmt.Sprintf("BUG: a bitmap in memory: %v", err))
	}
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

var _ columns.Walker = (*Builder)(nil)
