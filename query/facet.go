package query

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/RoaringBitmap/roaring/v2"
	"golang.org/x/sync/errgroup"

	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/attributes"
	"github.com/akidb/akidb/segments/columns"
)

// tally is a value and how many rows have it. The key is valid until the next one
// is asked for.
type tally struct {
	key  string
	rows uint64
}

// facet counts the rows that match f by their values at key: the limit most
// frequent values, ties in order of values. A row counts once for every value it
// has. The values of a segment come in order, so that those of all are merged
// without being held.
func (s *Service) facet(ctx context.Context, st *state, f *filter, key columns.Key, limit int) ([]FacetHit, error) {
	allowed, err := s.allowed(ctx, st, f)
	if err != nil {
		return nil, err
	}
	by, err := openAttributes(ctx, st, key)
	if err != nil {
		return nil, err
	}
	if err := st.view.Preload(ctx, by.attributes); err != nil {
		return nil, err
	}
	counted := map[string]uint64{} // what no index has
	for _, r := range st.tailRows(f) {
		for _, k := range distinctKeys(key, r.metadata) {
			counted[k]++
		}
	}
	m := tallyMerge{ctx: ctx}
	defer m.stop()
	for i, seg := range st.view.Segments {
		rows := bitmapOf(allowed[i])
		if err := by.countOpen(ctx, i, seg.Reader, rows, key, counted); err != nil {
			return nil, err
		}
		if a := by.attributes[i]; a != nil {
			m.add(func(yield func(tally) bool) {
				if err := a.Each(ctx, segments.ScalarSpan, false, func(v attributes.Value) bool {
					n := v.Rows.CountIn(rows)
					return n == 0 || yield(tally{string(v.Key), uint64(n)})
				}); err != nil {
					m.err = err
				}
			})
		}
	}
	m.add(func(yield func(tally) bool) {
		for _, k := range slices.Sorted(maps.Keys(counted)) {
			if !yield(tally{k, counted[k]}) {
				return
			}
		}
	})
	top, err := m.top(limit)
	if err != nil {
		return nil, err
	}
	hits := make([]FacetHit, len(top))
	for i, t := range top {
		hits[i] = FacetHit{columns.AppendKeyJSON(nil, []byte(t.key)), t.rows}
	}
	return hits, nil
}

// byKey is what the segments of a state have of a key.
type byKey struct {
	attributes []*segments.Attribute // nil where there is nothing, or it is not known
	known      []bool
}

func openAttributes(ctx context.Context, st *state, key columns.Key) (byKey, error) {
	n := len(st.view.Segments)
	out := byKey{make([]*segments.Attribute, n), make([]bool, n)}
	g, ctx := errgroup.WithContext(ctx)
	for i, seg := range st.view.Segments {
		g.Go(func() (err error) {
			out.attributes[i], out.known[i], err = seg.Attribute(ctx, key)
			return err
		})
	}
	return out, g.Wait()
}

// open are the rows of a segment among rows, nil for all, whose values at the key
// the index does not have all of.
func (b byKey) open(ctx context.Context, segment int, r *segments.Reader, rows *roaring.Bitmap) (*roaring.Bitmap, error) {
	if rows == nil {
		rows = roaring.New()
		rows.AddRange(0, uint64(r.Rows()))
	}
	a := b.attributes[segment]
	switch {
	case !b.known[segment]:
		return rows, nil
	case a == nil || a.Long == 0:
		return roaring.New(), nil
	}
	long, err := a.In(ctx, segments.LongSpan)
	if err != nil {
		return nil, err
	}
	return roaring.And(long, rows), nil
}

// countOpen counts the values that only metadata tells.
func (b byKey) countOpen(ctx context.Context, segment int, r *segments.Reader, rows *roaring.Bitmap, key columns.Key, counted map[string]uint64) error {
	open, err := b.open(ctx, segment, r, rows)
	if err != nil || open.IsEmpty() {
		return err
	}
	return r.EachOf(ctx, open, columns.ProjectMetadata, func(_ uint32, row columns.Row) {
		for _, k := range distinctKeys(key, row.Metadata) {
			if !b.known[segment] || len(k) > 1+attributes.TextBytes { // the others are in the index
				counted[k]++
			}
		}
	})
}

// distinctKeys are the sort keys of a row's values at key, ascending.
func distinctKeys(key columns.Key, metadata []byte) []string {
	var out []string
	key.SortKeys(metadata, func(k []byte) bool { out = append(out, string(k)); return true })
	slices.Sort(out)
	return slices.Compact(out)
}

// tallyMerge merges tallies that come in order of keys.
type tallyMerge struct {
	ctx   context.Context
	heads []tally
	nexts []func() (tally, bool)
	stops []func()
	err   error // of a source
}

func (m *tallyMerge) add(seq iter.Seq[tally]) {
	next, stop := iter.Pull(seq)
	m.stops = append(m.stops, stop)
	if head, ok := next(); ok {
		m.heads, m.nexts = append(m.heads, head), append(m.nexts, next)
	}
}

func (m *tallyMerge) stop() {
	for _, stop := range m.stops {
		stop()
	}
}

// next returns the least key of all with its rows added up.
func (m *tallyMerge) next() (tally, bool) {
	if len(m.heads) == 0 {
		return tally{}, false
	}
	least := tally{key: m.heads[0].key}
	for _, h := range m.heads[1:] {
		least.key = min(least.key, h.key)
	}
	for i := 0; i < len(m.heads); {
		if m.heads[i].key != least.key {
			i++
			continue
		}
		least.rows += m.heads[i].rows
		head, ok := m.nexts[i]()
		if ok {
			m.heads[i] = head
			i++
			continue
		}
		m.heads, m.nexts = slices.Delete(m.heads, i, i+1), slices.Delete(m.nexts, i, i+1)
	}
	return least, true
}

// top returns the limit keys with the most rows, ties by key.
func (m *tallyMerge) top(limit int) ([]tally, error) {
	compare := func(a, b tally) int { return cmp.Or(cmp.Compare(b.rows, a.rows), strings.Compare(a.key, b.key)) }
	var out []tally
	cut := func() {
		slices.SortFunc(out, compare)
		out = out[:min(len(out), limit)]
	}
	for n := 1; ; n++ {
		t, ok := m.next()
		if !ok {
			break
		}
		if out = append(out, t); len(out) >= 2*limit+1024 {
			cut()
		}
		if n%4096 == 0 && m.ctx.Err() != nil {
			return nil, m.ctx.Err()
		}
	}
	cut()
	return out, m.err
}
