package ivfpq

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/akidb/akidb/kernels"
)

const (
	scanBlocks   = 64 // blocks between two looks at the threshold: 2048 rows
	scanRows     = scanBlocks * kernels.BlockRows
	refineBatch  = 256
	lengthLimit  = 1 << 40 // of a query in scaled space, under L2
	leastAnchor  = 1e-3    // an anchor is positive, so that a lower scan value is a lower estimate
	roundingSlop = 1e-6    // a few roundings of float32, relative to the largest term
)

// Query is one search vector prepared for one segment. It is for one goroutine at a time and
// scans without allocating. Release it when done.
type Query struct {
	// Segment is stamped on the candidates of this query. The caller chooses it.
	Segment uint32

	router   *Router
	rotated  []float32 // q, scaled and rotated
	centred  []float32 // what lut and code stand for: q - origin; q itself under Dot
	lut      []byte
	lutScale float32
	lutBias  float32
	code     []int8  // centred as int8
	scale    float32 // of code
	constant float32 // of refined estimates: |q - origin|², or -<q,origin> under Dot
	extra    float32 // 1 for a zero query under Cosine, see encoder.row
	unscale  float64 // from scaled distances to the user's
	shift    float64 // added to distances when a query beyond all measure was shortened

	distances []float32 // to each centroid
	near      []Candidate
	probes    []Probe
	est       []float32
	rows      []uint32
	mask      []uint32
	dots      []int32
}

// Probe is a list worth scanning.
type Probe struct {
	List     uint32
	Distance float32 // of its centroid, comparable between segments of one metric
}

// Query prepares a vector for this segment. The vector has Dim finite elements.
func (r *Router) Query(vec []float32) (*Query, error) {
	if len(vec) != r.Dim {
		return nil, fmt.Errorf("prepare query: vector has %d elements, want %d", len(vec), r.Dim)
	}
	if err := checkFinite(vec); err != nil {
		return nil, fmt.Errorf("prepare query: %w", err)
	}
	q, ok := r.queries.Get().(*Query)
	if !ok {
		q = r.newQuery()
	}
	q.prepare(vec)
	return q, nil
}

// Release gives the query's memory back to its router. The query and what it returned must not
// be used any more.
func (q *Query) Release() { q.router.queries.Put(q) }

func (r *Router) newQuery() *Query {
	return &Query{
		router:    r,
		rotated:   make([]float32, r.codeDim),
		centred:   make([]float32, r.codeDim),
		lut:       make([]byte, r.codeDim/dimsPerCode*kernels.LUTEntries),
		code:      make([]int8, r.codeDim),
		distances: make([]float32, len(r.lists)),
		near:      make([]Candidate, len(r.lists)),
		probes:    make([]Probe, len(r.lists)),
		est:       make([]float32, scanRows),
		rows:      make([]uint32, scanRows),
		mask:      make([]uint32, scanBlocks),
		dots:      make([]int32, refineBatch),
	}
}

func (q *Query) prepare(vec []float32) {
	q.Segment = 0
	r := q.router
	r.rotate(q.rotated, vec, q.chooseScale(vec))
	copy(q.centred, q.rotated)
	q.constant = 0
	if r.Metric == Dot {
		q.constant = -dot(q.rotated, r.origin)
	} else {
		for i, o := range r.origin {
			q.centred[i] -= o
		}
		q.constant = dot(q.centred, q.centred) + q.extra
	}
	q.lutScale, q.lutBias = kernels.SignLUT(q.centred, q.lut)
	q.scale = quantizeInt8(q.centred, q.code)
}

