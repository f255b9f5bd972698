package s3blob_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/s3blob"
	"github.com/akidb/akidb/segments/blob/s3test"
)

// scripted opens a store on a server that answers as told and counts requests.
func scripted(t *testing.T, answer http.HandlerFunc) (*s3blob.Store, func() int) {
	t.Helper()
	var mu sync.Mutex
	requests := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		requests++
		mu.Unlock()
		io.Copy(io.Discard, r.Body)
		answer(w, r)
	}))
	t.Cleanup(server.Close)
	s3test.Endpoint{Region: "us-east-1", AccessKey: "a", SecretKey: "s"}.Setenv(t)
	t.Setenv("AWS_MAX_ATTEMPTS", "5") // must not matter
	return openAt(t, server.URL, "bucket"), func() int {
		mu.Lock()
		defer mu.Unlock()
		return requests
	}
}

func openAt(t *testing.T, endpoint, bucket string) *s3blob.Store {
	t.Helper()
	s, err := s3blob.Open(t.Context(), s3blob.Config{Bucket: bucket, Endpoint: endpoint, PathStyle: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// calls makes each kind of call on key "k".
var calls = map[string]func(context.Context, *s3blob.Store) error{
	"get":    func(ctx context.Context, s *s3blob.Store) error { _, _, err := s.Get(ctx, "k"); return err },
	"read":   func(ctx context.Context, s *s3blob.Store) error { return s.ReadRange(ctx, "k", 0, make([]byte, 4)) },
	"stat":   func(ctx context.Context, s *s3blob.Store) error { _, err := s.Stat(ctx, "k"); return err },
	"list":   func(ctx context.Context, s *s3blob.Store) error { _, err := s.List(ctx, blob.Listing{}); return err },
	"delete": func(ctx context.Context, s *s3blob.Store) error { return s.Delete(ctx, "k") },
	"put":    func(ctx context.Context, s *s3blob.Store) error { return put(ctx, s, blob.Condition{}) },
	"put if-match": func(ctx context.Context, s *s3blob.Store) error {
		return put(ctx, s, blob.Condition{IfMatch: "v"})
	},
	"put if-absent": func(ctx context.Context, s *s3blob.Store) error {
		return put(ctx, s, blob.Condition{IfAbsent: true})
	},
}

func put(ctx context.Context, s *s3blob.Store, cond blob.Condition) error {
	_, err := s.Put(ctx, "k", strings.NewReader("body"), 4, cond)
	return err
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, `<?xml version="1.0"?><Error><Code>%s</Code><Message>scripted</Message></Error>`, code)
}

var sentinels = []error{blob.ErrNotFound, blob.ErrPrecondition, blob.ErrUnavailable, io.ErrUnexpectedEOF}

// wantOnly checks that err is the sentinel want, or if want is nil some error
// that is none of them.
func wantOnly(t *testing.T, what string, err, want error) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: got no error", what)
	}
	for _, sentinel := range sentinels {
		if errors.Is(err, sentinel) != (sentinel == want) {
			t.Errorf("%s: got %v, want only %v", what, err, want)
		}
	}
}

func TestStatusToSentinel(t *testing.T) {
	for _, c := range []struct {
		call   string
		status int
		code   string
		want   error
	}{
		{"get", 404, "NoSuchKey", blob.ErrNotFound},
		{"read", 404, "NoSuchKey", blob.ErrNotFound},
		{"stat", 404, "NoSuchKey", blob.ErrNotFound},
		{"put if-match", 404, "NoSuchKey", blob.ErrNotFound},
		{"get", 404, "NoSuchBucket", nil},
		{"read", 404, "NoSuchBucket", nil},
		{"stat", 404, "NoSuchBucket", nil},
		{"list", 404, "NoSuchBucket", nil},
		{"delete", 404, "NoSuchBucket", nil},
		{"put if-match", 404, "NoSuchBucket", nil},
		{"read", 416, "InvalidRange", io.ErrUnexpectedEOF},
		{"put if-match", 412, "PreconditionFailed", blob.ErrPrecondition},
		{"put if-absent", 412, "PreconditionFailed", blob.ErrPrecondition},
		{"put if-absent", 409, "ConditionalRequestConflict", blob.ErrPrecondition},
		{"put if-absent", 409, "OperationAborted", blob.ErrUnavailable},
		{"get", 403, "AccessDenied", nil},
		{"put", 403, "SignatureDoesNotMatch", nil},
		{"stat", 403, "Forbidden", nil},
		{"get", 301, "PermanentRedirect", nil},
		{"put", 400, "InvalidRequest", nil},
		{"put", 400, "RequestTimeout", blob.ErrUnavailable},
		{"put", 501, "NotImplemented", blob.ErrUnavailable},
	} {
		s, requests := scripted(t, func(w http.ResponseWriter, _ *http.Request) { refuse(w, c.status, c.code) })
		what := fmt.Sprintf("%s: %d %s", c.call, c.status, c.code)
		err := calls[c.call](t.Context(), s)
		wantOnly(t, what, err, c.want)
		want := 1
		if c.call == "stat" && c.status == 404 {
			want = 2 // the GET that tells key from bucket
		}
		if n := requests(); n != want {
			t.Errorf("%s: made %d requests, want %d", what, n, want)
		}
	}
	for _, status := range []int{429, 500, 502, 503, 504, 408} {
		s, requests := scripted(t, func(w http.ResponseWriter, _ *http.Request) { refuse(w, status, "Anything") })
		for name, call := range calls {
			wantOnly(t, fmt.Sprintf("%s: %d", name, status), call(t.Context(), s), blob.ErrUnavailable)
		}
		if n := requests(); n != len(calls) {
			t.Errorf("%d: made %d requests for %d calls", status, n, len(calls))
		}
	}
}

