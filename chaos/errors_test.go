package chaos

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whatever is wrong with a request is said exactly, and nothing is written.
func TestErrors(t *testing.T) {
	t.Parallel()
	dev := akidb.Start(t, "dev", Options{Args: noFlush})
	dev.Create(t, "movies", 3, "cosine")
	dev.Upsert(t, "movies", numbered(0, 10)...)
	dev.Flush(t, "movies")
	dev.Upsert(t, "movies", numbered(10, 20)...)
	before := dev.Collection(t, "movies")

	const rows = "/collections/movies/vectors"
	batch := func(row string) string {
		return `{"vectors":[{"id":"good","vector":[1,2,3]},` + row + `]}`
	}
	// The code says what it is; whether that is malformed or wrong is the
	// server's to say.
	const badFilter = 0
	for name, c := range map[string]struct {
		method, path string
		body         any
		status       int
		code, field  string
		message      string // a part of it
	}{
		"wrong dimension": {"POST", rows, batch(`{"id":"x","vector":[1,2]}`), 422, "dimension_mismatch", "vectors[1].vector",
			`vectors[1].vector has 2 values; collection "movies" needs 3`},
		"wrong dimension, one row": {"POST", rows, `{"id":"x","vector":[1]}`, 422, "dimension_mismatch", "vector",
			`vector has 1 values; collection "movies" needs 3`},
		"NaN":                   {"POST", rows, batch(`{"id":"x","vector":[1,NaN,3]}`), 400, "", "", ""},
		"NaN in base64":         {"POST", rows, batch(`{"id":"x","vector":"AADAfwAAgD8AAIA/"}`), 422, "not_finite", "vectors[1].vector[0]", ""},
		"more than a float":     {"POST", rows, batch(`{"id":"x","vector":[1,1e39,3]}`), 422, "not_finite", "vectors[1].vector[1]", "1e39"},
		"zero for cosine":       {"POST", rows, batch(`{"id":"x","vector":[0,0,0]}`), 422, "", "vectors[1].vector", "cosine"},
		"no vector":             {"POST", rows, batch(`{"id":"x"}`), 422, "", "vectors[1].vector", ""},
		"no id":                 {"POST", rows, batch(`{"vector":[1,2,3]}`), 422, "", "vectors[1].id", ""},
		"empty id":              {"POST", rows, batch(`{"id":"","vector":[1,2,3]}`), 422, "", "vectors[1].id", ""},
		"control character":     {"POST", rows, batch(`{"id":"a\nb","vector":[1,2,3]}`), 422, "invalid_id", "vectors[1].id", ""},
		"long id":               {"POST", rows, batch(`{"id":"` + strings.Repeat("x", 513) + `","vector":[1,2,3]}`), 422, "invalid_id", "vectors[1].id", "513"},
		"metadata no object":    {"POST", rows, batch(`{"id":"x","vector":[1,2,3],"metadata":[1]}`), 422, "", "vectors[1].metadata", ""},
		"too much metadata":     {"POST", rows, batch(`{"id":"x","vector":[1,2,3],"metadata":{"a":"` + strings.Repeat("x", 64<<10) + `"}}`), 413, "metadata_too_large", "vectors[1].metadata", ""},
		"unknown field":         {"POST", rows, batch(`{"id":"x","vector":[1,2,3],"metdata":{}}`), 400, "", "vectors[1].metdata", ""},
		"duplicate field":       {"POST", rows, `{"id":"x","id":"y","vector":[1,2,3]}`, 400, "", "", ""},
		"broken JSON":           {"POST", rows, `{"vectors":[{"id":"x","vector":[1,2`, 400, "", "", ""},
		"text after JSON":       {"POST", rows, `{"id":"x","vector":[1,2,3]} x`, 400, "", "", ""},
		"no JSON":               {"POST", rows, `hello`, 400, "", "", ""},
		"empty body":            {"POST", rows, ``, 400, "", "", ""},
		"empty batch":           {"POST", rows, `{"vectors":[]}`, 422, "empty_batch", "vectors", ""},
		"too many rows":         {"POST", rows, manyRows(10001), 413, "batch_too_large", "vectors", "10000"},
		"too large a body":      {"POST", rows, bytes.Repeat([]byte(" "), 66<<20), 413, "body_too_large", "", "67108864"},
		"unknown collection":    {"POST", "/collections/movis/vectors", small("x", 1), 404, "collection_not_found", "", `"movis"`},
		"patch of nothing":      {"PATCH", rows + "/nobody", `{"metadata":{"a":1}}`, 404, "vector_not_found", "", `"nobody"`},
		"patch without":         {"PATCH", rows + "/row-0001", `{}`, 422, "missing_field", "metadata", ""},
		"delete what":           {"POST", rows + "/delete", `{}`, 422, "ambiguous_body", "", ""},
		"delete unknown field":  {"POST", rows + "/delete", `{"ids":["row-0001"],"fliter":{}}`, 400, "", "fliter", ""},
		"delete, broken filter": {"POST", rows + "/delete", `{"filter":{"must":[{"key":"a","mtach":{"value":1}}]}}`, badFilter, "invalid_filter", "", ""},

		"name taken":        {"POST", "/collections", `{"name":"movies","dimension":3,"metric":"l2"}`, 409, "name_taken", "", `"movies"`},
		"bad name":          {"POST", "/collections", `{"name":"Movies!","dimension":3,"metric":"l2"}`, 422, "invalid_name", "name", "Movies!"},
		"no dimension":      {"POST", "/collections", `{"name":"new","metric":"l2"}`, 422, "invalid_dimension", "dimension", "16384"},
		"large dimension":   {"POST", "/collections", `{"name":"new","dimension":16385,"metric":"l2"}`, 422, "invalid_dimension", "dimension", "16384"},
		"bad metric":        {"POST", "/collections", `{"name":"new","dimension":3,"metric":"cosin"}`, 422, "invalid_metric", "metric", "cosin"},
		"unknown setting":   {"POST", "/collections", `{"name":"new","dimension":3,"metric":"l2","config":{"x":1}}`, 400, "", "config.x", ""},
		"drop of nothing":   {"DELETE", "/collections/movis", nil, 404, "collection_not_found", "", `"movis"`},
		"unknown path":      {"GET", "/colections", nil, 404, "", "", ""},
		"wrong method":      {"PUT", "/collections", `{}`, 405, "", "", ""},
		"unknown id":        {"GET", rows + "/nobody", nil, 404, "vector_not_found", "", `"nobody"`},
		"search dimension":  {"POST", "/collections/movies/search", `{"vector":[1]}`, 422, "dimension_mismatch", "vector", `vector has 1 values; collection "movies" needs 3`},
		"search for what":   {"POST", "/collections/movies/search", `{}`, 422, "", "vector", ""},
		"search k":          {"POST", "/collections/movies/search", `{"vector":[1,2,3],"k":10001}`, 422, "invalid_k", "k", "10000"},
		"search field":      {"POST", "/collections/movies/search", `{"vector":[1,2,3],"topk":5}`, 400, "", "topk", ""},
		"search filter":     {"POST", "/collections/movies/search", `{"vector":[1,2,3],"filter":{"must":1}}`, badFilter, "invalid_filter", "", ""},
		"search token":      {"POST", "/collections/movies/search", `{"vector":[1,2,3],"token":"x"}`, 422, "invalid_token", "token", ""},
		"future token":      {"POST", "/collections/movies/search", `{"vector":[1,2,3],"token":"1.999999"}`, 503, "token_not_visible", "", ""},
		"scroll cursor":     {"POST", rows + "/scroll", `{"cursor":"%"}`, 422, "invalid_cursor", "cursor", ""},
		"search of nothing": {"POST", "/collections/movis/search", `{"vector":[1,2,3]}`, 404, "collection_not_found", "", `"movis"`},
	} {
		t.Run(name, func(t *testing.T) {
			a := dev.Call(t, c.method, c.path, c.body)
			p := a.Problem()
			if c.status == badFilter {
				require.Contains(t, []int{400, 422}, a.Status, a.String())
			} else {
				require.Equal(t, c.status, a.Status, a.String())
			}
			// What is too large to read never gets to the route that would know
			// that it writes.
			if isWrite(c.method, c.path) && p.Code != "body_too_large" {
				require.Equal(t, "false", a.Header.Get(headerApplied), a.String())
			}
			require.NotEmpty(t, p.Code)
			require.NotEmpty(t, p.Message)
			require.NotEmpty(t, p.RequestID)
			require.Equal(t, a.Header.Get(headerRequestID), p.RequestID)
			if c.code != "" {
				require.Equal(t, c.code, p.Code, a.String())
			}
			if c.field != "" {
				require.Equal(t, c.field, p.Field, a.String())
			}
			require.Contains(t, p.Message+p.Hint, c.message)
			require.Equal(t, before, dev.Collection(t, "movies"), "something was written")
		})
	}
	require.Equal(t, 20, dev.Count(t, "movies", "strong"))
	require.Equal(t, 404, dev.Call(t, "GET", "/collections/new", nil).Status)
	require.Equal(t, 415, dev.Call(t, "POST", rows, "<row/>", "Content-Type", "text/xml").Status)
	require.Equal(t, 415, dev.Call(t, "POST", rows, small("x", 1), "Content-Encoding", "br").Status)
	require.Equal(t, 400, dev.Call(t, "POST", rows, small("x", 1), "Content-Encoding", "gzip").Status)
	require.Equal(t, before, dev.Collection(t, "movies"))

	// The log, too, knows of nothing: what comes back is what was there.
	dev.Kill()
	dev.Restart()
	after := dev.Collection(t, "movies")
	require.Equal(t, before.Seq, after.Seq)
	require.Equal(t, before.VectorCount, after.VectorCount)
}

