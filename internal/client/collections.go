package client

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// NewCollection is what to create. Metric is "cosine", "l2" or "dot".
type NewCollection struct {
	Name      string         `json:"name"`
	Dimension int            `json:"dimension"`
	Metric    string         `json:"metric"`
	Config    jsontext.Value `json:"config,omitzero"`
}

// Collection is what the server says of one. Counts are of rows.
type Collection struct {
	ID              string    `json:"collection_id"`
	Name            string    `json:"name"`
	Dimension       int       `json:"dimension"`
	Metric          string    `json:"metric"`
	VectorCount     int64     `json:"vector_count"`
	UnindexedCount  int64     `json:"unindexed_count"`
	SegmentCount    int64     `json:"segment_count"`
	SizeBytes       int64     `json:"size_bytes"`
	Tier            string    `json:"tier"`
	ManifestVersion int64     `json:"manifest_version"`
	Seq             int64     `json:"seq"` // of the last write that is counted
	CreatedAt       time.Time `json:"created_at"`
}

// CreateCollection creates a collection. A 409 says that the name is taken, possibly by an attempt of this very call whose
// answer was lost; IsConflict tells.
func (c *Client) CreateCollection(ctx context.Context, n NewCollection) (Collection, error) {
	var created Collection
	err := c.send(ctx, call{effect: repeatable, method: http.MethodPost, path: "/collections", answer: &created}, n)
	return created, err
}

// GetCollection looks a collection up by name or id.
func (c *Client) GetCollection(ctx context.Context, collection string) (Collection, error) {
	var found Collection
	err := c.do(ctx, call{method: http.MethodGet, path: collectionPath(collection), answer: &found})
	return found, err
}

// GetCollectionAsOf is GetCollection for an earlier version, named as [ScrollRequest.AsOf] names it.
func (c *Client) GetCollectionAsOf(ctx context.Context, collection, asOf string) (Collection, error) {
	var found Collection
	err := c.do(ctx, call{method: http.MethodGet, path: collectionPath(collection) + "?as_of=" + url.QueryEscape(asOf), answer: &found})
	return found, err
}

// ListCollections lists every collection.
func (c *Client) ListCollections(ctx context.Context) ([]Collection, error) {
	var list struct {
		Collections []Collection `json:"collections"`
	}
	err := c.do(ctx, call{method: http.MethodGet, path: "/collections", answer: &list})
	return list.Collections, err
}

// DeleteCollection deletes a collection and everything in it. It is not repeated when its fate is unknown: by then another
// collection may have the name.
func (c *Client) DeleteCollection(ctx context.Context, collection string) error {
	return c.do(ctx, call{effect: once, method: http.MethodDelete, path: collectionPath(collection)})
}

// Flush makes the server write out what it holds in memory.
func (c *Client) Flush(ctx context.Context, collection string) error {
	return c.do(ctx, call{effect: repeatable, method: http.MethodPost, path: "/admin" + collectionPath(collection) + "/flush"})
}

func collectionPath(collection string) string { return "/collections/" + url.PathEscape(collection) }

// send does a call whose body is v as JSON.
func (c *Client) send(ctx context.Context, call call, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	call.body = body
	return c.do(ctx, call)
}
