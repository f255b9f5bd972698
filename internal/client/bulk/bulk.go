// Package bulk loads files of vectors into a collection, and writes a collection into a file ([Export]).
//
// What a load promises:
//
//   - A row counts as done only when the server has acknowledged it. What is done is kept in a checkpoint, so that a load
//     that was interrupted goes on where it stopped: no row is left out, and none that was acknowledged is sent again.
//   - A row that cannot be loaded stops the load, or is skipped and reported, as [Config.SkipBad] says. Nothing else is ever
//     left out silently.
//   - Memory is bounded by Parallel + 1 batches, whatever the size of the file.
//
// Batches are sent concurrently, so when a file holds an id twice, which row wins is certain only with Parallel = 1.
package bulk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/akidb/akidb/internal/client"
	"github.com/akidb/akidb/internal/vecfile"
)

// maxBatchBytes closes a batch early, well below the 64 MiB that a server takes.
const maxBatchBytes = 32 << 20

// Config says what to load, and how.
type Config struct {
	Path       string
	Format     vecfile.Options
	Client     *client.Client
	Collection client.Collection // its ID, Name and Dimension are used
	// Batch is how many rows one request holds at most. 0: 1000; at most 10 000.
	Batch int
	// Parallel is how many requests are under way at once. 0: 2; at most 64.
	Parallel int
	// SkipBad leaves out rows that cannot be read or that the server refuses. false: the first of them ends the load.
	SkipBad bool
	// Skipped is told of every row left out. It is never called concurrently. nil: nobody is.
	Skipped func(row int64, cause error)
	// CheckpointDir keeps what is done across runs. "": a load that fails starts over.
	CheckpointDir string
	// Restart ignores what an earlier run has done.
	Restart bool
	// Note is told, in a sentence, when an earlier run's checkpoint is not used. nil: nobody is.
	Note func(text string)
	// Progress is told how it goes. nil: nobody is.
	Progress Progress
	// Now is the clock of Summary.Seconds. nil: the system's.
	Now func() time.Time
}

// Validate reports every problem at once.
func (c Config) Validate() error {
	var errs []error
	if c.Client == nil || c.Path == "" || c.Collection.Dimension < 1 {
		errs = append(errs, errors.New("a load needs a file, a client and a collection"))
	}
	if c.Batch < 0 || c.Batch > 10000 {
		errs = append(errs, fmt.Errorf("batch is %d rows, want 1 to 10000", c.Batch))
	}
	if c.Parallel < 0 || c.Parallel > 64 {
		errs = append(errs, fmt.Errorf("parallel is %d, want 1 to 64", c.Parallel))
	}
	return errors.Join(errs...)
}

// Summary is what one run did. Rows and Bytes are what the server acknowledged in it.
type Summary struct {
	Path        string  `json:"file"`
	Rows        int64   `json:"rows"`
	RowsSkipped int64   `json:"rows_skipped"`
	RowsResumed int64   `json:"rows_done_earlier"` // by earlier runs, skipped ones included
	Bytes       int64   `json:"bytes_sent"`        // of request bodies, before compression
	Seconds     float64 `json:"seconds"`
	RowsPerSec  float64 `json:"rows_per_second"`

	checkpoint *checkpoint
}

// Forget drops the file's checkpoint: the next run starts from the first row.
func (s Summary) Forget() error {
	if s.checkpoint == nil {
		return nil
	}
	return s.checkpoint.remove()
}

// stopGrace is how long requests under way may take to end once a load is told to stop.
const stopGrace = 10 * time.Second

// Run loads one file. The summary is valid beside an error too. When ctx ends it stops reading and gives requests under way a
// few seconds to end, so that what they achieve is not sent again. A finished file keeps its checkpoint, so that a run over
// several files does not load the first again because the second failed; [Summary.Forget] drops it.
func Run(ctx context.Context, config Config) (Summary, error) {
	summary := Summary{Path: config.Path}
	if err := config.Validate(); err != nil {
		return summary, err
	}
	l, err := newLoad(config)
	if err != nil {
		return summary, err
	}
	defer l.reader.Close()
	start := l.config.Now()
	err = l.run(ctx)
	l.summary.Seconds = l.config.Now().Sub(start).Seconds()
	if l.summary.Seconds > 0 {
		l.summary.RowsPerSec = float64(l.summary.Rows) / l.summary.Seconds
	}
	return l.summary, err
}

// load is one run under way.
type load struct {
	config Config
	reader vecfile.Reader
	jobs   chan *job
	free   chan *job

	mu         sync.Mutex // of everything below
	checkpoint *checkpoint
	summary    Summary
}

// job is a batch and where its rows stand in the file.
type job struct {
	batch    client.Batch
	rows     []int64 // of each row in the batch
	from, to int64   // every row of the file in [from, to) is in the batch, was skipped, or was done before
}

