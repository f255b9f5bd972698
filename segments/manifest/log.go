package manifest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/akidb/akidb/segments/blob"
	"github.com/google/uuid"
)

// Log is a writer's handle on the manifest chain of one collection. Open one,
// Claim an epoch, then Commit. Its methods are safe for concurrent use; commits
// of one Log happen one at a time.
//
// A Log that learns that another writer holds the collection is dead: from then
// on every call but Resolve and the getters returns the *FencedError.
//
// A Log never deletes: what an attempt uploaded may turn out to be committed.
type Log struct {
	store blob.Store
	id    string
	owner string
	rules rules

	now   func() time.Time
	newID func() string
	wait  func(ctx context.Context, attempt int) error

	latest atomic.Pointer[head] // what Snapshot returns; nil before creation

	turn     chan struct{}   // a full channel is a locked Log; guards what follows
	head     head            // newest state known, the base of the next commit
	epoch    uint64          // 0 until claimed
	pending  *attempt        // sent, outcome unknown
	outcomes map[string]bool // of the commits that were once reported unknown
	dead     error
}

// Option changes what a Log takes from its surroundings.
type Option func(*Log)

// WithClock sets where commits get their time from. Default time.Now.
func WithClock(now func() time.Time) Option { return func(l *Log) { l.now = now } }

// WithIDs sets where commit ids come from. The whole protocol rests on an id
// never being made twice, by anybody. Default random UUIDs.
func WithIDs(newID func() string) Option { return func(l *Log) { l.newID = newID } }

// WithWait sets how to wait before retry number attempt, counted from 0. It
// returns an error only when ctx has ended. Default: full jitter under a limit
// that doubles from 50 ms to 5 s.
func WithWait(wait func(ctx context.Context, attempt int) error) Option {
	return func(l *Log) { l.wait = wait }
}

func newLog(store blob.Store, id, owner string, opts []Option) (*Log, error) {
	if owner == "" {
		return nil, errors.New("owner: empty")
	}
	if err := CheckID(id); err != nil {
		return nil, err
	}
	l := &Log{
		store: store, id: id, owner: owner, rules: protocol,
		now: time.Now, newID: uuid.NewString, wait: fullJitter,
		turn: make(chan struct{}, 1), outcomes: map[string]bool{},
	}
	for _, o := range opts {
		o(l)
	}
	return l, nil
}

// Create makes version 1 of a collection and returns its Log, which holds
// epoch 1. An id that is taken is ErrExists. With an *UnknownError the Log is
// returned too, so that Resolve can find out; every other error means that
// there is no such collection by this call, now or later.
//
// An id belongs to one collection for ever: CURRENT is kept when a collection
// is dropped, or a creation that was delayed on the way could bring it back.
func Create(ctx context.Context, store blob.Store, c Collection, owner string, opts ...Option) (*Log, error) {
	return Branch(ctx, store, &Snapshot{Collection: c, SetDigest: new(SetDigest)}, owner, opts...)
}

// Branch is Create for a collection that does not begin empty: first is its
// version 1, but for what every commit stamps over it. It may name objects of
// its Origins, in which a pin must keep them.
func Branch(ctx context.Context, store blob.Store, first *Snapshot, owner string, opts ...Option) (*Log, error) {
	c := &first.Collection
	fail := func(err error) error { return fmt.Errorf("create collection %q: %w", c.ID, err) }
	l, err := newLog(store, c.ID, owner, opts)
	if err != nil {
		return nil, fail(err)
	}
	c.CreatedAt = c.CreatedAt.UTC()
	p, err := l.prepare(first, 1)
	if err != nil {
		return nil, fail(err)
	}
	p.creation = true
	ok, err := l.carryOut(ctx, p)
	if unknown := new(UnknownError); errors.As(err, &unknown) {
		return l, fail(err)
	}
	if err == nil && !ok {
		err = ErrExists
	}
	if err != nil {
		return nil, fail(err)
	}
	return l, nil
}

// Open reads a collection for the writer that calls itself owner. It does not
// write: Claim does.
func Open(ctx context.Context, store blob.Store, id, owner string, opts ...Option) (*Log, error) {
	l, err := newLog(store, id, owner, opts)
	if err == nil {
		var h head
		if h, err = read(ctx, store, id); err == nil {
			l.publish(h)
			return l, nil
		}
	}
	return nil, fmt.Errorf("open collection %q: %w", id, err)
}

// Snapshot returns the newest state this Log knows to be committed, nil while
// a creation is unresolved. It is shared: nobody may change it.
func (l *Log) Snapshot() *Snapshot {
	if h := l.latest.Load(); h != nil {
		return h.snapshot
	}
	return nil
}

// Newest returns the newest state this Log knows to be committed: CURRENT and
// the body that it names. The body is shared: nobody may change it.
func (l *Log) Newest() (Current, *Snapshot) {
	if h := l.latest.Load(); h != nil {
		return h.current, h.snapshot
	}
	return Current{}, nil
}

// Current returns the CURRENT that named Snapshot.
func (l *Log) Current() Current {
	if h := l.latest.Load(); h != nil {
		return h.current
	}
	return Current{}
}

