package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
)

// asProgram makes the test binary behave as akidb itself, so that the tests see
// what a shell would: exit codes, signals, the two output streams.
const asProgram = "AKIDB_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// program is akidb with these arguments, in an environment without settings of
// ours but the given ones.
func program(t *testing.T, args []string, environ ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self, args...)
	c.Dir = t.TempDir()
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "AKIDB_") {
			c.Env = append(c.Env, e)
		}
	}
	c.Env = append(c.Env, asProgram+"=1")
	c.Env = append(c.Env, environ...)
	return c
}

// call runs akidb to its end.
func call(t *testing.T, args []string, environ ...string) (code int, stdout, stderr string) {
	t.Helper()
	c := program(t, args, environ...)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatal(err)
	}
	return c.ProcessState.ExitCode(), out.String(), errs.String()
}

func TestExitCodes(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, c := range []struct {
		args    string
		environ string
		code    int
		stdout  string // a part of it
		stderr  string // a part of it
	}{
		{"", "", 0, "Available Commands:", ""},
		{"help", "", 0, "Available Commands:", ""},
		{"--help", "", 0, "akidb [command]", ""},
		{"dev --help", "", 0, "--http-addr ADDR", ""},
		{"version", "", 0, "akidb ", ""},
		{"version -o json", "", 0, `"version": `, ""},
		{"completion bash", "", 0, "bash completion", ""},
		{"config", "", 0, "print", ""},
		{"config print", "", 0, "http-addr", ""},
		{"config validate", "", 0, "the configuration of dev is valid", ""},
		{"config validate --role query --store s3://b", "", 0, "query is valid", "warning: auth is off"},

		{"versoin", "", 2, "", `unknown command "versoin" for "akidb"; did you mean version?`},
		{"zzzzzzzz", "", 2, "", `unknown command "zzzzzzzz" for "akidb"`},
		{"config pritn", "", 2, "", `did you mean print?`},
		{"version extra", "", 2, "", "run 'akidb version --help' for usage"},
		{"version -o xml", "", 2, "", `-o is "xml", want table|json`},
		{"version --verison", "", 2, "", "unknown flag: --verison"},
		{"dev --http-adr x", "", 2, "", "did you mean --http-addr?"},
		{"dev -Z", "", 2, "", "unknown shorthand flag"},
		{"dev --http-addr", "", 2, "", "flag needs an argument"},
		{"dev --http-addr nowhere", "", 2, "", `http-addr is "nowhere" (flag --http-addr): want host:port`},
		{"dev --auth on", "", 2, "", "API keys are not built yet"},
		{"dev --wal-max-bytes 1", "", 2, "", "want at least"},
		{"query --wal-max-bytes 1GiB", "", 2, "", "unknown flag"},
		{"writer", "", 2, "", "writer needs a store"},
		{"query", "", 2, "", "query needs a store"},
		{"dev", "AKIDB_STOR=x", 2, "", "AKIDB_STOR is not known; did you mean AKIDB_STORE?"},
		{"dev --config nowhere.toml", "", 2, "", `config file "nowhere.toml"`},
		{"config print --role queri", "", 2, "", `role is "queri", want dev, writer or query`},

		{"dev --grpc-addr :0 --admin-addr :0 --http-addr " + taken.Addr().String(), "", 1, "", "open http-addr"},
	} {
		t.Run(c.args, func(t *testing.T) {
			var environ []string
			if c.environ != "" {
				environ = append(environ, c.environ)
			}
			code, stdout, stderr := call(t, strings.Fields(c.args), environ...)
			if code != c.code || !strings.Contains(stdout, c.stdout) || !strings.Contains(stderr, c.stderr) {
				t.Errorf("exit %d, want %d\nstdout (want %q):\n%s\nstderr (want %q):\n%s", code, c.code, c.stdout, stdout, c.stderr, stderr)
			}
			if code != 0 && (stdout != "" || !strings.Contains(stderr, "akidb: ")) {
				t.Errorf("a failure belongs on stderr\nstdout: %s\nstderr: %s", stdout, stderr)
			}
		})
	}
}

type fenced struct{}

