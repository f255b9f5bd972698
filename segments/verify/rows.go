package verify

import (
	"context"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/columns"
	"github.com/akidb/akidb/segments/manifest"
)

// rows reads every row of the newest version and holds them against what the
// manifest and the index say of them.
func (c *check) rows(ctx context.Context) error {
	if c.opts.Shallow || len(c.problems) > 0 {
		return nil // rows of damaged objects tell nothing new
	}
	view, err := c.view(ctx)
	if err != nil || view == nil {
		return err
	}
	var digest manifest.SetDigest
	ids := make([]uint64, 0, c.snap.Rows()) // hashes of the live ones
	for i := range view.Segments {
		if err := c.segment(ctx, view, i, func(id string, seq uint64) {
			digest.Add(id, seq)
			ids = append(ids, xxhash.Sum64String(id))
		}); err != nil {
			return err
		}
	}
	if n := uint64(len(ids)); n != c.snap.Rows() {
		c.wrongf("", "has %d live rows, the manifest says %d", n, c.snap.Rows())
	}
	slices.Sort(ids)
	for i := 1; i < len(ids); i++ {
		if ids[i] == ids[i-1] {
			c.wrongf("", "an id lives in two rows (xxhash64 %016x)", ids[i])
		}
	}
	c.found.Digest = digest.String()
	if want := c.snap.SetDigest; want != nil && *want != digest {
		c.wrongf("", "rows have set digest %v, the manifest says %v: some were lost, invented, brought back or reverted", digest, *want)
	}
	return nil
}

// segment reads the rows of one segment and calls live for those that are.
func (c *check) segment(ctx context.Context, view *segments.View, i int, live func(id string, seq uint64)) error {
	seg := view.Segments[i]
	entry := seg.Segment()
	var ids []string
	err := seg.Scan(ctx, 0, seg.Rows(), columns.ProjectAll, func(first uint32, rows []columns.Row) error {
		for j, r := range rows {
			ordinal := first + uint32(j)
			if r.Seq < entry.MinSeq || r.Seq > entry.MaxSeq || r.Seq > c.snap.FlushedSeq {
				return fmt.Errorf("row %d has sequence number %d, want %d to %d and at most %d: %w",
					ordinal, r.Seq, entry.MinSeq, entry.MaxSeq, c.snap.FlushedSeq, blob.ErrCorrupt)
			}
			ids = append(ids, r.ID)
			if seg.Deleted == nil || !seg.Deleted.Contains(ordinal) {
				live(r.ID, r.Seq)
			}
		}
		return nil
	})
	if err == nil && len(ids) != int(entry.Rows) {
		err = fmt.Errorf("has %d rows, the manifest says %d", len(ids), entry.Rows)
	}
	if err != nil {
		return c.wrong(entry.Data.Key, err)
	}
	// The index finds each row under its id, and every list can be read.
	for first := 0; first < len(ids); first += lookupAtOnce {
		part := ids[first:min(first+lookupAtOnce, len(ids))]
		ordinals, err := seg.Reader.Lookup(ctx, part)
		if err != nil {
			return c.wrong(entry.Index.Key, err)
		}
		for j, o := range ordinals {
			if o != uint32(first+j) {
				return c.wrong(entry.Index.Key, fmt.Errorf("id %q is row %d, the index finds %d: %w", part[j], first+j, o, blob.ErrCorrupt))
			}
		}
	}
	if seg.Postings() == nil {
		return nil
	}
	if _, err := view.AllLists(ctx, i); err != nil {
		return c.wrong(entry.Index.Key, err)
	}
	return nil
}

const lookupAtOnce = 4096

// checksum reads an object to its end.
func checksum(ctx context.Context, store blob.Store, want manifest.Ref) (sum uint32, err error) {
	buf := make([]byte, min(readAtOnce, want.Size))
	for off := int64(0); off < want.Size; off += int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), want.Size-off)]
		if err := store.ReadRange(ctx, want.Key, off, buf); err != nil {
			return 0, err
		}
		sum = crc32.Update(sum, blob.Castagnoli, buf)
	}
	return sum, nil
}
