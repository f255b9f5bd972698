package chaos

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Headers of the contract.
const (
	headerConsistency = "X-AkiDB-Consistency"
	headerStaleness   = "X-AkiDB-Staleness-Ms"
	headerVersion     = "X-AkiDB-Manifest-Version"
	headerApplied     = "X-AkiDB-Write-Applied"
	headerRequestID   = "X-Request-Id"
	headerRetryAfter  = "Retry-After"
)

func newHTTPClient() *http.Client {
	return &http.Client{Timeout: hang, Transport: &http.Transport{MaxIdleConnsPerHost: 64, DialContext: dialer.DialContext}}
}

var dialer = net.Dialer{Timeout: hang}

// Answer is what a server said.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// decode is strict about everything but the case of names, so that structs need
// fewer tags.
func decode(text []byte, into any) error {
	return json.Unmarshal(text, into, json.MatchCaseInsensitiveNames(true))
}

// Problem is the error object of the contract.
type Problem struct {
	Code, Message, Field, Hint string
	RequestID                  string `json:"request_id"`
}

// Problem is the error object in the answer, empty if there is none.
func (a Answer) Problem() Problem {
	var body struct{ Error Problem }
	_ = decode(a.Body, &body)
	return body.Error
}

func (a Answer) String() string {
	return fmt.Sprintf("%d %s (applied %q, consistency %q, request %s)", a.Status, bytes.TrimSpace(a.Body),
		a.Header.Get(headerApplied), a.Header.Get(headerConsistency), a.Header.Get(headerRequestID))
}

// Send sends one request to the REST interface, path beginning below the host,
// once, and reads the answer. Body is nil, bytes or text as they are, or
// marshalled as JSON; headers are names and values in turn.
func (s *Server) Send(method, path string, body any, headers ...string) (Answer, error) {
	var raw []byte
	switch b := body.(type) {
	case nil:
	case []byte:
		raw = b
	case string:
		raw = []byte(b)
	default:
		var err error
		if raw, err = json.Marshal(b); err != nil {
			return Answer{}, err
		}
	}
	req, err := http.NewRequest(method, s.URL()+path, bytes.NewReader(raw))
	if err != nil {
		return Answer{}, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	req.GetBody = nil // without it the transport cannot send a request again on its own
	resp, err := s.client.Do(req)
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return Answer{resp.StatusCode, resp.Header, text}, err
}

// neverConnected tells requests that reached nobody from those that may have.
func neverConnected(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// Call is Send to /api/v1 for tests that take any failure to be answered for
// the end of them.
func (s *Server) Call(t testing.TB, method, path string, body any, headers ...string) Answer {
	t.Helper()
	a, err := s.Send(method, "/api/v1"+path, body, headers...)
	if err != nil {
		t.Fatalf("%s %s of %s: %v", method, path, s.Role, err)
	}
	return a
}

// OK is Call for a request that has to succeed; the answer goes into result,
// unless that is nil.
func (s *Server) OK(t testing.TB, method, path string, body, result any, headers ...string) Answer {
	t.Helper()
	a := s.Call(t, method, path, body, headers...)
	if a.Status < 200 || a.Status > 299 {
		t.Fatalf("%s %s of %s: %v", method, path, s.Role, a)
	}
	if result != nil {
		if err := decode(a.Body, result); err != nil {
			t.Fatalf("%s %s of %s: %v: %v", method, path, s.Role, err, a)
		}
	}
	return a
}

// Row is a row as it is written and read.
type Row struct {
	ID       string         `json:"id"`
	Vector   []float32      `json:"vector"`
	Metadata jsontext.Value `json:"metadata,omitzero"`
}

// content is all there is to a row but its id, exactly; "" for the zero Row,
// which is none.
func (r Row) content() string {
	if r.ID == "" {
		return ""
	}
	return fmt.Sprintf("%x %s", r.Vector, r.Metadata)
}

// Collection is how a collection describes itself.
type Collection struct {
	ID             string `json:"collection_id"`
	Name           string `json:"name"`
	Dimension      int    `json:"dimension"`
	Metric         string `json:"metric"`
	VectorCount    int    `json:"vector_count"`
	UnindexedCount int    `json:"unindexed_count"`
	SegmentCount   int    `json:"segment_count"`
	SizeBytes      int64  `json:"size_bytes"`
	Tier           string `json:"tier"`
	ResidentBytes  int64  `json:"resident_bytes"`
	Placement      *struct {
		Tier      string    `json:"tier"`
		Pinned    bool      `json:"pinned"`
		Since     time.Time `json:"since"`
		Condition string    `json:"condition"`
	} `json:"placement"`
	ManifestVersion uint64    `json:"manifest_version"`
	Seq             uint64    `json:"seq"`
	CreatedAt       time.Time `json:"created_at"`
}

// Create makes a collection.
func (s *Server) Create(t testing.TB, name string, dimension int, metric string) (c Collection) {
	t.Helper()
	s.OK(t, "POST", "/collections", map[string]any{"name": name, "dimension": dimension, "metric": metric}, &c)
	return c
}

// Collection describes one, by the newest manifest: a description with
// consistency latest may be by an older one, as long as the rows are right.
func (s *Server) Collection(t testing.TB, name string) (c Collection) {
	t.Helper()
	s.OK(t, "GET", "/collections/"+name+"?consistency=strong", nil, &c)
	return c
}

// Upsert writes rows in one batch and returns the token.
func (s *Server) Upsert(t testing.TB, name string, rows ...Row) string {
	t.Helper()
	var got struct {
		Upserted int
		Token    string
	}
	s.OK(t, "POST", "/collections/"+name+"/vectors", map[string]any{"vectors": rows}, &got)
	if got.Upserted != len(rows) || got.Token == "" {
		t.Fatalf("upsert of %d rows answered %+v", len(rows), got)
	}
	return got.Token
}

// Flush has everything written to the object store.
func (s *Server) Flush(t testing.TB, name string) {
	t.Helper()
	s.OK(t, "POST", "/admin/collections/"+name+"/flush", nil, nil)
}

func vectorPath(name, id string) string {
	return "/collections/" + name + "/vectors/" + url.PathEscape(id)
}

// Count counts the rows.
func (s *Server) Count(t testing.TB, name, consistency string) int {
	t.Helper()
	var got struct{ Count int }
	s.OK(t, "POST", "/collections/"+name+"/vectors/count", map[string]any{"consistency": consistency}, &got)
	return got.Count
}

// Scroll reads every row, limit at a time, in the order they come.
func (s *Server) Scroll(t testing.TB, name, consistency string, limit int) []Row {
	t.Helper()
	var all []Row
	request := map[string]any{"limit": limit, "include": []string{"metadata", "vector"}, "consistency": consistency}
	for {
		var page struct {
			Vectors []Row
			Next    *string `json:"next_cursor"`
		}
		s.OK(t, "POST", "/collections/"+name+"/vectors/scroll", request, &page)
		all = append(all, page.Vectors...)
		if page.Next == nil {
			return all
		}
		if len(page.Vectors) != limit {
			t.Fatalf("scroll: a page of %d rows is followed by another, want %d", len(page.Vectors), limit)
		}
		request["cursor"] = *page.Next
	}
}

// Hit is one result of a search.
type Hit struct {
	Row
	Score float32 `json:"score"`
}

// Search searches; request is the body.
func (s *Server) Search(t testing.TB, name string, request map[string]any) ([]Hit, Answer) {
	t.Helper()
	var got struct{ Results []Hit }
	a := s.OK(t, "POST", "/collections/"+name+"/search", request, &got)
	return got.Results, a
}
