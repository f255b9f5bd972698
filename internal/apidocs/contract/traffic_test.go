package contract

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/segments/blob/faultblob"
	"github.com/akidb/akidb/segments/blob/memblob"
	"github.com/akidb/akidb/segments/columns"
	"github.com/akidb/akidb/segments/ivfpq"
	"github.com/akidb/akidb/writer"
)

const (
	films = "/api/v1/collections/films"
	admin = "/api/v1/admin/collections/films"
	jsonH = "Content-Type: application/json\n"
)

// seed makes the collection that the document's examples speak of.
var seed = []call{
	{"POST", "/api/v1/collections", `{"name": "films", "dimension": 4, "metric": "cosine", "config": {"codebook": "sign"}}`, "", 201, ""},
	{"POST", films + "/vectors", `{"vectors": [
		{"id": "alien", "vector": [1, 0, 0, 0], "metadata": {"title": "Alien", "year": 1979, "genres": ["horror", "science fiction"], "director": {"name": "Ridley Scott"}}},
		{"id": "arrival", "vector": [0.6, 0.8, 0, 0], "metadata": {"title": "Arrival", "year": 2016, "genres": ["science fiction", "drama"]}},
		{"id": "paddington", "vector": [0, 0, 1, 0], "metadata": {"title": "Paddington", "year": 2014, "genres": ["comedy", "family"]}}]}`, "", 200, ""},
}

// bench runs calls and holds each against the document.
type bench struct {
	*testing.T
	doc  *document
	seen *coverage
}

func (b *bench) run(s *server, calls ...call) exchange {
	b.Helper()
	var x exchange
	for _, c := range calls {
		x = s.do(b.T, c)
		if x.status != c.status || x.code() != c.code {
			b.Errorf("%v; want %d %q", x, c.status, c.code)
		}
		for _, p := range b.doc.check(x, b.seen) {
			b.Errorf("%v: %s", x, p)
		}
	}
	return x
}

// notProvoked are codes that take a broken machine, a fault of ours, an object
// that was collected meanwhile, a moment that is hard to meet, more load, a cache,
// or a thousand commits. Tests of the packages that answer them provoke them.
var notProvoked = []string{
	"version_collected", "restoring", "too_many_snapshots", "budget_exceeded",
	"internal", "log_behind", "storage_full", "outcome_unknown", "request_timeout", "overloaded",
}

func TestTraffic(t *testing.T) {
	b := &bench{t, loadDocument(t), newCoverage()}
	for name, part := range map[string]func(*bench){
		"good": good, "index": index, "bad": bad, "bodies": badBodies, "protocol": protocol, "roles": roles, "limits": limits, "outage": outage, "dead letters": deadLetters, "stopped": stopped,
	} {
		t.Run(name, func(t *testing.T) { part(&bench{t, b.doc, b.seen}) })
	}
	if t.Failed() {
		return
	}
	for _, what := range b.doc.everything() {
		expected := !slices.Contains(notProvoked, strings.TrimPrefix(what, "code "))
		if seen := b.seen.what[what] > 0; seen != expected {
			t.Errorf("%s: seen %v, want %v", what, seen, expected)
		}
	}
}

