package segments

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"sync"

	"github.com/RoaringBitmap/roaring/v2"
	"golang.org/x/sync/errgroup"

	"github.com/akidb/akidb/segments/attributes"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/columns"
)

// directoryInFooter is up to how large an attribute directory is part of the
// footer, which every reader reads; a larger one lies apart.
const directoryInFooter = 16 << 10

// attributePlaceSize is the length of the section that says where it lies.
const attributePlaceSize = 16

// writeAttributes indexes the metadata of all rows and returns the section that
// leads to it. Values may take as much memory as half of the vectors.
func (b *Built) writeAttributes(ctx context.Context, w *summer, rows *Rows) (section, error) {
	index := attributes.NewBuilder(attributes.Limits{Bytes: max(64<<20, 2*int64(len(rows.Vectors)))})
	for ordinal, i := range b.Order {
		if ordinal%appendBatch == 0 {
			if err := ctx.Err(); err != nil {
				return section{}, err
			}
		}
		index.Add(rows.Metadata[i])
	}
	directory, err := index.Encode(w.size, func(p []byte) error { _, err := w.Write(p); return err })
	if err != nil {
		return section{}, err
	}
	out := section{tagAttributes, directory}
	if len(directory) > directoryInFooter {
		place := blob.Range{Offset: w.size, Length: len(directory), CRC32C: crc32.Checksum(directory, blob.Castagnoli)}
		if _, err := w.Write(directory); err != nil {
			return section{}, err
		}
		out = section{tagAttributePlace, encodePlace(place)}
	}
	return out, w.writeAligned(nil)
}

func encodePlace(r blob.Range) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(r.Offset))
	b = binary.LittleEndian.AppendUint32(b, uint32(r.Length))
	return binary.LittleEndian.AppendUint32(b, r.CRC32C)
}

func (f *footer) parseAttributePlace(b []byte) error {
	if len(b) != attributePlaceSize {
		return fmt.Errorf("%d bytes, want %d: %w", len(b), attributePlaceSize, blob.ErrCorrupt)
	}
	le := binary.LittleEndian
	f.attributesAt = blob.Range{Offset: int64(le.Uint64(b)), Length: int(le.Uint32(b[8:])), CRC32C: le.Uint32(b[12:])}
	if f.attributesAt.Offset < headerSize || f.attributesAt.Length <= directoryInFooter || f.attributesAt.Length > maxFooterBytes {
		return fmt.Errorf("attribute directory [%d,+%d): %w", f.attributesAt.Offset, f.attributesAt.Length, blob.ErrCorrupt)
	}
	return nil
}

// attributeFile is the attribute directory: known with the footer, or read at
// first use where it lies apart.
type attributeFile struct {
	sync.Mutex
	directory *attributes.Directory
}

// openAttributes takes the directory out of the footer, if it is there. What it
// names ends where the footer begins.
func (r *Reader) openAttributes() (err error) {
	f := r.footer
	if f.attributes == nil {
		return nil
	}
	r.attributes.directory, err = attributes.DecodeDirectory(f.attributes, f.rows, r.segment.Footer.Offset)
	return err
}

// Attributes is the directory of the segment's attributes, nil if it has none: it
// was written before format 3.
func (r *Reader) Attributes(ctx context.Context) (*attributes.Directory, error) {
	a, at := r.attributes, r.footer.attributesAt
	a.Lock()
	defer a.Unlock()
	if a.directory != nil || at.Length == 0 {
		return a.directory, nil
	}
	at.Key, at.Role = r.segment.Index.Key, blob.Routing
	b, err := r.ranges.ReadRange(ctx, at)
	if err != nil {
		return nil, r.attributeError(err)
	}
	d, err := attributes.DecodeDirectory(bytes.Clone(b), r.footer.rows, at.Offset)
	if err != nil {
		return nil, r.attributeError(err)
	}
	a.directory = d
	return d, nil
}

func (r *Reader) attributeError(err error) error {
	return fmt.Errorf("read attributes of segment %q: %w", r.segment.ID, err)
}

// places turns places of the index into ranges. Fences tell where to look; values
// are bulk, and must not drive out what does.
func (r *Reader) places(places []attributes.Place, role blob.Role) []blob.Range {
	out := make([]blob.Range, len(places))
	for i, p := range places {
		out[i] = blob.Range{Key: r.segment.Index.Key, Offset: p.Offset, Length: p.Length, CRC32C: p.CRC32C, Role: role}
	}
	return out
}

// Match returns the rows of some segments that match a filter, deleted ones
// included, in the order asked for. What the indexes know takes two rounds of reads
// over all of them; rows that they are not certain of are looked at after that.
func (v *View) Match(ctx context.Context, which []int, f *columns.Filter) ([]*roaring.Bitmap, error) {
	m := matching{view: v, which: which, filter: f, evaluations: make([]*attributes.Evaluation, len(which))}
	if err := m.begin(ctx); err != nil {
		return nil, err
	}
	if err := m.round(ctx, blob.Routing, (*attributes.Evaluation).Fences, (*attributes.Evaluation).TakeFences); err != nil {
		return nil, err
	}
	if err := m.round(ctx, blob.Column, (*attributes.Evaluation).Blocks, (*attributes.Evaluation).TakeBlocks); err != nil {
		return nil, err
	}
	out := make([]*roaring.Bitmap, len(which))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(openParallel)
	for i, s := range which {
		g.Go(func() (err error) {
			certain, possible, err := m.evaluations[i].Rows()
			if err == nil {
				out[i], err = v.Segments[s].look(ctx, f, certain, possible)
			}
			return err
		})
	}
	return out, g.Wait()
}

