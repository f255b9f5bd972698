package client_test

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/akidb/akidb/internal/client"
	"github.com/akidb/akidb/internal/client/clienttest"
)

// clock moves only when somebody waits on one of its timers.
type clock struct {
	now    time.Time
	pauses []time.Duration
	c      chan time.Time
}

func (c *clock) Now() time.Time { return c.now }

func (c *clock) Start(d time.Duration) {
	c.now = c.now.Add(d)
	c.pauses = append(c.pauses, d)
	c.c = make(chan time.Time, 1)
	c.c <- c.now
}
func (c *clock) Stop()               {}
func (c *clock) C() <-chan time.Time { return c.c }

func connect(t *testing.T, url string, change func(*client.Config)) (*client.Client, *clock) {
	t.Helper()
	t.Setenv("AKIDB_URL", "")
	t.Setenv("AKIDB_API_KEY", "")
	time := &clock{now: time.Unix(1_700_000_000, 0)}
	config := client.Config{URL: url, Clock: time, NewTimer: func() backoff.Timer { return time }}
	if change != nil {
		change(&config)
	}
	c, err := client.New(config)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c, time
}

func batchOf(t *testing.T, rows map[string][]float32) *client.Batch {
	var b client.Batch
	for id, v := range rows {
		require.NoError(t, b.Add(id, v, nil))
	}
	return &b
}

func TestEveryRoute(t *testing.T) {
	for _, compress := range []bool{false, true} {
		s := clienttest.New(t)
		c, _ := connect(t, s.URL, func(config *client.Config) { config.Compress = compress })
		ctx := context.Background()

		created, err := c.CreateCollection(ctx, client.NewCollection{Name: "films", Dimension: 2, Metric: "l2"})
		require.NoError(t, err)
		require.Equal(t, client.Collection{ID: "c-1", Name: "films", Dimension: 2, Metric: "l2"}, created)

		var b client.Batch
		require.NoError(t, b.Add("a/b", []float32{1, 2}, []byte(`{"title":"Å"}`)))
		require.NoError(t, b.Add(`q"`, []float32{3, -4}, nil))
		for i := range 200 { // enough to be worth packing
			require.NoError(t, b.Add(fmt.Sprintf("f%d", i), []float32{float32(i), 100}, nil))
		}
		written, err := c.Upsert(ctx, "films", &b)
		require.NoError(t, err)
		require.Equal(t, client.Written{Upserted: 202, Token: "1-1"}, written)

		record, err := c.GetVector(ctx, "films", "a/b")
		require.NoError(t, err)
		require.Equal(t, client.Record{ID: "a/b", Vector: client.Vector{1, 2}, Metadata: []byte(`{"title":"Å"}`)}, record)

		found, err := c.Search(ctx, "films", client.SearchRequest{Vector: client.Vector{3, -4}, K: 2, Include: []string{"metadata", "vector"}})
		require.NoError(t, err)
		require.Equal(t, []client.Result{
			{ID: `q"`, Score: 0, Vector: client.Vector{3, -4}},
			{ID: "a/b", Score: math.Sqrt(40), Metadata: []byte(`{"title":"Å"}`), Vector: client.Vector{1, 2}},
		}, found.Results)
		require.Equal(t, "latest", found.Consistency)
		require.EqualValues(t, 12, found.StalenessMS)
		require.EqualValues(t, 7, found.ManifestVersion)
		require.Equal(t, "hot", found.Usage.Cache)

		many, err := c.SearchBatch(ctx, "films", []client.SearchRequest{{ID: "f7", K: 1}, {ID: "a/b", K: 1}})
		require.NoError(t, err)
		require.Equal(t, []string{"f7", "a/b"}, []string{many[0].Results[0].ID, many[1].Results[0].ID})

		count, err := c.Count(ctx, "films", nil)
		require.NoError(t, err)
		require.EqualValues(t, 202, count)

		rows, cursor := 0, ""
		for {
			page, err := c.Scroll(ctx, "films", client.ScrollRequest{Limit: 50, Cursor: cursor})
			require.NoError(t, err)
			if rows, cursor = rows+len(page.Vectors), page.NextCursor; cursor == "" {
				break
			}
		}
		require.Equal(t, 202, rows)

		list, err := c.ListCollections(ctx)
		require.NoError(t, err)
		require.Len(t, list, 1)
		require.NoError(t, c.Flush(ctx, "films"))
		require.Equal(t, 1, s.Flushes("films"))

		taken, err := c.CreateSnapshot(ctx, "films", client.NewSnapshot{Name: "before", Export: true})
		require.NoError(t, err)
		at := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
		require.Equal(t, client.Snapshot{ID: "s-1", Name: "before", ManifestVersion: 2, VectorCount: 202, CreatedAt: at}, taken)
		snapshots, err := c.ListSnapshots(ctx, "films")
		require.NoError(t, err)
		require.Equal(t, []client.Snapshot{taken}, snapshots)
		var more client.Batch
		require.NoError(t, more.Add("one more", []float32{1, 1}, nil))
		_, err = c.Upsert(ctx, "films", &more)
		require.NoError(t, err)
		was, err := c.GetCollectionAsOf(ctx, "films", "before")
		require.NoError(t, err)
		require.EqualValues(t, 202, was.VectorCount)
		for asOf, want := range map[string]int{"before": 202, "": 203} {
			page, err := c.Scroll(ctx, "films", client.ScrollRequest{Limit: 1000, AsOf: asOf})
			require.NoError(t, err)
			require.Len(t, page.Vectors, want)
		}
		branch, err := c.Branch(ctx, "films", "films-too", "before")
		require.NoError(t, err)
		require.Equal(t, client.Collection{ID: "c-2", Name: "films-too", Dimension: 2, Metric: "l2", VectorCount: 202}, branch)
		restored, err := c.Restore(ctx, "films", "latest")
		require.NoError(t, err)
		require.Equal(t, client.Restored{SnapshotID: "s-1", VectorCount: 202, ManifestVersion: 9, Token: "1-9"}, restored)
		require.NoError(t, c.DeleteSnapshot(ctx, "films", "before"))
		require.True(t, client.IsNotFound(c.DeleteSnapshot(ctx, "films", "before")))
		require.NoError(t, c.DeleteCollection(ctx, "films"))
		_, err = c.GetCollection(ctx, "films")
		require.True(t, client.IsNotFound(err))
	}
}

