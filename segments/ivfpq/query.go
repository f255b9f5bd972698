package ivfpq

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/akidb/akidb/kernels"
)

const (
	scanBlocks   = 64 // blocks between two looks at the limit: 2048 rows
	scanRows     = scanBlocks * kernels.BlockRows
	refineBatch  = 256
	lengthLimit  = 1 << 40 // of a query in scaled space, under L2
	leastAnchor  = 1e-3    // an anchor is positive, so that a lower scan value is a lower estimate
	roundingSlop = 1e-6    // a few roundings of float32, relative to the largest term
)

// Query is one search vector prepared for one quantizer, and with it for all segments of an epoch.
// It is for one goroutine at a time and scans without allocating. Release it when done.
type Query struct {
	coarseSearch
	learned table // of the rows' codes, if their codebook is not the sign one

	constant float32 // of refined estimates: |q - origin|², or -<q,origin> under Dot
	origin   float32 // <q,origin> under Dot
	zero     bool    // a query without a direction, under Cosine
	exponent int     // of the unit of estimates: they are 2^exponent of the user's
	unit     float32 // from estimates to those of the query that this one was related to

	probes []Probe
	codes  []*byte // of candidates that are being refined
	refs   []refineRef
}

// Probe is a list worth scanning, in every segment of the quantizer.
type Probe struct {
	List     uint32
	Distance float32 // of its centroid, in the unit of estimates: the order of probing
	centre   float32 // estimate = anchor · scan + centre
	anchor   float32
}

// Query prepares a vector of Dim finite elements.
func (z *Quantizer) Query(vec []float32) (*Query, error) {
	if len(vec) != z.Dim {
		return nil, fmt.Errorf("prepare query: vector has %d elements, want %d", len(vec), z.Dim)
	}
	if err := checkFinite(vec); err != nil {
		return nil, fmt.Errorf("prepare query: %w", err)
	}
	q, ok := z.queries.Get().(*Query)
	if !ok {
		q = z.newQuery(newScratch(z))
	}
	q.prepare(vec)
	return q, nil
}

// Queries prepares many vectors, one after the other in vecs, for one goroutine that searches for
// all of them at once: it takes the lists in turn, each for every query that probes it while the
// list is in the processor's cache. Nobody releases them.
func (z *Quantizer) Queries(vecs []float32) ([]*Query, error) {
	if len(vecs)%z.Dim != 0 {
		return nil, fmt.Errorf("prepare queries: %d elements are no rows of %d", len(vecs), z.Dim)
	}
	if err := checkFinite(vecs); err != nil {
		return nil, fmt.Errorf("prepare queries: %w", err)
	}
	shared := newScratch(z)
	out := make([]*Query, len(vecs)/z.Dim)
	for i := range out {
		out[i] = z.newQuery(shared)
		out[i].prepare(vecs[i*z.Dim : (i+1)*z.Dim])
	}
	return out, nil
}

// Release gives the query's memory back. The query and what it returned must not be used any
// more.
func (q *Query) Release() {
	clear(q.codes[:cap(q.codes)]) // a pooled query keeps no list alive
	clear(q.refs[:cap(q.refs)])
	q.z.queries.Put(q)
}

func (z *Quantizer) newQuery(s *scratch) *Query {
	q := &Query{coarseSearch: newCoarseSearch(z, s)}
	if z.Codebook == Learned {
		q.learned.lut = make([]byte, len(q.sign.lut))
	}
	return q
}

func (q *Query) prepare(vec []float32) {
	z := q.z
	factor := q.chooseScale(vec)
	q.unit = 1
	z.rotate(q.vector, vec, factor)
	if z.Metric == Dot {
		q.origin = dot(q.vector, z.origin)
		q.constant = -q.origin
	} else {
		for i, o := range z.origin {
			q.vector[i] -= o
		}
		q.constant = dot(q.vector, q.vector)
		q.zero = factor == 0
		if q.zero {
			q.constant++ // see Quantizer.load
		}
	}
	q.begin()
	if z.Codebook == Learned {
		q.learned.scale, q.learned.bias = kernels.CodebookLUT(q.vector, z.entries, q.learned.lut)
	}
}

// chooseScale returns the factor that brings vec into the scaled space of the rows. Under Dot the
// query has a scale of its own: the order does not depend on it.
func (q *Query) chooseScale(vec []float32) float64 {
	length := norm(vec)
	switch q.z.Metric {
	case Cosine:
		q.exponent = 0
		if length == 0 {
			return 0
		}
		return 1 / length
	case Dot:
		exp := exponentOf(length)
		q.exponent = q.z.Exponent + exp
		return math.Ldexp(1, exp)
	}
	q.exponent = 2 * q.z.Exponent
	factor := math.Ldexp(1, q.z.Exponent)
	if scaled := length * factor; scaled > lengthLimit {
		// All rows are equally far as float32 can tell. Keep their order by direction.
		factor *= lengthLimit / scaled
	}
	return factor
}