// Claim takes the next epoch for the owner that CURRENT already names; if it
// names another, that is a *FencedError. Whatever an earlier process of the
// same owner had under way is settled by it: it is in the snapshot returned,
// or can never be applied.
func (l *Log) Claim(ctx context.Context) (*Snapshot, error) {
	return l.claim(ctx, func(holder Current) bool { return holder.Owner == l.owner })
}

// Takeover takes the next epoch from the owner that Current names when it is
// called, whoever that is; should the collection change hands meanwhile, that is
// a *FencedError. It is the operator's way out when the owner's log is lost, and
// loses what was only in there.
func (l *Log) Takeover(ctx context.Context) (*Snapshot, error) {
	from := l.Current().Owner
	return l.claim(ctx, func(holder Current) bool { return holder.Owner == from || holder.Owner == l.owner })
}

func (l *Log) claim(ctx context.Context, allowed func(Current) bool) (*Snapshot, error) {
	fail := func(err error) error { return fmt.Errorf("claim collection %q: %w", l.id, err) }
	if err := l.lock(ctx); err != nil {
		return nil, fail(err)
	}
	defer l.unlock()
	for {
		if l.dead == nil && !allowed(l.head.current) {
			l.dead = l.fencedBy(l.head.current)
		}
		if l.dead != nil {
			return nil, fail(l.dead)
		}
		p, err := l.prepare(l.head.snapshot.clone(), l.head.current.Epoch+1)
		if err != nil {
			return nil, fail(err)
		}
		p.claim = true
		ok, err := l.carryOut(ctx, p)
		if err != nil {
			return nil, fail(err)
		}
		if ok && l.dead == nil {
			return p.snapshot, nil
		}
	}
}

// Commit makes what edit turns the newest snapshot into the next version, and
// returns that version. edit changes the copy it is given; it may be run again
// on a newer state when another commit came first, so it must derive everything
// from its argument, and should return an error when its change no longer
// applies. Version, epoch, commit id, parent and time are stamped over it.
//
//	nil            applied, exactly once
//	*UnknownError  applied or not, now or later: ask Resolve before repeating it
//	any other      not applied, now or later
//
// A commit whose outcome is unknown is finished before the next one starts, so
// what it brought may be in the snapshot that the next edit is given.
func (l *Log) Commit(ctx context.Context, edit func(next *Snapshot) error) (*Snapshot, error) {
	fail := func(err error) error { return fmt.Errorf("commit to collection %q: %w", l.id, err) }
	if err := l.lock(ctx); err != nil {
		return nil, fail(err)
	}
	defer l.unlock()
	for l.dead == nil {
		if l.epoch == 0 {
			return nil, fail(errors.New("no epoch was claimed"))
		}
		next := l.head.snapshot.clone()
		if err := edit(next); err != nil {
			return nil, fail(err)
		}
		p, err := l.prepare(next, l.epoch)
		if err != nil {
			return nil, fail(err)
		}
		ok, err := l.carryOut(ctx, p)
		if err != nil {
			return nil, fail(err)
		}
		if ok {
			return p.snapshot, nil
		}
	}
	return nil, fail(l.dead)
}

// Resolve finds out whether the commit, claim or creation that this Log
// reported with u was applied, and sees to it that the answer stays true. It
// does so by finishing it, unless another commit came first. An error means
// that it is still unknown.
func (l *Log) Resolve(ctx context.Context, u *UnknownError) (applied bool, err error) {
	select {
	case l.turn <- struct{}{}:
		defer l.unlock()
	case <-ctx.Done():
		return false, fmt.Errorf("resolve commit %q: %w", u.CommitID, ctx.Err())
	}
	if p := l.pending; p != nil && p.current.CommitID == u.CommitID {
		return l.settle(ctx)
	}
	applied, known := l.outcomes[u.CommitID]
	if !known {
		return false, fmt.Errorf("resolve commit %q: this log never reported it", u.CommitID)
	}
	return applied, nil
}

// lock waits for the Log's turn and finishes what an earlier call left open.
func (l *Log) lock(ctx context.Context) error {
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	err := ctx.Err()
	if err == nil && l.dead == nil && l.pending != nil {
		if _, unknown := l.settle(ctx); unknown != nil {
			// Not wrapped: it is not this call whose outcome is unknown.
			err = fmt.Errorf("%w: %v", ErrUnresolved, unknown)
		}
	}
	if err != nil {
		l.unlock()
	}
	return err
}

func (l *Log) unlock() { <-l.turn }

func (l *Log) publish(h head) {
	l.head = h
	l.latest.Store(&h)
}

func (l *Log) fencedBy(holder Current) error {
	return &FencedError{Collection: l.id, Owner: holder.Owner, Epoch: holder.Epoch}
}

// clone returns a copy that shares nothing with s that could be changed.
func (s *Snapshot) clone() *Snapshot {
	c := *s
	c.Quantizers = slices.Clone(s.Quantizers)
	c.Segments = slices.Clone(s.Segments)
	for i, seg := range c.Segments {
		if seg.Deletes != nil {
			d := *seg.Deletes
			c.Segments[i].Deletes = &d
		}
	}
	if s.SetDigest != nil {
		d := *s.SetDigest
		c.SetDigest = &d
	}
	if s.Placement != nil {
		p := *s.Placement
		c.Placement = &p
	}
	c.Origins, c.Pins = slices.Clone(s.Origins), slices.Clone(s.Pins)
	c.Garbage = slices.Clone(s.Garbage)
	return &c
}
