package wal

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var (
	update       = flag.Bool("update", false, "rewrite the goldens")
	writeFixture = flag.Bool("write-fixture", false, "write the fixture of the current version if it does not exist")
)

// field is one row of a table in FORMAT.md.
type field struct {
	offset, size int
	name         string
}

func formatTable(t *testing.T, heading string) []field {
	t.Helper()
	doc, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(doc), "\n## "+heading+"\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var fields []field
	for _, m := range regexp.MustCompile(`(?m)^\| (\d+) \| (\d+) \| ([a-z ]+) \|`).FindAllStringSubmatch(section, -1) {
		offset, _ := strconv.Atoi(m[1])
		size, _ := strconv.Atoi(m[2])
		fields = append(fields, field{offset, size, m[3]})
	}
	if !found || len(fields) == 0 {
		t.Fatalf("FORMAT.md has no table under %q", heading)
	}
	end := 0
	for _, f := range fields {
		if f.offset != end {
			t.Errorf("%s: field %q begins at %d, want %d", heading, f.name, f.offset, end)
		}
		end = f.offset + f.size
	}
	return fields
}

func tableEnd(fields []field) int {
	last := fields[len(fields)-1]
	return last.offset + last.size
}

// probe changes one field and wants the change nowhere but in its place and
// in the checksum.
func probe(t *testing.T, f field, crc field, plain, changed []byte) {
	t.Helper()
	touched := false
	for i := range plain {
		if plain[i] == changed[i] {
			continue
		}
		inField := i >= f.offset && i < f.offset+f.size
		inCRC := i >= crc.offset && i < crc.offset+crc.size
		if !inField && !inCRC {
			t.Errorf("field %q: byte %d changed, want only %d to %d", f.name, i, f.offset, f.offset+f.size)
		}
		touched = touched || inField
	}
	if !touched {
		t.Errorf("field %q: nothing changed at %d to %d", f.name, f.offset, f.offset+f.size)
	}
}

func TestFormatRecordHeader(t *testing.T) {
	fields := formatTable(t, "Record header")
	if got := tableEnd(fields); got != headerBytes {
		t.Errorf("table ends at %d, header at %d", got, headerBytes)
	}
	changes := map[string]func(*header){
		"type":           func(h *header) { h.typ = ^h.typ },
		"flags":          func(h *header) { h.flags = 0xff },
		"kind":           func(h *header) { h.kind = 0xff },
		"key length":     func(h *header) { h.keyBytes = 0xff },
		"payload length": func(h *header) { h.payloadBytes = 1<<32 - 1 },
		"collection":     func(h *header) { h.collection = CollectionID(bytes.Repeat([]byte{0xff}, 16)) },
		"epoch":          func(h *header) { h.epoch = 1<<64 - 1 },
		"seq":            func(h *header) { h.seq = 1<<64 - 1 },
		"count":          func(h *header) { h.count = 1<<32 - 1 },
		"body crc":       func(h *header) { h.bodyCRC = 1<<32 - 1 },
		"synced file":    func(h *header) { h.synced.File = 1<<64 - 1 },
		"synced offset":  func(h *header) { h.synced.Offset = -1 },
		"digest":         func(h *header) { h.digest = [32]byte(bytes.Repeat([]byte{0xff}, 32)) },
	}
	plain := appendHeader(nil, &header{}, 7)
	for _, f := range fields {
		switch change := changes[f.name]; {
		case f.name == "magic":
			if got := string(plain[f.offset : f.offset+f.size]); got != recordMagic {
				t.Errorf("magic: got %q, want %q", got, recordMagic)
			}
		case f.name == "crc":
			if bytes.Equal(plain[4:8], appendHeader(nil, &header{}, 8)[4:8]) {
				t.Error("the seed is not in the checksum")
			}
		case change == nil:
			t.Errorf("field %q is unknown to the code", f.name)
		default:
			var h header
			change(&h)
			probe(t, f, fields[1], plain, appendHeader(nil, &h, 7))
			delete(changes, f.name)
		}
	}
	for name := range changes {
		t.Errorf("field %q is not in FORMAT.md", name)
	}
}

func TestFormatFileHeader(t *testing.T) {
	fields := formatTable(t, "File header")
	if got := tableEnd(fields); got != fileHeaderBytes {
		t.Errorf("table ends at %d, header at %d", got, fileHeaderBytes)
	}
	plain := encodeFileHeader(UUID{}, 0)
	if !bytes.HasPrefix(plain, []byte(fileMagic)) || plain[8] != formatVersion {
		t.Errorf("got %q", plain[:12])
	}
	probe(t, fields[3], fields[2], plain, encodeFileHeader(UUID(bytes.Repeat([]byte{0xff}, 16)), 0))
	probe(t, fields[4], fields[2], plain, encodeFileHeader(UUID{}, 1<<64-1))
	doc, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		fmt.Sprintf("| 0 | 8 | magic | `%s` |", fileMagic),
		fmt.Sprintf("| 8 | 4 | version | %d |", formatVersion),
		fmt.Sprintf("| 0 | 4 | magic | `%s` |", recordMagic),
		fmt.Sprintf("%d batch, %d mark, %d close", typeBatch, typeMark, typeClose),
		fmt.Sprintf("| %d gap:", flagGap),
		fmt.Sprintf("0 to %d |", MaxPayloadBytes),
		fmt.Sprintf("0 to %d |", MaxKeyBytes),
		fmt.Sprintf("multiple of %d", alignBytes),
		fmt.Sprintf("| %d | yes | yes |", formatVersion),
		fmt.Sprintf("%d decimal digits and `%s`", nameDigits, fileSuffix),
		"`" + lockName + "`", "`*" + tempSuffix + "`",
	} {
		if !strings.Contains(string(doc), want) {
			t.Errorf("FORMAT.md does not say %q", want)
		}
	}
}

