// Package wal is the write-ahead log: it makes a batch of rows survive a crash
// before anything else knows about it.
//
// What is promised:
//
//   - A record is one atomic batch. It comes back whole and unchanged, in the
//     order in which it was enqueued, exactly once, or not at all.
//   - A ticket that resolves without an error names a record that fdatasync has
//     made durable and that Config.Applied has already seen. No crash loses it.
//   - Every failure says which of two things it is: errors.Is(err,
//     ErrNotApplied) means the record is not in the log and never will be;
//     errors.Is(err, ErrUnknown) means only a restart can tell.
//   - A failed write or sync poisons the log for good: nothing is retried,
//     Done is closed, and the process is expected to exit.
//   - Damage is never mistaken for a torn tail as long as a record written
//     later claims to have seen the damaged bytes synced. Open then refuses
//     with a *CorruptError; Repair drops what is lost, and only when asked.
//
// One log serves one writer process and carries the records of all its
// collections, so that one fdatasync commits many. Use it like this:
//
//	log, err := wal.Open(wal.OS(), dir, wal.Config{Applied: memtable.Apply}, memtable.Replay)
//	…
//	mu.Lock() // the caller's own lock: it decides the order
//	rec.Seq = next
//	ticket, err := log.Enqueue(rec) // never blocks; an error is definite
//	if err == nil {
//		next += uint64(rec.Count)
//	}
//	mu.Unlock()
//	pos, err := ticket.Wait(ctx) // durable and applied, or ErrUnknown
//
// The bytes are described in FORMAT.md.
package wal

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
)

// Log is an open log. All methods are safe for concurrent use.
//
// Two goroutines belong to it. The committer is the only one that writes
// records. The janitor is the only one that creates and removes files, so that
// no file operation that can find the disk full is on the path of a record
// that has been accepted.
type Log struct {
	fs   FS
	dir  string
	cfg  Config
	uuid UUID
	lock io.Closer
	info Recovery

	mu   sync.Mutex
	cond *sync.Cond // any change below; always Broadcast

	files []*logFile // every file that exists, by ascending number
	tail  *logFile   // where the next record goes if it fits; nil before the first record
	next  *logFile   // prepared, empty successor of tail; nil while there is none
	last  uint64     // highest file number ever given out

	nextSeq   map[CollectionID]uint64 // seq the next record of a collection must have
	lastEpoch map[CollectionID]uint64
	released  map[CollectionID]uint64 // records up to this seq are not needed any more; dropped: all ones

	queue       []*Ticket // accepted, not yet taken by the committer
	queuedBytes int64     // of the queue and of the group being committed

	wantBytes   int64 // smallest capacity the next file must have
	full        error // why the latest preparation found no room; nil if it did
	janitorDue  bool
	janitorRuns uint64 // preparations started
	janitorDone uint64 // preparations finished; == janitorRuns when idle

	marked  *logFile // holds a mark that may not be synced
	synced  Position // everything before it is durable and applied
	closing bool
	err     error // set once: the reason the log is poisoned
	done    chan struct{}
	workers sync.WaitGroup

	stats Stats

	// Owned by the committer.
	durable Position // everything before it is synced
	buf     []byte   // assembles a group
}

// logFile is one file of the log. number, handle and capacity never change;
// the rest is guarded by Log.mu.
type logFile struct {
	number   uint64
	handle   File
	capacity int64 // bytes

	end     int64                   // where the next record of this file goes
	pending int                     // records accepted but not yet resolved
	lastSeq map[CollectionID]uint64 // highest seq of each collection in this file
}

// fits reports whether a record of size bytes goes behind what f holds, with
// room left for a mark.
func (f *logFile) fits(size int64) bool {
	return f != nil && f.end+size+headerBytes <= f.capacity
}

// Stats is a snapshot of a log's counters.
type Stats struct {
	Files       int    // files on disk, prepared ones included
	LiveBytes   int64  // bytes of records in them
	DiskBytes   int64  // bytes they occupy
	QueuedBytes int64  // bytes accepted and not yet durable
	Records     uint64 // records made durable since Open
	Groups      uint64 // group commits since Open: one fdatasync each
	Prepared    uint64 // files prepared since Open
	Removed     uint64 // files removed since Open
	// RemovedBytes are those of the records in the files removed since Open.
	RemovedBytes int64
	// Full says that the disk had no room for the next file when it was last
	// tried.
	Full bool
}

