package manifest

import (
	"errors"
	"fmt"
)

// Sentinels, by what the caller will do.
var (
	// ErrFenced: another writer holds the collection. Stop for good.
	ErrFenced = errors.New("fenced by another writer")

	// ErrExists: Create found the id taken.
	ErrExists = errors.New("collection already exists")

	// ErrUnsupported: written by a newer version of the program. Nothing is
	// wrong with the data, and nothing may be done to it.
	ErrUnsupported = errors.New("unsupported format")

	// ErrUnresolved: nothing of this call was applied, because the outcome of
	// an earlier one is still unknown. The earlier one was reported with an
	// *UnknownError of its own; this error is never one.
	ErrUnresolved = errors.New("an earlier commit is unresolved")
)

// FencedError says who holds the collection now. It is an ErrFenced.
type FencedError struct {
	Collection string
	Owner      string
	Epoch      uint64
}

func (e *FencedError) Error() string {
	return fmt.Sprintf("collection %q: owner %q holds it in epoch %d: %v", e.Collection, e.Owner, e.Epoch, ErrFenced)
}

func (e *FencedError) Unwrap() error { return ErrFenced }

// UnknownError is a commit, claim or creation that may or may not have been
// applied, and still may be later. Log.Resolve finds out which.
type UnknownError struct {
	Collection string
	Version    uint64 // what it would be as a link of the chain
	CommitID   string
	Err        error // why it could not be found out
}

func (e *UnknownError) Error() string {
	return fmt.Sprintf("commit of version %d of collection %q: outcome unknown: %v", e.Version, e.Collection, e.Err)
}

func (e *UnknownError) Unwrap() error { return e.Err }
