package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/memblob"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// spy is a store that counts its reads and can be told what to do with them.
type spy struct {
	blob.Store
	mu    sync.Mutex
	reads []blob.Range // without checksum
	// during is called with every read before it is answered.
	during func(ctx context.Context, key string, off int64, dst []byte) error
	// after may damage what was read.
	after func(off int64, dst []byte)
}

func (s *spy) ReadRange(ctx context.Context, key string, off int64, dst []byte) error {
	s.mu.Lock()
	s.reads = append(s.reads, blob.Range{Key: key, Offset: off, Length: len(dst)})
	s.mu.Unlock()
	if s.during != nil {
		if err := s.during(ctx, key, off, dst); err != nil {
			return err
		}
	}
	err := s.Store.ReadRange(ctx, key, off, dst)
	if err == nil && s.after != nil {
		s.after(off, dst)
	}
	return err
}

func (s *spy) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.reads)
}

// object stores n bytes that are a function of the key.
func object(t testing.TB, store blob.Store, key string, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	rng := rand.New(rand.NewPCG(uint64(len(key)), uint64(key[0])))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	if _, err := store.Put(context.Background(), key, bytes.NewReader(b), int64(n), blob.Condition{}); err != nil {
		t.Fatal(err)
	}
	return b
}

func rangeOf(key string, content []byte, off, n int) blob.Range {
	return blob.Range{Key: key, Offset: int64(off), Length: n, CRC32C: crc32.Checksum(content[off:off+n], blob.Castagnoli)}
}

// setup returns a cache over a spy that holds one object "a" of 1 MiB.
func setup(t testing.TB, config Config) (*Cache, *spy, []byte) {
	t.Helper()
	store := &spy{Store: memblob.New()}
	content := object(t, store, "a", 1<<20)
	c, err := New(config, store)
	if err != nil {
		t.Fatal(err)
	}
	return c, store, content
}

func mustRead(t *testing.T, c *Cache, r blob.Range, want []byte) {
	t.Helper()
	got, err := c.ReadRange(t.Context(), r)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %s: got %d bytes, %v; want %d others", r, len(got), err, len(want))
	}
}

func TestValidate(t *testing.T) {
	bad := Config{Bytes: -1, BlockBytes: -1, GapBytes: -2, SpanBytes: -1, Reads: -1, HedgeFloor: -1, Disk: DiskConfig{Dir: "d", Bytes: 1}}
	_, err := New(bad, memblob.New())
	if joined, ok := err.(interface{ Unwrap() []error }); !ok || len(joined.Unwrap()) != 7 {
		t.Errorf("got %v, want seven problems", err)
	}
}

func TestHitAfterMiss(t *testing.T) {
	c, store, content := setup(t, Config{Bytes: 1 << 20})
	defer c.Close()
	r := rangeOf("a", content, 1000, 5000)
	var usage Usage
	ctx := WithUsage(t.Context(), &usage)
	for range 2 {
		got, err := c.ReadRange(ctx, r)
		if err != nil || !bytes.Equal(got, content[1000:6000]) {
			t.Fatalf("got %d bytes, %v", len(got), err)
		}
		c.ram.settle()
	}
	if store.count() != 1 || usage.Hits.Load() != 1 || usage.Misses.Load() != 1 || usage.HitBytes.Load() != 5000 ||
		usage.StoreGets.Load() != 1 || usage.StoreBytes.Load() != 5000 || usage.HitRatio() != 0.5 {
		t.Errorf("%d reads, usage %+v", store.count(), &usage)
	}
	if s := c.Stats(); s.Hits != 1 || s.Misses != 1 || s.StoreGets != 1 || s.Bytes != costOf(5000) || s.Inflight != 0 {
		t.Errorf("got %+v", s)
	}
	// The same bytes under another promise are another block.
	r.CRC32C++
	if _, err := c.ReadRange(t.Context(), r); !errors.Is(err, blob.ErrCorrupt) {
		t.Errorf("another checksum: got %v, want corrupt", err)
	}
}

