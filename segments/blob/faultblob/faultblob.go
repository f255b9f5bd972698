// Package faultblob wraps a store and makes it fail on purpose, the same way
// every time. What happens is a list of rules, each a predicate over calls and
// an effect:
//
//	s := faultblob.New(store)
//	lost := s.Inject(faultblob.All(faultblob.On(faultblob.Put), faultblob.Key("CURRENT"), faultblob.Nth(2)),
//		faultblob.LoseReply())
//	…
//	if lost.Fired() != 1 { … }
//
// The first rule, in the order of Inject, whose predicate holds decides a call.
// Without rules it is the store it wraps, and passes the same conformance suite.
package faultblob

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/akidb/akidb/segments/blob"
)

// Op is an operation of blob.Store.
type Op uint8

const (
	Get Op = iota
	ReadRange
	Put
	Stat
	List
	Delete
	opCount
)

func (o Op) String() string {
	return [...]string{"get", "read", "put", "stat", "list", "delete"}[o]
}

// Call is one call to the store, as predicates see it.
type Call struct {
	Op   Op
	Key  string         // for List, the prefix
	Cond blob.Condition // of a put
	// Index says how many calls there were before with the same Op and Key. It
	// does not depend on what other keys' callers do meanwhile.
	Index int
}

// Count is what has happened to one operation.
type Count struct {
	Calls  int64
	Errors int64 // injected or not
	Bytes  int64 // read or written by calls that returned no error
}

// Store implements blob.Store. Make one with New.
type Store struct {
	inner  blob.Store
	down   atomic.Bool
	counts [opCount]struct{ calls, errors, bytes atomic.Int64 }

	mu      sync.Mutex
	rules   []*Rule
	indexes map[Call]int // by Op and Key
	late    []*latePut
}

// latePut is a put that was held up.
type latePut struct {
	calls int // until it arrives
	key   string
	body  []byte
	cond  blob.Condition
}

var _ blob.Store = (*Store)(nil)

// New returns a store that does what inner does until told otherwise.
func New(inner blob.Store) *Store {
	return &Store{inner: inner, indexes: map[Call]int{}}
}

// Rule is an injected fault.
type Rule struct {
	when   Predicate
	effect Effect
	fired  atomic.Int64
}

// Fired is how many calls the rule has decided.
func (r *Rule) Fired() int { return int(r.fired.Load()) }

// Inject adds a rule after the ones there are.
func (s *Store) Inject(when Predicate, effect Effect) *Rule {
	r := &Rule{when: when, effect: effect}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = append(s.rules, r)
	return r
}

// Remove takes a rule out again.
func (s *Store) Remove(r *Rule) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = slices.DeleteFunc(s.rules, func(other *Rule) bool { return other == r })
}

// Down makes every call fail with blob.ErrUnavailable, before any rule is asked
// and without reaching the store, until Up.
func (s *Store) Down() { s.down.Store(true) }

// Up ends Down.
func (s *Store) Up() { s.down.Store(false) }

// Count returns what has happened to op.
func (s *Store) Count(op Op) Count {
	c := &s.counts[op]
	return Count{Calls: c.calls.Load(), Errors: c.errors.Load(), Bytes: c.bytes.Load()}
}

// Get implements blob.Store.
func (s *Store) Get(ctx context.Context, key string) (b []byte, version blob.Version, err error) {
	err = s.do(ctx, Call{Op: Get, Key: key}, func(e Effect) (int64, error) {
		b, version, err = s.inner.Get(ctx, key)
		if err == nil && e.damage != nil {
			b, err = e.damage(b)
		}
		return int64(len(b)), err
	})
	if err != nil {
		return nil, "", err
	}
	return b, version, nil
}