func newLoad(config Config) (*load, error) {
	config.Batch = orDefault(config.Batch, 1000)
	config.Parallel = orDefault(config.Parallel, 2)
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Skipped == nil {
		config.Skipped = func(int64, error) {}
	}
	if config.Note == nil {
		config.Note = func(string) {}
	}
	if config.Progress == nil {
		config.Progress = silent{}
	}
	id, err := identify(config)
	if err != nil {
		return nil, err
	}
	kept, note, err := openCheckpoint(config.CheckpointDir, id, config.Restart)
	if err != nil {
		return nil, err
	}
	if note != "" {
		config.Note(fmt.Sprintf("%s: %s; starting from its first row", config.Path, note))
	}
	reader, err := vecfile.Open(config.Path, config.Format)
	if err != nil {
		return nil, err
	}
	l := &load{config: config, reader: reader, checkpoint: kept, jobs: make(chan *job), free: make(chan *job, config.Parallel+1)}
	for range config.Parallel + 1 {
		l.free <- &job{}
	}
	l.summary = Summary{Path: config.Path, RowsResumed: kept.Done.count(), checkpoint: kept}
	return l, nil
}

func orDefault(n, otherwise int) int {
	if n == 0 {
		return otherwise
	}
	return n
}

func identify(config Config) (identity, error) {
	info, err := os.Stat(config.Path)
	if err != nil {
		return identity{}, err
	}
	path, err := filepath.Abs(config.Path)
	if err != nil {
		return identity{}, err
	}
	return identity{
		Path: path, Size: info.Size(), ModTime: info.ModTime(), Server: config.Client.URL(), CollectionID: config.Collection.ID,
		IDPrefix: config.Format.IDPrefix, IDColumn: config.Format.IDColumn, VectorColumn: config.Format.VectorColumn,
	}, nil
}

func (l *load) run(ctx context.Context) error {
	rows := int64(-1)
	if total, known := l.reader.Total(); known {
		rows = max(total-l.summary.RowsResumed, 0)
	}
	l.config.Progress.Start(l.config.Path, rows, l.summary.RowsResumed)
	defer l.config.Progress.Finish()

	// The first failure, too, only stops the reading.
	reading, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	sending, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(stopGrace, abort) })()
	var group errgroup.Group
	group.Go(func() error {
		defer close(l.jobs)
		return l.read(reading)
	})
	for range l.config.Parallel {
		group.Go(func() error {
			for job := range l.jobs {
				if reading.Err() != nil {
					return context.Cause(reading) // the next run's business
				}
				if err := l.send(sending, job); err != nil {
					stop(err)
					return err
				}
				l.free <- job
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("import %q: %w", l.config.Path, err)
	}
	return nil
}

// read fills batches until the file ends or a row or ctx stops it.
func (l *load) read(ctx context.Context) error {
	done := l.done() // by earlier runs; what this run adds lies behind the reader
	var current *job
	for {
		at := l.reader.Position()
		if past := done.after(at); past > at {
			if err := l.reader.Skip(past - at); err != nil {
				return err
			}
			if moved := l.reader.Position(); moved > at {
				if current != nil {
					current.to = moved
				}
				continue
			} // else the file is shorter than its checkpoint says, and ends here
		}
		if current == nil {
			if current = l.take(ctx, at); current == nil {
				return context.Cause(ctx)
			}
		}
		err := l.readRow(current, at)
		if err != nil && err != io.EOF {
			return err
		}
		current.to = l.reader.Position()
		full := current.batch.Len() >= l.config.Batch || current.batch.Size() >= maxBatchBytes
		if (full || err == io.EOF) && current.to > current.from {
			if !l.pass(ctx, current) {
				return context.Cause(ctx)
			}
			current = nil
		}
		if err == io.EOF {
			return nil
		}
	}
}

// readRow reads the row at the given position into the job. A row that is skipped is not an error.
func (l *load) readRow(j *job, at int64) error {
	row, err := l.reader.Next()
	if err == io.EOF {
		return err
	}
	if err == nil {
		if err = l.check(row); err == nil {
			err = j.batch.Add(row.ID, row.Vector, row.Metadata)
		}
		if err == nil {
			j.rows = append(j.rows, at)
			return nil
		}
		err = &vecfile.Error{Path: l.config.Path, Row: at, Offset: -1, Cause: err, Skippable: true}
	}
	var failure *vecfile.Error
	if l.config.SkipBad && errors.As(err, &failure) && failure.Skippable {
		l.skip(at, failure.Cause)
		return nil
	}
	return err
}

// check finds what the server would refuse, while the file's row is still at hand.
func (l *load) check(row vecfile.Row) error {
	if got, want := len(row.Vector), l.config.Collection.Dimension; got != want {
		return fmt.Errorf("vector has %d values; collection %q needs %d", got, l.config.Collection.Name, want)
	}
	for i, x := range row.Vector {
		if x-x != 0 { // NaN for NaN and both infinities
			return fmt.Errorf("vector[%d] is %v, want a finite number", i, x)
		}
	}
	return nil
}

func (l *load) take(ctx context.Context, from int64) *job {
	select {
	case j := <-l.free:
		j.batch.Reset()
		j.rows, j.from, j.to = j.rows[:0], from, from
		return j
	case <-ctx.Done():
		return nil
	}
}

func (l *load) pass(ctx context.Context, j *job) bool {
	select {
	case l.jobs <- j:
		return true
	case <-ctx.Done():
		return false
	}
}

type silent struct{}

func (silent) Start(string, int64, int64) {}
func (silent) Advance(int64)              {}
func (silent) Finish()                    {}
