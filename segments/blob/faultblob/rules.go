package faultblob

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/akidb/akidb/segments/blob"
)

// Predicate tells whether a rule decides a call. A store asks its predicates
// one call at a time, so that they may count.
type Predicate func(Call) bool

// Always holds for every call.
func Always() Predicate { return func(Call) bool { return true } }

// On holds for calls of the given operations.
func On(ops ...Op) Predicate {
	return func(c Call) bool { return slices.Contains(ops, c.Op) }
}

// Key holds for keys that match a pattern of path.Match. A pattern without a
// slash is matched with the last part of the key, one with slashes with as many
// parts, and "**" at its beginning stands for any folders, none included.
func Key(pattern string) Predicate {
	pattern, anywhere := strings.CutPrefix(pattern, "**/")
	if _, err := path.Match(pattern, ""); err != nil {
		panic(fmt.Sprintf("BUG: pattern %q: %v", pattern, err))
	}
	anywhere = anywhere || !strings.Contains(pattern, "/")
	return func(c Call) bool {
		key := c.Key
		if anywhere {
			parts := strings.Split(key, "/")
			count := strings.Count(pattern, "/") + 1
			key = strings.Join(parts[max(0, len(parts)-count):], "/")
		}
		matched, _ := path.Match(pattern, key)
		return matched
	}
}

// Conditional holds for puts that carry a condition.
func Conditional() Predicate {
	return func(c Call) bool { return c.Op == Put && c.Cond != blob.Condition{} }
}

// All holds where every one of ps does. They are asked in order, up to the
// first that does not hold, so what counts comes last.
func All(ps ...Predicate) Predicate {
	return func(c Call) bool {
		return !slices.ContainsFunc(ps, func(p Predicate) bool { return !p(c) })
	}
}

// Any holds where one of ps does.
func Any(ps ...Predicate) Predicate {
	return func(c Call) bool {
		return slices.ContainsFunc(ps, func(p Predicate) bool { return p(c) })
	}
}

// Not holds where p does not.
func Not(p Predicate) Predicate { return func(c Call) bool { return !p(c) } }

// Nth holds the n-th time it is asked, counting from 0.
func Nth(n int) Predicate {
	asked := 0
	return func(Call) bool { asked++; return asked == n+1 }
}

// First holds the first n times it is asked.
func First(n int) Predicate {
	asked := 0
	return func(Call) bool { asked++; return asked <= n }
}

// After holds from the n-th time on, counting from 0.
func After(n int) Predicate {
	asked := 0
	return func(Call) bool { asked++; return asked > n }
}

// Sometimes holds for a share p of calls, chosen by seed, operation, key and
// index: the same ones in every run, however the callers interleave.
func Sometimes(seed uint64, p float64) Predicate {
	return func(c Call) bool {
		x := seed
		for _, b := range fmt.Appendf(nil, "%d %s %d", c.Op, c.Key, c.Index) {
			x = mix(x ^ uint64(b))
		}
		return float64(x>>11)/(1<<53) < p
	}
}

// mix is the finalizer of SplitMix64 (Steele, Lea, Flood: Fast Splittable
// Pseudorandom Number Generators, 2014).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Effect is what happens to a call. The zero value is nothing.
type Effect struct {
	before    error                        // instead of the call
	after     error                        // instead of its result
	gate      *Gate                        // opens before the call
	replyGate *Gate                        // opens after the call
	duplicate bool                         // the call is made twice
	later     int                          // calls until a put is carried out
	damage    func([]byte) ([]byte, error) // to what was read
}

// Fail returns an error wrapping err without reaching the store.
func Fail(err error) Effect { return Effect{before: err} }

// LoseReply makes the call and then returns blob.ErrUnavailable, whatever came
// of it.
func LoseReply() Effect { return Effect{after: blob.ErrUnavailable} }

// Hold keeps the call from reaching the store until g opens.
func Hold(g *Gate) Effect { return Effect{gate: g} }

// HoldReply makes the call and keeps its result back until g opens.
func HoldReply(g *Gate) Effect { return Effect{replyGate: g} }

// Duplicate makes a put twice and returns what came of the second: with a
// condition, one's own success looks like a lost race.
func Duplicate() Effect { return Effect{duplicate: true} }

// Later tells the caller of a put that the store is unavailable, and carries the
// put out when so many further calls have come: what a network does to a
// request that it holds up for longer than anybody waits.
func Later(calls int) Effect { return Effect{later: max(1, calls)} }

// FlipBit inverts one bit of what a read returns, counting from the lowest bit
// of the first byte and, past the end, around.
func FlipBit(bit int) Effect {
	return Effect{damage: func(b []byte) ([]byte, error) {
		if len(b) > 0 {
			i := bit / 8 % len(b)
			b[i] ^= 1 << (bit % 8)
		}
		return b, nil
	}}
}

// Truncate ends what a read returns after n bytes: a Get returns less, and a
// ReadRange io.ErrUnexpectedEOF.
func Truncate(n int) Effect {
	return Effect{damage: func(b []byte) ([]byte, error) { return b[:min(n, len(b))], nil }}
}

// CutOff ends what a read returns, as a broken connection does, with
// blob.ErrUnavailable.
func CutOff() Effect {
	return Effect{damage: func([]byte) ([]byte, error) {
		return nil, fmt.Errorf("injected: body cut off: %w", blob.ErrUnavailable)
	}}
}

// run makes call under e.
func (e Effect) run(ctx context.Context, call Call, apply func(Effect) (int64, error)) (int64, error) {
	if err := e.gate.wait(ctx, call); err != nil {
		return 0, err
	}
	if e.before != nil {
		return 0, fmt.Errorf("%v %q: injected: %w", call.Op, call.Key, e.before)
	}
	bytes, err := apply(e)
	if waitErr := e.replyGate.wait(ctx, call); waitErr != nil {
		return 0, waitErr
	}
	if e.after != nil {
		return 0, fmt.Errorf("%v %q: injected: reply lost: %w", call.Op, call.Key, e.after)
	}
	return bytes, err
}

// Gate holds calls until it is opened.
type Gate struct {
	arrived chan Call
	opened  chan struct{}
	once    sync.Once
}

// NewGate returns a closed gate.
func NewGate() *Gate {
	return &Gate{arrived: make(chan Call), opened: make(chan struct{})}
}

// Arrived hands out each call that has come to the gate, once. Calls wait for
// the gate whether or not anybody receives them here.
func (g *Gate) Arrived() <-chan Call { return g.arrived }

// Open lets all calls through, those that come later too.
func (g *Gate) Open() { g.once.Do(func() { close(g.opened) }) }

func (g *Gate) wait(ctx context.Context, call Call) error {
	if g == nil {
		return nil
	}
	arrived := g.arrived
	for {
		select {
		case arrived <- call:
			arrived = nil
		case <-g.opened:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("%v %q: %w", call.Op, call.Key, ctx.Err())
		}
	}
}