// Relate makes the estimates of q comparable with those of another query of the same vector, for
// another quantizer.
func (q *Query) Relate(other *Query) {
	q.unit = float32(min(max(math.Ldexp(1, other.exponent-q.exponent), smallestUnit), largestUnit))
}

// Where quantizers differ by more than that, one sees the rows of the other as all in one place.
const (
	smallestUnit = 1e-20
	largestUnit  = 1e20
)

func dot(a, b []float32) float32 {
	var out [1]float32
	kernels.DotRows(a, b, out[:])
	return out[0]
}

// rowTable is the table that the rows' codes are looked up in.
func (q *Query) rowTable() *table {
	if q.z.Codebook == Learned {
		return &q.learned
	}
	return &q.sign
}

// Probe returns the n nearest lists, best first; ties by list. The slice belongs to the query
// and is valid until the next call.
func (q *Query) Probe(n int) []Probe {
	n = min(max(n, 0), q.z.Lists())
	var which []uint32
	if q.z.Metric != Dot {
		which = q.nearest(n, coarseFactor*n+coarseExtra)
	} else {
		// The signs of centroids, taken around the origin, say little about a product with a
		// query that is not.
		which = q.sharpen(q.all(), n+n/4+4, true)
	}
	exact := q.est[:len(which)]
	q.rank(which, exact)
	selectPairs(exact, which, n)
	q.probes = slices.Grow(q.probes[:0], n)[:n]
	for i := range q.probes {
		q.probes[i] = q.probe(which[i], exact[i])
	}
	slices.SortFunc(q.probes, compareProbes)
	return q.probes
}

// How many lists are chosen that are nearly as near as the nearest, and how near that is, as squared
// distances of centroids.
//
// Where rows lie in tight clusters one list has all ten neighbours of most queries, and is all that an
// average recall of 0.95 takes; a few queries lie where a cluster is divided, and miss half of theirs. Of
// 50 000 rows of 64 dimensions in 300 clusters, one list found 0.980, and 0.5 for one query in a hundred, in
// 256 codes; two lists 0.999 in 765; this rule 1.000, and 1.0, in 328. In wider clusters it found 0.995 in
// 528 codes, where two lists found 0.985 in 600. More than 1.5 finds no more.
const (
	nearLists  = 3
	nearFactor = 1.5
)

// Choose returns the lists to scan for a planned number: the n nearest, or more where others are nearly
// as near as the first of them. Under Dot a centroid has no distance to compare. The slice is as that of
// Probe.
func (q *Query) Choose(n int) []Probe {
	if n >= nearLists || q.z.Metric == Dot {
		return q.Probe(n)
	}
	probes := q.Probe(nearLists)
	n = min(max(n, 0), len(probes))
	for n < len(probes) && probes[n].Distance <= nearFactor*probes[0].Distance {
		n++
	}
	return probes[:n]
}

func compareProbes(a, b Probe) int {
	switch {
	case a.Distance < b.Distance:
		return -1
	case a.Distance > b.Distance:
		return 1
	}
	return int(a.List) - int(b.List)
}

// rank writes what probes are ordered by: |q-c|², or -<q,c>.
func (q *Query) rank(which []uint32, out []float32) {
	if q.z.Metric != Dot {
		kernels.L2Gather(q.vector, q.z.centroids, which, out)
		return
	}
	kernels.DotGather(q.vector, q.z.centroids, which, out)
	for i, x := range out {
		out[i] = -q.origin - x
	}
}

// probe completes a probe with what the estimates of a list share: estimate = anchor · scan +
// centre.
//
// Under L2 anchor is 1 and centre is |q-c|². Under Dot centre is -<q,c>, and anchor is the t of
// encoder.scan, the multiple of c that comes nearest to q: the noise of the estimate is
// proportional to |q - tc|, and so does not depend on how long the rows are.
func (q *Query) probe(list uint32, distance float32) Probe {
	p := Probe{List: list, centre: distance, anchor: 1}
	switch q.z.Metric {
	case Dot:
		p.anchor = leastAnchor
		if t := -distance / q.z.lengths[list]; t > leastAnchor { // false for 0/0
			p.anchor = min(t, 1/leastAnchor)
		}
	case Cosine:
		if q.zero {
			p.centre++ // see Quantizer.load
		}
	}
	p.Distance = p.centre * q.unit
	return p
}

// everyRow are masks that allow all rows.
var everyRow = func() (mask [scanBlocks]uint32) {
	for i := range mask {
		mask[i] = math.MaxUint32
	}
	return mask
}()

