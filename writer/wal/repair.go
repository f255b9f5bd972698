package wal

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
)

// RepairOptions says how a log is repaired.
type RepairOptions struct {
	// BackupDir receives a copy of every file before anything changes; it must
	// hold no log. "" means backup-0001, or the next free number, inside the
	// log's directory.
	BackupDir string
}

// RepairReport tells what Repair did.
type RepairReport struct {
	Intact    bool   // nothing was wrong; nothing was changed
	BackupDir string // where the files are as they were found
	Kept      int    // records
	Dropped   []Loss // what could not be read, in order
	Lost      []SeqRange
}

// Loss is a byte range [From, To) that was given up. To is 0 for a file that
// was missing.
type Loss struct {
	File     uint64
	From, To int64
	Cause    string
}

// Repair makes a log that Open refuses one that it accepts, by dropping what
// is damaged and keeping every record that is whole. A record that follows a
// loss within its collection gets Record.Gap, for good. Losing acknowledged
// writes is an operator's decision: nothing calls this on its own.
//
// Files are rewritten one by one, each in a single step, in ascending order.
// A repair that is interrupted is simply run again.
func Repair(fsys FS, dir string, opts RepairOptions) (_ *RepairReport, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("repair wal %q: %w", dir, err)
		}
	}()
	lock, err := fsys.Lock(filepath.Join(dir, lockName))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()

	s, err := scanLog(fsys, dir, nil)
	if err == nil {
		return &RepairReport{Intact: true, Kept: s.info.Records}, nil
	}
	var corrupt *CorruptError
	if !errors.As(err, &corrupt) {
		return nil, err
	}
	numbers, _, err := listFiles(fsys, dir)
	if err != nil {
		return nil, err
	}
	uuid, err := findUUID(fsys, dir, numbers)
	if err != nil {
		return nil, err
	}
	backup, err := backUp(fsys, dir, opts.BackupDir, numbers)
	if err != nil {
		return nil, err
	}
	v := &salvage{fs: fsys, dir: dir, uuid: uuid, losses: newLosses(nil), kept: map[CollectionID]uint64{}, epochs: map[CollectionID]uint64{}}
	v.report.BackupDir = backup
	if err := v.run(numbers); err != nil {
		return nil, err
	}
	if _, err := scanLog(fsys, dir, nil); err != nil {
		panic("BUG: a repaired log is refused: " + err.Error())
	}
	v.report.Lost = v.losses.ranges()
	return &v.report, nil
}

// backUp copies the files of the log, durably.
func backUp(fsys FS, dir, target string, numbers []uint64) (string, error) {
	if target == "" {
		names, err := fsys.List(dir)
		if err != nil {
			return "", err
		}
		n := 1
		for slices.Contains(names, fmt.Sprintf("backup-%04d", n)) {
			n++
		}
		target = filepath.Join(dir, fmt.Sprintf("backup-%04d", n))
	}
	if err := fsys.MkdirAll(target); err != nil {
		return "", err
	}
	taken, _, err := listFiles(fsys, target)
	if err != nil {
		return "", err
	}
	if len(taken) > 0 {
		return "", fmt.Errorf("back up to %q: it holds a log already", target)
	}
	var data []byte
	for _, n := range numbers {
		if data, err = readFile(fsys, dir, n, data, maxFileBytes); err != nil {
			return "", err
		}
		if err := writeCopy(fsys, filepath.Join(target, fileName(n)), data); err != nil {
			return "", fmt.Errorf("back up wal file: %w", err)
		}
	}
	return target, fsys.SyncDir(target)
}

func writeCopy(fsys FS, name string, data []byte) (err error) {
	f, err := fsys.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := writeAt(f, data, 0); err != nil {
		return err
	}
	return f.SyncData()
}

// salvage is one repair: what it has seen up to the file it is at.
type salvage struct {
	fs     FS
	dir    string
	uuid   UUID
	report RepairReport
	losses *losses
	kept   map[CollectionID]uint64 // seq after the last one kept
	epochs map[CollectionID]uint64

	changed bool     // some file was; those after it follow other bytes now
	end     Position // of the records kept so far
}

func (v *salvage) run(numbers []uint64) error {
	var data []byte
	for n := numbers[0]; n <= numbers[len(numbers)-1]; n++ {
		i, exists := slices.BinarySearch(numbers, n)
		data = data[:0]
		var err error
		if exists {
			if data, err = readFile(v.fs, v.dir, n, data, maxFileBytes); err != nil {
				return err
			}
		} else {
			v.drop(Loss{File: n, Cause: "file is missing"})
		}
		bound := int64(0) // what the next file knows of this one
		if exists && i+1 < len(numbers) && numbers[i+1] == n+1 {
			next, err := readFile(v.fs, v.dir, n+1, nil, fileHeaderBytes+headerBytes)
			if err != nil {
				return err
			}
			if p, ok := firstFollows(next, v.uuid, n+1); ok && p.File == n {
				bound = p.Offset
			}
		}
		body := v.keep(data, n, bound, exists)
		v.end = Position{n, fileHeaderBytes + int64(len(body))}
		if !v.changed {
			continue
		}
		f, err := install(v.fs, v.dir, v.uuid, n, body, v.end.Offset+headerBytes)
		if err != nil {
			return err
		}
		if err := f.handle.Close(); err != nil {
			return err
		}
	}
	return nil
}

func (v *salvage) drop(l Loss) {
	v.changed = true
	v.report.Dropped = append(v.report.Dropped, l)
}

// keep returns the whole records of a file, encoded for the place they get.
func (v *salvage) keep(data []byte, number uint64, bound int64, exists bool) []byte {
	if exists {
		if err := checkFileHeader(data, v.uuid, number); err != nil {
			v.drop(Loss{number, 0, fileHeaderBytes, err.Error()})
		}
		if p, ok := firstFollows(data, v.uuid, number); ok && v.end.File != 0 && p != v.end {
			v.changed = true
		}
	}
	var body []byte
	off := int64(fileHeaderBytes)
	for off < int64(len(data)) && off != bound {
		sp := nextSpan(data, v.uuid, number, off)
		v.losses.see(&sp)
		if sp.kind == spanZero {
			break
		}
		off = sp.end
		switch {
		case sp.kind == spanMark:
		case sp.kind != spanRecord:
			v.drop(Loss{number, sp.at.Offset, sp.end, sp.cause})
		default:
			body = v.take(body, sp)
		}
	}
	if off < bound {
		v.drop(Loss{number, off, bound, "synced records are gone"})
	}
	return body
}

// take appends a whole record to body unless it repeats what is there.
func (v *salvage) take(body []byte, sp span) []byte {
	h := &sp.header
	r := h.record(sp.body)
	next, known := v.kept[h.collection]
	if known && (r.Seq < next || r.Epoch < v.epochs[h.collection]) {
		v.drop(Loss{sp.at.File, sp.at.Offset, sp.end, fmt.Sprintf(
			"collection %s: seq %d in epoch %d after seq %d in epoch %d", h.collection, r.Seq, r.Epoch, next-1, v.epochs[h.collection])})
		return body
	}
	if known && r.Seq > next && !r.Gap {
		r.Gap, v.changed = true, true
	}
	v.kept[h.collection] = r.Seq + uint64(r.Count)
	v.epochs[h.collection] = r.Epoch
	v.report.Kept++
	at := Position{sp.at.File, fileHeaderBytes + int64(len(body))}
	synced := at
	if len(body) == 0 && v.end.File != 0 {
		synced = v.end
	}
	return appendRecord(body, &r, v.uuid, at, synced)
}
