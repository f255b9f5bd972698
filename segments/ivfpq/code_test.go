package ivfpq

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/akidb/akidb/kernels"
)

func floatAt(b []byte, at int) float32 {
	return math.Float32frombits(binary.LittleEndian.Uint32(b[at:]))
}

// 33 rows of 16 dimensions around a centroid and origin of zero: two blocks of 4 · 16 + 256
// bytes, then 33 refine codes of 24.
func TestBlockLayoutGolden(t *testing.T) {
	p := Params{Dim: 16, Metric: L2, Kind: Flat}
	e := newEncoder(newSpace(p), make([]float32, 16))
	data := make([]byte, ListSize(p, 33))
	e.begin(data, make([]float32, 16), 33)
	rows := map[int][16]float32{
		0:  {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1},
		16: {2, -2, 2, -2, -2, -2, -2, -2, 2, 2, 2, 2, -2, 2, -2, 2}, // nibbles 5 0 f a
		17: {},                                                       // the zero residual: all signs plus, factors 0
		32: {-1, -1, -1, 3, -1, -1, 3, -1, -1, 3, -1, -1, 3, -1, -1, -1},
	}
	for i, row := range rows {
		e.row(i, row[:], false)
	}
	if len(data) != 2*320+33*24 {
		t.Fatalf("33 rows have %d bytes, want %d", len(data), 2*320+33*24)
	}
	for at, want := range map[int]byte{
		0: 0x5f, 16: 0x0f, 32: 0xff, 48: 0xaf, // byte 0 of each sub-quantizer: rows 0 and 16
		1: 0xf0, 17: 0xf0, // byte 1: rows 1 (not written) and 17
		320: 0x08, 336: 0x04, 352: 0x02, 368: 0x01, // block 1: row 32, nothing in row 48
		640: 127, 640 + 16*24: 127, 640 + 16*24 + 1: 0x81, // refine codes of rows 0 and 16
		640 + 32*24: 0xd6, 640 + 32*24 + 3: 127, // -1 of 3 is -42
	} {
		if data[at] != want {
			t.Errorf("byte %d is %#02x, want %#02x", at, data[at], want)
		}
	}
	inf := float32(math.Inf(1))
	for at, want := range map[int]float32{
		64: 16, 64 + 128: -2, // row 0: |r|² = 16, -2α = -2·16/16
		64 + 4*16: 64, 64 + 128 + 4*16: -4, // row 16: |r|² = 64, α = 64/32
		64 + 4*17: 0, 64 + 128 + 4*17: 0,
		384: 48, 384 + 128: -4, // row 32: |r|² = 48, α = 48/24
		384 + 4: inf, 384 + 4*31: inf, 384 + 128 + 4: 0, // padding
		640 + 16: 1.0 / 127, 640 + 20: 16, // row 0: scale, |y|²
		640 + 17*24 + 16: 0, 640 + 17*24 + 20: 0,
	} {
		if got := floatAt(data, at); got != want {
			t.Errorf("float at byte %d is %v, want %v", at, got, want)
		}
	}
}

// An estimator turns the factors of a row and its inner product with the query into a distance.
type estimator func(fadd, fres, ip, square float64) float64

func fused(fadd, fres, ip, _ float64) float64 { return fadd + fres*ip }

