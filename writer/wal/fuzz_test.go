package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"strings"
	"testing"
)

// FuzzRecord: any bytes are read without a panic and without reading past
// them, a walk over them ends, and a record that passes is one the encoder
// writes.
func FuzzRecord(f *testing.F) {
	at := Position{File: 1, Offset: fileHeaderBytes}
	r := row(1, 7, 33)
	r.IdempotencyKey = "key"
	f.Add(appendRecord(nil, &r, testUUID, at, Position{1, 100}), false)
	f.Add(appendMark(nil, typeClose, testUUID, at), false)
	f.Add(append(make([]byte, 64), appendMark(nil, typeMark, testUUID, at)...), true)
	f.Add([]byte(recordMagic), true)
	f.Fuzz(func(t *testing.T, b []byte, seal bool) {
		if seal && len(b) >= headerBytes { // let the rest of the header through
			b = bytes.Clone(b)
			copy(b, recordMagic)
			binary.LittleEndian.PutUint32(b[4:], crc32.Update(seedCRC(testUUID, at), castagnoli, b[8:headerBytes]))
		}
		data := append(make([]byte, fileHeaderBytes), b...)
		for off := int64(fileHeaderBytes); off < int64(len(data)); {
			sp := nextSpan(data, testUUID, 1, off)
			if sp.end <= off || sp.end > int64(len(data)) || sp.at.Offset != off {
				t.Fatalf("span %d-%d of %d bytes at %d", sp.at.Offset, sp.end, len(data), off)
			}
			if sp.kind == spanRecord {
				rec := sp.header.record(sp.body)
				if again := appendRecord(nil, &rec, testUUID, sp.at, sp.header.synced); !bytes.Equal(again, data[off:sp.end]) && isZero(sp.body[len(sp.body)-int(sp.header.padBytes()):]) {
					t.Fatalf("record at %d: encoded again it differs", off)
				}
			}
			off = sp.end
		}
	})
}

// FuzzRecovery edits a good log of three files. Whatever comes of it, Open
// takes it or refuses it; a log it takes is read the same again; and a log it
// refuses is taken after a repair.
func FuzzRecovery(f *testing.F) {
	f.Add([]byte{}, byte(0))
	f.Add([]byte{1, 0x10, 0x04, 0xff}, byte(1))
	f.Add([]byte{3, 0x14, 0x70, 1, 3, 0x18, 0xb0, 9}, byte(2))
	f.Add([]byte{2, 0x00, 0x0e, 1, 4, 0x10, 0x00, 1}, byte(1))
	f.Fuzz(func(t *testing.T, edits []byte, end byte) {
		fs, want, _ := sample(t, []ending{closed, killed, powerCut}[end%3])
		for ; len(edits) >= 4; edits = edits[4:] {
			number := 1 + uint64(edits[0]%4)
			at := int(edits[1])<<8 | int(edits[2])
			switch {
			case edits[0] >= 0xf8:
				patch(fs, number, func(b []byte) []byte { return b[:min(at, len(b))] })
			case edits[0] >= 0xf0:
				patch(fs, number, func(b []byte) []byte { clear(b[min(at, len(b)):]); return b })
			default:
				patch(fs, number, func(b []byte) []byte {
					if at < len(b) {
						b[at] = edits[3]
					}
					return b
				})
			}
		}
		cfg := testConfig()
		cfg.FileBytes = minFileBytes
		replay, got := collect()
		l, err := Open(fs, testDir, cfg, replay)
		var corrupt *CorruptError
		if errors.As(err, &corrupt) {
			report, err := Repair(fs, testDir, RepairOptions{})
			if err != nil {
				if !strings.Contains(err.Error(), "no file header is readable") {
					t.Fatalf("repair: %v", err)
				}
				return // nothing is left that says whose records these are
			}
			replay, got = collect()
			if l, err = Open(fs, testDir, cfg, replay); err != nil {
				t.Fatalf("open after repair: %v", err)
			}
			if len(*got) != report.Kept {
				t.Fatalf("repair kept %d, open found %d", report.Kept, len(*got))
			}
		} else if err != nil {
			if errors.Is(err, ErrVersion) {
				return
			}
			t.Fatalf("open: %v", err)
		}
		requireSubset(t, *got, want, len(*got))
		mustClose(t, l)
		l, again := mustOpen(t, fs, cfg)
		requireRecords(t, again, *got)
		mustClose(t, l)
	})
}
