// Package clienttest is a small stand-in for a server, for tests of what talks to one. It answers the routes the client has, strictly:
// a request with an unknown field, a wrong media type or a wrong vector is refused the way a server does. It searches by comparing
// with every row.
package clienttest

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/klauspost/compress/zstd"
)

// Server is the stand-in and what it has seen.
type Server struct {
	URL string
	// Before sees every request first. When it returns true it has answered.
	Before func(w http.ResponseWriter, r *http.Request, body []byte) bool
	// Fudge replaces a search's results before they are sent.
	Fudge func([]Result) []Result

	t  *testing.T
	mu sync.Mutex
	// Collections by name.
	collections map[string]*collection
	upserts     [][]string // ids of every acknowledged upsert, in the order of their acknowledgement
	requests    []string   // method and path
	created     int
}

type collection struct {
	ID        string `json:"collection_id"`
	Name      string `json:"name"`
	Dimension int    `json:"dimension"`
	Metric    string `json:"metric"`
	Count     int    `json:"vector_count"`
	rows      map[string]row
	flushed   int
	snapshots []*snapshot
	taken     int
}

type row struct {
	ID       string         `json:"id"`
	Vector   []float32      `json:"vector"`
	Metadata jsontext.Value `json:"metadata,omitzero"`
}

// Result is one row found.
type Result struct {
	ID       string         `json:"id"`
	Score    float64        `json:"score"`
	Metadata jsontext.Value `json:"metadata,omitzero"`
	Vector   []float32      `json:"vector,omitzero"`
}

// New starts a server that ends with the test.
func New(t *testing.T) *Server {
	s := &Server{t: t, collections: map[string]*collection{}}
	mux := http.NewServeMux()
	route := func(pattern string, handle func(r *http.Request, body []byte) (int, any)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, handle) })
	}
	route("POST /api/v1/collections", s.create)
	route("GET /api/v1/collections", s.list)
	route("GET /api/v1/collections/{c}", s.get)
	route("DELETE /api/v1/collections/{c}", s.remove)
	route("POST /api/v1/collections/{c}/vectors", s.upsert)
	route("GET /api/v1/collections/{c}/vectors/{id}", s.getVector)
	route("POST /api/v1/collections/{c}/vectors/count", s.count)
	route("POST /api/v1/collections/{c}/vectors/scroll", s.scroll)
	route("POST /api/v1/collections/{c}/search", s.search)
	route("POST /api/v1/collections/{c}/search/batch", s.searchBatch)
	route("POST /api/v1/admin/collections/{c}/flush", s.flush)
	route("POST /api/v1/admin/collections/{c}/snapshots", s.snapshotCreate)
	route("GET /api/v1/admin/collections/{c}/snapshots", s.snapshotList)
	route("DELETE /api/v1/admin/collections/{c}/snapshots/{snapshot}", s.snapshotDelete)
	route("POST /api/v1/admin/collections/{c}/restore", s.restore)
	route("POST /api/v1/admin/collections/{c}/branch", s.branch)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	s.URL = server.URL
	return s
}

// Intercept sets Before. A test whose client is another process needs it: nothing else orders the two for the race detector.
func (s *Server) Intercept(before func(w http.ResponseWriter, r *http.Request, body []byte) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Before = before
}

// problem is an answer that is not a success.
type problem struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Field   string `json:"field,omitzero"`
	Hint    string `json:"hint,omitzero"`
	Request string `json:"request_id"`
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request, handle func(*http.Request, []byte) (int, any)) {
	body, err := io.ReadAll(r.Body)
	if err == nil && r.Header.Get("Content-Encoding") == "zstd" {
		var unpack *zstd.Decoder
		if unpack, err = zstd.NewReader(bytes.NewReader(body)); err == nil {
			body, err = io.ReadAll(unpack)
			unpack.Close()
		}
	}
	if err != nil {
		return // the client has gone, or sends what nobody can read
	}
	w.Header().Set("X-Request-Id", "r-1")
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+strings.TrimPrefix(r.URL.EscapedPath(), "/api/v1"))
	before := s.Before
	s.mu.Unlock()
	if before != nil && before(w, r, body) {
		return
	}
	status, answer := s.handle(r, body, handle)
	if p, failed := answer.(problem); failed {
		p.Request = "r-1"
		answer = map[string]problem{"error": p}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-AkiDB-Consistency", "latest")
	w.Header().Set("X-AkiDB-Staleness-Ms", "12")
	w.WriteHeader(status)
	if answer != nil {
		if err := json.MarshalWrite(w, answer); err != nil {
			s.t.Errorf("answer to %s %s: %v", r.Method, r.URL.Path, err)
		}
	}
}

func (s *Server) handle(r *http.Request, body []byte, handle func(*http.Request, []byte) (int, any)) (int, any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(body) > 0 && r.Header.Get("Content-Type") != "application/json" {
		return 415, problem{Code: "unsupported_media_type", Message: "want application/json"}
	}
	if r.PathValue("c") != "" && s.find(r) == nil {
		return 404, problem{Code: "collection_not_found", Message: fmt.Sprintf("no collection %q", r.PathValue("c"))}
	}
	return handle(r, body)
}

func (s *Server) find(r *http.Request) *collection {
	for _, c := range s.collections {
		if name := r.PathValue("c"); c.Name == name || c.ID == name {
			return c
		}
	}
	return nil
}

func decode[T any](body []byte) (v T, p *problem) {
	if err := json.Unmarshal(body, &v, json.RejectUnknownMembers(true)); err != nil {
		return v, &problem{Code: "malformed", Message: err.Error()}
	}
	return v, nil
}

