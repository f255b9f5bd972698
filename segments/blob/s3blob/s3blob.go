// Package s3blob is an object store in a bucket of anything that speaks S3 and
// judges conditional puts atomically.
//
// Every method is one attempt: the SDK's own retries are off, because one that
// follows a lost reply reports the caller's own success as a refused condition.
// Bodies travel with a CRC32C that the server checks. Versions are ETags, which
// most servers derive from the content alone.
package s3blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/akidb/akidb/segments/blob"
)

// Config says where a store is. Credentials are not part of it: they come
// through the AWS default chain (environment, shared files, workload identity).
type Config struct {
	// Bucket must exist. It has no default.
	Bucket string
	// Prefix is put before every key, with a slash in between; "" means that
	// keys begin at the bucket's root.
	Prefix string
	// Endpoint is the URL of a server other than AWS; "" means AWS, or what its
	// environment variables say.
	Endpoint string
	// Region defaults to what the AWS environment says, and without that to
	// us-east-1.
	Region string
	// PathStyle puts the bucket into the path rather than the host name. Most
	// servers other than AWS need it.
	PathStyle bool
	// Stall is how long one request may go without getting on: connecting,
	// waiting for the answer, or moving bodies at less than 16 KiB/s. A server
	// gets a second more to answer for every MiB it was sent. 0 means 3 s: two such waits open a
	// blob.Guarded's breaker, and no store that works is that slow for long.
	Stall time.Duration
	// Connections is how many idle connections to the server are kept for the
	// next burst of parallel reads. 0 means 256.
	Connections int
}

// Validate reports every problem of c at once.
func (c Config) Validate() error {
	var problems []error
	if c.Bucket == "" || strings.Contains(c.Bucket, "/") {
		problems = append(problems, fmt.Errorf("bucket: got %q, want a name", c.Bucket))
	}
	if c.Prefix != "" {
		if err := blob.CheckKey(c.Prefix); err != nil {
			problems = append(problems, fmt.Errorf("prefix %q: %w", c.Prefix, err))
		}
	}
	if c.Endpoint != "" {
		u, err := url.Parse(c.Endpoint)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			problems = append(problems, fmt.Errorf("endpoint: got %q, want http://… or https://…", c.Endpoint))
		}
	}
	if c.Stall < 0 {
		problems = append(problems, fmt.Errorf("stall: got %v, want 0 or more", c.Stall))
	}
	if c.Connections < 0 {
		problems = append(problems, fmt.Errorf("connections: got %d, want 0 or more", c.Connections))
	}
	return errors.Join(problems...)
}

// Store implements blob.Store. Make one with Open.
type Store struct {
	client    *s3.Client
	transport *http.Transport
	bucket    string
	prefix    string // "" or ending in a slash
}

var _ blob.Store = (*Store)(nil)

// Open prepares a store. It does not talk to the server, so that a process can
// start while the server is away.
func Open(ctx context.Context, c Config) (*Store, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("open bucket %q: %w", c.Bucket, err)
	}
	builder := newTransport(orDefault(c.Connections, 256))
	options := []func(*config.LoadOptions) error{
		config.WithHTTPClient(builder),
		config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }),
		config.WithRequestChecksumCalculation(aws.RequestChecksumCalculationWhenRequired),
		config.WithResponseChecksumValidation(aws.ResponseChecksumValidationWhenRequired),
	}
	if c.Region != "" {
		options = append(options, config.WithRegion(c.Region))
	}
	loaded, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("open bucket %q: %w", c.Bucket, err)
	}
	loaded.Region = orDefault(loaded.Region, "us-east-1")
	// The environment may have added certificates to the builder it was given.
	if b, ok := loaded.HTTPClient.(*awshttp.BuildableClient); ok {
		builder = b
	}
	transport := builder.GetTransport()
	loaded.HTTPClient = &http.Client{
		Transport: watching{transport, orDefault(c.Stall, defaultStall)},
		// S3 redirects to say that the region is wrong. Following it would hide that.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	s := &Store{
		client: s3.NewFromConfig(loaded, func(o *s3.Options) {
			o.UsePathStyle = c.PathStyle
			if c.Endpoint != "" {
				o.BaseEndpoint = aws.String(c.Endpoint)
			}
		}),
		transport: transport,
		bucket:    c.Bucket,
	}
	if c.Prefix != "" {
		s.prefix = c.Prefix + "/"
	}
	return s, nil
}

func orDefault[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// newTransport keeps enough idle connections that a burst of parallel reads
// does not pay for handshakes; the default of 2 per host is for browsers.
func newTransport(connections int) *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().
		WithDialerOptions(func(d *net.Dialer) {
			d.Timeout = 5 * time.Second
			d.KeepAlive = 15 * time.Second
		}).
		WithTransportOptions(func(t *http.Transport) {
			t.MaxIdleConns = 0 // no limit but the one per host
			t.MaxIdleConnsPerHost = connections
			t.IdleConnTimeout = 60 * time.Second
			t.TLSHandshakeTimeout = 5 * time.Second
			t.DisableCompression = true // ranges are of the bytes at rest
			t.ReadBufferSize = 64 << 10
			t.WriteBufferSize = 64 << 10
		})
}

