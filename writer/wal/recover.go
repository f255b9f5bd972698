package wal

import (
	"fmt"
	"path/filepath"
	"slices"
)

// Recovery tells what Open found and did.
type Recovery struct {
	Clean     bool     // the log was empty, or closed by Close
	Files     int      // files read
	Records   int      // records replayed
	Bytes     int64    // their size on disk
	Torn      Position // where the torn tail began; zero if there was none
	TornBytes int64    // how much of it was not zero
	Rewritten bool     // the tail was not known to be durable and was copied to a new file
}

// foundFile is one file as the scan sees it.
type foundFile struct {
	number  uint64
	size    int64
	end     int64 // of its records
	dirty   bool  // something other than zeros and a mark follows them
	lastSeq map[CollectionID]uint64
}

// scan is one strict reading of a whole log. It changes nothing.
type scan struct {
	fs     FS
	dir    string
	replay func(Record, Position) error

	uuid     UUID
	numbers  []uint64
	files    []foundFile
	tail     int    // index of the last file that holds records, -1 if none does
	tailData []byte // content of that file

	proven    Position // everything before it is known to have been synced
	nextSeq   map[CollectionID]uint64
	lastEpoch map[CollectionID]uint64
	info      Recovery
}

// scanLog reads the log in dir and replays its records. An invalid record is a
// torn tail only if no later file holds anything and no valid record behind it
// claims to have seen it synced. Everything else is a *CorruptError.
func scanLog(fsys FS, dir string, replay func(Record, Position) error) (*scan, error) {
	s := &scan{
		fs: fsys, dir: dir, replay: replay, tail: -1,
		nextSeq: map[CollectionID]uint64{}, lastEpoch: map[CollectionID]uint64{},
	}
	var err error
	if s.numbers, _, err = listFiles(fsys, dir); err != nil {
		return nil, err
	}
	for i, n := range s.numbers {
		if want := s.numbers[0] + uint64(i); n != want {
			return nil, &CorruptError{File: want, Cause: "file is missing"}
		}
	}
	var data []byte
	for i := range s.numbers {
		if data, err = s.readFile(i, data); err != nil {
			return nil, err
		}
		if err := s.scanFile(i, data); err != nil {
			return nil, err
		}
		if s.tail == i { // keep it: a second read could be answered differently
			s.tailData, data = data, s.tailData
		}
	}
	s.info.Files = len(s.files)
	s.info.Clean = s.info.Clean || s.tail < 0 && s.info.Torn == Position{}
	return s, nil
}

// readFile reads file i and checks that it belongs to this log.
func (s *scan) readFile(i int, buf []byte) ([]byte, error) {
	number := s.numbers[i]
	data, err := readFile(s.fs, s.dir, number, buf, maxFileBytes)
	if err != nil {
		return nil, err
	}
	if i == 0 {
		s.uuid, err = decodeFileHeader(data, number)
		return data, err
	}
	return data, checkFileHeader(data, s.uuid, number)
}

// scanFile walks the records of file i to their end.
func (s *scan) scanFile(i int, data []byte) error {
	number := s.numbers[i]
	bound, err := s.boundOf(i)
	if err != nil {
		return err
	}
	s.files = append(s.files, foundFile{
		number: number, size: int64(len(data)), end: fileHeaderBytes, lastSeq: map[CollectionID]uint64{},
	})
	f := &s.files[i]
	for f.end < f.size && f.end != bound {
		sp := nextSpan(data, s.uuid, number, f.end)
		if sp.kind != spanRecord {
			return s.endFile(i, data, bound, sp)
		}
		if err := s.accept(i, sp); err != nil {
			return err
		}
		if bound > 0 && f.end > bound {
			return &CorruptError{File: number, From: sp.at.Offset, To: f.end, Cause: fmt.Sprintf("record crosses the end of the file's records at %d", bound)}
		}
	}
	if bound > 0 && f.end != bound {
		return s.corrupt(i, data, span{at: Position{number, f.end}, end: bound, cause: "file is cut short"})
	}
	return nil
}

// boundOf returns where the records of file i end, as the first record of the
// next file has it, or 0 if there is no such record.
func (s *scan) boundOf(i int) (int64, error) {
	if i+1 == len(s.numbers) {
		return 0, nil
	}
	next := s.numbers[i+1]
	data, err := readFile(s.fs, s.dir, next, nil, fileHeaderBytes+headerBytes)
	if err != nil {
		return 0, err
	}
	synced, ok := firstFollows(data, s.uuid, next)
	if !ok {
		return 0, nil
	}
	if synced.File != s.numbers[i] || synced.Offset < fileHeaderBytes {
		return 0, &CorruptError{File: s.numbers[i], Cause: fmt.Sprintf("the next file follows %v, not this one", synced)}
	}
	return synced.Offset, nil
}

