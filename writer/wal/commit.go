package wal

import "fmt"

// A group is assembled in memory up to coalesceBytes and written at once; a
// payload of directBytes or more is written from where it is, uncopied.
const (
	coalesceBytes = 4 << 20
	directBytes   = 1 << 20
)

// commitLoop is the committer: while one group is being synced the next one
// gathers in the queue.
func (l *Log) commitLoop() {
	defer l.workers.Done()
	for group := l.take(); group != nil; group = l.take() {
		if err := l.commit(group); err != nil {
			l.poison(err)
			l.resolve(group, fmt.Errorf("%w: %w", ErrUnknown, err))
			continue
		}
		for _, t := range group {
			l.cfg.Applied(t.rec, t.pos)
		}
		// The group is durable whatever becomes of the mark.
		err := l.mark()
		if err != nil {
			l.poison(err)
		}
		l.resolve(group, nil)
	}
}

// take waits for records and returns those at the head of the queue that share
// a file, or nil when there will be none.
func (l *Log) take() []*Ticket {
	l.mu.Lock()
	for len(l.queue) == 0 && !l.closing && l.err == nil {
		l.cond.Wait()
	}
	if err := l.err; err != nil {
		rest := l.queue
		l.queue = nil
		l.mu.Unlock()
		l.resolve(rest, fmt.Errorf("%w: %w", ErrPoisoned, err)) // never written: definite
		return nil
	}
	defer l.mu.Unlock()
	n := 0
	for n < len(l.queue) && l.queue[n].file == l.queue[0].file {
		n++
	}
	group := l.queue[:n:n]
	if l.queue = l.queue[n:]; len(l.queue) == 0 {
		l.queue = nil
	}
	return group
}

// commit makes a group durable: one write, unless it is large, and one sync.
func (l *Log) commit(group []*Ticket) error {
	file, at := group[0].file, group[0].pos
	if at.File != l.durable.File && at.Offset == fileHeaderBytes {
		if err := l.syncMark(); err != nil {
			return err
		}
	} else if at != l.durable {
		panic(fmt.Sprintf("BUG: group at %v, log synced up to %v", at, l.durable))
	}
	if err := l.write(group); err != nil {
		return fmt.Errorf("write wal records at %v: %w", at, err)
	}
	if err := file.handle.SyncData(); err != nil {
		return fmt.Errorf("sync wal records at %v: %w", at, err)
	}
	last := group[len(group)-1]
	l.durable = Position{last.pos.File, last.pos.Offset + last.size}
	return nil
}

// syncMark settles the mark at the end of a file that is being left: nothing
// of a file may be unsynced once the next one holds a record.
func (l *Log) syncMark() error {
	l.mu.Lock()
	f := l.marked
	l.marked = nil
	if f != nil {
		f.pending++ // the janitor leaves it alone
	}
	l.mu.Unlock()
	if f == nil {
		return nil
	}
	err := f.handle.SyncData()
	l.mu.Lock()
	f.pending--
	l.mu.Unlock()
	if err != nil {
		return fmt.Errorf("sync wal file %q: %w", fileName(f.number), err)
	}
	return nil
}

// write puts the records of a group in their place.
func (l *Log) write(group []*Ticket) error {
	w := l.durable // claimed by every record of the group
	file := group[0].file.handle
	buf, off := l.buf[:0], group[0].pos.Offset
	flush := func(b []byte) error {
		if err := writeAt(file, b, off); err != nil {
			return err
		}
		off += int64(len(b))
		return nil
	}
	for _, t := range group {
		if len(t.rec.Payload) < directBytes {
			buf = appendRecord(buf, &t.rec, l.uuid, t.pos, w)
		} else {
			seed := seedCRC(l.uuid, t.pos)
			h := describe(&t.rec, seed, w)
			buf = append(appendHeader(buf, &h, seed), t.rec.IdempotencyKey...)
			if err := flush(buf); err != nil {
				return err
			}
			if err := flush(t.rec.Payload); err != nil {
				return err
			}
			buf = append(buf[:0], padding[:h.padBytes()]...)
		}
		if len(buf) >= coalesceBytes {
			if err := flush(buf); err != nil {
				return err
			}
			buf = buf[:0]
		}
	}
	l.buf = buf
	return flush(buf)
}

// mark vouches for what was just synced when no record is there to do it: it
// is written, unsynced, where the next record will overwrite it. A process
// that dies now leaves a log in which any damage shows, and whose tail need
// not be copied.
func (l *Log) mark() error {
	l.mu.Lock()
	idle := len(l.queue) == 0
	f := l.tail
	if idle {
		l.marked = f
	}
	l.mu.Unlock()
	if !idle {
		return nil
	}
	return l.writeMark(f, typeMark)
}

func (l *Log) writeMark(f *logFile, typ uint8) error {
	if err := writeAt(f.handle, appendMark(nil, typ, l.uuid, l.durable), l.durable.Offset); err != nil {
		return fmt.Errorf("write wal mark at %v: %w", l.durable, err)
	}
	return nil
}

// writeClose marks the stop as clean. The workers have ended.
func (l *Log) writeClose() error {
	if l.tail == nil {
		return nil
	}
	if err := l.writeMark(l.tail, typeClose); err != nil {
		return err
	}
	if err := l.tail.handle.SyncData(); err != nil {
		return fmt.Errorf("sync wal mark at %v: %w", l.durable, err)
	}
	return nil
}

// resolve answers the tickets of a group in order.
func (l *Log) resolve(group []*Ticket, err error) {
	l.mu.Lock()
	for _, t := range group {
		t.file.pending--
		l.queuedBytes -= t.size
	}
	if err == nil {
		l.stats.Groups++
		l.stats.Records += uint64(len(group))
		l.synced = l.durable
	}
	if l.removable() != nil {
		l.kick()
	}
	l.cond.Broadcast()
	l.mu.Unlock()
	for _, t := range group {
		t.err = err
		close(t.done)
	}
}