// Open takes the lock of dir, creates the log or recovers it, and hands every
// record it holds to replay, in order, before it returns. dir is created if it
// does not exist.
//
// The record given to replay, its payload included, is valid only during the
// call. If Open fails, whatever was replayed is to be thrown away. An error
// from replay ends Open and is returned wrapped. replay may be nil.
//
// The log cannot know which records a flush already covers: replay sees those
// too, and it is the caller who checks that a collection's first record does
// not lie beyond its flushed seq plus one.
//
// Errors: ErrLocked if another process has the log, *CorruptError if synced
// records are damaged or missing, ErrVersion for a format from the future,
// ErrFull if the disk has no room for what recovery must write.
func Open(fsys FS, dir string, cfg Config, replay func(Record, Position) error) (*Log, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := fsys.MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("open wal %q: %w", dir, err)
	}
	lock, err := fsys.Lock(filepath.Join(dir, lockName))
	if err != nil {
		return nil, fmt.Errorf("open wal %q: %w", dir, err)
	}
	l := &Log{
		fs: fsys, dir: dir, cfg: cfg, lock: lock,
		nextSeq:   map[CollectionID]uint64{},
		lastEpoch: map[CollectionID]uint64{},
		released:  map[CollectionID]uint64{},
		done:      make(chan struct{}),
	}
	l.cond = sync.NewCond(&l.mu)
	if err := l.start(replay); err != nil {
		l.closeFiles()
		return nil, errors.Join(fmt.Errorf("open wal %q: %w", dir, err), lock.Close())
	}
	return l, nil
}

// start recovers what is there, prepares room and sets the workers going.
func (l *Log) start(replay func(Record, Position) error) error {
	if err := l.recover(replay); err != nil {
		return err
	}
	l.janitorRuns++
	l.prepare()
	l.janitorDone++
	if l.err != nil {
		return l.err
	}
	if len(l.files) == 0 { // a log without a file has no identity yet
		return l.full
	}
	l.synced = l.durable
	l.workers.Add(2)
	go l.commitLoop()
	go l.janitorLoop()
	return nil
}

// UUID is the identity of the log, chosen when it was created.
func (l *Log) UUID() UUID { return l.uuid }

// Recovery tells what Open found.
func (l *Log) Recovery() Recovery { return l.info }

// Size is how many bytes of records the log holds on disk, covered by a flush
// or not: what a budget for the log is measured against.
func (l *Log) Size() int64 { return l.Stats().LiveBytes }

// Stats returns the counters of the log.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.Files, s.QueuedBytes, s.Full = len(l.files), l.queuedBytes, l.full != nil
	for _, f := range l.files {
		s.LiveBytes += f.end - fileHeaderBytes
		s.DiskBytes += f.capacity
	}
	return s
}

// Done is closed when the log is poisoned: the process should then exit.
// Close does not close it.
func (l *Log) Done() <-chan struct{} { return l.done }

// Err is the reason the log is poisoned, nil while it is not.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// poison makes err the last word: nothing is written from here on.
func (l *Log) poison(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return
	}
	l.err = err
	close(l.done)
	l.cond.Broadcast()
}

// Close refuses new records, commits those accepted, marks the stop as clean
// and gives up the lock. It returns the reason if the log is poisoned; then
// nothing more is written. A second Close does nothing.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closing {
		l.mu.Unlock()
		return nil
	}
	l.closing = true
	l.cond.Broadcast()
	l.mu.Unlock()
	l.workers.Wait()

	err := l.Err()
	if err == nil {
		err = l.writeClose()
	}
	l.closeFiles()
	if err = errors.Join(err, l.lock.Close()); err != nil {
		return fmt.Errorf("close wal %q: %w", l.dir, err)
	}
	return nil
}

// closeFiles lets go of the handles. What they held is synced or given up by
// now, so an error has nothing left to tell.
func (l *Log) closeFiles() {
	for _, f := range l.files {
		_ = f.handle.Close()
	}
}
