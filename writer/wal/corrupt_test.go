package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
)

// How the process that wrote a sample ended.
type ending string

const (
	closed   ending = "closed"   // by Close
	killed   ending = "killed"   // what it wrote is there, synced or not
	powerCut ending = "powerCut" // only what it synced is there
)

// sample is a log of eight records: three each in files 1 and 2, two in file
// 3, each synced on its own, and file 4 prepared.
func sample(t fataler, end ending) (*memFS, []Record, []Position) {
	t.Helper()
	fs, cfg := newMemFS(), testConfig()
	cfg.FileBytes = minFileBytes
	var places []Position
	cfg.Applied = func(_ Record, p Position) { places = append(places, p) }
	l, _ := mustOpen(t, fs, cfg)
	var want []Record
	for i := range uint64(8) {
		want = append(want, row(byte(i%2), 1+i/2, 1000+int(i)))
	}
	mustAppend(t, l, want...)
	settled(l)
	if places[7].File != 3 || l.last != 4 {
		t.Fatalf("the sample is laid out differently: %v", places)
	}
	switch end {
	case closed:
		mustClose(t, l)
	case killed:
		fs.kill()
		_ = l.Close()
		fs = onDisk(fs.disk)
	case powerCut:
		crashed := fs.crash(nil, 0)
		mustClose(t, l)
		fs = crashed
	}
	return fs, want, places
}

// patch changes the bytes of a file.
func patch(fs *memFS, number uint64, change func([]byte) []byte) {
	fs.writeDisk(fileName(number), change(fs.readDisk(number)))
}

func flip(fs *memFS, p Position, at int64) {
	patch(fs, p.File, func(b []byte) []byte { b[p.Offset+at] ^= 4; return b })
}

func zero(fs *memFS, p Position, n int64) {
	patch(fs, p.File, func(b []byte) []byte { clear(b[p.Offset:min(p.Offset+n, int64(len(b)))]); return b })
}

func remove(fs *memFS, number uint64) {
	if err := errors.Join(fs.Remove(filepath.Join(testDir, fileName(number))), fs.SyncDir(testDir)); err != nil {
		panic(err)
	}
}

// forge replaces a record by another with the right checksums.
func forge(fs *memFS, p Position, change func(*header)) {
	patch(fs, p.File, func(b []byte) []byte {
		seed := seedCRC(testUUID, p)
		h, ok := decodeHeader(b[p.Offset:], seed)
		if !ok {
			panic("no record at " + p.String())
		}
		change(&h)
		copy(b[p.Offset:], appendHeader(nil, &h, seed))
		return b
	})
}

const recordSize = 1104 // of the first record of the sample

