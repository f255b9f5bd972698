package clienttest

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"math"
	"net/http"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

type searchRequest struct {
	Vector       string         `json:"vector"`
	ID           string         `json:"id"`
	K            int            `json:"k"`
	Filter       jsontext.Value `json:"filter,omitzero"`
	Include      []string       `json:"include"`
	Exact        bool           `json:"exact"`
	TargetRecall float64        `json:"target_recall"`
	NProbe       int            `json:"nprobe"`
	Consistency  string         `json:"consistency"`
	Token        string         `json:"token"`
	TimeoutMS    int            `json:"timeout_ms"`
}

func (s *Server) search(r *http.Request, body []byte) (int, any) {
	v, p := decode[searchRequest](body)
	if p != nil {
		return 400, *p
	}
	return s.answer(s.find(r), v)
}

func (s *Server) searchBatch(r *http.Request, body []byte) (int, any) {
	type request struct {
		Searches []searchRequest `json:"searches"`
	}
	v, p := decode[request](body)
	if p != nil {
		return 400, *p
	}
	responses := []any{}
	for _, one := range v.Searches {
		status, answer := s.answer(s.find(r), one)
		if status != 200 {
			return status, answer
		}
		responses = append(responses, answer)
	}
	return 200, map[string]any{"responses": responses}
}

func (s *Server) answer(c *collection, v searchRequest) (int, any) {
	raw, err := base64.StdEncoding.DecodeString(v.Vector)
	query := floats(raw)
	if v.ID != "" {
		stored, ok := c.rows[v.ID]
		if !ok {
			return 404, problem{Code: "vector_not_found", Message: fmt.Sprintf("no vector %q", v.ID), Field: "id"}
		}
		query = stored.Vector
	}
	if err != nil || len(query) != c.Dimension {
		return 422, problem{Code: "dimension_mismatch", Field: "vector", Message: fmt.Sprintf("vector has %d values; collection %q needs %d", len(query), c.Name, c.Dimension)}
	}
	results := make([]Result, 0, len(c.rows))
	for _, found := range sorted(c.rows) {
		one := Result{ID: found.ID, Score: score(c.Metric, query, found.Vector)}
		if slices.Contains(v.Include, "metadata") {
			one.Metadata = found.Metadata
		}
		if slices.Contains(v.Include, "vector") {
			one.Vector = found.Vector
		}
		results = append(results, one)
	}
	slices.SortStableFunc(results, func(a, b Result) int {
		if c.Metric == "l2" {
			return cmp.Compare(a.Score, b.Score)
		}
		return cmp.Compare(b.Score, a.Score)
	})
	results = results[:min(v.K, len(results))]
	if s.Fudge != nil {
		results = s.Fudge(results)
	}
	return 200, map[string]any{
		"results": results, "took_ms": 0.25, "manifest_version": 7,
		"usage": map[string]any{"segments": 1, "cache": "hot", "cache_hit_ratio": 1},
	}
}

func score(metric string, a, b []float32) float64 {
	var dot, aa, bb, squares float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		dot, aa, bb, squares = dot+x*y, aa+x*x, bb+y*y, squares+(x-y)*(x-y)
	}
	switch metric {
	case "l2":
		return math.Sqrt(squares)
	case "dot":
		return dot
	}
	return dot / math.Sqrt(aa*bb)
}

// Upserts are the ids of every acknowledged upsert, in the order of their acknowledgement.
func (s *Server) Upserts() [][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.upserts)
}

// Requests are the methods and paths, below /api/v1, of every request.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Rows are the ids of a collection in order, with their vectors.
func (s *Server) Rows(name string) (ids []string, vectors [][]float32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, found := range sorted(s.collections[name].rows) {
		ids, vectors = append(ids, found.ID), append(vectors, found.Vector)
	}
	return ids, vectors
}

// Metadata is what a row of a collection holds.
func (s *Server) Metadata(name, id string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.collections[name].rows[id].Metadata)
}

// Flushes is how often a collection was flushed.
func (s *Server) Flushes(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.collections[name].flushed
}

// Fail answers with an error in the server's shape.
func Fail(w http.ResponseWriter, status int, code, field, message string) bool {
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"error":{"code":%q,"message":%q,"field":%q,"request_id":"r-1"}}`, code, message, field)
	return true
}