// endFile judges what stands behind the last record of file i.
func (s *scan) endFile(i int, data []byte, bound int64, sp span) error {
	f := &s.files[i]
	if bound > 0 { // the next file knows of more
		if sp.kind == spanZero || sp.kind == spanMark {
			sp.end, sp.cause = bound, "synced records are gone"
		}
		return s.corrupt(i, data, sp)
	}
	if sp.kind == spanZero {
		return nil
	}
	if sp.kind == spanMark {
		s.prove(sp.header.synced)
		if isZero(data[sp.end:]) {
			s.info.Clean = sp.header.typ == typeClose
			return nil
		}
		sp.cause = "bytes behind a mark"
	}
	torn, err := s.isTorn(i, data, sp)
	if err != nil {
		return err
	}
	if !torn {
		return s.corrupt(i, data, sp)
	}
	f.dirty = true
	s.info.Clean = false
	s.info.Torn = sp.at
	for _, b := range data[sp.at.Offset:] {
		if b != 0 {
			s.info.TornBytes++
		}
	}
	return nil
}

// isTorn reports whether the invalid bytes at sp can be what a crash left of a
// group that was being written: nothing later was ever put on top of them.
func (s *scan) isTorn(i int, data []byte, sp span) (bool, error) {
	for off := sp.at.Offset; off < int64(len(data)); {
		later := nextSpan(data, s.uuid, sp.at.File, off)
		if later.kind == spanImpossible || later.claims(sp.at) {
			return false, nil
		}
		off = later.end
	}
	var buf []byte
	for j := i + 1; j < len(s.numbers); j++ {
		var err error
		if buf, err = s.readFile(j, buf); err != nil {
			return false, err
		}
		if !isZero(buf[fileHeaderBytes:]) {
			return false, nil
		}
	}
	return true, nil
}

// accept takes a valid batch into account and replays it.
func (s *scan) accept(i int, sp span) error {
	h := &sp.header
	f := &s.files[i]
	if next, known := s.nextSeq[h.collection]; known {
		gap := h.flags&flagGap != 0
		if h.seq < next || h.seq > next && !gap {
			e := &CorruptError{File: f.number, From: sp.at.Offset, To: sp.end,
				Cause: fmt.Sprintf("collection %s: got seq %d, want %d", h.collection, h.seq, next)}
			if h.seq > next {
				e.Lost = []SeqRange{{h.collection, next, h.seq - 1}}
			}
			return e
		}
		if last := s.lastEpoch[h.collection]; h.epoch < last {
			return &CorruptError{File: f.number, From: sp.at.Offset, To: sp.end,
				Cause: fmt.Sprintf("collection %s: got epoch %d after %d", h.collection, h.epoch, last)}
		}
	}
	s.prove(h.synced)
	f.end = sp.end
	f.lastSeq[h.collection] = h.seq + uint64(h.count) - 1
	s.nextSeq[h.collection] = h.seq + uint64(h.count)
	s.lastEpoch[h.collection] = h.epoch
	s.tail = i
	s.info.Clean = false
	s.info.Records++
	s.info.Bytes += sp.end - sp.at.Offset
	if s.replay == nil {
		return nil
	}
	if err := s.replay(h.record(sp.body), sp.at); err != nil {
		return fmt.Errorf("replay record at %v: %w", sp.at, err)
	}
	return nil
}

func (s *scan) prove(p Position) {
	if p.Compare(s.proven) > 0 {
		s.proven = p
	}
}

// corrupt names the loss at sp: it reads on to see which sequence numbers the
// survivors do not have.
func (s *scan) corrupt(i int, data []byte, sp span) error {
	e := &CorruptError{File: sp.at.File, From: sp.at.Offset, To: sp.end, Cause: sp.cause}
	l := newLosses(s.nextSeq)
	for j := i; ; {
		off := int64(fileHeaderBytes)
		if j == i {
			off = sp.at.Offset
		}
		for off < int64(len(data)) {
			later := nextSpan(data, s.uuid, s.numbers[j], off)
			l.see(&later)
			off = later.end
		}
		if j++; j == len(s.numbers) {
			break
		}
		var err error
		if data, err = s.readFile(j, data); err != nil {
			break // the first damage is the one to report
		}
	}
	e.Lost = l.ranges()
	return e
}

// losses finds the sequence numbers missing from a run of spans.
type losses struct {
	next map[CollectionID]uint64 // seq expected next
	gone map[CollectionID]uint64 // highest seq seen in a damaged record
	lost []SeqRange
}

func newLosses(next map[CollectionID]uint64) *losses {
	l := &losses{next: map[CollectionID]uint64{}, gone: map[CollectionID]uint64{}}
	for c, seq := range next {
		l.next[c] = seq
	}
	return l
}