// TestCorruptions names ways to damage a log, and says for each whether Open
// takes it and how many records survive, there or after a repair.
func TestCorruptions(t *testing.T) {
	type corruption struct {
		name     string
		end      ending
		damage   func(*memFS, []Position)
		survive  int    // records after Open, or after Repair if Open refuses
		refused  string // part of the error; "" if Open takes it
		rewrites bool   // Open copies the tail
	}
	for _, c := range []corruption{
		{"nothing, closed", closed, func(*memFS, []Position) {}, 8, "", false},
		{"nothing, killed", killed, func(*memFS, []Position) {}, 8, "", false},
		{"nothing, power cut", powerCut, func(*memFS, []Position) {}, 8, "", true},
		{"magic of the first record", killed, func(fs *memFS, p []Position) { flip(fs, p[0], 0) }, 7, "no valid record header", false},
		{"length in the middle", killed, func(fs *memFS, p []Position) { flip(fs, p[1], 13) }, 7, "no valid record header", false},
		{"seq in the middle", killed, func(fs *memFS, p []Position) { flip(fs, p[4], 40) }, 7, "seq", false},
		{"payload in the middle", killed, func(fs *memFS, p []Position) { flip(fs, p[4], 500) }, 7, "lost collection 63000000-0000-0000-0000-000000000000 seq 3-3", false},
		{"payload at the end of a file", killed, func(fs *memFS, p []Position) { flip(fs, p[5], 500) }, 7, "body checksum", false},
		{"a record zeroed", killed, func(fs *memFS, p []Position) { zero(fs, p[1], recordSize) }, 7, "no valid record header", false},
		{"the end of a file zeroed", killed, func(fs *memFS, p []Position) { zero(fs, p[5], 2000) }, 7, "synced records are gone", false},
		{"a file zeroed", killed, func(fs *memFS, p []Position) { zero(fs, p[3], 4096) }, 5, "synced records are gone", false},
		{"first record of the last file", killed, func(fs *memFS, p []Position) { flip(fs, p[6], 20) }, 7, "no valid record header", false},
		{"last record, killed", killed, func(fs *memFS, p []Position) { flip(fs, p[7], 500) }, 7, "body checksum", false},
		{"last record, closed", closed, func(fs *memFS, p []Position) { flip(fs, p[7], 20) }, 7, "no valid record header", false},
		{"last record, power cut", powerCut, func(fs *memFS, p []Position) { flip(fs, p[7], 500) }, 7, "", true},
		{"last but one record, power cut", powerCut, func(fs *memFS, p []Position) { flip(fs, p[6], 500) }, 7, "body checksum", false},
		{"last record zeroed, power cut", powerCut, func(fs *memFS, p []Position) { zero(fs, p[7], 1500) }, 7, "", true},
		{"the mark", killed, func(fs *memFS, p []Position) { flip(fs, Position{3, p[7].Offset + 1112}, 60) }, 8, "", true},
		{"the close", closed, func(fs *memFS, p []Position) { flip(fs, Position{3, p[7].Offset + 1112}, 60) }, 8, "", true},
		{"garbage behind the mark", killed, func(fs *memFS, p []Position) { flip(fs, Position{3, 8000}, 0) }, 8, "", true},
		{"garbage behind a full file", killed, func(fs *memFS, p []Position) { flip(fs, Position{1, 8100}, 0) }, 8, "", false},
		{"garbage in the prepared file", killed, func(fs *memFS, p []Position) { flip(fs, Position{4, 5000}, 0) }, 8, "", false},
		{"the prepared file is missing", killed, func(fs *memFS, _ []Position) { remove(fs, 4) }, 8, "", false},
		{"the prepared file is empty", killed, func(fs *memFS, _ []Position) { fs.writeDisk(fileName(4), nil) }, 8, "got 0 bytes, want 4096", false},
		{"header of the prepared file", killed, func(fs *memFS, _ []Position) { flip(fs, Position{4, 0}, 4000) }, 8, "file header checksum", false},
		{"header of a middle file", killed, func(fs *memFS, _ []Position) { flip(fs, Position{2, 0}, 14) }, 8, "file header checksum", false},
		{"a middle file is missing", killed, func(fs *memFS, _ []Position) { remove(fs, 2) }, 5, "file is missing", false},
		{"the last file with records is missing", killed, func(fs *memFS, _ []Position) { remove(fs, 3) }, 6, "file is missing", false},
		{"a middle file is cut short", killed, func(fs *memFS, p []Position) {
			patch(fs, 2, func(b []byte) []byte { return b[:p[4].Offset+50] })
		}, 6, "wal\" is corrupt from byte", false},
		{"a middle file is cut between records", killed, func(fs *memFS, p []Position) {
			patch(fs, 2, func(b []byte) []byte { return b[:p[4].Offset] })
		}, 6, "cut short", false},
		{"the last file is cut to its records", powerCut, func(fs *memFS, p []Position) {
			patch(fs, 3, func(b []byte) []byte { return b[:p[7].Offset+1112] })
		}, 8, "", true},
		{"two files change places", killed, func(fs *memFS, _ []Position) {
			one, two := fs.readDisk(1), fs.readDisk(2)
			fs.writeDisk(fileName(1), two)
			fs.writeDisk(fileName(2), one)
		}, 2, "header number", false},
		{"a file of another log", killed, func(fs *memFS, _ []Position) {
			patch(fs, 2, func(b []byte) []byte { return append(encodeFileHeader(UUID{9}, 2), b[fileHeaderBytes:]...) })
		}, 8, "another log", false},
		{"the last file emptied, mark and all: nothing can tell", killed, func(fs *memFS, p []Position) { zero(fs, p[6], 4000) }, 6, "", false},
		{"a gap in seq, checksums right", killed, func(fs *memFS, p []Position) { forge(fs, p[7], func(h *header) { h.seq++ }) }, 8, "got seq 5, want 4; lost", false},
		{"a repeated seq, checksums right", killed, func(fs *memFS, p []Position) { forge(fs, p[7], func(h *header) { h.seq-- }) }, 7, "got seq 3, want 4", false},
		{"an older epoch, checksums right", killed, func(fs *memFS, p []Position) { forge(fs, p[7], func(h *header) { h.epoch = 0 }) }, 7, "got epoch 0 after 1", false},
		{"an unknown type, checksums right", powerCut, func(fs *memFS, p []Position) { forge(fs, p[7], func(h *header) { h.typ = 9 }) }, 7, "record type", false},
		{"a length beyond all bounds, checksums right", powerCut, func(fs *memFS, p []Position) {
			forge(fs, p[7], func(h *header) { h.payloadBytes = MaxPayloadBytes + 1 })
		}, 7, "payload length", false},
		{"a claim from the future, checksums right", powerCut, func(fs *memFS, p []Position) {
			forge(fs, p[7], func(h *header) { h.synced.Offset += 8000 })
		}, 7, "synced position", false},
		{"a length beyond the file, checksums right", powerCut, func(fs *memFS, p []Position) {
			forge(fs, p[7], func(h *header) { h.payloadBytes = 1 << 20 })
		}, 7, "", true},
		{"the first file is gone: the caller's to see", killed, func(fs *memFS, _ []Position) { remove(fs, 1) }, 5, "", false},
		{"strange files lie about", killed, func(fs *memFS, _ []Position) {
			for _, name := range []string{"0000000000000002.wal.tmp", "0000000000000099.wal.tmp", "core", "7.wal", "0000000000000001.wal~", "lost+found"} {
				fs.writeDisk(name, []byte("junk"))
			}
		}, 8, "", false},
		{"everywhere", killed, func(fs *memFS, p []Position) {
			for _, i := range []int{0, 2, 3, 7} {
				flip(fs, p[i], 300)
			}
			flip(fs, Position{2, 0}, 14)
		}, 4, "body checksum", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs, want, places := sample(t, c.end)
			c.damage(fs, places)
			files, _, _ := listFiles(fs, testDir)
			before := map[uint64][]byte{}
			for _, n := range files {
				before[n] = fs.readDisk(n)
			}
			cfg := testConfig()
			cfg.FileBytes = minFileBytes
			replay, got := collect()
			l, err := Open(fs, testDir, cfg, replay)
			if c.refused == "" {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				if l.Recovery().Rewritten != c.rewrites {
					t.Errorf("rewritten: got %v, want %v", l.Recovery().Rewritten, c.rewrites)
				}
				requireSubset(t, *got, want, c.survive)
				mustClose(t, l)
				l, again := mustOpen(t, fs, cfg)
				if r := l.Recovery(); !r.Clean || r.Rewritten {
					t.Errorf("the first recovery left something for the second: %+v", r)
				}
				requireRecords(t, again, *got)
				mustClose(t, l)
				return
			}
			var corrupt *CorruptError
			if !errors.As(err, &corrupt) || !strings.Contains(err.Error(), c.refused) {
				t.Fatalf("got %v, want a *CorruptError with %q", err, c.refused)
			}
			for n, data := range before {
				if string(fs.readDisk(n)) != string(data) {
					t.Errorf("a refused log was changed: file %d", n)
				}
			}
			checkRepair(t, fs, before, want, c.survive)
		})
	}
}

