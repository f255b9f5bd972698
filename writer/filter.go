package writer

import (
	"context"
	"fmt"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/internal/memtable"
	"github.com/akidb/akidb/segments/columns"
)

// deleteMatching deletes the rows that filter holds for as of the moment it
// begins. It goes in records of at most BatchRows rows, each of which is atomic,
// but not together: when it fails between two, some rows are gone and some are
// not, and repeating it deletes the rest. A row that is written while it runs
// is deleted only if its new version matches too; one that begins to match
// meanwhile is not.
func (c *collection) deleteMatching(ctx context.Context, filter *columns.Filter, req request) (answer, error) {
	if err := c.online(); err != nil {
		return answer{}, err
	}
	ids, err := c.state().matching(ctx, filter)
	if err != nil {
		return answer{}, fmt.Errorf("filter collection %q: %w", c.meta.Name, err)
	}
	d := deletion{matches: filter.Match, request: req}
	for rest := ids; ; {
		n := min(len(rest), c.w.cfg.Limits.BatchRows)
		d.ids, rest = rest[:n], rest[n:]
		d.partial = len(rest) > 0
		a, err := c.deleteIDs(ctx, d)
		switch {
		case err != nil && d.already > 0:
			return answer{}, asWriteError(err).WithApplied(httpapi.UnknownApplied).
				WithHint("%d of at most %d rows were deleted; repeat the request to delete the rest", d.already, len(ids))
		case err != nil || !d.partial:
			return a, err
		}
		d.already = a.affected
	}
}

// matching returns the ids of the rows that filter holds for.
func (s state) matching(ctx context.Context, filter *columns.Filter) ([]string, error) {
	projection := columns.ProjectID
	if filter.NeedsMetadata() {
		projection |= columns.ProjectMetadata
	}
	var ids []string
	err := s.view.Rows(ctx, projection, func(rows []columns.Row) error {
		for _, r := range rows {
			if _, newer := s.newest(r.ID); !newer && filter.Match(r.ID, r.Metadata) {
				ids = append(ids, r.ID)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.each(func(op memtable.Op) {
		if !op.Delete && filter.Match(op.ID, op.Metadata) {
			ids = append(ids, op.ID)
		}
	})
	return ids, nil
}
