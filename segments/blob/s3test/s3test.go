// Package s3test runs a real S3 server, versitygw, for a test.
//
// The server is a program of its own, which `make tools` installs. A test that
// needs it fails where it is missing, unless AKIDB_TEST_NO_S3=1 says that this
// is known; then it is skipped. An older version, whose conditional puts are
// not atomic, is there to see that it is refused.
package s3test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Endpoint is where a running server can be reached, and as whom.
type Endpoint struct {
	URL       string // http://127.0.0.1:port
	Region    string
	Bucket    string // exists, and is empty at first
	AccessKey string
	SecretKey string
	Dir       string // the bucket's objects, as files; for tests that do damage
}

// Env is what makes the AWS default credential chain of a process use e, and
// nothing that the machine may have configured besides.
func (e Endpoint) Env() []string {
	return []string{
		"AWS_ACCESS_KEY_ID=" + e.AccessKey,
		"AWS_SECRET_ACCESS_KEY=" + e.SecretKey,
		"AWS_SESSION_TOKEN=",
		"AWS_PROFILE=",
		"AWS_REGION=" + e.Region,
		"AWS_CONFIG_FILE=" + os.DevNull,
		"AWS_SHARED_CREDENTIALS_FILE=" + os.DevNull,
		"AWS_EC2_METADATA_DISABLED=true",
	}
}

// Setenv puts Env into the environment of this process while t runs.
func (e Endpoint) Setenv(t testing.TB) {
	t.Helper()
	for _, pair := range e.Env() {
		name, value, _ := strings.Cut(pair, "=")
		t.Setenv(name, value)
	}
}

// Start runs a server with one empty bucket until t and its subtests are done.
func Start(t testing.TB) Endpoint {
	t.Helper()
	return StartServer(t).Endpoint
}

// StartUnsound is Start for versitygw 1.7.0, which lets several of those that
// race for a conditional put win. Where it is missing t is skipped, unless
// AKIDB_TEST_REQUIRE_TOOLS=1 makes that a failure.
func StartUnsound(t testing.TB) Endpoint {
	t.Helper()
	const name = "versitygw-1.7.0"
	program, err := installed(name)
	if err != nil {
		if os.Getenv("AKIDB_TEST_REQUIRE_TOOLS") == "1" {
			t.Fatalf("no unsound S3 server to test with: run make tools: %v", err)
		}
		t.Skipf("SKIPPED, NOTHING WAS TESTED ON AN UNSOUND STORE: run make tools: %v", err)
	}
	return serve(t, program).Endpoint
}

// Server is a server that can be killed and started again.
type Server struct {
	Endpoint // whose URL is another after each Restart

	t             testing.TB
	program, root string
	process       *os.Process
	exited        chan error // the result of the process that runs; nil when none does
}

// StartServer is Start for a test that kills the server.
func StartServer(t testing.TB) *Server {
	t.Helper()
	return serve(t, find(t))
}

func serve(t testing.TB, program string) *Server {
	t.Helper()
	root := t.TempDir()
	s := &Server{t: t, program: program, root: root, Endpoint: Endpoint{
		Region:    "us-east-1",
		Bucket:    "akidb-test",
		AccessKey: "test-access",
		SecretKey: "test-secret",
		Dir:       filepath.Join(root, "akidb-test"),
	}}
	// A directory is a bucket; the server's root user may do everything in it.
	if err := os.Mkdir(s.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	s.Restart()
	return s
}

// Restart starts a server that was killed, on what it had stored, and returns
// once it answers.
func (s *Server) Restart() {
	s.t.Helper()
	var problems []error
	for range 5 { // somebody else may take the port first
		err := s.start()
		if err == nil {
			return
		}
		problems = append(problems, err)
	}
	s.t.Fatalf("start %s: %v", s.program, errors.Join(problems...))
}

// Kill ends the server with SIGKILL, if it runs.
func (s *Server) Kill() {
	s.t.Helper()
	if s.exited == nil {
		return
	}
	if err := s.process.Kill(); err != nil {
		s.t.Errorf("kill %s: %v", s.program, err)
	}
	<-s.exited
	s.exited = nil
}

// find returns the program's path.
func find(t testing.TB) string {
	t.Helper()
	if os.Getenv("AKIDB_TEST_NO_S3") == "1" {
		t.Skip("SKIPPED, NOTHING WAS TESTED AGAINST S3: AKIDB_TEST_NO_S3=1")
	}
	program, err := os.Getenv("AKIDB_TEST_VERSITYGW"), error(nil)
	if program == "" {
		program, err = installed("versitygw")
	} else {
		_, err = os.Stat(program)
	}
	if err != nil {
		t.Fatalf("no S3 server to test against: run make tools (or set AKIDB_TEST_NO_S3=1 to go without): %v", err)
	}
	return program
}

// installed looks for .tools/name here and in every folder above.
func installed(name string) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		program := filepath.Join(dir, ".tools", name)
		if _, err := os.Stat(program); err == nil {
			return program, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no .tools/%s here or above", name)
		}
		dir = filepath.Dir(dir)
	}
}

func (s *Server) start() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		return err
	}
	var output bytes.Buffer
	cmd := exec.Command(s.program, "--quiet", "--keep-alive", "--health", "/health",
		"--access", s.AccessKey, "--secret", s.SecretKey, "--region", s.Region,
		"--port", address, "posix", s.root)
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.SysProcAttr = dieWithParent()
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	url := "http://" + address
	if err := await(url+"/health", exited); err != nil {
		return fmt.Errorf("%w: %s", err, output.Bytes()) // it has exited, so output is whole
	}
	s.URL, s.process, s.exited = url, cmd.Process, exited
	return nil
}

// await asks until the server answers or has exited. There is nothing else to
// wait for: the server does not say when it listens.
func await(url string, exited chan error) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		response, err := client.Get(url)
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case err := <-exited:
			return fmt.Errorf("exited: %v", err)
		case <-tick.C:
		}
	}
}
