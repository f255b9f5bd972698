package segments

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/columns"
	"github.com/akidb/akidb/segments/ivfpq"
	"github.com/akidb/akidb/segments/manifest"
)

// BuildConfig says how a segment is built.
type BuildConfig struct {
	Dim    int
	Metric ivfpq.Metric
	Seed   uint64 // of the rotation and of sampling; any value
	Dir    string // where the two files are made before they are uploaded
	// Index has the collection's quantizer and what is known of rows, and
	// overrides what the index chooses by itself. Dim, Metric and Seed in it are
	// ignored.
	Index ivfpq.Config
}

// Built is a segment on local disk, not yet in the store. Close removes it.
type Built struct {
	// Order[ordinal] is the position the row had in the rows given to Build.
	Order []uint32

	dir            string
	data, index    manifest.Ref // keys are not yet known
	footer         manifest.Extent
	minSeq, maxSeq uint64
	kind           ivfpq.Kind
	quantizer      *ivfpq.Quantizer // nil for an exact index
}

// Build trains, encodes and writes rows as a segment below cfg.Dir. Memory is
// about the size of the vectors plus that of the index.
func Build(ctx context.Context, cfg BuildConfig, rows *Rows) (_ *Built, err error) {
	if err := rows.check(cfg.Dim); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(cfg.Dir, "segment-*")
	if err != nil {
		return nil, fmt.Errorf("build segment: %w", err)
	}
	b := &Built{dir: dir, minSeq: slices.Min(rows.Seqs), maxSeq: slices.Max(rows.Seqs)}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.Close())
		}
	}()
	ic := cfg.Index
	ic.Dim, ic.Metric, ic.Seed = cfg.Dim, cfg.Metric, cfg.Seed
	index, err := ivfpq.Build(ctx, rows.Vectors, ic)
	if err != nil {
		return nil, fmt.Errorf("build segment index: %w", err)
	}
	b.Order, b.kind, b.quantizer = index.Order, index.Kind, index.Quantizer
	sums, pages, err := b.writeData(ctx, cfg.Dim, rows)
	if err != nil {
		return nil, fmt.Errorf("build segment data: %w", err)
	}
	about := []section{{tagDataSums, appendUint32s(nil, sums)}, {tagPages, pages}}
	if err := b.writeIndex(ctx, cfg, index, rows, about); err != nil {
		return nil, fmt.Errorf("build segment index: %w", err)
	}
	return b, nil
}

// Close removes the local files.
func (b *Built) Close() error { return os.RemoveAll(b.dir) }

func (b *Built) dataPath() string  { return filepath.Join(b.dir, "data.parquet") }
func (b *Built) indexPath() string { return filepath.Join(b.dir, "index.ivf") }

// appendBatch is how many rows are handed to the Parquet writer at a time.
const appendBatch = 1024

// writeData writes data.parquet and returns the checksums of its blocks and
// where its pages lie.
func (b *Built) writeData(ctx context.Context, dim int, rows *Rows) (sums []uint32, pages []byte, err error) {
	w, err := newSummer(b.dataPath())
	if err != nil {
		return nil, nil, err
	}
	defer w.close()
	pw, err := columns.NewWriter(w, dim)
	if err != nil {
		return nil, nil, err
	}
	batch := make([]columns.Row, 0, appendBatch)
	for part := range slices.Chunk(b.Order, appendBatch) {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		batch = batch[:0]
		for _, i := range part {
			batch = append(batch, rows.row(int(i), dim))
		}
		if err := pw.Append(batch); err != nil {
			return nil, nil, err
		}
	}
	if err := pw.Close(); err != nil {
		return nil, nil, err
	}
	if b.data, err = w.finish(); err != nil {
		return nil, nil, err
	}
	file, err := columns.Open(w.f, b.data.Size)
	if err != nil {
		return nil, nil, err
	}
	pages, err = file.AppendLayout(nil)
	return w.blocks, pages, err
}

