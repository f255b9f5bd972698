package query

import (
	"context"
	"fmt"

	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/columns"
	"github.com/akidb/akidb/segments/ivfpq"
)

// finish turns what a search has found into its answer.
//
// Rows that were found by their codes are scored in float32. In the same round
// of reads come the ids of all that may be in the answer, and, if the search
// waits for the store anyway, whatever else is wanted of them: reading it for a
// few rows too many costs less than another round. Where everything is at hand
// it is the other way about.
func (l *listSearch) finish(ctx context.Context) ([]hit, error) {
	r := l.run
	r.stage("scan", fmt.Sprintf("%d codes, %d rows", r.usage.CodesScanned, r.usage.Reranked))
	found, err := l.finalists()
	if err != nil {
		return nil, err
	}
	r.usage.Reranked += len(found)
	r.best.prune()
	ahead := r.waits()
	if err := r.readFinalists(ctx, found, ahead); err != nil {
		return nil, err
	}
	r.stage("finish", fmt.Sprintf("%d rows", len(found)))
	r.best.prune()
	hits := r.best.hits
	for i := range hits {
		if h := &hits[i]; !h.tail && r.resident(h.at.Segment) != nil {
			h.id = r.resident(h.at.Segment).ID(h.at.Ordinal)
		}
	}
	sortHits(hits)
	hits = hits[:min(len(hits), r.search.k)]
	if !ahead {
		if err := r.fill(ctx, hits); err != nil {
			return nil, err
		}
	}
	r.stage("rows", "")
	return hits, nil
}

// finalists sharpens the candidates with their refine codes and returns the best.
func (l *listSearch) finalists() ([]segments.Location, error) {
	if l.candidates == nil {
		return nil, nil
	}
	keys, err := l.candidates.Finalists(l.finishing(), l.refine)
	if err != nil {
		return nil, err
	}
	l.stage("refine", fmt.Sprintf("%d candidates", l.candidates.Count()))
	at := make([]segments.Location, len(keys))
	for i, key := range keys {
		row := ivfpq.RowOf(key)
		at[i] = segments.Location{Segment: int(row.Segment), Ordinal: row.Ordinal}
	}
	return at, nil
}

// readFinalists adds found with exact distances to the best, and gives those and
// the ones that were there their ids, but for segments in memory, which know
// them; all that is wanted of them too, if ahead.
func (r *run) readFinalists(ctx context.Context, found []segments.Location, ahead bool) error {
	scored, positions := inSegments(r.best.hits)
	at := append(found, scored...)
	want := make([]columns.Projection, len(r.st.view.Segments))
	for i, l := range at {
		if i < len(found) {
			want[l.Segment] |= columns.ProjectVector
		}
		if r.resident(l.Segment) == nil {
			want[l.Segment] |= columns.ProjectID
		}
		if ahead {
			want[l.Segment] |= r.search.want.columns()
		}
	}
	rows, err := r.st.view.RowsAtBySegment(ctx, at, func(segment int) columns.Projection { return want[segment] })
	if err != nil {
		return err
	}
	fill := func(h *hit, i int) {
		if rows.IDs != nil {
			h.id = rows.IDs[i]
		}
		if ahead {
			in := r.st.included(rows, i, r.search.want)
			h.metadata, h.vector, h.version = in.metadata, in.vector, in.version
		}
	}
	for i, pos := range positions {
		fill(&r.best.hits[pos], len(found)+i)
	}
	distances := make([]float32, len(found))
	if len(found) > 0 {
		ivfpq.Distances(r.metric, r.search.vector, rows.Vectors[:len(found)*len(r.search.vector)], distances)
	}
	for i, d := range distances {
		h := hit{distance: d, at: at[i]}
		fill(&h, i)
		r.best.add(h)
	}
	return nil
}

// inSegments returns where the hits lie that are not in the tail, and which
// they are.
func inSegments(hits []hit) (at []segments.Location, positions []int) {
	for i, h := range hits {
		if !h.tail {
			at = append(at, h.at)
			positions = append(positions, i)
		}
	}
	return at, positions
}

// fill adds what is wanted of the stored hits of an answer.
func (r *run) fill(ctx context.Context, hits []hit) error {
	at, stored := inSegments(hits)
	rows, err := r.st.readColumns(ctx, at, r.search.want)
	if err != nil {
		return err
	}
	for i, pos := range stored {
		hits[pos].metadata, hits[pos].vector, hits[pos].version = rows[i].metadata, rows[i].vector, rows[i].version
	}
	return nil
}

// finishing is the k for which enough candidates are scored in float32.
func (l *listSearch) finishing() int {
	for _, p := range l.probings {
		if p.far {
			return farFinish * l.search.k
		}
	}
	return l.search.k
}
