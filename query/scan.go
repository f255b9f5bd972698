package query

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/columns"
	"github.com/akidb/akidb/segments/ivfpq"
)

// gatherRows is how many rows an exact scan reads at a time.
const gatherRows = 1024

// scanExact scores every allowed row of a segment in float32.
func (r *run) scanExact(ctx context.Context, p part) error {
	r.usage.Reranked += p.count
	if p.allowed == nil || p.count > int(p.reader.Rows())/4 {
		return r.scanAll(ctx, p)
	}
	for rows := range slices.Chunk(p.allowed.ordinals(), gatherRows) {
		at := make([]segments.Location, len(rows))
		for i, o := range rows {
			at[i] = segments.Location{Segment: p.segment, Ordinal: o}
		}
		if err := r.score(ctx, at); err != nil {
			return err
		}
	}
	return nil
}

// scanAll reads the segment's vectors in order, which is cheaper than picking
// when many are wanted.
func (r *run) scanAll(ctx context.Context, p part) error {
	dim := len(r.search.vector)
	var vectors, distances []float32
	return p.reader.Scan(ctx, 0, p.reader.Rows(), columns.ProjectVector, func(first uint32, rows []columns.Row) error {
		vectors = vectors[:0]
		for _, row := range rows {
			vectors = append(vectors, row.Vector...)
		}
		distances = slices.Grow(distances[:0], len(rows))[:len(rows)]
		ivfpq.Distances(r.metric, r.search.vector, vectors[:len(rows)*dim], distances)
		for i, d := range distances {
			ordinal := first + uint32(i)
			if r.best.near(d) && (p.allowed == nil || p.allowed.contains(ordinal)) {
				r.best.add(hit{distance: d, at: segments.Location{Segment: p.segment, Ordinal: ordinal}})
			}
		}
		return ctx.Err()
	})
}

// score adds rows with their exact distances.
func (r *run) score(ctx context.Context, at []segments.Location) error {
	vectors, err := r.st.view.Vectors(ctx, at)
	if err != nil {
		return err
	}
	distances := make([]float32, len(at))
	ivfpq.Distances(r.metric, r.search.vector, vectors, distances)
	for i, d := range distances {
		r.best.add(hit{distance: d, at: at[i]})
	}
	return nil
}

// probing is one segment being searched through its index.
type probing struct {
	part
	query  *ivfpq.Query
	probes []ivfpq.Probe // lists with allowed rows, nearest first
	all    bool          // probes has every such list
	next   int           // probes not yet scanned start here
	budget int           // lists to scan before looking at what was found
}

// extend makes probes have every list with an allowed row.
func (p *probing) extend() {
	lists := p.reader.Router().Lists()
	p.probes, p.all = p.query.Probe(len(lists)), true
	if p.allowed != nil {
		p.probes = slices.DeleteFunc(p.probes, func(probe ivfpq.Probe) bool {
			return !ivfpq.Bitmap(p.allowed).Any(lists[probe.List])
		})
	}
}

// listScan is one list to scan.
type listScan struct {
	of    *probing
	probe ivfpq.Probe
}

// scanLists finds the nearest rows of segments through their lists, and scores
// the best candidates in float32.
func (r *run) scanLists(ctx context.Context, parts []part) error {
	if len(parts) == 0 {
		return nil
	}
	probings, depth, err := r.probe(parts)
	defer func() {
		for _, p := range probings {
			p.query.Release()
		}
	}()
	if err != nil {
		return err
	}
	wanted, lists := 0, 0
	for _, p := range probings {
		wanted += p.count
		lists += min(p.budget, len(p.probes))
	}
	wanted = min(wanted, r.search.k)
	r.stage("coarse", fmt.Sprintf("%d lists, %d candidates", lists, depth))
	candidates := ivfpq.NewCandidates(depth)
	data := map[segments.ListRef][]byte{}
	for found := -1; found < wanted; {
		scans := takeLists(probings)
		if len(scans) == 0 {
			break // every list with an allowed row was scanned
		}
		if err := r.scanRound(ctx, scans, data, candidates); err != nil {
			return err
		}
		found = len(candidates.Sorted())
	}
	r.stage("scan", fmt.Sprintf("%d codes", r.usage.CodesScanned))
	return r.refine(ctx, probings, candidates, data)
}

