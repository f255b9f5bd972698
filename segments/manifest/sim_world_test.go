package manifest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"

	"github.com/akidb/akidb/segments/blob"
)

// world runs processes against one store, one at a time: a process runs until
// its next call of the store, and then the world picks what happens next. All
// that happens is a function of the picks, so a run is replayed by them.
type world struct {
	chooser
	faults  int // how many more things may go wrong
	turns   int // how many more times a process may lose its turn; -1: no limit
	turn    *proc
	yielded chan struct{}
	procs   []*proc
	trace   []string

	objects map[string][]byte
	delayed []request // puts still on their way
	outage  int       // store calls until the store is back
	applied []event   // every replacement of CURRENT
	deleted []string
	step    int
}

// chooser makes the picks.
type chooser interface {
	pick(n int) int      // one of 0..n-1
	unlikely(n int) bool // true once in n
}

type event struct {
	step    int
	current Current
}

type request struct {
	key  string
	body []byte
	cond blob.Condition
}

// proc is one process, and its view of the store.
type proc struct {
	w      *world
	name   string
	resume chan struct{}
	killed bool
	done   bool
	cancel context.CancelFunc // of the operation under way
}

func newWorld(faults int, c chooser) *world {
	return &world{chooser: c, faults: faults, turns: -1, yielded: make(chan struct{}), objects: map[string][]byte{}}
}

func (w *world) logf(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf("%3d ", w.step)+fmt.Sprintf(format, args...))
}

// chance picks whether something goes wrong, while there are faults left.
func (w *world) chance(n int) bool {
	if w.faults == 0 || !w.unlikely(n) {
		return false
	}
	w.faults--
	return true
}

// start adds a process. It does not run before the world picks it.
func (w *world) start(name string, run func(p *proc)) *proc {
	p := &proc{w: w, name: name, resume: make(chan struct{})}
	w.procs = append(w.procs, p)
	go func() {
		defer func() {
			p.done = true
			w.yielded <- struct{}{}
		}()
		<-p.resume
		if !p.killed {
			run(p)
		}
	}()
	return p
}

// yield hands control back until the world picks p again, or kills it here.
func (p *proc) yield() {
	p.w.yielded <- struct{}{}
	<-p.resume
	if p.killed {
		runtime.Goexit()
	}
}

func (w *world) resume(p *proc) {
	w.step++
	p.resume <- struct{}{}
	<-w.yielded
	if p.done {
		w.procs = slices.DeleteFunc(w.procs, func(q *proc) bool { return q == p })
	}
}

func (w *world) kill(p *proc) {
	w.logf("%s is killed", p.name)
	p.killed = true
	w.resume(p)
}

// run goes on until every process has ended and no put is on its way. crashed
// is told of every process that was killed.
func (w *world) run(crashed func(*proc)) {
	for len(w.procs)+len(w.delayed) > 0 {
		if len(w.procs) == 0 || len(w.delayed) > 0 && w.unlikely(3) {
			w.step++
			w.deliver(w.pick(len(w.delayed)))
			continue
		}
		p := w.schedule()
		if w.chance(40) {
			w.kill(p)
			crashed(p)
		} else {
			w.resume(p)
		}
	}
}

// schedule picks the process whose turn it is.
func (w *world) schedule() *proc {
	running := slices.Index(w.procs, w.turn)
	if running >= 0 && w.turns == 0 {
		return w.turn
	}
	if running > 0 { // first, so that the first pick takes no turn away
		w.procs[0], w.procs[running] = w.procs[running], w.procs[0]
	}
	i := w.pick(len(w.procs))
	if running >= 0 && i > 0 && w.turns > 0 {
		w.turns--
	}
	w.turn = w.procs[i]
	return w.turn
}

// deliver applies one delayed put, or drops it.
func (w *world) deliver(i int) {
	r := w.delayed[i]
	w.delayed = slices.Delete(w.delayed, i, i+1)
	if w.chance(4) {
		return
	}
	_, err := w.put(r)
	w.logf("late put of %q: %v", r.key, err)
}

