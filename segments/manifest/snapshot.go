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
// A Snapshot is one such body. Readers pin one and see one state of the
// collection; the writer edits a copy and commits it through a Log.
package manifest

import (
	"time"
)

// FormatVersion is the version of CURRENT and of manifest bodies this package
// writes. Version ledger:
//
//	1  first
//	2  quantizers shared by segments, codebooks
const FormatVersion = 2

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

// Snapshot is one state of a collection: the body of a manifest.
type Snapshot struct {
	Format     int        `json:"format"`
	Version    uint64     `json:"version"` // 1, 2, 3, … without gaps along the chain
	Epoch      uint64     `json:"epoch"`   // fencing: grows with every claim
	CommitID   string     `json:"commit_id"`
	Parent     *Link      `json:"parent,omitempty"` // nil for version 1
	CreatedAt  time.Time  `json:"created_at"`
	Collection Collection `json:"collection"`
	// Dropped is set by the last snapshot of a collection that was deleted.
	Dropped bool `json:"dropped,omitempty"`
	// FlushedSeq: every write with a sequence number up to it is in Segments.
	FlushedSeq uint64      `json:"flushed_seq"`
	Quantizers []Quantizer `json:"quantizers,omitempty"` // oldest first
	Segments   []Segment   `json:"segments"`             // oldest first
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
	for _, q := range s.Quantizers {
		n += q.Size
	}
	for _, seg := range s.Segments {
		n += seg.Data.Size + seg.Index.Size
		if seg.Deletes != nil {
			n += seg.Deletes.Size
		}
	}
	return n
}