// matching is a Match under way.
type matching struct {
	view        *View
	which       []int
	filter      *columns.Filter
	evaluations []*attributes.Evaluation
	ids         chan error // of looking up ids, which goes on beside the first round
}

// begin reads directories that lie apart, and starts looking for ids.
func (m *matching) begin(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(openParallel)
	for i, s := range m.which {
		r := m.view.Segments[s].Reader
		g.Go(func() error {
			d, err := r.Attributes(gctx)
			m.evaluations[i] = attributes.Evaluate(m.filter, d, r.Rows())
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	m.ids = make(chan error, 1)
	go func() {
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(openParallel)
		for i, s := range m.which {
			if e := m.evaluations[i]; len(e.IDs()) > 0 {
				g.Go(func() error {
					ordinals, err := m.view.Segments[s].Reader.Lookup(ctx, e.IDs())
					for i, o := range ordinals {
						if o != NoRow {
							e.TakeIDs(e.IDs()[i], o)
						}
					}
					return err
				})
			}
		}
		m.ids <- g.Wait()
	}()
	return nil
}

// round reads what the evaluations want next, for all of them at once.
func (m *matching) round(ctx context.Context, role blob.Role, places func(*attributes.Evaluation) []attributes.Place, take func(*attributes.Evaluation, [][]byte) error) error {
	var ranges []blob.Range
	counts := make([]int, len(m.which))
	for i, s := range m.which {
		more := m.view.Segments[s].places(places(m.evaluations[i]), role)
		ranges, counts[i] = append(ranges, more...), len(more)
	}
	var got [][]byte
	var err error
	if len(ranges) > 0 {
		got, err = blob.ReadRanges(ctx, m.view.ranges, ranges)
	}
	if m.ids != nil {
		if idErr := <-m.ids; err == nil {
			err = idErr
		}
		m.ids = nil
	}
	if err != nil {
		return fmt.Errorf("read attributes: %w", err)
	}
	for i, s := range m.which {
		if err := take(m.evaluations[i], got[:counts[i]]); err != nil {
			return m.view.Segments[s].attributeError(err)
		}
		got = got[counts[i]:]
	}
	return nil
}

// look adds to the rows that match for certain those that do of the others that
// may: a few are read one by one, many are scanned for.
func (r *Reader) look(ctx context.Context, f *columns.Filter, certain, possible *roaring.Bitmap) (*roaring.Bitmap, error) {
	if certain == possible {
		return certain, nil
	}
	open := roaring.AndNot(possible, certain)
	if open.IsEmpty() {
		return certain, nil
	}
	return certain, r.EachOf(ctx, open, columnsOf(f), func(ordinal uint32, row columns.Row) {
		if f.Match(row.ID, row.Metadata) {
			certain.Add(ordinal)
		}
	})
}

// columnsOf are those that a filter looks at, of rows that it looks at.
func columnsOf(f *columns.Filter) columns.Projection {
	if f.NeedsID() {
		return columns.ProjectMetadata | columns.ProjectID
	}
	return columns.ProjectMetadata
}

// pickOneIn: fewer rows than one in so many are read one by one. A page holds
// hundreds of rows, so it has to be few for that to read less.
const pickOneIn = 64

// pickRows is how many rows are read at a time.
const pickRows = 4096

// EachOf hands some rows to fn, in order, with their ids and metadata as far as
// asked for: a few are picked, many are scanned for. What a row refers to is valid
// until fn returns, but for the id.
func (r *Reader) EachOf(ctx context.Context, rows *roaring.Bitmap, want columns.Projection, fn func(ordinal uint32, row columns.Row)) error {
	if rows.GetCardinality()*pickOneIn <= uint64(r.Rows()) {
		return r.pick(ctx, rows, want, fn)
	}
	return r.Scan(ctx, 0, r.Rows(), want, func(first uint32, batch []columns.Row) error {
		for i, row := range batch {
			if o := first + uint32(i); rows.Contains(o) {
				fn(o, row)
			}
		}
		return ctx.Err()
	})
}

func (r *Reader) pick(ctx context.Context, rows *roaring.Bitmap, want columns.Projection, fn func(ordinal uint32, row columns.Row)) error {
	for part := range slices.Chunk(rows.ToArray(), pickRows) {
		read, err := r.RowsAt(ctx, part, want)
		if err != nil {
			return err
		}
		for i, o := range part {
			var row columns.Row
			if read.IDs != nil {
				row.ID = read.IDs[i]
			}
			if read.Metadata != nil {
				row.Metadata = read.Metadata[i]
			}
			fn(o, row)
		}
	}
	return nil
}
