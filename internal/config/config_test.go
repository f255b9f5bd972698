package config

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"pgregory.net/rapid"
)

// sources are isolated from the machine: 1000 MiB of memory, one file.
func sources(flags map[string]string, environ []string, toml string) Sources {
	return Sources{
		Flags: flags, Environ: environ, WorkDir: "/work",
		MemoryLimit: func() int64 { return 1000 << 20 },
		DiskSize: func(dir string) (int64, error) {
			if dir != "/work/cache" {
				return 0, fs.ErrPermission
			}
			return 10 << 30, nil
		},
		ReadFile: func(name string) ([]byte, error) {
			if name != "akidb.toml" {
				return nil, fs.ErrNotExist
			}
			return []byte(toml), nil
		},
	}
}

func origin(r *Resolved, name string) string {
	for _, v := range r.Values {
		if v.Key.Name == name {
			return v.Origin
		}
	}
	return "absent"
}

func TestDefaults(t *testing.T) {
	dev, err := Load(Dev, sources(nil, nil, ""))
	if err != nil {
		t.Fatal(err)
	}
	want := Server{
		Role: Dev, HTTPAddr: "127.0.0.1:8080", GRPCAddr: "127.0.0.1:9090", AdminAddr: "127.0.0.1:9091",
		DataDir: "/work/akidb-data", Store: dev.Store, CacheBytes: 600 << 20, LogLevel: "info", LogFormat: "text",
		WALMaxBytes: 2 << 30, BallastBytes: 256 << 20, WALFileBytes: 64 << 20, FlushBytes: 64 << 20, GarbageGrace: 10 * time.Minute, CompactMemory: 250 << 20,
		FlushAge: 10 * time.Second, ShutdownGrace: 30 * time.Second, WALShipInterval: 200 * time.Millisecond,
	}
	if dev.Server != want {
		t.Errorf("got  %+v\nwant %+v", dev.Server, want)
	}
	if got := dev.Store.String(); got != "file:///work/akidb-data/objects" {
		t.Errorf("dev store %q", got)
	}
	if on, err := Load(Dev, sources(map[string]string{"wal-ship": "on"}, nil, "")); err != nil || !on.WALShip {
		t.Errorf("wal-ship on: %v, %v", on, err)
	}
	if len(dev.Warnings()) != 0 {
		t.Errorf("dev on loopback warns: %v", dev.Warnings())
	}

	for _, role := range []Role{Writer, Query} {
		if _, err := Load(role, sources(nil, nil, "")); err == nil || !strings.Contains(err.Error(), "needs a store") {
			t.Errorf("%s without a store: %v", role, err)
		}
		r, err := Load(role, sources(map[string]string{"store": "s3://bucket/a/b"}, nil, ""))
		if err != nil {
			t.Fatal(err)
		}
		if r.HTTPAddr != "0.0.0.0:8080" || r.GRPCAddr != ":9090" || r.AdminAddr != ":9091" {
			t.Errorf("%s: %s %s %s", role, r.HTTPAddr, r.GRPCAddr, r.AdminAddr)
		}
		if r.WALShip != (role == Writer) {
			t.Errorf("%s on s3: ships its log: %t", role, r.WALShip)
		}
		if w := strings.Join(r.Warnings(), "\n"); !strings.Contains(w, "auth is off and http-addr is 0.0.0.0:8080") {
			t.Errorf("%s: warnings %q", role, w)
		}
	}
}

func TestPrecedenceAndOrigin(t *testing.T) {
	const file = `
log-level = "error"
log-format = "json"
flush-bytes = 8388608
pprof = true
flush-age = "1m"`
	environ := []string{"AKIDB_CONFIG=akidb.toml", "AKIDB_LOG_LEVEL=warn", "AKIDB_FLUSH_AGE=2m", "AKIDB_S3_REGION=", "PATH=/bin",
		"AKIDB_SIMD=avx2", "AKIDB_TEST_ANYTHING=1", "AKIDB_URL=http://x", "AKIDB_API_KEY=k"}
	r, err := Load(Dev, sources(map[string]string{"log-level": "debug"}, environ, file))
	if err != nil {
		t.Fatal(err)
	}
	if r.LogLevel != "debug" || r.FlushAge != 2*time.Minute || r.LogFormat != "json" || r.FlushBytes != 8<<20 || !r.Pprof || r.HTTPAddr != "127.0.0.1:8080" {
		t.Errorf("got %+v", r.Server)
	}
	for name, want := range map[string]string{
		"log-level": "flag --log-level", "flush-age": "env AKIDB_FLUSH_AGE", "log-format": "file akidb.toml",
		"pprof": "file akidb.toml", "http-addr": "default", "s3-region": "default",
	} {
		if got := origin(r, name); got != want {
			t.Errorf("%s comes from %q, want %q", name, got, want)
		}
	}
	// The flag names the file rather than the variable.
	_, err = Load(Dev, sources(map[string]string{"config": "other.toml"}, environ, file))
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), `"other.toml" (flag --config)`) {
		t.Errorf("got %v", err)
	}
}

