package ivfpq

import (
	"slices"
	"testing"
)

func newCalibration(t *testing.T, rows []float32, cfg Config) *calibration {
	t.Helper()
	c := newCorpus(t, rows, cfg)
	src, err := newSource(t.Context(), newSpace(c.Params), rows, 1)
	if err != nil {
		t.Fatal(err)
	}
	return &calibration{Index: c.Index, src: src, router: c.router, depths: steps(Finish(calibratedK), len(c.Order))}
}

func TestCalibrationTruthIsExactWithoutTheQueryItself(t *testing.T) {
	const n, dim = 300, 8
	rows, _ := clustered(30, n, 0, dim, 4)
	copy(rows[dim:2*dim], rows[:dim]) // rows 0 and 1 are each other's nearest, at distance 0
	for _, metric := range metrics {
		c := newCalibration(t, rows, Config{Dim: dim, Metric: metric, Kind: IVF, Lists: 9, CalibrationQueries: 5})
		oracle := &corpus{Index: c.Index, vectors: rows, router: c.router}
		for ordinal := range uint32(n) {
			c.addTrial(c.src.vector(c.Order[ordinal]), ordinal)
			trial := &c.trials[ordinal]
			c.prepare(trial)
			want := slices.DeleteFunc(oracle.exact(trial.query, 11, nil), func(x Candidate) bool { return x.Ordinal == ordinal })[:10]
			if trial.wanted != 10 || trial.bound != want[9].Distance || slices.Contains(trial.truth, ordinal) || len(trial.truth) < 10 {
				t.Errorf("%v row %d: %d wanted within %v, truth %v, want %v", metric, ordinal, trial.wanted, trial.bound, trial.truth, want)
			}
			if trial.within(len(c.Lists)) != 10 || trial.within(0) != 0 {
				t.Errorf("%v row %d: %d of 10 in all lists, %d in none", metric, ordinal, trial.within(len(c.Lists)), trial.within(0))
			}
		}
	}
}

// With every row in a list of its own, one probe finds the query's own row and nothing else.
func TestCalibrationDoesNotCountTheQueryItself(t *testing.T) {
	const n, dim = 40, 8
	rows, _ := clustered(31, n, 0, dim, n)
	c := newCalibration(t, rows, Config{Dim: dim, Metric: L2, Kind: IVF, Lists: n})
	for ordinal := range uint32(n) {
		c.addTrial(c.src.vector(c.Order[ordinal]), ordinal)
		trial := &c.trials[ordinal]
		c.prepare(trial)
		list, _ := c.router.ListOf(ordinal)
		alone := c.Lists[list].Count == 1
		c.run(trial, 1)
		if deepest := trial.found[len(trial.found)-1]; alone && deepest != 0 {
			t.Errorf("row %d found %d others in its own list", ordinal, deepest)
		}
		c.run(trial, len(c.Lists))
		if deepest := trial.found[len(trial.found)-1]; deepest != 10 {
			t.Errorf("row %d found %d of 10 in all lists", ordinal, deepest)
		}
	}
	singles := 0
	for _, l := range c.Lists {
		if l.Count == 1 {
			singles++
		}
	}
	if singles < n/2 {
		t.Fatalf("%d of %d lists have one row: nothing is tested", singles, n)
	}
}

// A margin must stand between what was measured and what is promised.
func TestCalibrationAllowsForChance(t *testing.T) {
	c := &calibration{}
	for i := range 100 {
		c.trials = append(c.trials, trial{wanted: 10, found: []int{9 + i%2}})
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
