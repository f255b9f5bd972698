package manifest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/akidb/akidb/segments/blob"
)

// bug is a mistake planted into the protocol, to prove that the checker sees it.
type bug struct {
	name   string
	caught string // by which words of the checker
	rules  func(*rules)
	store  func(*proc) blob.Store
	zombie bool // goes on after it was fenced
}

var bugs = []bug{
	{name: "no epoch check", caught: "epoch: got 1 after 2", rules: func(r *rules) {
		r.mine = func(Current, string, uint64) bool { return true }
	}},
	{name: "a lost reply is a failure", caught: "reported as failed and is in the chain", rules: func(r *rules) {
		right := r.judge
		r.judge = func(p *attempt, answer error, seen sighting) outcome {
			if errors.Is(answer, blob.ErrUnavailable) {
				return refused
			}
			return right(p, answer, seen)
		}
	}},
	{name: "delayed puts are ignored", caught: "reported as failed and is in the chain", rules: func(r *rules) {
		right := r.judge
		r.judge = func(p *attempt, answer error, seen sighting) outcome {
			if o := right(p, answer, seen); o != open {
				return o
			}
			return refused
		}
	}},
	{name: "ancestors are not looked at", caught: "reported as failed and is in the chain", rules: func(r *rules) {
		right := r.judge
		r.judge = func(p *attempt, answer error, seen sighting) outcome {
			if seen.ours && seen.head.snapshot.Version != p.snapshot.Version {
				return refused
			}
			return right(p, answer, seen)
		}
	}},
	{name: "the body is deleted on conflict", caught: "chain: ", store: func(p *proc) blob.Store { return &eraser{proc: p} }},
	{name: "a fenced log goes on", caught: "after its log was fenced", zombie: true},
}

// eraser deletes the last body when CURRENT was not replaced by it, so it says.
type eraser struct {
	*proc
	body string
}

func (e *eraser) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, cond blob.Condition) (blob.Version, error) {
	version, err := e.proc.Put(ctx, key, body, size, cond)
	switch {
	case !strings.HasSuffix(key, "/CURRENT"):
		e.body = key
	case err != nil:
		_ = e.Delete(ctx, e.body)
	}
	return version, err
}

// simulation is one run: owner "a" creates the collection and commits from
// processes that crash and come back; "b" takes over at some time.
type simulation struct {
	*world
	bug     bug
	serial  int
	crashes int
	records []*record
	fences  map[string]int // process → step at which it learned that it is fenced
	errs    []error        // what must never happen
}

// record is one try to commit some rows.
type record struct {
	rows    string
	segment string
	commit  string // id, when reported as applied
	version uint64
	state   string // "applied", "failed" or "" for never told
}

const simID = "c"

func (s *simulation) violation(format string, args ...any) {
	s.errs = append(s.errs, fmt.Errorf("step %d: %s", s.step, fmt.Sprintf(format, args...)))
}

// options make a process's Log part of the world.
func (s *simulation) options(p *proc) []Option {
	return []Option{
		WithClock(func() time.Time { return time.Unix(int64(s.step), 0) }),
		WithIDs(func() string { s.serial++; return fmt.Sprintf("%s-%d", p.name, s.serial) }),
		WithWait(p.wait),
		func(l *Log) {
			if s.bug.rules != nil {
				s.bug.rules(&l.rules)
			}
		},
	}
}

func (s *simulation) storeOf(p *proc) blob.Store {
	if s.bug.store != nil {
		return s.bug.store(p)
	}
	return p
}

// writer starts a process of owner: it gets hold of the collection by begin
// and then commits some rows.
func (s *simulation) writer(owner string, commits int, begin func(p *proc) *Log) {
	s.serial++
	s.start(fmt.Sprintf("%s%d", owner, s.serial), func(p *proc) {
		l := begin(p)
		if l == nil {
			return
		}
		if commits > 1 && s.pick(3) == 0 { // somebody who shares the epoch
			s.sibling(l)
		}
		for range commits {
			if !s.commitRows(p, l) {
				return
			}
		}
	})
}

// sibling starts a process that commits in the epoch of l.
func (s *simulation) sibling(l *Log) {
	s.serial++
	s.start(fmt.Sprintf("s%d", s.serial), func(p *proc) {
		twin, err := newLog(s.storeOf(p), l.id, l.owner, s.options(p))
		if err != nil {
			panic(err)
		}
		twin.epoch = l.epoch
		twin.publish(l.head)
		s.commitRows(p, twin)
	})
}