func TestVectorsTravelBitForBit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(rapid.Float32(), 0, 20).Draw(t, "vector")
		text, err := json.Marshal(client.Vector(want))
		require.NoError(t, err)
		var encoded string
		require.NoError(t, json.Unmarshal(text, &encoded))
		raw, err := base64.StdEncoding.DecodeString(encoded)
		require.NoError(t, err)
		require.Len(t, raw, 4*len(want))
		for i, x := range want {
			require.Equal(t, math.Float32bits(x), binary.LittleEndian.Uint32(raw[4*i:]))
		}
		var got client.Vector
		require.NoError(t, json.Unmarshal(text, &got))
		require.Len(t, got, len(want))
	})
}

// TestBatchRemove compares a batch that lost rows with one that never had them.
func TestBatchRemove(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ids := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z"]{1,9}`), 2, 12, rapid.ID[string]).Draw(t, "ids")
		var b client.Batch
		for i, id := range ids {
			require.NoError(t, b.Add(id, []float32{float32(i)}, nil))
		}
		for range rapid.IntRange(1, len(ids)-1).Draw(t, "removals") {
			i := rapid.IntRange(0, len(ids)-1).Draw(t, "i")
			b.Remove(i)
			ids = append(ids[:i:i], ids[i+1:]...)
			require.Equal(t, len(ids), b.Len())
		}
		require.NoError(t, b.Add("last", nil, []byte(`{"x":1}`)))
		ids = append(ids, "last")

		var body struct {
			Vectors []struct {
				ID string `json:"id"`
			} `json:"vectors"`
		}
		require.NoError(t, json.Unmarshal(client.Body(&b), &body))
		require.Len(t, client.Body(&b), b.Size())
		var got []string
		for _, row := range body.Vectors {
			got = append(got, row.ID)
		}
		require.Equal(t, ids, got)
	})
	var b client.Batch
	require.ErrorContains(t, b.Add("\xff", nil, nil), "invalid UTF-8")
	require.Zero(t, b.Len())
	require.NoError(t, b.Add("ok", nil, nil))
	require.JSONEq(t, `{"vectors":[{"id":"ok","vector":""}]}`, string(client.Body(&b)))
}