// isWrite reports whether a route of the contract writes.
func isWrite(method, path string) bool {
	switch method {
	case "PATCH", "DELETE":
		return true
	case "POST":
		return path == "/collections" || strings.HasSuffix(path, "/vectors") || strings.HasSuffix(path, "/vectors/delete")
	}
	return false
}

func manyRows(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,{"id":"many-%d","vector":[1,2,3]}`, i)
	}
	return `{"vectors":[` + b.String()[1:] + `]}`
}

// What is wrong with a command line or the environment is said exactly.
func TestUsageErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args, environ string
		code          int
		stderr        string // a part of it
	}{
		{"dev --http-adr :0", "", 2, "did you mean --http-addr?"},
		{"deev", "", 2, "did you mean dev?"},
		{"import", "", 2, "requires at least 1 arg"},
		{"import nowhere.fvecs", "", 2, "--collection is missing"},
		{"import nowhere.fvecs --collection c --colection c", "", 2, "did you mean --collection?"},
		{"search --collection c --vector nonsense", "", 2, "--vector"},
		{"search --collection c --vector [1] --k 0", "", 2, "--k is 0, want 1 to 10000"},
		{"dev", "AKIDB_HTTP_ADR=:0", 2, "environment variable AKIDB_HTTP_ADR is not known; did you mean AKIDB_HTTP_ADDR?"},
		{"dev --auth on", "", 2, "API keys are not built yet"},
		{"writer", "", 2, "writer needs a store"},
		{"writer --store mem://", "", 2, "only dev can use it"},
		{"query --store file:relative", "", 2, "want an absolute path"},
	} {
		t.Run(c.args+c.environ, func(t *testing.T) {
			t.Parallel()
			var environ []string
			if c.environ != "" {
				environ = append(environ, c.environ)
			}
			f := akidb.Run(t, environ, strings.Fields(c.args)...)
			require.Equal(t, c.code, f.Code, f.Stderr)
			require.Contains(t, f.Stderr, c.stderr)
			require.Empty(t, f.Stdout)
		})
	}
}

// anyPorts are the flags of a process that is not meant to come up.
var anyPorts = []string{"--http-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"}

// Two processes cannot have one data directory, nor two logs one store.
func TestSecondProcess(t *testing.T) {
	t.Parallel()
	o := stores["file"](t)
	o.DataDir = t.TempDir()
	writer := akidb.Start(t, "writer", o.with(noFlush...))
	writer.Create(t, "points", 3, "l2")
	writer.Upsert(t, "points", numbered(0, 10)...)
	before := writer.Call(t, "GET", "/collections/points", nil)

	for _, role := range []string{"writer", "dev"} {
		f := akidb.Run(t, nil, append([]string{role, "--data-dir", writer.DataDir, "--store", o.Store}, anyPorts...)...)
		require.Equal(t, 1, f.Code, f.Stderr)
		require.Contains(t, f.Stderr, writer.DataDir)
		require.Regexp(t, `(?i)another process|in use|locked`, f.Stderr)
	}
	f := akidb.Run(t, nil, append([]string{"writer", "--data-dir", filepath.Join(t.TempDir(), "other"), "--store", o.Store}, anyPorts...)...)
	require.Equal(t, 3, f.Code, f.Stderr)
	require.Contains(t, f.Stderr, "takeover --accept-loss")
	require.Contains(t, f.Stderr, "the store belongs to the writer with log")

	after := writer.Call(t, "GET", "/collections/points", nil)
	require.Equal(t, string(before.Body), string(after.Body))
	writer.Upsert(t, "points", numbered(10, 20)...)
	writer.Flush(t, "points")
	writer.Kill()
	writer.Restart()
	query := akidb.Start(t, "query", Options{Store: o.Store})
	requireRows(t, numbered(0, 20), query.Scroll(t, "points", "latest", 100))
}
