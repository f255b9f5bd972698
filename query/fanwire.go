package query

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/akidb/akidb/cache"
)

// What pods say to each other about searches. Both messages end in their own
// checksum; all integers are little-endian. A change of either takes another
// pods.Protocol, with which pods of different versions leave each other alone.
//
//	question: "AKPQ" · its number u64 · manifest version u64 · commit id · remaining µs u64
//	          · from memory alone u8 · dim u32 · count u32 · count × (segment id · masked rows)
//	          · count u32 · count × search · crc32c u32
//	search:   k u32 · spare u32 · target recall f32 · nprobe u32 · flags u8 · threshold f32 · filter · dim × f32
//	answer:   "AKPA" · question's crc32c u32 · dim u32 · 7 × u64 of the cache's usage
//	          · count u32 · count × found · crc32c u32
//	found:    4 × u64 of the search's usage · count u32 · count × (stage · µs, rounds, gets, bytes u64 · detail)
//	          · count u32 · count × (distance f32 · id · version u64 · metadata · dimensions u32 · f32 …)
//
// Ids, filters, masked rows (a roaring bitmap in its portable form, empty for
// none), stages and metadata are preceded by their length, a u32. The dimensions
// of a row found are dim or 0.

const (
	questionMagic = "AKPQ"
	answerMagic   = "AKPA"
)

// errMalformed: the bytes are no message of a pod.
var errMalformed = errors.New("malformed")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const (
	flagExact = 1 << iota
	flagMetadata
	flagVector
	flagVersion
	flagThreshold // there is one
	flagCold
	flagsKnown = flagExact | flagMetadata | flagVector | flagVersion | flagThreshold | flagCold
)

// question asks a pod for a part of some searches: all of them in the segments
// given, on one version of a collection.
type question struct {
	number    uint64 // by which it can be given up
	version   uint64
	commit    string
	remaining time.Duration
	memory    bool // nothing may be read from the store for it
	dim       int
	segments  []askedSegment
	searches  []askedSearch
}

type askedSegment struct {
	id     string
	masked []byte // rows that the tail of whoever asks replaces
}

// askedSearch is a search on its way.
type askedSearch struct {
	vector       []float32
	k, spare     uint32
	targetRecall float32
	nprobe       uint32
	flags        byte
	threshold    float32 // if its flag is set
	filter       []byte  // its text; empty for none
}

// answered is what a pod found.
type answered struct {
	question uint32 // checksum of what was asked
	dim      int
	took     cache.Taken
	found    []foundOne
}

// foundOne is what one search found, nearest first.
type foundOne struct {
	usage  usage // what segments, lists, codes and rows it took
	stages []stage
	hits   []hit
}

func appendBytes[T string | []byte](dst []byte, b T) []byte {
	return append(binary.LittleEndian.AppendUint32(dst, uint32(len(b))), b...)
}

func appendFloats(dst []byte, v []float32) []byte {
	dst = slices.Grow(dst, 4*len(v))
	for _, x := range v {
		dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(x))
	}
	return dst
}