// put evaluates a put as a store does. Versions are hashes of the content, so
// that equal contents share one.
func (w *world) put(r request) (blob.Version, error) {
	old, exists := w.objects[r.key]
	switch {
	case r.cond.IfAbsent && exists:
		return "", blob.ErrPrecondition
	case r.cond.IfMatch != "" && !exists:
		return "", blob.ErrNotFound
	case r.cond.IfMatch != "" && r.cond.IfMatch != etag(old):
		return "", blob.ErrPrecondition
	}
	w.objects[r.key] = r.body
	if strings.HasSuffix(r.key, "/CURRENT") {
		c, err := decodeCurrent(r.body)
		if err != nil {
			panic(err)
		}
		w.applied = append(w.applied, event{w.step, c})
		w.logf("CURRENT is %d by %s", c.Manifest.Version, c.CommitID)
	}
	return etag(r.body), nil
}

func etag(b []byte) blob.Version { return blob.Version(hash(b)[:12]) }

// away picks whether the store cannot be reached.
func (w *world) away() bool {
	if w.outage > 0 {
		w.outage--
		return true
	}
	if w.chance(30) {
		w.outage = w.pick(6)
		return true
	}
	return false
}

func (p *proc) Get(ctx context.Context, key string) ([]byte, blob.Version, error) {
	p.yield()
	if err := ctx.Err(); err != nil {
		return nil, "", err
	}
	if p.w.away() {
		return nil, "", blob.ErrUnavailable
	}
	b, ok := p.w.objects[key]
	if !ok {
		return nil, "", fmt.Errorf("get %q: %w", key, blob.ErrNotFound)
	}
	return bytes.Clone(b), etag(b), nil
}

// Put is where everything that a network does to a request can happen.
func (p *proc) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, cond blob.Condition) (blob.Version, error) {
	p.yield()
	if err := ctx.Err(); err != nil {
		return "", err
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(body, b); err != nil {
		panic(err)
	}
	w, r := p.w, request{key, b, cond}
	if w.away() {
		return "", blob.ErrUnavailable
	}
	if !w.chance(3) {
		return w.put(r)
	}
	switch w.pick(6) {
	case 0: // the reply is lost
		version, err := w.put(r)
		w.logf("%s: reply lost: %q %v", p.name, version, err)
		return "", blob.ErrUnavailable
	case 1: // the request is lost
		return "", blob.ErrUnavailable
	case 2: // the request is duplicated, and the reply to the second copy is first
		_, _ = w.put(r)
		return w.put(r)
	case 3: // a copy of the request arrives later
		w.delayed = append(w.delayed, r)
		return w.put(r)
	case 4: // the caller gives up, and the request arrives later
		w.delayed = append(w.delayed, r)
		p.cancel()
		return "", ctx.Err()
	default: // time-out, and the request arrives later
		w.delayed = append(w.delayed, r)
		return "", blob.ErrUnavailable
	}
}

func (p *proc) Delete(_ context.Context, key string) error {
	p.w.deleted = append(p.w.deleted, key)
	delete(p.w.objects, key)
	return nil
}

func (p *proc) ReadRange(context.Context, string, int64, []byte) error { return errors.ErrUnsupported }

func (p *proc) Stat(context.Context, string) (blob.Object, error) {
	return blob.Object{}, errors.ErrUnsupported
}

func (p *proc) List(context.Context, blob.Listing) (blob.Page, error) {
	return blob.Page{}, errors.ErrUnsupported
}

// wait is what a Log does between two tries: others run, and perhaps its
// deadline passes.
func (p *proc) wait(ctx context.Context, _ int) error {
	p.yield()
	if p.w.chance(8) {
		p.cancel()
	}
	return ctx.Err()
}

// context returns one that ends when the world says so.
func (p *proc) context() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	return ctx
}
