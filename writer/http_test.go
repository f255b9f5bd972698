package writer

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/valyala/fasthttp/fasthttputil"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/internal/memtable"
	"github.com/akidb/akidb/internal/token"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/faultblob"
	"github.com/akidb/akidb/segments/columns"
	"github.com/akidb/akidb/segments/manifest"
)

// site is a Writer behind a real HTTP server.
type site struct {
	*world
	client *http.Client
}

// reply is what a client saw.
type reply struct {
	status int
	header http.Header
	raw    []byte
	body   map[string]any
}

func (r reply) errorField(name string) string {
	e, _ := r.body["error"].(map[string]any)
	s, _ := e[name].(string)
	return s
}

func (r reply) token(t *testing.T) token.Token {
	t.Helper()
	s, _ := r.body["token"].(string)
	tk, err := token.Parse(s)
	if err != nil {
		t.Fatalf("%v in %s", err, r.raw)
	}
	return tk
}

func newSite(t *testing.T, tune func(*Config)) *site {
	v := newWorld(t, tune)
	s := &site{world: v}
	s.serve()
	return s
}

// serve opens the Writer and serves it until it is stopped.
func (s *site) serve() {
	s.t.Helper()
	w := s.open()
	router := httpapi.NewRouter()
	w.Register(router)
	w.RegisterReads(router)
	server, err := httpapi.NewServer(httpapi.Config{Limits: w.cfg.Limits}, router.Serve)
	if err != nil {
		s.t.Fatal(err)
	}
	ln := fasthttputil.NewInmemoryListener()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx, ln) }()
	s.client = &http.Client{Transport: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return ln.Dial() },
	}}
	client := s.client
	s.t.Cleanup(func() {
		client.CloseIdleConnections()
		cancel()
		if err := <-ended; err != nil {
			s.t.Errorf("server: %v", err)
		}
	})
}

// do sends a request; headers come in pairs of name and value.
func (s *site) do(method, path string, body any, headers ...string) reply {
	s.t.Helper()
	var b []byte
	switch body := body.(type) {
	case nil:
	case string:
		b = []byte(body)
	case []byte:
		b = body
	}
	if strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "/internal") {
		path = httpapi.Base + path
	}
	req, err := http.NewRequest(method, "http://akidb"+path, bytes.NewReader(b))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", httpapi.TypeJSON)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := s.client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	r := reply{status: res.StatusCode, header: res.Header, raw: raw}
	_ = json.Unmarshal(raw, &r.body)
	return r
}

func (s *site) want(r reply, status int) reply {
	s.t.Helper()
	if r.status != status {
		s.t.Fatalf("status %d, want %d: %s", r.status, status, r.raw)
	}
	return r
}

func (s *site) movies(metric string) {
	s.t.Helper()
	s.want(s.do("POST", "/collections", fmt.Sprintf(`{"name":"movies","dimension":3,"metric":%q}`, metric)), 201)
}

