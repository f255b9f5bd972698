// Package config turns flags, environment, a file and defaults into the typed
// configuration of a server role, and can say where each value came from.
//
// One table, keys, declares everything: name, default by role, help and how the
// text becomes a field of [Server]. Precedence is flag, then environment
// (AKIDB_ and the name in capitals, dashes as underscores), then the TOML file
// named by --config or AKIDB_CONFIG (same names), then default. An unknown TOML
// key or AKIDB_ variable is an error that names the nearest known one, and Load
// reports every problem at once.
package config

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
)

// Role is what a process does.
type Role string

// The roles of a server process.
const (
	Dev    Role = "dev"    // every role in one process, on loopback
	Writer Role = "writer" // ingest
	Query  Role = "query"  // stateless search

	// Tool is no server: a command that looks at a store, that of a dev if none
	// is named. It takes the keys that say where things lie, and no others.
	Tool Role = "tool"
)

// Roles are the roles of servers.
var Roles = []Role{Dev, Writer, Query}

// ParseRole parses the name of a role.
func ParseRole(s string) (Role, error) {
	if r := Role(s); slices.Contains(Roles, r) {
		return r, nil
	}
	return "", fmt.Errorf("role is %q, want dev, writer or query", s)
}

// Server is the effective configuration of one server process. Load fills it;
// there are no zero meanings left.
type Server struct {
	Role Role

	HTTPAddr  string // host:port of REST; port 0 picks one
	GRPCAddr  string // host:port of gRPC
	AdminAddr string // host:port of probes, metrics and pprof
	DataDir   string // absolute path
	Store     *url.URL
	// S3Endpoint is "" for AWS itself, S3Region "" for the AWS default chain's.
	S3Endpoint, S3Region string
	S3PathStyle          bool
	WriterURL            *url.URL // nil: no writer to ask or forward to
	WriterGRPCAddr       string   // host:port, "" where there is no writer
	CacheBytes           int64    // of the RAM cache
	DiskCacheDir         string   // absolute path; "": no disk cache
	DiskCacheBytes       int64    // of the disk cache; 0 without one
	// Peers or PeersDNS, or neither, is where the other query processes are.
	Peers               string        // host:port, separated by commas
	PeersDNS            string        // host:port
	PodName             string        // "": the host's name and the port of HTTPAddr
	PrewarmTimeout      time.Duration // most time to load before being ready
	Pprof               bool
	OTLPEndpoint        string // "" exports no traces
	LogLevel, LogFormat string

	WALMaxBytes   int64         // log budget: pressure on writes rises with its use
	BallastBytes  int64         // given up when the disk is nearly full; 0: none
	WALFileBytes  int64         // size of one log file
	FlushBytes    int64         // memtable size at which it is flushed
	GarbageGrace  time.Duration // how long objects that no version names are kept
	CompactMemory int64         // most memory of a merge of segments
	FlushAge      time.Duration // age of a memtable's oldest row at which it is flushed
	ShutdownGrace time.Duration // most time to finish requests in flight

	WALShip         bool          // copy the log to the store
	WALShipInterval time.Duration // how often
}

// Sources are where values come from. Everything outside the process is in here,
// so that Load is a function of its arguments.
type Sources struct {
	Flags   map[string]string // the flags that were given, by name; "config" is the file
	Environ []string          // NAME=value, as os.Environ
	// ReadFile reads the file. Nil means os.ReadFile.
	ReadFile func(string) ([]byte, error)
	// MemoryLimit is what percentages are of, in bytes. Nil means MemoryLimit().
	MemoryLimit func() int64
	// DiskSize is the size in bytes of the file system that a directory is on, or
	// will be. Nil means DiskSize.
	DiskSize func(dir string) (int64, error)
	// WorkDir is what a relative data directory is relative to. "" means the
	// process's working directory.
	WorkDir string
}

// Value is one effective setting.
type Value struct {
	Key    *Key
	Text   string // as it would be written in a file, secrets redacted
	Origin string // `flag --store`, `env AKIDB_STORE`, `file akidb.toml` or `default`
}

// Resolved is a configuration with its history.
type Resolved struct {
	Server
	Values []Value // every key that applies to the role, in the table's order
}

// Load resolves the configuration of role. The error joins every problem found,
// each naming the value and where it came from.
func Load(role Role, src Sources) (*Resolved, error) {
	if src.ReadFile == nil {
		src.ReadFile = os.ReadFile
	}
	if src.MemoryLimit == nil {
		src.MemoryLimit = MemoryLimit
	}
	if src.DiskSize == nil {
		src.DiskSize = DiskSize
	}
	if src.WorkDir == "" {
		wd, err := os.Getwd()
		if err != nil {
			return nil, fmt.Errorf("config: %w", err)
		}
		src.WorkDir = wd
	}
	given, errs := src.layers()
	r := &Resolved{Server: Server{Role: role}}
	env := environment{role: role, memory: src.MemoryLimit, disk: src.DiskSize, workDir: src.WorkDir}
	failed := map[string]bool{}
	for i := range keys {
		k := &keys[i]
		if !k.AppliesTo(role) {
			continue
		}
		v, ok := given[k.Name]
		if !ok {
			v = setting{text: k.Default(role), origin: "default"}
		}
		if err := k.set(&r.Server, v.text, env); err != nil {
			errs = append(errs, fmt.Errorf("%s is %q (%s): %w", k.Name, redact(k, v.text), v.origin, err))
			failed[k.Name] = true
		}
		r.Values = append(r.Values, Value{Key: k, Text: redact(k, v.text), Origin: v.origin})
	}
	errs = append(errs, r.crossCheck(failed)...)
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return r, nil
}

// Default file: where dev keeps its objects when no store is named.
func devStore(dataDir string) *url.URL {
	return &url.URL{Scheme: "file", Path: dataDir + "/objects"}
}

// redact hides the user info of a URL in a secret key's value.
func redact(k *Key, text string) string {
	if !k.Secret || !strings.Contains(text, "@") {
		return text
	}
	u, err := url.Parse(text)
	if err != nil || u.User == nil {
		// Not a URL we understand, but it may still hold a password.
		scheme, rest, found := strings.Cut(text, "://")
		if !found {
			scheme, rest = "", text
		} else {
			scheme += "://"
		}
		return scheme + "redacted@" + rest[strings.LastIndex(rest, "@")+1:]
	}
	u.User = url.User("redacted")
	return u.String()
}