func (s *Server) create(_ *http.Request, body []byte) (int, any) {
	type request struct {
		Name      string `json:"name"`
		Dimension int    `json:"dimension"`
		Metric    string `json:"metric"`
	}
	v, p := decode[request](body)
	switch {
	case p != nil:
		return 400, *p
	case s.collections[v.Name] != nil:
		return 409, problem{Code: "collection_exists", Message: fmt.Sprintf("collection %q exists", v.Name), Field: "name"}
	}
	s.created++
	c := &collection{ID: fmt.Sprintf("c-%d", s.created), Name: v.Name, Dimension: v.Dimension, Metric: v.Metric, rows: map[string]row{}}
	s.collections[v.Name] = c
	return 201, c
}

func (s *Server) list(*http.Request, []byte) (int, any) {
	all := []*collection{}
	for _, c := range s.collections {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b *collection) int { return cmp.Compare(a.Name, b.Name) })
	return 200, map[string]any{"collections": all}
}

func (s *Server) get(r *http.Request, _ []byte) (int, any) {
	c := *s.find(r)
	rows, found := c.rowsAsOf(r.URL.Query().Get("as_of"))
	if !found {
		return noSnapshot(r.URL.Query().Get("as_of"))
	}
	c.Count = len(rows)
	return 200, c
}

func (s *Server) remove(r *http.Request, _ []byte) (int, any) {
	delete(s.collections, s.find(r).Name)
	return 204, nil
}

func (s *Server) upsert(r *http.Request, body []byte) (int, any) {
	type upsertRow struct {
		ID       string         `json:"id"`
		Vector   string         `json:"vector"` // the client sends base64
		Metadata jsontext.Value `json:"metadata,omitzero"`
	}
	type request struct {
		Vectors []upsertRow `json:"vectors"`
	}
	v, p := decode[request](body)
	if p != nil {
		return 400, *p
	}
	c := s.find(r)
	var ids []string
	rows := make([]row, len(v.Vectors))
	for i, u := range v.Vectors {
		field := fmt.Sprintf("vectors[%d]", i)
		raw, err := base64.StdEncoding.DecodeString(u.Vector)
		if err != nil || len(raw) != 4*c.Dimension {
			return 422, problem{Code: "dimension_mismatch", Field: field + ".vector", Message: fmt.Sprintf("%s.vector has %d bytes; collection %q needs %d", field, len(raw), c.Name, 4*c.Dimension)}
		}
		if u.ID == "" || len(u.ID) > 512 {
			return 422, problem{Code: "invalid_id", Field: field + ".id", Message: fmt.Sprintf("%s.id has %d bytes, want 1 to 512", field, len(u.ID))}
		}
		if u.Metadata != nil && u.Metadata.Kind() != '{' {
			return 400, problem{Code: "malformed", Field: field + ".metadata", Message: field + ".metadata is not an object"}
		}
		rows[i] = row{ID: u.ID, Vector: floats(raw), Metadata: u.Metadata}
		ids = append(ids, u.ID)
	}
	if len(ids) == 0 || len(ids) > 10000 {
		return 422, problem{Code: "batch_size", Field: "vectors", Message: fmt.Sprintf("vectors has %d rows, want 1 to 10000", len(ids))}
	}
	for _, row := range rows {
		c.rows[row.ID] = row
	}
	s.upserts = append(s.upserts, ids)
	return 200, map[string]any{"upserted": len(ids), "token": fmt.Sprintf("1-%d", len(s.upserts))}
}

func floats(raw []byte) []float32 {
	v := make([]float32, len(raw)/4)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return v
}

func (s *Server) getVector(r *http.Request, _ []byte) (int, any) {
	found, ok := s.find(r).rows[r.PathValue("id")]
	if !ok {
		return 404, problem{Code: "vector_not_found", Message: fmt.Sprintf("no vector %q", r.PathValue("id"))}
	}
	return 200, found
}

func (s *Server) count(r *http.Request, body []byte) (int, any) {
	type request struct {
		Filter jsontext.Value `json:"filter,omitzero"`
	}
	if _, p := decode[request](body); p != nil {
		return 400, *p
	}
	return 200, map[string]int{"count": len(s.find(r).rows)}
}

func (s *Server) scroll(r *http.Request, body []byte) (int, any) {
	type request struct {
		Filter  jsontext.Value `json:"filter,omitzero"`
		Limit   int            `json:"limit"`
		Cursor  string         `json:"cursor"`
		Include []string       `json:"include"`
		AsOf    string         `json:"as_of"`
	}
	v, p := decode[request](body)
	if p != nil {
		return 400, *p
	}
	rows, known := s.find(r).rowsAsOf(v.AsOf)
	if !known {
		return noSnapshot(v.AsOf)
	}
	page := []row{}
	next := ""
	for _, found := range sorted(rows) {
		if found.ID <= v.Cursor && v.Cursor != "" {
			continue
		}
		if len(page) == v.Limit {
			next = page[len(page)-1].ID
			break
		}
		page = append(page, found)
	}
	return 200, map[string]any{"vectors": page, "next_cursor": next}
}

func sorted(rows map[string]row) []row {
	all := make([]row, 0, len(rows))
	for _, found := range rows {
		all = append(all, found)
	}
	slices.SortFunc(all, func(a, b row) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

func (s *Server) flush(r *http.Request, body []byte) (int, any) {
	s.find(r).flushed++
	return 200, nil
}