func TestEveryProblemIsReportedAtOnce(t *testing.T) {
	const file = `
flush-byte = "1MiB"
flush-age = 1.5
[http]
addr = "x"`
	_, err := Load(Writer, sources(
		map[string]string{"config": "akidb.toml", "http-addr": "8080", "auth": "on", "cache-bytes": "0"},
		[]string{"AKIDB_FLUSH_BYTE=1", "AKIDB_LOG_LEVEL=wran", "AKIDB_ZZZZZZZZZZZZZZZZ=1"}, file))
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		`config file "akidb.toml": key "flush-byte" is not known; did you mean flush-bytes?`,
		`config file "akidb.toml": key "http" is not known`,
		`config file "akidb.toml": key "flush-age": is a float64`,
		`environment variable AKIDB_FLUSH_BYTE is not known; did you mean AKIDB_FLUSH_BYTES?`,
		"environment variable AKIDB_ZZZZZZZZZZZZZZZZ is not known\n",
		`log-level is "wran" (env AKIDB_LOG_LEVEL): want debug, info, warn, error; did you mean "warn"?`,
		`http-addr is "8080" (flag --http-addr): want host:port`,
		`auth is "on" (flag --auth): API keys are not built yet`,
		`cache-bytes is "0" (flag --cache-bytes): want at least 1MiB`,
		`store is "" (default): writer needs a store`,
	} {
		if !strings.Contains(err.Error()+"\n", want) {
			t.Errorf("no %q in:\n%v", want, err)
		}
	}
}

func TestMalformedFileNamesThePlace(t *testing.T) {
	for name, file := range map[string]string{
		"line 2, column": "log-level = \"info\"\nlog-format = json\n",
		"log-level":      "log-level = \"info\"\nlog-level = \"warn\"\n",
	} {
		_, err := Load(Dev, sources(map[string]string{"config": "akidb.toml"}, nil, file))
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want it to name %q", err, name)
		}
	}
}

func TestOneFileServesEveryRole(t *testing.T) {
	const file = `
store = "s3://bucket"
writer-url = "http://writer:8080"
wal-max-bytes = "1GiB"`
	for _, role := range Roles {
		r, err := Load(role, sources(map[string]string{"config": "akidb.toml"}, []string{"AKIDB_FLUSH_AGE=1s"}, file))
		if err != nil {
			t.Errorf("%s: %v", role, err)
			continue
		}
		if shown := origin(r, "wal-max-bytes") != "absent"; shown != (role != Query) {
			t.Errorf("%s: wal-max-bytes shown: %v", role, shown)
		}
	}
}

