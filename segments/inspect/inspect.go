// Package inspect shows people and tools what a store holds, beside whatever
// writes to it: the versions of a collection, and what its segments are made of.
//
// It reads through the same packages as a search does, so that whatever it shows
// was verified on the way. What it returns is made to be printed as JSON.
package inspect

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/manifest"
)

// ErrNoCollection: the store has no collection of that name or id.
var ErrNoCollection = errors.New("no such collection")

// Collection is a collection as CURRENT has it.
type Collection struct {
	Current manifest.Current
	Newest  *manifest.Snapshot

	store blob.Store
}

// Find looks a collection up by id or name. One that was dropped is found by its
// id, as long as anything of it is there. A store knows collections by id, so a
// name costs two reads for every collection there is.
func Find(ctx context.Context, store blob.Store, nameOrID string) (*Collection, error) {
	if manifest.CheckID(nameOrID) == nil {
		newest, current, err := manifest.Read(ctx, store, nameOrID)
		if !errors.Is(err, blob.ErrNotFound) {
			return &Collection{current, newest, store}, err
		}
	}
	ids, err := manifest.List(ctx, store)
	if err != nil {
		return nil, err
	}
	var unreadable []error // any of them may be the one
	for _, id := range ids {
		newest, current, err := manifest.Read(ctx, store, id)
		switch {
		case errors.Is(err, blob.ErrNotFound): // its creation was interrupted
		case err != nil:
			unreadable = append(unreadable, fmt.Errorf("collection %q: %w", id, err))
		case newest.Collection.Name == nameOrID && !newest.Dropped:
			return &Collection{current, newest, store}, nil
		}
	}
	return nil, errors.Join(append([]error{fmt.Errorf("collection %q: %w", nameOrID, ErrNoCollection)}, unreadable...)...)
}

// At is a version by number, or the newest for 0. Errors are those of
// manifest.At.
func (c *Collection) At(ctx context.Context, version uint64) (*manifest.Snapshot, error) {
	if version == 0 || version == c.Newest.Version {
		return c.Newest, nil
	}
	return c.past(manifest.At(ctx, c.store, c.Newest, version))
}

// AtTime is the newest version that was there at a moment. Errors are those of
// manifest.AtTime.
func (c *Collection) AtTime(ctx context.Context, moment time.Time) (*manifest.Snapshot, error) {
	return c.past(manifest.AtTime(ctx, c.store, c.Newest, moment))
}

func (c *Collection) past(s *manifest.Snapshot, err error) (*manifest.Snapshot, error) {
	if errors.Is(err, blob.ErrNotFound) {
		err = fmt.Errorf("%w: old versions are kept for some minutes, or as long as a snapshot names them", err)
	}
	if err != nil {
		return nil, fmt.Errorf("collection %q: %w", c.Newest.Collection.Name, err)
	}
	return s, nil
}

// Owner is the uuid of the log that made a version, "" when it is not known. An
// epoch has one owner, and CURRENT names that of the newest.
func (c *Collection) Owner(s *manifest.Snapshot) string {
	if s.Epoch != c.Current.Epoch {
		return ""
	}
	return c.Current.Owner
}

// Version is a version of a collection in one line.
type Version struct {
	Version    uint64    `json:"manifest_version"`
	Epoch      uint64    `json:"epoch"`
	Owner      string    `json:"owner,omitempty"` // uuid of the log; missing where it is not known any more
	CreatedAt  time.Time `json:"created_at"`
	FlushedSeq uint64    `json:"flushed_seq"`
	Rows       uint64    `json:"rows"` // live ones, in segments
	Segments   int       `json:"segments"`
	Bytes      int64     `json:"bytes"` // of all objects that its rows are read from
	Pins       int       `json:"pins"`  // snapshots and branches
	Dropped    bool      `json:"dropped,omitempty"`
	CommitID   string    `json:"commit_id"`
}

// Versions are the newest versions of a collection.
type Versions struct {
	CollectionID string    `json:"collection_id"`
	Name         string    `json:"name"`
	Versions     []Version `json:"versions"` // newest first
	// Older says what lies behind the last: "" nothing, "more" what was not asked
	// for, "collected" what was removed, as versions are that nothing keeps.
	Older string `json:"older"`
}

// History lists versions, newest first, at most limit of them, or all for 0.
// Every manifest is checked against the hash that the one after it has.
func (c *Collection) History(ctx context.Context, limit int) (Versions, error) {
	out := Versions{CollectionID: c.Newest.Collection.ID, Name: c.Newest.Collection.Name, Versions: []Version{}}
	for s, err := range manifest.History(ctx, c.store, c.Current) {
		switch {
		case errors.Is(err, blob.ErrNotFound) && len(out.Versions) > 0:
			out.Older = "collected"
			return out, nil
		case err != nil:
			return Versions{}, fmt.Errorf("collection %q: %w", out.Name, err)
		}
		if limit > 0 && len(out.Versions) == limit {
			out.Older = "more"
			return out, nil
		}
		out.Versions = append(out.Versions, Version{
			Version: s.Version, Epoch: s.Epoch, Owner: c.Owner(s), CreatedAt: s.CreatedAt, FlushedSeq: s.FlushedSeq, Rows: s.Rows(),
			Segments: len(s.Segments), Bytes: s.Bytes(), Pins: len(s.Pins), Dropped: s.Dropped, CommitID: s.CommitID,
		})
	}
	return out, nil
}

// Manifest is a version in full.
type Manifest struct {
	Key      string             `json:"key"`             // of the object it is in
	Owner    string             `json:"owner,omitempty"` // uuid of the log; missing where it is not known any more
	Current  bool               `json:"current"`         // CURRENT names it
	Rows     uint64             `json:"rows"`            // live ones, in segments
	Bytes    int64              `json:"bytes"`           // of all objects that its rows are read from
	Manifest *manifest.Snapshot `json:"manifest"`        // as it is stored
}

// Manifest describes a version of the collection.
func (c *Collection) Manifest(s *manifest.Snapshot) Manifest {
	return Manifest{
		Key: manifest.BodyKey(s.Collection.ID, s.Version, s.CommitID), Owner: c.Owner(s), Current: s.CommitID == c.Current.CommitID,
		Rows: s.Rows(), Bytes: s.Bytes(), Manifest: s,
	}
}

// segmentOf finds a segment of a version by its id, or by what no other one's
// begins with.
func segmentOf(s *manifest.Snapshot, id string) (manifest.Segment, error) {
	var found []manifest.Segment
	for _, seg := range s.Segments {
		if seg.ID == id {
			return seg, nil
		}
		if id != "" && strings.HasPrefix(seg.ID, id) {
			found = append(found, seg)
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	return manifest.Segment{}, fmt.Errorf("segment %q: version %d of collection %q has %d whose ids begin so, want 1", id, s.Version, s.Collection.Name, len(found))
}
