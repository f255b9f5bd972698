package tidy

// A pattern is a folder ("segments/blob"), a folder and all below it
// ("segments/..."), or everything ("...").

// edge says what a package of ours may import of ours, its tests included. The
// most specific pattern counts. A package below a folder may always import
// what lies in the same entry.
type edge struct {
	pkg string
	may []string
}

// edges is the import table of the house. A package it does not name does not
// belong anywhere yet.
var edges = []edge{
	{"kernels/...", nil},
	{"segments/blob/...", nil},
	{"segments/ivfpq/...", []string{"kernels/..."}},
	{"segments/manifest/...", []string{"segments/blob/..."}},
	{"segments/columns/...", []string{"kernels/..."}},
	{"segments/attributes/...", []string{"segments/columns", "segments/blob"}},
	{"segments", []string{"segments/..."}},
	{"segments/verify", []string{"segments/..."}},
	{"segments/inspect", []string{"segments/..."}},
	{"cache/...", []string{"segments/blob/..."}},
	{"writer/...", []string{"segments/...", "kernels/...", "internal/...", "api/..."}},
	{"query/...", []string{"segments/...", "cache/...", "kernels/...", "internal/...", "api/..."}},
	{"internal/...", []string{"api/..."}},
	{"internal/telemetry", []string{"internal/...", "segments/blob"}},
	{"internal/breaker", []string{"internal/...", "segments/blob"}},
	// Tests alone: they hold the API's document against what is served.
	{"internal/apidocs/contract", []string{"segments/...", "cache/...", "writer/...", "query/...", "internal/...", "api/..."}},
	{"api/...", nil},
	{"cmd/...", []string{"segments/...", "cache/...", "kernels/...", "writer/...", "query/...", "internal/...", "api/..."}},
	{"chaos/...", []string{"..."}},
	{"loadtest/...", []string{"..."}},
}

// fence says where an external module may be imported.
type fence struct {
	module    string // import path prefix
	places    []string
	testsOnly bool // everywhere in tests; outside them only in places
}

var anywhere = []string{"..."}

// fences lists every external module there is. A new one is a decision: it is
// added here, with the fewest places that do.
var fences = []fence{
	// Formats and engines that one package hides from the rest.
	{module: "github.com/aws", places: []string{"segments/blob/s3blob", "segments/blob/s3test"}},
	{module: "github.com/parquet-go/parquet-go", places: []string{"segments/columns"}},
	{module: "github.com/dgraph-io/ristretto", places: []string{"cache"}},
	{module: "github.com/hashicorp/golang-lru", places: []string{"cache", "query"}},
	{module: "github.com/cockroachdb/pebble/v2/vfs", places: []string{"writer/wal"}},
	{module: "github.com/RoaringBitmap/roaring", places: []string{"segments", "segments/attributes", "segments/columns", "segments/verify", "query", "writer"}},

	// The HTTP edge and what else only the rim of a process needs.
	{module: "github.com/valyala/fasthttp", places: []string{"loadtest/search", "internal/httpapi", "internal/apidocs/...", "internal/breaker", "internal/telemetry", "query", "writer", "cmd/..."}},
	{module: "github.com/fasthttp/router", places: []string{"internal/httpapi"}},
	{module: "google.golang.org/grpc", places: []string{"api/...", "internal/grpcapi", "internal/apidocs/contract", "chaos", "internal/telemetry", "query", "writer", "cmd/..."}},
	{module: "google.golang.org/protobuf", places: []string{"api/...", "internal/grpcapi", "internal/apidocs/contract", "chaos", "query", "writer", "cmd/..."}},
	{module: "google.golang.org/genproto", places: []string{"internal/grpcapi", "internal/apidocs/contract", "query", "chaos"}},
	{module: "go.opentelemetry.io/otel", places: []string{"internal/...", "query", "writer", "cmd/..."}},
	{module: "github.com/prometheus/client_golang", places: []string{"internal/...", "cache", "query", "writer", "cmd/..."}},
	{module: "github.com/spf13", places: []string{"cmd/..."}},
	{module: "github.com/schollz/progressbar", places: []string{"internal/client/...", "cmd/..."}},
	{module: "github.com/dustin/go-humanize", places: []string{"cmd/..."}},
	{module: "golang.org/x/term", places: []string{"cmd/..."}},
	{module: "github.com/pelletier/go-toml", places: []string{"internal/config"}},
	{module: "github.com/agnivade/levenshtein", places: []string{"internal/nearest"}},
	{module: "github.com/swaggest/swgui", places: []string{"internal/apidocs"}},
	{module: "go.yaml.in/yaml", places: []string{"internal/apidocs"}},

	// Small things without an opinion.
	{module: "github.com/go-json-experiment/json", places: anywhere},
	{module: "github.com/klauspost/compress", places: anywhere},
	{module: "github.com/sony/gobreaker", places: []string{"segments/blob"}},
	{module: "golang.org/x/time", places: []string{"segments/blob"}},
	{module: "github.com/cenkalti/backoff", places: []string{"internal/client/...", "query", "writer", "segments/blob/..."}},
	{module: "github.com/cespare/xxhash", places: anywhere},
	{module: "github.com/google/uuid", places: anywhere},
	{module: "github.com/oklog/ulid", places: anywhere},
	{module: "golang.org/x/sync", places: anywhere},
	{module: "golang.org/x/sys", places: anywhere},

	// Tests, and the packages that are made of tests.
	{module: "github.com/anishathalye/porcupine", testsOnly: true},
	{module: "pgregory.net/rapid", testsOnly: true, places: []string{"segments/blob/blobtest"}},
	{module: "github.com/stretchr/testify", testsOnly: true, places: []string{"segments/blob/blobtest", "segments/blob/s3test"}},
	{module: "go.uber.org/goleak", testsOnly: true},
	{module: "go.opentelemetry.io/proto/otlp", testsOnly: true},
	// Bad networks, and the logger it wants to be given.
	{module: "github.com/Shopify/toxiproxy", testsOnly: true},
	{module: "github.com/rs/zerolog", testsOnly: true},
	{module: "github.com/bufbuild/protocompile", testsOnly: true},
	{module: "github.com/pb33f/libopenapi", testsOnly: true},
	{module: "github.com/pb33f/libopenapi-validator", testsOnly: true},
	{module: "github.com/santhosh-tekuri/jsonschema", testsOnly: true},
}

// forbiddenNames are what a package is called when nobody decided what it is for.
var forbiddenNames = []string{"utils", "util", "common", "base", "helpers", "types", "models"}

// forbiddenWords are regular expressions, matched without regard to case, for
// what comments and documents must not speak of: how the code came to be, and
// hosts that it does not depend on.
var forbiddenWords = []string{
	`\bsessions?\b`,
	`\bhelpers?\b`,
	`\bissues? #?[0-9]+`,
	`\bsandbox(es|ed)?\b`,
	`\bproxy\.golang\.org\b`,
	`\bsum\.golang\.org\b`,
	`\bregistry\.npmjs\.org\b`,
	`\bpypi\.org\b`,
	`\bcrates\.io\b`,
}
