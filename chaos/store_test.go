package chaos

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/akidb/akidb/segments/blob/s3test"
)

// A writer refuses a store whose conditional puts are not atomic: a real one,
// versitygw 1.7.0, which answers right as long as nobody races. Nothing is left
// in it. The next version it takes.
func TestUnsoundStoreIsRefused(t *testing.T) {
	t.Parallel()
	e := s3test.StartUnsound(t)
	o := onS3(e)
	for _, command := range [][]string{{"writer"}, {"dev"}, {"takeover", "--accept-loss"}} {
		args := append(command, "--store", o.Store, "--data-dir", t.TempDir())
		if command[0] != "takeover" {
			args = append(args, "--http-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0")
		}
		f := akidb.Run(t, o.Env, append(args, o.Args...)...)
		require.Equal(t, 1, f.Code, f.Stderr)
		require.Regexp(t, `unsound store: \d+ of 16 racing conditional puts \(If-(None-)?Match.*\) succeeded; `+
			`this store's conditional writes are not atomic and would lose data\. Use another store, or `, f.Stderr)
	}
	require.NoError(t, filepath.WalkDir(e.Dir, func(path string, d fs.DirEntry, err error) error {
		require.True(t, err != nil || d.IsDir(), path)
		return err
	}))

	sound := akidb.Start(t, "writer", onS3(s3test.Start(t)))
	sound.Create(t, "points", 3, "l2")
}

// A store that takes connections and answers none: the process stays ready,
// answers, says what is wrong, and asks the store no more than now and then.
func TestStoreIsBlackHole(t *testing.T) {
	t.Parallel()
	over := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-over }))
	defer server.Close()
	defer close(over)
	begin := time.Now()
	query := akidb.Start(t, "query", onS3(s3test.Endpoint{URL: server.URL, Region: "us-east-1", Bucket: "b", AccessKey: "a", SecretKey: "s"}))
	var opened []string
	Eventually(t, "an open breaker", func() bool {
		requireUnavailable(t, query.Call(t, "GET", "/collections/points", nil), "unavailable", "")
		var health struct{ Degraded map[string]string }
		query.OK(t, "GET", "/health", nil, &health)
		opened = opened[:0]
		for service, reason := range health.Degraded {
			if strings.HasPrefix(reason, "circuit breaker open") {
				opened = append(opened, service)
			}
		}
		return len(opened) > 0
	})
	t.Logf("%v opened %v after the start", opened, time.Since(begin))
	a, err := query.Send("GET", "/readyz", nil)
	require.NoError(t, err)
	require.Equal(t, 200, a.Status, a.String())
	var reset struct {
		Breakers []struct{ Service, Previous, State string }
	}
	query.OK(t, "POST", "/admin/circuit-breaker/reset", nil, &reset)
	require.Len(t, reset.Breakers, 4)
	for _, b := range reset.Breakers {
		require.Equal(t, "closed", b.State, b.Service)
	}
}
