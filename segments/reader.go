package segments

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/columns"
	"github.com/akidb/akidb/segments/ivfpq"
	"github.com/akidb/akidb/segments/manifest"
)

// Reader reads one segment. It holds the footer and nothing else; rows and
// lists come through ranges every time, which is where caching happens. It is
// safe for concurrent use and needs no closing.
type Reader struct {
	segment manifest.Segment
	ranges  blob.RangeReader
	footer  *footer
	// postings are nil for an exact index.
	postings     *ivfpq.Postings
	residentSize int64
	data         *dataFile
	attributes   *attributeFile
}

// dataFile is data.parquet: known with the footer, or opened at first use where
// the footer does not say where its pages lie.
type dataFile struct {
	sync.Mutex
	file *columns.File
}

// footerRange is where the manifest says the footer of a segment lies.
func footerRange(seg manifest.Segment) (blob.Range, error) {
	f := seg.Footer
	if f.Length < tailSize || f.Length > maxFooterBytes || f.Offset < headerSize || f.Offset+int64(f.Length) != seg.Index.Size {
		return blob.Range{}, fmt.Errorf("segment %q: footer [%d,+%d) of %d bytes: %w", seg.ID, f.Offset, f.Length, seg.Index.Size, blob.ErrCorrupt)
	}
	return blob.Range{Key: seg.Index.Key, Offset: f.Offset, Length: f.Length, CRC32C: f.CRC32C, Role: blob.Routing}, nil
}

// newReader makes a reader of a segment out of its footer, which it checks
// against the manifest. shared is the quantizer that the manifest names for it,
// nil for none.
func newReader(ranges blob.RangeReader, seg manifest.Segment, b []byte, dim int, metric ivfpq.Metric, shared *Quantizer) (*Reader, error) {
	fail := func(err error) (*Reader, error) { return nil, fmt.Errorf("segment %q: %w", seg.ID, err) }
	f, err := decodeFooter(b)
	if err != nil {
		return fail(err)
	}
	if f.rows != seg.Rows || int(f.dim) != dim || f.metric != metric || f.dataSize != seg.Data.Size {
		return fail(fmt.Errorf("footer says %d rows of %d dimensions, %v, %d bytes of data; manifest says %d, %d, %v, %d: %w",
			f.rows, f.dim, f.metric, f.dataSize, seg.Rows, dim, metric, seg.Data.Size, blob.ErrCorrupt))
	}
	r := &Reader{segment: seg, ranges: ranges, footer: f, data: &dataFile{}, attributes: &attributeFile{}}
	if err := r.openAttributes(); err != nil {
		return fail(err)
	}
	if f.pages != nil {
		if err := r.data.layOut(f); err != nil {
			return fail(err)
		}
	}
	if f.kind == ivfpq.Exact {
		return r, nil
	}
	z, err := f.ownQuantizer()
	if err != nil {
		return fail(err)
	}
	if z == nil {
		if shared == nil || shared.crc32c != f.properties.quantizer {
			return fail(fmt.Errorf("index was built with a quantizer of crc32c %08x, manifest names another: %w", f.properties.quantizer, blob.ErrCorrupt))
		}
		z = shared.Quantizer
	}
	lists := make([]ivfpq.List, len(f.lists))
	for i, l := range f.lists {
		lists[i] = l.List
		want := z.ListSize(l.List)
		if f.version == 1 {
			want = ivfpq.V1ListSize(dim, int(l.Count))
		}
		if int(l.length) != want || l.offset+int64(want) > f.listsEnd {
			return fail(fmt.Errorf("list %d of %d rows has %d bytes at %d, want %d below %d: %w", i, l.Count, l.length, l.offset, want, f.listsEnd, blob.ErrCorrupt))
		}
	}
	if r.postings, err = ivfpq.NewPostings(z, lists, f.calibration, f.wider...); err != nil {
		return fail(fmt.Errorf("%w: %w", err, blob.ErrCorrupt))
	}
	_, end := r.residentLists()
	r.residentSize = int64(end) + 4*(int64(f.rows)+1) + r.idBytes()
	return r, nil
}

