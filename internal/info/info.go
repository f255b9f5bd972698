// Package info is what both tiers tell clients of a collection.
package info

import "time"

// Collection is a collection as of one moment.
type Collection struct {
	ID             string `json:"collection_id"`
	Name           string `json:"name"`
	Dimension      int    `json:"dimension"`
	Metric         string `json:"metric"`
	VectorCount    uint64 `json:"vector_count"`    // rows, exactly
	UnindexedCount uint64 `json:"unindexed_count"` // of them, rows that are not in a segment yet
	SegmentCount   int    `json:"segment_count"`
	SizeBytes      int64  `json:"size_bytes"` // in the object store
	Tier           Tier   `json:"tier"`
	// ResidentBytes are in the memory of a query process, as segments kept whole.
	ResidentBytes int64 `json:"resident_bytes,omitzero"`
	// Placement is nil for a collection that goes by how it is used.
	Placement       *Placement `json:"placement,omitempty"`
	ManifestVersion uint64     `json:"manifest_version"`
	Seq             uint64     `json:"seq"` // of the last write that reads see
	CreatedAt       time.Time  `json:"created_at"`
}

// Placement is where a user wants a collection.
type Placement struct {
	Tier   Tier      `json:"tier"`
	Pinned bool      `json:"pinned"`
	Since  time.Time `json:"since"`
	// Condition is why a process does not have it so, empty where it does.
	Condition Condition `json:"condition,omitempty"`
}

// Condition is what keeps a process from what a user wants of it.
type Condition string

const (
	// Loading: it is being read into memory.
	Loading Condition = "loading"
	// NoRoom: it does not fit beside what else is placed in memory.
	NoRoom Condition = "no_room"
	// PinLimit: it is in memory, but more is pinned there than may be, so that
	// others can push it out.
	PinLimit Condition = "pin_limit"
)

// Tier is where a process finds a collection's data.
type Tier string

const (
	Hot  Tier = "hot"  // in memory
	Warm Tier = "warm" // on the local disk
	Cold Tier = "cold" // in the object store only
)
