// Package chaos tries the product as its users do: processes of the real
// binary, real sockets, real files, a real S3 server, and nothing but what the
// public contract offers to look through. Its tests start roles, kill and stop
// them, and hold what is read afterwards against what was acknowledged.
//
//	process.go     processes: start, signal, kill, wait, and their output
//	rest.go        requests, each sent once, and rows
//	history.go     what clients did and saw, and the checker of it
//	hop_test.go    ways between processes that can be bad
//	fleet_test.go  all processes there are, on such ways, under load, and the audit of them
//
// AKIDB_CHAOS=full has scenarios run at full length, AKIDB_CHAOS_REPORT names a
// file to which each appends what it came to, and AKIDB_TEST_SEED repeats the
// choices of a run: `make chaos`.
//
// No test waits for a time to pass, unless load for a time is what it is about. Where it waits for something to happen it
// gives up after [hang], which is for hangs only.
package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
)

// hang is how long anything may take before a test calls it hung.
const hang = 2 * time.Minute

// Program is the binary under test.
type Program struct{ path string }

// Build builds akidb into dir, under the race detector if the caller is.
func Build(dir string) (Program, error) {
	p := Program{filepath.Join(dir, "akidb")}
	args := []string{"build", "-o", p.path}
	if raceEnabled() {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, "github.com/akidb/akidb/cmd/akidb")...).CombinedOutput()
	if err != nil {
		return Program{}, fmt.Errorf("build akidb: %w\n%s", err, out)
	}
	return p, nil
}

func raceEnabled() bool {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return false
	}
	for _, s := range info.Settings {
		if s.Key == "-race" {
			return s.Value == "true"
		}
	}
	return false
}

// command is akidb in an environment without settings of ours or of AWS but the
// given ones.
func (p Program) command(ctx context.Context, dir string, environ, args []string) *exec.Cmd {
	c := exec.CommandContext(ctx, p.path, args...)
	c.Dir = dir
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "AKIDB_") && !strings.HasPrefix(e, "AWS_") {
			c.Env = append(c.Env, e)
		}
	}
	c.Env = append(c.Env, "XDG_CACHE_HOME="+filepath.Join(dir, "cache"))
	c.Env = append(c.Env, environ...)
	c.SysProcAttr = dieWithParent()
	return c
}

// Finished is a command that came to its end.
type Finished struct {
	Code           int
	Stdout, Stderr string
}

// Run runs one command line to its end.
func (p Program) Run(t testing.TB, environ []string, args ...string) Finished {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(context.Background(), hang, errors.New("it hangs"))
	defer cancel()
	c := p.command(ctx, t.TempDir(), environ, args)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited || ctx.Err() != nil {
		t.Fatalf("akidb %s: %v %v\n%s", strings.Join(args, " "), err, context.Cause(ctx), errs.String())
	}
	return Finished{c.ProcessState.ExitCode(), out.String(), errs.String()}
}

// OK is Run for a command that has to succeed; it returns what was printed.
func (p Program) OK(t testing.TB, args ...string) string {
	t.Helper()
	f := p.Run(t, nil, args...)
	if f.Code != 0 {
		t.Fatalf("akidb %s: exit %d\n%s%s", strings.Join(args, " "), f.Code, f.Stdout, f.Stderr)
	}
	return f.Stdout
}

// Options is how a server is started.
type Options struct {
	DataDir string   // "": one of its own, which lives as long as the test
	Store   string   // "": the role's default
	Args    []string // further flags
	Env     []string // NAME=value
	Bare    bool     // nothing is set but by Args and Env; they must ask for a JSON log
}

// Server is a server role: one process at a time, on the same addresses and
// data directory each time it is started.
type Server struct {
	Role              string
	DataDir           string
	HTTP, GRPC, Admin string // host:port, as announced

	t       testing.TB
	program Program
	opts    Options
	runs    []*run
	client  *http.Client
}

// Start starts a role on free ports and returns once it is ready. When the test
// ends the server is told to stop, and has to do that well; what it wrote is
// shown if the test failed.
func (p Program) Start(t testing.TB, role string, opts Options) *Server {
	t.Helper()
	host := loopback()
	s := &Server{
		Role: role, DataDir: opts.DataDir, t: t, program: p, opts: opts, client: newHTTPClient(),
		HTTP: host + ":0", GRPC: host + ":0", Admin: host + ":0",
	}
	if s.DataDir == "" {
		s.DataDir = t.TempDir()
	}
	t.Cleanup(s.end)
	s.Restart()
	return s
}

