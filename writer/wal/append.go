package wal

import (
	"context"
	"fmt"
	"math"
)

// Ticket is a record on its way to the disk.
type Ticket struct {
	rec  Record
	pos  Position
	size int64
	file *logFile

	done chan struct{} // closed when err is final
	err  error
}

// Wait returns where the record is once it is durable and applied. A record
// whose write failed, or whose ctx ended first, is ErrUnknown; one the log was
// poisoned before writing is ErrPoisoned, which is definite.
func (t *Ticket) Wait(ctx context.Context) (Position, error) {
	select {
	case <-t.done:
	case <-ctx.Done():
		select {
		case <-t.done: // both: the record's own answer is the better one
		default:
			return Position{}, fmt.Errorf("wait for wal record at %v: %w: %w", t.pos, ErrUnknown, context.Cause(ctx))
		}
	}
	if t.err != nil {
		return Position{}, t.err
	}
	return t.pos, nil
}

// Enqueue accepts a record and fixes its place in the log. It does no I/O and
// does not wait, so it can be called under the lock that hands out rec.Seq. An
// error is always definite (ErrNotApplied): the record took no place, and the
// same Seq is still the next one.
//
// Within a collection Seq must continue where the previous record ended, and
// Epoch must not decrease; the first record the log has of a collection may
// start anywhere from 1 up. The payload belongs to the log until the ticket resolves.
func (l *Log) Enqueue(rec Record) (*Ticket, error) {
	size, err := l.sizeOf(&rec)
	if err != nil {
		return nil, err
	}
	if err := checkRows(rec.Seq, rec.Count); err != nil {
		return nil, fmt.Errorf("enqueue wal record: %w: %w", err, ErrInvalid)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.refusal(); err != nil {
		return nil, err
	}
	if err := l.checkOrder(&rec); err != nil {
		return nil, err
	}
	if !l.queueTakes(size) {
		return nil, fmt.Errorf("enqueue wal record: %d bytes wait to be synced: %w", l.queuedBytes, ErrBusy)
	}
	if !l.hasRoom(size) {
		l.want(size)
		if l.full != nil {
			return nil, l.full
		}
		return nil, fmt.Errorf("enqueue wal record: next file is being prepared: %w", ErrBusy)
	}
	return l.place(rec, size), nil
}

// WaitRoom waits until Enqueue of the same record would not answer ErrBusy;
// its Seq may still be missing. Call it without the lock that orders records. Its errors are definite:
// ErrFull when an attempt to prepare a file found no room on the disk.
func (l *Log) WaitRoom(ctx context.Context, rec Record) error {
	size, err := l.sizeOf(&rec)
	if err != nil {
		return err
	}
	wake := context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.cond.Broadcast()
	})
	defer wake()
	l.mu.Lock()
	defer l.mu.Unlock()
	var attempt uint64 // number of the preparation that began after we asked; 0: did not ask
	for {
		if err := l.refusal(); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("wait for room in the wal: %w: %w", ErrNotApplied, context.Cause(ctx))
		}
		switch {
		case !l.queueTakes(size):
		case l.hasRoom(size):
			return nil
		case l.janitorDone < attempt: // asked, not answered
		case attempt > 0 && l.full != nil:
			return l.full
		default:
			l.want(size)
			attempt = l.janitorRuns + 1
		}
		l.cond.Wait()
	}
}

// sizeOf checks what can be checked without the log's state.
func (l *Log) sizeOf(rec *Record) (int64, error) {
	switch {
	case int64(len(rec.Payload)) > l.cfg.MaxRecordBytes:
		return 0, fmt.Errorf("enqueue wal record: payload: got %d bytes, want at most %d: %w", len(rec.Payload), l.cfg.MaxRecordBytes, ErrTooLarge)
	case len(rec.IdempotencyKey) > MaxKeyBytes:
		return 0, fmt.Errorf("enqueue wal record: idempotency key: got %d bytes, want at most %d: %w", len(rec.IdempotencyKey), MaxKeyBytes, ErrInvalid)
	case rec.Gap:
		return 0, fmt.Errorf("enqueue wal record: only a repair leaves a gap: %w", ErrInvalid)
	}
	return recordBytes(len(rec.IdempotencyKey), len(rec.Payload)), nil
}

// refusal is why nothing is accepted any more, if so. Callers hold mu.
func (l *Log) refusal() error {
	switch {
	case l.err != nil:
		return fmt.Errorf("%w: %w", ErrPoisoned, l.err)
	case l.closing:
		return ErrClosed
	}
	return nil
}

// checkOrder holds the caller to the order of sequence numbers and epochs.
func (l *Log) checkOrder(rec *Record) error {
	if l.released[rec.Collection] == math.MaxUint64 {
		return fmt.Errorf("enqueue wal record: collection %s is dropped: %w", rec.Collection, ErrInvalid)
	}
	next, known := l.nextSeq[rec.Collection]
	if known && rec.Seq != next {
		return fmt.Errorf("enqueue wal record: collection %s: got seq %d, want %d: %w", rec.Collection, rec.Seq, next, ErrInvalid)
	}
	if last := l.lastEpoch[rec.Collection]; rec.Epoch < last {
		return fmt.Errorf("enqueue wal record: collection %s: got epoch %d after %d: %w", rec.Collection, rec.Epoch, last, ErrInvalid)
	}
	return nil
}

func (l *Log) queueTakes(size int64) bool {
	return l.queuedBytes == 0 || l.queuedBytes+size <= l.cfg.MaxQueueBytes
}

func (l *Log) hasRoom(size int64) bool { return l.tail.fits(size) || l.next.fits(size) }

// want asks the janitor for a file that takes a record of size bytes.
func (l *Log) want(size int64) {
	l.wantBytes = max(l.wantBytes, fileHeaderBytes+size+headerBytes)
	l.kick()
}

// place gives the record its position and hands it to the committer.
func (l *Log) place(rec Record, size int64) *Ticket {
	if !l.tail.fits(size) {
		l.tail, l.next = l.next, nil
		l.kick()
	}
	f := l.tail
	t := &Ticket{rec: rec, pos: Position{f.number, f.end}, size: size, file: f, done: make(chan struct{})}
	f.end += size
	f.pending++
	f.lastSeq[rec.Collection] = rec.Seq + uint64(rec.Count) - 1
	l.nextSeq[rec.Collection] = rec.Seq + uint64(rec.Count)
	l.lastEpoch[rec.Collection] = rec.Epoch
	l.queue = append(l.queue, t)
	l.queuedBytes += size
	l.cond.Broadcast()
	return t
}
