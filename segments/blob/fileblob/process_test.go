package fileblob

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/akidb/akidb/segments/blob"
)

// TestMain makes the test binary, when told so by its environment, one of the
// processes that the tests below race and kill.
func TestMain(m *testing.M) {
	roles := map[string]func(dir, argument string) error{"race": childRace, "crash": childCrash}
	role, isChild := roles[os.Getenv("FILEBLOB_ROLE")]
	if !isChild {
		os.Exit(m.Run())
	}
	if err := role(os.Getenv("FILEBLOB_DIR"), os.Getenv("FILEBLOB_ARGUMENT")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func child(role, dir, argument string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "FILEBLOB_ROLE="+role, "FILEBLOB_DIR="+dir, "FILEBLOB_ARGUMENT="+argument)
	return cmd
}

const (
	processes  = 5
	increments = 30
	absents    = 40
)

// TestProcessesRace has processes increment a counter by compare-and-swap and
// compete for keys, some of which come and go with their folders.
func TestProcessesRace(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, nil)
	mustPut(t, s, "race/counter", "0 start")
	type process struct {
		cmd    *exec.Cmd
		stdin  io.WriteCloser
		stdout *bufio.Reader
	}
	all := make([]process, processes)
	for i := range all {
		cmd := child("race", dir, strconv.Itoa(i))
		cmd.Stderr = os.Stderr
		stdin, err1 := cmd.StdinPipe()
		stdout, err2 := cmd.StdoutPipe()
		if err := errors.Join(err1, err2, cmd.Start()); err != nil {
			t.Fatal(err)
		}
		all[i] = process{cmd, stdin, bufio.NewReader(stdout)}
	}
	for _, p := range all { // all are up before any begins
		if line, err := p.stdout.ReadString('\n'); err != nil {
			t.Fatalf("got %q, %v", line, err)
		}
	}
	for _, p := range all {
		p.stdin.Close()
	}
	winners := map[string][]int{}
	for i, p := range all {
		won, readErr := io.ReadAll(p.stdout)
		if err := errors.Join(readErr, p.cmd.Wait()); err != nil {
			t.Fatalf("process %d: %v", i, err)
		}
		for key := range strings.FieldsSeq(string(won)) {
			winners[key] = append(winners[key], i)
		}
	}
	if got, want := get(t, s, "race/counter"), processes*increments; !strings.HasPrefix(got, fmt.Sprint(want, " ")) {
		t.Errorf("counter is %q after %d increments", got, want)
	}
	for i := range absents {
		key := absentKey(i)
		if len(winners[key]) != 1 {
			t.Errorf("%q was won by %v, want exactly one", key, winners[key])
		} else if got, want := get(t, s, key), fmt.Sprint(winners[key][0]); got != want {
			t.Errorf("%q holds %q, want its winner %q", key, got, want)
		}
	}
	page, err := s.List(t.Context(), blob.Listing{Delimiter: "/"})
	if want := []string{"absent/", "race/"}; err != nil || !slices.Equal(page.Prefixes, want) {
		t.Errorf("left over: %+v, %v; want the folders %q", page, err, want)
	}
}

func absentKey(i int) string { return fmt.Sprintf("absent/%d/%d/key", i%3, i) }

func childRace(dir, name string) error {
	s, err := Open(dir)
	if err != nil {
		return err
	}
	defer s.Close()
	fmt.Println("ready")
	if _, err := io.ReadAll(os.Stdin); err != nil {
		return err
	}
	for i := range absents {
		if err := contend(s, i, name); err != nil {
			return err
		}
	}
	for range increments {
		if err := incrementOnce(s, name); err != nil {
			return err
		}
	}
	return nil
}

// contend competes for one key, prints it when it has won, and meanwhile makes
// and removes an object in a folder that the others make and remove too.
func contend(s *Store, i int, name string) error {
	ctx := context.Background()
	_, err := put(ctx, s, absentKey(i), name, blob.Condition{IfAbsent: true})
	if err == nil {
		fmt.Println(absentKey(i))
	} else if !errors.Is(err, blob.ErrPrecondition) {
		return err
	}
	passing := "passing/folder/" + name
	if _, err := put(ctx, s, passing, name, blob.Condition{IfAbsent: true}); err != nil {
		return err
	}
	if b, _, err := s.Get(ctx, passing); err != nil || string(b) != name {
		return fmt.Errorf("own object holds %q, %w", b, err)
	}
	return s.Delete(ctx, passing)
}

func incrementOnce(s *Store, name string) error {
	ctx := context.Background()
	for {
		b, version, err := s.Get(ctx, "race/counter")
		if err != nil {
			return err
		}
		number, _, _ := strings.Cut(string(b), " ")
		n, err := strconv.Atoi(number)
		if err != nil {
			return err
		}
		_, err = put(ctx, s, "race/counter", fmt.Sprint(n+1, " ", name), blob.Condition{IfMatch: version})
		if !errors.Is(err, blob.ErrPrecondition) {
			return err
		}
	}
}

