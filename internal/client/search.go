package client

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// SearchRequest asks for the K rows nearest to Vector, or to the row ID. Zero values are left out and mean the server's defaults.
type SearchRequest struct {
	Vector       Vector         `json:"vector,omitzero"`
	ID           string         `json:"id,omitzero"`
	K            int            `json:"k,omitzero"`
	Filter       jsontext.Value `json:"filter,omitzero"`
	Include      []string       `json:"include,omitzero"` // "metadata", "vector"
	Exact        bool           `json:"exact,omitzero"`
	TargetRecall float64        `json:"target_recall,omitzero"`
	NProbe       int            `json:"nprobe,omitzero"`
	Consistency  string         `json:"consistency,omitzero"` // "eventual", "latest", "strong"
	Token        string         `json:"token,omitzero"`
	TimeoutMS    int64          `json:"timeout_ms,omitzero"`

	ScoreThreshold *float64 `json:"score_threshold,omitzero"` // nil for any score
	GroupBy        string   `json:"group_by,omitzero"`        // a key of the metadata
	GroupSize      int      `json:"group_size,omitzero"`
	MaxStoreGets   *int64   `json:"max_store_gets,omitzero"` // nil for any number
}

// Result is one row found. Score is higher for better in cosine and dot; in l2 it is the Euclidean distance.
type Result struct {
	ID       string         `json:"id"`
	Score    float64        `json:"score"`
	Metadata jsontext.Value `json:"metadata,omitzero"`
	Vector   Vector         `json:"vector,omitzero"`
}

// Usage is what a search cost the server.
type Usage struct {
	Segments      int64   `json:"segments"`
	ListsProbed   int64   `json:"lists_probed"`
	CodesScanned  int64   `json:"codes_scanned"`
	Reranked      int64   `json:"reranked"`
	StoreGets     int64   `json:"store_gets"`
	StoreBytes    int64   `json:"store_bytes"`
	Rounds        int64   `json:"rounds"` // that had to wait for one another
	CacheHitRatio float64 `json:"cache_hit_ratio"`
	Cache         string  `json:"cache"` // "hot", "warm" or "cold"
}

// Group is the best results of those that have one value under the key that was grouped by, best first.
type Group struct {
	Value   jsontext.Value `json:"group"`
	Results []Result       `json:"results"`
}

// SearchResponse is the answer to a search, best result first: Results, or Groups where GroupBy was given.
type SearchResponse struct {
	Results         []Result `json:"results,omitzero"`
	Groups          []Group  `json:"groups,omitzero"`
	TookMS          float64  `json:"took_ms"`
	ManifestVersion int64    `json:"manifest_version"`
	Usage           Usage    `json:"usage"`

	// What the answer's headers say was given; "" and -1 in a batch, and from a server that does not say.
	Consistency string `json:"-"`
	StalenessMS int64  `json:"-"`
}

// Search finds the rows nearest to one query.
func (c *Client) Search(ctx context.Context, collection string, r SearchRequest) (SearchResponse, error) {
	response := SearchResponse{StalenessMS: -1}
	err := c.send(ctx, call{
		method: http.MethodPost, path: collectionPath(collection) + "/search", answer: &response,
		header: func(h http.Header) {
			response.Consistency = h.Get("X-AkiDB-Consistency")
			if ms, err := strconv.ParseInt(h.Get("X-AkiDB-Staleness-Ms"), 10, 64); err == nil {
				response.StalenessMS = ms
			}
		},
	}, r)
	return response, err
}

// SearchBatch answers several searches in one request, in their order.
func (c *Client) SearchBatch(ctx context.Context, collection string, searches []SearchRequest) ([]SearchResponse, error) {
	request := struct {
		Searches []SearchRequest `json:"searches"`
	}{searches}
	var answer struct {
		Responses []SearchResponse `json:"responses"`
	}
	err := c.send(ctx, call{method: http.MethodPost, path: collectionPath(collection) + "/search/batch", answer: &answer}, request)
	if err == nil && len(answer.Responses) != len(searches) {
		err = fmt.Errorf("search %q: %d answers to %d searches", collection, len(answer.Responses), len(searches))
	}
	for i := range answer.Responses {
		answer.Responses[i].StalenessMS = -1
	}
	return answer.Responses, err
}
