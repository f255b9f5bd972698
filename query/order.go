package query

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/binary"
	"hash/fnv"
	"slices"
	"unicode/utf8"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/attributes"
	"github.com/akidb/akidb/segments/columns"
)

// order is by what a scroll is ordered: by the values of a key, nil by ids alone.
//
// Booleans come before numbers, numbers before strings; descending is all of that
// the other way round. Of an array the least element counts, descending the
// greatest. Rows with one value are in order of their ids, either way. Rows
// without a value (nothing, null, an object) come last, either way.
type order struct {
	key        columns.Key
	descending bool
}

// standing is the place of a row in an order. It says nothing of where the row lies, so
// that flushes and compactions between two pages neither repeat nor skip a row.
type standing struct {
	key []byte // sort key of its value; nil for none
	id  string
}

func (o *order) compare(a, b standing) int {
	if (a.key == nil) != (b.key == nil) {
		if a.key == nil {
			return 1
		}
		return -1
	}
	c := bytes.Compare(a.key, b.key)
	if o != nil && o.descending {
		c = -c
	}
	return cmp.Or(c, cmp.Compare(a.id, b.id))
}

// valueOf is the value that a row with metadata stands by with metadata.
func (o *order) valueOf(metadata []byte) (best []byte) {
	if o == nil {
		return nil
	}
	o.key.SortKeys(metadata, func(k []byte) bool {
		if c := bytes.Compare(k, best); best == nil || c < 0 && !o.descending || c > 0 && o.descending {
			best = append(best[:0], k...)
		}
		return true
	})
	return best
}

// OrderBy asks for rows in order of the values of a key. In JSON it is the key, or
// an object. Nil fields were not given.
type OrderBy struct {
	Key       *string `json:"key"`
	Direction *string `json:"direction"` // asc, the default, or desc
}

// UnmarshalJSONFrom reads a string as the key.
func (o *OrderBy) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() == '"' {
		o.Key = new(string)
		return json.UnmarshalDecode(d, o.Key)
	}
	type plain OrderBy
	return json.UnmarshalDecode(d, (*plain)(o))
}

func (o *OrderBy) parse() (*order, error) {
	switch {
	case o == nil:
		return nil, nil
	case o.Key == nil:
		return nil, httpapi.Unprocessable("invalid_key", "order_by.key", "order_by has no key")
	}
	out := &order{}
	switch d := o.Direction; {
	case d == nil || *d == "asc":
	case *d == "desc":
		out.descending = true
	default:
		return nil, httpapi.Unprocessable("unknown_direction", "order_by.direction", "order_by.direction is %.80q, want \"asc\" or \"desc\"", *d)
	}
	var err error
	if out.key, err = columns.ParseKey(*o.Key); err != nil {
		return nil, invalidKey("order_by.key", *o.Key, err)
	}
	return out, nil
}

// The cursor of a scroll by value begins with a byte that no id does.
const (
	cursorByValue   = 0xfe // a place of a row with a value
	cursorWithout   = 0xff // one without
	cursorHeadBytes = 1 + 8
)

// digest tells orders apart, so that no cursor of one is taken for one of another.
func (o *order) digest() uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(o.key.String()))
	if o.descending {
		_, _ = h.Write([]byte{0})
	}
	return h.Sum64()
}

func (o *order) encodeCursor(last *standing) string {
	if o == nil {
		return encodeCursor(last.id)
	}
	b := []byte{cursorWithout}
	if last.key != nil {
		b[0] = cursorByValue
	}
	b = binary.LittleEndian.AppendUint64(b, o.digest())
	b = binary.AppendUvarint(b, uint64(len(last.key)))
	b = append(append(b, last.key...), last.id...)
	return base64.RawURLEncoding.EncodeToString(b)
}