// checkEstimator estimates one distance under many rotations. The mean error must be zero within
// four standard errors, and the deviation that of the theory: √((1-ρ²)/ρ²/(D-1)) · 2|r||q-c| with
// ρ² = 2/π (RaBitQ, theorem 3.2), halved for inner products.
func checkEstimator(metric Metric, dim int, seed uint64, estimate estimator) error {
	random := rand.New(rand.NewPCG(seed, 3))
	x, c, q := normals(random, dim), normals(random, dim), normals(random, dim)
	for i := range c {
		c[i] += 0.7 * x[i]
		q[i] += 0.5 * x[i]
	}
	const trials = 3000
	var sum, squares, expected, want float64
	p := Params{Dim: dim, Metric: metric, Kind: Flat}
	rx, rc, rq := make([]float32, CodeDim(dim)), make([]float32, CodeDim(dim)), make([]float32, CodeDim(dim))
	for trial := range trials {
		p.Seed = seed<<32 + uint64(trial)
		s := newSpace(p)
		s.rotate(rx, x, 1)
		s.rotate(rc, c, 1)
		s.rotate(rq, q, 1)
		data := make([]byte, ListSize(p, 1))
		e := newEncoder(s, make([]float32, CodeDim(dim)))
		e.begin(data, rc, 1)
		e.row(0, rx, false)
		anchor, centre := 1.0, 0.0
		if metric == Dot {
			anchor, centre = wideDot(rq, rc)/wideDot(rc, rc), -wideDot(rq, rc)
			want = -wideDot(q, x)
		}
		var ip, square, apart float64
		for j := range rx {
			r := float64(rx[j] - rc[j])
			ip += math.Copysign(float64(rq[j]), r) * math.Copysign(1, float64(rq[j]))
			square += r * r
			d := float64(rq[j]) - anchor*float64(rc[j])
			apart += d * d
		}
		if metric == L2 {
			centre = apart
			want = wideScore(L2, q, x) * wideScore(L2, q, x)
		}
		codes := CodeDim(dim) / 4 * 16
		est := anchor*estimate(float64(floatAt(data, codes)), float64(floatAt(data, codes+128)), ip/anchor, square) + centre
		sum += est - want
		squares += (est - want) * (est - want)
		expected = math.Sqrt((math.Pi/2-1)/float64(CodeDim(dim)-1)) * math.Sqrt(square*apart)
		if metric == L2 {
			expected *= 2
		}
	}
	mean, deviation := sum/trials, math.Sqrt(squares/trials)
	if bound := 4 * deviation / math.Sqrt(trials); math.Abs(mean) > bound {
		return fmt.Errorf("mean error %v, want 0 within %v", mean, bound)
	}
	if deviation > 1.25*expected {
		return fmt.Errorf("deviation %v, in theory at most %v", deviation, expected)
	}
	return nil
}

func TestEstimatorIsUnbiasedAndAsGoodAsItsTheory(t *testing.T) {
	for _, metric := range []Metric{L2, Dot} {
		for _, dim := range []int{32, 100, 128} {
			if err := checkEstimator(metric, dim, uint64(dim), fused); err != nil {
				t.Errorf("%v dim %d: %v", metric, dim, err)
			}
		}
	}
}

// The best least-squares scale of the signs is α·ρ²; it looks right and shrinks every inner
// product by a third.
func TestEstimatorCheckCatchesTheLeastSquaresScale(t *testing.T) {
	planted := func(fadd, fres, ip, square float64) float64 {
		return square + (fadd-square)*2/math.Pi + fres*2/math.Pi*ip
	}
	if err := checkEstimator(L2, 128, 1, planted); err == nil {
		t.Error("a biased estimator passed")
	}
}

// The estimates of a scan differ from those with an exact inner product only by the table's
// rounding.
func TestScanEstimatesWithinTheTablesRounding(t *testing.T) {
	const n, dim = 300, 64
	rows, queries := clustered(7, n, 1, dim, 4)
	for _, metric := range metrics {
		c := newCorpus(t, rows, Config{Dim: dim, Metric: metric, Seed: 9, Kind: IVF, Lists: 3})
		q := c.query(t, queries[:dim])
		q.Segment = 5
		for _, p := range q.Probe(len(c.Lists)) {
			found := NewCandidates(n)
			if err := q.ScanList(p, c.lists[p.List], nil, found); err != nil {
				t.Fatal(err)
			}
			l := c.Lists[p.List]
			if len(found.Sorted()) != int(l.Count) {
				t.Fatalf("%v list %d: %d rows kept, want %d", metric, p.List, len(found.Sorted()), l.Count)
			}
			centre, anchor := q.listTerms(p.List)
			for _, x := range found.Sorted() {
				row := int(x.Ordinal - l.First)
				block := c.lists[p.List][row/32*kernels.BlockSize(dim/4):]
				var ip float64
				for j, v := range q.centred {
					if block[j/4*16+row%16]>>(j%4+row%32/16*4)&1 != 0 {
						ip += float64(v)
					} else {
						ip -= float64(v)
					}
				}
				fadd, fres := floatAt(block, dim/4*16+row%32*4), floatAt(block, dim/4*16+128+row%32*4)
				want := float64(anchor)*float64(fadd) + float64(fres)*ip + float64(centre)
				got := q.limit(x.Distance)
				bound := math.Abs(float64(fres))*float64(q.lutScale)*0.51*dim/4 + 1e-5*(math.Abs(want)+math.Abs(float64(centre)))
				if x.Segment != 5 || !(math.Abs(got-want) <= bound) {
					t.Errorf("%v row %d: estimate %v, want %v within %v", metric, x.Ordinal, got, want, bound)
				}
			}
		}
		q.Release()
	}
}