// ScanList estimates the allowed rows of a segment's list and adds those that may be among the
// best to out, stamped with the caller's number for the segment. data is the list's stored bytes,
// at least its scan codes. allowed has a bit for every row of the segment; nil allows all.
func (q *Query) ScanList(probe Probe, p *Postings, data []byte, allowed Bitmap, segment uint32, out *Candidates) error {
	fail := func(err error) error { return fmt.Errorf("scan list %d: %w", probe.List, err) }
	if p.quantizer != q.z || int(probe.List) >= len(p.lists) {
		return fail(fmt.Errorf("not one of the %d lists of the query's quantizer", len(p.lists)))
	}
	l := p.lists[probe.List]
	v, err := q.z.view(l, data)
	if err != nil {
		return fail(err)
	}
	if err := allowed.check(p.rows); err != nil {
		return fail(err)
	}
	s := listScan{Query: q, probe: probe, list: l, view: v, allowed: allowed, segment: segment, out: out, rows: p.rows}
	if !s.run() {
		return fail(fmt.Errorf("it has rows beyond its %d and %d spilled ones, or the %d of the segment", l.Count, l.Spilled, p.rows))
	}
	return nil
}

// Prefetch asks for what a scan of a list reads first, and what it reads out of order.
func (q *Query) Prefetch(probe Probe, p *Postings, data []byte) {
	l := p.lists[probe.List]
	if len(data) < q.z.ScanSize(l) || len(data) == 0 {
		return // ScanList will say so
	}
	kernels.Prefetch(data[:min(len(data), prefetchBytes)])
	if l.Spilled > 0 {
		end := q.z.ScanSize(l)
		kernels.Prefetch(data[end-aligned(4*int(l.Spilled)) : end])
	}
}

// prefetchBytes of a list are on their way before its scan begins; from then on the scan asks for
// more by itself.
const prefetchBytes = 1024

// listScan is one list being scanned.
type listScan struct {
	*Query
	probe   Probe
	list    List
	view    listView
	allowed Bitmap
	segment uint32
	rows    uint32 // of the segment
	out     *Candidates
}

// run reports false for a list that has rows which do not exist.
func (s *listScan) run() bool {
	z, t := s.z, s.rowTable()
	blockSize := z.blockSize
	add := s.view.scales[0]
	scan := kernels.Scan{
		Scale: t.scale * s.view.scales[1] / add / s.probe.anchor,
		Bias:  t.bias * s.view.scales[1] / add / s.probe.anchor,
	}
	slope := s.probe.anchor * add
	count := len(s.view.blocks) / blockSize
	for first := 0; first < count; {
		n := min(count-first, scanBlocks)
		if math.IsInf(float64(s.out.limit), 1) {
			// No limit yet: a part of the list finds one, where all rows of it would be kept.
			n = min(n, 2*s.out.depth/kernels.BlockRows+1)
		}
		mask, any := s.masks(first, n)
		if any {
			scan.Limit = s.scanLimit(slope)
			kept := kernels.Scan4(s.view.blocks[first*blockSize:(first+n)*blockSize], t.lut, scan, mask, s.est, s.Query.rows)
			if !s.keep(uint32(first*kernels.BlockRows), kept, slope) {
				return false
			}
		}
		first += n
	}
	return true
}

// masks are the rows of blocks that may be kept. A spilled row is looked up only if it is.
func (s *listScan) masks(first, n int) (mask []uint32, any bool) {
	own := blocks(s.list.Count)
	if s.allowed == nil {
		return everyRow[:n], true
	}
	mask = s.mask[:n]
	for i := range mask {
		mask[i] = math.MaxUint32
	}
	any = first+n > own
	if first < own {
		part := mask[:min(n, own-first)]
		start := uint32(first * kernels.BlockRows)
		any = s.allowed.masks(part, s.list.First+start, s.list.Count-start) || any
	}
	return mask, any
}

// keep adds what a scan kept, of positions from first on.
func (s *listScan) keep(first uint32, kept int, slope float32) bool {
	spill := uint32(s.list.spillStart())
	unit, centre, limit := s.unit, s.probe.centre, s.out.limit
	est, keys := s.out.room(kept)
	taken := 0
	base := keyOf(s.segment, 0)
	for i, e := range s.est[:kept] {
		position := first + s.Query.rows[i]
		ordinal := s.list.First + position
		if position >= spill {
			at := 4 * int(position-spill)
			if at >= len(s.view.spilled) {
				return false
			}
			ordinal = binary.LittleEndian.Uint32(s.view.spilled[at:])
			if ordinal >= s.rows {
				return false
			}
			if s.allowed != nil && s.allowed[ordinal/64]>>(ordinal%64)&1 == 0 {
				continue
			}
		} else if position >= s.list.Count {
			return false
		}
		e = (float32(slope*e) + centre) * unit
		est[taken], keys[taken] = e, base|uint64(ordinal)
		if e <= limit {
			taken++
		}
	}
	s.out.taken(taken)
	s.out.settle()
	return true
}

// scanLimit is the largest scan value that can still beat the limit of the candidates, a little
// enlarged, so that rounding never drops a row that they would keep.
func (s *listScan) scanLimit(slope float32) float32 {
	limit := float64(s.out.limit) / float64(s.unit)
	if math.IsInf(limit, 1) {
		return float32(limit)
	}
	centre := float64(s.probe.centre)
	slop := roundingSlop * (math.Abs(limit) + math.Abs(centre))
	return math.Nextafter32(saturate((limit-centre+slop)/float64(slope)), float32(math.Inf(1)))
}
