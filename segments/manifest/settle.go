package manifest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/akidb/akidb/segments/blob"
)

// # Why an attempt ends in one state
//
// An attempt is one fixed content for CURRENT, made unique by its commit id,
// and put only on the condition that CURRENT is still at the version the
// attempt was based on. A put whose answer was lost, or that timed out, may
// have been applied, or may be applied at any later time. From this follows:
//
//  1. No two contents of CURRENT are ever equal, so once CURRENT has left a
//     version it never has that version again, and no put that was based on it
//     can be applied any more, however late it arrives.
//  2. Whatever was applied is an ancestor of everything that came after it. So
//     if CURRENT has moved, then either it is the attempt's, or the body at the
//     attempt's version in the chain behind it is: applied. Or neither:
//     refused, for ever, by 1.
//  3. If CURRENT has not moved, reading proves nothing, since the put may still
//     be on its way. The only thing allowed is to send the same bytes again.
//     All copies have the same condition, so at most one of them is applied,
//     and whichever it is, it is the same commit.
//
// Therefore a Log keeps its attempt until 2 decides, and starts no other
// before. It does not matter that a process forgets its attempt when it dies:
// the next one claims an epoch on the same version or a later one, and either
// finds the attempt in the chain or has moved CURRENT away from under it.
//
// A creation is the same with "there is no CURRENT" for a version. That one
// does come back if CURRENT is deleted, which is why nobody ever does so.

// attempt is one try to replace CURRENT.
type attempt struct {
	snapshot *Snapshot // as a reader will see it
	body     []byte    // of the snapshot; nil once uploaded
	current  Current
	content  []byte       // of CURRENT
	base     blob.Version // of CURRENT when the attempt was made; "" for none
	claim    bool         // losing to another claim does not fence
	creation bool         // losing to anything does not fence
	reported bool         // as unknown
}

// sighting is what the store was seen to say of an attempt.
type sighting struct {
	head head // zero when there is no CURRENT
	ours bool // CURRENT is the attempt's, or was built on it
}

// outcome is what a sighting proves.
type outcome int

const (
	open outcome = iota // nothing: it may have been applied, or may yet be
	applied
	refused // it can never be applied
)

// rules are the two decisions that everything rests on. They are values so
// that the tests can plant wrong ones and see them caught: a right judge looks
// at what was seen only, never at the answer to the put.
type rules struct {
	judge func(p *attempt, answer error, seen sighting) outcome
	mine  func(holder Current, owner string, epoch uint64) bool
}

var protocol = rules{
	judge: func(p *attempt, _ error, seen sighting) outcome {
		switch {
		case seen.ours:
			return applied
		case seen.head.version == p.base:
			return open
		default:
			return refused
		}
	},
	mine: func(holder Current, owner string, epoch uint64) bool {
		return holder.Owner == owner && holder.Epoch == epoch
	},
}

// prepare makes an attempt to put next behind the Log's head.
func (l *Log) prepare(next *Snapshot, epoch uint64) (*attempt, error) {
	base := l.head
	next.Format = FormatVersion
	next.Version = 1
	next.Epoch = epoch
	next.CommitID = l.newID()
	next.Parent, next.Ancestors = nil, nil
	next.CreatedAt = l.now().UTC()
	if base.snapshot != nil {
		link := base.current.Manifest
		next.Parent = &link
		next.Version = link.Version + 1
		next.Ancestors = ancestors(base.snapshot, link)
		if next.CreatedAt.Before(base.snapshot.CreatedAt) { // a clock that was set back
			next.CreatedAt = base.snapshot.CreatedAt
		}
		if err := next.follows(base.snapshot); err != nil {
			return nil, err
		}
	}
	if err := next.check(); err != nil {
		return nil, err
	}
	body, sha, err := encodeBody(next)
	if err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	// What readers will decode is what the caller gets, and shares nothing with
	// what the edit may have kept.
	snapshot, err := decodeBody(body)
	if err != nil {
		panic(fmt.Sprintf("BUG: manifest that cannot be read back: %v", err))
	}
	p := &attempt{snapshot: snapshot, body: body, base: base.version}
	p.current = Current{
		Format: FormatVersion, Epoch: epoch, Owner: l.owner, CommitID: next.CommitID,
		Manifest: Link{Version: next.Version, Key: BodyKey(l.id, next.Version, next.CommitID), SHA256: sha},
	}
	if p.content, err = encodeCurrent(p.current); err != nil {
		return nil, fmt.Errorf("encode CURRENT: %w", err)
	}
	return p, nil
}

// carryOut uploads the body of p and brings p to its end. An error that is not
// an *UnknownError means that p never got as far as CURRENT.
func (l *Log) carryOut(ctx context.Context, p *attempt) (ok bool, err error) {
	link := p.current.Manifest
	err = l.retry(ctx, func() error {
		_, err := l.store.Put(ctx, link.Key, bytes.NewReader(p.body), int64(len(p.body)), blob.Condition{IfAbsent: true})
		if errors.Is(err, blob.ErrPrecondition) {
			// A copy of this very request was faster: nobody else has the key.
			_, err = ReadBody(ctx, l.store, link)
		}
		return err
	})
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return false, fmt.Errorf("upload manifest: %w", err)
	}
	p.body = nil
	l.pending = p
	return l.settle(ctx)
}