func seal(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// sumOf is the checksum a sealed message ends in.
func sumOf(b []byte) uint32 { return binary.LittleEndian.Uint32(b[len(b)-4:]) }

func (q *question) encode() []byte {
	le := binary.LittleEndian
	b := append([]byte(nil), questionMagic...)
	b = le.AppendUint64(b, q.number)
	b = le.AppendUint64(b, q.version)
	b = appendBytes(b, q.commit)
	b = le.AppendUint64(b, uint64(q.remaining.Microseconds()))
	memory := byte(0)
	if q.memory {
		memory = 1
	}
	b = append(b, memory)
	b = le.AppendUint32(b, uint32(q.dim))
	b = le.AppendUint32(b, uint32(len(q.segments)))
	for _, s := range q.segments {
		b = appendBytes(appendBytes(b, s.id), s.masked)
	}
	b = le.AppendUint32(b, uint32(len(q.searches)))
	for _, s := range q.searches {
		b = le.AppendUint32(b, s.k)
		b = le.AppendUint32(b, s.spare)
		b = le.AppendUint32(b, math.Float32bits(s.targetRecall))
		b = le.AppendUint32(b, s.nprobe)
		b = le.AppendUint32(append(b, s.flags), math.Float32bits(s.threshold))
		b = appendBytes(b, s.filter)
		b = appendFloats(b, s.vector)
	}
	return seal(b)
}

// decodeQuestion is the inverse of encode. The result shares no memory with b.
func decodeQuestion(b []byte) (*question, error) {
	d, err := openMessage(b, questionMagic)
	if err != nil {
		return nil, err
	}
	q := &question{number: d.u64(), version: d.u64(), commit: string(d.bytes())}
	remaining := d.u64()
	if remaining > uint64(maxTimeout.Microseconds()) {
		d.fail("%d µs remain, at most %v", remaining, maxTimeout)
		remaining = 0
	}
	q.remaining = time.Duration(remaining) * time.Microsecond
	switch memory := d.u8(); memory {
	case 0, 1:
		q.memory = memory == 1
	default:
		d.fail("from memory alone is %d, want 0 or 1", memory)
	}
	q.dim = d.dimension()
	for range d.each(8) {
		q.segments = append(q.segments, askedSegment{string(d.bytes()), d.own()})
	}
	for range d.each(25 + 4*q.dim) {
		s := askedSearch{k: d.u32(), spare: d.u32(), targetRecall: d.f32(), nprobe: d.u32(), flags: d.u8(), threshold: d.f32(), filter: d.own(), vector: d.floats(q.dim)}
		if s.flags&^flagsKnown != 0 {
			d.fail("flags %#x", s.flags)
		}
		q.searches = append(q.searches, s)
	}
	return q, d.finish()
}

func (a *answered) encode() []byte {
	le := binary.LittleEndian
	b := append([]byte(nil), answerMagic...)
	b = le.AppendUint32(b, a.question)
	b = le.AppendUint32(b, uint32(a.dim))
	for _, n := range []int64{a.took.Hits, a.took.DiskHits, a.took.Misses, a.took.Joined, a.took.StoreGets, a.took.StoreBytes, a.took.Rounds} {
		b = le.AppendUint64(b, uint64(n))
	}
	b = le.AppendUint32(b, uint32(len(a.found)))
	for _, f := range a.found {
		for _, n := range []int{f.usage.Segments, f.usage.ListsProbed, f.usage.CodesScanned, f.usage.Reranked} {
			b = le.AppendUint64(b, uint64(n))
		}
		b = le.AppendUint32(b, uint32(len(f.stages)))
		for _, s := range f.stages {
			b = appendBytes(b, s.Name)
			b = le.AppendUint64(b, uint64(s.TookMs*1000+0.5))
			for _, n := range []int64{s.Rounds, s.StoreGets, s.StoreBytes} {
				b = le.AppendUint64(b, uint64(n))
			}
			b = appendBytes(b, s.Detail)
		}
		b = le.AppendUint32(b, uint32(len(f.hits)))
		for _, h := range f.hits {
			b = le.AppendUint32(b, math.Float32bits(h.distance))
			b = appendBytes(b, h.id)
			b = le.AppendUint64(b, h.version)
			b = appendBytes(b, h.metadata)
			b = le.AppendUint32(b, uint32(len(h.vector)))
			b = appendFloats(b, h.vector)
		}
	}
	return seal(b)
}

// decodeAnswer is the inverse of encode. The result shares no memory with b.
func decodeAnswer(b []byte) (*answered, error) {
	d, err := openMessage(b, answerMagic)
	if err != nil {
		return nil, err
	}
	a := &answered{question: d.u32(), dim: d.dimension()}
	for _, n := range []*int64{&a.took.Hits, &a.took.DiskHits, &a.took.Misses, &a.took.Joined, &a.took.StoreGets, &a.took.StoreBytes, &a.took.Rounds} {
		*n = d.tally()
	}
	for range d.each(40) {
		var f foundOne
		for _, n := range []*int{&f.usage.Segments, &f.usage.ListsProbed, &f.usage.CodesScanned, &f.usage.Reranked} {
			*n = int(d.tally())
		}
		for range d.each(40) {
			f.stages = append(f.stages, stage{string(d.bytes()), float64(d.tally()) / 1000, reads{d.tally(), d.tally(), d.tally()}, string(d.bytes())})
		}
		for range d.each(24) {
			h := hit{distance: d.f32(), id: string(d.bytes()), version: d.u64(), metadata: d.own()}
			switch n := d.u32(); {
			case n == uint32(a.dim):
				h.vector = d.floats(a.dim)
			case n != 0:
				d.fail("vector of %d dimensions, want %d", n, a.dim)
			}
			f.hits = append(f.hits, h)
		}
		a.found = append(a.found, f)
	}
	return a, d.finish()
}

// message is a sealed message being read; the first failure sticks.
type message struct {
	rest []byte
	err  error
}

// openMessage checks what a message begins with and ends in.
func openMessage(b []byte, magic string) (*message, error) {
	if len(b) < len(magic)+4 {
		return nil, fmt.Errorf("message of %d bytes: %w", len(b), errMalformed)
	}
	body := b[:len(b)-4]
	if got, want := crc32.Checksum(body, castagnoli), sumOf(b); got != want {
		return nil, fmt.Errorf("message crc32c %08x, want %08x: %w", got, want, errMalformed)
	}
	if got := string(body[:len(magic)]); got != magic {
		return nil, fmt.Errorf("message begins with %q, want %q: %w", got, magic, errMalformed)
	}
	return &message{rest: body[len(magic):]}, nil
}

func (d *message) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format+": %w", append(args, errMalformed)...)
	}
}