// requireSubset wants n of the sample's records, in order, none changed but
// for a forged position and the gap a repair leaves.
func requireSubset(t *testing.T, got, want []Record, n int) {
	t.Helper()
	if len(got) != n {
		t.Fatalf("got %d records, want %d", len(got), n)
	}
	i := 0
	for _, r := range got {
		for i < len(want) && string(want[i].Payload) != string(r.Payload) {
			i++
		}
		if i == len(want) {
			t.Fatalf("record %s is not one of the sample, or out of order", brief(r))
		}
	}
}

// checkRepair repairs a refused log and holds the repair to what it says.
func checkRepair(t *testing.T, fs *memFS, before map[uint64][]byte, want []Record, survive int) {
	t.Helper()
	report, err := Repair(fs, testDir, RepairOptions{})
	if err != nil {
		t.Fatalf("repair: %v", err)
	}
	if report.Intact || report.Kept != survive {
		t.Errorf("repair kept %d, want %d: %+v", report.Kept, survive, report)
	}
	for n, data := range before {
		copied, err := readFile(fs, report.BackupDir, n, nil, maxFileBytes)
		if err != nil || string(copied) != string(data) {
			t.Errorf("backup of file %d differs: %v", n, err)
		}
	}
	cfg := testConfig()
	cfg.FileBytes = minFileBytes
	replay, got := collect()
	l, err := Open(fs, testDir, cfg, replay)
	if err != nil {
		t.Fatalf("open after repair: %v", err)
	}
	requireSubset(t, *got, want, survive)
	next := map[CollectionID]uint64{}
	for _, r := range *got {
		if known := next[r.Collection]; known != 0 && (r.Seq != known) != r.Gap {
			t.Errorf("%s follows seq %d: gap is %v", brief(r), known-1, r.Gap)
		}
		next[r.Collection] = r.Seq + uint64(r.Count)
	}
	mustAppend(t, l, row(7, 1, 50))
	mustClose(t, l)
	if again, err := Repair(fs, testDir, RepairOptions{}); err != nil || !again.Intact || again.Kept != survive+1 {
		t.Errorf("second repair: got %+v, %v, want nothing to do", again, err)
	}
}

