package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/google/uuid"
)

// ErrUnsound: the store does not keep the contract, and data in it would get
// lost. Trying again changes nothing.
var ErrUnsound = errors.New("unsound store")

// The size of a probe. How many of its races go wrong depends on how often two
// contenders are in the store at the same time. With versitygw 1.7.0 and the
// writer together on two busy cores that is a third: of 20 races, one creation
// and one replacement a round, none went wrong in 2 of 213 probes; of 60 no
// fewer than 12 in each of 20.
const (
	probeContenders = 16
	probeRounds     = 10
	probeReplaces   = 5 // in each round, after the creation
)

// ProbeRace finds out whether conditional puts of store are atomic, which some
// stores' are not although they judge them correctly one at a time. In every
// round contenders race to create an object, and then to replace it, again and
// again: exactly one may win, the others must be told so, and what is read back is what the
// winner put. The objects, of a few bytes, lie under prefix and a new uuid, and
// are removed again.
//
// The error wraps ErrUnsound if the store broke a promise, and says which. A
// put whose outcome is unknown may have won or not; when half of the rounds stay
// undecided for such, the error wraps ErrUnavailable.
func ProbeRace(ctx context.Context, store Store, prefix string) error {
	base := prefix + uuid.NewString() + "/"
	var errs [probeRounds]error
	var rounds sync.WaitGroup
	for i := range errs {
		rounds.Go(func() {
			// A folder each: where there are such, making them is part of the race.
			errs[i] = probeRound(ctx, store, fmt.Sprintf("%s%d/object", base, i))
		})
	}
	rounds.Wait()
	var undecided, worst error
	decided := 0
	for _, err := range errs {
		switch {
		case err == nil:
			decided++
		case errors.Is(err, ErrUnavailable):
			undecided = err
		case worst == nil || errors.Is(err, ErrUnsound): // which is proven, whatever others met
			worst = err
		}
	}
	if worst == nil && decided <= probeRounds/2 {
		worst = undecided
	}
	if worst != nil {
		return fmt.Errorf("probe %q: %w", base, worst)
	}
	return nil
}

// probeRound races for one key, first to create it and then to replace it.
func probeRound(ctx context.Context, store Store, key string) error {
	// What could not be removed, or comes late, is a few bytes that nobody reads.
	defer func() { _ = store.Delete(context.WithoutCancel(ctx), key) }()
	version, err := probeOnce(ctx, store, key, 0, "If-None-Match: *", Condition{IfAbsent: true})
	for i := range probeReplaces {
		if err != nil {
			break
		}
		version, err = probeOnce(ctx, store, key, 1+i, "If-Match", Condition{IfMatch: version})
	}
	return err
}

// probeOnce has all contenders put under the same condition, and returns the
// version that is there afterwards.
func probeOnce(ctx context.Context, store Store, key string, race int, name string, cond Condition) (Version, error) {
	// Unique, as versions may follow from the content alone.
	body := func(contender int) string { return fmt.Sprintf("race %d, contender %d", race, contender) }
	var answers [probeContenders]error
	var ready, done sync.WaitGroup
	ready.Add(probeContenders)
	for i := range answers {
		done.Go(func() {
			ready.Done()
			ready.Wait()
			b := body(i)
			_, answers[i] = store.Put(ctx, key, strings.NewReader(b), int64(len(b)), cond)
		})
	}
	done.Wait()

	var winners int
	var unknown, broken []error
	winner := -1
	for i, err := range answers {
		switch {
		case err == nil:
			winner = i
			winners++
		case errors.Is(err, ErrPrecondition):
		case errors.Is(err, ErrUnavailable), ctx.Err() != nil:
			unknown = append(unknown, err)
		default:
			broken = append(broken, err)
		}
	}
	switch {
	case winners > 1:
		return "", unsound("%d of %d racing conditional puts (%s) succeeded; this store's conditional writes are not atomic and would lose data",
			winners, probeContenders, name)
	case len(broken) > 0:
		return "", broken[0]
	case len(unknown) > probeContenders/2:
		return "", unknown[0]
	}

	got, version, err := store.Get(ctx, key)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return "", err
	}
	there := -1 // whose bytes
	for i := range answers {
		if err == nil && bytes.Equal(got, []byte(body(i))) {
			there = i
		}
	}
	switch {
	case winner >= 0 && there != winner:
		return "", unsound("one of %d racing conditional puts (%s) succeeded, and what is read back is not what it put but %.60q; this store loses acknowledged writes",
			probeContenders, name, got)
	case there >= 0:
		// With no winner it is one whose answer was lost, or which lost to a copy
		// of itself that the network made.
		return version, nil
	case len(unknown) > 0:
		return "", unknown[0]
	}
	return "", unsound("none of %d racing conditional puts (%s) succeeded, though the condition held; this store cannot be written to safely",
		probeContenders, name)
}

func unsound(format string, args ...any) error {
	return fmt.Errorf("%w: %s. Use another store, or a version of this one whose conditional writes are atomic (versitygw: 1.8.0 or later)",
		ErrUnsound, fmt.Sprintf(format, args...))
}
