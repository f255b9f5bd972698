// Package manifest is the only mutable truth of a collection: a small object
// named CURRENT that is replaced by compare-and-swap and points at an
// immutable, hash-chained manifest body. Whoever can read CURRENT can find
// everything else; whoever loses the swap has changed nothing.
//
//	collections/<id>/CURRENT                     ≤ 4 KiB, replaced with If-Match
//	        │ manifest key + SHA-256
//	        ▼
//	collections/<id>/manifest/<version>-<uuid>   written once, never replaced
//	        │ parent key + SHA-256, segments, delete vectors, quantizers
//	        ▼
//	collections/<id>/segments/<segment>/…
//	collections/<id>/quantizers/<quantizer>.ivq
//
// Ids of segments, delete vectors and quantizers begin with the epoch in which
// they were made (ObjectID). That is what tells an object that may yet be
// committed from one that never can be: a commit of an older epoch is fenced,
// so what only that epoch could have named is garbage, whatever became of the
// process that made it.
//
// A Snapshot is one such body. Readers pin one and see one state of the
// collection; the writer edits a copy and commits it through a Log.
package manifest

import (
	"iter"
	"time"
)

// FormatVersion is the version of CURRENT and of manifest bodies this package
// writes. Version ledger:
//
//	1  first
//	2  quantizers shared by segments, codebooks
//	3  pins, origins, the digest of the row set, links to ancestors
//	4  placement
const FormatVersion = 4

// minFormatVersion is the oldest format that is read. A chain may have begun in
// any from there on.
const minFormatVersion = 1

// Ref names an immutable object and what it must be.
type Ref struct {
	Key    string `json:"key"`
	Size   int64  `json:"size"`   // bytes
	CRC32C uint32 `json:"crc32c"` // of the whole object
}

// Link names a manifest body; the hash makes the chain tamper-evident.
type Link struct {
	Version uint64 `json:"version"`
	Key     string `json:"key"`
	SHA256  string `json:"sha256"` // lower-case hex, of the body's bytes
}

// Collection is what was said when the collection was created; it does not
// change afterwards.
type Collection struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Dimension int    `json:"dimension"`
	Metric    string `json:"metric"` // "cosine", "l2" or "dot"
	// Codebook is that of the scan codes, "sign" or "learned"; empty means sign.
	Codebook  string    `json:"codebook,omitempty"`
	CreatedAt time.Time `json:"created_at"`
}

// DeleteVector marks rows of a segment that a later write superseded or
// deleted: a roaring bitmap of ordinals in an object of its own.
type DeleteVector struct {
	Ref
	Count uint32 `json:"count"` // rows marked
}

// Quantizer is what the segments of one quantizer epoch share: an immutable
// object with the rotation, the codebook and the centroids.
type Quantizer struct {
	ID string `json:"id"`
	Ref
	Rows  uint64 `json:"rows"`  // live rows of the collection when it was trained
	Lists uint32 `json:"lists"` // centroids
}

// Segment is one immutable set of rows with its index.
type Segment struct {
	ID     string `json:"id"`
	Rows   uint32 `json:"rows"` // as built, deleted ones included
	MinSeq uint64 `json:"min_seq"`
	MaxSeq uint64 `json:"max_seq"`
	Data   Ref    `json:"data"`  // data.parquet
	Index  Ref    `json:"index"` // index.ivf
	// Footer is where index.ivf's footer lies, so that opening a segment
	// probes nothing.
	Footer Extent `json:"footer"`
	// Quantizer is the id of the one the index was built with, empty when it
	// needs none: it is exact, or carries its own.
	Quantizer string        `json:"quantizer,omitempty"`
	Deletes   *DeleteVector `json:"deletes,omitempty"` // nil when every row is live
}

// Live is how many rows of the segment are not deleted.
func (s Segment) Live() uint32 {
	if s.Deletes == nil {
		return s.Rows
	}
	return s.Rows - s.Deletes.Count
}

// Extent is a run of bytes inside an object and its checksum.
type Extent struct {
	Offset int64  `json:"offset"`
	Length int    `json:"length"` // bytes
	CRC32C uint32 `json:"crc32c"`
}

// Garbage is an object that no later snapshot will ever name again. It may
// still be read through older snapshots, so it goes only after a grace period.
type Garbage struct {
	Key       string    `json:"key"`
	Version   uint64    `json:"version"` // first version that no longer names it
	RetiredAt time.Time `json:"retired_at"`
}

// Ancestor is a link to a version further back, with the time it was made.
type Ancestor struct {
	Link
	CreatedAt time.Time `json:"created_at"`
}