// ReadRange implements blob.Store.
func (s *Store) ReadRange(ctx context.Context, key string, off int64, dst []byte) error {
	return s.do(ctx, Call{Op: ReadRange, Key: key}, func(e Effect) (int64, error) {
		err := s.inner.ReadRange(ctx, key, off, dst)
		if err == nil && e.damage != nil {
			var damaged []byte
			damaged, err = e.damage(dst)
			if err == nil && len(damaged) < len(dst) {
				clear(dst[len(damaged):])
				err = fmt.Errorf("got %d bytes, want %d: %w", len(damaged), len(dst), io.ErrUnexpectedEOF)
			}
		}
		return int64(len(dst)), err
	})
}

// Put implements blob.Store.
func (s *Store) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, cond blob.Condition) (version blob.Version, err error) {
	err = s.do(ctx, Call{Op: Put, Key: key, Cond: cond}, func(e Effect) (int64, error) {
		if e.later > 0 {
			b := make([]byte, size)
			if _, err := io.ReadFull(body, b); err != nil {
				return 0, err
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			s.late = append(s.late, &latePut{e.later, key, b, cond})
			return 0, fmt.Errorf("put %q: injected: held up: %w", key, blob.ErrUnavailable)
		}
		var start int64
		if e.duplicate {
			if start, err = body.Seek(0, io.SeekCurrent); err != nil {
				return 0, err
			}
		}
		version, err = s.inner.Put(ctx, key, body, size, cond)
		if e.duplicate {
			if _, err = body.Seek(start, io.SeekStart); err != nil {
				return 0, err
			}
			version, err = s.inner.Put(ctx, key, body, size, cond)
		}
		return size, err
	})
	if err != nil {
		return "", err
	}
	return version, nil
}

// Stat implements blob.Store.
func (s *Store) Stat(ctx context.Context, key string) (o blob.Object, err error) {
	err = s.do(ctx, Call{Op: Stat, Key: key}, func(Effect) (int64, error) {
		o, err = s.inner.Stat(ctx, key)
		return 0, err
	})
	if err != nil {
		return blob.Object{}, err
	}
	return o, nil
}

// List implements blob.Store.
func (s *Store) List(ctx context.Context, l blob.Listing) (page blob.Page, err error) {
	err = s.do(ctx, Call{Op: List, Key: l.Prefix}, func(Effect) (int64, error) {
		page, err = s.inner.List(ctx, l)
		return 0, err
	})
	if err != nil {
		return blob.Page{}, err
	}
	return page, nil
}

// Delete implements blob.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	return s.do(ctx, Call{Op: Delete, Key: key}, func(Effect) (int64, error) {
		return 0, s.inner.Delete(ctx, key)
	})
}

// do counts call and makes it, under the effect of the rule that decides it.
func (s *Store) do(ctx context.Context, call Call, apply func(Effect) (bytes int64, err error)) error {
	s.deliver(ctx)
	e := s.decide(call)
	size, err := e.run(ctx, call, apply)
	c := &s.counts[call.Op]
	c.calls.Add(1)
	if err != nil {
		c.errors.Add(1)
		return err
	}
	c.bytes.Add(size)
	return nil
}

// deliver carries out the puts that were held up until now. What comes of them
// nobody learns.
func (s *Store) deliver(ctx context.Context) {
	s.mu.Lock()
	var due []*latePut
	s.late = slices.DeleteFunc(s.late, func(p *latePut) bool {
		p.calls--
		if p.calls == 0 {
			due = append(due, p)
		}
		return p.calls == 0
	})
	s.mu.Unlock()
	for _, p := range due {
		_, _ = s.inner.Put(context.WithoutCancel(ctx), p.key, bytes.NewReader(p.body), int64(len(p.body)), p.cond)
	}
}

// decide finds the effect on call. Predicates are asked one call at a time.
func (s *Store) decide(call Call) Effect {
	if s.down.Load() {
		return Fail(blob.ErrUnavailable)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	subject := Call{Op: call.Op, Key: call.Key}
	call.Index = s.indexes[subject]
	s.indexes[subject]++
	for _, r := range s.rules {
		if r.when(call) {
			r.fired.Add(1)
			return r.effect
		}
	}
	return Effect{}
}