func (s *simulation) create(p *proc) *Log {
	c := Collection{ID: simID, Name: "n", Dimension: 1, Metric: "l2"}
	l, err := Create(p.context(), s.storeOf(p), c, "a", s.options(p)...)
	if u := new(UnknownError); errors.As(err, &u) {
		if !s.resolve(p, l, u) {
			s.violation("creation refused with no rival")
			return nil
		}
		return l
	}
	if err != nil { // the deadline passed
		if !errors.Is(err, context.Canceled) {
			s.violation("create: %v", err)
		}
		return nil
	}
	return l
}

// open returns a begin that opens the collection and claims it, or takes over.
func (s *simulation) open(owner string, claim func(*Log, context.Context) (*Snapshot, error)) func(p *proc) *Log {
	return func(p *proc) *Log {
		for {
			l, err := Open(p.context(), s.storeOf(p), simID, owner, s.options(p)...)
			if errors.Is(err, blob.ErrNotFound) {
				return nil
			}
			if errors.Is(err, blob.ErrUnavailable) {
				continue
			}
			if err != nil {
				s.violation("open: %v", err)
				return nil
			}
			_, err = claim(l, p.context())
			u := new(UnknownError)
			switch {
			case err == nil:
				return l
			case errors.As(err, &u):
				if s.resolve(p, l, u) {
					return l
				}
			case errors.Is(err, ErrFenced):
				return nil
			case !errors.Is(err, context.Canceled):
				s.violation("claim: %v", err)
				return nil
			}
		}
	}
}

func (s *simulation) resolve(p *proc, l *Log, u *UnknownError) bool {
	for {
		if ok, err := l.Resolve(p.context(), u); err == nil {
			return ok
		} else if again := new(UnknownError); !errors.As(err, &again) || again.CommitID != u.CommitID {
			s.violation("resolve %s: %v", u.CommitID, err)
			return false
		}
	}
}

// commitRows brings one set of rows in, under a new segment for every try, and
// reports whether the Log is still good.
func (s *simulation) commitRows(p *proc, l *Log) bool {
	s.serial++
	rows := fmt.Sprintf("rows%d", s.serial)
	for try := 0; ; try++ {
		r := &record{rows: rows, segment: fmt.Sprintf("%s-%d", rows, try)}
		s.records = append(s.records, r)
		got, err := l.Commit(p.context(), func(next *Snapshot) error {
			next.Segments = append(next.Segments, simSegment(r.segment))
			return nil
		})
		u := new(UnknownError)
		switch {
		case err == nil:
			r.state, r.commit, r.version = "applied", got.CommitID, got.Version
			s.checkApplied(r)
			return true
		case errors.As(err, &u):
			if s.pick(2) == 0 { // others may finish it meanwhile
				s.commitRows(p, l)
			}
			if s.resolve(p, l, u) {
				r.state, r.commit, r.version = "applied", u.CommitID, u.Version
				s.checkApplied(r)
				return true
			}
			r.state = "failed"
		case errors.Is(err, ErrFenced):
			r.state = "failed"
			if _, known := s.fences[p.name]; !known {
				s.fences[p.name] = s.step
			}
			if s.bug.zombie {
				l.dead = nil
				_, _ = l.Takeover(p.context())
				return true
			}
			if _, err := l.Commit(p.context(), func(*Snapshot) error { return nil }); !errors.Is(err, ErrFenced) {
				s.violation("a fenced log says %v", err)
			}
			return false
		case errors.Is(err, context.Canceled), errors.Is(err, ErrUnresolved):
			r.state = "failed"
		default:
			r.state = "failed"
			s.violation("commit: %v", err)
			return false
		}
		p.yield()
	}
}

func (s *simulation) checkApplied(r *record) {
	if !slices.ContainsFunc(s.applied, func(e event) bool { return e.current.CommitID == r.commit && e.current.Manifest.Version == r.version }) {
		s.violation("%s was reported as applied and is not", r.segment)
	}
}

func simSegment(id string) Segment {
	return Segment{
		ID: id, Rows: 1,
		Data:   Ref{Key: DataKey(simID, id), Size: 1},
		Index:  Ref{Key: IndexKey(simID, id), Size: 1},
		Footer: Extent{Length: 1},
	}
}

// simulate runs to the end and returns everything that was wrong.
func simulate(faults int, b bug, c chooser) (*simulation, error) {
	s := &simulation{world: newWorld(faults, c), bug: b, fences: map[string]int{}}
	s.writer("a", 3, s.create)
	s.writer("b", 2, func(p *proc) *Log {
		for range s.pick(12) {
			p.yield()
		}
		return s.open("b", (*Log).Takeover)(p)
	})
	s.run(func(p *proc) {
		if owner := p.name[:1]; s.crashes < 3 && owner != "s" {
			s.crashes++
			s.writer(owner, 2, s.open(owner, (*Log).Claim))
		}
	})
	s.verify()
	return s, errors.Join(s.errs...)
}