func TestValues(t *testing.T) {
	for _, c := range []struct {
		role        Role
		name, text  string
		wantProblem string // "" when it is fine
	}{
		{Dev, "http-addr", ":0", ""},
		{Dev, "http-addr", "[::1]:80", ""},
		{Dev, "http-addr", "localhost:65536", "port"},
		{Dev, "http-addr", "localhost:http", "port"},
		{Dev, "http-addr", "localhost:080", "port"},
		{Dev, "http-addr", "", "want host:port"},
		{Dev, "data-dir", "", "want a directory"},
		{Dev, "store", "file:///x", ""},
		{Dev, "store", "file://x/y", "absolute path"},
		{Dev, "store", "file:x", "absolute path"},
		{Dev, "store", "/x", "want file:///dir"},
		{Dev, "store", "mem://", ""},
		{Dev, "store", "mem://x", "nothing after"},
		{Writer, "store", "mem://", "only dev"},
		{Query, "store", "mem://", "only dev"},
		{Writer, "store", "s3://", "want a bucket"},
		{Writer, "store", "s3://key:secret@bucket", "credentials"},
		{Writer, "store", "s3://bucket?x=y", "no ?"},
		{Writer, "store", "gs://bucket", "want file:///dir"},
		{Dev, "s3-endpoint", "http://127.0.0.1:7070", ""},
		{Dev, "s3-endpoint", "127.0.0.1:7070", "want http://"},
		{Dev, "s3-path-style", "true", ""},
		{Dev, "s3-path-style", "yes", "true or false"},
		{Dev, "writer-url", "https://w", ""},
		{Dev, "writer-url", "ftp://w", "want http://"},
		{Query, "peers", "10.0.0.1:8080, akidb-1:8080", ""},
		{Query, "peers", "akidb-1", "want host:port"},
		{Query, "peers", "akidb-1:8080,:8080", "want host:port"},
		{Query, "peers", "akidb-1:99999", "want 0 to 65535"},
		{Query, "peers-dns", "akidb-query.default.svc:8080", ""},
		{Query, "peers-dns", "akidb-query", "want host:port"},
		{Query, "prewarm-timeout", "0s", "more than 0"},
		{Dev, "cache-bytes", "60%", ""},
		{Dev, "cache-bytes", "100%", ""},
		{Dev, "cache-bytes", "101%", "at most 100%"},
		{Dev, "cache-bytes", "0%", "more than 0%"},
		{Dev, "cache-bytes", "NaN%", "more than 0%"},
		{Dev, "cache-bytes", "-1", "want a size"},
		{Dev, "cache-bytes", "1024", "at least 1MiB"},
		{Dev, "disk-cache-bytes", "1GiB", ""},
		{Dev, "disk-cache-bytes", "5%", ""},
		{Dev, "disk-cache-bytes", "1MiB", "at least 16MiB"},
		{Dev, "disk-cache-bytes", "110%", "at most 100%"},
		{Dev, "disk-cache-bytes", "much", "or a percentage of the file system"},
		{Dev, "disk-cache-dir", "elsewhere", "permission denied"}, // of a share of it
		{Dev, "data-dir", "/work/cache", "data-dir and disk-cache-dir are both"},
		{Dev, "auth", "maybe", "want off"},
		{Dev, "otlp-endpoint", "collector:4317", ""},
		{Dev, "otlp-endpoint", "https://collector:4317", ""},
		{Dev, "otlp-endpoint", "collector", "want host:port"},
		{Dev, "flush-age", "0s", "more than 0"},
		{Dev, "flush-age", "10", "want a duration"},
		{Dev, "wal-ship", "true", "want auto, on or off"},
		{Dev, "wal-file-bytes", "1GiB", "at least 4 times wal-file-bytes"},
		{Dev, "flush-bytes", "1.5GiB", "at least twice flush-bytes"},
		{Dev, "grpc-addr", "127.0.0.1:8080", "http-addr and grpc-addr are both"},
	} {
		src := sources(map[string]string{c.name: c.text}, nil, "")
		if strings.Contains(c.wantProblem, "disk-cache-dir are both") {
			src.Flags["disk-cache-dir"] = "cache"
		}
		if c.role != Dev && c.name != "store" {
			src.Flags["store"] = "s3://b"
		}
		_, err := Load(c.role, src)
		switch {
		case c.wantProblem == "" && err != nil:
			t.Errorf("%s %s=%q: %v", c.role, c.name, c.text, err)
		case c.wantProblem != "" && (err == nil || !strings.Contains(err.Error(), c.wantProblem)):
			t.Errorf("%s %s=%q: got %v, want %q", c.role, c.name, c.text, err, c.wantProblem)
		}
	}
}

// The disk cache is a share of its file system, and none without a directory.
func TestDiskCache(t *testing.T) {
	for _, c := range []struct {
		flags map[string]string
		dir   string
		bytes int64
	}{
		{nil, "", 0},
		{map[string]string{"disk-cache-bytes": "1GiB"}, "", 0},
		{map[string]string{"disk-cache-dir": "cache"}, "/work/cache", 5 << 30},
		{map[string]string{"disk-cache-dir": "cache/", "disk-cache-bytes": "10%"}, "/work/cache", 1 << 30},
		{map[string]string{"disk-cache-dir": "/anywhere", "disk-cache-bytes": "64MiB"}, "/anywhere", 64 << 20},
	} {
		r, err := Load(Dev, sources(c.flags, nil, ""))
		if err != nil || r.DiskCacheDir != c.dir || r.DiskCacheBytes != c.bytes {
			t.Errorf("%v: got %q of %d bytes, %v; want %q of %d", c.flags, r.DiskCacheDir, r.DiskCacheBytes, err, c.dir, c.bytes)
		}
	}
	at := t.TempDir()
	here, err := DiskSize(at)
	below, errBelow := DiskSize(at + "/not/yet")
	if err != nil || errBelow != nil || here != below || here <= 0 {
		t.Errorf("got %d, %v and %d, %v for a directory in it", here, err, below, errBelow)
	}
	if _, err := DiskSize("/dev/null/x"); err == nil {
		t.Error("a file has no directory in it")
	}
}