// A hit must not cost an allocation: it is paid for every list of every query.
func TestHitDoesNotAllocate(t *testing.T) {
	c, _, content := setup(t, Config{Bytes: 1 << 20})
	defer c.Close()
	r := rangeOf("a", content, 0, 100)
	ctx := WithUsage(t.Context(), new(Usage))
	read := func() {
		if _, err := c.ReadRange(ctx, r); err != nil {
			t.Fatal(err)
		}
	}
	read()
	c.ram.settle()
	// The policy's ring buffers are allocated now and then.
	if n := testing.AllocsPerRun(1000, read); n >= 1 {
		t.Errorf("got %v allocations a hit, want 0", n)
	}
}

func TestEmptyRanges(t *testing.T) {
	c, store, _ := setup(t, Config{Bytes: 1 << 20})
	defer c.Close()
	mustRead(t, c, blob.Range{Key: "a", Offset: 1 << 40}, nil)
	for _, r := range []blob.Range{{Key: "a", CRC32C: 1}, {Key: "a", Length: -1}} {
		if _, err := c.ReadRange(t.Context(), r); !errors.Is(err, blob.ErrCorrupt) {
			t.Errorf("%s: got %v, want corrupt", r, err)
		}
	}
	if got, err := c.ReadRanges(t.Context(), nil); err != nil || len(got) != 0 {
		t.Errorf("no ranges: got %v, %v", got, err)
	}
	if store.count() != 0 {
		t.Errorf("got %d reads, want none", store.count())
	}
}

func TestMissingObject(t *testing.T) {
	c, _, _ := setup(t, Config{Bytes: 1 << 20})
	defer c.Close()
	if _, err := c.ReadRange(t.Context(), blob.Range{Key: "b", Length: 1}); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("got %v, want not found", err)
	}
	if _, err := c.ReadRange(t.Context(), blob.Range{Key: "a", Offset: 1 << 20, Length: 1}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want unexpected EOF", err)
	}
}

// Damage on the way heals itself; damage at rest is told, and never kept.
func TestCorruption(t *testing.T) {
	for _, test := range []struct {
		name    string
		damages int // reads that come back damaged
		ranges  int
		healed  bool
		reads   int
	}{
		{"once", 1, 1, true, 2},
		{"for ever", 1 << 30, 1, false, 2},
		{"once in a span", 1, 3, true, 2},
		{"for ever in a span", 1 << 30, 3, false, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, store, content := setup(t, Config{Bytes: 1 << 20})
			defer c.Close()
			left := test.damages
			store.after = func(off int64, dst []byte) {
				if at := 150 - off; at >= 0 && at < int64(len(dst)) && left > 0 {
					left--
					dst[at] ^= 1
				}
			}
			var rs []blob.Range
			for i := range test.ranges {
				rs = append(rs, rangeOf("a", content, 100+100*i, 100))
			}
			got, err := c.ReadRanges(t.Context(), rs)
			if test.healed && err != nil || !test.healed && !errors.Is(err, blob.ErrCorrupt) {
				t.Fatalf("got %v", err)
			}
			for i := range got {
				if !bytes.Equal(got[i], content[100+100*i:200+100*i]) {
					t.Errorf("range %d has other bytes", i)
				}
			}
			if store.count() != test.reads {
				t.Errorf("got %d reads, want %d", store.count(), test.reads)
			}
			c.jobs.Wait()
			c.ram.settle()
			if _, kept := c.ram.get(rs[0]); kept != test.healed {
				t.Errorf("kept: %v, want %v", kept, test.healed)
			}
			for _, r := range rs[1:] { // the neighbours are none the worse
				if _, kept := c.ram.get(r); !kept {
					t.Errorf("%s was not kept", r)
				}
			}
		})
	}
}

func TestSingleFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, store, content := setup(t, Config{Bytes: 1 << 20})
		defer c.Close()
		gate := make(chan struct{})
		store.during = func(context.Context, string, int64, []byte) error { <-gate; return nil }
		r := rangeOf("a", content, 10, 20)
		for range 50 {
			go mustRead(t, c, r, content[10:30])
		}
		synctest.Wait()
		if got := c.Stats(); got.Misses != 50 || got.Joined != 49 || got.Inflight != 1 {
			t.Errorf("got %+v", got)
		}
		close(gate)
		synctest.Wait()
		if store.count() != 1 {
			t.Errorf("got %d reads, want 1", store.count())
		}
	})
}