// decodeCursor returns what a page begins after; nil for the first page.
func (o *order) decodeCursor(cursor *string) (*standing, error) {
	if cursor == nil {
		return nil, nil
	}
	if o == nil {
		id, err := decodeCursor(*cursor)
		return &standing{id: id}, err
	}
	bad := httpapi.Unprocessable("invalid_cursor", "cursor", "cursor is %.40q, which no scroll with this order_by has answered", *cursor)
	b, err := base64.RawURLEncoding.DecodeString(*cursor)
	if err != nil || len(b) < cursorHeadBytes || b[0] < cursorByValue || binary.LittleEndian.Uint64(b[1:]) != o.digest() {
		return nil, bad
	}
	out := &standing{}
	n, size := binary.Uvarint(b[cursorHeadBytes:])
	rest := b[cursorHeadBytes+max(size, 0):]
	if size <= 0 || n > uint64(len(rest)) {
		return nil, bad
	}
	out.key, out.id = rest[:n:n], string(rest[n:])
	if b[0] == cursorWithout {
		out.key = nil
	} else if !columns.ValidKey(out.key) || out.key[0] < columns.KeyFalse {
		return nil, bad
	}
	if (b[0] == cursorWithout) != (n == 0) || !utf8.ValidString(out.id) || out.id == "" {
		return nil, bad
	}
	return out, nil
}

// ranked is a row of a scroll before its columns are read.
type ranked struct {
	standing
	found
}

// page collects the first rows of an order after some place in it.
type page struct {
	*order
	after *standing // nil for the beginning
	want  int
	rows  []ranked
}

// add offers a row. Its key is not kept.
func (p *page) add(r ranked) {
	if p.after != nil && p.compare(r.standing, *p.after) <= 0 {
		return
	}
	r.standing.key = slices.Clone(r.standing.key)
	if p.rows = append(p.rows, r); len(p.rows) >= 2*p.want+1024 {
		p.cut()
	}
}

func (p *page) cut() {
	slices.SortFunc(p.rows, func(a, b ranked) int { return p.compare(a.standing, b.standing) })
	p.rows = p.rows[:min(len(p.rows), p.want)]
}

// orderedRows adds the first rows of a segment, of those in allowed, which is nil
// for all, to the page. It reads ids for those on the page, and metadata only of
// rows whose value the index does not have.
func (p *page) orderedRows(ctx context.Context, by byKey, segment int, r *segments.Reader, allowed *roaring.Bitmap) error {
	open, err := by.open(ctx, segment, r, allowed)
	if err != nil {
		return err
	}
	if !open.IsEmpty() {
		err := r.EachOf(ctx, open, columns.ProjectID|columns.ProjectMetadata, func(ordinal uint32, row columns.Row) {
			p.add(stored(standing{p.valueOf(row.Metadata), row.ID}, segment, ordinal))
		})
		if err != nil || !by.known[segment] {
			return err
		}
	}
	left := allowed
	if left == nil {
		left = roaring.New()
		left.AddRange(0, uint64(r.Rows()))
	}
	left = roaring.AndNot(left, open)
	s := segmentPage{page: p, attribute: by.attributes[segment], segment: segment, reader: r, left: left}
	return s.fill(ctx)
}

func stored(at standing, segment int, ordinal uint32) ranked {
	return ranked{at, found{row: row{id: at.id}, stored: true, at: segments.Location{Segment: segment, Ordinal: ordinal}}}
}

// segmentPage adds the rows of one segment that the index has the values of.
type segmentPage struct {
	*page
	attribute *segments.Attribute // nil if no row has a value
	segment   int
	reader    *segments.Reader
	left      *roaring.Bitmap // rows to be placed, none of them twice
	added     int
}

// valued are rows that have one value.
type valued struct {
	key  []byte
	rows *roaring.Bitmap
}

func (s *segmentPage) fill(ctx context.Context) error {
	if s.attribute != nil && (s.after == nil || s.after.key != nil) {
		if err := s.byValue(ctx); err != nil || s.added >= s.want {
			return err
		}
	}
	without := s.left
	if s.attribute != nil {
		with, err := s.attribute.In(ctx, segments.ScalarSpan)
		if err != nil {
			return err
		}
		without = roaring.AndNot(s.left, with)
	}
	after := ""
	if s.after != nil && s.after.key == nil {
		after = s.after.id
	}
	return s.addGroup(ctx, valued{nil, without}, after)
}

