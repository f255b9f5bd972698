package ship

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/writer/wal"
)

var (
	testLog = wal.UUID{0xa, 0x1, 0xd, 0xb, 15: 1}
	noon    = time.Date(2026, 1, 1, 12, 0, 0, 1, time.UTC)
)

func collection(n byte) wal.CollectionID { return wal.CollectionID{0: 'c', 15: n} }

func record(c byte, seq uint64, payload string) wal.Record {
	return wal.Record{Collection: collection(c), Epoch: 1, Seq: seq, Count: 1, Kind: 1, Payload: []byte(payload)}
}

func object(records ...wal.Record) []byte {
	var payload []byte
	for i := range records {
		payload = appendRecord(payload, &records[i])
	}
	return encode(header{log: testLog, number: 7, previous: 9, records: uint32(len(records)), created: noon}, payload)
}

type field struct {
	offset, size int
	name         string
}

func formatTable(t *testing.T, heading string) map[string]field {
	t.Helper()
	doc, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(doc), "\n## "+heading+"\n")
	section, _, _ = strings.Cut(section, "\n## ")
	fields, end := map[string]field{}, 0
	for _, m := range regexp.MustCompile(`(?m)^\| (\d+) \| (\d+) \| ([a-z ]+) \|`).FindAllStringSubmatch(section, -1) {
		offset, _ := strconv.Atoi(m[1])
		size, _ := strconv.Atoi(m[2])
		if offset != end {
			t.Errorf("%s: field %q begins at %d, want %d", heading, m[3], offset, end)
		}
		fields[m[3]], end = field{offset, size, m[3]}, offset+size
	}
	if want := map[string]int{"Header": headerBytes, "Record": recordBytes}[heading]; end != want {
		t.Errorf("%s ends at %d, the code's at %d", heading, end, want)
	}
	return fields
}

// requireFields changes one field after the other, and wants the change in its
// place and nowhere else but in the fields that follow from it.
func requireFields(t *testing.T, heading string, plain []byte, changed map[string][]byte, fixed ...string) {
	t.Helper()
	fields := formatTable(t, heading)
	for name, f := range fields {
		b, ok := changed[name]
		if !ok {
			for _, x := range fixed {
				ok = ok || x == name
			}
			if !ok {
				t.Errorf("%s: field %q is unknown to the code", heading, name)
			}
			continue
		}
		delete(changed, name)
		touched := false
		for i := range plain {
			in := i >= f.offset && i < f.offset+f.size
			crc := heading == "Header" && i >= 12 && i < 16
			if plain[i] != b[i] && !in && !crc {
				t.Errorf("field %q: byte %d changed, want only %d to %d", name, i, f.offset, f.offset+f.size)
			}
			touched = touched || in && plain[i] != b[i]
		}
		if !touched {
			t.Errorf("field %q: nothing changed", name)
		}
	}
	for name := range changed {
		t.Errorf("%s: FORMAT.md has no field %q", heading, name)
	}
}