// probe prepares the query for every segment and chooses its lists.
func (r *run) probe(parts []part) (out []*probing, depth int, err error) {
	for _, p := range parts {
		router := p.reader.Router()
		q, err := router.Query(r.search.vector)
		if err != nil {
			return out, 0, err
		}
		q.Segment = uint32(p.segment)
		nprobe, want := router.Plan(r.search.targetRecall, r.search.k)
		if r.search.nprobe > 0 {
			nprobe = r.search.nprobe
		}
		probing := &probing{part: p, query: q, budget: nprobe}
		if p.allowed == nil {
			probing.probes = q.Probe(nprobe)
		} else {
			// The rarer the matches, the further they lie: look at more lists,
			// but never at one without any.
			share := float64(p.count) / float64(p.reader.Rows())
			probing.budget = int(math.Ceil(float64(nprobe) * min(8, 1/math.Sqrt(share))))
			probing.extend()
		}
		out = append(out, probing)
		// The pool is shared, so it has to be as deep as the segments' own would
		// be together: what crowds out a row in one is there in all.
		depth += want
	}
	return out, depth, nil
}

// takeLists returns the next lists of every segment, nearest first over all,
// and doubles the budgets for the round after.
func takeLists(probings []*probing) []listScan {
	var scans []listScan
	for _, p := range probings {
		if p.next+p.budget > len(p.probes) && !p.all {
			p.extend() // the first ones are the same again
		}
		end := min(p.next+max(p.budget, 1), len(p.probes))
		for _, probe := range p.probes[p.next:end] {
			scans = append(scans, listScan{p, probe})
		}
		p.budget, p.next = 2*(end-p.next), end
	}
	slices.SortFunc(scans, func(a, b listScan) int {
		return cmp.Or(cmp.Compare(a.probe.Distance, b.probe.Distance), cmp.Compare(a.of.segment, b.of.segment), cmp.Compare(a.probe.List, b.probe.List))
	})
	return scans
}

// scanRound fetches lists in one round and scans them, nearest first, under the
// one running threshold of candidates.
func (r *run) scanRound(ctx context.Context, scans []listScan, data map[segments.ListRef][]byte, candidates *ivfpq.Candidates) error {
	refs := make([]segments.ListRef, len(scans))
	for i, s := range scans {
		refs[i] = segments.ListRef{Segment: s.of.segment, List: s.probe.List}
	}
	lists, err := r.st.view.Lists(ctx, refs)
	if err != nil {
		return err
	}
	for i, s := range scans {
		if err := ctx.Err(); err != nil {
			return err
		}
		data[refs[i]] = lists[i]
		if err := s.of.query.ScanList(s.probe, lists[i], ivfpq.Bitmap(s.of.allowed), candidates); err != nil {
			return err
		}
		r.usage.ListsProbed++
		r.usage.CodesScanned += int(s.of.reader.Router().Lists()[s.probe.List].Count)
	}
	return nil
}

// refine sharpens the candidates with their refine codes and scores the best in
// float32.
func (r *run) refine(ctx context.Context, probings []*probing, candidates *ivfpq.Candidates, data map[segments.ListRef][]byte) error {
	bySegment := map[uint32]*probing{}
	for _, p := range probings {
		bySegment[uint32(p.segment)] = p
	}
	found := candidates.Sorted()
	slices.SortFunc(found, func(a, b ivfpq.Candidate) int {
		return cmp.Or(cmp.Compare(a.Segment, b.Segment), cmp.Compare(a.Ordinal, b.Ordinal))
	})
	for from := 0; from < len(found); {
		p := bySegment[found[from].Segment]
		router := p.reader.Router()
		list, ok := router.ListOf(found[from].Ordinal)
		if !ok {
			panic(fmt.Sprintf("BUG: candidate row %d of segment %d is in no list", found[from].Ordinal, p.segment))
		}
		l, to := router.Lists()[list], from
		for to < len(found) && found[to].Segment == found[from].Segment && found[to].Ordinal < l.First+l.Count {
			to++
		}
		if err := p.query.RefineList(list, data[segments.ListRef{Segment: p.segment, List: list}], found[from:to]); err != nil {
			return err
		}
		from = to
	}
	slices.SortFunc(found, ivfpq.Candidate.Compare)
	finalists := found[:min(len(found), ivfpq.Finish(r.search.k))]
	r.stage("refine", fmt.Sprintf("%d candidates", len(found)))
	at := make([]segments.Location, len(finalists))
	for i, c := range finalists {
		at[i] = segments.Location{Segment: int(c.Segment), Ordinal: c.Ordinal}
	}
	r.usage.Reranked += len(at)
	if err := r.score(ctx, at); err != nil {
		return err
	}
	r.stage("finish", fmt.Sprintf("%d rows", len(at)))
	return nil
}
