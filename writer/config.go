package writer

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/ivfpq"
	"github.com/akidb/akidb/writer/wal"
)

// Config configures a Writer.
type Config struct {
	// Store is where everything at rest goes. Required.
	Store blob.Store
	// Ranges reads what is at rest, usually through a cache. Nil means Store
	// itself, uncached.
	Ranges blob.RangeReader
	// DataDir is a local directory for the log and for segments being built.
	// Required; one Writer at a time.
	DataDir string
	// Limits bounds requests. Zero fields mean the defaults.
	Limits httpapi.Limits

	// FlushBytes is the size of a memtable that is flushed. 0 means 64 MiB.
	FlushBytes int64
	// FlushAge is how long an acknowledged row waits at most before its flush
	// begins. 0 means 10 s.
	FlushAge time.Duration
	// MaxUnflushedBytes bounds what all memtables hold together; beyond it
	// writes answer 429 until a flush is through. 0 means 1 GiB, or eight times
	// FlushBytes if that is more.
	MaxUnflushedBytes int64
	// MaxLogBytes is the budget of the records in the log: from half of it on
	// flushes are hurried, from 80 % writes answer 429 and from 90 % 507, until
	// flushes have brought it below 70 %. 0 means 2 GiB.
	MaxLogBytes int64
	// CompactMemory bounds the memory of a merge, and so the segments that
	// compaction makes. 0 means 5 GiB.
	CompactMemory int64
	// BallastBytes is the size of a file in DataDir that is given up when the disk
	// is nearly full and a flush needs room; at most 3 % of the disk. 0: none.
	BallastBytes int64
	// MaxSegmentBytes bounds the vectors of a segment that compaction makes.
	// 0 means 1 GiB, or a fifth of CompactMemory if that is less: at 128
	// dimensions a merge took 4.6 times the size of its vectors, rows, codes, and
	// what the collector leaves for later.
	MaxSegmentBytes int64
	// BuildWorkers is how many cores the build of a segment uses. 0 means all of
	// them; fewer leave something for searches in the same process.
	BuildWorkers int
	// Yield, if set, is called before every small part of a compaction and may
	// wait for what is more urgent, such as searches in the same process.
	Yield func()
	// TierSegments is how many segments of about one size are merged into one.
	// 0 means 8; at least 2.
	TierSegments int
	// DeadFraction of a segment's rows being deleted is worth a rewrite: searches
	// pay for dead rows. 0 means 0.2, which costs them a quarter at most; 1 is
	// never.
	DeadFraction float64
	// GarbageGrace is how long objects that no snapshot names are kept for
	// readers of older ones. 0 means 10 min.
	GarbageGrace time.Duration
	// OrphanEvery is how often a collection is listed for objects that no version
	// names: what processes left that died, manifest bodies they had not removed.
	// 0 means an hour. The first look is at the start.
	OrphanEvery time.Duration
	// WaitLimit bounds how long a request waits for the object store: for
	// durability "object", flush, compact, create and delete. 0 means 60 s.
	WaitLimit time.Duration
	// IdempotencyKeys is how many keys a collection remembers. 0 means 10 000.
	IdempotencyKeys int
	// RetryFirst and RetryMost bound the pause before background work is tried
	// again; pauses are random below a limit that doubles from one to the other.
	// 0 means 100 ms and 15 s.
	RetryFirst, RetryMost time.Duration
	// JobAttempts is how many failures in a row make a flush, a compaction or a
	// drop a dead letter. 0 means 5.
	JobAttempts int
	// ParkedEvery is how often dead letters are tried at least, whatever StoreUp
	// says: at random after half of it to all of it. 0 means 15 s.
	ParkedEvery time.Duration
	// StoreUp is given a function that does not block, to be called whenever the
	// store is seen to work again. Nil: nobody calls it.
	StoreUp func(notify func())
	// SweepEvery is how often ages are looked at. 0 means a second; negative
	// means never, for those who call Sweep themselves.
	SweepEvery time.Duration

	// Ship copies the log to the store every ShipEvery, so that losing DataDir
	// costs no more than what was acknowledged since. 0 means 200 ms; negative
	// means never by itself.
	Ship      bool
	ShipEvery time.Duration

	// WAL configures the log. Applied in it is ignored. ReserveBytes 0 means 64 MiB,
	// at most 2 % of the disk; less than that free, and writes answer 507.
	WAL wal.Config
	// FS is what the log is kept on. Nil means the operating system's.
	FS wal.FS

	// Now is the clock of ages, grace periods and creation times. Nil means
	// time.Now.
	Now func() time.Time
	// NewID makes ids of collections, segments and delete vectors; no id may
	// ever be made twice. Nil means ulid.Make.
	NewID func() ulid.ULID
	// unseatWait is how long a takeover waits for the former owner to be unable to
	// acknowledge anything: lookFresh, and some more for clocks that differ.
	unseatWait time.Duration
	// index overrides, for tests, what the index chooses by itself.
	index ivfpq.Config
	// Degraded is told what is wrong with a component of the Writer, "" when it is
	// well again. Nil: nobody is.
	Degraded func(component, reason string)
	// Logger takes what operators should know. Nil discards it.
	Logger *slog.Logger
	// Registerer takes the metrics. Nil keeps them to itself.
	Registerer prometheus.Registerer
}

