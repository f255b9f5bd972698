package clienttest

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
)

// snapshot is a copy of the rows there were.
type snapshot struct {
	ID      string `json:"snapshot_id"`
	Name    string `json:"name,omitempty"`
	Version int    `json:"manifest_version"`
	Count   int    `json:"vector_count"`
	Created string `json:"created_at"`
	rows    map[string]row
}

func noSnapshot(name string) (int, any) {
	return 404, problem{Code: "snapshot_not_found", Message: fmt.Sprintf("no snapshot %q", name)}
}

// snapshot finds one by id, name or as the latest.
func (c *collection) snapshot(name string) *snapshot {
	for i, s := range c.snapshots {
		if s.ID == name || s.Name == name || name == "latest" && i == len(c.snapshots)-1 {
			return s
		}
	}
	return nil
}

// rowsAsOf are the rows of a snapshot, or those there are now.
func (c *collection) rowsAsOf(asOf string) (map[string]row, bool) {
	if asOf == "" {
		return c.rows, true
	}
	s := c.snapshot(asOf)
	if s == nil {
		return nil, false
	}
	return s.rows, true
}

func (s *Server) snapshotCreate(r *http.Request, body []byte) (int, any) {
	type request struct {
		Name   string `json:"name"`
		Export bool   `json:"export"`
	}
	v, p := decode[request](body)
	c := s.find(r)
	switch {
	case p != nil:
		return 400, *p
	case v.Name != "" && c.snapshot(v.Name) != nil:
		return 409, problem{Code: "name_taken", Message: fmt.Sprintf("snapshot %q exists", v.Name), Field: "name"}
	}
	c.taken++
	taken := &snapshot{
		ID: fmt.Sprintf("s-%d", c.taken), Name: v.Name, Version: c.taken + 1, Count: len(c.rows),
		Created: "2026-01-31T12:00:00Z", rows: maps.Clone(c.rows),
	}
	c.snapshots = append(c.snapshots, taken)
	return 201, taken
}

func (s *Server) snapshotList(r *http.Request, _ []byte) (int, any) {
	return 200, map[string]any{"snapshots": append([]*snapshot{}, s.find(r).snapshots...)}
}

func (s *Server) snapshotDelete(r *http.Request, _ []byte) (int, any) {
	c := s.find(r)
	gone := c.snapshot(r.PathValue("snapshot"))
	if gone == nil {
		return noSnapshot(r.PathValue("snapshot"))
	}
	c.snapshots = slices.DeleteFunc(c.snapshots, func(s *snapshot) bool { return s == gone })
	return 204, nil
}

func (s *Server) restore(r *http.Request, body []byte) (int, any) {
	type request struct {
		SnapshotID string `json:"snapshot_id"`
	}
	v, p := decode[request](body)
	if p != nil {
		return 400, *p
	}
	c := s.find(r)
	from := c.snapshot(v.SnapshotID)
	if from == nil {
		return noSnapshot(v.SnapshotID)
	}
	c.rows = maps.Clone(from.rows)
	return 200, map[string]any{"snapshot_id": from.ID, "vector_count": len(c.rows), "manifest_version": 9, "token": "1-9"}
}

func (s *Server) branch(r *http.Request, body []byte) (int, any) {
	type request struct {
		Name       string `json:"name"`
		SnapshotID string `json:"snapshot_id"`
	}
	v, p := decode[request](body)
	if p != nil {
		return 400, *p
	}
	from := s.find(r)
	rows, found := from.rowsAsOf(v.SnapshotID)
	switch {
	case !found:
		return noSnapshot(v.SnapshotID)
	case s.collections[v.Name] != nil:
		return 409, problem{Code: "name_taken", Message: fmt.Sprintf("collection %q exists", v.Name), Field: "name"}
	}
	s.created++
	made := &collection{
		ID: fmt.Sprintf("c-%d", s.created), Name: v.Name, Dimension: from.Dimension, Metric: from.Metric,
		Count: len(rows), rows: maps.Clone(rows),
	}
	s.collections[v.Name] = made
	return 201, made
}

// Snapshots are the names of a collection's snapshots, oldest first.
func (s *Server) Snapshots(name string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := []string{}
	for _, taken := range s.collections[name].snapshots {
		names = append(names, taken.Name)
	}
	return names
}
