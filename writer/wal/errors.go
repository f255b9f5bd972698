package wal

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
)

// ErrNotApplied is what every definite refusal is: the record is not in the
// log and never will be. The more telling errors below wrap it.
var ErrNotApplied = errors.New("not applied")

// Definite refusals, by what the caller will do.
var (
	// ErrFull: the disk has no room for another file. Flush, Release, try again.
	ErrFull = fmt.Errorf("no room on disk: %w", ErrNotApplied)
	// ErrBusy: records arrive faster than they can be synced, or the next file
	// is still being prepared. WaitRoom, then try again.
	ErrBusy = fmt.Errorf("log is behind: %w", ErrNotApplied)
	// ErrTooLarge: the record is beyond Config.MaxRecordBytes. Never try again.
	ErrTooLarge = fmt.Errorf("record too large: %w", ErrNotApplied)
	// ErrInvalid: the caller broke the rules of Enqueue; a bug, not a condition.
	ErrInvalid = fmt.Errorf("invalid record: %w", ErrNotApplied)
	// ErrClosed: the log is closed or closing.
	ErrClosed = fmt.Errorf("log is closed: %w", ErrNotApplied)
	// ErrPoisoned: an earlier write or sync failed. Exit; a restart recovers.
	ErrPoisoned = fmt.Errorf("log is poisoned: %w", ErrNotApplied)
)

// ErrUnknown: the record may or may not survive. It was on its way to the disk
// when the disk failed, or when the caller stopped waiting.
var ErrUnknown = errors.New("outcome unknown")

// Errors of Open, Inspect and Repair.
var (
	// ErrLocked: another process has the log open.
	ErrLocked = errors.New("locked by another process")
	// ErrVersion: the log was written by a newer format than this one reads.
	ErrVersion = errors.New("unsupported format version")
)

// CorruptError reports damage that is not a torn tail: bytes the log once knew
// to be durable are unreadable or gone.
type CorruptError struct {
	File uint64 // number of the damaged or missing file
	// From and To are the byte range lost to readers, [From, To). To is 0 when
	// the end cannot be told.
	From, To int64
	Cause    string
	// Lost are the sequence numbers that the surviving records show to be
	// missing, as far as that can be told.
	Lost []SeqRange
}

// SeqRange is the seqs First..Last, both included, of one collection.
type SeqRange struct {
	Collection  CollectionID
	First, Last uint64
}

func (r SeqRange) String() string {
	return fmt.Sprintf("collection %s seq %d-%d", r.Collection, r.First, r.Last)
}

func (e *CorruptError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "wal file %q is corrupt from byte %d", fileName(e.File), e.From)
	if e.To != 0 {
		fmt.Fprintf(&b, " to %d", e.To)
	}
	fmt.Fprintf(&b, ": %s", e.Cause)
	for i, r := range e.Lost {
		b.WriteString([]string{"; lost ", ", "}[min(i, 1)])
		b.WriteString(r.String())
	}
	return b.String()
}

// isFull tells a full disk, which is a condition, from a broken one, which is
// the end.
func isFull(err error) bool {
	return errors.Is(err, ErrFull) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
