package query

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/segments/columns"
)

const (
	// maxGroupSize bounds the rows of one group.
	maxGroupSize = 100
	// The first search of a grouped one looks for so many times as many rows as
	// are wanted, and for some more: rows of one group often lie together.
	groupFactor = 2
	groupExtra  = 32
	// Where those are of too few groups, growing numbers of rows are looked at, up
	// to so many. Beyond, rows of the groups that were found are left out by a
	// filter, which may have to read the metadata of all rows.
	groupRows   = 4096
	groupGrowth = 4
)

// grouping is how results are put into groups.
type grouping struct {
	key  columns.Key
	name string // of the key, as given
	size int    // most rows of a group
}

// parseGrouping reads group_by and group_size; nil without group_by.
func (s *Service) parseGrouping(by *string, size *int, k int) (*grouping, error) {
	switch {
	case by == nil && size == nil:
		return nil, nil
	case by == nil:
		return nil, httpapi.Unprocessable("group_size_alone", "group_size", "group_size is given without group_by")
	}
	g := &grouping{name: *by, size: 1}
	var err error
	if g.key, err = columns.ParseKey(*by); err != nil {
		return nil, httpapi.Unprocessable("invalid_group_by", "group_by", "group_by is %.80q, want a key like a.b: %v", *by, err)
	}
	if size != nil {
		g.size = *size
	}
	if g.size < 1 || g.size > maxGroupSize {
		return nil, httpapi.Unprocessable("out_of_range", "group_size", "group_size is %d, want 1 to %d", g.size, maxGroupSize)
	}
	if most := s.cfg.Limits.K; k*g.size > most {
		return nil, httpapi.Unprocessable("out_of_range", "group_size", "k is %d and group_size %d, want a product of at most %d", k, g.size, most)
	}
	return g, nil
}

// group is the best rows of one group, best first.
type group struct {
	value jsontext.Value
	name  string
	hits  []hit
}

// groups are those found so far.
type groups struct {
	*grouping
	byName map[string]*group
}

// add puts hits into their groups. Those that are there already change nothing.
func (g *groups) add(hits []hit) {
	for _, h := range hits {
		g.key.Values(h.metadata, func(v columns.KeyValue) bool {
			of := g.byName[v.Name]
			if of == nil {
				of = &group{value: bytes.Clone(v.JSON), name: v.Name}
				g.byName[v.Name] = of
			}
			of.add(h, g.size)
			return true
		})
	}
}

func compareHits(a, b hit) int {
	return cmp.Or(cmp.Compare(a.distance, b.distance), cmp.Compare(a.id, b.id))
}

// add keeps the best hits. Distances are exact, so that a row that is found
// again is equal to itself.
func (g *group) add(h hit, size int) {
	at, known := slices.BinarySearchFunc(g.hits, h, compareHits)
	if known || at == size {
		return
	}
	g.hits = slices.Insert(g.hits[:min(len(g.hits), size-1)], at, h)
}

// best returns the k best groups, by their best rows. Groups that share their
// best row are in order of value.
func (g *groups) best(k int) []*group {
	out := make([]*group, 0, len(g.byName))
	for _, of := range g.byName {
		out = append(out, of)
	}
	slices.SortFunc(out, func(a, b *group) int {
		return cmp.Or(compareHits(a.hits[0], b.hits[0]), cmp.Compare(a.name, b.name))
	})
	return out[:min(len(out), k)]
}

// rows is how many rows the first search of a grouped one looks for.
func (g *grouping) rows(k int) int { return groupFactor*k*g.size + groupExtra }

// rows is how many rows the answer has at most.
func (a *ask) rows() int {
	if a.group != nil {
		return a.k * a.group.size
	}
	return a.k
}

// finder answers searches on the state of one request.
type finder func(ctx context.Context, searches []search) ([][]hit, []*run, error)

// groupSearch goes on from the first search of a grouped one until k groups have
// group_size rows each, or no more rows match. Every further search adds to run
// what it cost.
func (a *ask) groupSearch(ctx context.Context, find finder, first []hit, run *run) ([]*group, error) {
	g := &groups{grouping: a.group, byName: map[string]*group{}}
	rows := g.rows(a.k)
	again := func(filter *filter) (all bool, err error) {
		next := a.search
		next.k, next.want.metadata, next.filter = rows, true, filter
		hits, runs, err := find(ctx, []search{next})
		if err != nil {
			return false, err
		}
		run.add(runs[0])
		g.add(hits[0])
		return len(hits[0]) < rows, nil
	}
	g.add(first)
	all := len(first) < rows
	narrowed := false // what is all was so of rows of groups not found before
	for len(g.byName) < a.k && !all {
		rows *= groupGrowth
		f := a.filter
		if narrowed = rows > groupRows; narrowed {
			var err error
			if f, err = a.filterGroups("except", g.best(len(g.byName))); err != nil {
				return nil, err
			}
		}
		var err error
		if all, err = again(f); err != nil {
			return nil, err
		}
	}
	complete := all && !narrowed
	for !complete {
		short := slices.DeleteFunc(g.best(a.k), func(of *group) bool { return len(of.hits) == g.size })
		if len(short) == 0 {
			break
		}
		// If so many rows are found, one of the groups has its own.
		rows = max(len(short)*g.size, groupExtra)
		f, err := a.filterGroups("any", short)
		if err != nil {
			return nil, err
		}
		if complete, err = again(f); err != nil {
			return nil, err
		}
	}
	return g.best(a.k), nil
}

// filterGroups is the filter of a with one more condition, on the values of
// some groups: that a row has "any" of them, or one that it has is none of
// them, "except".
func (a *ask) filterGroups(match string, of []*group) (*filter, error) {
	type condition struct {
		Key   string                      `json:"key"`
		Match map[string][]jsontext.Value `json:"match"`
	}
	values := make([]jsontext.Value, len(of))
	for i, g := range of {
		values[i] = g.value
	}
	must := []any{condition{a.group.name, map[string][]jsontext.Value{match: values}}}
	if a.filterText != nil {
		must = append(must, a.filterText)
	}
	text, err := json.Marshal(map[string]any{"must": must})
	if err != nil {
		return nil, fmt.Errorf("filter groups: %w", err)
	}
	limits := a.filterLimits // of which the client's filter may have used all
	limits.Clauses += 2
	limits.Depth++
	return newFilter(text, limits)
}

// add counts what a further search for the same answer cost.
func (r *run) add(more *run) {
	r.usage.again(more.usage)
	r.stages = append(r.stages, more.stages...)
}

// again counts what another search of the same segments cost, but for its reads
// of the store, which are counted for all that run together.
func (u *usage) again(more usage) {
	segments := max(u.Segments, more.Segments)
	u.add(more)
	u.Segments = segments
}
