package blobtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/akidb/akidb/segments/blob"
)

const (
	contenders = 16
	rounds     = 20
)

// together runs f for every contender at once and waits for all.
func together(f func(contender int)) {
	var ready, done sync.WaitGroup
	ready.Add(contenders)
	for i := range contenders {
		done.Go(func() {
			ready.Done()
			ready.Wait()
			f(i)
		})
	}
	done.Wait()
}

// race lets all contenders put with the same condition and checks that exactly
// one wins, that the others are told so, and that the winner's body is there.
func race(t *testing.T, f fixture, key string, round int, cond blob.Condition) blob.Version {
	t.Helper()
	var versions [contenders]blob.Version
	var errs [contenders]error
	body := func(i int) string { return fmt.Sprintf("round %d contender %d", round, i) }
	together(func(i int) {
		versions[i], errs[i] = f.put(t.Context(), key, body(i), cond)
	})
	winner := -1
	for i, err := range errs {
		switch {
		case err == nil && winner < 0:
			winner = i
		case err == nil:
			t.Errorf("round %d: contenders %d and %d both won", round, winner, i)
		case !errors.Is(err, blob.ErrPrecondition):
			t.Errorf("round %d: contender %d: got %v, want %v", round, i, err, blob.ErrPrecondition)
		}
	}
	if winner < 0 {
		t.Fatalf("round %d: nobody won", round)
	}
	f.wantBody(t, key, body(winner), versions[winner])
	return versions[winner]
}

// testProbe is what a writer does before it trusts a store. The cases before it
// ask for more: versions, and keys that come and go.
func testProbe(t *testing.T, f fixture) {
	if err := blob.ProbeRace(t.Context(), f, "probe/"); err != nil {
		t.Error(err)
	}
	page, err := f.List(t.Context(), blob.Listing{Prefix: "probe/"})
	if err != nil || len(page.Objects) > 0 {
		t.Errorf("the probe left %v, %v", page.Objects, err)
	}
}

func testRaceIfAbsent(t *testing.T, f fixture) {
	for round := range rounds {
		// Folders of its own: making those is part of the race.
		key := fmt.Sprintf("round-%d/folder/key", round)
		race(t, f, key, round, blob.Condition{IfAbsent: true})
	}
	for round := range rounds { // on one key, which goes each time with its folders
		race(t, f, "again/folder/key", round, blob.Condition{IfAbsent: true})
		if err := f.Delete(t.Context(), "again/folder/key"); err != nil {
			t.Fatal(err)
		}
	}
}

func testRaceIfMatch(t *testing.T, f fixture) {
	version := f.mustPut(t, "race/key", "start")
	for round := range rounds {
		version = race(t, f, "race/key", round, blob.Condition{IfMatch: version})
	}
}

// testRaceCounter increments a number by compare-and-swap. Each increment reads
// first, so a contender makes no assumption about the others.
func testRaceCounter(t *testing.T, f fixture) {
	const each = 8
	f.mustPut(t, "counter", "0 start")
	var errs [contenders]error
	together(func(i int) { errs[i] = increment(t.Context(), f, i, each) })
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	n, err := readCounter(t.Context(), f)
	if err != nil || n.value != contenders*each {
		t.Errorf("counter is %d after %d increments, %v", n.value, contenders*each, err)
	}
}

type counter struct {
	value   int
	version blob.Version
}

func readCounter(ctx context.Context, f fixture) (counter, error) {
	b, version, err := f.Get(ctx, "counter")
	if err != nil {
		return counter{}, err
	}
	number, _, _ := strings.Cut(string(b), " ")
	value, err := strconv.Atoi(number)
	return counter{value, version}, err
}

func increment(ctx context.Context, f fixture, contender, times int) error {
	for done := 0; done < times; {
		n, err := readCounter(ctx, f)
		if err != nil {
			return err
		}
		// Unique, as versions may follow from the content alone.
		body := fmt.Sprintf("%d by %d", n.value+1, contender)
		_, err = f.put(ctx, "counter", body, blob.Condition{IfMatch: n.version})
		if err == nil {
			done++
		} else if !errors.Is(err, blob.ErrPrecondition) {
			return err
		}
	}
	return nil
}

// testRaceWholeBodies overwrites one key with bodies of different lengths while
// others read it: what is read is always one of the bodies, whole, and its
// version is not a later one's, or compare-and-swap would lose what came between.
func testRaceWholeBodies(t *testing.T, f fixture) {
	const writes = 40
	body := func(i int) string {
		return strings.Repeat(fmt.Sprintf("%04d;", i), 1+i*7919%20_000)
	}
	var indexOf sync.Map // version to index
	put := func(i int) {
		version, err := f.put(t.Context(), "whole/key", body(i), blob.Condition{})
		if err != nil {
			t.Error(err)
		}
		indexOf.Store(version, i)
	}
	put(0)
	type reading struct {
		index   int
		version blob.Version
	}
	var readings [contenders][]reading
	written := make(chan struct{})
	together(func(contender int) {
		if contender == 0 {
			for i := range writes {
				put(1 + i)
			}
			close(written)
			return
		}
		for last := false; !last; { // once more after the last write
			select {
			case <-written:
				last = true
			default:
			}
			b, version, err := f.Get(t.Context(), "whole/key")
			if err != nil {
				t.Error(err)
				return
			}
			var index int
			if _, err := fmt.Sscanf(string(b[:min(5, len(b))]), "%04d;", &index); err != nil || string(b) != body(index) {
				t.Errorf("Get while it is overwritten: %d bytes that no put wrote, %v", len(b), err)
				return
			}
			readings[contender] = append(readings[contender], reading{index, version})
		}
	})
	for _, r := range slices.Concat(readings[:]...) {
		if index, known := indexOf.Load(r.version); !known || index.(int) > r.index {
			t.Errorf("Get returned body %d with version %q, which is that of body %v", r.index, r.version, index)
		}
	}
}