// Validate reports every problem of c at once.
func (c Config) Validate() error {
	var errs []error
	wrong := func(is bool, format string, args ...any) {
		if is {
			errs = append(errs, fmt.Errorf("writer: "+format, args...))
		}
	}
	wrong(c.Store == nil, "no store")
	wrong(c.DataDir == "", "no data directory")
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"flush bytes", c.FlushBytes}, {"flush age", int64(c.FlushAge)}, {"max unflushed bytes", c.MaxUnflushedBytes}, {"max log bytes", c.MaxLogBytes},
		{"compaction memory", c.CompactMemory}, {"ballast bytes", c.BallastBytes},
		{"max segment bytes", c.MaxSegmentBytes}, {"build workers", int64(c.BuildWorkers)}, {"garbage grace", int64(c.GarbageGrace)}, {"orphan interval", int64(c.OrphanEvery)}, {"wait limit", int64(c.WaitLimit)},
		{"idempotency keys", int64(c.IdempotencyKeys)}, {"first retry", int64(c.RetryFirst)}, {"last retry", int64(c.RetryMost)},
		{"job attempts", int64(c.JobAttempts)}, {"parked every", int64(c.ParkedEvery)},
	} {
		wrong(f.value < 0, "%s is %d, want at least 0", f.name, f.value)
	}
	wrong(c.MaxLogBytes > 0 && c.MaxLogBytes < 4*c.WAL.FileBytes, "max log bytes is %d, want at least 4 log files of %d", c.MaxLogBytes, c.WAL.FileBytes)
	wrong(c.TierSegments < 0 || c.TierSegments == 1, "tier segments is %d, want 0 or at least 2", c.TierSegments)
	wrong(!(c.DeadFraction >= 0 && c.DeadFraction <= 1), "dead fraction is %v, want 0 to 1", c.DeadFraction)
	errs = append(errs, c.Limits.WithDefaults().Validate(), c.WAL.Validate())
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	c.Limits = c.Limits.WithDefaults()
	setDefault(&c.FlushBytes, 64<<20)
	setDefault(&c.FlushAge, 10*time.Second)
	setDefault(&c.MaxUnflushedBytes, max(1<<30, 8*c.FlushBytes))
	setDefault(&c.MaxLogBytes, 2<<30)
	setDefault(&c.CompactMemory, 5<<30)
	setDefault(&c.MaxSegmentBytes, min(1<<30, c.CompactMemory/5))
	setDefault(&c.TierSegments, 8)
	setDefault(&c.DeadFraction, 0.2)
	setDefault(&c.GarbageGrace, 10*time.Minute)
	setDefault(&c.OrphanEvery, time.Hour)
	setDefault(&c.WaitLimit, time.Minute)
	setDefault(&c.IdempotencyKeys, 10000)
	setDefault(&c.RetryFirst, 100*time.Millisecond)
	setDefault(&c.RetryMost, 15*time.Second)
	setDefault(&c.JobAttempts, 5)
	setDefault(&c.ParkedEvery, 15*time.Second)
	setDefault(&c.SweepEvery, time.Second)
	setDefault(&c.ShipEvery, 200*time.Millisecond)
	setDefault(&c.unseatWait, lookFresh+lookFresh/4)
	if c.Ranges == nil {
		c.Ranges = blob.Direct(c.Store)
	}
	if c.FS == nil {
		c.FS = wal.OS()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.NewID == nil {
		c.NewID = ulid.Make
	}
	if c.Degraded == nil {
		c.Degraded = func(string, string) {}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Registerer == nil {
		c.Registerer = prometheus.NewRegistry()
	}
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
