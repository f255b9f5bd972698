package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// NewSnapshot is what to take. Name may be "". Export has the server write a Parquet file into the object store too.
type NewSnapshot struct {
	Name   string `json:"name,omitzero"`
	Export bool   `json:"export,omitzero"`
}

// Snapshot is a version of a collection that is kept. VectorCount is of its rows.
type Snapshot struct {
	ID              string    `json:"snapshot_id"`
	Name            string    `json:"name,omitzero"`
	ManifestVersion int64     `json:"manifest_version"`
	VectorCount     int64     `json:"vector_count"`
	CreatedAt       time.Time `json:"created_at"`
}

// Restored is the answer to a restore. Token makes a later read see the restored rows.
type Restored struct {
	SnapshotID      string `json:"snapshot_id"`
	VectorCount     int64  `json:"vector_count"`
	ManifestVersion int64  `json:"manifest_version"`
	Token           string `json:"token"`
}

// CreateSnapshot keeps the rows as they are. It is not repeated when its fate is unknown: there would be two.
func (c *Client) CreateSnapshot(ctx context.Context, collection string, n NewSnapshot) (Snapshot, error) {
	var taken Snapshot
	err := c.send(ctx, call{effect: once, method: http.MethodPost, path: snapshotsPath(collection), answer: &taken}, n)
	return taken, err
}

// ListSnapshots lists a collection's snapshots, oldest first.
func (c *Client) ListSnapshots(ctx context.Context, collection string) ([]Snapshot, error) {
	var list struct {
		Snapshots []Snapshot `json:"snapshots"`
	}
	err := c.do(ctx, call{method: http.MethodGet, path: snapshotsPath(collection), answer: &list})
	return list.Snapshots, err
}

// DeleteSnapshot gives up a snapshot, by id, name or "latest". It is not repeated when its fate is unknown: by then "latest", or
// the name, may be another one's.
func (c *Client) DeleteSnapshot(ctx context.Context, collection, snapshot string) error {
	return c.do(ctx, call{effect: once, method: http.MethodDelete, path: snapshotsPath(collection) + "/" + url.PathEscape(snapshot)})
}

// Restore makes the rows those of a snapshot, by id, name or "latest". It is not repeated when its fate is unknown: it would undo
// what was written in between.
func (c *Client) Restore(ctx context.Context, collection, snapshot string) (Restored, error) {
	request := struct {
		SnapshotID string `json:"snapshot_id"`
	}{snapshot}
	var restored Restored
	err := c.send(ctx, call{effect: once, method: http.MethodPost, path: "/admin" + collectionPath(collection) + "/restore", answer: &restored}, request)
	return restored, err
}

// Branch makes a collection that begins as another one is, or as its snapshot was if that is not "".
func (c *Client) Branch(ctx context.Context, collection, name, snapshot string) (Collection, error) {
	request := struct {
		Name       string `json:"name"`
		SnapshotID string `json:"snapshot_id,omitzero"`
	}{name, snapshot}
	var made Collection
	err := c.send(ctx, call{effect: once, method: http.MethodPost, path: "/admin" + collectionPath(collection) + "/branch", answer: &made}, request)
	return made, err
}

func snapshotsPath(collection string) string {
	return "/admin" + collectionPath(collection) + "/snapshots"
}
