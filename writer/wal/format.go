package wal

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

// The numbers of FORMAT.md. A test compares the two.
const (
	fileMagic       = "AKIDBWAL"
	formatVersion   = 1 // what is written
	minVersion      = 1 // oldest that is read
	fileHeaderBytes = 4096

	recordMagic = "AKWR"
	headerBytes = 104 // of a record, before key and payload
	alignBytes  = 8   // every record begins and ends on a multiple

	typeBatch = 1 // rows
	typeMark  = 2 // nothing but a claim: what was synced when it was written
	typeClose = 3 // a mark written by a clean stop

	flagGap = 1 // Record.Gap
)

// Names in the log's directory. Any other name is ignored.
const (
	lockName   = "LOCK"
	fileSuffix = ".wal"
	tempSuffix = ".wal.tmp"
	nameDigits = 16
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// UUID identifies a log for all its life.
type UUID [16]byte

func (u UUID) String() string { return formatUUID(u) }

// CollectionID identifies the collection a record belongs to.
type CollectionID [16]byte

func (c CollectionID) String() string { return formatUUID(c) }

func formatUUID(u [16]byte) string {
	h := hex.EncodeToString(u[:])
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

// Position is a place in the log. The zero Position precedes every record.
type Position struct {
	File   uint64 // number of the file, from 1
	Offset int64  // bytes from its beginning
}

// Compare orders positions as the log does: -1 if p is before q, +1 if after.
func (p Position) Compare(q Position) int {
	switch {
	case p == q:
		return 0
	case p.File < q.File, p.File == q.File && p.Offset < q.Offset:
		return -1
	default:
		return +1
	}
}

func (p Position) String() string { return fmt.Sprintf("%s:%d", fileName(p.File), p.Offset) }

func fileName(number uint64) string { return fmt.Sprintf("%0*d%s", nameDigits, number, fileSuffix) }

func tempName(number uint64) string { return fmt.Sprintf("%0*d%s", nameDigits, number, tempSuffix) }

// parseName returns the number of a file named with the given suffix; ok is
// false for every other name.
func parseName(name, suffix string) (number uint64, ok bool) {
	digits, found := strings.CutSuffix(name, suffix)
	if !found || len(digits) != nameDigits || strings.Trim(digits, "0123456789") != "" {
		return 0, false
	}
	number, err := strconv.ParseUint(digits, 10, 64)
	return number, err == nil && number > 0
}

// encodeFileHeader returns the first fileHeaderBytes of a file.
func encodeFileHeader(uuid UUID, number uint64) []byte {
	h := make([]byte, fileHeaderBytes)
	copy(h, fileMagic)
	binary.LittleEndian.PutUint32(h[8:], formatVersion)
	copy(h[16:], uuid[:])
	binary.LittleEndian.PutUint64(h[32:], number)
	binary.LittleEndian.PutUint32(h[12:], fileHeaderCRC(h))
	return h
}

func fileHeaderCRC(h []byte) uint32 {
	return crc32.Update(crc32.Checksum(h[:12], castagnoli), castagnoli, h[16:fileHeaderBytes])
}

// decodeFileHeader checks the beginning of file number and returns the log it
// belongs to. Damage is a *CorruptError, a newer version is ErrVersion.
func decodeFileHeader(b []byte, number uint64) (UUID, error) {
	var uuid UUID
	corrupt := func(format string, args ...any) (UUID, error) {
		return UUID{}, &CorruptError{File: number, From: 0, To: fileHeaderBytes, Cause: fmt.Sprintf(format, args...)}
	}
	if len(b) < fileHeaderBytes {
		return corrupt("file header: got %d bytes, want %d", len(b), fileHeaderBytes)
	}
	if got := string(b[:len(fileMagic)]); got != fileMagic {
		return corrupt("file header magic: got %q, want %q", got, fileMagic)
	}
	if got, want := binary.LittleEndian.Uint32(b[12:]), fileHeaderCRC(b); got != want {
		return corrupt("file header checksum: got %08x, want %08x", got, want)
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v < minVersion || v > formatVersion {
		return UUID{}, fmt.Errorf("wal file %q: %w: got %d, want %d to %d", fileName(number), ErrVersion, v, minVersion, formatVersion)
	}
	if got := binary.LittleEndian.Uint64(b[32:]); got != number {
		return corrupt("file header number: got %d, want %d", got, number)
	}
	copy(uuid[:], b[16:])
	return uuid, nil
}

// Record is one atomic batch.
type Record struct {
	Collection CollectionID
	Epoch      uint64 // of the writer; never decreases within a collection
	Seq        uint64 // of the first row, at least 1; the record holds Seq .. Seq+Count-1
	Count      uint32 // rows, at least 1
	Kind       uint8  // the caller's; opaque here
	// Gap says that records of this collection right before this one were lost
	// and given up by Repair. Enqueue refuses it.
	Gap            bool
	IdempotencyKey string   // at most MaxKeyBytes; "" is none
	Digest         [32]byte // of the request the key belongs to; opaque here
	Payload        []byte   // opaque here
}

// header is the fixed part of a record as it stands on disk.
type header struct {
	typ          uint8
	flags        uint8
	kind         uint8
	keyBytes     uint8
	payloadBytes uint32
	collection   CollectionID
	epoch        uint64
	seq          uint64
	count        uint32
	bodyCRC      uint32
	synced       Position // everything before it was durable when this was written
	digest       [32]byte
}

// seedCRC starts the two checksums of a record. They are bound to the log, the
// file and the place, so that bytes left over from anywhere else never pass.
func seedCRC(uuid UUID, at Position) uint32 {
	var seed [32]byte
	copy(seed[:], uuid[:])
	binary.LittleEndian.PutUint64(seed[16:], at.File)
	binary.LittleEndian.PutUint64(seed[24:], uint64(at.Offset))
	return crc32.Checksum(seed[:], castagnoli)
}

// recordBytes is the size on disk of a record, padding included.
func recordBytes(keyBytes, payloadBytes int) int64 {
	n := int64(headerBytes) + int64(keyBytes) + int64(payloadBytes)
	return (n + alignBytes - 1) / alignBytes * alignBytes
}

func (h *header) recordBytes() int64 { return recordBytes(int(h.keyBytes), int(h.payloadBytes)) }

// appendHeader appends the header, its checksum computed, to dst.
func appendHeader(dst []byte, h *header, seed uint32) []byte {
	at := len(dst)
	dst = append(dst, recordMagic...)
	dst = append(dst, 0, 0, 0, 0, h.typ, h.flags, h.kind, h.keyBytes)
	dst = binary.LittleEndian.AppendUint32(dst, h.payloadBytes)
	dst = append(dst, h.collection[:]...)
	dst = binary.LittleEndian.AppendUint64(dst, h.epoch)
	dst = binary.LittleEndian.AppendUint64(dst, h.seq)
	dst = binary.LittleEndian.AppendUint32(dst, h.count)
	dst = binary.LittleEndian.AppendUint32(dst, h.bodyCRC)
	dst = binary.LittleEndian.AppendUint64(dst, h.synced.File)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(h.synced.Offset))
	dst = append(dst, h.digest[:]...)
	binary.LittleEndian.PutUint32(dst[at+4:], crc32.Update(seed, castagnoli, dst[at+8:]))
	return dst
}

// decodeHeader reads the header at the beginning of b. ok is false if its
// magic or checksum is wrong; nothing in it can be believed then.
func decodeHeader(b []byte, seed uint32) (h header, ok bool) {
	if len(b) < headerBytes || !bytes.HasPrefix(b, []byte(recordMagic)) {
		return header{}, false
	}
	le := binary.LittleEndian
	if le.Uint32(b[4:]) != crc32.Update(seed, castagnoli, b[8:headerBytes]) {
		return header{}, false
	}
	h = header{
		typ: b[8], flags: b[9], kind: b[10], keyBytes: b[11],
		payloadBytes: le.Uint32(b[12:]),
		epoch:        le.Uint64(b[32:]), seq: le.Uint64(b[40:]),
		count: le.Uint32(b[48:]), bodyCRC: le.Uint32(b[52:]),
		synced: Position{File: le.Uint64(b[56:]), Offset: int64(le.Uint64(b[64:]))},
	}
	copy(h.collection[:], b[16:])
	copy(h.digest[:], b[72:])
	return h, true
}

// check returns what is impossible about a header whose checksum is right: not
// a torn write, but a bug, a format from elsewhere or a collision.
func (h *header) check(at Position) error {
	switch {
	case h.typ < typeBatch || h.typ > typeClose:
		return fmt.Errorf("record type: got %d, want %d to %d", h.typ, typeBatch, typeClose)
	case h.flags&^flagGap != 0:
		return fmt.Errorf("record flags: got %#x, want at most %#x", h.flags, flagGap)
	case h.payloadBytes > MaxPayloadBytes:
		return fmt.Errorf("payload length: got %d bytes, want at most %d", h.payloadBytes, MaxPayloadBytes)
	case h.synced.Offset < 0 || h.synced.Compare(at) > 0:
		return fmt.Errorf("synced position: got %v, want at most its own %v", h.synced, at)
	case h.typ != typeBatch && (h.payloadBytes != 0 || h.keyBytes != 0):
		return fmt.Errorf("mark with a body of %d bytes, want none", int(h.keyBytes)+int(h.payloadBytes))
	case h.typ == typeBatch:
		return checkRows(h.seq, h.count)
	}
	return nil
}

// checkRows holds a batch to sequence numbers from 1 up, so that 0 can mean
// that nothing is flushed.
func checkRows(seq uint64, count uint32) error {
	if seq == 0 || count == 0 || seq+uint64(count) < seq {
		return fmt.Errorf("%d rows from seq %d: want at least one row, from 1 or above, and no overflow", count, seq)
	}
	return nil
}

var padding [alignBytes]byte

// describe fills a batch header from rec. The body's checksum covers key,
// payload and padding.
func describe(rec *Record, seed uint32, synced Position) header {
	h := header{
		typ: typeBatch, kind: rec.Kind,
		keyBytes: uint8(len(rec.IdempotencyKey)), payloadBytes: uint32(len(rec.Payload)),
		collection: rec.Collection, epoch: rec.Epoch, seq: rec.Seq, count: rec.Count,
		synced: synced, digest: rec.Digest,
	}
	if rec.Gap {
		h.flags |= flagGap
	}
	crc := crc32.Update(seed, castagnoli, []byte(rec.IdempotencyKey))
	crc = crc32.Update(crc, castagnoli, rec.Payload)
	h.bodyCRC = crc32.Update(crc, castagnoli, padding[:h.padBytes()])
	return h
}

func (h *header) padBytes() int64 {
	return h.recordBytes() - headerBytes - int64(h.keyBytes) - int64(h.payloadBytes)
}

// record rebuilds the record from its header and the bytes that follow it,
// which it keeps as the payload.
func (h *header) record(body []byte) Record {
	return Record{
		Collection: h.collection, Epoch: h.epoch, Seq: h.seq, Count: h.count, Kind: h.kind,
		Gap:            h.flags&flagGap != 0,
		IdempotencyKey: string(body[:h.keyBytes]), Digest: h.digest,
		Payload: body[h.keyBytes : int(h.keyBytes)+int(h.payloadBytes) : int(h.keyBytes)+int(h.payloadBytes)],
	}
}

// appendRecord appends a whole record to dst.
func appendRecord(dst []byte, rec *Record, uuid UUID, at, synced Position) []byte {
	seed := seedCRC(uuid, at)
	h := describe(rec, seed, synced)
	dst = appendHeader(dst, &h, seed)
	dst = append(dst, rec.IdempotencyKey...)
	dst = append(dst, rec.Payload...)
	return append(dst, padding[:h.padBytes()]...)
}

// appendMark appends a mark of the given type: at is where it stands and how
// far the log is synced.
func appendMark(dst []byte, typ uint8, uuid UUID, at Position) []byte {
	return appendHeader(dst, &header{typ: typ, synced: at}, seedCRC(uuid, at))
}