// layOut opens data.parquet with what the footer says of it.
func (d *dataFile) layOut(f *footer) (err error) {
	d.file, err = columns.FromLayout(nil, f.dataSize, int(f.dim), f.pages)
	if err == nil {
		err = f.checkData(d.file)
	}
	if err != nil {
		return fmt.Errorf("pages of data.parquet: %w: %w", err, blob.ErrCorrupt)
	}
	return nil
}

// checkData wants data.parquet to have as many rows of as many dimensions as
// the index.
func (f *footer) checkData(data *columns.File) error {
	if data.Rows() != int(f.rows) || data.Dimension() != int(f.dim) {
		return fmt.Errorf("%d rows of %d dimensions, index has %d of %d: %w", data.Rows(), data.Dimension(), f.rows, f.dim, blob.ErrCorrupt)
	}
	return nil
}

// ownQuantizer is the quantizer that the segment carries; nil if it shares one.
func (f *footer) ownQuantizer() (*ivfpq.Quantizer, error) {
	if f.version == 1 {
		params := ivfpq.Params{Dim: int(f.dim), Metric: f.metric, Seed: f.seed, Exponent: f.exponent}
		lists := make([]ivfpq.List, len(f.lists))
		for i, l := range f.lists {
			lists[i] = l.List
		}
		z, err := ivfpq.V1Quantizer(params, f.centroids, lists)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", err, blob.ErrCorrupt)
		}
		return z, nil
	}
	if f.kind != ivfpq.Flat {
		return nil, nil
	}
	return decodeQuantizer(f.quantizer, int(f.dim), f.metric)
}

// Segment is the manifest's entry the reader was opened with; its delete vector
// may have been replaced since.
func (r *Reader) Segment() manifest.Segment { return r.segment }

// Rows is how many rows the segment has, deleted ones included.
func (r *Reader) Rows() uint32 { return r.footer.rows }

// Postings are the index's entry point; nil for an exact index.
func (r *Reader) Postings() *ivfpq.Postings { return r.postings }

// FormatVersion is that of the segment's index.ivf.
func (r *Reader) FormatVersion() int { return int(r.footer.version) }

// Calibration says what recall takes, in ascending order of it; none for an
// exact index. The caller must not change it.
func (r *Reader) Calibration() []ivfpq.Calibration { return r.footer.calibration }

// Residual is the mean squared distance of the rows that were coded for the
// segment to their centroids, in the quantizer's scaled space.
func (r *Reader) Residual() float64 { return r.footer.residual }

// Kind is the segment's size class.
func (r *Reader) Kind() ivfpq.Kind { return r.footer.kind }

func (r *Reader) listRange(list uint32) blob.Range {
	e := r.footer.lists[list]
	return blob.Range{Key: r.segment.Index.Key, Offset: e.offset, Length: int(e.length), CRC32C: e.crc32c, Role: blob.Posting}
}

// withSegment is r for a later manifest entry of the same segment, which can
// differ in its delete vector only.
func (r *Reader) withSegment(seg manifest.Segment) *Reader {
	later := *r
	later.segment = seg
	return &later
}

// Scan hands rows from..to-1 to fn in batches, in order, with the columns of
// the projection filled in. The batch is reused between calls.
func (r *Reader) Scan(ctx context.Context, from, to uint32, projection columns.Projection, fn func(first uint32, rows []columns.Row) error) error {
	f, err := r.open(ctx)
	if err != nil {
		return err
	}
	next := from
	err = f.Scan(from, to, projection, func(rows []columns.Row) error {
		first := next
		next += uint32(len(rows))
		return fn(first, rows)
	})
	if err != nil {
		return r.dataError(err)
	}
	return nil
}

func (r *Reader) dataError(err error) error {
	return fmt.Errorf("read %q: %w", r.segment.Data.Key, err)
}