func parquet(t testing.TB) string {
	var file bytes.Buffer
	w, err := columns.NewWriter(&file, 4)
	if err == nil {
		err = w.Append([]columns.Row{{ID: "ran", Vector: []float32{1, 2, 3, 4}}})
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return file.String()
}

// good is what succeeds, with every member of every request.
func good(b *bench) {
	s := startDev(b, setup{})
	b.run(s, seed...)
	b.run(s, []call{
		{"GET", "/api/v1/collections", "", "", 200, ""},
		{"HEAD", "/api/v1/collections", "", "", 200, ""},
		{"GET", films + "?consistency=strong", "", "", 200, ""},
		{"POST", films + "/vectors", `{"id": "a/b", "vector": "AACAPwAAAAAAAAAAAAAAAA==", "metadata": null}`, "Idempotency-Key: k\nX-AkiDB-Durability: object", 200, ""},
		{"POST", films + "/vectors", `{"id": "a/b", "vector": "AACAPwAAAAAAAAAAAAAAAA==", "metadata": null}`, "Idempotency-Key: k", 200, ""},
		{"POST", films + "/vectors", "{\"id\": \"x\", \"vector\": [1,2,3,4]}\n\n", "Content-Type: application/x-ndjson", 200, ""},
		{"POST", films + "/vectors", parquet(b), "Content-Type: application/vnd.apache.parquet", 200, ""},
		{"POST", films + "/vectors", `{"if_absent": true, "vectors": [{"id": "new", "vector": [1,2,3,4], "if_absent": true}]}`, "", 200, ""},
		{"POST", films + "/vectors", `{"id": "new", "vector": [4,3,2,1], "if_version": 7}`, "", 200, ""},
		{"GET", films + "/vectors/a%2Fb?token=1.4&consistency=eventual", "", "", 200, ""},
		{"PATCH", films + "/vectors/a%2Fb", `{"metadata": {"n": null, "m": [null]}}`, "", 200, ""},
		{"DELETE", films + "/vectors/x", "", "", 200, ""},
		{"POST", films + "/vectors/delete", `{"ids": ["nobody"]}`, "", 200, ""},
		{"POST", films + "/vectors/delete", `{"filter": {"must": {"key": "year", "range": {"gt": 3000}}}}`, "", 200, ""},
		{"POST", films + "/vectors/count", `{"filter": null, "consistency": "eventual", "token": "1.1"}`, "", 200, ""},
		{"POST", films + "/search", `{"vector": [1,0,0,0], "explain": true, "include": ["metadata", "vector", "version"]}`, "", 200, ""},
		{"POST", admin + "/flush", "", "", 200, ""},
		{"POST", admin + "/compact", "", "", 200, ""},
		{"POST", films + "/warm", `{"parts": ["postings", "vectors", "routing"], "wait": true}`, "", 200, ""},
		{"POST", films + "/warm", `{"wait": false}`, "", 202, ""},
		{"POST", admin + "/promote", `{"tier": "hot"}`, "", 200, ""},
		{"POST", admin + "/demote", `{"tier": "cold"}`, "", 200, ""},
		{"GET", films, "", "", 200, ""},
		{"POST", admin + "/unpin", "", "", 200, ""},
		{"POST", admin + "/snapshots", `{"name": "monday", "export": true}`, "", 201, ""},
		{"GET", admin + "/snapshots", "", "", 200, ""},
		{"GET", films + "/vectors/alien?as_of=monday", "", "", 200, ""},
		{"GET", films + "?as_of=2", "", "", 200, ""},
		{"POST", films + "/search", `{"id": "alien", "as_of": 2}`, "", 200, ""},
		{"POST", films + "/vectors/scroll", `{"as_of": "monday"}`, "", 200, ""},
		{"POST", films + "/vectors/count", `{"as_of": null}`, "", 200, ""},
		{"POST", admin + "/restore", `{"snapshot_id": "monday"}`, "", 200, ""},
		{"POST", admin + "/branch", `{"name": "sequels", "snapshot_id": "latest"}`, "", 201, ""},
		{"DELETE", "/api/v1/collections/sequels", "", "", 204, ""},
		{"DELETE", admin + "/snapshots/latest", "", "", 204, ""},
		{"POST", films + "/search", `{"vector": [1,0,0,0], "k": 3, "filter": {"should": [], "must_not": [
			{"key": "a", "match": {"value": 1}}, {"key": "a[].b", "match": {"any": ["x"]}}, {"key": "a", "match": {"except": [true]}}, {"key": "title", "match": {"text": "heat"}},
			{"key": "t", "range": {"gt": 1, "gte": 1, "lt": 2, "lte": 2}}, {"key": "t", "range": {"gt": "2020-01-01T00:00:00Z"}},
			{"is_null": {"key": "z"}}, {"must": {"is_empty": {"key": "title"}}, "should": [{"has_id": ["x"]}], "must_not": []}, {"has_id": ["x", 7]}], "must": []},
			"include": ["vector"], "exact": true, "target_recall": 1, "nprobe": 3, "consistency": "strong", "token": "1.1", "timeout_ms": 60000, "explain": true}`, "", 200, ""},
		{"POST", films + "/search", `{"id": "alien"}`, "", 200, ""},
		{"POST", films + "/search", `{"id": "alien", "group_by": "genres", "group_size": 2, "score_threshold": 0.1, "max_store_gets": 1000}`, "", 200, ""},
		{"POST", films + "/recall", `{"sample": 3, "k": 2, "filter": {}, "target_recall": 0.9, "nprobe": 2, "consistency": "latest", "token": "1.1", "timeout_ms": 9000}`, "", 200, ""},
		{"POST", films + "/recall", `{"as_of": 2}`, "", 200, ""},
		{"POST", films + "/search/batch", `{"searches": [{"id": "alien", "explain": true}, {"vector": [0,0,0,1], "consistency": "eventual"}]}`, "", 200, ""},
		{"POST", films + "/vectors/scroll", `{"filter": {}, "limit": 1, "cursor": "YQ", "include": ["metadata", "vector", "version"], "consistency": "latest", "token": "1.1"}`, "", 200, ""},
		{"POST", films + "/vectors/scroll", `{"order_by": {"key": "year", "direction": "desc"}, "limit": 1}`, "", 200, ""},
		{"POST", films + "/vectors/scroll", `{"order_by": "a[].b", "limit": 1}`, "", 200, ""},
		{"POST", films + "/facet", `{"key": "genres", "limit": 2, "filter": {}, "consistency": "latest", "token": "1.1"}`, "", 200, ""},
		{"POST", films + "/facet", `{"key": "year", "as_of": 2}`, "", 200, ""},
		{"GET", "/health", "", "", 200, ""}, {"GET", "/api/v1/health", "", "", 200, ""},
		{"GET", "/livez", "", "", 200, ""}, {"GET", "/readyz", "", "", 200, ""},
		{"GET", "/metrics", "", "", 200, ""}, {"GET", "/metrics", "", "Accept: application/openmetrics-text", 200, ""},
		{"GET", "/openapi.json", "", "", 200, ""}, {"GET", "/docs", "", "", 200, ""},
		{"GET", "/docs/swagger-ui.css", "", "", 200, ""}, {"GET", "/docs/swagger-ui-bundle.js", "", "", 200, ""}, {"GET", "/docs/favicon-32x32.png", "", "", 200, ""},
		{"DELETE", films, "", "", 204, ""},
	}...)
	s.health.SetPhase(httpapi.Draining)
	b.run(s, call{"GET", "/readyz", "", "", 503, ""})
}

// index is a search of a segment large enough to have one, and to be kept in
// memory, or not.
func index(b *bench) {
	store := memblob.New()
	s := startDev(b, setup{store: store, resident: 1 << 20})
	b.run(s, seed[0])
	var rows strings.Builder
	for i := range ivfpq.ExactRows {
		fmt.Fprintf(&rows, `{"id": "%d", "vector": [%d, %d, %d, 1]}`+"\n", i, i%17, i%23, i%29)
	}
	b.run(s, call{"POST", films + "/vectors", rows.String(), "Content-Type: application/x-ndjson", 200, ""},
		call{"POST", admin + "/flush", "", "", 200, ""})
	x := b.run(s, call{"POST", films + "/search", `{"vector": [1,2,3,4], "explain": true}`, "", 200, ""})
	for _, stage := range []string{"tail", "plan", "coarse", "scan", "refine", "finish", "rows"} {
		if !strings.Contains(string(x.received), fmt.Sprintf(`"name":%q`, stage)) {
			b.Errorf("no stage %s in %v", stage, x)
		}
	}
	b.run(s, call{"POST", admin + "/pin", "", "", 200, ""},
		call{"POST", films + "/warm", `{"wait": true}`, "", 200, ""},
		call{"GET", films, "", "", 200, ""})
	small := startQuery(b, setup{store: store, resident: 1}, "")
	b.run(small, call{"POST", films + "/warm", `{"wait": true}`, "", 200, ""},
		call{"GET", films, "", "", 200, ""})
}

// bad is what is refused for what it asks.
func bad(b *bench) {
	s := startDev(b, setup{})
	b.run(s, seed...)
	vectors, search := films+"/vectors", films+"/search"
	b.run(s, []call{
		{"POST", "/api/v1/collections", `{"name": "films", "dimension": 4, "metric": "l2"}`, "", 409, "name_taken"},
		{"POST", "/api/v1/collections", `{"name": "Films", "dimension": 4, "metric": "l2"}`, "", 422, "invalid_name"},
		{"POST", "/api/v1/collections", `{"name": "f", "dimension": 0, "metric": "l2"}`, "", 422, "invalid_dimension"},
		{"POST", "/api/v1/collections", `{"name": "f", "dimension": 4, "metric": "l3"}`, "", 422, "invalid_metric"},
		{"POST", "/api/v1/collections", `{"name": "f", "dimension": 4, "metric": "l2", "config": {"codebook": "rq"}}`, "", 422, "invalid_codebook"},
		{"POST", vectors, `{"id": "x", "vector": [1]}`, "", 422, "dimension_mismatch"},
		{"POST", search, `{"vector": [0, 0, 0, 0]}`, "", 422, "zero_vector"},
		{"POST", vectors, `{"id": "x", "vector": [1e99, 0, 0, 0]}`, "", 422, "not_finite"},
		{"POST", vectors, `{"id": "x", "vector": [0, 0, 0, 0]}`, "", 422, "zero_vector"},
		{"POST", vectors, `{"id": "x", "vector": "AAA!"}`, "", 400, "malformed_vector"},
		{"POST", vectors, `{"id": "", "vector": [1, 0, 0, 0]}`, "", 422, "invalid_id"},
		{"POST", vectors, `{"id": "x", "vector": [1, 0, 0, 0], "metadata": 1}`, "", 422, "invalid_metadata"},
		{"POST", vectors, `{"id": "x"}`, "", 422, "missing_field"},
		{"POST", vectors, `{"vectors": []}`, "", 422, "empty_batch"},
		{"POST", vectors, `{"id": "x", "vectors": []}`, "", 422, "ambiguous_body"},
		{"POST", vectors, `{"id": "x", "vector": [1, 0, 0, 0], "if_absent": true, "if_version": 1}`, "", 422, "ambiguous_condition"},
		{"POST", vectors, `{"id": "x", "vector": [1, 0, 0, 0], "if_version": 7}`, "", 409, "condition_failed"},
		{"POST", vectors, "PAR1", "Content-Type: application/vnd.apache.parquet", 400, "malformed_parquet"},
		{"POST", vectors, `{"id": "x", "vector": [1, 0, 0, 0]}`, "X-AkiDB-Durability: maybe", 422, "invalid_durability"},
		{"POST", vectors, `{"id": "x", "vector": [1, 0, 0, 0]}`, "Idempotency-Key: " + strings.Repeat("k", 256), 422, "invalid_idempotency_key"},
		{"POST", vectors, `{"id": "x", "vector": [1, 0, 0, 0]}`, "Idempotency-Key: once", 200, ""},
		{"POST", vectors, `{"id": "y", "vector": [1, 0, 0, 0]}`, "Idempotency-Key: once", 422, "idempotency_key_reused"},
		{"POST", vectors, fmt.Sprintf(`{"id": "x", "vector": [1,0,0,0], "metadata": {"m": %q}}`, strings.Repeat("m", 70000)), "", 413, "metadata_too_large"},
		{"PATCH", vectors + "/nobody", `{"metadata": {}}`, "", 404, "vector_not_found"},
		{"PATCH", vectors + "/alien", `{}`, "", 422, "missing_field"},
		{"PATCH", vectors + "/alien", `{"metadata": "m"}`, "", 422, "invalid_metadata"},
		{"DELETE", vectors + "/a%00", "", "", 422, "invalid_id"},
		{"DELETE", vectors + "/alien", "", "X-AkiDB-Durability: maybe", 422, "invalid_durability"},
		{"POST", vectors + "/delete", `{}`, "", 422, "ambiguous_body"},
		{"POST", vectors + "/delete", `{"ids": []}`, "", 422, "empty_batch"},
		{"POST", vectors + "/delete", `{"filter": {"mist": []}}`, "", 400, "invalid_filter"},
		{"GET", vectors + "/nobody", "", "", 404, "vector_not_found"},
		{"GET", vectors + "/alien?consistency=x", "", "", 422, "unknown_consistency"},
		{"GET", films + "?token=x", "", "", 422, "invalid_token"},
		{"POST", vectors + "/count", `{"filter": {"mist": []}}`, "", 400, "invalid_filter"},
		{"POST", vectors + "/scroll", `{"limit": 0}`, "", 422, "out_of_range"},
		{"POST", vectors + "/scroll", `{"cursor": "!"}`, "", 422, "invalid_cursor"},
		{"POST", vectors + "/scroll", `{"include": ["x"]}`, "", 422, "unknown_include"},
		{"POST", vectors + "/scroll", `{"order_by": "a..b"}`, "", 422, "invalid_key"},
		{"POST", vectors + "/scroll", `{"order_by": {"key": "a", "direction": "up"}}`, "", 422, "unknown_direction"},
		{"POST", films + "/facet", `{"key": "a."}`, "", 422, "invalid_key"},
		{"POST", films + "/facet", `{"key": "a", "limit": 0}`, "", 422, "out_of_range"},
		{"POST", search, `{}`, "", 422, "vector_or_id"},
		{"POST", search, `{"vector": [1]}`, "", 422, "dimension_mismatch"},
		{"POST", search, `{"id": "nobody"}`, "", 404, "vector_not_found"},
		{"POST", search, `{"id": "alien", "k": 0}`, "", 422, "invalid_k"},
		{"POST", search, `{"id": "alien", "nprobe": 0}`, "", 422, "out_of_range"},
		{"POST", search, `{"id": "alien", "filter": {"must": [{"key": "a"}]}}`, "", 400, "invalid_filter"},
		{"POST", search, `{"id": "alien", "as_of": ""}`, "", 422, "invalid_as_of"},
		{"POST", search, `{"id": "alien", "as_of": 1, "consistency": "strong"}`, "", 422, "ambiguous_freshness"},
		{"POST", search, `{"id": "alien", "as_of": 1000}`, "", 404, "version_not_found"},
		{"POST", search, `{"id": "alien", "as_of": "monday"}`, "", 404, "snapshot_not_found"},
		{"POST", search + "/batch", `{"searches": [{"id": "alien"}, {"id": "alien", "as_of": 1}]}`, "", 422, "mixed_as_of"},
		{"POST", search, `{"id": "alien", "group_by": "a["}`, "", 422, "invalid_group_by"},
		{"POST", search, `{"id": "alien", "group_size": 2}`, "", 422, "group_size_alone"},
		{"POST", search, `{"id": "alien", "group_by": "genres", "group_size": 0}`, "", 422, "out_of_range"},
		{"POST", search, `{"id": "alien", "max_store_gets": -1}`, "", 422, "out_of_range"},
		{"POST", films + "/recall", `{"sample": 5000}`, "", 422, "out_of_range"},
		{"POST", films + "/warm", `{"parts": ["codes"]}`, "", 422, "invalid_part"},
		{"POST", admin + "/promote", `{"tier": "cold"}`, "", 422, "invalid_tier"},
		{"POST", admin + "/demote", `{"tier": "hot"}`, "", 422, "invalid_tier"},
		{"POST", admin + "/pin", "", "", 200, ""},
		{"POST", admin + "/demote", "", "", 409, "pinned"},
		{"POST", admin + "/unpin", "", "", 200, ""},
		{"POST", admin + "/snapshots", `{"name": "latest"}`, "", 422, "invalid_name"},
		{"POST", admin + "/snapshots", `{"name": "tuesday"}`, "", 201, ""},
		{"POST", admin + "/snapshots", `{"name": "tuesday"}`, "", 409, "name_taken"},
		{"POST", admin + "/restore", `{"snapshot_id": ""}`, "", 422, "missing_field"},
		{"POST", admin + "/restore", `{"snapshot_id": "monday"}`, "", 404, "snapshot_not_found"},
		{"DELETE", admin + "/snapshots/monday", "", "", 404, "snapshot_not_found"},
		{"POST", admin + "/branch", `{"name": "Films"}`, "", 422, "invalid_name"},
		{"POST", admin + "/branch", `{"name": "other", "snapshot_id": "monday"}`, "", 404, "snapshot_not_found"},
		{"POST", admin + "/branch", `{"name": "films"}`, "", 409, "name_taken"},
		{"POST", admin + "/branch", `{"name": "other"}`, "", 201, ""},
		{"DELETE", films, "", "", 409, "collection_has_branches"},
		{"POST", search, `{"id": "alien", "token": "1.999"}`, "", 503, "token_not_visible"},
		{"POST", search + "/batch", `{"searches": []}`, "", 422, "out_of_range"},
		{"POST", search + "/batch", `{"searches": [{"id": "alien"}, {"vector": []}]}`, "", 422, "dimension_mismatch"},
	}...)
}

// badBodies sends every operation with a body what cannot be understood, and
// reads from the answer to an unknown field which ones there are.
func badBodies(b *bench) {
	s := startDev(b, setup{limits: httpapi.Limits{BatchBytes: 1 << 20}})
	b.run(s, seed...)
	for _, op := range b.doc.ops {
		body, ok := op.node["requestBody"].(node)
		path := strings.NewReplacer("{c}", "films", "{id}", "alien", "{file}", "x", "{snapshot}", "monday").Replace(op.path)
		if strings.Contains(op.path, "{c}") {
			bad := strings.Replace(path, "films", "%zz", 1)
			b.run(s, call{op.method, bad, "", jsonH, 400, "malformed_path"},
				call{op.method, strings.Replace(path, "films", "nowhere", 1), validBody(op), "", 404, "collection_not_found"})
		}
		if !ok {
			continue
		}
		b.run(s, []call{
			withoutBody(op, path),
			{op.method, path, `{"`, "", 400, "malformed_json"},
			{op.method, path, `[]`, "", 400, "wrong_type"},
			{op.method, path, `{"filter": {}, "filter": {}}`, "", 400, repeated(op)},
			{op.method, path, `x`, "Content-Encoding: gzip", 400, "malformed_gzip"},
			{op.method, path, `x`, "Content-Encoding: zstd", 400, "malformed_zstd"},
			{op.method, path, `x`, "Content-Encoding: br", 415, "unsupported_content_encoding"},
			{op.method, path, `x`, "Content-Type: text/plain", 415, "unsupported_media_type"},
			{op.method, path, wideZstd(b), "Content-Encoding: zstd", 413, "zstd_window_too_large"},
			{op.method, path, strings.Repeat(" ", 1<<20+1), "", 413, "body_too_large"},
		}...)
		x := b.run(s, call{op.method, path, `{"zzzzzzzzzzzz": 1}`, "", 400, "unknown_field"})
		_, fields, _ := strings.Cut(string(x.received), "known fields: ")
		fields, _, _ = strings.Cut(fields, `"`)
		known := strings.Split(fields, ", ")
		media := body["content"].(node)["application/json"].(node)
		missing, extra := differences(known, b.doc.members(media["schema"]))
		if len(missing)+len(extra) > 0 {
			b.Errorf("%s: known and not in the document: %q; in the document and not known: %q", op.id, missing, extra)
		}
	}
}

// members are the names an object has under a schema or one of its alternatives.
func (d *document) members(schema any) (names []string) {
	s, _ := d.resolve(schema, "")
	properties, _ := s["properties"].(node)
	for name := range properties {
		names = append(names, name)
	}
	for _, alternative := range list(s["oneOf"]) {
		names = append(names, d.members(alternative)...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// withoutBody sends none. Reads take that for an empty object.
func withoutBody(op *operation, path string) call {
	c := call{op.method, path, "", jsonH, 400, "malformed_json"}
	switch op.id {
	case "scrollVectors", "countVectors", "measureRecall":
		c.status, c.code = 200, ""
	case "promote", "demote":
		c.status, c.code = 200, ""
	case "warm":
		c.status, c.code = 202, ""
	case "createSnapshot":
		c.status, c.code = 201, ""
	case "facet":
		c.status, c.code = 422, "invalid_key"
	case "search":
		c.status, c.code = 422, "vector_or_id"
	case "searchBatch":
		c.status, c.code = 422, "out_of_range"
	}
	return c
}

// repeated is the code for a field given twice, where there is one to give.
func repeated(op *operation) string {
	switch op.id {
	case "createCollection", "upsertVectors", "patchVector", "searchBatch", "createSnapshot", "restore", "branch", "promote", "demote", "warm":
		return "unknown_field" // the first already
	}
	return "duplicate_field"
}

// validBody is the first of the operation's examples, for what fails for
// another reason.
func validBody(op *operation) string {
	body, ok := op.node["requestBody"].(node)
	if !ok {
		return ""
	}
	examples := body["content"].(node)["application/json"].(node)["examples"].(node)
	for _, name := range slices.Sorted(maps.Keys(examples)) {
		if name != "wrongDimension" {
			return render(examples[name].(node)["value"])
		}
	}
	return ""
}

func wideZstd(t testing.TB) string {
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out, zstd.WithWindowSize(16<<20))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := w.Write(bytes.Repeat([]byte(" "), 100)); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// protocol is what no handler gets to see.
func protocol(b *bench) {
	s := startDev(b, setup{})
	b.run(s, []call{
		{"GET", "/api/v1/nothing", "", "", 404, "no_such_route"},
		{"GET", "/docs/nothing", "", "", 404, "no_such_route"},
		{"PUT", "/api/v1/collections", "", "", 405, "method_not_allowed"},
		{"GET", "/health", "", "X-Long: " + strings.Repeat("x", 20<<10), 431, "headers_too_large"},
	}...)
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "what?\r\n\r\n"); err != nil {
		b.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	received, err := io.ReadAll(resp.Body)
	if err != nil {
		b.Fatal(err)
	}
	x := exchange{method: "GET", path: "/health", status: resp.StatusCode, header: resp.Header, received: received}
	if x.status != 400 || x.code() != "malformed_http" {
		b.Error(x)
	}
	for _, p := range b.doc.check(x, b.seen) {
		b.Errorf("%v: %s", x, p)
	}
}

// roles are the answers that depend on which process is asked.
func roles(b *bench) {
	shared := setup{}.withDefaults()
	ingest := startWriter(b, shared)
	b.run(ingest, seed...)
	b.run(ingest, call{"GET", films, "", "", 200, ""}, call{"GET", "/api/v1/collections", "", "", 200, ""})
	b.run(startQuery(b, shared, ingest.url),
		call{"PATCH", films + "/vectors/alien", `{"metadata": {"seen": true}}`, "", 200, ""},
		call{"POST", films + "/search", `{"id": "alien", "consistency": "strong"}`, "", 200, ""})
	b.run(startQuery(b, shared, ""),
		call{"GET", films, "", "", 200, ""},
		call{"POST", films + "/search", `{"vector": [1,0,0,0], "consistency": "strong"}`, "", 503, "no_writer"},
		call{"DELETE", films, "", "", 503, "no_writer"})
	b.run(startQuery(b, shared, "http://127.0.0.1:1"),
		call{"DELETE", films, "", "", 503, "writer_unavailable"},
		call{"POST", films + "/search", `{"vector": [1,0,0,0], "consistency": "strong"}`, "", 503, "unavailable"})
}

func limits(b *bench) {
	s := startDev(b, setup{writer: writer.Config{MaxUnflushedBytes: 1}, limits: httpapi.Limits{BatchRows: 3}})
	b.run(s, seed...)
	b.run(s, []call{
		{"POST", films + "/vectors", `{"id": "x", "vector": [1, 0, 0, 0]}`, "", 429, "flush_behind"},
		{"POST", films + "/vectors/delete", `{"ids": ["a", "b", "c", "d"]}`, "", 413, "batch_too_large"},
	}...)
}

// outage is what a store that is away, or slow, leads to.
func outage(b *bench) {
	store := faulty()
	s := startDev(b, setup{store: store, writer: writer.Config{WaitLimit: time.Second}})
	b.run(s, seed...)
	b.run(s, call{"POST", admin + "/flush", "", "", 200, ""}, call{"POST", films + "/search", `{"vector": [1,0,0,0]}`, "", 200, ""})
	gate := faultblob.NewGate()
	rule := store.Inject(faultblob.Always(), faultblob.Hold(gate))
	b.run(s, call{"POST", films + "/search", `{"vector": [1,0,0,0], "timeout_ms": 1}`, "", 503, "timeout"})
	b.run(s, call{"POST", films + "/vectors", `{"id": "x", "vector": [1, 0, 0, 0]}`, "X-AkiDB-Durability: object", 503, "store_slow"})
	store.Remove(rule)
	gate.Open()
	store.Down()
	b.run(s, call{"POST", films + "/search", `{"vector": [1,0,0,0]}`, "", 503, "store_unavailable"})
	b.run(s, call{"DELETE", films, "", "", 503, "store_slow"}, call{"DELETE", films, "", "", 409, "collection_deleting"})
	// Whatever else calls the store meanwhile fails as well, so the breaker opens.
	for x := (exchange{}); !strings.Contains(string(x.received), `"store_read":"circuit breaker open`); {
		b.run(s, call{"POST", films + "/search", `{"vector": [1,0,0,0]}`, "", 503, "store_unavailable"})
		x = b.run(s, call{"GET", "/health", "", "", 200, ""})
	}
	b.run(s, call{"GET", "/readyz", "", "", 200, ""})
	store.Up()
	x := b.run(s, call{"POST", "/api/v1/admin/circuit-breaker/reset", "", "", 200, ""})
	if got := string(x.received); !strings.Contains(got, `"service":"store_read"`) || strings.Contains(got, `"service":"store_read","previous":"closed"`) {
		b.Errorf("%v: want store_read to have been open", x)
	}
}

// deadLetters are seen, asked for and forgotten, through a query process too.
func deadLetters(b *bench) {
	shared := setup{store: faulty(), writer: writer.Config{WaitLimit: 50 * time.Millisecond, JobAttempts: 1, ParkedEvery: time.Hour}}
	store := shared.store.(*faultblob.Store)
	ingest := startWriter(b, shared)
	b.run(ingest, seed...)
	store.Down()
	b.run(ingest, call{"POST", admin + "/flush", "", "", 503, "store_slow"})
	pod := startQuery(b, shared, ingest.url)
	dlq := "/api/v1/admin/dlq"
	entry := func() string {
		for {
			x := b.run(pod, call{"GET", dlq, "", "", 200, ""})
			if _, rest, ok := strings.Cut(string(x.received), `"id":"`); ok {
				return dlq + "/" + rest[:strings.IndexByte(rest, '"')]
			}
		}
	}
	b.run(pod, call{"POST", entry() + "/retry", "", "", 200, ""}, call{"POST", dlq + "/retry-all", "", "", 200, ""},
		call{"POST", dlq + "/nobody/retry", "", "", 404, "dead_letter_not_found"}, call{"DELETE", dlq + "/nobody", "", "", 404, "dead_letter_not_found"},
		call{"POST", dlq + "/%zz/retry", "", "", 400, "malformed_path"}, call{"DELETE", dlq + "/%zz", "", "", 400, "malformed_path"})
	b.run(pod, call{"DELETE", entry(), "", "", 204, ""})
	b.run(startQuery(b, shared, ""), call{"GET", dlq, "", "", 503, "no_writer"})
	store.Up()
	b.run(ingest, call{"POST", dlq + "/retry-all", "", "", 200, ""})
}

func stopped(b *bench) {
	s := startDev(b, setup{})
	b.run(s, seed...)
	if err := s.writer.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.run(s, call{"POST", films + "/vectors", `{"id": "x", "vector": [1, 0, 0, 0]}`, "", 503, "shutting_down"})
}

// A difference of each kind is found.
func TestPlanted_Traffic(t *testing.T) {
	d := loadDocument(t)
	s := startDev(t, setup{})
	for _, c := range seed {
		s.do(t, c)
	}
	ok := s.do(t, call{method: "GET", path: films})
	wrong := s.do(t, call{method: "POST", path: films + "/search", body: `{"vector": [1]}`})
	written := s.do(t, call{method: "POST", path: films + "/vectors", body: `{"id": "x", "vector": [1,0,0,0]}`})
	for _, x := range []exchange{ok, wrong, written} {
		if p := d.check(x, nil); p != nil {
			t.Fatalf("%v: %q", x, p)
		}
	}
	for _, c := range []struct {
		of     exchange
		change func(*exchange)
		want   string
	}{
		{ok, func(x *exchange) { x.received = bytes.Replace(x.received, []byte(`"tier"`), []byte(`"teir"`), 1) }, "not what the document says"},
		{ok, func(x *exchange) { x.status = 202 }, "status 202"},
		{ok, func(x *exchange) { x.header.Del("X-Request-Id") }, "X-Request-Id is missing"},
		{ok, func(x *exchange) { x.header.Set("X-Akidb-Planted", "1") }, "X-Akidb-Planted is not in"},
		{ok, func(x *exchange) { x.header.Set("X-Akidb-Staleness-Ms", "-1") }, "X-Akidb-Staleness-Ms"},
		{ok, func(x *exchange) { x.header.Set("Content-Type", "text/plain") }, "content type"},
		{ok, func(x *exchange) { x.path = "/api/v1/planted" }, "no operation"},
		{wrong, func(x *exchange) {
			x.received = bytes.Replace(x.received, []byte("dimension_mismatch"), []byte("planted"), 1)
		}, `code "planted"`},
		{written, func(x *exchange) { x.sent = []byte(`{"id": "x", "vector": [1,0,0,0], "planted": 1}`) }, "request that the document does not allow"},
	} {
		x := c.of
		x.header = http.Header.Clone(x.header)
		c.change(&x)
		if p := strings.Join(d.check(x, nil), "\n"); !strings.Contains(p, c.want) {
			t.Errorf("%v: want %q among %q", x, c.want, p)
		}
	}
}