func TestCollectionLifecycle(t *testing.T) {
	s := newSite(t, nil)
	made := s.want(s.do("POST", "/collections", `{"name":"movies","dimension":3,"metric":"l2","config":{}}`), 201)
	id, _ := made.body["collection_id"].(string)
	if id == "" || id != strings.ToUpper(id) || made.body["vector_count"] != 0.0 || made.body["created_at"] == "" {
		t.Fatalf("created: %s", made.raw)
	}
	taken := s.want(s.do("POST", "/collections", `{"name":"movies","dimension":4,"metric":"dot"}`), 409)
	if taken.errorField("code") != "name_taken" || taken.header.Get("X-AkiDB-Write-Applied") != "false" {
		t.Fatalf("taken: %s %v", taken.raw, taken.header)
	}
	s.want(s.do("POST", "/collections/movies/vectors", `{"vectors":[{"id":"a","vector":[1,2,3]},{"id":"b","vector":[4,5,6],"metadata":{"x":1}}]}`), 200)
	for _, name := range []string{"movies", id} {
		one := s.want(s.do("GET", "/collections/"+name, nil), 200)
		for field, want := range map[string]any{
			"collection_id": id, "name": "movies", "dimension": 3.0, "metric": "l2", "vector_count": 2.0, "unindexed_count": 2.0,
			"segment_count": 0.0, "size_bytes": 0.0, "tier": "hot", "manifest_version": 1.0, "seq": 2.0,
		} {
			if one.body[field] != want {
				t.Errorf("%s is %v, want %v", field, one.body[field], want)
			}
		}
	}
	flushed := s.want(s.do("POST", "/admin/collections/movies/flush", nil), 200)
	if flushed.body["manifest_version"] != 2.0 || flushed.body["flushed_seq"] != 2.0 || flushed.body["segment_count"] != 1.0 {
		t.Errorf("flush: %s", flushed.raw)
	}
	one := s.want(s.do("GET", "/collections/movies", nil), 200)
	if one.body["vector_count"] != 2.0 || one.body["unindexed_count"] != 0.0 || one.body["segment_count"] != 1.0 || one.body["tier"] != "cold" {
		t.Errorf("after flush: %s", one.raw)
	}
	if size := s.storeBytes(id, "segments/"); one.body["size_bytes"] != float64(size) {
		t.Errorf("size_bytes is %v, the objects have %d", one.body["size_bytes"], size)
	}
	list := s.want(s.do("GET", "/collections", nil), 200)
	if l, _ := list.body["collections"].([]any); len(l) != 1 {
		t.Errorf("list: %s", list.raw)
	}
	if r := s.want(s.do("DELETE", "/collections/movies", nil), 204); len(r.raw) != 0 {
		t.Errorf("delete answers %q", r.raw)
	}
	gone := s.want(s.do("GET", "/collections/movies", nil), 404)
	if gone.errorField("code") != "collection_not_found" {
		t.Errorf("gone: %s", gone.raw)
	}
	s.want(s.do("POST", "/collections", `{"name":"movies","dimension":4,"metric":"dot"}`), 201)
}

func (s *site) storeBytes(id, below string) (size int64) {
	for o, err := range blob.Objects(context.Background(), s.store, blob.Listing{Prefix: manifest.CollectionPrefix(id) + below}) {
		if err != nil {
			s.t.Fatal(err)
		}
		size += o.Size
	}
	return size
}