func TestFormat(t *testing.T) {
	h := header{log: testLog, number: 7, previous: 9, records: 1, created: noon}
	with := func(change func(*header)) []byte { h := h; change(&h); return encode(h, nil) }
	plain := with(func(*header) {})
	requireFields(t, "Header", plain, map[string][]byte{
		"log":      with(func(h *header) { h.log[3]++ }),
		"number":   with(func(h *header) { h.number = 1 << 60 }),
		"previous": with(func(h *header) { h.previous = 1 << 31 }),
		"records":  with(func(h *header) { h.records = 1 << 31 }),
		"created":  with(func(h *header) { h.created = noon.Add(time.Hour) }),
	}, "magic", "version", "crc")
	if got := string(plain[:8]); got != magic || binary.LittleEndian.Uint32(plain[8:]) != formatVersion || len(plain) < headerBytes {
		t.Errorf("magic %q, version %d", got, plain[8])
	}
	r := wal.Record{Seq: 1, Count: 1}
	rec := func(change func(*wal.Record)) []byte { r := r; change(&r); return appendRecord(nil, &r) }
	requireFields(t, "Record", rec(func(*wal.Record) {}), map[string][]byte{
		"collection":     rec(func(r *wal.Record) { r.Collection[15] = 1 }),
		"epoch":          rec(func(r *wal.Record) { r.Epoch = 1 << 60 }),
		"seq":            rec(func(r *wal.Record) { r.Seq = 1 << 60 }),
		"count":          rec(func(r *wal.Record) { r.Count = 1 << 31 }),
		"payload length": rec(func(r *wal.Record) { r.Payload = make([]byte, 1<<16) }),
		"kind":           rec(func(r *wal.Record) { r.Kind = 3 }),
		"flags":          rec(func(r *wal.Record) { r.Gap = true }),
		"key length":     rec(func(r *wal.Record) { r.IdempotencyKey = "key" }),
		"digest":         rec(func(r *wal.Record) { r.Digest[31] = 1 }),
	}, "reserved")
	doc, _ := os.ReadFile("FORMAT.md")
	for _, want := range []string{"`" + magic + "`", strconv.Itoa(maxObjectBytes), key(testLog, 7)[len(LogPrefix(testLog)):], "| " + strconv.Itoa(formatVersion) + " | yes | yes |"} {
		if !bytes.Contains(doc, []byte(want)) {
			t.Errorf("FORMAT.md does not have %q", want)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	full := wal.Record{Collection: collection(2), Epoch: 3, Seq: 4, Count: 5, Kind: 6, Gap: true, IdempotencyKey: "key", Digest: [32]byte{31: 7}, Payload: []byte("rows")}
	want := []wal.Record{record(1, 1, "a"), full, record(1, 2, "")}
	h, got, err := decode(object(want...), testLog, 7)
	if err != nil || !reflect.DeepEqual(got, want) || h.previous != 9 || !h.created.Equal(noon) {
		t.Errorf("got %+v, %+v, %v", h, got, err)
	}
}

// TestEveryBitFlip: no object passes with any bit of it changed, or cut short, or
// in another's place.
func TestEveryBitFlip(t *testing.T) {
	b := object(record(1, 1, "first"), record(2, 1, "second"))
	for bit := range 8 * len(b) {
		c := bytes.Clone(b)
		c[bit/8] ^= 1 << (bit % 8)
		if _, _, err := decode(c, testLog, 7); !errors.Is(err, blob.ErrCorrupt) {
			t.Errorf("bit %d: %v", bit, err)
		}
	}
	for n := range len(b) {
		if _, _, err := decode(b[:n], testLog, 7); !errors.Is(err, blob.ErrCorrupt) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	if _, _, err := decode(b, testLog, 8); !errors.Is(err, blob.ErrCorrupt) {
		t.Errorf("in another's place: %v", err)
	}
	if _, _, err := decode(b, wal.UUID{}, 7); !errors.Is(err, blob.ErrCorrupt) {
		t.Errorf("of another log: %v", err)
	}
	seal(b, func(b []byte) { b[8]++ })
	if _, _, err := decode(b, testLog, 7); !errors.Is(err, wal.ErrVersion) {
		t.Errorf("next version: %v", err)
	}
}

// seal makes a change that the checksum does not give away.
func seal(b []byte, change func([]byte)) {
	change(b)
	binary.LittleEndian.PutUint32(b[12:], checksum(b))
}

func TestStrict(t *testing.T) {
	good := appendRecord(nil, &wal.Record{Seq: 1, Count: 1, IdempotencyKey: "k", Payload: []byte("p")})
	for name, change := range map[string]func([]byte) []byte{
		"no rows":       func(b []byte) []byte { b[32] = 0; return b },
		"seq 0":         func(b []byte) []byte { b[24] = 0; return b },
		"seq overflows": func(b []byte) []byte { copy(b[24:32], bytes.Repeat([]byte{0xff}, 8)); return b },
		"unknown flag":  func(b []byte) []byte { b[41] = 2; return b },
		"reserved":      func(b []byte) []byte { b[43] = 1; return b },
		"longer":        func(b []byte) []byte { return append(b, 0) },
		"shorter":       func(b []byte) []byte { return b[:len(b)-1] },
		"long payload":  func(b []byte) []byte { b[39] = 0xff; return b },
		"two":           func(b []byte) []byte { return append(b, b...) },
		"none":          func([]byte) []byte { return nil },
	} {
		h := header{log: testLog, number: 7, records: 1}
		if name == "none" {
			h.records = 0
		}
		if _, _, err := decode(encode(h, change(bytes.Clone(good))), testLog, 7); !errors.Is(err, blob.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(object(record(1, 1, "first"), record(2, 1, "second")))
	f.Add(encode(header{log: testLog, number: 7}, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < headerBytes {
			return
		}
		seal(b, func(b []byte) {
			copy(b, magic)
			b[8], b[9], b[10], b[11] = 1, 0, 0, 0
			copy(b[16:], testLog[:])
			b[32] = 7
			clear(b[33:40])
		})
		h, records, err := decode(b, testLog, 7)
		if err != nil {
			if !errors.Is(err, blob.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		var payload []byte
		for i := range records {
			payload = appendRecord(payload, &records[i])
		}
		_, again, err := decode(encode(h, payload), testLog, 7)
		if err != nil || !reflect.DeepEqual(again, records) {
			t.Fatalf("encoded again: %v", err)
		}
	})
}

// FuzzRecord: what is not compressed, so that a change of a byte is one.
func FuzzRecord(f *testing.F) {
	r := record(1, 1, "payload")
	f.Add(appendRecord(nil, &r))
	f.Fuzz(func(t *testing.T, b []byte) {
		rec, n, err := decodeRecord(b)
		if err == nil && !bytes.Equal(appendRecord(nil, &rec), b[:n]) {
			t.Fatal("encoded again it differs")
		}
	})
}
