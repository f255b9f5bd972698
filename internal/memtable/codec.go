package memtable

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
)

// ErrMalformed: the bytes are not an encoded batch or delta.
var ErrMalformed = errors.New("malformed")

const (
	opUpsert = 1
	opDelete = 2

	batchVersion = 1
	deltaVersion = 1

	// maxID and maxMetadata bound what a decoder believes; the limits users
	// see are enforced where requests are parsed and are lower.
	maxID       = 64 << 10
	maxMetadata = 64 << 20
)

// AppendBatch appends the encoding of ops, which is the payload of one
// write-ahead-log record. Sequence numbers are not part of it: the record says
// the first, the others follow.
//
//	version u8 · dim u32 · count u32 · count × op
//	op: kind u8 · id length u32 · id · [metadata length u32 · metadata · dim × float32]
//
// All integers are little-endian; the bracket is there for upserts only.
func AppendBatch(dst []byte, dim int, ops []Op) []byte {
	le := binary.LittleEndian
	dst = append(dst, batchVersion)
	dst = le.AppendUint32(dst, uint32(dim))
	dst = le.AppendUint32(dst, uint32(len(ops)))
	for i := range ops {
		dst = appendOp(dst, dim, &ops[i])
	}
	return dst
}

func appendOp(dst []byte, dim int, op *Op) []byte {
	le := binary.LittleEndian
	kind := byte(opUpsert)
	if op.Delete {
		kind = opDelete
	}
	dst = append(dst, kind)
	dst = le.AppendUint32(dst, uint32(len(op.ID)))
	dst = append(dst, op.ID...)
	if op.Delete {
		return dst
	}
	if len(op.Vector) != dim {
		panic(fmt.Sprintf("BUG: vector of %d numbers in a batch of %d", len(op.Vector), dim))
	}
	dst = le.AppendUint32(dst, uint32(len(op.Metadata)))
	dst = append(dst, op.Metadata...)
	at := len(dst)
	dst = slices.Grow(dst, 4*dim)[:at+4*dim]
	for i, x := range op.Vector {
		le.PutUint32(dst[at+4*i:], math.Float32bits(x))
	}
	return dst
}

// DecodeBatch is the inverse of AppendBatch; the first operation gets sequence
// number first. The result shares no memory with b.
func DecodeBatch(b []byte, dim int, first uint64) ([]Op, error) {
	d := decoder{b: b, dim: dim}
	if v := d.u8(); d.err == nil && v != batchVersion {
		return nil, fmt.Errorf("batch version %d, want %d: %w", v, batchVersion, ErrMalformed)
	}
	if got := d.u32(); d.err == nil && int(got) != dim {
		return nil, fmt.Errorf("batch of %d dimensions, want %d: %w", got, dim, ErrMalformed)
	}
	ops := d.ops(func(i int) uint64 { return first + uint64(i) })
	return ops, d.finish("batch")
}

// Delta is what a writer answers to "what came after sequence number After":
// the newest operation on every id touched in (After, Upto], in order.
//
// A writer forgets operations once a manifest holds them. Asked for more than
// it remembers, it answers with an After above the one asked for, which is the
// FlushedSeq of manifest Version: the replica has to load that manifest (or a
// later one) to join the delta to it. Deltas are never joined across a gap.
type Delta struct {
	Epoch   uint64 // of the writer
	Version uint64 // newest manifest the writer has committed
	After   uint64
	Upto    uint64
	Ops     []Op
}

// Delta returns the operations after sequence number after, nil Ops when there
// are none. It begins at the snapshot's base when after lies below it.
func (s Snapshot) Delta(epoch, version, after uint64) Delta {
	after = max(after, s.table.base)
	d := Delta{Epoch: epoch, Version: version, After: after, Upto: max(after, s.last)}
	s.Newest(s.position(after), func(op Op) bool {
		d.Ops = append(d.Ops, op)
		return true
	})
	return d
}

