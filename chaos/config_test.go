package chaos

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// settings are the flags of a server that the contract names, and a value that
// is not the default.
var settings = []struct{ flag, value string }{
	{"http-addr", "127.0.0.1:0"},
	{"grpc-addr", "127.0.0.1:0"},
	{"admin-addr", "127.0.0.1:0"},
	{"data-dir", "/some/where"},
	{"store", "s3://bucket/prefix"},
	{"s3-endpoint", "http://127.0.0.1:7070"},
	{"s3-region", "eu-somewhere-1"},
	{"s3-path-style", "true"},
	{"writer-url", "http://127.0.0.1:8081"},
	{"cache-bytes", "67108864"},
	{"disk-cache-dir", "/some/cache"},
	{"disk-cache-bytes", "1073741824"},
	{"auth", "off"},
	{"pprof", "true"},
	{"otlp-endpoint", "127.0.0.1:4317"},
	{"log-level", "warn"},
	{"log-format", "json"},
}

func variable(flag string) string {
	return "AKIDB_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Every flag is an environment variable and a key of the file, too, and the
// program says which it took.
func TestConfig(t *testing.T) {
	t.Parallel()
	var flags, environ, lines []string
	for _, s := range settings {
		flags = append(flags, "--"+s.flag+"="+s.value)
		environ = append(environ, variable(s.flag)+"="+s.value)
		lines = append(lines, fmt.Sprintf("%s = %q", s.flag, s.value))
	}
	file := writeLines(t, strings.ReplaceAll(strings.Join(lines, "\n"), `"true"`, "true"))
	for _, role := range []string{"dev", "writer", "query"} {
		command := []string{"config", "print", "--role", role, "--origin", "-o", "json"}
		for _, c := range []struct {
			origin string
			f      Finished
		}{
			{"flag", akidb.Run(t, nil, append(command, flags...)...)},
			{"env", akidb.Run(t, environ, command...)},
			{"file", akidb.Run(t, nil, append(command, "--config", file)...)},
			{"file", akidb.Run(t, []string{"AKIDB_CONFIG=" + file}, command...)},
		} {
			require.Zero(t, c.f.Code, c.f.Stderr)
			var got map[string]struct {
				Value  any
				Origin string
			}
			require.NoError(t, decode([]byte(c.f.Stdout), &got), c.f.Stdout)
			for _, s := range settings {
				require.Equal(t, s.value, fmt.Sprint(got[s.flag].Value), "%s %s", role, s.flag)
				require.Regexp(t, "^"+c.origin+" ", got[s.flag].Origin, "%s %s", role, s.flag)
			}
		}
	}
}

func writeLines(t *testing.T, lines ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "akidb.toml")
	require.NoError(t, os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600))
	return file
}

// A process that is told everything by its environment, and one by its file.
func TestConfiguredProcess(t *testing.T) {
	t.Parallel()
	values := func(dir string) [][2]string {
		return [][2]string{{"http-addr", "127.0.0.1:0"}, {"grpc-addr", "127.0.0.1:0"}, {"admin-addr", "127.0.0.1:0"},
			{"data-dir", dir}, {"log-format", "json"}, {"flush-age", "24h"}}
	}
	var environ, lines []string
	byEnv, byFile := t.TempDir(), t.TempDir()
	for _, v := range values(byEnv) {
		environ = append(environ, variable(v[0])+"="+v[1])
	}
	for _, v := range values(byFile) {
		lines = append(lines, fmt.Sprintf("%s = %q", v[0], v[1]))
	}
	for dir, o := range map[string]Options{
		byEnv:  {Bare: true, Env: environ},
		byFile: {Bare: true, Args: []string{"--config", writeLines(t, lines...)}},
	} {
		dev := akidb.Start(t, "dev", o)
		dev.Create(t, "points", 3, "l2")
		dev.Upsert(t, "points", numbered(0, 10)...)
		require.Equal(t, 10, dev.Count(t, "points", "latest"))
		require.DirExists(t, filepath.Join(dir, "objects", "collections"))
	}
}

// Probes and metrics answer on both ports, and gRPC's health on its own.
func TestProbes(t *testing.T) {
	t.Parallel()
	o := stores["file"](t)
	writer := akidb.Start(t, "writer", o)
	for _, s := range []*Server{
		akidb.Start(t, "dev", Options{}), writer, akidb.Start(t, "query", o.with("--writer-url", writer.URL())),
	} {
		require.NotContains(t, []string{s.HTTP, s.GRPC, s.Admin}, ":0")
		s.Call(t, "GET", "/collections", nil) // so that there is a request to count
		for _, address := range []string{s.HTTP, s.Admin} {
			for _, path := range []string{"/health", "/livez", "/readyz"} {
				status, body := fetch(t, s, "http://"+address+path)
				require.Equal(t, 200, status, body)
				var report struct{ Status, Role string }
				require.NoError(t, decode([]byte(body), &report), "%s: %s", path, body)
				require.Equal(t, "ok", report.Status)
				if path == "/health" {
					require.Equal(t, s.Role, report.Role)
				}
			}
			status, body := fetch(t, s, "http://"+address+"/metrics")
			require.Equal(t, 200, status)
			require.Regexp(t, `akidb_http_requests_total\{code="200",method="GET",route="/api/v1/collections"\} [1-9]`, body)
			require.Contains(t, body, "akidb_http_request_duration_seconds_bucket{")
			require.Contains(t, body, "akidb_s3_operations_total{")
		}
		status, _ := fetch(t, s, "http://"+s.Admin+"/debug/pprof/")
		require.Equal(t, 404, status, "pprof is off unless asked for")
		requireGRPCHealth(t, s)
	}
	profiled := akidb.Start(t, "dev", Options{Args: []string{"--pprof"}})
	status, _ := fetch(t, profiled, "http://"+profiled.Admin+"/debug/pprof/")
	require.Equal(t, 200, status)
}

func fetch(t *testing.T, s *Server, url string) (status int, body string) {
	t.Helper()
	resp, err := s.client.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(text)
}

// requireGRPCHealth asks grpc.health.v1 as the protocol has it: over HTTP/2, an
// empty message behind a prefix of a flag and a length, and one back that says
// SERVING.
func requireGRPCHealth(t *testing.T, s *Server) {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequest("POST", "http://"+s.GRPC+"/grpc.health.v1.Health/Check", strings.NewReader("\x00\x00\x00\x00\x00"))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("TE", "trailers")
	resp, err := (&http.Client{Transport: transport, Timeout: hang}).Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, "\x00\x00\x00\x00\x02\x08\x01", string(text))
	require.Equal(t, "0", resp.Trailer.Get("Grpc-Status"))
}
