package writer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/manifest"
)

// DeadLetter is a piece of background work that failed so often that it now
// waits for the store to be well. It is a job and no data: the rows it is about
// are in the log and searchable, whatever becomes of the entry.
type DeadLetter struct {
	ID           string    `json:"id"`
	Kind         string    `json:"kind"`       // flush, compact or drop
	Collection   string    `json:"collection"` // its name
	CollectionID string    `json:"collection_id"`
	FirstSeq     uint64    `json:"first_seq"` // of the rows it is about; 0 for a drop
	LastSeq      uint64    `json:"last_seq"`
	Bytes        int64     `json:"bytes"`    // of them: in memory for a flush, in the store for a compaction
	Attempts     int       `json:"attempts"` // that failed in a row
	FirstFailed  time.Time `json:"first_failed_at"`
	LastAttempt  time.Time `json:"last_attempt_at"`
	LastError    string    `json:"last_error"`
}

// Kinds of jobs.
const (
	jobFlush   = "flush"
	jobCompact = "compact"
	jobDrop    = "drop"
)

// maxErrorBytes bounds the error that an entry tells.
const maxErrorBytes = 1 << 10

// errParked ends an attempt of a job that gives back what it holds while it
// waits. It is tried again from the start.
var errParked = errors.New("given up until the object store is well")

// deadLetters is the queue of jobs that wait. Whether a job is in it decides
// only how long it waits, never whether it is done or in which order: a flush
// that waits is still the only one of its collection.
//
// The file it is kept in is a convenience: ids and times survive a restart by
// it. Without it the log brings the same jobs forth anew.
type deadLetters struct {
	w *Writer

	mu            sync.Mutex
	jobs          map[jobKey]*job
	dirty, saving bool
}

// jobKey says which job it is: there is one of a kind at a time.
type jobKey struct{ kind, collection string }

// job is background work on its way, whether it fails or not.
type job struct {
	queue *deadLetters
	wake  chan struct{} // tells a job that waits to try again
	// patient jobs wait where they are; the others end with errParked.
	patient bool

	// Guarded by queue.mu.
	entry DeadLetter // ID is "" while it is not parked
	due   bool       // it was told to try again and has not begun to
}

func newDeadLetters(w *Writer) *deadLetters {
	return &deadLetters{w: w, jobs: map[jobKey]*job{}}
}

// begin returns the job of that kind on a collection: a new one, the one that
// waits, or the one an earlier process left.
func (q *deadLetters) begin(kind string, meta manifest.Collection, first, last uint64, bytes int64) *job {
	q.mu.Lock()
	defer q.mu.Unlock()
	key := jobKey{kind, meta.ID}
	j := q.jobs[key]
	if j == nil {
		j = q.add(key)
	}
	e := &j.entry
	e.Kind, e.Collection, e.CollectionID, e.FirstSeq, e.LastSeq, e.Bytes = kind, meta.Name, meta.ID, first, last, bytes
	return j
}

// add makes a job. Callers hold mu.
func (q *deadLetters) add(key jobKey) *job {
	j := &job{queue: q, wake: make(chan struct{}, 1), patient: key.kind != jobCompact}
	q.jobs[key] = j
	return j
}

func (j *job) key() jobKey { return jobKey{j.entry.Kind, j.entry.CollectionID} }

// ready reports whether a job should be tried: it does not wait, or was told to
// try again. A nil job does not wait.
func (j *job) ready() bool {
	if j == nil {
		return true
	}
	j.queue.mu.Lock()
	defer j.queue.mu.Unlock()
	due := j.due
	j.due = false
	return due || j.entry.ID == ""
}

// find returns the job of that kind on a collection, nil if there is none.
func (q *deadLetters) find(kind, collection string) *job {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.jobs[jobKey{kind, collection}]
}

// failed counts an attempt, and parks the job when it was one too many.
func (j *job) failed(err error) (parked bool) {
	q, now := j.queue, j.queue.w.cfg.Now().UTC()
	q.mu.Lock()
	e := &j.entry
	if e.Attempts == 0 {
		e.FirstFailed = now
	}
	e.Attempts++
	e.LastAttempt, e.LastError = now, strings.ToValidUTF8(fmt.Sprintf("%.*s", maxErrorBytes, err), "?")
	parking := e.ID == "" && e.Attempts >= q.w.cfg.JobAttempts
	if parking {
		e.ID = q.w.cfg.NewID().String()
		q.w.cfg.Logger.Error("background work waits for the object store", "kind", e.Kind, "collection", e.Collection, "dead_letter", e.ID, "attempts", e.Attempts, "error", err)
	}
	parked = e.ID != ""
	q.mu.Unlock()
	if parking {
		q.save()
	}
	return parked
}

// progressed says that a step succeeded.
func (j *job) progressed() {
	j.queue.mu.Lock()
	defer j.queue.mu.Unlock()
	if j.entry.ID == "" {
		j.entry.Attempts = 0
	}
}

// done ends a job for good. A nil job has ended.
func (j *job) done() {
	if j == nil {
		return
	}
	q := j.queue
	q.mu.Lock()
	was := j.entry
	if q.jobs[j.key()] == j {
		delete(q.jobs, j.key())
	}
	j.entry.ID = ""
	q.mu.Unlock()
	if was.ID != "" {
		q.w.cfg.Logger.Info("dead letter drained", "kind", was.Kind, "collection", was.Collection, "dead_letter", was.ID)
		q.save()
	}
}

