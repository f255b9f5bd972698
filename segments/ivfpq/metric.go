package ivfpq

import (
	"fmt"
	"math"
	"slices"

	"github.com/akidb/akidb/kernels"
)

// Metric says how two vectors are compared. The numbers are stored in segments.
type Metric uint8

const (
	L2     Metric = 1 // Euclidean distance, lower is better
	Dot    Metric = 2 // inner product, higher is better
	Cosine Metric = 3 // cosine of the angle, higher is better; 0 with a zero vector
)

var metricNames = map[Metric]string{L2: "l2", Dot: "dot", Cosine: "cosine"}

func (m Metric) String() string {
	if name, ok := metricNames[m]; ok {
		return name
	}
	return fmt.Sprintf("Metric(%d)", uint8(m))
}

// ParseMetric is the inverse of String for the three metrics.
func ParseMetric(name string) (Metric, error) {
	for m, n := range metricNames {
		if n == name {
			return m, nil
		}
	}
	return 0, fmt.Errorf("parse metric %q: want l2, dot or cosine", name)
}

// A distance orders rows the same way under every metric: smaller is better. It is the Euclidean
// distance under L2, and the score with its sign turned under Dot and Cosine, so that a score and
// its distance convert without loss.

// ScoreOf turns a distance into the score that users see.
func (m Metric) ScoreOf(distance float32) float32 {
	if m == L2 {
		return distance
	}
	return 0 - distance // not -distance, so that 0 has one sign
}

// Better reports whether score a ranks before score b.
func (m Metric) Better(a, b float32) bool {
	if m == L2 {
		return a < b
	}
	return a > b
}

// Score compares two finite vectors of one length the way users see it: Euclidean distance,
// inner product, or cosine. The result is finite; where it would overflow it is ±MaxFloat32.
func Score(m Metric, query, row []float32) float32 {
	var out [1]float32
	Distances(m, query, row, out[:])
	return m.ScoreOf(out[0])
}

// Distances writes to out[i] the exact distance of query to row i of rows, which holds len(out)
// rows of len(query) elements. Finite input gives finite output.
func Distances(m Metric, query, rows, out []float32) {
	dim := len(query)
	if m == L2 {
		kernels.L2Rows(query, rows, out)
	} else {
		kernels.DotRows(query, rows, out)
	}
	queryNorm := 0.0
	if m == Cosine {
		queryNorm = norm(query)
	}
	for i, v := range out {
		row := rows[i*dim : (i+1)*dim]
		switch m {
		case L2:
			out[i] = l2Distance(v, query, row)
		case Dot:
			out[i] = 0 - checkedDot(v, query, row)
		case Cosine:
			out[i] = 0 - cosine(v, query, row, queryNorm)
		default:
			panic(fmt.Sprintf("BUG: ivfpq.Distances: %v", m))
		}
	}
}

// Squares outside this range may have lost bits to under- or overflow of float32, and are
// computed again in float64.
const (
	smallestSquare = 1e-24
	largestSquare  = 1e38
)

func l2Distance(square float32, a, b []float32) float32 {
	if square > smallestSquare && square < largestSquare {
		return float32(math.Sqrt(float64(square)))
	}
	var sum float64
	for i, x := range a {
		d := float64(x) - float64(b[i])
		sum += float64(d * d)
	}
	return saturate(math.Sqrt(sum))
}

// checkedDot returns dot unless float32 was too narrow for it.
func checkedDot(dot float32, a, b []float32) float32 {
	if abs := math.Abs(float64(dot)); abs > smallestSquare && abs < largestSquare {
		return dot
	}
	return saturate(wideDot(a, b))
}

func cosine(dot float32, query, row []float32, queryNorm float64) float32 {
	wide := float64(dot)
	if abs := math.Abs(wide); !(abs > smallestSquare && abs < largestSquare) {
		wide = wideDot(query, row)
	}
	rowNorm := norm(row)
	if queryNorm == 0 || rowNorm == 0 {
		return 0
	}
	return float32(min(max(wide/queryNorm/rowNorm, -1), 1))
}

func wideDot(a, b []float32) float64 {
	var sum float64
	for i, x := range a {
		sum += float64(x) * float64(b[i]) // exact, so fusing changes nothing
	}
	return sum
}

// norm is the Euclidean length; float64 holds the squares of every float32.
func norm(v []float32) float64 { return math.Sqrt(wideDot(v, v)) }

// saturate rounds to float32 and replaces what is not finite by the largest finite number.
func saturate(x float64) float32 {
	switch f := float32(x); {
	case f > math.MaxFloat32 || f != f: // NaN ranks last
		return math.MaxFloat32
	case f < -math.MaxFloat32:
		return -math.MaxFloat32
	default:
		return f
	}
}

// checkFinite names the first component that is NaN or infinite.
func checkFinite(v []float32) error {
	if i := slices.IndexFunc(v, func(x float32) bool { return x-x != 0 }); i >= 0 {
		return fmt.Errorf("component %d is %v, want a finite number", i, v[i])
	}
	return nil
}