// writeIndex writes index.ivf; more are sections of its footer.
func (b *Built) writeIndex(ctx context.Context, cfg BuildConfig, index *ivfpq.Index, rows *Rows, more []section) error {
	w, err := newSummer(b.indexPath())
	if err != nil {
		return err
	}
	defer w.close()
	header := make([]byte, headerSize)
	copy(header, magic)
	binary.LittleEndian.PutUint32(header[8:], Version)
	if _, err := w.Write(header); err != nil {
		return err
	}
	var lists, buf []byte
	for i, l := range index.Lists {
		if err := ctx.Err(); err != nil {
			return err
		}
		buf = index.AppendList(buf[:0], i)
		lists = listEntry{
			List: l, offset: w.size, length: uint32(len(buf)), crc32c: crc32.Checksum(buf, blob.Castagnoli),
			scan: crc32.Checksum(buf[:index.Quantizer.ScanSize(l)], blob.Castagnoli),
		}.append(lists)
		if err := w.writeAligned(buf); err != nil {
			return err
		}
	}
	ids := make([]string, len(b.Order))
	for ordinal, i := range b.Order {
		ids[ordinal] = rows.IDs[i]
	}
	listsEnd := w.size
	blocks, fences, err := encodeIDTable(listsEnd, ids)
	if err != nil {
		return err
	}
	if err := w.writeAligned(blocks); err != nil {
		return err
	}
	about, err := b.writeAttributes(ctx, w, rows)
	if err != nil {
		return err
	}
	more = append(more, about)
	props := properties{
		rows: uint32(rows.Len()), dim: uint32(cfg.Dim), metric: cfg.Metric, kind: index.Kind, listCount: uint32(len(index.Lists)),
		listsEnd: listsEnd, dataSize: b.data.Size, residual: index.Residual,
	}
	sections := append([]section{
		{tagLists, lists},
		{tagCalibration, encodeCalibration(index.Calibration)},
		{tagIDFences, encodeFences(fences)},
	}, more...)
	if len(index.Wider) > 0 {
		sections = append(sections, section{tagWider, encodeWider(index.Wider)})
	}
	if index.Quantizer != nil {
		stored := index.Quantizer.AppendBinary(nil)
		props.quantizer = crc32.Checksum(stored, blob.Castagnoli)
		if index.Kind == ivfpq.Flat {
			sections = append(sections, section{tagQuantizer, stored})
		}
	}
	foot := encodeFooter(w.size, append([]section{{tagProperties, props.encode()}}, sections...))
	b.footer = manifest.Extent{Offset: w.size, Length: len(foot), CRC32C: crc32.Checksum(foot, blob.Castagnoli)}
	if _, err := w.Write(foot); err != nil {
		return err
	}
	b.index, err = w.finish()
	return err
}

// Quantizer is the one that the manifest has to name beside the segment: the
// one given to Build, or one that was trained. It is nil for an index that
// shares none.
func (b *Built) Quantizer() *ivfpq.Quantizer {
	if b.kind != ivfpq.IVF {
		return nil
	}
	return b.quantizer
}

// Upload puts both files under the keys of a segment that was never used
// before and returns the manifest's entry for it. quantizer is the id under
// which the manifest names Quantizer, empty where that is nil.
func (b *Built) Upload(ctx context.Context, store blob.Store, collection, segment, quantizer string) (manifest.Segment, error) {
	if (b.Quantizer() == nil) != (quantizer == "") {
		panic(fmt.Sprintf("BUG: a segment of kind %v with quantizer %q", b.kind, quantizer))
	}
	data, index := b.data, b.index
	data.Key, index.Key = manifest.DataKey(collection, segment), manifest.IndexKey(collection, segment)
	for _, f := range []struct {
		path string
		ref  manifest.Ref
	}{{b.dataPath(), data}, {b.indexPath(), index}} {
		if err := upload(ctx, store, f.path, f.ref); err != nil {
			return manifest.Segment{}, err
		}
	}
	return manifest.Segment{
		ID: segment, Rows: uint32(len(b.Order)), MinSeq: b.minSeq, MaxSeq: b.maxSeq,
		Data: data, Index: index, Footer: b.footer, Quantizer: quantizer,
	}, nil
}

// upload puts one file. It is unconditional on purpose: the key is fresh, and a
// repeat after a lost answer writes the same bytes.
func upload(ctx context.Context, store blob.Store, path string, ref manifest.Ref) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("upload segment: %w", err)
	}
	defer f.Close()
	if _, err := store.Put(ctx, ref.Key, f, ref.Size, blob.Condition{}); err != nil {
		return fmt.Errorf("upload segment: %w", err)
	}
	return nil
}

// summer is a file being written with the checksums of its blocks and of the
// whole.
type summer struct {
	f      *os.File
	w      *bufio.Writer
	size   int64
	sum    uint32
	blocks []uint32 // CRC32C of every full block, and after finish of the last
	block  uint32
}

func newSummer(path string) (*summer, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return &summer{f: f, w: bufio.NewWriterSize(f, 1<<20)}, nil
}

func (s *summer) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	p = p[:n]
	s.sum = crc32.Update(s.sum, blob.Castagnoli, p)
	for len(p) > 0 {
		room := dataBlockSize - int(s.size%dataBlockSize)
		take := min(room, len(p))
		s.block = crc32.Update(s.block, blob.Castagnoli, p[:take])
		s.size += int64(take)
		if take == room {
			s.blocks = append(s.blocks, s.block)
			s.block = 0
		}
		p = p[take:]
	}
	return n, err
}

// writeAligned writes p and zeroes up to the next aligned offset.
func (s *summer) writeAligned(p []byte) error {
	if _, err := s.Write(p); err != nil {
		return err
	}
	_, err := s.Write(make([]byte, (align-s.size%align)%align))
	return err
}

// finish flushes the file and returns its size and checksum.
func (s *summer) finish() (manifest.Ref, error) {
	if s.size%dataBlockSize != 0 {
		s.blocks = append(s.blocks, s.block)
	}
	if err := s.w.Flush(); err != nil {
		return manifest.Ref{}, err
	}
	return manifest.Ref{Size: s.size, CRC32C: s.sum}, nil
}

func (s *summer) close() { _ = s.f.Close() }

var _ io.Writer = (*summer)(nil)
