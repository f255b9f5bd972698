// Package bloburl opens the object store that a URL names:
//
//	file:///dir           fileblob in an absolute directory
//	s3://bucket/prefix    s3blob; the prefix may be missing
//	mem://                memblob, new and empty
package bloburl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/fileblob"
	"github.com/akidb/akidb/segments/blob/memblob"
	"github.com/akidb/akidb/segments/blob/s3blob"
)

// Store is an open store, to be closed when nothing uses it any more.
type Store interface {
	blob.Store
	io.Closer
}

// Open opens the store that rawURL names. For s3, bucket and prefix come from
// the URL and everything else from s3; a prefix in both is refused.
func Open(ctx context.Context, rawURL string, s3 s3blob.Config) (Store, error) {
	return openURL(ctx, rawURL, s3, fileblob.Open)
}

func openURL(ctx context.Context, rawURL string, s3 s3blob.Config, openFile func(dir string) (*fileblob.Store, error)) (Store, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	s, err := open(ctx, u, s3, openFile)
	if err != nil {
		return nil, fmt.Errorf("store %q: %w", u.Redacted(), err)
	}
	return s, nil
}

func open(ctx context.Context, u *url.URL, s3 s3blob.Config, openFile func(dir string) (*fileblob.Store, error)) (Store, error) {
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" {
		return nil, errors.New("want only a scheme, a host and a path")
	}
	switch u.Scheme {
	case "file":
		if u.Host != "" || u.Path == "" {
			return nil, errors.New("want an absolute path: file:///dir")
		}
		return opened(openFile(u.Path))
	case "s3":
		if s3.Bucket != "" || s3.Prefix != "" {
			return nil, errors.New("bucket and prefix are the URL's to say")
		}
		s3.Bucket, s3.Prefix = u.Host, strings.Trim(u.Path, "/")
		return opened(s3blob.Open(ctx, s3))
	case "mem":
		if u.Host != "" || u.Path != "" {
			return nil, errors.New("want mem:// and nothing after it")
		}
		return inMemory{memblob.New()}, nil
	}
	return nil, fmt.Errorf("got scheme %q, want file, s3 or mem", u.Scheme)
}

// OpenReadOnly is Open for looking at a store beside whatever uses it: nothing is
// made, changed or cleared up, and Put and Delete always fail. A file store must
// be there.
func OpenReadOnly(ctx context.Context, rawURL string, s3 s3blob.Config) (Store, error) {
	s, err := openURL(ctx, rawURL, s3, fileblob.OpenReadOnly)
	if err != nil {
		return nil, err
	}
	return readOnly{s}, nil
}

// readOnly refuses what would change the store.
type readOnly struct{ Store }

func (readOnly) Put(_ context.Context, key string, _ io.ReadSeeker, _ int64, _ blob.Condition) (blob.Version, error) {
	return "", fmt.Errorf("put %q: the store is open for reading only", key)
}

func (readOnly) Delete(_ context.Context, key string) error {
	return fmt.Errorf("delete %q: the store is open for reading only", key)
}

// opened keeps a failed Open from becoming an interface that holds a nil.
func opened[S Store](s S, err error) (Store, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

type inMemory struct{ *memblob.Store }

func (inMemory) Close() error { return nil }