// Whoever asked first may go: the read goes on for the others, and stops when
// the last has gone.
func TestCancelledCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, store, content := setup(t, Config{Bytes: 1 << 20})
		defer c.Close()
		gate := make(chan struct{})
		stopped := 0
		store.during = func(ctx context.Context, _ string, _ int64, _ []byte) error {
			select {
			case <-gate:
				return nil
			case <-ctx.Done():
				stopped++
				return ctx.Err()
			}
		}
		r := rangeOf("a", content, 10, 20)
		results := make([]error, 3)
		cancels := make([]context.CancelFunc, 3)
		call := func(i int) {
			ctx, cancel := context.WithCancel(t.Context())
			cancels[i] = cancel
			go func() { _, results[i] = c.ReadRange(ctx, r) }()
			synctest.Wait()
		}
		call(0)
		call(1)
		cancels[0]()
		synctest.Wait()
		if !errors.Is(results[0], context.Canceled) || stopped != 0 || store.count() != 1 {
			t.Fatalf("leader: %v, %d stopped, %d reads", results[0], stopped, store.count())
		}
		cancels[1]()
		synctest.Wait()
		if !errors.Is(results[1], context.Canceled) || stopped != 1 {
			t.Fatalf("last: %v, %d stopped", results[1], stopped)
		}
		call(2) // cannot join what was given up
		close(gate)
		synctest.Wait()
		cancels[2]()
		if results[2] != nil || store.count() != 2 {
			t.Errorf("next: %v, %d reads", results[2], store.count())
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.ReadRange(ended, rangeOf("a", content, 0, 5)); !errors.Is(err, context.Canceled) || store.count() != 2 {
			t.Errorf("context that has ended: %v, %d reads", err, store.count())
		}
	})
}

// A span goes on while any part of it is wanted.
func TestCancelledPartOfSpan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, store, content := setup(t, Config{Bytes: 1 << 20})
		defer c.Close()
		gate := make(chan struct{})
		store.during = func(ctx context.Context, _ string, _ int64, _ []byte) error {
			select {
			case <-gate:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		first, second := rangeOf("a", content, 0, 100), rangeOf("a", content, 200, 100)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			if _, err := c.ReadRanges(ctx, []blob.Range{first, second}); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want canceled", err)
			}
		}()
		synctest.Wait()
		go mustRead(t, c, second, content[200:300])
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(gate)
		synctest.Wait()
		if store.count() != 1 {
			t.Errorf("got %d reads, want 1", store.count())
		}
	})
}

func TestReadsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, store, content := setup(t, Config{Bytes: 1 << 20, Reads: 3, GapBytes: -1})
		defer c.Close()
		gate := make(chan struct{})
		store.during = func(context.Context, string, int64, []byte) error { <-gate; return nil }
		var rs []blob.Range
		for i := range 20 {
			rs = append(rs, rangeOf("a", content, 1000*i, 10))
		}
		go func() {
			if _, err := c.ReadRanges(t.Context(), rs); err != nil {
				t.Error(err)
			}
		}()
		for range rs {
			synctest.Wait()
			if n := c.Stats().Inflight; n > 3 {
				t.Errorf("got %d reads under way, want at most 3", n)
			}
			gate <- struct{}{}
		}
		synctest.Wait()
		if store.count() != 20 {
			t.Errorf("got %d reads, want 20", store.count())
		}
	})
}

func TestSmallCaches(t *testing.T) {
	for _, size := range []int64{0, 1, 1000, 3 * costOf(4096)} {
		c, store, content := setup(t, Config{Bytes: size})
		for range 3 {
			mustRead(t, c, rangeOf("a", content, 0, 4096), content[:4096])
			if c.ram.blocks.blocks != nil {
				c.ram.settle()
			}
		}
		if s := c.Stats(); s.Bytes > size || store.count() != 3 {
			t.Errorf("%d bytes: got %+v after %d reads, want nothing kept", size, s, store.count())
		}
		c.Close()
	}
}

