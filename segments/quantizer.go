package segments

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/ivfpq"
	"github.com/akidb/akidb/segments/manifest"
)

// maxQuantizerBytes bounds a quantizer: 16 million centroids of one dimension,
// or half a million of 16384.
const maxQuantizerBytes = 1 << 33

// Quantizer is one that segments share, as a snapshot names it.
type Quantizer struct {
	*ivfpq.Quantizer
	ID     string
	crc32c uint32 // of its stored form
}

// PutQuantizer writes a quantizer as an object of its own, under an id that must
// never have been used, and returns the manifest's entry for it.
func PutQuantizer(ctx context.Context, store blob.Store, collection, id string, z *ivfpq.Quantizer) (manifest.Quantizer, error) {
	b := z.AppendBinary(nil)
	q := manifest.Quantizer{ID: id, Rows: z.Rows, Lists: uint32(z.Lists())}
	q.Ref = manifest.Ref{Key: manifest.QuantizerKey(collection, id), Size: int64(len(b)), CRC32C: crc32.Checksum(b, blob.Castagnoli)}
	if _, err := store.Put(ctx, q.Key, bytes.NewReader(b), q.Size, blob.Condition{}); err != nil {
		return manifest.Quantizer{}, fmt.Errorf("put quantizer: %w", err)
	}
	return q, nil
}

// quantizerRange is all of a quantizer's object.
func quantizerRange(q manifest.Quantizer) (blob.Range, error) {
	if q.Size > maxQuantizerBytes {
		return blob.Range{}, fmt.Errorf("quantizer %q: %d bytes, at most %d make sense: %w", q.Key, q.Size, int64(maxQuantizerBytes), blob.ErrCorrupt)
	}
	return blob.Range{Key: q.Key, Length: int(q.Size), CRC32C: q.CRC32C, Role: blob.Routing}, nil
}

// newQuantizer is the one the manifest names, out of its stored form.
func newQuantizer(q manifest.Quantizer, b []byte, dim int, metric ivfpq.Metric) (*Quantizer, error) {
	fail := func(err error) (*Quantizer, error) { return nil, fmt.Errorf("quantizer %q: %w", q.Key, err) }
	z, err := decodeQuantizer(b, dim, metric)
	if err != nil {
		return fail(err)
	}
	if z.Lists() != int(q.Lists) || z.Rows != q.Rows {
		return fail(fmt.Errorf("%d lists from %d rows, manifest says %d from %d: %w", z.Lists(), z.Rows, q.Lists, q.Rows, blob.ErrCorrupt))
	}
	return &Quantizer{z, q.ID, q.CRC32C}, nil
}

// decodeQuantizer wants one for so many dimensions under a metric.
func decodeQuantizer(b []byte, dim int, metric ivfpq.Metric) (*ivfpq.Quantizer, error) {
	z, err := ivfpq.DecodeQuantizer(b)
	switch {
	case errors.Is(err, ivfpq.ErrQuantizerVersion):
		return nil, fmt.Errorf("%w: %w", err, ErrUnsupported)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", err, blob.ErrCorrupt)
	case z.Dim != dim || z.Metric != metric:
		return nil, fmt.Errorf("%d dimensions under %v, want %d under %v: %w", z.Dim, z.Metric, dim, metric, blob.ErrCorrupt)
	}
	return z, nil
}