// take returns the next n bytes, which belong to the message; nil after a failure.
func (d *message) take(n int) []byte {
	if d.err == nil && n > len(d.rest) {
		d.fail("want %d more bytes, got %d", n, len(d.rest))
	}
	if d.err != nil {
		return nil
	}
	out := d.rest[:n]
	d.rest = d.rest[n:]
	return out
}

func (d *message) u8() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *message) u32() uint32 {
	if b := d.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (d *message) u64() uint64 {
	if b := d.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (d *message) f32() float32 {
	x := math.Float32frombits(d.u32())
	if math.IsNaN(float64(x)) { // a distance may overflow
		d.fail("a number is %v", x)
		return 0
	}
	return x
}

// tally is something that was counted.
func (d *message) tally() int64 {
	n := d.u64()
	if n > 1<<53 {
		d.fail("a count of %d", n)
		return 0
	}
	return int64(n)
}

func (d *message) bytes() []byte { return d.take(int(d.u32())) }

// own is bytes that do not belong to the message, nil for none.
func (d *message) own() []byte {
	if b := d.bytes(); len(b) > 0 {
		return slices.Clone(b)
	}
	return nil
}

func (d *message) dimension() int {
	const most = 1 << 16 // of httpapi.Limits
	n := d.u32()
	if n > most {
		d.fail("%d dimensions, at most %d", n, most)
		return 0
	}
	return int(n)
}

// each yields for every one of the things that follow, of at least so many bytes,
// until reading fails.
func (d *message) each(least int) iter.Seq[int] {
	n := d.count(least)
	return func(yield func(int) bool) {
		for i := 0; i < n && d.err == nil; i++ {
			if !yield(i) {
				return
			}
		}
	}
}

// count is how many things of at least so many bytes follow: more than can fit
// are refused before anything is allocated for them.
func (d *message) count(least int) int {
	n := d.u32()
	if uint64(n)*uint64(least) > uint64(len(d.rest)) {
		d.fail("%d things of %d bytes in %d", n, least, len(d.rest))
	}
	if d.err != nil {
		return 0
	}
	return int(n)
}

func (d *message) floats(n int) []float32 {
	raw := d.take(4 * n)
	if raw == nil {
		return nil
	}
	out := make([]float32, n)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
		if math.IsNaN(float64(out[i])) || math.IsInf(float64(out[i]), 0) {
			d.fail("a value of a vector is %v", out[i])
			return nil
		}
	}
	return out
}

func (d *message) finish() error {
	if d.err == nil && len(d.rest) > 0 {
		d.fail("%d bytes after the end", len(d.rest))
	}
	return d.err
}
