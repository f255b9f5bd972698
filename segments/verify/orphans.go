package verify

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/manifest"
)

// listing looks at everything that lies in the collection's folders.
func (c *check) listing(ctx context.Context) error {
	orphan := manifest.Orphans(c.cur, c.snap, c.pinned)
	named := map[string]bool{manifest.CurrentKey(c.id): true, c.cur.Manifest.Key: true}
	for o := range c.snap.Objects() {
		named[o.Key] = true
	}
	for _, g := range c.snap.Garbage {
		named[g.Key] = true
	}
	for o, err := range blob.Objects(ctx, c.store, blob.Listing{Prefix: manifest.CollectionPrefix(c.id)}) {
		if err != nil {
			return err
		}
		key := o.Key
		version, isBody := manifest.BodyVersion(c.id, key)
		_, isObject := manifest.ObjectEpoch(c.id, key)
		switch {
		case named[key], c.pinned[key]:
		case orphan(key):
			if err := c.orphan(ctx, key); err != nil {
				return err
			}
		case isObject, isBody && version > c.snap.Version:
			c.found.InFlight++
		default:
			c.found.Foreign++
		}
	}
	return c.descriptions(ctx)
}

// orphan judges an object that nothing names: a running writer removes it after
// a grace.
func (c *check) orphan(ctx context.Context, key string) error {
	since, err := c.orphanedAt(ctx, key)
	if err != nil {
		return err
	}
	if _, inChain := c.chain[key]; !inChain { // those are versions that can still be read
		c.found.Orphans++
	}
	if age := c.opts.Now().Sub(since); !since.IsZero() && age > c.opts.OrphanGrace {
		c.wrongf(key, "an orphan since %s: no version names it", since.UTC().Format(time.RFC3339))
	}
	return nil
}

// orphanedAt is since when an object cannot have been of use; zero when that
// cannot be told.
func (c *check) orphanedAt(ctx context.Context, key string) (time.Time, error) {
	if replaced, ok := c.chain[key]; ok {
		return replaced, nil
	}
	if _, ok := manifest.BodyVersion(c.id, key); ok {
		// One of a commit that came to nothing, or from before what is left of the
		// chain.
		body, err := manifest.ReadUnlinked(ctx, c.store, key)
		switch {
		case errors.Is(err, blob.ErrNotFound): // removed meanwhile
			return time.Time{}, nil
		case err != nil:
			return time.Time{}, c.wrong(key, err)
		}
		return body.CreatedAt, nil
	}
	// The name of the last part ends in a ULID: of the segment, the delete vector
	// or the quantizer.
	for _, part := range []string{
		strings.TrimSuffix(key[strings.LastIndex(key, "/")+1:], ".ivq"),
		strings.Split(strings.TrimPrefix(key, manifest.SegmentsPrefix(c.id)), "/")[0],
	} {
		if id, err := ulid.ParseStrict(part[max(0, len(part)-ulid.EncodedSize):]); err == nil {
			return ulid.Time(id.Time()), nil
		}
	}
	return time.Time{}, nil
}

// descriptions checks that snapshots and their descriptions belong together.
func (c *check) descriptions(ctx context.Context) error {
	there := map[string]bool{}
	for o, err := range blob.Objects(ctx, c.store, blob.Listing{Prefix: manifest.SnapshotsPrefix(c.id)}) {
		if err != nil {
			return err
		}
		there[o.Key] = true
	}
	for _, pin := range c.snap.Pins {
		if pin.Branch != "" {
			continue
		}
		key := manifest.SnapshotKey(c.id, pin.ID)
		if !there[key] && c.opts.Now().Sub(pin.CreatedAt) > c.opts.OrphanGrace {
			c.wrongf(key, "snapshot %s has no description", pin.ID)
		}
		delete(there, key)
		delete(there, manifest.ExportKey(c.id, pin.ID))
	}
	delete(there, manifest.LatestExportKey(c.id))
	c.found.Orphans += len(there)
	return nil
}
