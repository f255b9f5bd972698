package contract

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	grpccodes "google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	akidbv1 "github.com/akidb/akidb/api/akidb/v1"
)

// metric is a family as a scrape or the document describes it.
type metric struct {
	kind   string
	labels []string // sorted
}

// documented reads the tables of docs/metrics.md.
func documented(text string) (metrics map[string]metric, prefixes []string) {
	metrics = map[string]metric{}
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) < 4 || !strings.HasPrefix(strings.TrimSpace(cells[1]), "`") {
			continue
		}
		name := words(cells[1])[0]
		if strings.HasSuffix(name, "_") {
			prefixes = append(prefixes, name)
			continue
		}
		labels := words(cells[3])
		slices.Sort(labels)
		metrics[name] = metric{strings.TrimSpace(cells[2]), labels}
	}
	return metrics, prefixes
}

// words are what stands in backticks.
func words(s string) (out []string) {
	for i, w := range strings.Split(s, "`") {
		if i%2 == 1 {
			out = append(out, w)
		}
	}
	return out
}

// scraped reads the Prometheus text format; labels are those of the first
// sample of a family that has any, `le` left out.
func scraped(text string) map[string]metric {
	out := map[string]metric{}
	family := ""
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); strings.HasPrefix(line, "# TYPE ") {
			family = f[2]
			out[family] = metric{kind: f[3]}
			continue
		}
		m := out[family]
		_, rest, ok := strings.Cut(line, "{")
		if strings.HasPrefix(line, "#") || !ok || m.labels != nil {
			continue
		}
		rest = rest[:strings.LastIndex(rest, "}")]
		for quoted := strings.Split(rest, `"`); len(quoted) > 1; quoted = quoted[2:] {
			if name := strings.Trim(quoted[0], ",="); name != "le" {
				m.labels = append(m.labels, name)
			}
		}
		slices.Sort(m.labels)
		out[family] = m
	}
	return out
}

// compareMetrics says what is in one and not in the other.
func compareMetrics(text, scrape string) (problems []string) {
	want, prefixes := documented(text)
	got := scraped(scrape)
	used := map[string]bool{}
	for name, m := range got {
		w, ok := want[name]
		i := slices.IndexFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
		switch {
		case i >= 0:
			used[prefixes[i]] = true
		case !ok:
			problems = append(problems, name+" is exposed and not documented")
		case w.kind != m.kind || !slices.Equal(w.labels, m.labels):
			problems = append(problems, name+": exposed as "+m.kind+" "+render(m.labels)+", documented as "+w.kind+" "+render(w.labels))
		}
	}
	for name := range want {
		if _, ok := got[name]; !ok {
			problems = append(problems, name+" is documented and not exposed")
		}
	}
	for _, p := range prefixes {
		if !used[p] {
			problems = append(problems, "nothing has the prefix "+p)
		}
	}
	return problems
}

// startProgram builds the program and runs `akidb dev`: the cache's metrics and
// the runtime's are wired there.
func startProgram(t *testing.T) *server {
	t.Helper()
	dir := t.TempDir()
	binary := filepath.Join(dir, "akidb")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", binary, "./cmd/akidb")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	run := exec.Command(binary, "dev", "--http-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0",
		"--data-dir", filepath.Join(dir, "data"), "--log-format", "json", "--wal-ship", "on", "--disk-cache-dir", filepath.Join(dir, "cache"))
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "AKIDB_") {
			run.Env = append(run.Env, e)
		}
	}
	log, err := run.StderrPipe()
	if err == nil {
		err = run.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(log)
	var said []string
	t.Cleanup(func() {
		if err := run.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		for lines.Scan() {
			said = append(said, lines.Text())
		}
		if err := run.Wait(); err != nil {
			t.Errorf("%v\n%s", err, strings.Join(said, "\n"))
		}
	})
	for lines.Scan() {
		said = append(said, lines.Text())
		var line struct{ Msg, HTTP, GRPC string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "listening" {
			return &server{url: "http://" + line.HTTP, grpc: dial(t, line.GRPC)}
		}
	}
	t.Fatalf("it does not listen:\n%s", strings.Join(said, "\n"))
	return nil
}

func TestMetrics(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs/metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	s := startProgram(t)
	for _, c := range append(slices.Clone(seed),
		call{"POST", admin + "/flush", "", "", 200, ""},
		call{"POST", films + "/search", `{"vector": [1,0,0,0]}`, "", 200, ""}) {
		if x := s.do(t, c); x.status != c.status {
			t.Fatal(x)
		}
	}
	for method, code := range map[string]grpccodes.Code{
		akidbv1.CollectionService_ListCollections_FullMethodName: grpccodes.OK, "/akidb.v1.CollectionService/Nonsense": grpccodes.Unimplemented,
	} {
		err := s.grpc.Invoke(t.Context(), method, &akidbv1.ListCollectionsRequest{}, &akidbv1.ListCollectionsResponse{})
		if status.Code(err) != code {
			t.Errorf("%s: %v", method, err)
		}
	}
	scrape := string(s.do(t, call{method: "GET", path: "/metrics"}).received)
	for _, p := range compareMetrics(string(text), scrape) {
		t.Error(p)
	}
	for _, want := range []string{
		`akidb_grpc_requests_total{code="OK",method="ListCollections",service="akidb.v1.CollectionService"} 1`,
		`akidb_grpc_requests_total{code="Unimplemented",method="unmatched",service="unmatched"} 1`,
		`akidb_grpc_request_duration_seconds_count{method="ListCollections",service="akidb.v1.CollectionService"} 1`,
	} {
		if !strings.Contains(scrape, want+"\n") {
			t.Errorf("there is no %s", want)
		}
	}
	for _, planted := range []struct{ text, scrape, want string }{
		{strings.Replace(string(text), "akidb_wal_live_bytes", "akidb_planted", 1), scrape, "akidb_planted is documented"},
		{string(text), scrape + "# TYPE akidb_planted gauge\nakidb_planted 1\n", "akidb_planted is exposed"},
		{strings.Replace(string(text), "`method`, `route`, `code`", "`method`, `route`", 1), scrape, "akidb_http_requests_total: exposed as"},
		{strings.Replace(string(text), "| `process_` |", "| `planted_` |", 1), scrape, "nothing has the prefix planted_"},
	} {
		if p := strings.Join(compareMetrics(planted.text, planted.scrape), "\n"); !strings.Contains(p, planted.want) {
			t.Errorf("want %q among %q", planted.want, p)
		}
	}
}