func TestRefinedDistancesAreClose(t *testing.T) {
	const n, dim = 400, 96
	rows, queries := clustered(8, n, 1, dim, 4)
	for _, metric := range metrics {
		c := newCorpus(t, rows, Config{Dim: dim, Metric: metric, Seed: 9, Kind: Flat})
		q := c.query(t, queries[:dim])
		all := make([]Candidate, n)
		exact := make([]float32, n)
		Distances(metric, queries[:dim], rows, exact)
		for i := range all {
			all[i].Ordinal = uint32(n - 1 - i)
		}
		if err := q.RefineList(0, c.lists[0], all); err != nil {
			t.Fatal(err)
		}
		var worst, spread float64
		for _, x := range all {
			want := float64(exact[c.Order[x.Ordinal]])
			worst = max(worst, math.Abs(float64(x.Distance)-want))
			spread = max(spread, math.Abs(want-float64(exact[0])))
		}
		if worst > spread/50 {
			t.Errorf("%v: refined distances are off by up to %v of a spread of %v", metric, worst, spread)
		}
	}
}

func TestQuantizeInt8(t *testing.T) {
	random := rand.New(rand.NewPCG(9, 1))
	for _, length := range []float32{1, 1e30, 1e-30, 1e-44} {
		v := normals(random, 64)
		for i := range v {
			v[i] *= length
		}
		code := make([]int8, 64)
		scale := float64(quantizeInt8(v, code))
		var dot, square float64
		for i, x := range v {
			dot += float64(x) * float64(code[i]) * scale
			square += float64(x) * float64(x)
		}
		// The scale itself is a float32, and of few bits among the smallest.
		if length > 1e-38 && math.Abs(dot/square-1) > 1e-6 {
			t.Errorf("length %v: <v,code>·scale is %v of |v|²", length, dot/square)
		}
	}
	code := []int8{1, 2}
	if scale := quantizeInt8([]float32{0, 0}, code); scale != 0 || code[0] != 0 || code[1] != 0 {
		t.Errorf("zeros: got %v · %v", scale, code)
	}
}

// Under cosine a zero vector scores 0 with everything, and so must its estimates say.
func TestZeroVectorsUnderCosine(t *testing.T) {
	const n, dim = 200, 64
	rows, queries := clustered(10, n, 1, dim, 3)
	clear(rows[7*dim : 8*dim])
	c := newCorpus(t, rows, Config{Dim: dim, Metric: Cosine, Seed: 2, Kind: Flat, CalibrationQueries: 10})
	for name, query := range map[string][]float32{"a query": queries, "the zero query": make([]float32, dim)} {
		q := c.query(t, query)
		all := NewCandidates(n)
		if err := q.ScanList(Probe{}, c.lists[0], nil, all); err != nil {
			t.Fatal(err)
		}
		for _, x := range all.Sorted() {
			if c.Order[x.Ordinal] != 7 && name == "a query" {
				continue
			}
			refined := []Candidate{x}
			if err := q.RefineList(0, c.lists[0], refined); err != nil {
				t.Fatal(err)
			}
			if math.Abs(float64(x.Distance)) > 0.2 || math.Abs(float64(refined[0].Distance)) > 0.02 {
				t.Errorf("%s and row %d: estimate %v, refined %v, want about 0", name, c.Order[x.Ordinal], x.Distance, refined[0].Distance)
			}
		}
		q.Release()
	}
}