// chooseScale returns the factor that brings vec into the scaled space of the rows and sets what
// undoes it. Under Dot the query has a scale of its own: the order does not depend on it.
func (q *Query) chooseScale(vec []float32) float64 {
	length := norm(vec)
	q.extra, q.shift = 0, 0
	switch q.router.Metric {
	case Cosine:
		if length == 0 {
			q.extra = 1
			return 0
		}
		return 1 / length
	case Dot:
		exp := exponentOf(length)
		q.unscale = math.Ldexp(1, -q.router.Exponent-exp)
		return math.Ldexp(1, exp)
	}
	factor := math.Ldexp(1, q.router.Exponent)
	q.unscale = 1 / factor
	if scaled := length * factor; scaled > lengthLimit {
		// All rows are equally far as float32 can tell. Keep their order by direction, and
		// the distance.
		q.shift = (scaled - lengthLimit) * q.unscale
		factor *= lengthLimit / scaled
	}
	return factor
}

func dot(a, b []float32) float32 {
	var out [1]float32
	kernels.DotRows(a, b, out[:])
	return out[0]
}

// distance turns a scaled estimate (of a squared distance, or of a negative inner product) into
// a distance. It rises with the estimate, is finite, and below 0 where noise took an L2 estimate
// there.
func (q *Query) distance(est float32) float32 {
	wide := float64(est)
	switch q.router.Metric {
	case L2:
		return saturate(math.Copysign(math.Sqrt(math.Abs(wide)), wide)*q.unscale + q.shift)
	case Cosine:
		return saturate(wide/2 - 1)
	default:
		return saturate(wide * q.unscale)
	}
}

// limit is the inverse of distance, for a threshold.
func (q *Query) limit(distance float32) float64 {
	wide := float64(distance)
	switch {
	case distance >= math.MaxFloat32 || q.shift != 0:
		return math.Inf(1)
	case q.router.Metric == L2:
		wide /= q.unscale
		return wide * math.Abs(wide)
	case q.router.Metric == Cosine:
		return 2 * (wide + 1)
	default:
		return wide / q.unscale
	}
}

// Probe returns the n nearest lists, best first; ties by list. The slice belongs to the query
// and is valid until the next call.
func (q *Query) Probe(n int) []Probe {
	r := q.router
	if len(r.lists) == 0 {
		return nil
	}
	if r.Metric == Dot {
		kernels.DotRows(q.rotated, r.centroids, q.distances)
	} else {
		kernels.L2Rows(q.rotated, r.centroids, q.distances)
	}
	for i, d := range q.distances {
		if r.Metric == Dot {
			d = -d
		}
		q.near[i] = Candidate{Distance: q.distance(d), Ordinal: uint32(i)}
	}
	n = min(max(n, 0), len(q.near))
	selectBest(q.near, n)
	slices.SortFunc(q.near[:n], Candidate.Compare)
	for i, c := range q.near[:n] {
		q.probes[i] = Probe{List: c.Ordinal, Distance: c.Distance}
	}
	return q.probes[:n]
}

// ScanList estimates the allowed rows of a list and adds those that may be among the best to
// out. data is the list's stored bytes, at least its scan codes (CodeSize). allowed has a bit
// for every row of the segment; nil allows all.
func (q *Query) ScanList(list Probe, data []byte, allowed Bitmap, out *Candidates) error {
	r := q.router
	if int(list.List) >= len(r.lists) {
		return fmt.Errorf("scan list %d: the index has %d", list.List, len(r.lists))
	}
	l := r.lists[list.List]
	if size := CodeSize(r.Params, int(l.Count)); len(data) != size && len(data) != ListSize(r.Params, int(l.Count)) {
		return fmt.Errorf("scan list %d: got %d bytes, want %d, or %d with refine codes", list.List, len(data), size, ListSize(r.Params, int(l.Count)))
	}
	if err := allowed.check(r.rows); err != nil {
		return fmt.Errorf("scan list %d: %w", list.List, err)
	}
	centre, anchor := q.listTerms(list.List)
	blockSize := kernels.BlockSize(r.codeDim / dimsPerCode)
	for first := uint32(0); first < l.Count; first += scanRows {
		count := min(l.Count-first, scanRows)
		mask := q.mask[:(count+kernels.BlockRows-1)/kernels.BlockRows]
		if !allowed.masks(mask, l.First+first, count) {
			continue
		}
		start := int(first) / kernels.BlockRows * blockSize
		scan := kernels.Scan{Scale: q.lutScale / anchor, Bias: q.lutBias / anchor, Limit: q.scanLimit(out.Threshold(), centre, anchor)}
		kept := kernels.Scan4(data[start:start+len(mask)*blockSize], q.lut, scan, mask, q.est, q.rows)
		for i, est := range q.est[:kept] {
			d := q.distance(float32(anchor*est) + centre)
			out.Add(Candidate{Distance: d, Segment: q.Segment, Ordinal: l.First + first + q.rows[i]})
		}
	}
	return nil
}