func TestFileNames(t *testing.T) {
	if n, ok := parseName(fileName(42), fileSuffix); !ok || n != 42 {
		t.Errorf("got %d, %v", n, ok)
	}
	for _, name := range []string{"", "LOCK", "1.wal", "0000000000000000.wal", "0000000000000001.wal.tmp", "000000000000000x.wal",
		"+000000000000001.wal", "00000000000000001.wal", "0000000000000001.WAL", "backup-0001"} {
		if _, ok := parseName(name, fileSuffix); ok {
			t.Errorf("%q was taken for a log file", name)
		}
	}
}

// annotate tells what every byte of a file is, one line a field.
func annotate(t *testing.T, number uint64, data []byte, uuid UUID) string {
	var b strings.Builder
	line := func(from, to int, what string, value any) {
		fmt.Fprintf(&b, "%6d-%-6d %-16s %v\n", from, to-1, what, value)
	}
	show := func(base int, fields []field) {
		for _, f := range fields {
			raw := data[base+f.offset : base+f.offset+f.size]
			value := shorten(raw)
			if strings.HasSuffix(f.name, "magic") {
				value = fmt.Sprintf("%q", raw)
			}
			if isZero(raw) {
				value = "zero"
			}
			line(base+f.offset, base+f.offset+f.size, f.name, value)
		}
	}
	fmt.Fprintf(&b, "# %s, %d bytes\n", fileName(number), len(data))
	show(0, formatTable(t, "File header"))
	for off := int64(fileHeaderBytes); off < int64(len(data)); {
		sp := nextSpan(data, uuid, number, off)
		fmt.Fprintf(&b, "# %s\n", sp.entry().Kind)
		if sp.hasHeader() {
			show(int(off), formatTable(t, "Record header"))
			at := int(off) + headerBytes
			for _, part := range []struct {
				name string
				size int
			}{{"key", int(sp.header.keyBytes)}, {"payload", int(sp.header.payloadBytes)}, {"pad", int(sp.header.padBytes())}} {
				if part.size > 0 {
					line(at, at+part.size, part.name, shorten(data[at:at+part.size]))
				}
				at += part.size
			}
		} else {
			line(int(off), int(sp.end), sp.kind.String(), "")
		}
		off = sp.end
	}
	return b.String()
}

// fixtureRecords are what the fixture of version 1 holds.
func fixtureRecords() []Record {
	a, b, c := row(1, 1, 13), row(2, 41, 0), row(1, 2, 3700)
	a.IdempotencyKey, a.Digest = "first key", [32]byte{0: 0xaa, 31: 0xbb}
	b.Count, b.Epoch, b.Kind = 3, 9, 200
	c.Epoch = 2
	d := row(2, 44, 24)
	d.Epoch = 9
	return []Record{a, b, c, d}
}

const fixtureDir = "testdata/compat/v1"

// TestFixture: what version 1 wrote keeps opening, byte for byte.
func TestFixture(t *testing.T) {
	if *writeFixture {
		if _, err := os.Stat(fixtureDir); !errors.Is(err, os.ErrNotExist) {
			t.Fatal("a fixture is never written again")
		}
		cfg := testConfig()
		cfg.FileBytes = minFileBytes
		l, err := Open(OS(), fixtureDir, cfg, nil)
		if err != nil {
			t.Fatal(err)
		}
		mustAppend(t, l, fixtureRecords()...)
		mustClose(t, l)
		if err := os.Remove(filepath.Join(fixtureDir, lockName)); err != nil {
			t.Fatal(err)
		}
	}
	names, err := filepath.Glob(filepath.Join(fixtureDir, "*"+fileSuffix))
	if err != nil || len(names) != 3 {
		t.Fatalf("the fixture has moved away: got %q, %v, want 3 files", names, err)
	}
	dir := t.TempDir()
	var notes strings.Builder
	for i, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), data, fileMode); err != nil {
			t.Fatal(err)
		}
		notes.WriteString(annotate(t, uint64(i+1), data, testUUID))
	}
	golden := filepath.Join("testdata", "golden", "v1.txt")
	if *update {
		if err := errors.Join(os.MkdirAll(filepath.Dir(golden), 0o755), os.WriteFile(golden, []byte(notes.String()), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if notes.String() != string(want) {
		t.Errorf("the fixture reads differently than %s says; run with -update and look at the difference", golden)
	}
	replay, got := collect()
	l, err := Open(OS(), dir, Config{FileBytes: minFileBytes}, replay)
	if err != nil {
		t.Fatal(err)
	}
	requireRecords(t, *got, fixtureRecords())
	if l.UUID() != testUUID || !l.Recovery().Clean {
		t.Errorf("got uuid %v, recovery %+v", l.UUID(), l.Recovery())
	}
	more := row(1, 3, 1)
	more.Epoch = 2
	mustAppend(t, l, more)
	mustClose(t, l)
}

// TestSameBytesAgain: today's code writes what the fixture holds.
func TestSameBytesAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "wal")
	cfg := testConfig()
	cfg.FileBytes = minFileBytes
	l, err := Open(OS(), dir, cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range fixtureRecords() {
		mustAppend(t, l, r)
	}
	mustClose(t, l)
	for n := uint64(1); n <= 3; n++ {
		got, err := os.ReadFile(filepath.Join(dir, fileName(n)))
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(filepath.Join(fixtureDir, fileName(n)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("file %d differs from the fixture; if that is meant, it is a new version", n)
		}
	}
}

func shorten(b []byte) string {
	if len(b) > 40 {
		return fmt.Sprintf("%x… crc %08x", b[:16], crc32.Checksum(b, castagnoli))
	}
	return fmt.Sprintf("%x", b)
}