// refusals are requests that must leave no trace, and what they are answered.
var refusals = []struct {
	name, method, path, body, contentType string
	status                                int
	code, field, message                  string
}{
	{"wrong dimension", "POST", "/collections/movies/vectors", `{"vectors":[{"id":"a","vector":[1,2,3]},{"id":"b","vector":[1,2]}]}`, "",
		422, "dimension_mismatch", "vectors[1].vector", `vectors[1].vector has 2 values; collection "movies" needs 3`},
	{"wrong dimension alone", "POST", "/collections/movies/vectors", `{"id":"a","vector":[1,2]}`, "",
		422, "dimension_mismatch", "vector", `vector has 2 values; collection "movies" needs 3`},
	{"overflow", "POST", "/collections/movies/vectors", `{"vectors":[{"id":"a","vector":[1,1e39,3]}]}`, "",
		422, "not_finite", "vectors[0].vector[1]", ""},
	{"NaN is no JSON", "POST", "/collections/movies/vectors", `{"vectors":[{"id":"a","vector":[1,NaN,3]}]}`, "",
		400, "malformed_json", "vectors[0].vector[1]", ""},
	{"NaN in base64", "POST", "/collections/movies/vectors", `{"id":"a","vector":"` + base64Vector(1, float32(math.NaN()), 3) + `"}`, "",
		422, "not_finite", "vector[1]", "vector[1] is not finite"},
	{"zero vector", "POST", "/collections/movies/vectors", `{"id":"a","vector":[0,-0.0,0]}`, "",
		422, "zero_vector", "vector", ""},
	{"no vector", "POST", "/collections/movies/vectors", `{"vectors":[{"id":"a"}]}`, "",
		422, "missing_field", "vectors[0].vector", "vectors[0].vector is missing"},
	{"no id", "POST", "/collections/movies/vectors", `{"vector":[1,2,3]}`, "", 422, "missing_field", "id", "id is missing"},
	{"empty id", "POST", "/collections/movies/vectors", `{"vectors":[{"id":"","vector":[1,2,3]}]}`, "", 422, "invalid_id", "vectors[0].id", ""},
	{"control character in id", "POST", "/collections/movies/vectors", `{"id":"a\u0000","vector":[1,2,3]}`, "", 422, "invalid_id", "id", ""},
	{"number for id", "POST", "/collections/movies/vectors", `{"id":7,"vector":[1,2,3]}`, "", 400, "wrong_type", "id", ""},
	{"unknown field", "POST", "/collections/movies/vectors", `{"vectors":[{"id":"a","vector":[1,2,3],"metdata":{}}]}`, "",
		400, "unknown_field", "vectors[0].metdata", ""},
	{"field twice", "POST", "/collections/movies/vectors", `{"id":"a","id":"b","vector":[1,2,3]}`, "", 400, "duplicate_field", "id", ""},
	{"metadata field twice", "POST", "/collections/movies/vectors", `{"id":"a","vector":[1,2,3],"metadata":{"x":1,"x":2}}`, "", 400, "duplicate_field", "metadata.x", ""},
	{"metadata array", "POST", "/collections/movies/vectors", `{"id":"a","vector":[1,2,3],"metadata":[1]}`, "",
		422, "invalid_metadata", "metadata", "metadata is an array, want an object"},
	{"metadata too large", "POST", "/collections/movies/vectors", `{"id":"a","vector":[1,2,3],"metadata":{"x":"` + strings.Repeat("x", 64<<10) + `"}}`, "",
		413, "metadata_too_large", "metadata", ""},
	{"no rows", "POST", "/collections/movies/vectors", `{"vectors":[]}`, "", 422, "empty_batch", "vectors", ""},
	{"both forms", "POST", "/collections/movies/vectors", `{"id":"a","vectors":[]}`, "", 422, "ambiguous_body", "vectors", ""},
	{"empty body", "POST", "/collections/movies/vectors", "", "", 400, "malformed_json", "", ""},
	{"too many rows", "POST", "/collections/movies/vectors", manyRows(11), "", 413, "batch_too_large", "vectors", ""},
	{"too many lines", "POST", "/collections/movies/vectors", strings.Repeat("{\"id\":\"a\",\"vector\":[1,2,3]}\n", 11), httpapi.TypeNDJSON, 413, "batch_too_large", "the body", ""},
	{"bad line", "POST", "/collections/movies/vectors", "{\"id\":\"a\",\"vector\":[1,2,3]}\n\n{\"id\":\"b\",\"vector\":[1]}\n", httpapi.TypeNDJSON,
		422, "dimension_mismatch", "vectors[1].vector", `line 3: vectors[1].vector has 1 values; collection "movies" needs 3`},
	{"bad Parquet", "POST", "/collections/movies/vectors", "PAR1 is not enough", httpapi.TypeParquet, 400, "malformed_parquet", "", ""},
	{"bad type", "POST", "/collections/movies/vectors", "a,b", "text/csv", 415, "unsupported_media_type", "", ""},
	{"body too large", "POST", "/collections/movies/vectors", `{"id":"` + strings.Repeat("x", 1<<20) + `"}`, "", 413, "body_too_large", "", ""},
	{"unknown collection", "POST", "/collections/films/vectors", `{"id":"a","vector":[1,2,3]}`, "", 404, "collection_not_found", "", `there is no collection "films"`},
	{"unknown collection, delete", "DELETE", "/collections/films/vectors/a", "", "", 404, "collection_not_found", "", ""},
	{"unknown collection, drop", "DELETE", "/collections/films", "", "", 404, "collection_not_found", "", ""},
	{"unknown collection, flush", "POST", "/admin/collections/films/flush", "", "", 404, "collection_not_found", "", ""},
	{"patch of nothing", "PATCH", "/collections/movies/vectors/nope", `{"metadata":{"x":1}}`, "", 404, "vector_not_found", "", ""},
	{"patch without metadata", "PATCH", "/collections/movies/vectors/kept", `{}`, "", 422, "missing_field", "metadata", ""},
	{"patch beyond the limit", "PATCH", "/collections/movies/vectors/kept", `{"metadata":{"y":"` + strings.Repeat("x", 64<<10-8) + `"}}`, "", 413, "metadata_too_large", "metadata", ""},
	{"neither ids nor filter", "POST", "/collections/movies/vectors/delete", `{}`, "", 422, "ambiguous_body", "", ""},
	{"ids and filter", "POST", "/collections/movies/vectors/delete", `{"ids":["a"],"filter":{}}`, "", 422, "ambiguous_body", "", ""},
	{"no ids", "POST", "/collections/movies/vectors/delete", `{"ids":[]}`, "", 422, "empty_batch", "ids", ""},
	{"bad filter", "POST", "/collections/movies/vectors/delete", `{"filter":{"must":[{"key":"x"}]}}`, "", 400, "invalid_filter", "filter.must[0]", ""},
	{"bad name", "POST", "/collections", `{"name":"Films","dimension":3,"metric":"l2"}`, "", 422, "invalid_name", "name", ""},
	{"bad dimension", "POST", "/collections", `{"name":"films","dimension":0,"metric":"l2"}`, "", 422, "invalid_dimension", "dimension", ""},
	{"bad metric", "POST", "/collections", `{"name":"films","dimension":3,"metric":"cosin"}`, "", 422, "invalid_metric", "metric", ""},
	{"unknown config", "POST", "/collections", `{"name":"films","dimension":3,"metric":"l2","config":{"replicas":2}}`, "", 400, "unknown_field", "config.replicas", ""},
}