func TestSameAddress(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{":80", ":80", true}, {":80", "0.0.0.0:80", true}, {"[::]:80", ":80", true},
		{":0", ":0", false}, {":80", ":81", false}, {"127.0.0.1:80", "127.0.0.2:80", false},
	} {
		if got := sameAddress(c.a, c.b); got != c.want {
			t.Errorf("%s and %s: %v", c.a, c.b, got)
		}
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "4096": 4096, "1B": 1, "512MiB": 512 << 20, "512mib": 512 << 20, "1.5GiB": 3 << 29,
		"2GB": 2e9, " 1 KiB ": 1024, "1TiB": 1 << 40, "-1": -1, "": -1, "MiB": -1, "1XiB": -1,
		"1e3": 1000, "0x10": -1, "NaN": -1, "Inf": -1, "9999999TiB": -1, "1_000": -1, "1 2": -1,
	} {
		got, err := ParseSize(text)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(0, 1<<62).Draw(t, "n")
		if got, err := ParseSize(FormatSize(n)); err != nil || got != n {
			t.Fatalf("%d is written %s and read %d, %v", n, FormatSize(n), got, err)
		}
	})
}

func TestSecretsAreRedacted(t *testing.T) {
	const secret = "hunter2"
	for name, text := range map[string]string{
		"writer-url":    "http://user:" + secret + "@writer:8080",
		"s3-endpoint":   "https://user:" + secret + "@s3:9000",
		"otlp-endpoint": "http://" + secret + "@collector:4317",
	} {
		r, err := Load(Dev, sources(map[string]string{name: text}, nil, ""))
		if err != nil {
			t.Fatal(err)
		}
		for _, format := range PrintFormats {
			var b strings.Builder
			if err := r.Print(&b, format, true); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(b.String(), secret) || !strings.Contains(b.String(), "redacted@") {
				t.Errorf("%s as %s:\n%s", name, format, b.String())
			}
		}
	}
	// Nor do errors show them, even where the text is not a URL.
	for name, text := range map[string]string{
		"store":         "s3://user:" + secret + "@bucket",
		"writer-url":    "ftp://user:" + secret + "@host",
		"s3-endpoint":   "user:" + secret + "@host:9000",
		"otlp-endpoint": "http://%zz:" + secret + "@host",
	} {
		_, err := Load(Dev, sources(map[string]string{name: text}, nil, ""))
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPrintedTOMLGivesTheSameConfiguration(t *testing.T) {
	for _, role := range Roles {
		first, err := Load(role, sources(map[string]string{"store": "s3://bucket/p", "pprof": "true", "data-dir": "/odd \"dir'\\n", "flush-age": "1500ms"}, nil, ""))
		if err != nil {
			t.Fatal(err)
		}
		for _, origins := range []bool{false, true} {
			var b strings.Builder
			if err := first.Print(&b, "toml", origins); err != nil {
				t.Fatal(err)
			}
			again, err := Load(role, sources(map[string]string{"config": "akidb.toml"}, nil, b.String()))
			if err != nil {
				t.Fatalf("%v in\n%s", err, b.String())
			}
			a, c := first.Server, again.Server
			if a.Store.String() != c.Store.String() {
				t.Errorf("store %s, then %s", a.Store, c.Store)
			}
			a.Store, c.Store = nil, nil
			if a != c {
				t.Errorf("first %+v\nthen  %+v", a, c)
			}
		}
	}
}

func TestPrint(t *testing.T) {
	r, err := Load(Dev, sources(map[string]string{"pprof": "1"}, nil, ""))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		format string
		origin bool
		want   string
	}{
		{"table", true, "pprof              true                             flag --pprof\n"},
		{"table", false, "KEY                VALUE\n"},
		{"json", true, "\"pprof\": {\n    \"value\": true,\n    \"origin\": \"flag --pprof\"\n  }"},
		{"json", false, `"store": "file:///work/akidb-data/objects"`},
		{"toml", true, "pprof = true # flag --pprof\n"},
		{"toml", false, "cache-bytes = '629145600'\n"},
	} {
		var b strings.Builder
		if err := r.Print(&b, c.format, c.origin); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(b.String(), c.want) {
			t.Errorf("%s, origin %v: no %q in\n%s", c.format, c.origin, c.want, b.String())
		}
	}
	if err := r.Print(&strings.Builder{}, "yaml", false); err == nil {
		t.Error("yaml was printed")
	}
}

func TestKeysAreWellFormed(t *testing.T) {
	seen := map[string]bool{}
	for i := range keys {
		k := &keys[i]
		if k.Name == "" || k.Help == "" || k.set == nil || seen[k.Env()] || !strings.HasPrefix(k.Env(), "AKIDB_") {
			t.Errorf("key %d %q is incomplete or repeated", i, k.Name)
		}
		seen[k.Env()] = true
	}
	if len(keys) == 0 || len(Keys(Query)) >= len(Keys(Dev)) {
		t.Errorf("%d keys, %d of query, %d of dev", len(keys), len(Keys(Query)), len(Keys(Dev)))
	}
}

func TestMemoryLimit(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	const ram = "MemTotal:       16384 kB\nMemFree: 1 kB\n" // 16 MiB
	for name, c := range map[string]struct {
		root fstest.MapFS
		want int64
	}{
		"nothing known": {fstest.MapFS{}, 4 << 30},
		"ram only":      {fstest.MapFS{"proc/meminfo": file(ram)}, 16 << 20},
		"v2": {fstest.MapFS{
			"proc/meminfo": file(ram), "proc/self/cgroup": file("0::/a/b\n"),
			"sys/fs/cgroup/a/b/memory.max": file("4096\n"), "sys/fs/cgroup/a/memory.max": file("max\n"),
		}, 4096},
		"v2, the parent is tighter": {fstest.MapFS{
			"proc/meminfo": file(ram), "proc/self/cgroup": file("0::/a/b\n"),
			"sys/fs/cgroup/a/b/memory.max": file("max"), "sys/fs/cgroup/a/memory.max": file("8192"),
		}, 8192},
		"v2, the host's path": {fstest.MapFS{
			"proc/meminfo": file(ram), "proc/self/cgroup": file("0::/docker/1f\n"), "sys/fs/cgroup/memory.max": file("2048"),
		}, 2048},
		"v2, more than the ram": {fstest.MapFS{
			"proc/meminfo": file(ram), "proc/self/cgroup": file("0::/\n"), "sys/fs/cgroup/memory.max": file("1099511627776"),
		}, 16 << 20},
		"v1": {fstest.MapFS{
			"proc/meminfo": file(ram), "proc/self/cgroup": file("5:cpu,memory:/x\n1:name=systemd:/x\n"),
			"sys/fs/cgroup/memory/x/memory.limit_in_bytes": file("1024\n"),
		}, 1024},
		"v1, unlimited": {fstest.MapFS{
			"proc/meminfo": file(ram), "proc/self/cgroup": file("5:memory:/\n"),
			"sys/fs/cgroup/memory/memory.limit_in_bytes": file("9223372036854771712\n"),
		}, 16 << 20},
		"garbage": {fstest.MapFS{"proc/meminfo": file("MemTotal: x\n"), "proc/self/cgroup": file("a:b\n::\n0::/\n"),
			"sys/fs/cgroup/memory.max": file("-5")}, 4 << 30},
	} {
		if got := memoryLimit(c.root); got != c.want {
			t.Errorf("%s: got %d, want %d", name, got, c.want)
		}
	}
	if got := MemoryLimit(); got < 1<<20 {
		t.Errorf("this machine has %d bytes", got)
	}
}

// A tool takes what says where things lie, from where servers have it, and does
// not care about the rest.
func TestTool(t *testing.T) {
	r, err := Load(Tool, sources(nil, nil, ""))
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Store.String(); got != "file:///work/akidb-data/objects" {
		t.Errorf("store %s, want that of a dev", got)
	}
	r, err = Load(Tool, sources(map[string]string{"config": "akidb.toml"}, []string{"AKIDB_S3_ENDPOINT=http://s3:9000", "AKIDB_AUTH=on"}, `
store = "s3://bucket/p"
s3-region = "here"
s3-path-style = true
http-addr = "nowhere"`))
	if err != nil {
		t.Fatal(err)
	}
	if r.Store.String() != "s3://bucket/p" || r.S3Endpoint != "http://s3:9000" || r.S3Region != "here" || !r.S3PathStyle {
		t.Errorf("got %+v", r.Server)
	}
	var names []string
	for _, k := range Keys(Tool) {
		names = append(names, k.Name)
	}
	if got := strings.Join(names, " "); got != "data-dir store s3-endpoint s3-region s3-path-style" {
		t.Errorf("keys %s", got)
	}
	for _, store := range []string{"mem://", "ftp://x"} {
		if _, err := Load(Tool, sources(map[string]string{"store": store}, nil, "")); err == nil {
			t.Errorf("%s was taken", store)
		}
	}
	if _, err := Load(Tool, sources(nil, []string{"AKIDB_STOR=x"}, "")); err == nil {
		t.Error("an unknown variable was taken")
	}
}