// TestEveryBitFlip: one flipped bit anywhere is refused, or changes nothing.
// Only the last group of a log whose power was cut, which nothing vouches for,
// may be taken for a torn tail. Of long runs of zeros some bits have to do, and
// of what is the same however the log ended.
func TestEveryBitFlip(t *testing.T) {
	for _, end := range []ending{killed, closed, powerCut} {
		t.Run(string(end), func(t *testing.T) {
			fs, want, places := sample(t, end)
			records := int64(fileHeaderBytes + 3*1108 + 2*headerBytes) // and what marks where they end
			stride := func(number uint64, at int64) int {
				inHeader := at < 64
				inRecords := at >= fileHeaderBytes && at < records
				switch {
				case testing.Short(), !inHeader && !inRecords:
					return 61
				case end != killed && number != 3:
					return 61
				}
				return 1
			}
			refused, harmless, torn := 0, 0, 0
			for number := uint64(1); number <= 4; number++ {
				data, err := fs.disk.UnsafeGetFileDataBuffer(filepath.Join(testDir, fileName(number)))
				if err != nil {
					t.Fatal(err)
				}
				for bit := 0; bit < len(data)*8; bit += stride(number, int64(bit/8)) {
					data[bit/8] ^= 1 << (bit % 8)
					n := 0
					s, err := scanLog(fs, testDir, func(r Record, p Position) error {
						if n >= len(want) || !equal(r, want[n]) || p != places[n] {
							t.Fatalf("file %d bit %d: wrong record %s", number, bit, brief(r))
						}
						n++
						return nil
					})
					data[bit/8] ^= 1 << (bit % 8)
					inLast := number == 3 && int64(bit/8) >= places[7].Offset
					var corrupt *CorruptError
					switch {
					case errors.As(err, &corrupt) || errors.Is(err, ErrVersion):
						refused++
					case err != nil:
						t.Fatalf("file %d bit %d: %v", number, bit, err)
					case n == len(want):
						harmless++
					case end == powerCut && inLast && n == 7 && s.info.Torn == places[7]:
						torn++
					default:
						t.Fatalf("file %d byte %d bit %d: %d of %d records, and no word about it", number, bit/8, bit%8, n, len(want))
					}
				}
			}
			t.Logf("%d refused, %d harmless, %d torn", refused, harmless, torn)
			if refused == 0 || harmless == 0 || (torn > 0) != (end == powerCut) {
				t.Error("the sample no longer covers the cases")
			}
		})
	}
}

// TestNaiveRecoveryIsCaught plants the third bug: a recovery that truncates at
// the first invalid record, whatever later records say. The checker that the
// crash test uses has to see it lose acknowledged records.
func TestNaiveRecoveryIsCaught(t *testing.T) {
	naive := func(fs FS, cfg Config) (*Log, []Record, error) {
		for {
			l, got, err := honestOpen(fs, cfg)
			var corrupt *CorruptError
			if !errors.As(err, &corrupt) {
				return l, got, err
			}
			m := fs.(*memFS)
			zero(m, Position{corrupt.File, corrupt.From}, int64(len(m.readDisk(corrupt.File)))-corrupt.From)
			files, _, _ := listFiles(fs, testDir)
			for i := len(files) - 1; files[i] > corrupt.File; i-- {
				remove(m, files[i])
			}
		}
	}
	for damaged := range 7 {
		fs, want, places := sample(t, powerCut)
		flip(fs, places[damaged], 200)
		acked := make([]bool, len(want))
		for i := range acked {
			acked[i] = true
		}
		now := moment{order: want, acked: acked}
		rng := rand.New(rand.NewPCG(uint64(damaged), 0))
		var corrupt *CorruptError
		if err := checkCrash(fs.crash(rng, 100), now, rng, honestOpen); !errors.As(err, &corrupt) {
			t.Errorf("record %d: honest recovery: got %v, want a *CorruptError", damaged, err)
		}
		if err := checkCrash(fs, now, rng, naive); err == nil || !strings.Contains(err.Error(), "is lost") {
			t.Errorf("record %d: naive recovery passed the checker: %v", damaged, err)
		}
	}
}

