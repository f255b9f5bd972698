package ivfpq

import (
	"slices"
	"testing"

	"github.com/akidb/akidb/kernels"
)

// Sums of float32 differ between instruction sets by their order; which rows a search returns
// does not.
func TestSearchReturnsTheSameRowsAtEveryLevel(t *testing.T) {
	if err := kernels.LevelError(); err != nil {
		t.Fatal(err)
	}
	before, err := kernels.ParseLevel(kernels.ActiveLevel())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := kernels.SetLevel(before); err != nil {
			t.Error(err)
		}
	}()
	const dim, k, count = 50, 10, 100 // no multiple of any vector's width
	rows, queries := clustered(31, 4000, count, dim, 30)
	for _, metric := range metrics {
		for _, kind := range []Kind{Exact, Flat, IVF} {
			c := newCorpus(t, rows, Config{Dim: dim, Metric: metric, Seed: 3, Kind: kind, CalibrationQueries: 50})
			var want [][]uint32
			for _, level := range kernels.Levels() {
				if err := kernels.SetLevel(level); err != nil {
					t.Fatal(err)
				}
				for i := range count {
					var got []uint32
					for _, x := range c.search(t, queries[i*dim:(i+1)*dim], k, 0.95, nil) {
						got = append(got, x.number)
					}
					if level == kernels.Generic {
						want = append(want, got)
					}
					if !slices.Equal(got, want[i]) {
						t.Errorf("%v %v query %d at level %v: rows %v, want %v", metric, kind, i, level, got, want[i])
					}
				}
			}
		}
	}
}

// An index built at any level is as good: its rows are found at the recall that it promises.
func TestIndexesBuiltAtEveryLevelKeepTheirRecall(t *testing.T) {
	before, err := kernels.ParseLevel(kernels.ActiveLevel())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := kernels.SetLevel(before); err != nil {
			t.Error(err)
		}
	}()
	rows, queries := clustered(32, 4000, 100, 50, 30)
	for _, level := range kernels.Levels() {
		if err := kernels.SetLevel(level); err != nil {
			t.Fatal(err)
		}
		c := newCorpus(t, rows, Config{Dim: 50, Metric: L2, Seed: 3, Kind: IVF, CalibrationQueries: 50})
		if got := c.recall(t, queries, 10, 0.95, nil); !(got >= 0.95-slackRecall(100)) {
			t.Errorf("built at level %v: recall %v, want 0.95 less %v", level, got, slackRecall(100))
		}
	}
}
