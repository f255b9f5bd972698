// Package info is what both tiers tell clients of a collection.
package info

import "time"

// Collection is a collection as of one moment.
type Collection struct {
	ID              string    `json:"collection_id"`
	Name            string    `json:"name"`
	Dimension       int       `json:"dimension"`
	Metric          string    `json:"metric"`
	VectorCount     uint64    `json:"vector_count"`    // rows, exactly
	UnindexedCount  uint64    `json:"unindexed_count"` // of them, rows that are not in a segment yet
	SegmentCount    int       `json:"segment_count"`
	SizeBytes       int64     `json:"size_bytes"` // in the object store
	Tier            Tier      `json:"tier"`
	ManifestVersion uint64    `json:"manifest_version"`
	Seq             uint64    `json:"seq"` // of the last write that reads see
	CreatedAt       time.Time `json:"created_at"`
}

// Tier is where a process finds a collection's data.
type Tier string

const (
	Hot  Tier = "hot"  // in memory
	Cold Tier = "cold" // in the object store only
)
