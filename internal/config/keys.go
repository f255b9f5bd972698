package config

import (
	"slices"
	"strings"
	"time"
)

// Key declares one setting.
type Key struct {
	Name   string // of the flag and of the TOML key
	Arg    string // what the value is called in help; "" for a boolean
	Help   string
	Secret bool // a URL that may carry user info, which is never shown

	def   map[Role]string // default by role; role "" stands for the others
	roles []Role          // where it applies; nil for everywhere, tools included
	set   func(*Server, string, environment) error
}

// Default is the text of the key's default for a role.
func (k *Key) Default(role Role) string {
	if d, ok := k.def[role]; ok {
		return d
	}
	return k.def[""]
}

// AppliesTo reports whether a role takes the key. A file or environment may hold
// it for the other roles all the same, so that they can share one.
func (k *Key) AppliesTo(role Role) bool { return k.roles == nil || slices.Contains(k.roles, role) }

// Bool reports whether the key is a switch.
func (k *Key) Bool() bool { return k.Arg == "" }

// Env is the name of the key's environment variable.
func (k *Key) Env() string {
	return "AKIDB_" + strings.ToUpper(strings.ReplaceAll(k.Name, "-", "_"))
}

// Keys returns the keys a role takes, in order.
func Keys(role Role) []*Key {
	var out []*Key
	for i := range keys {
		if keys[i].AppliesTo(role) {
			out = append(out, &keys[i])
		}
	}
	return out
}

func always(text string) map[Role]string      { return map[Role]string{"": text} }
func devOr(dev, other string) map[Role]string { return map[Role]string{Dev: dev, "": other} }

var (
	ingest  = []Role{Dev, Writer}
	servers = []Role{Dev, Writer, Query}
	queries = []Role{Query}
)