// park waits until the job is told to try again.
func (j *job) park(ctx context.Context) error {
	if !j.patient {
		return errParked
	}
	for !j.ready() {
		select {
		case <-j.wake:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// retry tells a job to try again. Callers hold mu.
func (j *job) retry() {
	j.due = true
	select {
	case j.wake <- struct{}{}:
	default:
	}
	switch j.entry.Kind { // should it not be under way
	case jobCompact:
		j.queue.w.wakeCompactor()
	case jobFlush:
		if c, err := j.queue.w.catalog.find(j.entry.CollectionID); err == nil {
			c.poke()
		}
	}
}

// list returns the entries, oldest first.
func (q *deadLetters) list() []DeadLetter {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.entries()
}

// entries is list for those who hold mu.
func (q *deadLetters) entries() []DeadLetter {
	out := []DeadLetter{}
	for _, j := range q.jobs {
		if j.entry.ID != "" {
			out = append(out, j.entry)
		}
	}
	slices.SortFunc(out, func(a, b DeadLetter) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// retryAll tells every job that waits to try again, and returns how many do.
func (q *deadLetters) retryAll() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for _, j := range q.jobs {
		if j.entry.ID != "" {
			j.retry()
			n++
		}
	}
	return n
}

// byID returns the job with an entry. Callers hold mu.
func (q *deadLetters) byID(id string) *job {
	for _, j := range q.jobs {
		if j.entry.ID != "" && j.entry.ID == id {
			return j
		}
	}
	return nil
}

// retryOne tells one job to try again, if there is an entry of that id.
func (q *deadLetters) retryOne(id string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	j := q.byID(id)
	if j != nil {
		j.retry()
	}
	return j != nil
}

// forget deletes an entry. Its job is tried at once, as if it had never failed.
func (q *deadLetters) forget(id string) bool {
	q.mu.Lock()
	j := q.byID(id)
	if j != nil {
		j.entry.ID, j.entry.Attempts = "", 0
		j.retry()
	}
	q.mu.Unlock()
	if j != nil {
		q.save()
	}
	return j != nil
}

// loop has the jobs that wait tried every now and then until ctx ends.
func (q *deadLetters) loop(ctx context.Context) {
	for {
		every := q.w.cfg.ParkedEvery
		if sleep(ctx, every/2+rand.N(every/2+1)) != nil {
			return
		}
		q.retryAll()
	}
}

// The file of the queue. Version ledger of deadFormat:
//
//	1  first
const (
	deadName   = "dlq.json"
	deadFormat = 1
)

type deadFile struct {
	Format  int          `json:"format"`
	Entries []DeadLetter `json:"entries"`
}

func (q *deadLetters) name() string { return filepath.Join(q.w.cfg.DataDir, deadName) }

// save writes the entries down. Should another be doing so, it does it again for
// us.
func (q *deadLetters) save() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.dirty = true
	if q.saving {
		return
	}
	q.saving = true
	defer func() { q.saving = false }()
	for q.dirty {
		q.dirty = false
		file := deadFile{deadFormat, q.entries()}
		q.mu.Unlock()
		b, err := json.Marshal(file, json.Deterministic(true), jsontext.WithIndent("  "))
		if err == nil {
			err = replaceFile(q.w.cfg.FS, q.name(), b)
		}
		if err != nil {
			q.w.cfg.Logger.Warn("dead letters are not written down; a restart makes them anew", "error", err)
		}
		q.mu.Lock()
	}
}

// load takes up what an earlier process wrote down, as far as there is still
// something to do. A file that is missing or damaged is none.
func (q *deadLetters) load() {
	b, err := readFile(q.w.cfg.FS, q.name())
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	var entries []DeadLetter
	if err == nil {
		entries, err = decodeDead(b)
	}
	if err != nil {
		q.w.cfg.Logger.Warn("dead letters of an earlier process are lost; the log makes the jobs anew", "error", err)
		return
	}
	for _, e := range entries {
		if !q.w.pending(e) {
			continue
		}
		q.mu.Lock()
		j := q.add(jobKey{e.Kind, e.CollectionID})
		j.entry, j.due = e, e.Kind != jobFlush // which begins without being told
		q.mu.Unlock()
	}
	q.save()
}

func decodeDead(b []byte) ([]DeadLetter, error) {
	var file deadFile
	if err := json.Unmarshal(b, &file, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("%w: %w", err, blob.ErrCorrupt)
	}
	if file.Format != deadFormat {
		return nil, fmt.Errorf("got format %d, want %d: %w", file.Format, deadFormat, manifest.ErrUnsupported)
	}
	for _, e := range file.Entries {
		switch e.Kind {
		case jobFlush, jobCompact, jobDrop:
		default:
			return nil, fmt.Errorf("entry %q is of kind %q: %w", e.ID, e.Kind, blob.ErrCorrupt)
		}
		if e.ID == "" || e.CollectionID == "" || e.Attempts < 1 {
			return nil, fmt.Errorf("entry %q of collection %q with %d attempts: %w", e.ID, e.CollectionID, e.Attempts, blob.ErrCorrupt)
		}
	}
	return file.Entries, nil
}

// pending reports whether the job of an entry is still to be done, and sees to
// it that it will be.
func (w *Writer) pending(e DeadLetter) bool {
	if e.Kind == jobDrop {
		return w.catalog.isDropped(e.CollectionID)
	}
	c, err := w.catalog.find(e.CollectionID)
	if err != nil {
		return false
	}
	if e.Kind == jobFlush {
		s := c.state()
		c.want(s.seq)
		return s.seq > s.base()
	}
	return true // the compactor looks at every collection when it starts
}

type jobInContext struct{}

// withJob makes retries below ctx attempts of j.
func withJob(ctx context.Context, j *job) context.Context {
	return context.WithValue(ctx, jobInContext{}, j)
}

// jobOf returns the job that ctx is about, nil if none.
func jobOf(ctx context.Context) *job {
	j, _ := ctx.Value(jobInContext{}).(*job)
	return j
}
