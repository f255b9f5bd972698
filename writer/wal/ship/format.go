package ship

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/writer/wal"
)

// The numbers of FORMAT.md. A test compares the two.
const (
	magic         = "AKIDBSHP"
	formatVersion = 1 // what is written
	minVersion    = 1 // oldest that is read
	headerBytes   = 56
	recordBytes   = 76 // of a record, before key and payload

	flagGap = 1 // wal.Record.Gap

	// maxPayload is what a reader believes: one record of the largest size.
	maxPayload = recordBytes + wal.MaxKeyBytes + wal.MaxPayloadBytes
)

const (
	prefix    = "wal/"
	keyDigits = 16
)

// LogPrefix is what the keys of all objects of a log begin with.
func LogPrefix(log wal.UUID) string { return prefix + log.String() + "/" }

// key is where object number of a log lies. Keys sort by number.
func key(log wal.UUID, number uint64) string {
	return fmt.Sprintf("%s%0*d", LogPrefix(log), keyDigits, number)
}

// parseKey is the inverse of key; ok is false for a key of nothing of ours.
func parseKey(log wal.UUID, k string) (number uint64, ok bool) {
	number, err := strconv.ParseUint(strings.TrimPrefix(k, LogPrefix(log)), 10, 64)
	return number, err == nil && number > 0 && key(log, number) == k
}

// ParseUUID is the inverse of a log's UUID.String.
func ParseUUID(s string) (wal.UUID, error) {
	var u wal.UUID
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err == nil && len(b) == len(u) {
		copy(u[:], b)
		if u.String() == s {
			return u, nil
		}
	}
	return wal.UUID{}, fmt.Errorf("log %q: want a uuid", s)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// header is the fixed part of an object.
type header struct {
	log      wal.UUID
	number   uint64
	previous uint32 // checksum of object number-1; 0 if this does not follow it
	records  uint32
	created  time.Time
}

// encode returns an object. payload is what appendRecord made.
func encode(h header, payload []byte) []byte {
	b := make([]byte, headerBytes, headerBytes+len(payload)/2)
	copy(b, magic)
	le := binary.LittleEndian
	le.PutUint32(b[8:], formatVersion)
	copy(b[16:], h.log[:])
	le.PutUint64(b[32:], h.number)
	le.PutUint32(b[40:], h.previous)
	le.PutUint32(b[44:], h.records)
	le.PutUint64(b[48:], uint64(h.created.UnixNano()))
	b = encoder().EncodeAll(payload, b)
	le.PutUint32(b[12:], checksum(b))
	return b
}

// checksum is of everything but itself.
func checksum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:12], castagnoli), castagnoli, b[16:])
}

var encoder = sync.OnceValue(func() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false))
	if err != nil {
		panic("BUG: zstd encoder options: " + err.Error())
	}
	return e
})

var decoder = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxPayload), zstd.WithDecoderConcurrency(1))
	if err != nil {
		panic("BUG: zstd decoder options: " + err.Error())
	}
	return d
})

// decode reads object number of a log. Damage is blob.ErrCorrupt, a newer
// version wal.ErrVersion. The records are the caller's.
func decode(b []byte, log wal.UUID, number uint64) (header, []wal.Record, error) {
	fail := func(format string, args ...any) (header, []wal.Record, error) {
		return header{}, nil, fmt.Errorf("object %q: "+format+": %w", append(append([]any{key(log, number)}, args...), blob.ErrCorrupt)...)
	}
	le := binary.LittleEndian
	if len(b) < headerBytes {
		return fail("got %d bytes, want at least %d", len(b), headerBytes)
	}
	if got := string(b[:len(magic)]); got != magic {
		return fail("magic: got %q, want %q", got, magic)
	}
	if got, want := checksum(b), le.Uint32(b[12:]); got != want {
		return fail("checksum: got %08x, want %08x", got, want)
	}
	if v := le.Uint32(b[8:]); v < minVersion || v > formatVersion {
		return header{}, nil, fmt.Errorf("object %q: %w: got %d, want %d to %d", key(log, number), wal.ErrVersion, v, minVersion, formatVersion)
	}
	h := header{
		log: wal.UUID(b[16:32]), number: le.Uint64(b[32:]), previous: le.Uint32(b[40:]),
		records: le.Uint32(b[44:]), created: time.Unix(0, int64(le.Uint64(b[48:]))).UTC(),
	}
	if h.log != log || h.number != number {
		return fail("it says it is %q", key(h.log, h.number))
	}
	payload, err := decoder().DecodeAll(b[headerBytes:], nil)
	if err != nil {
		return fail("payload: %v", err)
	}
	var records []wal.Record
	for rest := payload; len(rest) > 0; {
		rec, n, err := decodeRecord(rest)
		if err != nil {
			return fail("byte %d of the payload: %v", len(payload)-len(rest), err)
		}
		records, rest = append(records, rec), rest[n:]
	}
	if len(records) != int(h.records) || len(records) == 0 {
		return fail("got %d records, want %d and at least 1", len(records), h.records)
	}
	return h, records, nil
}

func sizeOf(rec *wal.Record) int { return recordBytes + len(rec.IdempotencyKey) + len(rec.Payload) }

// appendRecord appends a record to a payload.
func appendRecord(dst []byte, rec *wal.Record) []byte {
	le := binary.LittleEndian
	dst = append(dst, rec.Collection[:]...)
	dst = le.AppendUint64(dst, rec.Epoch)
	dst = le.AppendUint64(dst, rec.Seq)
	dst = le.AppendUint32(dst, rec.Count)
	dst = le.AppendUint32(dst, uint32(len(rec.Payload)))
	flags := uint8(0)
	if rec.Gap {
		flags = flagGap
	}
	dst = append(dst, rec.Kind, flags, uint8(len(rec.IdempotencyKey)), 0)
	dst = append(dst, rec.Digest[:]...)
	dst = append(dst, rec.IdempotencyKey...)
	return append(dst, rec.Payload...)
}

// decodeRecord reads the record at the beginning of b, and says how long it is.
// Its payload aliases b.
func decodeRecord(b []byte) (rec wal.Record, n int, err error) {
	le := binary.LittleEndian
	if len(b) < recordBytes {
		return rec, 0, fmt.Errorf("record: got %d bytes, want at least %d", len(b), recordBytes)
	}
	rec = wal.Record{
		Collection: wal.CollectionID(b[:16]), Epoch: le.Uint64(b[16:]), Seq: le.Uint64(b[24:]), Count: le.Uint32(b[32:]),
		Kind: b[40], Gap: b[41] == flagGap, Digest: [32]byte(b[44:76]),
	}
	payload := recordBytes + int(b[42])
	size := uint64(payload) + uint64(le.Uint32(b[36:]))
	switch {
	case rec.Seq == 0 || rec.Count == 0 || rec.Seq+uint64(rec.Count) < rec.Seq:
		return rec, 0, fmt.Errorf("%d rows from seq %d: want at least one row, from 1 or above, and no overflow", rec.Count, rec.Seq)
	case b[41]&^flagGap != 0 || b[43] != 0:
		return rec, 0, fmt.Errorf("flags %#x and reserved byte %#x: want at most %#x and 0", b[41], b[43], flagGap)
	case size > uint64(len(b)):
		return rec, 0, fmt.Errorf("record of %d bytes: only %d left", size, len(b))
	}
	rec.IdempotencyKey = string(b[recordBytes:payload])
	rec.Payload = b[payload:size:size]
	return rec, int(size), nil
}

// last is the sequence number of a record's last row.
func last(rec *wal.Record) uint64 { return rec.Seq + uint64(rec.Count) - 1 }