// open returns data.parquet reading under ctx. Where the footer does not say
// what is in it, it is opened once; a failure is tried again by the next caller.
func (r *Reader) open(ctx context.Context) (*columns.File, error) {
	r.data.Lock()
	defer r.data.Unlock()
	if r.data.file == nil {
		f, err := columns.Open(dataReader{ctx, r}, r.segment.Data.Size)
		if err != nil {
			return nil, r.dataError(err)
		}
		if err := r.footer.checkData(f); err != nil {
			return nil, r.dataError(err)
		}
		r.data.file = f.WithReader(nil) // must not keep the opener's ctx
	}
	return r.data.file.WithReader(dataReader{ctx, r}), nil
}

// blocks are blocks of data.parquet on their way.
type blocks struct {
	reader  *Reader
	numbers []int64 // in the order in which they were asked for
	data    map[int64][]byte
}

func (r *Reader) newBlocks() *blocks { return &blocks{reader: r, data: map[int64][]byte{}} }

// appendRanges appends the blocks that the spans touch, each once.
func (b *blocks) appendRanges(ranges []blob.Range, spans []columns.ByteSpan) ([]blob.Range, error) {
	r := b.reader
	for _, s := range spans {
		if s.Length == 0 {
			continue
		}
		for n := s.Offset / dataBlockSize; n <= (s.Offset+int64(s.Length)-1)/dataBlockSize; n++ {
			if _, have := b.data[n]; have {
				continue
			}
			if n < 0 || n >= int64(len(r.footer.dataSums)) {
				return nil, r.dataError(fmt.Errorf("bytes [%d,+%d) of %d: %w", s.Offset, s.Length, r.segment.Data.Size, blob.ErrCorrupt))
			}
			b.data[n] = nil
			b.numbers = append(b.numbers, n)
			ranges = append(ranges, r.dataBlock(n))
		}
	}
	return ranges, nil
}

// take takes what was read of the blocks from the start of got and returns what
// is not its own.
func (b *blocks) take(got [][]byte) [][]byte {
	for i, n := range b.numbers {
		b.data[n] = got[i]
	}
	return got[len(b.numbers):]
}

// bytes returns a span that is covered by the blocks. It may alias them.
func (b *blocks) bytes(s columns.ByteSpan) []byte {
	if s.Length == 0 {
		return nil
	}
	first, at := b.data[s.Offset/dataBlockSize], int(s.Offset%dataBlockSize)
	if at+s.Length <= len(first) {
		return first[at : at+s.Length : at+s.Length]
	}
	out := make([]byte, 0, s.Length)
	for off := s.Offset; len(out) < s.Length; off = s.Offset + int64(len(out)) {
		part := b.data[off/dataBlockSize][off%dataBlockSize:]
		out = append(out, part[:min(len(part), s.Length-len(out))]...)
	}
	return out
}

func (r *Reader) dataBlock(n int64) blob.Range {
	off := n * dataBlockSize
	return blob.Range{
		Key: r.segment.Data.Key, Offset: off,
		Length: int(min(dataBlockSize, r.segment.Data.Size-off)),
		CRC32C: r.footer.dataSums[n],
		Role:   blob.Column,
	}
}

// dataReader is data.parquet as package columns wants to see it: verified, and
// under the context of one call.
type dataReader struct {
	ctx context.Context
	r   *Reader
}

func (d dataReader) ReadAt(p []byte, off int64) (int, error) {
	size := d.r.segment.Data.Size
	if off < 0 || off >= size {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), size-off))
	span := columns.ByteSpan{Offset: off, Length: n}
	b := d.r.newBlocks()
	ranges, err := b.appendRanges(nil, []columns.ByteSpan{span})
	if err != nil {
		return 0, err
	}
	got, err := blob.ReadRanges(d.ctx, d.r.ranges, ranges)
	if err != nil {
		return 0, d.r.dataError(err)
	}
	b.take(got)
	copy(p, b.bytes(span))
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