func (fenced) Error() string { return "fenced" }
func (fenced) ExitCode() int { return exitFenced }

// Any error may choose its code, however deep it is wrapped.
func TestErrorsChooseTheirExitCode(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
	}{
		{nil, 0},
		{errors.New("x"), exitFailed},
		{usageErrorf("x"), exitUsage},
		{fmt.Errorf("open log: %w", fenced{}), exitFenced},
		{withExitCode(exitUnsupported, errors.New("x")), exitUnsupported},
		{fmt.Errorf("x: %w", withExitCode(exitVerificationFailed, errors.New("x"))), exitVerificationFailed},
		{withExitCode(exitVerificationFailed, nil), 0},
	} {
		root := &cobra.Command{Use: "akidb", SilenceErrors: true, SilenceUsage: true}
		root.AddCommand(&cobra.Command{Use: "do", RunE: func(*cobra.Command, []string) error { return c.err }})
		if code := execute(context.Background(), root, []string{"do"}, io.Discard, io.Discard); code != c.code {
			t.Errorf("%v: exit %d, want %d", c.err, code, c.code)
		}
	}
}

func TestMissingRequiredFlagIsUsage(t *testing.T) {
	root := &cobra.Command{Use: "akidb", SilenceErrors: true, SilenceUsage: true}
	sub := &cobra.Command{Use: "do", RunE: func(*cobra.Command, []string) error { return nil }}
	sub.Flags().String("must", "", "")
	if err := sub.MarkFlagRequired("must"); err != nil {
		t.Fatal(err)
	}
	root.AddCommand(sub)
	if code := execute(context.Background(), root, []string{"do"}, io.Discard, io.Discard); code != exitUsage {
		t.Errorf("exit %d", code)
	}
}

func TestVersionJSON(t *testing.T) {
	_, stdout, _ := call(t, []string{"version", "-o", "json"})
	var b buildInfo
	if err := json.Unmarshal([]byte(stdout), &b, json.RejectUnknownMembers(true)); err != nil {
		t.Fatal(err)
	}
	if b.Version == "" || b.Commit == "" || b.Go != runtime.Version() || b.OS != runtime.GOOS || b.Arch != runtime.GOARCH {
		t.Errorf("got %+v", b)
	}
}

func TestConfigPrintShowsOrigins(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "akidb.toml")
	if err := os.WriteFile(file, []byte("log-format = \"json\"\nlog-level = \"warn\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := call(t, []string{"config", "print", "--origin", "-o", "json", "--role", "query", "--store", "s3://b", "--pprof"},
		"AKIDB_CONFIG="+file, "AKIDB_LOG_LEVEL=debug", "AKIDB_WRITER_URL=http://me:secret@w:1")
	if code != 0 {
		t.Fatal(stderr)
	}
	var got map[string]struct {
		Value  any
		Origin string
	}
	if err := json.Unmarshal([]byte(stdout), &got, json.MatchCaseInsensitiveNames(true)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][2]any{
		"store":      {"s3://b", "flag --store"},
		"pprof":      {true, "flag --pprof"},
		"log-level":  {"debug", "env AKIDB_LOG_LEVEL"},
		"log-format": {"json", "file " + file},
		"auth":       {"off", "default"},
		"writer-url": {"http://redacted@w:1", "env AKIDB_WRITER_URL"},
	} {
		if got[name].Value != want[0] || got[name].Origin != want[1] {
			t.Errorf("%s: got %+v, want %v", name, got[name], want)
		}
	}
	if strings.Contains(stdout, "secret") {
		t.Errorf("a secret is shown:\n%s", stdout)
	}
}

// served is a server process that has announced its addresses.
type served struct {
	cmd               *exec.Cmd
	stderr            *bufio.Reader
	http, grpc, admin string
}