// The memory budget holds, blocks that were handed over are accounted for, and
// what is asked for again and again gets in although the cache is full.
func TestAdmission(t *testing.T) {
	const blockBytes, budget = 4096, 200 << 10
	c, _, content := setup(t, Config{Bytes: budget, BlockBytes: blockBytes})
	defer c.Close()
	block := func(i int) blob.Range { return rangeOf("a", content, blockBytes*i, blockBytes) }
	for range 5 { // fill it with what is asked for often
		for i := range 40 {
			mustRead(t, c, block(i), content[blockBytes*i:][:blockBytes])
		}
		c.ram.settle()
	}
	hot := block(200)
	for range 2000 {
		mustRead(t, c, hot, content[blockBytes*200:][:blockBytes])
		c.ram.settle()
		if used := c.Stats().Bytes; used > budget {
			t.Fatalf("%d bytes kept, want at most %d", used, budget)
		}
	}
	if _, kept := c.ram.get(hot); !kept {
		t.Error("a block asked for 2000 times was never admitted")
	}
	if n, b := c.ram.blocks.waiting.Load(), c.ram.blocks.waitingBytes.Load(); n != 0 || b != 0 {
		t.Errorf("%d blocks of %d bytes are said to wait, want none", n, b)
	}
	if c.Stats().Bytes == 0 {
		t.Error("nothing is kept")
	}
}

// Any mixture of reads, with evictions and callers that go away, returns what
// direct reads return.
func TestAgainstDirectReads(t *testing.T) {
	const seed, objects, size = 7, 4, 64 << 10
	store := memblob.New()
	var contents [][]byte
	for i := range objects {
		contents = append(contents, object(t, store, fmt.Sprintf("%c/%d", 'a'+i, i), size))
	}
	for _, config := range []Config{
		{Bytes: 0},
		{Bytes: 40 << 10, BlockBytes: 1024},
		{Bytes: 64 << 20, BlockBytes: 1024, GapBytes: -1, Reads: 2},
		{Bytes: 40 << 10, BlockBytes: 1024, GapBytes: 512, SpanBytes: 8 << 10},
	} {
		c, err := New(config, store)
		if err != nil {
			t.Fatal(err)
		}
		var group sync.WaitGroup
		for worker := range 8 {
			group.Go(func() {
				rng := rand.New(rand.NewPCG(seed, uint64(worker)))
				pick := func() (blob.Range, []byte) {
					i := rng.IntN(objects)
					n := rng.IntN(40) * rng.IntN(100)
					off := rng.IntN(size-n) / 64 * 64
					return rangeOf(fmt.Sprintf("%c/%d", 'a'+i, i), contents[i], off, n), contents[i][off : off+n]
				}
				for range 400 {
					var rs []blob.Range
					var want [][]byte
					for range 1 + rng.IntN(12) {
						r, b := pick()
						rs, want = append(rs, r), append(want, b)
					}
					ctx, cancel := context.WithCancel(t.Context())
					if rng.IntN(4) == 0 {
						go cancel()
					}
					got, err := c.ReadRanges(ctx, rs)
					if err != nil && !(errors.Is(err, context.Canceled) && ctx.Err() != nil) {
						t.Errorf("seed %d, worker %d: %v", seed, worker, err)
					}
					for i := range got {
						if !bytes.Equal(got[i], want[i]) {
							t.Errorf("seed %d, worker %d: %s has other bytes", seed, worker, rs[i])
						}
					}
					cancel()
				}
			})
		}
		group.Wait()
		c.jobs.Wait()
		if len(c.flights) != 0 || c.Stats().Inflight != 0 {
			t.Errorf("%+v: %d flights are left", config, len(c.flights))
		}
		if used := c.Stats().Bytes; used > config.Bytes {
			t.Errorf("%+v: %d bytes kept", config, used)
		}
		c.Close()
	}
}

func BenchmarkHit(b *testing.B) {
	c, _, content := setup(b, Config{Bytes: 1 << 20})
	defer c.Close()
	r := rangeOf("a", content, 0, 4096)
	ctx := WithUsage(b.Context(), new(Usage))
	if _, err := c.ReadRange(ctx, r); err != nil {
		b.Fatal(err)
	}
	c.ram.settle()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.ReadRange(ctx, r); err != nil {
			b.Fatal(err)
		}
	}
}
