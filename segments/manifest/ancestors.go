package manifest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/akidb/akidb/segments/blob"
)

// ErrNoVersion: the chain does not have what was asked for: it began later, or
// has not come that far.
var ErrNoVersion = errors.New("no such version")

// ancestors are the links of the version after base, which link names: to the
// versions base.Version with its lowest k bits cleared, for every k, newest
// first. Clearing one bit more with every step, a reader comes from any version
// to any older one in as many steps as their difference has bits, twice at
// most. All of them but base are links of base already.
func ancestors(base *Snapshot, link Link) []Ancestor {
	out := []Ancestor{{link, base.CreatedAt}}
	for _, a := range base.Ancestors {
		// A version below base is base with low bits cleared if it has no bits
		// but base's highest ones.
		if low := a.Version & -a.Version; a.Version == base.Version&^(low-1) {
			out = append(out, a)
		}
	}
	return out
}

// At returns version number version of the chain that ends in s, in a
// logarithmic number of reads. ErrNoVersion says that the chain has no such
// version, blob.ErrNotFound that it was collected.
func At(ctx context.Context, store blob.Store, s *Snapshot, version uint64) (*Snapshot, error) {
	if version == 0 || version > s.Version {
		return nil, fmt.Errorf("version %d of collection %q, which has 1 to %d: %w", version, s.Collection.ID, s.Version, ErrNoVersion)
	}
	for s.Version > version {
		older, err := stepBack(ctx, store, s, func(a Ancestor) bool { return a.Version >= version })
		if err != nil {
			return nil, err
		}
		s = older
	}
	return s, nil
}

// AtTime returns the newest version of the chain that ends in s that was there
// at a moment, in a logarithmic number of reads. Errors are those of At.
func AtTime(ctx context.Context, store blob.Store, s *Snapshot, moment time.Time) (*Snapshot, error) {
	for s.CreatedAt.After(moment) {
		if s.Parent == nil {
			return nil, fmt.Errorf("collection %q at %v, which began at %v: %w", s.Collection.ID, moment, s.CreatedAt, ErrNoVersion)
		}
		older, err := stepBack(ctx, store, s, func(a Ancestor) bool { return a.CreatedAt.After(moment) })
		if err != nil {
			return nil, err
		}
		s = older
	}
	return s, nil
}

// stepBack reads the oldest ancestor that s links and that is not too old, or
// else its parent, and checks that it can be one.
func stepBack(ctx context.Context, store blob.Store, s *Snapshot, notTooOld func(Ancestor) bool) (*Snapshot, error) {
	link := *s.Parent
	for _, a := range s.Ancestors {
		if notTooOld(a) {
			link = a.Link
		}
	}
	older, err := ReadBody(ctx, store, link)
	if err != nil {
		return nil, err
	}
	if older.Collection.ID != s.Collection.ID || older.Epoch > s.Epoch || older.CreatedAt.After(s.CreatedAt) {
		return nil, fmt.Errorf("manifest %q: collection %q, epoch %d, %v: no ancestor of version %d in epoch %d, %v: %w",
			link.Key, older.Collection.ID, older.Epoch, older.CreatedAt, s.Version, s.Epoch, s.CreatedAt, blob.ErrCorrupt)
	}
	return older, nil
}