// crashOps are what the crashing process does, in order, each with the key it
// changes and what that holds after it.
var crashOps = []struct {
	key, before, after string
	run                func(s *Store, key, after string) error
}{
	{"k/overwritten", "old", strings.Repeat("new", 1000), func(s *Store, key, after string) error {
		return crashPut(s, key, after, blob.Condition{})
	}},
	{"a/b/created", "", "created", func(s *Store, key, after string) error {
		return crashPut(s, key, after, blob.Condition{IfAbsent: true})
	}},
	{"k/swapped", "old", "swapped", func(s *Store, key, after string) error {
		o, err := s.Stat(context.Background(), key)
		if err != nil {
			return err
		}
		return crashPut(s, key, after, blob.Condition{IfMatch: o.Version})
	}},
	{"d/e/deleted", "old", "", func(s *Store, key, _ string) error {
		return s.Delete(context.Background(), key)
	}},
}

func crashPut(s *Store, key, after string, cond blob.Condition) error {
	body := &steppingBody{ReadSeeker: strings.NewReader(after), step: s.hook}
	_, err := s.Put(context.Background(), key, body, int64(len(after)), cond)
	return err
}

// steppingBody makes every few bytes of a body a step.
type steppingBody struct {
	io.ReadSeeker
	step func(string)
}

func (b *steppingBody) Read(p []byte) (int, error) {
	b.step("body")
	return b.ReadSeeker.Read(p[:min(len(p), 1000)])
}

// childCrash kills itself with SIGKILL at the step whose number it is given.
func childCrash(dir, argument string) error {
	at, err := strconv.Atoi(argument)
	if err != nil {
		return err
	}
	s, err := open(dir, func(string) {
		if at--; at < 0 {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // until the signal arrives
		}
	})
	if err != nil {
		return err
	}
	for i, op := range crashOps {
		if err := op.run(s, op.key, op.after); err != nil {
			return err
		}
		fmt.Println("done", i)
	}
	return s.Close()
}

// TestKillAtEveryStep kills a process at its first step, at its second, and so
// on until it lives through all, and looks at what each left.
func TestKillAtEveryStep(t *testing.T) {
	const enough = 10 // fewer would mean that the steps are not reported
	for step := 0; ; step++ {
		dir := t.TempDir()
		setup, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, op := range crashOps {
			if op.before != "" {
				mustPut(t, setup, op.key, op.before)
			}
		}
		if err := setup.Close(); err != nil {
			t.Fatal(err)
		}
		output, err := child("crash", dir, strconv.Itoa(step)).Output()
		acknowledged := strings.Count(string(output), "done")
		if err == nil {
			if acknowledged != len(crashOps) || step < enough {
				t.Errorf("lived through %d steps and acknowledged %d operations", step, acknowledged)
			}
			return
		}
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("step %d: %v", step, err)
		}
		checkAfterCrash(t, dir, step, acknowledged)
	}
}

func checkAfterCrash(t *testing.T, dir string, step, acknowledged int) {
	t.Helper()
	var steps []string
	s := mustOpen(t, dir, func(name string) { steps = append(steps, name) })
	if !slices.Equal(steps, []string{"sync file system"}) {
		t.Errorf("step %d: open after a crash took %q", step, steps)
	}
	holders, err := os.ReadDir(filepath.Join(dir, reserved, "tmp"))
	if err != nil || len(holders) != 1 {
		t.Errorf("step %d: left %v, %v; want only the new holder", step, holders, err)
	}
	var want []string
	for i, op := range crashOps {
		got := get(t, s, op.key)
		switch {
		case i < acknowledged && got != op.after:
			t.Errorf("step %d: %q holds %q, want %q as acknowledged", step, op.key, got, op.after)
		case i > acknowledged && got != op.before:
			t.Errorf("step %d: %q holds %q, want %q as before", step, op.key, got, op.before)
		case got != op.before && got != op.after:
			t.Errorf("step %d: %q holds %q, neither old nor new", step, op.key, got)
		}
		if got != "" {
			want = append(want, op.key)
		}
	}
	slices.Sort(want)
	var listed []string
	for o, err := range blob.Objects(t.Context(), s, blob.Listing{}) {
		if err != nil {
			t.Fatal(err)
		}
		listed = append(listed, o.Key)
	}
	if !slices.Equal(listed, want) {
		t.Errorf("step %d: listed %q, want %q", step, listed, want)
	}
	for _, op := range crashOps { // and it all still works
		mustPut(t, s, op.key, "again")
	}
}