// byValue goes through the values from where the page begins until it has enough.
func (s *segmentPage) byValue(ctx context.Context) error {
	span, before := segments.ScalarSpan, columns.Span{}
	if s.after != nil {
		next := append(slices.Clone(s.after.key), 0)
		if s.descending {
			before, span.To = columns.Span{From: next, To: span.To}, next
		} else {
			before, span.From = columns.Span{From: span.From, To: s.after.key}, s.after.key
		}
	}
	many := s.attribute.Shape&columns.ShapeArray != 0
	if many && s.after != nil { // rows that stand by another of their values
		earlier, err := s.attribute.In(ctx, before)
		if err != nil {
			return err
		}
		s.left = roaring.AndNot(s.left, earlier)
	}
	var groups []valued
	waiting := 0
	flush := func() error {
		defer func() { groups, waiting = nil, 0 }()
		return s.addGroups(ctx, groups)
	}
	var failed error
	err := s.attribute.Each(ctx, span, s.descending, func(v attributes.Value) bool {
		rows := roaring.New()
		v.Rows.AddTo(rows)
		rows.And(s.left)
		if rows.IsEmpty() {
			return ctx.Err() == nil
		}
		if many {
			s.left = roaring.AndNot(s.left, rows)
		}
		groups = append(groups, valued{slices.Clone(v.Key), rows})
		if waiting += int(rows.GetCardinality()); s.added+waiting >= s.want {
			failed = flush()
		}
		return failed == nil && s.added < s.want && ctx.Err() == nil
	})
	if err := cmp.Or(err, failed, ctx.Err()); err != nil {
		return err
	}
	return flush()
}

// manyRows is from how many rows on those of a group are found by going through the
// ids in order rather than by reading the ids of all.
const manyRows = 4096

// addGroups adds the rows of groups, of whose ids those of small ones are read
// together.
func (s *segmentPage) addGroups(ctx context.Context, groups []valued) error {
	var ordinals []uint32
	var keys [][]byte
	for _, g := range groups {
		if g.rows.GetCardinality() > manyRows {
			after := ""
			if s.after != nil && bytes.Equal(g.key, s.after.key) {
				after = s.after.id
			}
			if err := s.addGroup(ctx, g, after); err != nil {
				return err
			}
			continue
		}
		for it := g.rows.Iterator(); it.HasNext(); {
			ordinals, keys = append(ordinals, it.Next()), append(keys, g.key)
		}
	}
	read, err := s.reader.RowsAt(ctx, ordinals, columns.ProjectID)
	if err != nil {
		return err
	}
	for i, id := range read.IDs {
		s.place(standing{keys[i], id}, ordinals[i])
	}
	return nil
}

func (s *segmentPage) place(at standing, ordinal uint32) {
	if s.after == nil || s.compare(at, *s.after) > 0 {
		s.added++
	}
	s.add(stored(at, s.segment, ordinal))
}

// addGroup adds the first rows, by id, of one group.
func (s *segmentPage) addGroup(ctx context.Context, g valued, after string) error {
	return eachID(ctx, s.reader, g.rows, after, s.want-s.added, func(id string, ordinal uint32) {
		s.place(standing{g.key, id}, ordinal)
	})
}

// eachID hands the rows of a set with ids above after to fn: the first so many by
// id, in order, or all of them in any. The ids of a few rows are read by row, those
// of many in their order.
func eachID(ctx context.Context, r *segments.Reader, rows *roaring.Bitmap, after string, want int, fn func(id string, ordinal uint32)) error {
	count := rows.GetCardinality()
	if want <= 0 || count == 0 {
		return nil
	}
	if passed := uint64(want) * uint64(r.Rows()) / count; count > manyRows || passed < manyRows {
		return r.IDsAfter(ctx, after, func(id string, ordinal uint32) bool {
			if rows.Contains(ordinal) {
				fn(id, ordinal)
				want--
			}
			return want > 0
		})
	}
	ordinals := rows.ToArray()
	read, err := r.RowsAt(ctx, ordinals, columns.ProjectID)
	if err != nil {
		return err
	}
	for i, id := range read.IDs {
		if id > after {
			fn(id, ordinals[i])
		}
	}
	return nil
}