func serve(t *testing.T, args ...string) *served {
	t.Helper()
	args = append(args, "--http-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--log-format", "json")
	s := &served{cmd: program(t, args)}
	pipe, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.stderr = bufio.NewReader(pipe)
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.cmd.ProcessState == nil {
			_ = s.cmd.Process.Kill()
			_ = s.cmd.Wait()
		}
	})
	var line struct{ Msg, Role, HTTP, GRPC, Admin string }
	s.readUntil(t, func(text string) bool {
		return json.Unmarshal([]byte(text), &line, json.MatchCaseInsensitiveNames(true)) == nil && line.Msg == "listening"
	})
	if line.Role != args[0] {
		t.Errorf("role %q, want %q", line.Role, args[0])
	}
	s.http, s.grpc, s.admin = "http://"+line.HTTP, line.GRPC, "http://"+line.Admin
	return s
}

// readUntil reads the process's log up to the line wanted.
func (s *served) readUntil(t *testing.T, wanted func(string) bool) {
	t.Helper()
	var seen strings.Builder
	for {
		line, err := s.stderr.ReadString('\n')
		seen.WriteString(line)
		if wanted(line) {
			return
		}
		if err != nil {
			t.Fatalf("the log ended: %v\n%s", err, seen.String())
		}
	}
}

// stop signals the process and returns its exit code.
func (s *served) stop(t *testing.T, sig os.Signal) int {
	t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, s.stderr)
	_ = s.cmd.Wait()
	return s.cmd.ProcessState.ExitCode()
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func dialGRPC(t *testing.T, addr string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestDevAnswersOnEveryPortAndStopsCleanly(t *testing.T) {
	s := serve(t, "dev", "--pprof", "--log-level", "error") // quiet, and yet announced
	for _, port := range []string{s.http, s.admin} {
		for path, want := range map[string]string{"/health": `"role":"dev"`, "/livez": `"ok"`, "/readyz": `"ok"`, "/metrics": "akidb_build_info{"} {
			if status, body := get(t, port+path); status != 200 || !strings.Contains(body, want) {
				t.Errorf("%s%s: %d %s", port, path, status, body)
			}
		}
	}
	if status, body := get(t, s.http+"/api/v1/nonsense"); status != 404 || !strings.Contains(body, `"code":"no_such_route"`) {
		t.Errorf("%d %s", status, body)
	}
	if status, _ := get(t, s.admin+"/debug/pprof/cmdline"); status != 200 {
		t.Errorf("pprof was asked for: %d", status)
	}
	if status, _ := get(t, s.http+"/debug/pprof/cmdline"); status != 404 {
		t.Errorf("pprof on the REST port: %d", status)
	}

	conn := dialGRPC(t, s.grpc)
	answer, err := grpc_health_v1.NewHealthClient(conn).Check(context.Background(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil || answer.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("grpc health: %v, %v", answer, err)
	}
	if names := grpcServices(t, conn); !strings.Contains(names, "grpc.health.v1.Health") {
		t.Errorf("reflection lists %s", names)
	}
	http.DefaultClient.CloseIdleConnections()
	if code := s.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit %d", code)
	}
}

func grpcServices(t *testing.T, conn *grpc.ClientConn) string {
	t.Helper()
	stream, err := grpc_reflection_v1.NewServerReflectionClient(conn).ServerReflectionInfo(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	err = stream.Send(&grpc_reflection_v1.ServerReflectionRequest{
		MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{},
	})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(answer.GetListServicesResponse())
}

// A watch on the health service lives as long as its client, which must not hold
// up the drain: the grace is longer than the test would live.
func TestWatchersDoNotHoldUpTheDrain(t *testing.T) {
	s := serve(t, "dev", "--shutdown-grace", "24h")
	watch, err := grpc_health_v1.NewHealthClient(dialGRPC(t, s.grpc)).Watch(context.Background(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}
	if code := s.stop(t, os.Interrupt); code != 0 {
		t.Errorf("exit %d", code)
	}
}

func TestSecondSignalStopsAtOnce(t *testing.T) {
	s := serve(t, "dev", "--shutdown-grace", "24h")
	// Half a request: the drain would wait for the other half.
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.http, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, body := get(t, s.http+"/health"); body == "" {
		t.Error("no answer")
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.readUntil(t, func(line string) bool { return strings.Contains(line, "once more to stop at once") })
	if code := s.stop(t, syscall.SIGTERM); code != exitFailed {
		t.Errorf("exit %d, want %d", code, exitFailed)
	}
}
