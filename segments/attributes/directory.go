package attributes

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/columns"
)

const (
	flagDropped = 1 << 3 // above the shapes
	flagInline  = 1 << 4
)

func (d *Directory) encode() []byte {
	b := []byte{0}
	if d.Complete {
		b[0] = 1
	}
	b = binary.AppendUvarint(b, uint64(d.Rows))
	b = binary.AppendUvarint(b, uint64(len(d.Paths)))
	for i := range d.Paths {
		b = d.Paths[i].append(b)
	}
	return b
}

func appendString(b, s []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func (p *Path) append(b []byte) []byte {
	b = appendString(b, []byte(p.Name))
	flags := byte(p.Shape)
	if p.Dropped {
		return append(b, flags|flagDropped)
	}
	if p.inline != nil {
		flags |= flagInline
	}
	b = append(b, flags)
	for _, n := range []uint64{uint64(p.Rows), uint64(p.Nulls), uint64(p.Long), uint64(p.Values), p.Pairs} {
		b = binary.AppendUvarint(b, n)
	}
	b = appendString(appendString(b, p.Least), p.Most)
	b = binary.AppendUvarint(b, uint64(len(p.Common)))
	for _, c := range p.Common {
		b = binary.AppendUvarint(appendString(b, c.Key), uint64(c.Rows))
	}
	b = binary.AppendUvarint(b, uint64(p.base))
	if p.inline != nil {
		return appendString(b, p.inline)
	}
	b = binary.AppendUvarint(b, uint64(p.fences.Offset))
	b = binary.AppendUvarint(b, uint64(p.fences.Length))
	return binary.LittleEndian.AppendUint32(b, p.fences.CRC32C)
}

// reader takes bytes apart. After the first thing that is not there everything
// reads as nothing, and ok is false.
type reader struct {
	b  []byte
	ok bool
}

func (r *reader) fail() {
	r.b, r.ok = nil, false
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) number(most uint64) uint64 {
	x, n := binary.Uvarint(r.b)
	if n <= 0 || x > most {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return x
}

func (r *reader) uint32() uint32 {
	if len(r.b) < 4 {
		r.fail()
		return 0
	}
	x := binary.LittleEndian.Uint32(r.b)
	r.b = r.b[4:]
	return x
}

// bytes returns at most so many, of which the length comes first; nil for none.
func (r *reader) bytes(most uint64) []byte {
	n := r.number(min(most, uint64(len(r.b))))
	if n > uint64(len(r.b)) {
		r.fail()
	}
	if !r.ok || n == 0 {
		return nil
	}
	s := r.b[:n:n]
	r.b = r.b[n:]
	return s
}

// DecodeDirectory reads a directory of an index over so many rows that ends at
// offset end of its file. The result aliases b.
func DecodeDirectory(b []byte, rows uint32, end int64) (*Directory, error) {
	fail := func(what string) (*Directory, error) {
		return nil, fmt.Errorf("attribute directory of %d bytes: %s: %w", len(b), what, blob.ErrCorrupt)
	}
	r := reader{b, true}
	d := &Directory{}
	complete := r.byte()
	d.Complete, d.Rows = complete == 1, uint32(r.number(math.MaxUint32))
	count := r.number(maxPaths)
	if !r.ok || complete > 1 || d.Rows != rows {
		return fail(fmt.Sprintf("begins with %d for %d rows, want %d", complete, d.Rows, rows))
	}
	for i := range count {
		p := r.path(rows, end)
		if !r.ok || len(d.Paths) > 0 && p.Name <= d.Paths[len(d.Paths)-1].Name {
			return fail(fmt.Sprintf("path %d, %q", i, p.Name))
		}
		d.Paths = append(d.Paths, p)
	}
	if len(r.b) > 0 {
		return fail(fmt.Sprintf("%d bytes follow", len(r.b)))
	}
	return d, nil
}

func (r *reader) path(rows uint32, end int64) (p Path) {
	p.Name = string(r.bytes(pathBytes))
	flags := r.byte()
	p.Shape, p.Dropped = columns.Shape(flags&(flagDropped-1)), flags&flagDropped != 0
	if p.Dropped || !r.ok {
		return p
	}
	of := uint64(rows)
	p.Rows, p.Nulls, p.Long = uint32(r.number(of)), uint32(r.number(of)), uint32(r.number(of))
	p.Values, p.Pairs = uint32(r.number(math.MaxUint32)), r.number(math.MaxInt64)
	p.Least, p.Most = r.bytes(statKeyBytes), r.bytes(statKeyBytes)
	for range r.number(commonValues) {
		p.Common = append(p.Common, Common{r.bytes(statKeyBytes), uint32(r.number(of))})
	}
	p.base = int64(r.number(uint64(end)))
	if flags&flagInline != 0 {
		if p.inline = r.bytes(inlineFences); p.inline == nil {
			r.fail()
		}
		return p
	}
	p.fences = Place{Offset: int64(r.number(uint64(end))), Length: int(r.number(uint64(end)))}
	p.fences.CRC32C = r.uint32()
	if p.fences.Offset+int64(p.fences.Length) > end || p.fences.Length == 0 {
		r.fail()
	}
	return p
}

// Path returns the entry of a path by name.
func (d *Directory) Path(name string) (*Path, bool) {
	i, ok := slices.BinarySearchFunc(d.Paths, name, func(p Path, name string) int { return cmp.Compare(p.Name, name) })
	if !ok {
		return nil, false
	}
	return &d.Paths[i], true
}

// FencesAt says where the fences of the path lie; false if it has them at hand.
func (p *Path) FencesAt() (Place, bool) { return p.fences, p.inline == nil }

// Fences are the blocks of a path.
type Fences struct {
	base   int64
	last   []byte // key
	fences []fence
}

// fence is the summary of a block.
type fence struct {
	first       []byte // key
	values      uint32
	rows        uint64 // of all values, one by one
	length      uint32 // bytes
	crc32c      uint32
	unionLength uint32 // 0 if there is none: the block has one value
	unionCRC    uint32

	at, unionAt int64 // offset in the file; not stored
}

const leastFenceBytes = 14 // what a stored fence takes at least

func (f *Fences) encode() []byte {
	b := binary.AppendUvarint(nil, uint64(len(f.fences)))
	b = appendString(b, f.last)
	for _, x := range f.fences {
		b = appendString(b, x.first)
		b = binary.AppendUvarint(b, uint64(x.values))
		b = binary.AppendUvarint(b, x.rows)
		b = binary.AppendUvarint(b, uint64(x.length))
		b = binary.LittleEndian.AppendUint32(b, x.crc32c)
		b = binary.AppendUvarint(b, uint64(x.unionLength))
		b = binary.LittleEndian.AppendUint32(b, x.unionCRC)
	}
	return b
}

// DecodeFences reads the fences of p: b is what lies at FencesAt, or nil if it has
// them at hand. The result aliases b.
func DecodeFences(p *Path, b []byte) (*Fences, error) {
	if p.inline != nil {
		b = p.inline
	}
	fail := func(what string, i int) (*Fences, error) {
		return nil, fmt.Errorf("fences of attribute %q: %s %d: %w", p.Name, what, i, blob.ErrCorrupt)
	}
	r := reader{b, true}
	f := &Fences{base: p.base}
	count := r.number(uint64(len(b) / leastFenceBytes))
	f.last = r.bytes(maxKeyBytes)
	if !r.ok {
		return fail("not as many as", int(count))
	}
	f.fences = make([]fence, count)
	at := p.base
	for i := range f.fences {
		x := &f.fences[i]
		x.first = r.bytes(maxKeyBytes)
		x.values, x.rows = uint32(r.number(math.MaxUint32)), r.number(math.MaxInt64)
		x.length, x.crc32c = uint32(r.number(math.MaxInt32)), r.uint32()
		x.unionLength, x.unionCRC = uint32(r.number(math.MaxInt32)), r.uint32()
		if !r.ok || x.first == nil || x.values == 0 || x.length == 0 || (x.values > 1) != (x.unionLength > 0) ||
			i > 0 && bytes.Compare(x.first, f.fences[i-1].first) <= 0 {
			return fail("block", i)
		}
		x.at = at
		at += int64(x.length)
	}
	for i := range f.fences {
		f.fences[i].unionAt = at
		at += int64(f.fences[i].unionLength)
	}
	if len(r.b) > 0 || count > 0 && bytes.Compare(f.last, f.fences[count-1].first) < 0 {
		return fail("more than blocks", int(count))
	}
	return f, nil
}

// Len is the number of blocks.
func (f *Fences) Len() int { return len(f.fences) }

// Block says where a block lies.
func (f *Fences) Block(i int) Place {
	x := &f.fences[i]
	return Place{x.at, int(x.length), x.crc32c}
}

// Touching returns the blocks that may have keys of a span: from ≤ number < to.
func (f *Fences) Touching(s columns.Span) (from, to int) {
	if bytes.Compare(s.From, s.To) >= 0 || len(f.fences) == 0 || bytes.Compare(f.last, s.From) < 0 {
		return 0, 0
	}
	above := func(key []byte) int { // first block that begins above key
		i, _ := slices.BinarySearchFunc(f.fences, key, func(x fence, key []byte) int {
			if bytes.Compare(x.first, key) <= 0 {
				return -1
			}
			return 1
		})
		return i
	}
	from = max(above(s.From)-1, 0)
	to, _ = slices.BinarySearchFunc(f.fences, s.To, func(x fence, key []byte) int { return bytes.Compare(x.first, key) })
	return from, max(from, to)
}

// within says whether all keys of a block are in a span.
func (f *Fences) within(i int, s columns.Span) bool {
	if bytes.Compare(f.fences[i].first, s.From) < 0 {
		return false
	}
	if i+1 < len(f.fences) {
		return bytes.Compare(f.fences[i+1].first, s.To) <= 0
	}
	return bytes.Compare(f.last, s.To) < 0
}

// Cover is a block with values of a span, or the union of one that has no others.
type Cover struct {
	Place
	Union bool
}

// Covers is what has to be read for the rows with a value in a span: with unions,
// the values of two blocks at most.
func (f *Fences) Covers(s columns.Span, unions bool) []Cover {
	from, to := f.Touching(s)
	out := make([]Cover, 0, to-from)
	for i := from; i < to; i++ {
		c := Cover{Place: f.Block(i)}
		if x := &f.fences[i]; unions && x.unionLength > 0 && f.within(i, s) {
			c = Cover{Place{x.unionAt, int(x.unionLength), x.unionCRC}, true}
		}
		out = append(out, c)
	}
	return out
}

// AddTo adds to a set the rows with a value in a span: read is what lies at c, of
// an index over so many rows. With text, which is for spans of strings, they have
// to pass that as well.
func (c Cover) AddTo(set *roaring.Bitmap, read []byte, rows uint32, s columns.Span, text func([]byte) bool) error {
	if c.Union {
		union, err := openUnion(read, rows)
		if err == nil {
			union.AddTo(set)
		}
		return err
	}
	var few []uint32
	err := EachValue(read, rows, func(v Value) bool {
		if bytes.Compare(v.Key, s.To) >= 0 {
			return false
		}
		if bytes.Compare(v.Key, s.From) >= 0 && (text == nil || text(v.Key[1:])) {
			if v.Rows.many != nil {
				set.Or(v.Rows.many)
			} else {
				few = append(few, v.Rows.few...)
			}
		}
		return true
	})
	set.AddMany(few)
	return err
}