// Pin keeps everything that an earlier version names. A snapshot that a user
// took is one, and what a branch was made from is another.
type Pin struct {
	ID       string `json:"id"`
	Name     string `json:"name,omitempty"`
	Manifest Link   `json:"manifest"`
	Rows     uint64 `json:"rows"` // live ones of that version
	// Branch is the id of the collection that reads the pinned objects; empty for
	// a snapshot.
	Branch    string    `json:"branch,omitempty"`
	CreatedAt time.Time `json:"created_at"`
}

// Placement is where query processes are to keep a collection's data, as a user
// said. Without one they keep it by how it is used.
type Placement struct {
	Tier   string    `json:"tier"` // one of the constants below
	Pinned bool      `json:"pinned"`
	Since  time.Time `json:"since"`
}

// Where a collection can be placed.
const (
	Hot  = "hot"  // in memory
	Warm = "warm" // on the local disk, where there is one for it
	Cold = "cold" // in the object store only
)

// Snapshot is one state of a collection: the body of a manifest.
type Snapshot struct {
	Format   int    `json:"format"`
	Version  uint64 `json:"version"` // 1, 2, 3, … without gaps along the chain
	Epoch    uint64 `json:"epoch"`   // fencing: grows with every claim
	CommitID string `json:"commit_id"`
	Parent   *Link  `json:"parent,omitempty"` // nil for version 1
	// Ancestors leads to any earlier version in a logarithmic number of reads,
	// see At. The first is the parent; versions of format 1 and 2 have none.
	Ancestors  []Ancestor `json:"ancestors,omitempty"`
	CreatedAt  time.Time  `json:"created_at"` // never before the parent's
	Collection Collection `json:"collection"`
	// Dropped is set by the last snapshot of a collection that was deleted.
	Dropped bool `json:"dropped,omitempty"`
	// Placement is nil for a collection that nobody placed.
	Placement *Placement `json:"placement,omitempty"`
	// FlushedSeq: every write with a sequence number up to it is in Segments.
	FlushedSeq uint64 `json:"flushed_seq"`
	// SetDigest is of the live rows, see SetDigest; nil when the collection is
	// older than digests are.
	SetDigest *SetDigest `json:"set_digest,omitempty"`
	// Origins are the collections, other than this one, whose objects are named:
	// those it was branched from. It never deletes any of theirs.
	Origins    []string    `json:"origins,omitempty"`
	Quantizers []Quantizer `json:"quantizers,omitempty"` // oldest first
	Segments   []Segment   `json:"segments"`             // oldest first
	Pins       []Pin       `json:"pins,omitempty"`       // oldest first
	Garbage    []Garbage   `json:"garbage,omitempty"`
}

// Current is the content of the CURRENT object.
type Current struct {
	Format   int    `json:"format"`
	Epoch    uint64 `json:"epoch"`
	Owner    string `json:"owner"` // uuid of the write-ahead log that may commit
	CommitID string `json:"commit_id"`
	Manifest Link   `json:"manifest"`
}

// Quantizer returns the quantizer with an id, and whether there is one.
func (s *Snapshot) Quantizer(id string) (Quantizer, bool) {
	for _, q := range s.Quantizers {
		if q.ID == id {
			return q, true
		}
	}
	return Quantizer{}, false
}

// Pin returns the pin with an id, and whether there is one.
func (s *Snapshot) Pin(id string) (Pin, bool) {
	for _, p := range s.Pins {
		if p.ID == id {
			return p, true
		}
	}
	return Pin{}, false
}

// NamedPin returns the pin with an id or a name that is no branch's, and whether
// there is one.
func (s *Snapshot) NamedPin(idOrName string) (Pin, bool) {
	for _, p := range s.Pins {
		if p.Branch == "" && (p.ID == idOrName || p.Name != "" && p.Name == idOrName) {
			return p, true
		}
	}
	return Pin{}, false
}

// Objects yields every object that the snapshot's rows are read from, each
// once. Garbage and manifest bodies are not among them.
func (s *Snapshot) Objects() iter.Seq[Ref] {
	return func(yield func(Ref) bool) {
		for _, q := range s.Quantizers {
			if !yield(q.Ref) {
				return
			}
		}
		for _, seg := range s.Segments {
			if !yield(seg.Data) || !yield(seg.Index) || seg.Deletes != nil && !yield(seg.Deletes.Ref) {
				return
			}
		}
	}
}

// Rows is how many live rows the segments hold.
func (s *Snapshot) Rows() uint64 {
	var n uint64
	for _, seg := range s.Segments {
		n += uint64(seg.Live())
	}
	return n
}

// Bytes is the total size of the objects the snapshot names.
func (s *Snapshot) Bytes() int64 {
	var n int64
	for ref := range s.Objects() {
		n += ref.Size
	}
	return n
}