// Restart starts a server that has ended and returns once it is ready.
func (s *Server) Restart() {
	s.t.Helper()
	err := s.launch()
	if err == nil {
		err = s.awaitReady()
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// launch starts a process.
func (s *Server) launch() error {
	args := []string{s.Role}
	if !s.opts.Bare {
		args = append(args, "--http-addr", s.HTTP, "--grpc-addr", s.GRPC, "--admin-addr", s.Admin,
			"--data-dir", s.DataDir, "--log-format", "json")
	}
	if s.opts.Store != "" {
		args = append(args, "--store", s.opts.Store)
	}
	r := &run{exited: make(chan struct{}), output: output{listening: make(chan struct{})}}
	r.cmd = s.program.command(context.Background(), s.t.TempDir(), s.opts.Env, append(args, s.opts.Args...))
	r.cmd.Stdout, r.cmd.Stderr = &r.output, &r.output
	if err := r.cmd.Start(); err != nil {
		return fmt.Errorf("start akidb %s: %w", s.Role, err)
	}
	go func() { _ = r.cmd.Wait(); close(r.exited) }()
	s.runs = append(s.runs, r)
	return nil
}

// awaitReady waits until the process that was launched is ready, or has ended.
func (s *Server) awaitReady() error {
	r := s.current()
	end := time.After(hang)
	select {
	case <-r.output.listening:
	case <-r.exited:
		return fmt.Errorf("akidb %s ended instead of listening: %v", s.Role, r.cmd.ProcessState)
	case <-end:
		return fmt.Errorf("akidb %s does not say that it listens", s.Role)
	}
	if a := r.output.addresses; len(s.runs) == 1 { // later ones are on the same, which others may be reading
		s.HTTP, s.GRPC, s.Admin = a.HTTP, a.GRPC, a.Admin
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !s.ready() {
		select {
		case <-tick.C:
		case <-r.exited:
			return fmt.Errorf("akidb %s ended instead of getting ready: %v", s.Role, r.cmd.ProcessState)
		case <-end:
			return fmt.Errorf("akidb %s never gets ready", s.Role)
		}
	}
	return nil
}

func (s *Server) ready() bool {
	resp, err := s.client.Get("http://" + s.Admin + "/readyz")
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

func (s *Server) current() *run { return s.runs[len(s.runs)-1] }

// URL is the address of the REST interface.
func (s *Server) URL() string { return "http://" + s.HTTP }

// Signal sends a signal to the process.
func (s *Server) Signal(signal os.Signal) {
	s.t.Helper()
	if err := s.current().cmd.Process.Signal(signal); err != nil {
		s.t.Fatalf("send %v to akidb %s: %v", signal, s.Role, err)
	}
}

// Pause stops the process until it gets SIGCONT. When it returns no thread runs:
// the signal takes effect only once one of them is scheduled.
func (s *Server) Pause() {
	s.t.Helper()
	s.Signal(syscall.SIGSTOP)
	Eventually(s.t, "akidb "+s.Role+" stands still", func() bool { return standsStill(s.current().cmd.Process.Pid) })
}

// Wait waits for the process to end and returns its exit code, -1 if a signal
// ended it.
func (s *Server) Wait() int {
	s.t.Helper()
	r := s.current()
	select {
	case <-r.exited:
	case <-time.After(hang):
		_ = r.cmd.Process.Signal(syscall.SIGQUIT) // shows where it hangs
		<-r.exited
		s.t.Fatalf("akidb %s does not end", s.Role)
	}
	return r.cmd.ProcessState.ExitCode()
}

// Kill ends the process with SIGKILL.
func (s *Server) Kill() {
	s.t.Helper()
	s.Signal(syscall.SIGKILL)
	s.Wait()
}

// Stop ends the process with SIGTERM. It has to end with exit code 0.
func (s *Server) Stop() {
	s.t.Helper()
	s.Signal(syscall.SIGTERM)
	if code := s.Wait(); code != 0 {
		s.t.Errorf("akidb %s stopped with exit code %d", s.Role, code)
	}
}

// Output is what the current or last process has written so far.
func (s *Server) Output() string { return s.current().output.String() }

func (s *Server) alive() bool {
	select {
	case <-s.current().exited:
		return false
	default:
		return true
	}
}

func (s *Server) end() {
	s.client.CloseIdleConnections()
	if len(s.runs) > 0 && s.alive() {
		s.Stop()
	}
	for _, r := range s.runs {
		if text := r.output.String(); strings.Contains(text, "WARNING: DATA RACE") || strings.Contains(text, "panic: ") {
			s.t.Errorf("akidb %s, process %d, has a race or panicked", s.Role, r.cmd.Process.Pid)
		}
	}
	if !s.t.Failed() {
		return
	}
	for _, r := range s.runs {
		s.t.Logf("akidb %s, process %d:\n%s", s.Role, r.cmd.Process.Pid, lastOf(r.output.String()))
	}
}

// lastOf cuts a log to what a person reads: no requests, and not too much.
func lastOf(text string) string {
	lines := slices.DeleteFunc(slices.Collect(strings.Lines(text)), func(l string) bool {
		return strings.Contains(l, `"level":"INFO","msg":"http"`)
	})
	text = strings.Join(lines, "")
	const shown = 16 << 10
	if len(text) <= shown {
		return text
	}
	return "…" + text[len(text)-shown:]
}

// run is one process.
type run struct {
	cmd    *exec.Cmd
	output output
	exited chan struct{}
}

// output keeps what a process writes, and notices the line in which it
// announces its addresses.
type output struct {
	listening chan struct{} // closed once addresses is set
	addresses struct {
		Message string `json:"msg"`
		HTTP    string `json:"http"`
		GRPC    string `json:"grpc"`
		Admin   string `json:"admin"`
	}

	mu   sync.Mutex
	text bytes.Buffer
	line int // where the last line begins
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(b)
	for {
		end := bytes.IndexByte(o.text.Bytes()[o.line:], '\n')
		if end < 0 {
			return len(b), nil
		}
		o.notice(o.text.Bytes()[o.line : o.line+end])
		o.line += end + 1
	}
}

func (o *output) notice(line []byte) {
	if o.addresses.HTTP != "" || !bytes.Contains(line, []byte(`"msg":"listening"`)) {
		return
	}
	if err := json.Unmarshal(line, &o.addresses); err == nil && o.addresses.HTTP != "" {
		close(o.listening)
	}
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

var loopbacks atomic.Int32

// loopback returns an address of this machine that no other server has, so that
// a port stays free for a server that is started again.
func loopback() string {
	if runtime.GOOS != "linux" {
		return "127.0.0.1" // the one there is
	}
	pid := os.Getpid()
	return net.IPv4(127, byte(1+pid>>8&0x7f), byte(pid), byte(1+loopbacks.Add(1)%250)).String()
}

// Eventually waits until ok.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(hang); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("never happened: %s", what)
		}
	}
}