// verify checks what the store holds at the end against what was reported.
func (s *simulation) verify() {
	if len(s.deleted) > 0 {
		s.violation("deleted %q", s.deleted)
	}
	if len(s.applied) == 0 {
		return
	}
	s.verifyOrder()
	last := s.applied[len(s.applied)-1].current
	s.outage, s.faults = 0, 0
	var chain []*Snapshot
	var err error
	s.start("reader", func(p *proc) {
		var snap *Snapshot
		if snap, _, err = Read(context.Background(), p, simID); err != nil {
			return
		}
		var link *Snapshot
		for link, err = range History(context.Background(), p, last) {
			if err != nil {
				return
			}
			chain = append(chain, link)
		}
		if snap.CommitID != chain[0].CommitID {
			err = fmt.Errorf("read %s, want %s", snap.CommitID, chain[0].CommitID)
		}
	})
	for len(s.procs) > 0 {
		s.resume(s.procs[0])
	}
	if err != nil {
		s.violation("chain: %v", err)
		return
	}
	s.verifyRecords(chain)
}

// verifyOrder checks every replacement of CURRENT against the one before.
func (s *simulation) verifyOrder() {
	for i, e := range s.applied {
		c := e.current
		if c.Manifest.Version != uint64(i+1) {
			s.violation("replacement %d of CURRENT has version %d", i+1, c.Manifest.Version)
		}
		if i > 0 {
			was := s.applied[i-1].current
			if c.Epoch < was.Epoch || c.Epoch == was.Epoch && c.Owner != was.Owner {
				s.violation("%s in epoch %d of %q came after epoch %d of %q", c.CommitID, c.Epoch, c.Owner, was.Epoch, was.Owner)
			}
		}
		process, _, _ := strings.Cut(c.CommitID, "-")
		if step, fenced := s.fences[process]; fenced && e.step > step {
			s.violation("%s was applied after its log was fenced in step %d", c.CommitID, step)
		}
	}
}

// verifyRecords checks the chain, newest first, against what was reported.
func (s *simulation) verifyRecords(chain []*Snapshot) {
	if want := len(s.applied); len(chain) != want {
		s.violation("the chain has %d versions, want %d", len(chain), want)
	}
	ever := map[string]bool{}
	commits := map[string]uint64{}
	for _, snap := range chain {
		commits[snap.CommitID] = snap.Version
		for _, seg := range snap.Segments {
			ever[seg.ID] = true
		}
	}
	final := map[string]int{}
	for _, seg := range chain[0].Segments {
		rows, _, _ := strings.Cut(seg.ID, "-")
		final[rows]++
		if final[rows] > 1 {
			s.violation("%s was added %d times", rows, final[rows])
		}
	}
	for _, r := range s.records {
		there := slices.ContainsFunc(chain[0].Segments, func(seg Segment) bool { return seg.ID == r.segment })
		switch {
		case r.state == "applied" && (!there || commits[r.commit] != r.version):
			s.violation("%s was reported as applied with version %d: in the end %v, with version %d", r.segment, r.version, there, commits[r.commit])
		case r.state == "failed" && ever[r.segment]:
			s.violation("%s was reported as failed and is in the chain", r.segment)
		}
	}
}

// dice picks at random.
type dice struct{ *rand.Rand }

func (d dice) pick(n int) int      { return d.IntN(n) }
func (d dice) unlikely(n int) bool { return d.IntN(n) == 0 }

func simulateSeed(seed uint64, b bug) (*simulation, error) {
	rng := rand.New(rand.NewPCG(seed, 0))
	return simulate(3+rng.IntN(20), b, dice{rng})
}

func TestSimulation(t *testing.T) {
	seeds, versions := uint64(4000), 0
	switch {
	case testing.Short():
		seeds = 500
	case soak():
		seeds *= 50
	}
	fenced, unknown, crashes := 0, 0, 0
	for seed := range seeds {
		s, err := simulateSeed(seed, bug{})
		if err != nil {
			t.Fatalf("seed %d:\n%v\n%s", seed, err, strings.Join(s.trace, "\n"))
		}
		versions += len(s.applied)
		fenced += len(s.fences)
		crashes += s.crashes
		for _, r := range s.records {
			if r.state == "failed" {
				unknown++
			}
		}
	}
	t.Logf("%d seeds: %d versions, %d failed tries, %d fenced logs, %d crashes", seeds, versions, unknown, fenced, crashes)
	if fenced == 0 || unknown == 0 || crashes == 0 {
		t.Error("the simulation no longer reaches what it is for")
	}
}

func TestSimulationCatchesBugs(t *testing.T) {
	for _, b := range bugs {
		t.Run(b.name, func(t *testing.T) {
			for seed := range uint64(3000) {
				if _, err := simulateSeed(seed, b); err != nil && strings.Contains(err.Error(), b.caught) {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Error("not caught")
		})
	}
}
