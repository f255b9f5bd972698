package segments

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/manifest"
)

// maxDeleteBytes bounds a delete vector: every row of the largest segment.
const maxDeleteBytes = 1 << 29

// PutDeletes writes rows as a new delete vector under key, which must never
// have been used.
func PutDeletes(ctx context.Context, store blob.Store, key string, rows *roaring.Bitmap) (*manifest.DeleteVector, error) {
	b, err := rows.ToBytes()
	if err != nil {
		return nil, fmt.Errorf("encode delete vector %q: %w", key, err)
	}
	if _, err := store.Put(ctx, key, bytes.NewReader(b), int64(len(b)), blob.Condition{}); err != nil {
		return nil, fmt.Errorf("put delete vector: %w", err)
	}
	return &manifest.DeleteVector{
		Ref:   manifest.Ref{Key: key, Size: int64(len(b)), CRC32C: crc32.Checksum(b, blob.Castagnoli)},
		Count: uint32(rows.GetCardinality()),
	}, nil
}

// deletesRange is all of a delete vector.
func deletesRange(d *manifest.DeleteVector) (blob.Range, error) {
	if d.Size > maxDeleteBytes {
		return blob.Range{}, fmt.Errorf("delete vector %q has %d bytes, at most %d make sense: %w", d.Key, d.Size, maxDeleteBytes, blob.ErrCorrupt)
	}
	return blob.Range{Key: d.Key, Length: int(d.Size), CRC32C: d.CRC32C, Role: blob.Routing}, nil
}

// decodeDeletes reads the delete vector of a segment.
func decodeDeletes(seg manifest.Segment, b []byte) (*roaring.Bitmap, error) {
	d, rows := seg.Deletes, roaring.New()
	if err := rows.UnmarshalBinary(bytes.Clone(b)); err != nil {
		return nil, fmt.Errorf("delete vector %q: %v: %w", d.Key, err, blob.ErrCorrupt)
	}
	if n := rows.GetCardinality(); n != uint64(d.Count) || n > 0 && rows.Maximum() >= seg.Rows {
		return nil, fmt.Errorf("delete vector %q marks %d rows, manifest says %d of %d: %w", d.Key, n, d.Count, seg.Rows, blob.ErrCorrupt)
	}
	return rows, nil
}
