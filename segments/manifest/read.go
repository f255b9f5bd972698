package manifest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/akidb/akidb/segments/blob"
)

// head is CURRENT as it was found, and the snapshot it points at.
type head struct {
	current  Current
	version  blob.Version // of the CURRENT object
	snapshot *Snapshot
}

// Peek reads CURRENT only: one small read that tells a reader whether the
// snapshot it holds is still the newest. A collection that does not exist is
// blob.ErrNotFound.
func Peek(ctx context.Context, store blob.Store, id string) (Current, error) {
	c, _, err := peek(ctx, store, id)
	return c, err
}

// Read returns the newest snapshot of a collection and the CURRENT that named
// it. A collection that does not exist is blob.ErrNotFound; what does not hash,
// decode or agree is blob.ErrCorrupt; what a newer program wrote is
// ErrUnsupported. The snapshot is the caller's.
func Read(ctx context.Context, store blob.Store, id string) (*Snapshot, Current, error) {
	h, err := read(ctx, store, id)
	return h.snapshot, h.current, err
}

// ReadNewer is Read for a caller who has the snapshot of a commit already: while
// CURRENT names that one, the snapshot is nil and CURRENT is all that is read.
func ReadNewer(ctx context.Context, store blob.Store, id, commit string) (*Snapshot, Current, error) {
	h, err := readNewer(ctx, store, id, commit)
	return h.snapshot, h.current, err
}

// ReadBody returns the snapshot that link names. A body that is not there is
// blob.ErrNotFound: it may have been collected.
func ReadBody(ctx context.Context, store blob.Store, link Link) (*Snapshot, error) {
	s, err := fetchBody(ctx, store, link)
	if errors.Is(err, blob.ErrCorrupt) {
		s, err = fetchBody(ctx, store, link) // damage on the way heals itself
	}
	return s, err
}

// ReadUnlinked returns the body at a key that no link vouches for. It says
// nothing of whether the version was ever committed.
func ReadUnlinked(ctx context.Context, store blob.Store, key string) (*Snapshot, error) {
	b, _, err := store.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	s, err := decodeBody(b)
	if err != nil {
		return nil, fmt.Errorf("decode %q: %w", key, err)
	}
	return s, nil
}

// History returns the snapshots behind from, newest first, checking that every
// body has the hash its child promised and that the two fit together. It ends
// after version 1 or with the first error, which is blob.ErrNotFound where
// older bodies were collected.
func History(ctx context.Context, store blob.Store, from Current) iter.Seq2[*Snapshot, error] {
	return func(yield func(*Snapshot, error) bool) {
		s, err := readNamed(ctx, store, from)
		for err == nil && yield(s, nil) && s.Parent != nil {
			child := s
			if s, err = ReadBody(ctx, store, *child.Parent); err == nil {
				if err = child.follows(s); err != nil {
					err = fmt.Errorf("manifest %q: %w: %w", child.Parent.Key, err, blob.ErrCorrupt)
				}
			}
		}
		if err != nil {
			yield(nil, err)
		}
	}
}

// List returns the ids of all collections in ascending order. One whose
// creation was interrupted has no CURRENT, and dropped ones are listed too:
// only reading tells.
func List(ctx context.Context, store blob.Store) ([]string, error) {
	var ids []string
	l := blob.Listing{Prefix: collections, Delimiter: "/"}
	for {
		page, err := store.List(ctx, l)
		if err != nil {
			return nil, fmt.Errorf("list collections: %w", err)
		}
		for _, p := range page.Prefixes {
			ids = append(ids, strings.TrimSuffix(strings.TrimPrefix(p, collections), "/"))
		}
		if page.Next == "" {
			return ids, nil
		}
		l.After = page.Next
	}
}

func peek(ctx context.Context, store blob.Store, id string) (Current, blob.Version, error) {
	if err := CheckID(id); err != nil {
		return Current{}, "", fmt.Errorf("collection: %w", err)
	}
	c, version, err := fetchCurrent(ctx, store, id)
	if errors.Is(err, blob.ErrCorrupt) {
		c, version, err = fetchCurrent(ctx, store, id) // damage on the way heals itself
	}
	return c, version, err
}

// read finds CURRENT and its body. A body that is gone means that CURRENT has
// moved on in between, or else that it points nowhere.
func read(ctx context.Context, store blob.Store, id string) (head, error) {
	return readNewer(ctx, store, id, "")
}

func readNewer(ctx context.Context, store blob.Store, id, commit string) (head, error) {
	var missing string
	for {
		c, version, err := peek(ctx, store, id)
		if err != nil {
			return head{}, err
		}
		if c.CommitID == commit {
			return head{current: c, version: version}, nil
		}
		if c.CommitID == missing {
			return head{}, fmt.Errorf("manifest %q: CURRENT names it and it is not there: %w", c.Manifest.Key, blob.ErrCorrupt)
		}
		s, err := readNamed(ctx, store, c)
		switch {
		case err == nil:
			return head{c, version, s}, nil
		case !errors.Is(err, blob.ErrNotFound):
			return head{}, err
		}
		missing = c.CommitID
	}
}

// readNamed reads the body c points at and checks that the two agree.
func readNamed(ctx context.Context, store blob.Store, c Current) (*Snapshot, error) {
	s, err := ReadBody(ctx, store, c.Manifest)
	if err != nil {
		return nil, err
	}
	if s.Epoch != c.Epoch || s.CommitID != c.CommitID {
		return nil, fmt.Errorf("manifest %q: got epoch %d and commit %q, CURRENT says %d and %q: %w",
			c.Manifest.Key, s.Epoch, s.CommitID, c.Epoch, c.CommitID, blob.ErrCorrupt)
	}
	return s, nil
}

func fetchCurrent(ctx context.Context, store blob.Store, id string) (Current, blob.Version, error) {
	key := CurrentKey(id)
	b, version, err := store.Get(ctx, key)
	if err != nil {
		return Current{}, "", err
	}
	c, err := decodeCurrent(b)
	if err == nil {
		if want := BodyKey(id, c.Manifest.Version, c.CommitID); c.Manifest.Key != want {
			err = fmt.Errorf("manifest.key: got %q, want %q: %w", c.Manifest.Key, want, blob.ErrCorrupt)
		}
	}
	if err != nil {
		return Current{}, "", fmt.Errorf("decode %q: %w", key, err)
	}
	return c, version, nil
}

func fetchBody(ctx context.Context, store blob.Store, link Link) (*Snapshot, error) {
	b, _, err := store.Get(ctx, link.Key)
	if err != nil {
		return nil, err
	}
	if got := hash(b); got != link.SHA256 {
		return nil, fmt.Errorf("manifest %q: got sha256 %s, want %s: %w", link.Key, got, link.SHA256, blob.ErrCorrupt)
	}
	s, err := decodeBody(b)
	if err != nil {
		return nil, fmt.Errorf("decode %q: %w", link.Key, err)
	}
	if want := BodyKey(s.Collection.ID, s.Version, s.CommitID); s.Version != link.Version || link.Key != want {
		return nil, fmt.Errorf("manifest %q, version %d: it says it is %q: %w", link.Key, link.Version, want, blob.ErrCorrupt)
	}
	return s, nil
}
