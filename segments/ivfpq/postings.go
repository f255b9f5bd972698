package ivfpq

import (
	"fmt"
	"math"
	"slices"
)

// Postings are what a searching process holds of one segment besides its quantizer: where the
// lists are, and what recall takes. They do not change.
type Postings struct {
	quantizer   *Quantizer
	lists       []List
	calibration []Calibration
	wider       []Curve
	rows        uint32
	hints       []uint32 // the list of every hintRows-th row, from which its list is a few steps away
}

const hintRows = 64

// NewPostings checks that the parts belong together and keeps them; the caller must not change
// them any more. An index of Kind Exact has none.
func NewPostings(z *Quantizer, lists []List, calibration []Calibration, wide ...Curve) (*Postings, error) {
	fail := func(err error) (*Postings, error) { return nil, fmt.Errorf("open index: %w", err) }
	if len(lists) != z.Lists() {
		return fail(fmt.Errorf("%d lists, want %d", len(lists), z.Lists()))
	}
	p := &Postings{quantizer: z, lists: lists, calibration: calibration, wider: wide}
	var next, spilled uint64
	for i, l := range lists {
		if uint64(l.First) != next {
			return fail(fmt.Errorf("list %d starts at row %d, want %d", i, l.First, next))
		}
		next += uint64(l.Count)
		spilled += uint64(l.Spilled)
	}
	if next > math.MaxUint32 || spilled > next {
		return fail(fmt.Errorf("%d rows and %d spilled, want at most %d and no more spilled than rows", next, spilled, uint32(math.MaxUint32)))
	}
	p.rows = uint32(next)
	if err := checkCalibration(len(lists), calibration); err != nil {
		return fail(err)
	}
	last := uint32(calibratedK)
	for _, c := range wide {
		if c.K <= last || len(calibration) == 0 || len(c.Points) == 0 {
			return fail(fmt.Errorf("calibration for k %d with %d entries follows that for %d, want ascending k and entries", c.K, len(c.Points), last))
		}
		if err := checkCalibration(len(lists), c.Points); err != nil {
			return fail(fmt.Errorf("for k %d: %w", c.K, err))
		}
		last = c.K
	}
	list := uint32(0)
	for row := uint64(0); row < next; row += hintRows {
		for uint64(lists[list].First)+uint64(lists[list].Count) <= row {
			list++
		}
		p.hints = append(p.hints, list)
	}
	return p, nil
}

// checkCalibration wants ascending recalls with effort that never falls.
func checkCalibration(lists int, calibration []Calibration) error {
	var last Calibration
	for i, c := range calibration {
		if !(c.Recall > last.Recall && c.Recall <= 1) || c.NProbe < max(last.NProbe, 1) || int(c.NProbe) > lists || c.Depth < max(last.Depth, 1) {
			return fmt.Errorf("calibration %d is %+v after %+v, want more recall for no less effort, within %d lists", i, c, last, lists)
		}
		last = c
	}
	return nil
}

// Quantizer is the one the lists were made with.
func (p *Postings) Quantizer() *Quantizer { return p.quantizer }

// Lists are the lists of the index, in row order. The caller must not change them.
func (p *Postings) Lists() []List { return p.lists }

// Rows is how many rows the lists have.
func (p *Postings) Rows() uint32 { return p.rows }

// ListOf returns the list that holds a row, and false if there is no such row.
func (p *Postings) ListOf(ordinal uint32) (list uint32, ok bool) {
	if ordinal >= p.rows {
		return 0, false
	}
	list = p.hints[ordinal/hintRows]
	for ordinal-p.lists[list].First >= p.lists[list].Count {
		list++
	}
	return list, true
}

// Finish is how many of the best refined candidates to score with Distances for an answer of k:
// the refine code has its true 10 nearest within its first 15 to 20 at recall 0.999.
func Finish(k int) int { return k + k/2 + 5 }

// calibratedK is the k that Index.Calibration is for.
const calibratedK = 10

// Plan returns how many lists to scan, by Query.Choose, and how many candidates to refine for k results
// at a recall. Between two numbers of neighbours that were calibrated the effort is interpolated, beyond the
// last it grows by rules of thumb: neighbours further out lie in more lists, and in a larger crowd of
// estimates. A recall above what was calibrated multiplies the effort of the best calibration; recall 1
// takes everything. A row may be a candidate twice, so there are never fewer than 2 k.
func (p *Postings) Plan(recall float32, k int) (nprobe, depth int) {
	k = max(k, 1)
	lists, rows := len(p.lists), int(p.rows)
	if recall >= 1 || len(p.calibration) == 0 {
		return lists, 2 * rows // every row, twice where it was spilled
	}
	below := float64(calibratedK)
	probes, wanted := effortOf(p.calibration, recall)
	for i := range p.wider {
		above := float64(p.wider[i].K)
		if float64(k) <= below {
			break
		}
		moreProbes, moreWanted := effortOf(p.wider[i].Points, recall)
		// What was measured for more neighbours was so for fewer queries: a lesser effort is chance.
		moreProbes, moreWanted = max(moreProbes, probes), max(moreWanted, wanted)
		if float64(k) < above {
			probes, wanted = between(below, probes, above, moreProbes, float64(k)), between(below, wanted, above, moreWanted, float64(k))
			below = float64(k)
			break
		}
		below, probes, wanted = above, moreProbes, moreWanted
	}
	if beyond := float64(k) / below; beyond > 1 {
		probes *= math.Pow(beyond, probeGrowth)
		wanted *= math.Pow(beyond, depthGrowth)
		// Enough lists to have the candidates at all, were they of average size. Where that was measured more
		// lists would crowd out what the depth was enough for.
		probes = max(probes, float64(2*Finish(k))*float64(lists)/max(float64(rows), 1))
	}
	depth = int(min(max(math.Ceil(wanted), float64(max(Finish(k), 2*k))), 2*float64(rows)))
	return int(min(math.Ceil(probes), float64(lists))), max(depth, 1)
}

// effortOf is what a recall takes by a calibration.
func effortOf(calibration []Calibration, recall float32) (probes, depth float64) {
	at := slices.IndexFunc(calibration, func(c Calibration) bool { return c.Recall >= recall })
	effort := 1.0
	if at < 0 {
		at = len(calibration) - 1
		effort = min(float64((1-calibration[at].Recall)/(1-recall)), 1e6)
	}
	return float64(calibration[at].NProbe) * effort, float64(calibration[at].Depth) * effort
}

// between interpolates efforts: by a power of k, or along a line where that is more. A power is right
// where distances grow smoothly, and a line safer where a cluster ends between the two.
func between(k0, e0, k1, e1, k float64) float64 {
	power := e0 * math.Pow(e1/e0, math.Log(k/k0)/math.Log(k1/k0))
	return max(power, e0+(e1-e0)*(k-k0)/(k1-k0))
}

// Growth of effort with k beyond what was calibrated.
const (
	probeGrowth = 0.5
	depthGrowth = 0.85
)
