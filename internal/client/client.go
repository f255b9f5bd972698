// Package client talks to the REST interface of an AkiDB server.
//
// What it promises:
//
//   - Every answer that is not a success is an [*Error] with what the server said: status, code, message, field, hint and
//     request id.
//   - Reads are retried while the server is away or busy (connection errors, 429, 502, 503, 504), with full jitter and never
//     sooner than Retry-After asks, until [Config.RetryFor] has passed.
//   - A write is retried only when it certainly was not applied, or when its method says that repeating it is harmless. A
//     write whose fate is not known fails with [ErrOutcomeUnknown].
//   - Of several servers, one that fails or refuses is left alone for a while, and what may be repeated is sent to the next
//     at once. Only when all of them have failed a call waits.
//
// A Client may be used by any number of goroutines.
package client

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/klauspost/compress/zstd"
)

// DefaultURL is where `akidb dev` listens.
const DefaultURL = "http://127.0.0.1:8080"

const basePath = "/api/v1"

// Config says which server to talk to and how. The zero value is a local server without a key.
type Config struct {
	// URL is the server's address, with or without /api/v1, or those of several that serve the same, separated by commas.
	// Empty: the environment's AKIDB_URL, else DefaultURL.
	URL string
	// APIKey is sent as a bearer token. Empty: the environment's AKIDB_API_KEY, else none.
	APIKey string
	// RetryFor bounds how long one call is retried for, from its first attempt. 0: 30 s; negative: never retried.
	RetryFor time.Duration
	// AttemptTimeout bounds one attempt, from connecting to the last byte of the answer. 0: 2 min.
	AttemptTimeout time.Duration
	// Compress packs request bodies with zstd. Vectors hardly shrink: it pays only over slow links. false: sent as they are.
	Compress bool
	// Connections is how many idle connections are kept for reuse: as many as there are concurrent calls. 0: 16.
	Connections int
	// Notify is told of every failed attempt that will be repeated, and after how long. nil: nobody is.
	Notify func(err error, after time.Duration)
	// NewTimer makes the timer a call waits on between attempts. nil: the system's.
	NewTimer func() backoff.Timer
	// Clock decides when RetryFor has passed. nil: the system's.
	Clock backoff.Clock
}

// Validate reports every problem at once.
func (c Config) Validate() error {
	var errs []error
	if _, err := parseBases(c.withDefaults().URL); err != nil {
		errs = append(errs, err)
	}
	if c.AttemptTimeout < 0 {
		errs = append(errs, fmt.Errorf("attempt timeout is %s, want 0 or more", c.AttemptTimeout))
	}
	if c.Connections < 0 {
		errs = append(errs, fmt.Errorf("connections is %d, want 0 or more", c.Connections))
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	c.URL = cmp.Or(c.URL, os.Getenv("AKIDB_URL"), DefaultURL)
	c.APIKey = cmp.Or(c.APIKey, os.Getenv("AKIDB_API_KEY"))
	c.RetryFor = cmp.Or(c.RetryFor, 30*time.Second)
	c.AttemptTimeout = cmp.Or(c.AttemptTimeout, 2*time.Minute)
	c.Connections = cmp.Or(c.Connections, 16)
	if c.Clock == nil {
		c.Clock = backoff.SystemClock
	}
	return c
}

// parseBases returns what parseBase does of each of the addresses.
func parseBases(addresses string) ([]*base, error) {
	var bases []*base
	var errs []error
	for address := range strings.SplitSeq(addresses, ",") {
		url, err := parseBase(strings.TrimSpace(address))
		bases, errs = append(bases, &base{url: url}), append(errs, err)
	}
	return bases, errors.Join(errs...)
}

// parseBase returns the address that request paths are appended to, without a slash at its end.
func parseBase(address string) (string, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return "", fmt.Errorf("server address: %w", err)
	case (u.Scheme != "http" && u.Scheme != "https") || u.Host == "":
		return "", fmt.Errorf("server address %q: want http://host:port", address)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return "", fmt.Errorf("server address of host %q: want no user, query or fragment; a key goes into AKIDB_API_KEY", u.Host)
	}
	path := strings.TrimSuffix(strings.TrimRight(u.Path, "/"), basePath)
	return u.Scheme + "://" + u.Host + path + basePath, nil
}

// Client is a connection pool to one server, or to several that serve the same.
type Client struct {
	config Config
	bases  []*base
	first  atomic.Uint32 // of bases, the one that is asked unless it rests
	http   *http.Client
	zstd   *zstd.Encoder // nil unless bodies are compressed
}

// New checks the configuration. It does no I/O.
func New(config Config) (*Client, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	config = config.withDefaults()
	bases, err := parseBases(config.URL)
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = config.Connections
	c := &Client{config: config, bases: bases, http: &http.Client{
		Transport: transport,
		// A redirect would carry the key to an address nobody configured.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	if config.Compress {
		if c.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest)); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// URL is the first of the addresses, /api/v1 included.
func (c *Client) URL() string { return c.bases[0].url }

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }
