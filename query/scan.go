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

// probing is the segments of one quantizer, being searched through their lists.
type probing struct {
	query  *ivfpq.Query
	parts  []part
	probes []ivfpq.Probe // lists worth scanning, nearest first
	all    bool          // probes has every such list
	next   int           // probes not yet scanned start here
	budget int           // lists to scan before looking at what was found
	depth  int           // candidates that the plans of the parts want
}

// extend makes probes have every list with an allowed row in one of the parts.
func (p *probing) extend() {
	p.probes, p.all = p.query.Probe(len(p.parts[0].reader.Postings().Lists())), true
	p.probes = slices.DeleteFunc(p.probes, func(probe ivfpq.Probe) bool {
		return !slices.ContainsFunc(p.parts, func(part part) bool { return part.holds(probe.List) })
	})
}

// holds reports whether a list of the part is worth reading. Where rows are
// filtered, those that are spilled to a list alone are not: they are found in
// their own.
func (p part) holds(list uint32) bool {
	l := p.reader.Postings().Lists()[list]
	if p.allowed == nil {
		return l.Count+l.Spilled > 0
	}
	return ivfpq.Bitmap(p.allowed).Any(l)
}

// listScan is one list to scan.
type listScan struct {
	of    *probing
	part  *part
	probe ivfpq.Probe
}

// fetched are the lists of one segment that a search has read.
type fetched map[uint32][]byte

// List implements ivfpq.ListData.
func (f fetched) List(list uint32) []byte { return f[list] }

// scanLists finds the nearest rows of segments through their lists, and scores
// the best candidates in float32.
func (r *run) scanLists(ctx context.Context, parts []part) error {
	if len(parts) == 0 {
		return nil
	}
	probings, err := r.probe(parts)
	defer func() {
		for _, p := range probings {
			p.query.Release()
		}
	}()
	if err != nil {
		return err
	}
	refine := make([]ivfpq.Part, len(r.st.view.Segments)) // by segment number
	wanted, lists, depth := 0, 0, 0
	for _, p := range probings {
		for _, part := range p.parts {
			wanted += part.count
			data := ivfpq.ListData(fetched{})
			if held := r.hold(part.segment); held != nil {
				data = held.Value
			}
			refine[part.segment] = ivfpq.Part{Query: p.query, Postings: part.reader.Postings(), Data: data}
		}
		lists += min(p.budget, len(p.probes))
		depth += p.depth
	}
	wanted = min(wanted, r.search.k)
	r.stage("coarse", fmt.Sprintf("%d lists, %d candidates", lists, depth))
	candidates := ivfpq.NewCandidates(depth)
	for found := -1; found < wanted; {
		scans := takeLists(probings)
		if len(scans) == 0 {
			break // every list with an allowed row was scanned
		}
		if err := r.scanRound(ctx, scans, refine, candidates); err != nil {
			return err
		}
		found = candidates.Count()
	}
	r.stage("scan", fmt.Sprintf("%d codes", r.usage.CodesScanned))
	return r.finalists(ctx, refine, candidates)
}

// probe prepares the query for every quantizer and chooses its lists.
func (r *run) probe(parts []part) (out []*probing, err error) {
	of := map[*ivfpq.Quantizer]*probing{}
	for _, part := range parts {
		postings := part.reader.Postings()
		z := postings.Quantizer()
		p := of[z]
		if p == nil {
			q, err := z.Query(r.search.vector)
			if err != nil {
				return out, err
			}
			p = &probing{query: q}
			of[z], out = p, append(out, p)
			q.Relate(out[0].query)
		}
		p.parts = append(p.parts, part)
		nprobe, depth := postings.Plan(r.search.targetRecall, r.search.k)
		if r.search.nprobe > 0 {
			nprobe = r.search.nprobe
		}
		// The pool is shared, so it has to be as deep as the segments' own would
		// be together: what crowds out a row in one is there in all.
		p.budget, p.depth = max(p.budget, nprobe), p.depth+depth
	}
	for _, p := range out {
		matches, rows, filtered := 0, 0, false
		for _, part := range p.parts {
			matches, rows = matches+part.count, rows+int(part.reader.Rows())
			filtered = filtered || part.allowed != nil
		}
		if !filtered {
			p.probes = p.query.Probe(p.budget)
			continue
		}
		// The rarer the matches, the further they lie: look at more lists, but
		// never at one without any.
		share := float64(matches) / float64(rows)
		p.budget = int(math.Ceil(float64(p.budget) * min(8, 1/math.Sqrt(share))))
		p.extend()
	}
	return out, nil
}