// TestRepairSurvivesCrashes: a repair cut off anywhere is run again, and keeps
// what the first would have kept.
func TestRepairSurvivesCrashes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	fs, want, places := sample(t, killed)
	flip(fs, places[1], 300)
	remove(fs, 2)
	var crashed []*memFS
	fs.intercept(func(string, string, int) error {
		crashed = append(crashed, fs.crash(rng, 25*rng.IntN(5)))
		return nil
	})
	if _, err := Repair(fs, testDir, RepairOptions{}); err != nil {
		t.Fatal(err)
	}
	fs.intercept(nil)
	for i, disk := range append(crashed, fs) {
		if _, err := Repair(disk, testDir, RepairOptions{}); err != nil {
			t.Fatalf("repair after crash %d: %v", i, err)
		}
		l, got := mustOpen(t, disk, testConfig())
		requireSubset(t, got, want, 4)
		mustClose(t, l)
	}
}

// TestRepairRefusals: what a repair cannot or must not do.
func TestRepairRefusals(t *testing.T) {
	fs, _, places := sample(t, killed)
	l, err := Open(fs, testDir, testConfig(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Repair(fs, testDir, RepairOptions{}); !errors.Is(err, ErrLocked) {
		t.Errorf("of an open log: got %v, want ErrLocked", err)
	}
	mustClose(t, l)
	flip(fs, places[0], 300)
	if _, err := Repair(fs, testDir, RepairOptions{BackupDir: testDir}); err == nil || !strings.Contains(err.Error(), "holds a log already") {
		t.Errorf("backup onto itself: got %v", err)
	}
	patch(fs, 1, func(b []byte) []byte {
		binary.LittleEndian.PutUint32(b[8:], formatVersion+1)
		binary.LittleEndian.PutUint32(b[12:], fileHeaderCRC(b))
		return b
	})
	if _, err := Open(fs, testDir, testConfig(), nil); !errors.Is(err, ErrVersion) {
		t.Errorf("open of a newer format: got %v, want ErrVersion", err)
	}
	if _, err := Repair(fs, testDir, RepairOptions{}); !errors.Is(err, ErrVersion) {
		t.Errorf("repair of a newer format: got %v, want ErrVersion", err)
	}
}

// TestRepairFindsTheIdentity in a header that is itself damaged.
func TestRepairFindsTheIdentity(t *testing.T) {
	fs, want, places := sample(t, closed)
	for n := uint64(1); n <= 4; n++ {
		flip(fs, Position{n, 0}, 100)
	}
	flip(fs, places[2], 104)
	if report, err := Repair(fs, testDir, RepairOptions{}); err != nil || report.Kept != 7 {
		t.Fatalf("got %+v, %v, want 7 kept", report, err)
	}
	l, got := mustOpen(t, fs, testConfig())
	requireSubset(t, got, want, 7)
	mustClose(t, l)
}

func TestInspect(t *testing.T) {
	show := func(fs *memFS) string {
		var lines []string
		if err := Inspect(fs, testDir, func(e Entry) error {
			line := fmt.Sprintf("%d:%d-%d %s", e.Position.File, e.Position.Offset, e.End, e.Kind)
			if e.Kind == "record" {
				line += " " + brief(e.Record)
			}
			if e.Problem != "" {
				line += " !"
			}
			lines = append(lines, line)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return strings.Join(lines, "\n")
	}
	fs, _, places := sample(t, closed)
	flip(fs, places[1], 500)
	flip(fs, places[3], 0)
	remove(fs, 4)
	fs.writeDisk(fileName(5), encodeFileHeader(testUUID, 5))
	want := `1:0-4096 file
1:4096-5200 record 0/1+1(1000 bytes)
1:5200-6312 damaged !
1:6312-7424 record 0/2+1(1002 bytes)
1:7424-7528 mark
1:7528-8192 zero
2:0-4096 file
2:4096-5208 invalid !
2:5208-6320 record 0/3+1(1004 bytes)
2:6320-7432 record 1/3+1(1005 bytes)
2:7432-7536 mark
2:7536-8192 zero
3:0-4096 file
3:4096-5208 record 0/4+1(1006 bytes)
3:5208-6320 record 1/4+1(1007 bytes)
3:6320-6424 close
3:6424-8192 zero
4:0-0 missing !
5:0-4096 file`
	if got := show(fs); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	stop := errors.New("enough")
	if err := Inspect(fs, testDir, func(Entry) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v, want the callback's error", err)
	}
}
