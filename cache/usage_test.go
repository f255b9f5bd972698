package cache

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akidb/segments/blob"
	"pgregory.net/rapid"
)

// slow makes every read of store take as long as its offset says, in
// milliseconds, by a clock that synctest turns.
func slow(store *spy) {
	store.during = func(ctx context.Context, _ string, off int64, _ []byte) error {
		time.Sleep(time.Duration(off) * time.Millisecond)
		return nil
	}
}

func TestRounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, store, content := setup(t, Config{Bytes: 1 << 20, GapBytes: -1})
		defer c.Close()
		slow(store)
		var u Usage
		ctx := WithUsage(t.Context(), &u)
		read := func(ms ...int) {
			var rs []blob.Range
			for _, off := range ms {
				rs = append(rs, rangeOf("a", content, off, 1))
			}
			if _, err := c.ReadRanges(ctx, rs); err != nil {
				t.Error(err)
			}
		}
		expect := func(what string, want int64) {
			t.Helper()
			c.ram.settle()
			if got := u.Rounds.Load(); got != want {
				t.Errorf("%s: got %d rounds, want %d", what, got, want)
			}
		}
		read()
		expect("nothing", 0)
		read(10, 20, 30)
		expect("many ranges at once", 1)
		read(10, 20)
		expect("from memory", 1)
		read(11)
		expect("one after the other", 2)
		var group sync.WaitGroup
		for i := range 10 {
			group.Go(func() { read(100 + i) })
		}
		group.Wait()
		expect("side by side", 3)
		group.Go(func() { read(500) })
		group.Go(func() { read(201); read(202) })
		group.Wait()
		expect("two beside a long one", 5)
	})
}

// Rounds are the longest chain of waits of which each began after the one
// before had ended, whatever waits there are.
func TestRoundsProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type wait struct{ from, to, chain int }
		var waits []wait
		for range rapid.IntRange(0, 12).Draw(t, "waits") {
			from := rapid.IntRange(0, 30).Draw(t, "from")
			waits = append(waits, wait{from: from, to: from + rapid.IntRange(1, 20).Draw(t, "long")})
		}
		var u Usage
		rounds := make([]int64, len(waits))
		want := 0
		for now := range 60 {
			for i, w := range waits { // a wait that ends now has ended before those that begin now
				if w.to == now {
					u.endWait(rounds[i])
				}
			}
			for i, w := range waits {
				if w.from == now {
					rounds[i] = u.beginWait()
					waits[i].chain = 1
					for _, before := range waits {
						if before.to <= now {
							waits[i].chain = max(waits[i].chain, before.chain+1)
						}
					}
					want = max(want, waits[i].chain)
				}
			}
		}
		if got := u.Rounds.Load(); got != int64(want) {
			t.Fatalf("got %d rounds, want %d", got, want)
		}
	})
}