func base64Vector(values ...float32) string {
	var b []byte
	for _, x := range values {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return base64.StdEncoding.EncodeToString(b)
}

func manyRows(n int) string {
	rows := make([]string, n)
	for i := range rows {
		rows[i] = fmt.Sprintf(`{"id":"%d","vector":[1,2,3]}`, i)
	}
	return `{"vectors":[` + strings.Join(rows, ",") + `]}`
}

func TestRefusedRequestsLeaveNoTrace(t *testing.T) {
	s := newSite(t, func(c *Config) { c.Limits.BatchRows = 10; c.Limits.BatchBytes = 1 << 20 })
	s.movies("cosine")
	s.want(s.do("POST", "/collections/movies/vectors", `{"id":"kept","vector":[1,2,3],"metadata":{"x":1}}`), 200)
	c := s.collection("movies")
	before, kept := s.w.log.Stats(), s.writerSees(c)
	for _, r := range refusals {
		t.Run(r.name, func(t *testing.T) {
			var headers []string
			if r.contentType != "" {
				headers = []string{"Content-Type", r.contentType}
			}
			got := s.do(r.method, r.path, r.body, headers...)
			if got.status != r.status || got.errorField("code") != r.code || got.errorField("field") != r.field {
				t.Errorf("got %d %s, want %d %s at %q", got.status, got.raw, r.status, r.code, r.field)
			}
			if r.message != "" && got.errorField("message") != r.message {
				t.Errorf("message %q, want %q", got.errorField("message"), r.message)
			}
			if applied := got.header.Get("X-AkiDB-Write-Applied"); applied != "false" {
				t.Errorf("X-AkiDB-Write-Applied: %q, want false", applied)
			}
			if got.errorField("request_id") == "" {
				t.Error("no request_id")
			}
		})
	}
	after := s.w.log.Stats()
	if after.Records != before.Records || after.LiveBytes != before.LiveBytes || c.state().seq != 1 || len(s.w.catalog.all()) != 1 {
		t.Errorf("log went from %+v to %+v, seq is %d", before, after, c.state().seq)
	}
	s.check(c, kept)
}

func TestBodyForms(t *testing.T) {
	s := newSite(t, nil)
	s.movies("l2")
	var file bytes.Buffer
	pw, err := columns.NewWriter(&file, 3)
	if err != nil {
		t.Fatal(err)
	}
	row := columns.Row{ID: "parquet", Vector: []float32{1, 2, 3}, Metadata: []byte(`{"n":1}`), Seq: 77}
	if err := errors.Join(pw.Append([]columns.Row{row}), pw.Close()); err != nil {
		t.Fatal(err)
	}
	want := map[string]item{"parquet": {[]float32{1, 2, 3}, `{"n":1}`}}
	r := s.want(s.do("POST", "/collections/movies/vectors", file.Bytes(), "Content-Type", httpapi.TypeParquet), 200)
	if r.body["upserted"] != 1.0 {
		t.Errorf("parquet: %s", r.raw)
	}
	r = s.want(s.do("POST", "/collections/movies/vectors", `{"id":"one","vector":[0.1,-2e-3,3],"metadata":{ "kept" : 1.50 }}`), 200)
	want["one"] = item{[]float32{0.1, -2e-3, 3}, `{ "kept" : 1.50 }`}
	if r.body["upserted"] != 1.0 || r.token(t) != (token.Token{Epoch: 1, Seq: 2}) {
		t.Errorf("one: %s", r.raw)
	}
	s.want(s.do("POST", "/collections/movies/vectors", `{"id":"base64","vector":"`+base64Vector(4, 5, 6)+`","metadata":null}`), 200)
	want["base64"] = item{[]float32{4, 5, 6}, ""}
	r = s.want(s.do("POST", "/collections/movies/vectors", "{\"id\":\"l1\",\"vector\":[1,1,1]}\n\r\n{\"id\":\"l2\",\"vector\":[2,2,2],\"metadata\":{}}", "Content-Type", httpapi.TypeNDJSON), 200)
	want["l1"], want["l2"] = item{[]float32{1, 1, 1}, ""}, item{[]float32{2, 2, 2}, "{}"}
	if r.body["upserted"] != 2.0 {
		t.Errorf("lines: %s", r.raw)
	}
	r = s.want(s.do("POST", "/collections/movies/vectors", `{"vectors":[{"id":"dup","vector":[1,1,1]},{"id":"x","vector":[3,3,3]},{"id":"dup","vector":[2,2,2]}]}`), 200)
	want["dup"], want["x"] = item{[]float32{2, 2, 2}, ""}, item{[]float32{3, 3, 3}, ""}
	if r.body["upserted"] != 3.0 {
		t.Errorf("repeated id: %s", r.raw)
	}
	c := s.collection("movies")
	s.check(c, want)
	s.flush(c)
	s.check(c, want)
}

func TestDeleteAndPatch(t *testing.T) {
	s := newSite(t, nil)
	s.movies("l2")
	s.want(s.do("POST", "/collections/movies/vectors", manyRows(9)), 200)
	c := s.collection("movies")
	s.flush(c)
	s.want(s.do("POST", "/collections/movies/vectors", `{"id":"a/b c","vector":[1,2,3],"metadata":{"k":null,"n":1.0,"o":{"x":1}}}`), 200)
	for i, want := range []float64{1, 0} {
		if r := s.want(s.do("DELETE", "/collections/movies/vectors/3", nil), 200); r.body["deleted"] != want {
			t.Errorf("delete %d of one row: %s", i, r.raw)
		}
	}
	r := s.want(s.do("POST", "/collections/movies/vectors/delete", `{"ids":["1","2","1","3","none"]}`), 200)
	if r.body["deleted"] != 2.0 || r.token(t).Seq != 13 {
		t.Errorf("delete ids: %s", r.raw)
	}
	r = s.want(s.do("PATCH", "/collections/movies/vectors/a%2Fb%20c", `{"metadata":{"n":null,"o":{"y":2},"new":[1]}}`), 200)
	if got, _ := json.Marshal(r.body["metadata"]); string(got) != `{"k":null,"new":[1],"o":{"y":2}}` || r.body["id"] != "a/b c" {
		t.Errorf("patch: %s", r.raw)
	}
	s.want(s.do("PATCH", "/collections/movies/vectors/5", `{"metadata":{"tag":"x"}}`), 200)
	r = s.want(s.do("POST", "/collections/movies/vectors/delete", `{"filter":{"must":[{"key":"tag","match":{"value":"x"}}]}}`), 200)
	if r.body["deleted"] != 1.0 {
		t.Errorf("delete by filter: %s", r.raw)
	}
	want := map[string]item{"a/b c": {[]float32{1, 2, 3}, `{"k":null,"o":{"y":2},"new":[1]}`}}
	for _, id := range []string{"0", "4", "6", "7", "8"} {
		want[id] = item{[]float32{1, 2, 3}, ""}
	}
	s.check(c, want)
	if r = s.want(s.do("POST", "/collections/movies/vectors/delete", `{"filter":{}}`), 200); r.body["deleted"] != 6.0 {
		t.Errorf("delete all: %s", r.raw)
	}
	s.flush(c)
	s.check(c, nil)
	if n := len(c.state().view.Segments); n != 0 {
		t.Errorf("%d segments are left of no rows", n)
	}
}

// TestFilterDeleteInParts: more matches than one record takes.
func TestFilterDeleteInParts(t *testing.T) {
	s := newSite(t, func(c *Config) { c.Limits.BatchRows = 10 })
	s.movies("l2")
	for i := range 3 {
		s.want(s.do("POST", "/collections/movies/vectors", strings.ReplaceAll(manyRows(10), `"id":"`, fmt.Sprintf(`"id":"%d-`, i))), 200)
	}
	for range 2 { // a repeat of the request is told the same
		r := s.want(s.do("POST", "/collections/movies/vectors/delete", `{"filter":{}}`, "Idempotency-Key", "all"), 200)
		if r.body["deleted"] != 30.0 || r.token(t).Seq != 60 {
			t.Errorf("delete: %s", r.raw)
		}
	}
	s.check(s.collection("movies"), nil)
}

func TestIdempotencyKeys(t *testing.T) {
	s := newSite(t, func(c *Config) { c.IdempotencyKeys = 3 })
	s.movies("l2")
	post := func(key, body string) reply {
		return s.do("POST", "/collections/movies/vectors", body, "Idempotency-Key", key)
	}
	row := func(id string) string { return fmt.Sprintf(`{"id":%q,"vector":[1,2,3]}`, id) }
	first := s.want(post("k1", row("a")), 200)
	patch := func() reply {
		return s.want(s.do("PATCH", "/collections/movies/vectors/a", `{"metadata":{"x":1}}`, "Idempotency-Key", "k2"), 200)
	}
	patched := patch()
	s.want(s.do("DELETE", "/collections/movies/vectors/a", nil, "Idempotency-Key", "k3"), 200)
	for _, restart := range []bool{false, true} {
		if restart {
			s.flush(s.collection("movies")) // the log still has the records
			s.kill()
			s.serve()
		}
		if again := s.want(post("k1", row("a")), 200); string(again.raw) != string(first.raw) {
			t.Errorf("restarted %t: again %s, first %s", restart, again.raw, first.raw)
		}
		if again := patch(); string(again.raw) != string(patched.raw) {
			t.Errorf("restarted %t: again %s, first %s", restart, again.raw, patched.raw)
		}
		reused := s.want(post("k1", row("b")), 422)
		if reused.errorField("code") != "idempotency_key_reused" || reused.header.Get("X-AkiDB-Write-Applied") != "false" {
			t.Errorf("reused: %s", reused.raw)
		}
		if r := s.want(s.do("DELETE", "/collections/movies/vectors/a", nil, "Idempotency-Key", "k1"), 422); r.errorField("code") != "idempotency_key_reused" {
			t.Errorf("reused by another method: %s", r.raw)
		}
	}
	s.check(s.collection("movies"), nil) // "a" did not come back
	s.want(post("k4", row("c")), 200)    // k1 falls out of the window
	s.want(post("k1", row("d")), 200)
	late := func(status int) {
		s.want(s.do("PATCH", "/collections/movies/vectors/late", `{"metadata":{"x":1}}`, "Idempotency-Key", "k6"), status)
	}
	late(404)
	s.want(post("", row("late")), 200)
	late(200) // nothing was applied the first time
	failed := s.want(post("k5", `{"id":"e","vector":[1]}`), 422)
	if failed.errorField("code") != "dimension_mismatch" {
		t.Errorf("failed: %s", failed.raw)
	}
	s.want(post("k5", row("e")), 200) // a definite failure leaves the key free
	s.want(post(strings.Repeat("k", 256), row("e")), 422)
}

func TestDurabilityObject(t *testing.T) {
	fault := (*faultblob.Store)(nil)
	s := newSite(t, func(c *Config) {
		if fault == nil {
			fault = faultblob.New(c.Store)
		}
		c.Store = fault
		c.WaitLimit = 1 << 40
	})
	s.movies("l2")
	r := s.want(s.do("POST", "/collections/movies/vectors", `{"id":"a","vector":[1,2,3]}`, "X-AkiDB-Durability", "object"), 200)
	snap, _, err := manifest.Read(context.Background(), s.store, s.collection("movies").meta.ID)
	if err != nil || snap.FlushedSeq < r.token(t).Seq {
		t.Errorf("acknowledged %v, flushed %d, %v", r.token(t), snap.FlushedSeq, err)
	}
	s.want(s.do("POST", "/collections/movies/vectors", `{"id":"a","vector":[1,2,3]}`, "X-AkiDB-Durability", "tape"), 422)
	s.w.cfg.WaitLimit = 1 // nothing is that fast
	fault.Down()
	r = s.want(s.do("POST", "/collections/movies/vectors", `{"id":"b","vector":[1,2,3]}`, "X-AkiDB-Durability", "object"), 503)
	if r.header.Get("X-AkiDB-Write-Applied") != "unknown" || r.header.Get("Retry-After") == "" {
		t.Errorf("store down: %s %v", r.raw, r.header)
	}
	fault.Up()
	s.flush(s.collection("movies"))
	s.check(s.collection("movies"), map[string]item{"a": {[]float32{1, 2, 3}, ""}, "b": {[]float32{1, 2, 3}, ""}})
}

func TestInternalRoutes(t *testing.T) {
	s := newSite(t, nil)
	s.movies("l2")
	c := s.collection("movies")
	s.want(s.do("POST", "/collections/movies/vectors", manyRows(3)), 200)
	tail := func(after string) memtable.Delta {
		r := s.want(s.do("GET", "/internal/v1/collections/"+c.meta.ID+"/tail"+after, nil), 200)
		d, err := memtable.DecodeDelta(r.raw, 3)
		if err != nil || r.header.Get("Content-Type") != "application/octet-stream" {
			t.Fatalf("%v, %v", err, r.header)
		}
		return d
	}
	if d := tail(""); len(d.Ops) != 3 || d.After != 0 || d.Upto != 3 || d.Epoch != 1 || d.Version != 1 {
		t.Errorf("tail: %+v", d)
	}
	if d := tail("?after=2"); len(d.Ops) != 1 || d.After != 2 || d.Ops[0].ID != "2" {
		t.Errorf("tail after 2: %+v", d)
	}
	s.flush(c)
	if d := tail("?after=1"); len(d.Ops) != 0 || d.After != 3 || d.Upto != 3 || d.Version != 2 {
		t.Errorf("tail after flush: %+v", d)
	}
	s.want(s.do("GET", "/internal/v1/collections/"+c.meta.ID+"/tail?after=x", nil), 400)
	s.want(s.do("GET", "/internal/v1/collections/nope/tail", nil), 404)
	list := s.want(s.do("GET", "/internal/v1/collections", nil), 200)
	if !strings.Contains(string(list.raw), `"flushed_seq":3`) || !strings.Contains(string(list.raw), c.meta.ID) {
		t.Errorf("list: %s", list.raw)
	}
}

func TestBackpressure(t *testing.T) {
	t.Run("memory", func(t *testing.T) { backpressure(t, func(c *Config) { c.MaxUnflushedBytes = 2000 }) })
	t.Run("log", func(t *testing.T) {
		backpressure(t, func(c *Config) { c.MaxLogBytes, c.WAL.FileBytes = 32<<10, 8<<10 })
	})
}

func backpressure(t *testing.T, bound func(*Config)) {
	fault := faultblob.New(nil)
	s := newSite(t, func(c *Config) {
		fault = faultblob.New(c.Store)
		c.Store = fault
		bound(c)
	})
	s.movies("l2")
	fault.Down()
	var r reply
	for range 1000 {
		if r = s.do("POST", "/collections/movies/vectors", manyRows(2)); r.status != 200 {
			break
		}
	}
	if r.status != 429 || r.errorField("code") != "flush_behind" || r.header.Get("Retry-After") == "" || r.header.Get("X-AkiDB-Write-Applied") != "false" {
		t.Fatalf("store down and no room: %d %s", r.status, r.raw)
	}
	fault.Up()
	s.flush(s.collection("movies"))
	for { // files of the log are removed in the background
		if r = s.do("POST", "/collections/movies/vectors", manyRows(2)); r.status != 429 {
			break
		}
	}
	s.want(r, 200)
}
