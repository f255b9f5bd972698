package cache

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Times are those of synctest's clock, so they are exact.
const (
	usual  = 20 * time.Millisecond
	stuck  = 10 * time.Second
	floor  = 10 * time.Millisecond
	warmup = leastSamples + renewEvery
	wait   = usual + usual/8 // for the first request
)

// script makes every read of the store take as long as the next entry says,
// and the usual time after the last. An entry below zero is a read that fails
// after so long. It returns how many reads were cancelled.
func script(store *spy, takes *[]time.Duration) (cancelled *int) {
	cancelled = new(int)
	store.during = func(ctx context.Context, _ string, _ int64, _ []byte) error {
		store.mu.Lock()
		d := usual
		if len(*takes) > 0 {
			d, *takes = (*takes)[0], (*takes)[1:]
		}
		store.mu.Unlock()
		select {
		case <-ctx.Done():
			store.mu.Lock()
			*cancelled++
			store.mu.Unlock()
			return ctx.Err()
		case <-time.After(max(d, -d)):
		}
		if d < 0 {
			return errBroken
		}
		return nil
	}
	return cancelled
}

var errBroken = errors.New("broken")

func TestHedging(t *testing.T) {
	for _, test := range []struct {
		name  string
		takes []time.Duration // of the read, and of its second request
		took  time.Duration
		reads int
		won   int64
		fails bool
	}{
		{"a usual read", []time.Duration{usual}, usual, 1, 0, false},
		{"a fast read", []time.Duration{1}, 1, 1, 0, false},
		{"the second wins", []time.Duration{stuck, usual}, wait + usual, 2, 1, false},
		{"the first wins after all", []time.Duration{wait + 5, stuck}, wait + 5, 2, 0, false},
		{"both are slow", []time.Duration{stuck, stuck}, stuck, 2, 0, false},
		{"the first fails at once", []time.Duration{-1}, 1, 1, 0, true},
		{"the first fails late", []time.Duration{-wait - 5, usual}, wait + usual, 2, 1, false},
		{"the second fails", []time.Duration{3 * usual, -1}, 3 * usual, 2, 0, false},
		{"both fail", []time.Duration{-3 * usual, -1}, 3 * usual, 2, 0, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, store, content := setup(t, Config{HedgeFloor: floor})
				defer c.Close()
				var takes []time.Duration
				cancelled := script(store, &takes)
				read := func(u *Usage) error {
					got, err := c.ReadRange(WithUsage(t.Context(), u), rangeOf("a", content, 100, 1000))
					if err == nil && !bytes.Equal(got, content[100:1100]) {
						t.Errorf("other bytes")
					}
					return err
				}
				for range warmup {
					if err := read(new(Usage)); err != nil {
						t.Fatal(err)
					}
				}
				before, began := store.count(), time.Now()
				takes = test.takes
				var u Usage
				err := read(&u)
				if (err != nil) != test.fails || err != nil && !errors.Is(err, errBroken) {
					t.Errorf("got %v", err)
				}
				if took := time.Since(began); took != test.took {
					t.Errorf("it took %v, want %v", took, test.took)
				}
				reads := store.count() - before
				if reads != test.reads || u.StoreGets.Load() != int64(test.reads) || u.Hedged.Load() != int64(test.reads-1) ||
					u.HedgesWon.Load() != test.won || u.Rounds.Load() != 1 {
					t.Errorf("got %d reads, usage %+v", reads, &u)
				}
				synctest.Wait()
				if s := c.Stats(); s.Inflight != 0 || *cancelled > 1 {
					t.Errorf("%d reads go on, %d were cancelled", s.Inflight, *cancelled)
				}
			})
		})
	}
}

// A store that is slow altogether gets one read in twenty more, and no more.
func TestHedgingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, store, content := setup(t, Config{HedgeFloor: floor})
		defer c.Close()
		var slow atomic.Bool
		var n atomic.Int64
		store.during = func(ctx context.Context, _ string, _ int64, _ []byte) error {
			d := usual
			if slow.Load() {
				d = usual + time.Duration(n.Add(1))*time.Millisecond // slower each time
			}
			time.Sleep(d)
			return ctx.Err()
		}
		const reads = 2000
		for i := range reads {
			slow.Store(i > warmup)
			mustRead(t, c, rangeOf("a", content, 100, 1000), content[100:1100])
		}
		if got := c.Stats().Hedged; got == 0 || got > reads/hedgeEvery {
			t.Errorf("got %d second requests for %d reads", got, reads)
		}
	})
}

// Nothing is hedged before it is known what is slow, below the floor, without
// one, or when there are as many reads under way as may be.
func TestNotHedged(t *testing.T) {
	for _, test := range []struct {
		name   string
		config Config
		usual  time.Duration
		warmup int
		slow   time.Duration
	}{
		{"too early", Config{HedgeFloor: floor}, usual, leastSamples - 1, stuck},
		{"below the floor", Config{HedgeFloor: floor}, 1, warmup, floor - 1},
		{"without a floor", Config{}, usual, warmup, stuck},
		{"no slot", Config{HedgeFloor: floor, Reads: 1}, usual, warmup, stuck},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, store, content := setup(t, test.config)
				defer c.Close()
				takes := make([]time.Duration, test.warmup)
				for i := range takes {
					takes[i] = test.usual
				}
				script(store, &takes)
				for range test.warmup {
					mustRead(t, c, rangeOf("a", content, 100, 1000), content[100:1100])
				}
				takes = []time.Duration{test.slow}
				mustRead(t, c, rangeOf("a", content, 100, 1000), content[100:1100])
				if got := c.Stats().Hedged; got != 0 {
					t.Errorf("got %d second requests", got)
				}
			})
		})
	}
}

// What nobody wants any more ends both requests.
func TestHedgeIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, store, content := setup(t, Config{HedgeFloor: floor})
		defer c.Close()
		var takes []time.Duration
		cancelled := script(store, &takes)
		for range warmup {
			mustRead(t, c, rangeOf("a", content, 100, 1000), content[100:1100])
		}
		takes = []time.Duration{stuck, stuck}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.ReadRange(ctx, rangeOf("a", content, 100, 1000)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		synctest.Wait()
		if *cancelled != 2 || c.Stats().Hedged != 1 {
			t.Errorf("%d requests were cancelled of %d more", *cancelled, c.Stats().Hedged)
		}
	})
}

func TestHedgeClasses(t *testing.T) {
	for size, want := range map[int]int{
		0: 0, 1: 0, 16 << 10: 0, 16<<10 + 1: 1, 64 << 10: 1, 64<<10 + 1: 2, 256 << 10: 2, 256<<10 + 1: 3, 1 << 20: 3, 1<<20 + 1: 4, 1 << 30: 4,
	} {
		if got := hedgeClass(size); got != want {
			t.Errorf("a read of %d bytes is of class %d, want %d", size, got, want)
		}
	}
}