// settle sends the pending attempt, again if it must, until it is known to be
// applied or refused. Every error is an *UnknownError, and leaves it pending.
func (l *Log) settle(ctx context.Context) (ok bool, err error) {
	p := l.pending
	cond := blob.Condition{IfAbsent: p.base == "", IfMatch: p.base}
	for n := 0; ; n++ {
		version, answer := l.store.Put(ctx, CurrentKey(l.id), bytes.NewReader(p.content), int64(len(p.content)), cond)
		if answer == nil {
			l.conclude(p, true, head{p.current, version, p.snapshot})
			return true, nil
		}
		seen, err := l.look(ctx, p)
		if err == nil {
			if o := l.rules.judge(p, answer, seen); o != open {
				l.conclude(p, o == applied, seen.head)
				return o == applied, nil
			}
			if sendAgain(answer) {
				err = l.wait(ctx, n)
			} else {
				err = errors.New("CURRENT has not moved")
			}
		}
		if err != nil {
			p.reported = true
			return false, &UnknownError{
				Collection: l.id, Version: p.snapshot.Version, CommitID: p.current.CommitID,
				Err: fmt.Errorf("%w; then %w", answer, err),
			}
		}
	}
}

// sendAgain tells answers that another try may change from those, like a denied
// access, that it will not.
func sendAgain(answer error) bool {
	return errors.Is(answer, blob.ErrUnavailable) || errors.Is(answer, blob.ErrPrecondition) || errors.Is(answer, blob.ErrNotFound)
}

// conclude ends p, with h as what CURRENT was seen to be after it.
func (l *Log) conclude(p *attempt, ok bool, h head) {
	l.pending = nil
	if p.reported {
		l.outcomes[p.current.CommitID] = ok
	}
	if ok {
		l.epoch = p.current.Epoch
	}
	switch {
	case !ok && p.creation:
		l.dead = ErrExists
	case !ok && p.claim: // rebase, if the new holder allows it
		l.publish(h)
	case l.rules.mine(h.current, l.owner, l.epoch):
		l.publish(h)
	default:
		l.dead = l.fencedBy(h.current)
		if ok {
			l.publish(head{current: p.current, snapshot: p.snapshot})
		}
	}
}

// look finds out where CURRENT stands and whether p is in the chain behind it.
func (l *Log) look(ctx context.Context, p *attempt) (sighting, error) {
	var c Current
	var version blob.Version
	err := l.retry(ctx, func() (err error) {
		c, version, err = peek(ctx, l.store, l.id)
		return err
	})
	switch {
	case p.base == "" && errors.Is(err, blob.ErrNotFound):
		return sighting{}, nil
	case err != nil:
		return sighting{}, err
	case version == p.base:
		return sighting{head: l.head}, nil // a pending attempt is based on it
	case c.CommitID == p.current.CommitID:
		return sighting{head{c, version, p.snapshot}, true}, nil
	}
	var h head
	if err := l.retry(ctx, func() (err error) { h, err = read(ctx, l.store, l.id); return err }); err != nil {
		return sighting{}, err
	}
	ours, err := l.behind(ctx, h, p)
	if err != nil && !p.claim && !p.creation && !l.rules.mine(h.current, l.owner, l.epoch) {
		l.dead = l.fencedBy(h.current) // whatever became of p
	}
	return sighting{h, ours}, err
}

// behind reports whether p is h or one of its ancestors.
func (l *Log) behind(ctx context.Context, h head, p *attempt) (bool, error) {
	s := h.snapshot
	if s.Version < p.snapshot.Version {
		return false, fmt.Errorf("CURRENT went back to version %d from %d: %w", s.Version, p.snapshot.Version-1, blob.ErrCorrupt)
	}
	for s.Version > p.snapshot.Version {
		parent := *s.Parent
		err := l.retry(ctx, func() (err error) { s, err = ReadBody(ctx, l.store, parent); return err })
		if err != nil {
			return false, err
		}
	}
	return s.CommitID == p.snapshot.CommitID, nil
}

// retry repeats op while the store is unavailable and ctx lasts.
func (l *Log) retry(ctx context.Context, op func() error) error {
	for n := 0; ; n++ {
		err := op()
		if !errors.Is(err, blob.ErrUnavailable) {
			return err
		}
		if ended := l.wait(ctx, n); ended != nil {
			return fmt.Errorf("%w: %w", ended, err)
		}
	}
}

// fullJitter waits a random part of a limit that doubles with every attempt.
func fullJitter(ctx context.Context, attempt int) error {
	const first, most = 50 * time.Millisecond, 5 * time.Second
	t := time.NewTimer(rand.N(min(most, first<<min(attempt, 10))))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
