package ivfpq

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/akidb/akidb/kernels"
)

func floatAt(b []byte, at int) float32 {
	return math.Float32frombits(binary.LittleEndian.Uint32(b[at:]))
}

func halfAt(b []byte, at int) float32 {
	return kernels.Float32(binary.LittleEndian.Uint16(b[at:]))
}

// 33 rows of 16 dimensions around a centroid and origin of zero, and one row spilled to it: a header, three
// blocks of 4 · 16 + 128 bytes, one number, then 33 refine codes of 16 and their factors of 8.
func TestListLayoutGolden(t *testing.T) {
	p := Params{Dim: 16, Metric: L2, Codebook: Sign}
	z := testQuantizer(t, p, make([]float32, 16))
	l := List{First: 100, Count: 33, Spilled: 1}
	data := make([]byte, z.ListSize(l))
	if len(data) != 64+3*192+64+832 || z.ScanSize(l) != 64+3*192+64 {
		t.Fatalf("33 rows have %d bytes, %d of them to scan", len(data), z.ScanSize(l))
	}
	e, w := newEncoder(z), listWriter{shape: z.shape}
	w.begin(l, data)
	rows := map[int][16]float32{
		0:  {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1},
		16: {2, -2, 2, -2, -2, -2, -2, -2, 2, 2, 2, 2, -2, 2, -2, 2}, // nibbles 5 0 f a
		17: {},                                                       // the zero residual: all signs plus, factors 0
		32: {-1, -1, -1, 3, -1, -1, 3, -1, -1, 3, -1, -1, 3, -1, -1, -1},
	}
	for i, row := range rows {
		w.scan.put(i, 0, 0)
		add, res := e.scan(row[:], 0, 0, w.scan.nibbles(i))
		w.scan.put(i, add, res)
		scale, square := e.refine(row[:], 0, w.refineSlot(i))
		w.putRefineFactors(i, scale, square)
	}
	spilled := rows[16]
	add, res := e.scan(spilled[:], 0, 0, w.scan.nibbles(64))
	w.scan.put(64, add, res)
	w.spilled = append(w.spilled, 7)
	w.finish()
	const block, codes, factors = 64, 64 + 3*192 + 64, 64 + 3*192 + 64 + 33*16
	for at, want := range map[int]byte{
		8: 33, 12: 1, // header
		block: 0x5f, block + 16: 0x0f, block + 32: 0xff, block + 48: 0xaf, // byte 0 of each sub-quantizer: rows 0 and 16
		block + 1: 0xf0, block + 17: 0xf0, // byte 1: rows 1 (not written) and 17
		block + 192: 0x08, block + 208: 0x04, block + 224: 0x02, block + 240: 0x01, // block 1: row 32, nothing in row 48
		block + 384: 0x05, block + 400: 0, block + 416: 0x0f, block + 432: 0x0a, // block 2: the spilled row
		block + 576: 7, block + 577: 0, // which it is
		codes: 127, codes + 16*16: 127, codes + 16*16 + 1: 0x81, // refine codes of rows 0 and 16
		codes + 32*16: 0xd6, codes + 32*16 + 3: 127, // -1 of 3 is -42
	} {
		if data[at] != want {
			t.Errorf("byte %d is %#02x, want %#02x", at, data[at], want)
		}
	}
	// The largest factors are 64 and 4: times the scales they are just below 2^15.
	scales := [2]float32{floatAt(data, 0), floatAt(data, 4)}
	if scales != [2]float32{1.0 / 256, 1.0 / 4096} {
		t.Errorf("scales are %v", scales)
	}
	inf := float32(math.Inf(1))
	for at, want := range map[int]float32{
		block + 64: 16, block + 64 + 64: -2, // row 0: |r|² = 16, -2α = -2·16/16
		block + 64 + 2*16: 64, block + 128 + 2*16: -4, // row 16: |r|² = 64, α = 64/32
		block + 64 + 2*17: 0, block + 128 + 2*17: 0,
		block + 256: 48, block + 320: -4, // row 32: |r|² = 48, α = 48/24
		block + 256 + 2: inf, block + 256 + 2*31: inf, block + 320 + 2: 0, // padding
		block + 448: 64, block + 512: -4, block + 448 + 2: inf,
	} {
		scale := scales[(at-block)%192/128]
		if got := halfAt(data, at) * scale; got != want {
			t.Errorf("factor at byte %d is %v, want %v", at, got, want)
		}
	}
	for at, want := range map[int]float32{
		factors: 1.0 / 127, factors + 4: 16, // row 0: scale, |y|²
		factors + 8*17: 0, factors + 8*17 + 4: 0,
	} {
		if got := floatAt(data, at); math.Abs(float64(got-want)) > 1e-8 {
			t.Errorf("float at byte %d is %v, want %v", at, got, want)
		}
	}
}

// What a scan code was written as can be read back, as a merge does.
func TestScanCodesCanBeReadBack(t *testing.T) {
	random := rand.New(rand.NewPCG(42, 1))
	in, out := factorBlocks{subQuantizers: 8}, factorBlocks{subQuantizers: 8}
	in.reset(70)
	out.reset(70)
	for i := range 70 {
		for m := range in.nibbles(i) {
			in.nibbles(i)[m] = byte(random.IntN(16))
		}
		in.put(i, random.Float32()*1e6, -random.Float32())
	}
	data := make([]byte, in.size())
	scales := in.write(data)
	for i := range 70 {
		out.read(i, data, i, scales)
		if !slices.Equal(in.nibbles(i), out.nibbles(i)) || math.Abs(float64(in.add[i]-out.add[i])) > 1e6/2048 || math.Abs(float64(in.res[i]-out.res[i])) > 1.0/2048 {
			t.Fatalf("row %d: %v %v, read %v %v", i, in.add[i], in.res[i], out.add[i], out.res[i])
		}
	}
	again := make([]byte, out.size())
	if out.write(again); !slices.Equal(data, again) {
		t.Error("what was read is written differently")
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
	p := Params{Dim: dim, Metric: metric, Codebook: Sign}
	rx, rc, rq := make([]float32, CodeDim(dim)), make([]float32, CodeDim(dim)), make([]float32, CodeDim(dim))
	for trial := range trials {
		p.Seed = seed<<32 + uint64(trial)
		s := newSpace(p)
		s.rotate(rx, x, 1)
		s.rotate(rc, c, 1)
		s.rotate(rq, q, 1)
		z, err := newQuantizer(p, make([]float32, CodeDim(p.Dim)), slices.Clone(rc), gridCodes{}, nil)
		if err != nil {
			return err
		}
		e := newEncoder(z)
		fadd, fres := e.scan(rx, 0, 0, make([]byte, shapeOf(p.Dim).subQuantizers))
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
		est := anchor*estimate(float64(fadd), float64(fres), ip/anchor, square) + centre
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

// The estimates of a scan differ from those with an exact inner product only by the rounding of
// the table, for both codebooks.
func TestScanEstimatesWithinTheTablesRounding(t *testing.T) {
	const n, dim = 300, 64
	rows, queries := clustered(7, n, 1, dim, 4)
	for _, codebook := range []Codebook{Sign, Learned} {
		for _, metric := range metrics {
			c := newCorpus(t, rows, Config{Dim: dim, Metric: metric, Codebook: codebook, Seed: 9, Kind: IVF, Lists: 3})
			q, e := c.query(t, queries[:dim]), newEncoder(c.postings.Quantizer())
			y, codes := make([]float32, e.codeDim), make([]byte, e.subQuantizers)
			for _, p := range q.Probe(len(c.Lists)) {
				found := NewCandidates(2 * n)
				if err := q.ScanList(p, c.postings, c.list(p.List), nil, 5, found); err != nil {
					t.Fatal(err)
				}
				l := c.Lists[p.List]
				if len(found.keys) != int(l.Count+l.Spilled) {
					t.Fatalf("%v list %d: %d rows kept, want %d", metric, p.List, len(found.keys), l.Count+l.Spilled)
				}
				for i, key := range found.keys {
					row := RowOf(key)
					extra := e.load(y, c.vector(int(c.Order[row.Ordinal])))
					fadd, fres := e.scan(y, p.List, extra, codes)
					decoded := e.decoded
					if codebook == Sign {
						for j := range decoded {
							decoded[j] = float32(codes[j/4]>>(j%4)&1)*2 - 1
						}
					}
					want := float64(p.anchor)*float64(fadd) + float64(fres)*wideDot(decoded, q.vector) + float64(p.centre)
					got := float64(found.est[i])
					bound := math.Abs(float64(fres))*float64(q.rowTable().scale)*0.51*dim/4 +
						1e-3*(float64(p.anchor)*math.Abs(float64(fadd))+math.Abs(float64(fres)*wideDot(decoded, q.vector))) + 1e-5*math.Abs(float64(p.centre))
					if row.Segment != 5 || !(math.Abs(got-want) <= bound) {
						t.Errorf("%v %v row %d: estimate %v, want %v within %v", codebook, metric, row.Ordinal, got, want, bound)
					}
				}
			}
			q.Release()
		}
	}
}

// refineAll returns the refined estimate of every row of an index, by ordinal.
func refineAll(t *testing.T, c *corpus, q *Query) []float32 {
	t.Helper()
	all := NewCandidates(len(c.Order))
	for ordinal := range c.Order {
		all.add(0, keyOf(0, uint32(ordinal)))
	}
	if refined, err := all.refine([]Part{{q, c.postings, c.Index}}); err != nil || refined != len(c.Order) {
		t.Fatal(refined, err)
	}
	out := make([]float32, len(c.Order))
	for i, key := range all.keys {
		out[RowOf(key).Ordinal] = all.est[i]
	}
	return out
}

func TestRefinedEstimatesAreClose(t *testing.T) {
	const n, dim = 400, 96
	rows, queries := clustered(8, n, 1, dim, 4)
	for _, metric := range metrics {
		c := newCorpus(t, rows, Config{Dim: dim, Metric: metric, Seed: 9, Kind: Flat})
		q := c.query(t, queries[:dim])
		exact := make([]float32, n)
		Distances(metric, queries[:dim], rows, exact)
		var worst, spread float64
		for ordinal, est := range refineAll(t, c, q) {
			got, want := float64(est)*math.Ldexp(1, -q.exponent), float64(exact[c.Order[ordinal]])
			switch metric {
			case L2:
				got = math.Sqrt(got)
			case Cosine:
				got = got/2 - 1
			}
			worst = max(worst, math.Abs(got-want))
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
		// A vector that small beside the others of its segment has no code at all.
		if length > 1e-28 && math.Abs(dot/square-1) > 1e-6 {
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
		if err := q.ScanList(q.Probe(1)[0], c.postings, c.list(0), nil, 0, all); err != nil {
			t.Fatal(err)
		}
		refined := refineAll(t, c, q)
		for i, key := range all.keys {
			ordinal := RowOf(key).Ordinal
			if c.Order[ordinal] != 7 && name == "a query" {
				continue
			}
			if est, ref := float64(all.est[i])/2-1, float64(refined[ordinal])/2-1; math.Abs(est) > 0.2 || math.Abs(ref) > 0.02 {
				t.Errorf("%s and row %d: estimate %v, refined %v, want about 0", name, c.Order[ordinal], est, ref)
			}
		}
		q.Release()
	}
}