// TestConnectionLost covers what happens to a request without an answer: once
// made, it is never made again.
func TestConnectionLost(t *testing.T) {
	hangUp := func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		conn.Close()
	}
	for name, call := range calls {
		s, requests := scripted(t, hangUp)
		wantOnly(t, name, call(t.Context(), s), blob.ErrUnavailable)
		if n := requests(); n != 1 {
			t.Errorf("%s: made %d requests, want 1", name, n)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + listener.Addr().String()
	listener.Close()
	s := openAt(t, nobody, "bucket")
	for name, call := range calls {
		wantOnly(t, name+" of nobody", call(t.Context(), s), blob.ErrUnavailable)
	}
}

// TestBlackHole has a server that takes requests and answers none.
func TestBlackHole(t *testing.T) {
	answered := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-answered }))
	defer server.Close()
	defer close(answered)
	s3test.Endpoint{Region: "us-east-1", AccessKey: "a", SecretKey: "s"}.Setenv(t)
	s, err := s3blob.Open(t.Context(), s3blob.Config{
		Bucket: "bucket", Endpoint: server.URL, PathStyle: true, Stall: time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for name, call := range calls {
		wantOnly(t, name, call(t.Context(), s), blob.ErrUnavailable)
	}
}

// TestBadBodies has replies that a reader must not take for the object.
func TestBadBodies(t *testing.T) {
	for _, c := range []struct {
		name, header, value string
		length, sent        int
		want                error
	}{
		{"cut off", "Content-Range", "bytes 0-3/10", 4, 3, blob.ErrUnavailable},
		{"cut off at once", "Content-Range", "bytes 0-3/10", 4, 0, blob.ErrUnavailable},
		{"object ends", "Content-Range", "bytes 0-2/3", 3, 3, io.ErrUnexpectedEOF},
		{"range ignored", "X-None", "", 10, 10, nil},
		{"another range", "Content-Range", "bytes 1-4/10", 4, 4, nil},
		{"nonsense", "Content-Range", "bytes ?", 4, 4, nil},
	} {
		s, _ := scripted(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(c.header, c.value)
			w.Header().Set("Content-Length", fmt.Sprint(c.length))
			w.WriteHeader(http.StatusPartialContent)
			w.Write([]byte("0123456789")[:c.sent])
		})
		wantOnly(t, c.name, s.ReadRange(t.Context(), "k", 0, make([]byte, 4)), c.want)
		if c.sent < c.length {
			_, _, err := s.Get(t.Context(), "k")
			wantOnly(t, "get "+c.name, err, blob.ErrUnavailable)
		}
	}
}

func TestUnorderedListing(t *testing.T) {
	s, _ := scripted(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `<ListBucketResult><Contents><Key>b</Key></Contents><Contents><Key>a</Key></Contents></ListBucketResult>`)
	})
	_, err := s.List(t.Context(), blob.Listing{})
	wantOnly(t, "unordered listing", err, nil)
}

// TestPutRequest checks what is sent: one plain body with its own checksum.
func TestPutRequest(t *testing.T) {
	var header http.Header
	s, _ := scripted(t, func(w http.ResponseWriter, r *http.Request) {
		header = r.Header.Clone()
		w.Header().Set("ETag", `"v2"`)
	})
	version, err := s.Put(t.Context(), "k", strings.NewReader("body"), 4, blob.Condition{IfMatch: "v1"})
	if err != nil || version != "v2" {
		t.Fatalf("got version %q, %v", version, err)
	}
	sum := binary.BigEndian.AppendUint32(nil, crc32.Checksum([]byte("body"), blob.Castagnoli))
	for name, want := range map[string]string{
		"X-Amz-Checksum-Crc32c": base64.StdEncoding.EncodeToString(sum),
		"If-Match":              `"v1"`,
		"If-None-Match":         "",
		"Content-Length":        "4",
		"X-Amz-Trailer":         "",
		"Content-Encoding":      "",
	} {
		if got := header.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

// TestConnectionsAreKept makes bursts of parallel reads and counts connections.
func TestConnectionsAreKept(t *testing.T) {
	const parallel, bursts = 64, 5
	var mu sync.Mutex
	connections, arrived := 0, 0
	release := make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		arrived++
		wait := release
		if arrived%parallel == 0 { // the whole burst is here
			close(release)
			release = make(chan struct{})
		}
		mu.Unlock()
		<-wait
		w.Header().Set("Content-Range", "bytes 0-3/4")
		w.Header().Set("Content-Length", "4")
		w.WriteHeader(http.StatusPartialContent)
		w.Write([]byte("body"))
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			mu.Lock()
			connections++
			mu.Unlock()
		}
	}
	server.Start()
	defer server.Close()
	s3test.Endpoint{Region: "us-east-1", AccessKey: "a", SecretKey: "s"}.Setenv(t)
	s := openAt(t, server.URL, "bucket")
	for range bursts {
		var group sync.WaitGroup
		for range parallel {
			group.Go(func() {
				if err := s.ReadRange(t.Context(), "k", 0, make([]byte, 4)); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
	}
	// A burst may begin before the last connection of the one before is back.
	if connections > 2*parallel {
		t.Errorf("%d bursts of %d reads made %d connections", bursts, parallel, connections)
	}
}

func TestConfigReportsEveryProblem(t *testing.T) {
	c := s3blob.Config{Bucket: "a/b", Prefix: "/x", Endpoint: "host:1", Stall: -1, Connections: -1}
	_, err := s3blob.Open(t.Context(), c)
	for _, want := range []string{"bucket", "prefix", "endpoint", "stall", "connections"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want something about %s", err, want)
		}
	}
}

// TestRealRefusals has the real server say what the script above only claims.
func TestRealRefusals(t *testing.T) {
	e := s3test.Start(t)
	e.Setenv(t)
	missing := openAt(t, e.URL, "no-such-bucket")
	for name, call := range calls {
		wantOnly(t, name+" without a bucket", call(t.Context(), missing), nil)
	}
	e.SecretKey = "wrong"
	e.Setenv(t)
	stranger := openAt(t, e.URL, e.Bucket)
	for name, call := range calls {
		wantOnly(t, name+" with a wrong key", call(t.Context(), stranger), nil)
	}
}

// TestFailedUploadIsAborted fails a part, and then the end, of a big upload on
// its way to the real server, and looks for what is left.
func TestFailedUploadIsAborted(t *testing.T) {
	e := s3test.Start(t)
	e.Setenv(t)
	target, err := url.Parse(e.URL)
	if err != nil {
		t.Fatal(err)
	}
	direct := openAt(t, e.URL, e.Bucket)
	body := bytes.Repeat([]byte("0123456789abcdef"), 65<<16) // 65 MiB
	for name, fails := range map[string]func(*http.Request) bool{
		"part": func(r *http.Request) bool {
			return r.Method == http.MethodPut && r.URL.Query().Get("partNumber") == "2"
		},
		"end": func(r *http.Request) bool { return r.Method == http.MethodPost && r.URL.Query().Has("uploadId") },
	} {
		var mu sync.Mutex
		methods := map[string]int{}
		proxy := &httputil.ReverseProxy{
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(target)
				r.Out.Host = r.In.Host // it is part of the signature
			},
			ErrorLog: log.New(io.Discard, "", 0), // of the other parts, given up
		}
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			methods[r.Method]++
			mu.Unlock()
			if fails(r) {
				io.Copy(io.Discard, r.Body)
				refuse(w, http.StatusServiceUnavailable, "SlowDown")
				return
			}
			proxy.ServeHTTP(w, r)
		}))
		s := openAt(t, server.URL, e.Bucket)
		_, err := s.Put(t.Context(), "big", bytes.NewReader(body), int64(len(body)), blob.Condition{IfAbsent: true})
		wantOnly(t, name, err, blob.ErrUnavailable)
		server.Close()
		if methods[http.MethodDelete] != 1 {
			t.Errorf("%s: requests %v, want one DELETE to abort", name, slices.Sorted(maps.Keys(methods)))
		}
		_, err = direct.Stat(t.Context(), "big")
		wantOnly(t, name+": stat", err, blob.ErrNotFound)
	}
}