func TestErrorShape(t *testing.T) {
	for _, c := range []struct {
		status int
		header http.Header
		body   string
		want   client.Error
		text   string
	}{
		{422, http.Header{"X-Akidb-Write-Applied": {"false"}},
			`{"error":{"code":"dimension_mismatch","message":"vectors[1].vector has 3 values","field":"vectors[1].vector","hint":"use 2","request_id":"r9"}}`,
			client.Error{Status: 422, Code: "dimension_mismatch", Message: "vectors[1].vector has 3 values", Field: "vectors[1].vector", Hint: "use 2", RequestID: "r9", Applied: "false"},
			"vectors[1].vector has 3 values (422 dimension_mismatch, request r9); use 2"},
		{400, http.Header{"X-Request-Id": {"r2"}}, `{"error":{"code":"bad","message":"no","field":"k","future":1}}`,
			client.Error{Status: 400, Code: "bad", Message: "no", Field: "k", RequestID: "r2"}, "no (400 bad, field k, request r2)"},
		{418, nil, "<html>\n  <h1>teapot</h1>", client.Error{Status: 418, Message: "the server answered 418 I'm a teapot: <html> <h1>teapot</h1>"},
			"the server answered 418 I'm a teapot: <html> <h1>teapot</h1> (418)"},
		{302, http.Header{"Location": {"http://elsewhere/"}}, "", client.Error{Status: 302, Message: "the server answered 302 Found"}, "the server answered 302 Found (302)"},
		{499, nil, `{"error":"text"}`, client.Error{Status: 499, Message: `the server answered 499: {"error":"text"}`}, `the server answered 499: {"error":"text"} (499)`},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for name, values := range c.header {
				w.Header()[name] = values
			}
			w.WriteHeader(c.status)
			fmt.Fprint(w, c.body)
		}))
		api, _ := connect(t, server.URL, nil)
		_, err := api.GetCollection(context.Background(), "x")
		var got *client.Error
		require.ErrorAs(t, err, &got)
		require.Equal(t, c.want, *got)
		require.Equal(t, c.text, got.Error())
		server.Close()
	}
}

// TestRetries says, for every way to fail and every kind of call, whether it is sent again.
func TestRetries(t *testing.T) {
	status := func(code int, applied string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			if applied != "" {
				w.Header().Set("X-AkiDB-Write-Applied", applied)
			}
			w.WriteHeader(code)
		}
	}
	hangUp := func(w http.ResponseWriter) {
		conn, _, err := w.(http.Hijacker).Hijack()
		require.NoError(t, err)
		conn.Close()
	}
	for _, c := range []struct {
		name                   string
		fail                   func(http.ResponseWriter)
		read, repeatable, once bool
		unknown                bool
	}{
		{"429", status(429, ""), true, true, true, false},
		{"429 unknown", status(429, "unknown"), true, true, false, true},
		{"502", status(502, ""), true, true, false, false},
		{"503", status(503, ""), true, true, false, false},
		{"503 not applied", status(503, "false"), true, true, true, false},
		{"503 unknown", status(503, "unknown"), true, true, false, true},
		{"504", status(504, ""), true, true, false, false},
		{"500 unknown", status(500, "unknown"), false, false, false, true},
		{"400", status(400, ""), false, false, false, false},
		{"507", status(507, "false"), false, false, false, false},
		{"connection lost", hangUp, true, true, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := clienttest.New(t)
			api, _ := connect(t, s.URL, nil)
			ctx := context.Background()
			_, err := api.CreateCollection(ctx, client.NewCollection{Name: "x", Dimension: 1, Metric: "dot"})
			require.NoError(t, err)
			b := batchOf(t, map[string][]float32{"a": {1}})
			for kind, call := range map[string]struct {
				again bool
				do    func() error
			}{
				"read": {c.read, func() error {
					_, err := api.Search(ctx, "x", client.SearchRequest{Vector: client.Vector{1}, K: 1})
					return err
				}},
				"repeatable": {c.repeatable, func() error { _, err := api.UpsertRepeatable(ctx, "x", b); return err }},
				"once":       {c.once, func() error { _, err := api.Upsert(ctx, "x", b); return err }},
			} {
				var seen atomic.Int32
				s.Before = func(w http.ResponseWriter, _ *http.Request, _ []byte) bool {
					if seen.Add(1) > 3 {
						return false
					}
					c.fail(w)
					return true
				}
				err := call.do()
				if call.again {
					require.NoError(t, err, kind)
					require.EqualValues(t, 4, seen.Load(), kind)
					continue
				}
				require.Error(t, err, kind)
				require.EqualValues(t, 1, seen.Load(), kind)
				if kind == "once" {
					require.Equal(t, c.unknown, errors.Is(err, client.ErrOutcomeUnknown), "%v", err)
				}
			}
		})
	}
}

func TestRetryPauses(t *testing.T) {
	s := clienttest.New(t)
	api, time_ := connect(t, s.URL, nil)
	attempts := 0
	after := ""
	s.Before = func(w http.ResponseWriter, _ *http.Request, _ []byte) bool {
		attempts++
		if after != "" {
			w.Header().Set("Retry-After", after)
		}
		w.WriteHeader(503)
		return true
	}
	_, err := api.ListCollections(context.Background())
	require.ErrorContains(t, err, "GET /collections: the server answered 503")
	require.Greater(t, attempts, 5)
	var sum time.Duration
	mean := 50 * time.Millisecond
	for _, pause := range time_.pauses {
		require.LessOrEqual(t, pause, 2*mean+1)
		mean = min(2*mean, 5*time.Second)
		sum += pause
	}
	require.LessOrEqual(t, sum, 30*time.Second, "RetryFor must bound the whole")

	after, attempts, time_.pauses = "9", 0, nil
	_, err = api.ListCollections(context.Background())
	require.Error(t, err)
	require.Equal(t, 4, attempts, "9 s, 9 s, 9 s, and the next would end after 30 s")
	for _, pause := range time_.pauses {
		require.GreaterOrEqual(t, pause, 9*time.Second)
	}

	time_.now = time_.now.Truncate(time.Second) // a date has no fractions
	after, attempts = time_.now.Add(7*time.Second).UTC().Format(http.TimeFormat), 0
	time_.pauses = nil
	_, err = api.ListCollections(context.Background())
	require.Error(t, err)
	require.GreaterOrEqual(t, time_.pauses[0], 7*time.Second)

	never, _ := connect(t, s.URL, func(c *client.Config) { c.RetryFor = -1 })
	attempts = 0
	_, err = never.ListCollections(context.Background())
	require.Error(t, err)
	require.Equal(t, 1, attempts)
}

func TestNobodyListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())
	var told int
	api, time_ := connect(t, "http://"+address, func(c *client.Config) { c.Notify = func(error, time.Duration) { told++ } })
	_, err = api.Upsert(context.Background(), "x", batchOf(t, map[string][]float32{"a": {1}}))
	require.ErrorContains(t, err, "connection refused")
	require.False(t, errors.Is(err, client.ErrOutcomeUnknown), "nothing was sent")
	require.NotEmpty(t, time_.pauses, "a write that never left may be repeated")
	require.Len(t, time_.pauses, told)
}

func TestCancelled(t *testing.T) {
	s := clienttest.New(t)
	ctx, cancel := context.WithCancel(context.Background())
	api, _ := connect(t, s.URL, func(c *client.Config) { c.NewTimer = func() backoff.Timer { return never{cancel} } })
	s.Before = func(w http.ResponseWriter, _ *http.Request, _ []byte) bool { w.WriteHeader(503); return true }
	_, err := api.ListCollections(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "503", "the reason for waiting is not lost")
}

// never is a timer that does not fire: starting it cancels the call.
type never struct{ cancel func() }

func (n never) Start(time.Duration) { n.cancel() }
func (n never) Stop()               {}
func (n never) C() <-chan time.Time { return nil }

func TestHeadersAndBodies(t *testing.T) {
	s := clienttest.New(t)
	t.Setenv("AKIDB_URL", s.URL+"/api/v1/")
	t.Setenv("AKIDB_API_KEY", "secret")
	api, err := client.New(client.Config{})
	require.NoError(t, err)
	defer api.Close()
	require.Equal(t, s.URL+"/api/v1", api.URL())
	s.Before = func(w http.ResponseWriter, r *http.Request, body []byte) bool {
		require.Equal(t, "Bearer secret", r.Header.Get("Authorization"))
		require.Equal(t, "/api/v1/collections/a%20b/search", r.URL.EscapedPath())
		require.Equal(t, "application/json", r.Header.Get("Content-Type"))
		require.Equal(t, `{"vector":"AACAPwAAAMA=","k":3,"filter":{"must":[]},"exact":true,"target_recall":0.9,"nprobe":4,"consistency":"strong"}`, string(body))
		fmt.Fprint(w, `{"results":[]}`)
		return true
	}
	_, err = api.Search(context.Background(), "a b", client.SearchRequest{
		Vector: client.Vector{1, -2}, K: 3, Filter: []byte(`{"must":[]}`), Exact: true, TargetRecall: 0.9, NProbe: 4, Consistency: "strong",
	})
	require.NoError(t, err)
}

func TestUpsertMustTakeEveryRow(t *testing.T) {
	s := clienttest.New(t)
	api, _ := connect(t, s.URL, nil)
	s.Before = func(w http.ResponseWriter, _ *http.Request, _ []byte) bool {
		fmt.Fprint(w, `{"upserted":0}`)
		return true
	}
	_, err := api.Upsert(context.Background(), "x", batchOf(t, map[string][]float32{"a": {1}}))
	require.ErrorContains(t, err, "the server took 0 of 1 rows")
	s.Before = func(w http.ResponseWriter, _ *http.Request, _ []byte) bool { fmt.Fprint(w, `not json`); return true }
	_, err = api.Upsert(context.Background(), "x", batchOf(t, map[string][]float32{"a": {1}}))
	require.ErrorContains(t, err, `answer "not json"`)
}

func TestConfigReportsEveryProblem(t *testing.T) {
	_, err := client.New(client.Config{URL: "ftp://x", AttemptTimeout: -1, Connections: -1})
	require.ErrorContains(t, err, `server address "ftp://x": want http://host:port`)
	require.ErrorContains(t, err, "attempt timeout is -1ns")
	require.ErrorContains(t, err, "connections is -1")
	_, err = client.New(client.Config{URL: "http://user:word@host"})
	require.ErrorContains(t, err, "want no user")
	require.NotContains(t, err.Error(), "word")
}
