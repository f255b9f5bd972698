package cache

import (
	"bytes"
	"errors"
	"io"
	"math"
	"testing"

	"github.com/akidb/akidb/segments/blob"
	"pgregory.net/rapid"
)

// extents returns ranges of one object from pairs of offset and length.
func extents(key string, pairs ...int64) []*flight {
	var fs []*flight
	for i := 0; i < len(pairs); i += 2 {
		fs = append(fs, &flight{of: blob.Range{Key: key, Offset: pairs[i], Length: int(pairs[i+1])}})
	}
	return fs
}

func TestPlan(t *testing.T) {
	for _, test := range []struct {
		name      string
		flights   []*flight
		gap, span int64
		want      []int // flights of each job
	}{
		{"none", nil, 10, 100, nil},
		{"one", extents("a", 5, 5), 10, 100, []int{1}},
		{"touching", extents("a", 5, 5, 10, 5), -1, 100, []int{2}},
		{"a byte apart", extents("a", 5, 5, 11, 5), -1, 100, []int{1, 1}},
		{"at the gap", extents("a", 0, 5, 15, 5), 10, 100, []int{2}},
		{"past the gap", extents("a", 0, 5, 16, 5), 10, 100, []int{1, 1}},
		{"unsorted", extents("a", 40, 5, 0, 5, 20, 5), 15, 100, []int{3}},
		{"at the span", extents("a", 0, 50, 50, 50), 10, 100, []int{2}},
		{"past the span", extents("a", 0, 50, 50, 51), 10, 100, []int{1, 1}},
		{"one longer than the span", extents("a", 0, 500, 500, 5), 10, 100, []int{1, 1}},
		{"overlapping", extents("a", 0, 50, 10, 50), 0, 100, []int{2}},
		{"one in another", extents("a", 0, 50, 10, 5, 55, 5), 5, 100, []int{3}},
		{"two objects", append(extents("a", 0, 5), extents("b", 5, 5)...), 10, 100, []int{1, 1}},
		{"past the end of the world", extents("a", math.MaxInt64-1, 5, math.MaxInt64, 5), 10, 100, []int{2}},
		{"before its beginning", extents("a", math.MinInt64, 5, -1, 5, 0, 5), 10, 100, []int{1, 1, 1}},
	} {
		var got []int
		for _, j := range plan(test.flights, test.gap, test.span) {
			got = append(got, len(j.flights))
		}
		if len(got) != len(test.want) {
			t.Errorf("%s: got jobs of %v flights, want %v", test.name, got, test.want)
			continue
		}
		for i := range got {
			if got[i] != test.want[i] {
				t.Errorf("%s: got jobs of %v flights, want %v", test.name, got, test.want)
			}
		}
	}
}

// Every flight is in one job, no job has a gap or a length that it should not,
// and no two jobs next to each other should have been one.
func TestPlanProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		gap, span := rapid.Int64Range(0, 50).Draw(t, "gap"), rapid.Int64Range(0, 300).Draw(t, "span")
		var fs []*flight
		for range rapid.IntRange(0, 30).Draw(t, "count") {
			key := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "key")
			fs = append(fs, extents(key, rapid.Int64Range(0, 1000).Draw(t, "off"), rapid.Int64Range(1, 60).Draw(t, "len"))...)
		}
		seen := map[*flight]bool{}
		jobs := plan(fs, gap, span)
		var before *job
		var beforeEnd int64
		for _, j := range jobs {
			end := endOf(j.flights[0].of)
			for i, f := range j.flights {
				if seen[f] || f.of.Key != j.flights[0].of.Key || i > 0 && f.of.Offset-end > gap || f.of.Offset < j.start() {
					t.Fatalf("%s does not belong", f.of)
				}
				seen[f] = true
				end = max(end, endOf(f.of))
			}
			if len(j.flights) > 1 && end-j.start() > span {
				t.Fatalf("a job of %d bytes, want at most %d", end-j.start(), span)
			}
			if first := j.flights[0].of; before != nil && before.flights[0].of.Key == first.Key &&
				first.Offset-beforeEnd <= gap && max(beforeEnd, endOf(first))-before.start() <= span {
				t.Fatalf("%s is a job of its own next to one that ends at %d", first, beforeEnd)
			}
			before, beforeEnd = j, end
		}
		if len(seen) != len(fs) {
			t.Fatalf("got %d flights, want %d", len(seen), len(fs))
		}
	})
}

func TestCoalescing(t *testing.T) {
	c, store, content := setup(t, Config{Bytes: 1 << 20, GapBytes: 1000, SpanBytes: 100_000})
	defer c.Close()
	offsets := []int{50_000, 0, 900, 100_000, 0, 51_000} // the third from last twice, in any order
	var rs []blob.Range
	for _, off := range offsets {
		rs = append(rs, rangeOf("a", content, off, 300))
	}
	usage := new(Usage)
	got, err := c.ReadRanges(WithUsage(t.Context(), usage), rs)
	if err != nil {
		t.Fatal(err)
	}
	for i, off := range offsets {
		if !bytes.Equal(got[i], content[off:off+300]) {
			t.Errorf("range %d has other bytes", i)
		}
		if cap(got[i]) > 320 {
			t.Errorf("range %d keeps %d bytes alive", i, cap(got[i]))
		}
	}
	// [0,1200), [50000,51300) and [100000,100300).
	if store.count() != 3 || usage.StoreGets.Load() != 3 || usage.StoreBytes.Load() != 1200+1300+300 ||
		usage.Misses.Load() != 6 || usage.Joined.Load() != 1 {
		t.Errorf("got reads %v, usage %+v", store.reads, usage)
	}
	c.ram.settle()
	if _, err := c.ReadRanges(t.Context(), rs); err != nil || store.count() != 3 {
		t.Errorf("again: %v after %d reads, want no more", err, store.count())
	}
}

// A range that the object does not have fails alone.
func TestBadNeighbour(t *testing.T) {
	c, _, content := setup(t, Config{Bytes: 1 << 20})
	defer c.Close()
	good := rangeOf("a", content, len(content)-100, 100)
	bad := blob.Range{Key: "a", Offset: int64(len(content)), Length: 10}
	if _, err := c.ReadRanges(t.Context(), []blob.Range{bad, good}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want unexpected EOF", err)
	}
	if _, err := c.ReadRanges(t.Context(), []blob.Range{good, bad}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want unexpected EOF", err)
	}
	c.jobs.Wait()
	c.ram.settle()
	if _, kept := c.ram.get(good); !kept {
		t.Error("the good range was not kept")
	}
}
