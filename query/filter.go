package query

import (
	"context"
	"crypto/sha256"

	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/columns"
)

// filterKey names the rows of a segment that match a filter. Neither changes,
// so an entry is never stale; whether a row still lives is not part of it.
type filterKey struct {
	segment string
	filter  [sha256.Size]byte
}

// filter is a parsed filter and the digest of its text, nil for none. The text
// itself may be as large as a request and is not kept.
type filter struct {
	*columns.Filter
	digest [sha256.Size]byte
}

// matches returns the rows of a segment that match f, dead ones included; nil
// for all, when there is no filter. It reads the metadata of every row once and
// remembers the result.
func (s *Service) matches(ctx context.Context, r *segments.Reader, f *filter) (rowSet, error) {
	if f == nil {
		return nil, nil
	}
	key := filterKey{r.Segment().ID, f.digest}
	if set, ok := s.filters.Get(key); ok {
		return set, nil
	}
	set := newSet(r.Rows())
	err := r.Scan(ctx, 0, r.Rows(), columns.ProjectID|columns.ProjectMetadata, func(first uint32, rows []columns.Row) error {
		for i, row := range rows {
			if f.Match(row.ID, row.Metadata) {
				set.add(first + uint32(i))
			}
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	s.filters.Add(key, set)
	return set, nil
}

// allowed returns the live rows of segment i that match f; nil for all rows.
func (s *Service) allowed(ctx context.Context, st *state, i int, f *filter) (rowSet, error) {
	live := rowSet(st.live[i].bitmap())
	set, err := s.matches(ctx, st.view.Segments[i].Reader, f)
	if err != nil || set == nil {
		return live, err
	}
	return set.and(live), nil
}
