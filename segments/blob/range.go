package blob

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"

	"golang.org/x/sync/errgroup"
)

// ErrCorrupt: the bytes read are not the bytes that were written.
var ErrCorrupt = errors.New("corrupt")

// Castagnoli is the CRC32C table every checksum at rest uses.
var Castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Role is what bytes are for. It is a hint for caches: what every search begins
// with is worth more memory than what one search in a thousand reads. A wrong
// role costs time, never an answer.
type Role uint8

// Roles. The numbers are in the files of the disk cache and not reused.
const (
	Posting Role = 0 // posting lists of index.ivf; also whatever has no role
	Column  Role = 1 // blocks of data.parquet
	Routing Role = 2 // what tells where to look: footers, quantizers, delete vectors, id tables

	RoleCount = 3
)

func (r Role) String() string {
	switch r {
	case Posting:
		return "posting"
	case Column:
		return "column"
	case Routing:
		return "routing"
	}
	return fmt.Sprintf("role %d", uint8(r))
}

// Range names bytes of an immutable object together with what they must be.
// Because the object never changes, a Range is also a complete cache key, its
// Role aside.
type Range struct {
	Key    string
	Offset int64
	Length int    // bytes
	CRC32C uint32 // of exactly these bytes
	Role   Role   // a hint, and no part of which bytes these are
}

// Bytes is r without its role: equal for two ranges of the same bytes.
func (r Range) Bytes() Range {
	r.Role = 0
	return r
}

func (r Range) String() string {
	return fmt.Sprintf("%q [%d,%d)", r.Key, r.Offset, r.Offset+int64(r.Length))
}

// Verify reports ErrCorrupt when b is not what r promises.
func (r Range) Verify(b []byte) error {
	if len(b) != r.Length {
		return fmt.Errorf("range %s: got %d bytes, want %d: %w", r, len(b), r.Length, ErrCorrupt)
	}
	if got := crc32.Checksum(b, Castagnoli); got != r.CRC32C {
		return fmt.Errorf("range %s: crc32c %08x, want %08x: %w", r, got, r.CRC32C, ErrCorrupt)
	}
	return nil
}

// RangeReader returns verified ranges of immutable objects. The bytes returned
// are shared: the caller must not write to them. Direct and the cache package
// implement it.
type RangeReader interface {
	ReadRange(ctx context.Context, r Range) ([]byte, error)
}

// ReadRanges reads several ranges and returns them in order. A reader that can
// do better than one after the other (fetch in parallel, coalesce neighbours)
// says so by having a method of this name; cache.Cache does.
func ReadRanges(ctx context.Context, r RangeReader, ranges []Range) ([][]byte, error) {
	if many, ok := r.(interface {
		ReadRanges(context.Context, []Range) ([][]byte, error)
	}); ok {
		return many.ReadRanges(ctx, ranges)
	}
	out := make([][]byte, len(ranges))
	for i, rg := range ranges {
		b, err := r.ReadRange(ctx, rg)
		if err != nil {
			return nil, err
		}
		out[i] = b
	}
	return out, nil
}

// Direct reads every range from store, with no cache in between: several at the
// same time, and one read for each.
func Direct(store Store) RangeReader { return direct{store} }

// directParallel is how many ranges are read at the same time.
const directParallel = 16

type direct struct{ store Store }

func (d direct) ReadRange(ctx context.Context, r Range) ([]byte, error) {
	b := make([]byte, r.Length)
	if err := d.store.ReadRange(ctx, r.Key, r.Offset, b); err != nil {
		return nil, err
	}
	if err := r.Verify(b); err != nil {
		return nil, err
	}
	return b, nil
}

func (d direct) ReadRanges(ctx context.Context, ranges []Range) ([][]byte, error) {
	out := make([][]byte, len(ranges))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(directParallel)
	for i, r := range ranges {
		g.Go(func() (err error) {
			out[i], err = d.ReadRange(ctx, r)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return out, nil
}