// Close drops idle connections. No operation may be under way or follow.
func (s *Store) Close() error {
	s.transport.CloseIdleConnections()
	return nil
}

// Get implements blob.Store.
func (s *Store) Get(ctx context.Context, key string) ([]byte, blob.Version, error) {
	b, version, err := s.get(ctx, key)
	if err != nil {
		return nil, "", fmt.Errorf("get %q: %w", key, classify(ctx, err))
	}
	return b, version, nil
}

func (s *Store) get(ctx context.Context, key string) ([]byte, blob.Version, error) {
	if err := blob.CheckKey(key); err != nil {
		return nil, "", err
	}
	out, err := s.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &s.bucket, Key: s.full(key)})
	if err != nil {
		return nil, "", err
	}
	defer out.Body.Close()
	if out.ContentLength == nil {
		return nil, "", errors.New("server sent no length")
	}
	b := make([]byte, *out.ContentLength)
	if err := fill(out.Body, b); err != nil {
		return nil, "", err
	}
	return b, versionOf(out.ETag), nil
}

// ReadRange implements blob.Store.
func (s *Store) ReadRange(ctx context.Context, key string, off int64, dst []byte) error {
	if err := s.readRange(ctx, key, off, dst); err != nil {
		return fmt.Errorf("read %q [%d,%d): %w", key, off, off+int64(len(dst)), classify(ctx, err))
	}
	return nil
}

func (s *Store) readRange(ctx context.Context, key string, off int64, dst []byte) error {
	if err := blob.CheckRead(key, off); err != nil {
		return err
	}
	if len(dst) == 0 { // S3 has no empty ranges
		o, err := s.stat(ctx, key)
		if err == nil && o.Size < off {
			err = fmt.Errorf("%w: it has %d bytes", errObjectEnds, o.Size)
		}
		return err
	}
	out, err := s.client.GetObject(ctx, &s3.GetObjectInput{
		Bucket: &s.bucket,
		Key:    s.full(key),
		Range:  aws.String(fmt.Sprintf("bytes=%d-%d", off, off+int64(len(dst))-1)),
	})
	if err != nil {
		return err
	}
	defer out.Body.Close()
	var first, last int64
	if _, err := fmt.Sscanf(aws.ToString(out.ContentRange), "bytes %d-%d/", &first, &last); err != nil || first != off {
		return fmt.Errorf("server answered with range %q", aws.ToString(out.ContentRange))
	}
	if got := last - first + 1; got < int64(len(dst)) {
		return fmt.Errorf("%w: it has %d bytes", errObjectEnds, last+1)
	}
	return fill(out.Body, dst)
}

// fill reads a body of a known length. One that ends early was cut on its way:
// the object itself is fine, so this must not look like the end of the object.
func fill(body io.Reader, dst []byte) error {
	n, err := io.ReadFull(body, dst)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: body cut off: got %d bytes, want %d", blob.ErrUnavailable, n, len(dst))
	}
	return err
}

// Stat implements blob.Store.
func (s *Store) Stat(ctx context.Context, key string) (blob.Object, error) {
	o, err := s.stat(ctx, key)
	if err != nil {
		return blob.Object{}, fmt.Errorf("stat %q: %w", key, classify(ctx, err))
	}
	return o, nil
}

func (s *Store) stat(ctx context.Context, key string) (blob.Object, error) {
	if err := blob.CheckKey(key); err != nil {
		return blob.Object{}, err
	}
	out, err := s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.bucket, Key: s.full(key)})
	if status(err) == http.StatusNotFound {
		// The answer to HEAD has no body to say whether it is the key or the
		// whole bucket that is missing. A GET does.
		if _, _, err := s.get(ctx, key); err != nil {
			return blob.Object{}, err
		}
		return blob.Object{}, blob.ErrNotFound // it came back in between
	}
	if err != nil {
		return blob.Object{}, err
	}
	return blob.Object{Key: key, Size: aws.ToInt64(out.ContentLength), Version: versionOf(out.ETag)}, nil
}

// Delete implements blob.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	err := blob.CheckKey(key)
	if err == nil {
		_, err = s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.bucket, Key: s.full(key)})
		err = classify(ctx, err)
	}
	if err != nil && !errors.Is(err, blob.ErrNotFound) {
		return fmt.Errorf("delete %q: %w", key, err)
	}
	return nil
}

func (s *Store) full(key string) *string { return aws.String(s.prefix + key) }

// versionOf drops an ETag's quotes, which some servers leave out of listings.
func versionOf(etag *string) blob.Version {
	return blob.Version(strings.Trim(aws.ToString(etag), `"`))
}