// listTerms returns what the estimates of a list share: estimate = anchor · scan + centre.
//
// Under L2 anchor is 1 and centre is |q-c|². Under Dot centre is -<q,c>, and anchor is the t of
// encoder.scan, the multiple of c that comes nearest to q: the noise of the estimate is
// proportional to |q - tc|, and so does not depend on how long the rows are.
func (q *Query) listTerms(list uint32) (centre, anchor float32) {
	r := q.router
	centroid := r.centroids[int(list)*r.codeDim : (int(list)+1)*r.codeDim]
	if r.Metric != Dot {
		var out [1]float32
		kernels.L2Rows(q.rotated, centroid, out[:])
		return out[0] + q.extra, 1
	}
	product, square := dot(q.rotated, centroid), dot(centroid, centroid)
	anchor = leastAnchor
	if t := product / square; t > leastAnchor { // false for 0/0
		anchor = min(t, 1/leastAnchor)
	}
	return -product, anchor
}

// scanLimit is the largest scan value that can still beat the threshold, a little enlarged, so
// that rounding never drops a row that Candidates would keep.
func (q *Query) scanLimit(threshold, centre, anchor float32) float32 {
	limit := q.limit(threshold)
	if math.IsInf(limit, 1) {
		return float32(limit)
	}
	slop := roundingSlop * (math.Abs(limit) + math.Abs(float64(centre)))
	return math.Nextafter32(float32((limit-float64(centre)+slop)/float64(anchor)), float32(math.Inf(1)))
}

// RefineList replaces the estimated distances of candidates by those of the refine codes. All of
// them are rows of the list; data is its stored bytes.
func (q *Query) RefineList(list uint32, data []byte, candidates []Candidate) error {
	r := q.router
	if int(list) >= len(r.lists) {
		return fmt.Errorf("refine list %d: the index has %d", list, len(r.lists))
	}
	l := r.lists[list]
	if want := ListSize(r.Params, int(l.Count)); len(data) != want {
		return fmt.Errorf("refine list %d: got %d bytes, want %d", list, len(data), want)
	}
	codes, stride := data[CodeSize(r.Params, int(l.Count)):], RefineStride(r.Params)
	for len(candidates) > 0 {
		batch := candidates[:min(len(candidates), refineBatch)]
		candidates = candidates[len(batch):]
		rows, dots := q.rows[:len(batch)], q.dots[:len(batch)]
		for i, c := range batch {
			if c.Ordinal-l.First >= l.Count { // also when Ordinal is less: it wraps
				return fmt.Errorf("refine list %d: row %d, want %d..%d", list, c.Ordinal, l.First, uint64(l.First)+uint64(l.Count))
			}
			rows[i] = c.Ordinal - l.First
		}
		kernels.Dot8Gather(q.code, codes, stride, rows, dots)
		for i, row := range rows {
			factors := codes[int(row)*stride+r.codeDim:]
			scale := math.Float32frombits(binary.LittleEndian.Uint32(factors))
			square := math.Float32frombits(binary.LittleEndian.Uint32(factors[4:]))
			batch[i].Distance = q.distance(q.refined(dots[i], scale, square))
		}
	}
	return nil
}

// refined is |y|² + |q-o|² - 2<y,q-o>, or -<q,o> - <q,y> under Dot, with y = x - o.
func (q *Query) refined(dot int32, scale, square float32) float32 {
	product := float32(float32(q.scale*scale) * float32(dot))
	if q.router.Metric == Dot {
		return q.constant - product
	}
	return square + q.constant - 2*product
}
