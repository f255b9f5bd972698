package ivfpq

import (
	"slices"
	"testing"
)

func newTestCalibration(t *testing.T, rows []float32, cfg Config) (*calibration, *corpus) {
	t.Helper()
	oracle := newCorpus(t, rows, cfg)
	src := &source{space: oracle.Quantizer.space, vectors: rows, count: len(rows) / cfg.Dim, workers: 2}
	cfg.CalibrationQueries = src.count
	c, err := oracle.newCalibration(src, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.release)
	if err := c.findTruth(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c, oracle
}

func TestCalibrationTruthIsExactWithoutTheQueryItself(t *testing.T) {
	const n, dim = 300, 8
	rows, _ := clustered(30, n, 0, dim, 4)
	copy(rows[dim:2*dim], rows[:dim]) // rows 0 and 1 are each other's nearest, at distance 0
	for _, metric := range metrics {
		c, oracle := newTestCalibration(t, rows, Config{Dim: dim, Metric: metric, Kind: IVF, Lists: 9, CalibrationQueries: 5})
		for ordinal := range uint32(n) {
			trial := c.trials[ordinal]
			want := slices.DeleteFunc(oracle.exact(trial.vector, 11, nil), func(x entry) bool { return x.number == ordinal })[:10]
			if trial.wanted != 10 || trial.bound != want[9].distance || slices.Contains(trial.truth, ordinal) || len(trial.truth) < 10 {
				t.Errorf("%v row %d: %d wanted within %v, truth %v, want %v", metric, ordinal, trial.wanted, trial.bound, trial.truth, want)
			}
			trial.near = 0 // else some lists are probed in any case
			if trial.within(len(c.Lists)) != 10 || trial.within(0) != 0 {
				t.Errorf("%v row %d: %d of 10 in all lists, %d in none", metric, ordinal, trial.within(len(c.Lists)), trial.within(0))
			}
		}
	}
}

// With a row to a list, one probe finds the query's own row and the one that was spilled to its
// list, and never counts the query itself.
func TestCalibrationDoesNotCountTheQueryItself(t *testing.T) {
	const n, dim = 40, 8
	rows, _ := clustered(31, n, 0, dim, n)
	c, _ := newTestCalibration(t, rows, Config{Dim: dim, Metric: L2, Kind: IVF, Lists: n})
	alone := 0
	for ordinal := range uint32(n) {
		trial := c.trials[ordinal]
		list, _ := c.postings.ListOf(ordinal)
		c.run(trial, 1)
		if l := c.Lists[list]; l.Count == 1 && l.Spilled == 0 {
			alone++
			if deepest := trial.found[len(trial.found)-1]; deepest != 0 {
				t.Errorf("row %d found %d others in its own list", ordinal, deepest)
			}
		}
		c.run(trial, len(c.Lists))
		if deepest := trial.found[len(trial.found)-1]; deepest != 10 {
			t.Errorf("row %d found %d of 10 in all lists", ordinal, deepest)
		}
	}
	if alone == 0 {
		t.Fatal("no list has one row only: nothing is tested")
	}
}

// A margin must stand between what was measured and what is promised.
func TestCalibrationAllowsForChance(t *testing.T) {
	c := &calibration{}
	for i := range 100 {
		c.trials = append(c.trials, &trial{wanted: 10, found: []int{9 + i%2}})
	}
	found := func(t *trial) int { return t.found[0] }
	if got := c.lowest(found); got > 0.9351 || got < 0.9349 { // .95 - 3 · .05/√100
		t.Errorf("recall .95 with deviation .05 of 100 queries counts as %v, want .935", got)
	}
	if got := (&calibration{}).lowest(found); got != 1 {
		t.Errorf("nothing to find counts as %v, want 1", got)
	}
}

func TestSteps(t *testing.T) {
	for _, c := range []struct{ low, high int }{{1, 1}, {1, 2}, {20, 8192}, {20, 5}, {1, 4000}} {
		grid := steps(c.low, c.high)
		if grid[len(grid)-1] != c.high || !slices.IsSorted(grid) || len(slices.Compact(slices.Clone(grid))) != len(grid) || len(grid) > 60 {
			t.Errorf("steps(%d, %d) is %v", c.low, c.high, grid)
		}
	}
}
