package cache

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"

	"github.com/akidb/akidb/segments/blob"
)

// The files of the disk tier: see FORMAT.md.

const (
	slabMagic   = "AKDBSLAB"
	slabVersion = 1
	// slabHeaderSize is where the first record begins.
	slabHeaderSize = 64

	recordMagic   = "AKBK"
	recordVersion = 1
	// recordHeaderSize is what comes before a record's key.
	recordHeaderSize = 28
	// recordAlign is what the position of every record is a multiple of, so that
	// the one after a damaged header can be found.
	recordAlign = 64
	// maxRecordKey is the longest key of an object that is kept.
	maxRecordKey = 1024
)

// slabHeader is how slab number begins.
func slabHeader(number uint32) []byte {
	b := make([]byte, slabHeaderSize)
	copy(b, slabMagic)
	binary.LittleEndian.PutUint32(b[8:], slabVersion)
	binary.LittleEndian.PutUint32(b[12:], number)
	binary.LittleEndian.PutUint32(b[16:], crc32.Checksum(b[:16], blob.Castagnoli))
	return b
}

// checkSlabHeader reports whether f is slab number, of the version we write.
func checkSlabHeader(f io.ReaderAt, number uint32) error {
	b := make([]byte, slabHeaderSize)
	if _, err := f.ReadAt(b, 0); err != nil {
		return fmt.Errorf("slab header: %w", err)
	}
	if string(b) != string(slabHeader(number)) {
		return fmt.Errorf("slab header of %08x is %x: %w", number, b[:20], blob.ErrCorrupt)
	}
	return nil
}

// recordSize is how many bytes a record of r takes, up to where the next may begin.
func recordSize(r blob.Range) int64 {
	return aligned(recordHeaderSize + int64(len(r.Key)) + int64(r.Length))
}

func aligned(n int64) int64 { return (n + recordAlign - 1) / recordAlign * recordAlign }

// payloadAt is where the payload of a record at a position begins.
func payloadAt(at int64, r blob.Range) int64 { return at + recordHeaderSize + int64(len(r.Key)) }

// appendRecord appends the record of a block for a position in slab number.
func appendRecord(dst []byte, number uint32, at int64, r blob.Range, payload []byte) []byte {
	start, le := len(dst), binary.LittleEndian
	dst = append(dst, recordMagic...)
	dst = append(dst, recordVersion, byte(r.Role))
	dst = le.AppendUint16(dst, uint16(len(r.Key)))
	dst = le.AppendUint64(dst, uint64(r.Offset))
	dst = le.AppendUint32(dst, uint32(r.Length))
	dst = le.AppendUint32(dst, r.CRC32C)
	dst = le.AppendUint32(dst, recordChecksum(number, at, dst[start:], r.Key))
	dst = append(dst, r.Key...)
	dst = append(dst, payload...)
	return append(dst, make([]byte, recordSize(r)-int64(len(dst)-start))...)
}

// recordChecksum covers the header and the key, and where they are: a record
// that was copied to another place is not taken for one that belongs there.
func recordChecksum(number uint32, at int64, header []byte, key string) uint32 {
	var place [12]byte
	binary.LittleEndian.PutUint32(place[:], number)
	binary.LittleEndian.PutUint64(place[4:], uint64(at))
	crc := crc32.Checksum(place[:], blob.Castagnoli)
	crc = crc32.Update(crc, blob.Castagnoli, header[:recordHeaderSize-4])
	return crc32.Update(crc, blob.Castagnoli, []byte(key))
}

// decodeRecord reads the header and the key of the record that b begins with.
func decodeRecord(b []byte, number uint32, at int64) (blob.Range, bool) {
	le := binary.LittleEndian
	if len(b) < recordHeaderSize || string(b[:4]) != recordMagic || b[4] != recordVersion || b[5] >= blob.RoleCount {
		return blob.Range{}, false
	}
	keySize := int(le.Uint16(b[6:]))
	if keySize > maxRecordKey || keySize > len(b)-recordHeaderSize {
		return blob.Range{}, false
	}
	r := blob.Range{
		Key:    string(b[recordHeaderSize:][:keySize]),
		Offset: int64(le.Uint64(b[8:])),
		CRC32C: le.Uint32(b[20:]),
		Role:   blob.Role(b[5]),
	}
	length := le.Uint32(b[16:])
	if length == 0 || length > maxSlabBytes || le.Uint32(b[24:]) != recordChecksum(number, at, b, r.Key) {
		return blob.Range{}, false
	}
	r.Length = int(length)
	return r, true
}

// scanSlab hands every record of a slab of size bytes to found, in order,
// reading headers and keys alone: whether a payload is whole is seen when it is
// used. It skips what is damaged, and returns where the last record ends and
// how many gaps there are before that. An error is that of reading.
func scanSlab(f io.ReaderAt, number uint32, size int64, found func(r blob.Range, at int64)) (end int64, gaps int, err error) {
	end = slabHeaderSize
	b := make([]byte, recordHeaderSize+maxRecordKey)
	for at := end; at+recordHeaderSize <= size; {
		head := b[:min(int64(len(b)), size-at)]
		if _, err := f.ReadAt(head, at); err != nil {
			return end, gaps, err
		}
		r, ok := decodeRecord(head, number, at)
		if !ok || payloadAt(at, r)+int64(r.Length) > size {
			if at, err = nextRecord(f, at+recordAlign, size); err != nil {
				return end, gaps, err
			}
			continue
		}
		if at != end {
			gaps++
		}
		found(r, at)
		at += recordSize(r)
		end = at
	}
	return end, gaps, nil
}

// nextRecord is the first position from at where a record seems to begin; size
// if there is none.
func nextRecord(f io.ReaderAt, at, size int64) (int64, error) {
	// Small at first: what follows one damaged header is usually near.
	for window := make([]byte, 4*recordAlign); at < size; {
		b := window[:min(int64(len(window)), size-at)]
		if _, err := f.ReadAt(b, at); err != nil {
			return size, err
		}
		for i := 0; i+len(recordMagic) <= len(b); i += recordAlign {
			if string(b[i:i+len(recordMagic)]) == recordMagic {
				return at + int64(i), nil
			}
		}
		at += int64(len(b))
		if len(window) < 64<<10 {
			window = make([]byte, 4*len(window))
		}
	}
	return size, nil
}

const (
	slabPrefix = "slab-"
	slabSuffix = ".akidb"
)

func slabName(number uint32) string { return fmt.Sprintf("%s%08x%s", slabPrefix, number, slabSuffix) }

// slabNumber is the number of the slab that a file of this name is.
func slabNumber(name string) (uint32, bool) {
	hex, ok := strings.CutPrefix(name, slabPrefix)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSuffix(hex, slabSuffix), 16, 31) // there is always a next one
	return uint32(n), err == nil && slabName(uint32(n)) == name
}
