package ivfpq

import (
	"math"
	"math/rand/v2"
	"testing"
)

func normals(random *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(random.NormFloat64())
	}
	return v
}

// wideScore is the score in float64.
func wideScore(m Metric, a, b []float32) float64 {
	var dot, aa, bb, square float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		dot, aa, bb, square = dot+x*y, aa+x*x, bb+y*y, square+(x-y)*(x-y)
	}
	switch {
	case m == L2:
		return math.Sqrt(square)
	case m == Dot:
		return dot
	case aa == 0 || bb == 0:
		return 0
	}
	return dot / math.Sqrt(aa) / math.Sqrt(bb)
}

func TestScoreAgainstFloat64(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for _, dim := range []int{1, 2, 7, 128, 1536} {
		for _, length := range []float32{1, 1e30, 1e-30, 1e-40, 3e37} {
			a, b := normals(random, dim), normals(random, dim)
			for i := range a {
				a[i] *= length
				b[i] *= length
			}
			for _, m := range metrics {
				got, want := float64(Score(m, a, b)), wideScore(m, a, b)
				want = min(max(want, -math.MaxFloat32), math.MaxFloat32)
				bound := 1e-5*math.Abs(want) + 1e-45
				if m == Dot {
					bound = min(1e-5*norm(a)*norm(b), 1e38) + 1e-45 // terms cancel
				}
				if m == Cosine {
					bound = 1e-5
				}
				if !(math.Abs(got-want) <= bound) {
					t.Errorf("%v dim %d length %v: got %v, want %v", m, dim, length, got, want)
				}
			}
		}
	}
}

func TestScoreOfZeroAndItself(t *testing.T) {
	zero, v := make([]float32, 3), []float32{1, -2, 2}
	for _, c := range []struct {
		metric Metric
		a, b   []float32
		want   float32
	}{
		{L2, v, v, 0}, {L2, zero, v, 3}, {Dot, v, v, 9}, {Dot, zero, v, 0},
		{Cosine, v, v, 1}, {Cosine, zero, v, 0}, {Cosine, v, zero, 0}, {Cosine, zero, zero, 0},
		{Cosine, v, []float32{-1, 2, -2}, -1},
	} {
		if got := Score(c.metric, c.a, c.b); got != c.want || math.Signbit(float64(got)) != (c.want < 0) {
			t.Errorf("%v of %v and %v: got %v, want %v", c.metric, c.a, c.b, got, c.want)
		}
	}
}

func TestMetricNamesAndOrder(t *testing.T) {
	for _, m := range metrics {
		if got, err := ParseMetric(m.String()); err != nil || got != m {
			t.Errorf("ParseMetric(%q) is %v, %v", m.String(), got, err)
		}
		near, far := m.ScoreOf(-0.5), m.ScoreOf(0.5)
		if !m.Better(near, far) || m.Better(far, near) || m.Better(near, near) {
			t.Errorf("%v: %v and %v are in the wrong order", m, near, far)
		}
	}
	for _, name := range []string{"", "L2", "euclid", "Metric(0)"} {
		if m, err := ParseMetric(name); err == nil {
			t.Errorf("ParseMetric(%q) is %v, want an error", name, m)
		}
	}
	if Metric(9).String() != "Metric(9)" || Kind(9).String() != "Kind(9)" {
		t.Error("an unknown number should show itself")
	}
}
