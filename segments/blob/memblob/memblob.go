// Package memblob is an object store in the memory of one process: for tests,
// and for processes that keep nothing. It is linearizable, and no two puts ever
// share a version.
package memblob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/akidb/akidb/segments/blob"
)

// Store implements blob.Store. Make one with New.
type Store struct {
	mu      sync.RWMutex
	objects map[string]object
	keys    []string // of objects, ascending
	puts    uint64   // numbers the versions
}

type object struct {
	body    []byte // never changed once stored
	version blob.Version
}

var _ blob.Store = (*Store)(nil)

// New returns an empty store.
func New() *Store {
	return &Store{objects: map[string]object{}}
}

// Get implements blob.Store.
func (s *Store) Get(ctx context.Context, key string) ([]byte, blob.Version, error) {
	o, err := s.lookup(ctx, key)
	if err != nil {
		return nil, "", fmt.Errorf("get %q: %w", key, err)
	}
	return bytes.Clone(o.body), o.version, nil
}

// ReadRange implements blob.Store.
func (s *Store) ReadRange(ctx context.Context, key string, off int64, dst []byte) error {
	fail := func(err error) error {
		return fmt.Errorf("read %q [%d,%d): %w", key, off, off+int64(len(dst)), err)
	}
	if err := blob.CheckRead(key, off); err != nil {
		return fail(err)
	}
	o, err := s.lookup(ctx, key)
	if err != nil {
		return fail(err)
	}
	if size := int64(len(o.body)); off > size || int64(len(dst)) > size-off {
		return fail(fmt.Errorf("object has %d bytes: %w", size, io.ErrUnexpectedEOF))
	}
	copy(dst, o.body[off:])
	return nil
}

// Stat implements blob.Store.
func (s *Store) Stat(ctx context.Context, key string) (blob.Object, error) {
	o, err := s.lookup(ctx, key)
	if err != nil {
		return blob.Object{}, fmt.Errorf("stat %q: %w", key, err)
	}
	return o.describe(key), nil
}

// Put implements blob.Store. An error other than a refused condition means that
// nothing was stored.
func (s *Store) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, cond blob.Condition) (blob.Version, error) {
	version, err := s.put(ctx, key, body, size, cond)
	if err != nil {
		return "", fmt.Errorf("put %q: %w", key, err)
	}
	return version, nil
}

func (s *Store) put(ctx context.Context, key string, body io.Reader, size int64, cond blob.Condition) (blob.Version, error) {
	if err := blob.CheckPut(key, size, cond); err != nil {
		return "", err
	}
	b := make([]byte, size)
	if n, err := io.ReadFull(body, b); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return "", fmt.Errorf("body: got %d bytes, want %d: %w", n, size, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return "", err
	}
	old, exists := s.objects[key]
	switch {
	case cond.IfAbsent && exists:
		return "", fmt.Errorf("exists with version %s: %w", old.version, blob.ErrPrecondition)
	case cond.IfMatch != "" && !exists:
		return "", blob.ErrNotFound
	case cond.IfMatch != "" && old.version != cond.IfMatch:
		return "", fmt.Errorf("got version %s, want %s: %w", old.version, cond.IfMatch, blob.ErrPrecondition)
	}
	if !exists {
		i, _ := slices.BinarySearch(s.keys, key)
		s.keys = slices.Insert(s.keys, i, key)
	}
	s.puts++
	o := object{body: b, version: blob.Version(strconv.FormatUint(s.puts, 10))}
	s.objects[key] = o
	return o.version, nil
}

// Delete implements blob.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := errors.Join(blob.CheckKey(key), ctx.Err()); err != nil {
		return fmt.Errorf("delete %q: %w", key, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, key)
	if i, found := slices.BinarySearch(s.keys, key); found {
		s.keys = slices.Delete(s.keys, i, i+1)
	}
	return nil
}

// List implements blob.Store.
func (s *Store) List(ctx context.Context, l blob.Listing) (blob.Page, error) {
	if err := ctx.Err(); err != nil {
		return blob.Page{}, fmt.Errorf("list %q: %w", l.Prefix, err)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	var page blob.Page
	last := "" // the latest entry of the page
	from, _ := slices.BinarySearch(s.keys, max(l.Prefix, l.After))
	for _, key := range s.keys[from:] {
		if !strings.HasPrefix(key, l.Prefix) {
			break
		}
		entry, rolled := l.Rollup(key)
		if !rolled {
			entry = key
		}
		if entry <= l.After || entry == last {
			continue
		}
		if len(page.Objects)+len(page.Prefixes) == l.Max() {
			page.Next = last
			break
		}
		if rolled {
			page.Prefixes = append(page.Prefixes, entry)
		} else {
			page.Objects = append(page.Objects, s.objects[key].describe(key))
		}
		last = entry
	}
	return page, nil
}

func (s *Store) lookup(ctx context.Context, key string) (object, error) {
	if err := errors.Join(blob.CheckKey(key), ctx.Err()); err != nil {
		return object{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	o, ok := s.objects[key]
	if !ok {
		return object{}, blob.ErrNotFound
	}
	return o, nil
}

func (o object) describe(key string) blob.Object {
	return blob.Object{Key: key, Size: int64(len(o.body)), Version: o.version}
}
