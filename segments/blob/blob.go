// Package blob is the object-store contract everything at rest is written
// through: ranged reads, puts that can be made conditional, ordered listing and
// delete. It is the whole of what AkiDB asks of a store; the implementations
// are fileblob (the embedded default), memblob (tests, ephemeral processes),
// s3blob (anything that speaks S3) and faultblob (any of them, failing on
// purpose). blobtest is the one suite all of them must pass.
//
// Keys are slash-separated UTF-8 without empty, "." or ".." parts (CheckKey has
// the whole rule). They name objects relative to the store's root; a store never
// sees a leading slash. No key may be the folder of another, as "a" is of "a/b":
// stores that keep objects as files refuse the second of the two.
package blob

import (
	"context"
	"errors"
	"io"
)

// Sentinels, by what the caller will do. Implementations wrap them with the
// operation and the key: `get "collections/x/CURRENT": not found`.
var (
	// ErrNotFound: there is no such object. Reads and conditional puts with
	// IfMatch return it; Delete does not.
	ErrNotFound = errors.New("not found")

	// ErrPrecondition: the store evaluated the condition of a put and refused
	// it. A caller must still resolve it by reading: a request that was
	// duplicated on the way can see its own first copy as the conflict, and a
	// store may refuse for a conflict that was gone a moment later.
	ErrPrecondition = errors.New("precondition failed")

	// ErrUnavailable: the store could not be reached, timed out or asked to
	// slow down. A read may be retried. A put has an UNKNOWN outcome. When it is
	// the caller's own ctx that ended, its error is returned instead of this one.
	ErrUnavailable = errors.New("store unavailable")
)

// Version identifies one content of a key, as the store tells it (an ETag for
// S3). Two puts of identical bytes may share a Version, so a caller that relies
// on compare-and-swap makes every body unique. The zero Version is no version.
type Version string

// Object is what a listing or a Stat says of one object.
type Object struct {
	Key     string
	Size    int64 // bytes
	Version Version
}

// Condition guards a put. The zero value is unconditional; at most one field
// may be set.
type Condition struct {
	IfAbsent bool    // the key must not exist
	IfMatch  Version // the key must exist with exactly this version
}

// Listing selects what List returns.
type Listing struct {
	Prefix string // only keys that begin with it
	After  string // only keys (and common prefixes) strictly greater, bytewise
	// Delimiter, when set, rolls keys up: every key with the delimiter after
	// Prefix is represented once, in Prefixes, by its part up to and including
	// the first delimiter.
	Delimiter string
	Limit     int // at most this many objects plus prefixes; 0 means 1000
}

// Page is one answer to List, in ascending bytewise order of keys.
type Page struct {
	Objects  []Object
	Prefixes []string
	// Next is the After of the following page, "" when there is none. Only it
	// tells the end: a page may hold fewer entries than the limit.
	Next string
}

// Store is an object store. All methods are safe for concurrent use, honour
// ctx, and do not retry: retrying belongs to the caller, who knows what is
// idempotent.
type Store interface {
	// Get returns the whole of a small object and its version. While the object
	// is being replaced, the version may be that of an earlier content, never of
	// a later one: a compare-and-swap built on it can then be refused for
	// nothing, but cannot overwrite what was not read.
	Get(ctx context.Context, key string) ([]byte, Version, error)

	// ReadRange fills dst with the bytes of key from offset off. It returns
	// nil only when dst was filled; an object that ends earlier gives an error
	// wrapping io.ErrUnexpectedEOF. dst may be scribbled on when it fails. An
	// empty dst asks whether the object exists and has at least off bytes.
	ReadRange(ctx context.Context, key string, off int64, dst []byte) error

	// Put writes size bytes of body (read from its current position) as key
	// and returns the new version. The object appears whole or not at all, and
	// is durable when Put returns nil. Any error but ErrPrecondition (and
	// ErrNotFound with IfMatch) leaves the outcome unknown.
	Put(ctx context.Context, key string, body io.ReadSeeker, size int64, cond Condition) (Version, error)

	// Stat returns an object's size and version.
	Stat(ctx context.Context, key string) (Object, error)

	// List returns a page of keys. It reflects every put and delete that had
	// returned before it began.
	List(ctx context.Context, l Listing) (Page, error)

	// Delete removes key. Removing what is not there is not an error.
	Delete(ctx context.Context, key string) error
}