// position is that of the first operation after seq.
func (s Snapshot) position(seq uint64) int {
	lo, hi := 0, s.count
	for lo < hi {
		mid := (lo + hi) / 2
		if s.at(int32(mid)).op.Seq <= seq {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// AppendDelta appends the encoding of d, its own checksum last.
//
//	version u8 · epoch u64 · manifest version u64 · after u64 · upto u64 · dim u32 · count u32 · count × (seq u64 · op) · crc32c u32
func AppendDelta(dst []byte, dim int, d Delta) []byte {
	le := binary.LittleEndian
	start := len(dst)
	dst = append(dst, deltaVersion)
	dst = le.AppendUint64(dst, d.Epoch)
	dst = le.AppendUint64(dst, d.Version)
	dst = le.AppendUint64(dst, d.After)
	dst = le.AppendUint64(dst, d.Upto)
	dst = le.AppendUint32(dst, uint32(dim))
	dst = le.AppendUint32(dst, uint32(len(d.Ops)))
	for i := range d.Ops {
		dst = le.AppendUint64(dst, d.Ops[i].Seq)
		dst = appendOp(dst, dim, &d.Ops[i])
	}
	return le.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// DecodeDelta is the inverse of AppendDelta. The result shares no memory with b.
func DecodeDelta(b []byte, dim int) (Delta, error) {
	if len(b) < 4 {
		return Delta{}, fmt.Errorf("delta of %d bytes: %w", len(b), ErrMalformed)
	}
	body, sum := b[:len(b)-4], binary.LittleEndian.Uint32(b[len(b)-4:])
	if got := crc32.Checksum(body, castagnoli); got != sum {
		return Delta{}, fmt.Errorf("delta crc32c %08x, want %08x: %w", got, sum, ErrMalformed)
	}
	d := decoder{b: body, dim: dim}
	if v := d.u8(); d.err == nil && v != deltaVersion {
		return Delta{}, fmt.Errorf("delta version %d, want %d: %w", v, deltaVersion, ErrMalformed)
	}
	out := Delta{Epoch: d.u64(), Version: d.u64(), After: d.u64(), Upto: d.u64()}
	if got := d.u32(); d.err == nil && int(got) != dim {
		return Delta{}, fmt.Errorf("delta of %d dimensions, want %d: %w", got, dim, ErrMalformed)
	}
	out.Ops = d.ops(func(int) uint64 { return d.u64() })
	if err := d.finish("delta"); err != nil {
		return Delta{}, err
	}
	prev := out.After
	for _, op := range out.Ops {
		if op.Seq <= prev || op.Seq > out.Upto {
			return Delta{}, fmt.Errorf("delta (%d, %d] has operation %d after %d: %w", out.After, out.Upto, op.Seq, prev, ErrMalformed)
		}
		prev = op.Seq
	}
	return out, nil
}

// decoder consumes b; the first failure sticks.
type decoder struct {
	b   []byte
	dim int
	err error
}

func (d *decoder) take(n int) []byte {
	if d.err != nil || n > len(d.b) {
		if d.err == nil {
			d.err = fmt.Errorf("want %d more bytes, got %d: %w", n, len(d.b), ErrMalformed)
		}
		return nil
	}
	out := d.b[:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) u8() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if b := d.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if b := d.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// bytes takes a length-prefixed run of at most limit bytes.
func (d *decoder) bytes(what string, limit int) []byte {
	n := d.u32()
	if d.err == nil && n > uint32(limit) {
		d.err = fmt.Errorf("%s of %d bytes, at most %d: %w", what, n, limit, ErrMalformed)
	}
	return d.take(int(n))
}

func (d *decoder) ops(seq func(i int) uint64) []Op {
	n := int(d.u32())
	if d.err != nil {
		return nil
	}
	// The shortest operation has 5 bytes: a count that cannot fit is refused
	// before anything is allocated for it.
	if n > len(d.b)/5 {
		d.err = fmt.Errorf("%d operations in %d bytes: %w", n, len(d.b), ErrMalformed)
		return nil
	}
	ops := make([]Op, 0, n)
	for i := 0; i < n && d.err == nil; i++ {
		ops = append(ops, d.op(seq(i)))
	}
	return ops
}

func (d *decoder) op(seq uint64) Op {
	kind := d.u8()
	op := Op{Seq: seq, ID: string(d.bytes("id", maxID)), Delete: kind == opDelete}
	if d.err != nil || op.Delete {
		return op
	}
	if kind != opUpsert {
		d.err = fmt.Errorf("operation kind %d: %w", kind, ErrMalformed)
		return op
	}
	if m := d.bytes("metadata", maxMetadata); len(m) > 0 {
		op.Metadata = append([]byte(nil), m...)
	}
	raw := d.take(4 * d.dim)
	if raw == nil {
		return op
	}
	op.Vector = make([]float32, d.dim)
	for i := range op.Vector {
		op.Vector[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return op
}

func (d *decoder) finish(what string) error {
	if d.err == nil && len(d.b) > 0 {
		d.err = fmt.Errorf("%d bytes after the end: %w", len(d.b), ErrMalformed)
	}
	if d.err != nil {
		return fmt.Errorf("decode %s: %w", what, d.err)
	}
	return nil
}