func (l *losses) see(sp *span) {
	h := &sp.header
	if sp.kind != spanRecord && (sp.kind != spanDamaged || h.typ != typeBatch) {
		return
	}
	next, known := l.next[h.collection]
	if !known { // what came before it cannot be told
		next = h.seq
		l.next[h.collection] = next
	}
	if sp.kind == spanDamaged {
		l.gone[h.collection] = h.seq + uint64(h.count) - 1
		return
	}
	if h.seq > next {
		l.lost = append(l.lost, SeqRange{h.collection, next, h.seq - 1})
	}
	l.next[h.collection] = max(next, h.seq+uint64(h.count))
}

// ranges closes the account: a damaged record nothing follows is lost too.
func (l *losses) ranges() []SeqRange {
	for c, last := range l.gone {
		if last >= l.next[c] {
			l.lost = append(l.lost, SeqRange{c, l.next[c], last})
		}
	}
	slices.SortStableFunc(l.lost, func(a, b SeqRange) int {
		if n := slices.Compare(a.Collection[:], b.Collection[:]); n != 0 {
			return n
		}
		return int(min(max(int64(a.First-b.First), -1), 1))
	})
	return l.lost
}

// recover reads the log, makes sure that what it read is durable, and leaves
// the files ready for new records.
func (l *Log) recover(replay func(Record, Position) error) error {
	s, err := scanLog(l.fs, l.dir, replay)
	if err != nil {
		return err
	}
	l.info = s.info
	l.nextSeq, l.lastEpoch = s.nextSeq, s.lastEpoch
	l.removeTemps()
	if len(s.files) == 0 {
		l.uuid = l.cfg.NewUUID()
		return nil
	}
	l.uuid = s.uuid
	if err := l.settle(s); err != nil {
		return err
	}
	return l.adopt(s)
}

// removeTemps sweeps what an interrupted preparation left. Failing to is not
// worth failing for: the names are never read.
func (l *Log) removeTemps() {
	_, temps, _ := listFiles(l.fs, l.dir)
	for _, n := range temps {
		_ = l.fs.Remove(filepath.Join(l.dir, tempName(n)))
	}
}

// settle makes the files say exactly what was replayed. Readable is not
// durable: after a failed fsync the kernel shows pages that are not on disk.
// So unless a claim proves the tail synced, its records are written anew, to a
// new file that then takes the place of the old one. A crash in between leaves
// the one or the other, and both replay the same.
func (l *Log) settle(s *scan) error {
	keep := s.tail + 2 // the tail and one prepared file
	for len(s.files) > keep {
		last := s.files[len(s.files)-1]
		if err := removeFile(l.fs, l.dir, last.number); err != nil {
			return err
		}
		s.files = s.files[:len(s.files)-1]
	}
	if s.tail >= 0 {
		t := &s.files[s.tail]
		if t.dirty || s.proven.Compare(Position{t.number, t.end}) < 0 {
			if err := l.rewriteTail(s, t); err != nil {
				return err
			}
			l.info.Rewritten = true
		}
	}
	if next := s.tail + 1; next < len(s.files) && s.files[next].dirty {
		f, err := install(l.fs, l.dir, l.uuid, s.files[next].number, nil, fileHeaderBytes)
		if err != nil {
			return err
		}
		s.files[next].size = f.capacity
		if err := f.handle.Close(); err != nil {
			return err
		}
	}
	// The entry of a prepared file may have been seen before it was synced.
	return l.fs.SyncDir(l.dir)
}

// rewriteTail copies the records of t, which is exactly as large as they are.
// On a full disk the prepared file makes room.
func (l *Log) rewriteTail(s *scan, t *foundFile) error {
	body := s.tailData[fileHeaderBytes:t.end]
	f, err := install(l.fs, l.dir, l.uuid, t.number, body, t.end+headerBytes)
	if isFull(err) && len(s.files) == s.tail+2 {
		if err := removeFile(l.fs, l.dir, s.files[s.tail+1].number); err != nil {
			return err
		}
		s.files = s.files[:s.tail+1]
		f, err = install(l.fs, l.dir, l.uuid, t.number, body, t.end+headerBytes)
	}
	if isFull(err) {
		return fmt.Errorf("copy the tail of wal file %q: %w: %w", fileName(t.number), ErrFull, err)
	}
	if err != nil {
		return err
	}
	t.size = f.capacity
	return f.handle.Close()
}

// adopt opens the files the scan left for the log to work with.
func (l *Log) adopt(s *scan) error {
	for i, found := range s.files {
		handle, err := l.fs.OpenReadWrite(filepath.Join(l.dir, fileName(found.number)))
		if err != nil {
			return err
		}
		f := &logFile{number: found.number, handle: handle, capacity: found.size, end: found.end, lastSeq: found.lastSeq}
		l.files = append(l.files, f)
		l.last = f.number
		switch i {
		case s.tail:
			l.tail, l.marked = f, f // the mark at its end may not be durable
			l.durable = Position{f.number, f.end}
		case s.tail + 1:
			l.next = f
			if s.tail < 0 {
				l.durable = Position{f.number, f.end}
			}
		}
	}
	return nil
}