// takeLists returns the next lists of every quantizer in all of its segments,
// nearest first over all, and doubles the budgets for the round after.
func takeLists(probings []*probing) []listScan {
	var scans []listScan
	for _, p := range probings {
		if p.next+p.budget > len(p.probes) && !p.all {
			p.extend() // the first ones are the same again
		}
		end := min(p.next+max(p.budget, 1), len(p.probes))
		for _, probe := range p.probes[p.next:end] {
			for i := range p.parts {
				if part := &p.parts[i]; part.holds(probe.List) {
					scans = append(scans, listScan{p, part, probe})
				}
			}
		}
		p.budget, p.next = 2*(end-p.next), end
	}
	slices.SortFunc(scans, func(a, b listScan) int {
		return cmp.Or(cmp.Compare(a.probe.Distance, b.probe.Distance), cmp.Compare(a.part.segment, b.part.segment), cmp.Compare(a.probe.List, b.probe.List))
	})
	return scans
}

// scanRound fetches, in one round, the lists that are not in memory, and scans
// all of them, nearest first, under the one running limit of candidates.
func (r *run) scanRound(ctx context.Context, scans []listScan, refine []ivfpq.Part, candidates *ivfpq.Candidates) error {
	if err := r.fetch(ctx, scans, refine); err != nil {
		return err
	}
	for i, s := range scans {
		if i%scansBetweenLooks == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if i+1 < len(scans) {
			next := &scans[i+1]
			next.of.query.Prefetch(next.probe, next.part.reader.Postings(), refine[next.part.segment].Data.List(next.probe.List))
		}
		part := &refine[s.part.segment]
		if err := s.of.query.ScanList(s.probe, part.Postings, part.Data.List(s.probe.List), ivfpq.Bitmap(s.part.allowed), uint32(s.part.segment), candidates); err != nil {
			return err
		}
		l := part.Postings.Lists()[s.probe.List]
		r.usage.ListsProbed++
		r.usage.CodesScanned += int(l.Count + l.Spilled)
	}
	return nil
}

// scansBetweenLooks is how many lists, of a microsecond or a few each, are
// scanned between two looks at the deadline.
const scansBetweenLooks = 16

// fetch reads the lists that are not in memory.
func (r *run) fetch(ctx context.Context, scans []listScan, refine []ivfpq.Part) error {
	var refs []segments.ListRef
	for _, s := range scans {
		if r.resident(s.part.segment) == nil {
			refs = append(refs, segments.ListRef{Segment: s.part.segment, List: s.probe.List})
		}
	}
	if len(refs) == 0 {
		return ctx.Err()
	}
	lists, err := r.st.view.Lists(ctx, refs)
	if err != nil {
		return err
	}
	for i, ref := range refs {
		refine[ref.Segment].Data.(fetched)[ref.List] = lists[i]
	}
	return nil
}

// finalists sharpens the candidates with their refine codes and scores the best
// in float32.
func (r *run) finalists(ctx context.Context, refine []ivfpq.Part, candidates *ivfpq.Candidates) error {
	found := candidates.Count()
	keys, err := candidates.Finalists(r.search.k, refine)
	if err != nil {
		return err
	}
	r.stage("refine", fmt.Sprintf("%d candidates", found))
	at := make([]segments.Location, len(keys))
	for i, key := range keys {
		row := ivfpq.RowOf(key)
		at[i] = segments.Location{Segment: int(row.Segment), Ordinal: row.Ordinal}
	}
	r.usage.Reranked += len(at)
	if err := r.score(ctx, at); err != nil {
		return err
	}
	r.stage("finish", fmt.Sprintf("%d rows", len(at)))
	return nil
}
