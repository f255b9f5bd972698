package writer

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/manifest"
	"github.com/akidb/akidb/writer/wal"
)

// The file of the local catalog. Version ledger of localFormat:
//
//	1  first
const (
	localName   = "collections.json"
	localFormat = 1
)

// localCatalog is what the data directory knows of the store, so that a Writer
// can take writes when it starts and the store is away.
//
// What it must never be is behind the log: the next sequence number of a
// collection is after the last that the log has, or, where the log has been
// emptied, after FlushedSeq here. So a flush is written down before the log
// forgets its records; when that is impossible the file goes instead, and a
// start without the store with it.
type localCatalog struct {
	fs   wal.FS
	name string

	mu      sync.Mutex
	cluster string
	known   map[string]localCollection
	dropped map[string]bool // of which the log may still hold records
	changes uint64

	writing sync.Mutex // held by whoever writes; never while mu is waited for
	written uint64     // changes that the file has; guarded by writing
}

// localCollection is one collection as it was last claimed or flushed.
type localCollection struct {
	Collection manifest.Collection `json:"collection"`
	Epoch      uint64              `json:"epoch"`
	FlushedSeq uint64              `json:"flushed_seq"`
}

type localFile struct {
	Format      int               `json:"format"`
	ClusterID   string            `json:"cluster_id"`
	Collections []localCollection `json:"collections"`
	Dropped     []string          `json:"dropped"`
}

func newLocalCatalog(fs wal.FS, dir string) *localCatalog {
	return &localCatalog{fs: fs, name: filepath.Join(dir, localName), known: map[string]localCollection{}, dropped: map[string]bool{}}
}

// load reads the file. What it holds is not served before the caller says so.
func (k *localCatalog) load() error {
	b, err := readFile(k.fs, k.name)
	if err != nil {
		return err
	}
	file, err := decodeLocal(b)
	if err != nil {
		return fmt.Errorf("read %q: %w", k.name, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cluster = file.ClusterID
	for _, c := range file.Collections {
		k.known[c.Collection.ID] = c
	}
	for _, id := range file.Dropped {
		k.dropped[id] = true
	}
	return nil
}

func decodeLocal(b []byte) (localFile, error) {
	fail := func(format string, args ...any) (localFile, error) { return localFile{}, fmt.Errorf(format, args...) }
	var file localFile
	if err := json.Unmarshal(b, &file, json.RejectUnknownMembers(true)); err != nil {
		return fail("%w: %w", err, blob.ErrCorrupt)
	}
	if file.Format != localFormat {
		return fail("got format %d, want %d: %w", file.Format, localFormat, manifest.ErrUnsupported)
	}
	if file.ClusterID == "" {
		return fail("no cluster_id: %w", blob.ErrCorrupt)
	}
	seen := map[string]bool{}
	for _, c := range file.Collections {
		id := c.Collection.ID
		if manifest.CheckID(id) != nil || seen[id] || c.Epoch == 0 || c.Collection.Dimension < 1 || c.Collection.Name == "" {
			return fail("collection %q in epoch %d: %w", id, c.Epoch, blob.ErrCorrupt)
		}
		seen[id] = true
	}
	return file, nil
}

// list returns what is known, ordered by id.
func (k *localCatalog) list() []localCollection {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.SortedFunc(maps.Values(k.known), func(a, b localCollection) int { return cmp.Compare(a.Collection.ID, b.Collection.ID) })
}

func (k *localCatalog) isDropped(id string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.dropped[id]
}

// begin forgets everything but the cluster and those dropped collections of
// which the log holds records. It is written down with what follows.
func (k *localCatalog) begin(cluster string, dropped map[string]bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cluster, k.known, k.dropped = cluster, map[string]localCollection{}, dropped
	k.changes++
}

// put writes a collection down, durable when it returns nil.
func (k *localCatalog) put(c localCollection) error {
	k.mu.Lock()
	if k.known[c.Collection.ID] != c {
		k.known[c.Collection.ID] = c
		k.changes++
	}
	return k.save()
}

// drop writes down that a collection is going, durable when it returns nil.
func (k *localCatalog) drop(id string) error {
	k.mu.Lock()
	delete(k.known, id)
	if !k.dropped[id] {
		k.dropped[id] = true
		k.changes++
	}
	return k.save()
}

// save has the file hold what is known now. Many at once share a write. Callers
// hold mu, which is given up.
func (k *localCatalog) save() error {
	want := k.changes
	k.mu.Unlock()
	k.writing.Lock()
	defer k.writing.Unlock()
	if k.written >= want {
		return nil
	}
	k.mu.Lock()
	file := localFile{Format: localFormat, ClusterID: k.cluster, Dropped: slices.Sorted(maps.Keys(k.dropped))}
	now := k.changes
	k.mu.Unlock()
	file.Collections = k.list()
	b, err := json.Marshal(file, json.Deterministic(true), jsontext.WithIndent("  "))
	if err == nil {
		err = replaceFile(k.fs, k.name, b)
	}
	if err == nil {
		k.written = now
	}
	return err
}

// discard removes the file: nothing may be known rather than something old.
func (k *localCatalog) discard() error {
	k.writing.Lock()
	defer k.writing.Unlock()
	k.written = 0
	err := k.fs.Remove(k.name)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return errors.Join(err, k.fs.SyncDir(filepath.Dir(k.name)))
}

// covered says that the store has what snap was flushed to: to the local
// catalog first, then to the log, which forgets it.
func (c *collection) covered(snap *manifest.Snapshot) {
	err := c.w.local.put(localCollection{Collection: c.meta, Epoch: c.epoch(), FlushedSeq: snap.FlushedSeq})
	if err != nil {
		c.w.cfg.Logger.Warn("the local catalog cannot be written; until it can be, a start needs the object store", "error", err)
		if err = c.w.local.discard(); err != nil {
			c.w.cfg.Logger.Error("the log keeps what was flushed: the local catalog can be neither written nor removed", "collection", c.meta.Name, "error", err)
			return
		}
	}
	c.w.log.Release(c.walID, snap.FlushedSeq)
}