var keys = []Key{
	{
		Name: "http-addr", Arg: "ADDR", def: devOr("127.0.0.1:8080", "0.0.0.0:8080"), roles: servers,
		Help: "address of the REST API",
		set:  address(func(s *Server) *string { return &s.HTTPAddr }),
	},
	{
		Name: "grpc-addr", Arg: "ADDR", def: devOr("127.0.0.1:9090", ":9090"), roles: servers,
		Help: "address of gRPC",
		set:  address(func(s *Server) *string { return &s.GRPCAddr }),
	},
	{
		Name: "admin-addr", Arg: "ADDR", def: devOr("127.0.0.1:9091", ":9091"), roles: servers,
		Help: "address of /livez, /readyz, /metrics and pprof",
		set:  address(func(s *Server) *string { return &s.AdminAddr }),
	},
	{
		Name: "data-dir", Arg: "DIR", def: always("./akidb-data"),
		Help: "directory of the log, spill files and the embedded object store; used by one process at a time",
		set:  directory(func(s *Server) *string { return &s.DataDir }),
	},
	{
		Name: "store", Arg: "URL", Secret: true, def: always(""),
		Help: "object store: file:///dir, s3://bucket/prefix or, in dev, mem:// (dev's default: file://<data-dir>/objects)",
		set:  setStore,
	},
	{
		Name: "s3-endpoint", Arg: "URL", Secret: true, def: always(""),
		Help: "endpoint of an S3-compatible server; empty for AWS",
		set:  optional(httpURL(func(s *Server, text string) { s.S3Endpoint = text })),
	},
	{
		Name: "s3-region", Arg: "REGION", def: always(""),
		Help: "region of the bucket; empty for the AWS default chain's",
		set:  text(func(s *Server) *string { return &s.S3Region }),
	},
	{
		Name: "s3-path-style", def: always("false"),
		Help: "address buckets as a path, as most S3-compatible servers need",
		set:  boolean(func(s *Server) *bool { return &s.S3PathStyle }),
	},
	{
		Name: "writer-url", Arg: "URL", Secret: true, def: always(""), roles: servers,
		Help: "where a query process reaches the writer: for fresh reads and to forward writes",
		set:  optional(setWriterURL),
	},
	{
		Name: "writer-grpc-addr", Arg: "ADDR", def: always(""), roles: servers,
		Help: "where a query process forwards gRPC writes to; empty: port 9090 of writer-url's host (TLS if that is https)",
		set:  setWriterGRPCAddr,
	},
	{
		Name: "peers", Arg: "ADDRS", def: always(""), roles: queries,
		Help: "host:port,… of the query processes that share the work, this one may be among them; empty for none",
		set:  optional(addresses(func(s *Server) *string { return &s.Peers })),
	},
	{
		Name: "peers-dns", Arg: "HOST:PORT", def: always(""), roles: queries,
		Help: "a name behind which they all are, such as a headless service's, instead of peers",
		set:  optional(hostAndPort(func(s *Server) *string { return &s.PeersDNS })),
	},
	{
		Name: "pod-name", Arg: "NAME", def: always(""), roles: queries,
		Help: "what this process is called among them; it decides which segments are its own; empty: host name and port of http-addr",
		set:  text(func(s *Server) *string { return &s.PodName }),
	},
	{
		Name: "prewarm-timeout", Arg: "DURATION", def: always("30s"), roles: queries,
		Help: "most time to load what the others have in memory before being ready",
		set:  duration(func(s *Server) *time.Duration { return &s.PrewarmTimeout }),
	},
	{
		Name: "cache-bytes", Arg: "SIZE", def: always("60%"), roles: servers,
		Help: "size of the RAM cache: 512MiB, or a percentage of the memory limit",
		set:  share(func(s *Server) *int64 { return &s.CacheBytes }, 1<<20), // below, a single posting list would not fit
	},
	{
		Name: "disk-cache-dir", Arg: "DIR", def: always(""), roles: servers,
		Help: "directory, of this process alone, for a cache on the local disk that outlives it; empty for none",
		set:  optional(directory(func(s *Server) *string { return &s.DiskCacheDir })),
	},
	{
		Name: "disk-cache-bytes", Arg: "SIZE", def: always("50%"), roles: servers,
		Help: "size of the disk cache: 100GiB, or a percentage of the file system; a twentieth of that is left free in any case",
		set:  setDiskCacheBytes,
	},
	{
		Name: "auth", Arg: "off", def: always("off"), roles: servers,
		Help: "who may use the API; off: whoever reaches the port",
		set:  setAuth,
	},
	{
		Name: "pprof", def: always("false"), roles: servers,
		Help: "serve Go's profiler on the admin address",
		set:  boolean(func(s *Server) *bool { return &s.Pprof }),
	},
	{
		Name: "otlp-endpoint", Arg: "ADDR", Secret: true, def: always(""), roles: servers,
		Help: "OTLP gRPC receiver of traces: host:port, http://… or https://…; empty for none",
		set:  optional(setOTLPEndpoint),
	},
	{
		Name: "log-level", Arg: "LEVEL", def: always("info"), roles: servers,
		Help: "least level logged: debug, info, warn or error",
		set:  oneOf(func(s *Server) *string { return &s.LogLevel }, "debug", "info", "warn", "error"),
	},
	{
		Name: "log-format", Arg: "FORMAT", def: always("text"), roles: servers,
		Help: "format of the log: text or json",
		set:  oneOf(func(s *Server) *string { return &s.LogFormat }, "text", "json"),
	},
	{
		Name: "wal-max-bytes", Arg: "SIZE", def: always("2GiB"), roles: ingest,
		Help: "disk budget of the log; writes are slowed, then refused, as it fills",
		set:  size(func(s *Server) *int64 { return &s.WALMaxBytes }, 16<<20),
	},
	{
		Name: "ballast-bytes", Arg: "SIZE", def: always("256MiB"), roles: ingest,
		Help: "size of a file given up when the disk is nearly full and a flush needs room; at most 3 % of the disk; 0: none",
		set:  size(func(s *Server) *int64 { return &s.BallastBytes }, 0),
	},
	{
		Name: "wal-file-bytes", Arg: "SIZE", def: always("64MiB"), roles: ingest,
		Help: "size of one file of the log",
		set:  size(func(s *Server) *int64 { return &s.WALFileBytes }, 1<<20),
	},
	{
		Name: "flush-bytes", Arg: "SIZE", def: always("64MiB"), roles: ingest,
		Help: "size of unflushed rows at which they are flushed",
		set:  size(func(s *Server) *int64 { return &s.FlushBytes }, 4<<10),
	},
	{
		Name: "flush-age", Arg: "DURATION", def: always("10s"), roles: ingest,
		Help: "age of the oldest unflushed row at which it is flushed",
		set:  duration(func(s *Server) *time.Duration { return &s.FlushAge }),
	},
	{
		Name: "wal-ship", Arg: "WHEN", def: always("auto"), roles: ingest,
		Help: "copy the log to the object store, for when the data directory is lost: auto (on if the store is s3://), on or off",
		set:  setWALShip,
	},
	{
		Name: "wal-ship-interval", Arg: "DURATION", def: always("200ms"), roles: ingest,
		Help: "how often the log is copied: the most that losing the data directory costs",
		set:  duration(func(s *Server) *time.Duration { return &s.WALShipInterval }),
	},
	{
		Name: "gc-grace", Arg: "DURATION", def: always("10m"), roles: ingest,
		Help: "how long replaced objects are kept, for reads that run and for as_of",
		set:  duration(func(s *Server) *time.Duration { return &s.GarbageGrace }),
	},
	{
		Name: "compact-memory", Arg: "SIZE", def: always("25%"), roles: ingest,
		Help: "memory that merging segments may take: 1GiB, or a percentage of the memory limit",
		set:  share(func(s *Server) *int64 { return &s.CompactMemory }, 16<<20),
	},
	{
		Name: "shutdown-grace", Arg: "DURATION", def: always("30s"), roles: servers,
		Help: "most time to finish requests in flight when stopping",
		set:  duration(func(s *Server) *time.Duration { return &s.ShutdownGrace }),
	},
}
