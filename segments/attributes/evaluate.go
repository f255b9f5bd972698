package attributes

import (
	"fmt"
	"slices"
	"strings"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/akidb/akidb/segments/columns"
)

// Evaluation finds the rows of one segment that match a filter. It does no I/O:
// what it needs it names, in two rounds, and is given.
//
//	IDs, Fences ─► TakeIDs, TakeFences ─► Blocks ─► TakeBlocks ─► Rows
//
// It is for one goroutine.
type Evaluation struct {
	rows  uint32
	dir   *Directory // nil for none: then ids alone are known
	root  *group
	ids   map[string]uint32
	asked []string // ids
	reads []*pathRead
	want  []Place // blocks and unions
	size  int     // of them, bytes
	at    map[Place]int
	got   [][]byte
	all   *roaring.Bitmap
}

// group is a filter, taken apart.
type group struct{ must, should, mustNot []*term }

// term is one of: a condition, ids, a group.
type term struct {
	condition *columns.Condition
	read      *pathRead // of the condition; nil if no row has anything there
	unknown   bool      // the condition is on what the index does not have
	spans     []spanRead
	ids       []string
	group     *group
}

// pathRead is a path whose fences are read.
type pathRead struct {
	path   *Path
	fences *Fences
}

// spanRead is what is read for a span of a condition.
type spanRead struct {
	span   columns.Span
	covers []Cover
	at     []int // in Evaluation.want
}

// maxReadBytes is how much of a segment's index an evaluation may read: conditions
// that go beyond are left open, and rows looked at one by one, which takes longer
// and no more memory.
const maxReadBytes = 32 << 20

// Evaluate begins the evaluation of a filter on a segment of so many rows. dir is
// nil for a segment without an index.
func Evaluate(f *columns.Filter, dir *Directory, rows uint32) *Evaluation {
	e := &Evaluation{rows: rows, dir: dir, ids: map[string]uint32{}, at: map[Place]int{}, all: roaring.New()}
	e.all.AddRange(0, uint64(rows))
	e.root = e.group(f)
	slices.Sort(e.asked)
	e.asked = slices.Compact(e.asked)
	return e
}

func (e *Evaluation) group(f *columns.Filter) *group {
	must, should, mustNot := f.Terms()
	return &group{e.terms(must), e.terms(should), e.terms(mustNot)}
}

func (e *Evaluation) terms(in []columns.Term) []*term {
	out := make([]*term, len(in))
	for i, t := range in {
		switch {
		case t.Group != nil:
			out[i] = &term{group: e.group(t.Group)}
		case t.Condition == nil:
			out[i] = &term{ids: t.IDs}
			e.asked = append(e.asked, t.IDs...)
		default:
			out[i] = &term{condition: t.Condition}
			path, known := e.resolve(t.Condition)
			out[i].unknown = !known
			if known && path != nil {
				out[i].read = e.read(path)
			}
		}
	}
	return out
}

func (e *Evaluation) read(p *Path) *pathRead {
	for _, r := range e.reads {
		if r.path == p {
			return r
		}
	}
	r := &pathRead{path: p}
	e.reads = append(e.reads, r)
	return r
}

// resolve finds what the condition is on; nil if no row has anything there, and
// known is false if the index cannot tell.
func (e *Evaluation) resolve(c *columns.Condition) (p *Path, known bool) {
	if e.dir == nil {
		return nil, false
	}
	p, known = e.dir.Find(c.Key)
	if p != nil && p.Name != c.Key.String() && c.Absent {
		return nil, false // which elements are filled is not known
	}
	return p, known
}

// Find returns the entry of the values that a key leads to: nil if no row has any,
// and known is false if the index has not got them. The elements of arrays, "a[]",
// are the values of "a" itself where a has nothing but arrays.
func (d *Directory) Find(key columns.Key) (p *Path, known bool) {
	name := key.String()
	for _, step := range key.Steps() {
		if step.Index >= 0 {
			return nil, false
		}
	}
	if i := nestedEach(key); i >= 0 {
		// Arrays in arrays are not indexed. That there are none is known.
		outer, known := d.lookUp(prefix(key, i))
		return nil, known && (outer == nil || outer.Shape&columns.ShapeNested == 0)
	}
	if inner, ok := strings.CutSuffix(name, "[]"); ok && key.Steps()[len(key.Steps())-1].Each {
		p, known := d.lookUp(inner)
		switch {
		case !known:
			return nil, false
		case p == nil || p.Shape&columns.ShapeArray == 0:
			return nil, true
		}
		return p, p.Shape == columns.ShapeArray
	}
	return d.lookUp(name)
}

// lookUp is Find for a path that ends in a name.
func (d *Directory) lookUp(name string) (p *Path, known bool) {
	p, ok := d.Path(name)
	if !ok {
		return nil, d.Complete
	}
	return p, !p.Dropped
}

// nestedEach returns where in the path the elements of elements begin, or -1.
func nestedEach(key columns.Key) int {
	steps := key.Steps()
	for i := 1; i < len(steps); i++ {
		if steps[i].Each && steps[i-1].Each {
			return i - 1
		}
	}
	return -1
}

// prefix is the text of the first so many steps.
func prefix(key columns.Key, steps int) string { return key.First(steps).String() }

// IDs are the ids whose rows TakeIDs wants.
func (e *Evaluation) IDs() []string { return e.asked }

// TakeIDs takes the row of an id that the segment has.
func (e *Evaluation) TakeIDs(id string, row uint32) { e.ids[id] = row }

// Fences says what TakeFences wants the bytes of.
func (e *Evaluation) Fences() []Place {
	var out []Place
	for _, r := range e.reads {
		if at, apart := r.path.FencesAt(); apart {
			out = append(out, at)
		}
	}
	return out
}

// TakeFences takes the bytes of Fences, in order.
func (e *Evaluation) TakeFences(got [][]byte) (err error) {
	for _, r := range e.reads {
		var b []byte
		if _, apart := r.path.FencesAt(); apart {
			b, got = got[0], got[1:]
		}
		if r.fences, err = DecodeFences(r.path, b); err != nil {
			return err
		}
	}
	e.root.plan(e)
	return nil
}

func (g *group) plan(e *Evaluation) {
	for _, terms := range [][]*term{g.must, g.should, g.mustNot} {
		for _, t := range terms {
			switch {
			case t.group != nil:
				t.group.plan(e)
			case t.read != nil:
				t.plan(e)
			}
		}
	}
}

// plan chooses what is read for a condition: of blocks inside of a span the union,
// of those at its ends, and where texts are looked at, the values.
func (t *term) plan(e *Evaluation) {
	f, spans := t.read.fences, t.condition.Spans
	if t.read.path.Long > 0 && t.condition.LongTexts(TextBytes) != columns.No {
		spans = append(slices.Clip(spans), columns.Span{From: longKey, To: []byte{columns.KeyLong + 1}})
	}
	reads, total := make([]spanRead, len(spans)), 0
	for i, span := range spans {
		reads[i] = spanRead{span: span, covers: f.Covers(span, t.condition.Text == nil)}
		for _, c := range reads[i].covers {
			if _, have := e.at[c.Place]; !have {
				total += c.Length
			}
		}
	}
	if e.size+total > maxReadBytes {
		t.unknown = true
		return
	}
	e.size += total
	for i := range reads {
		for _, c := range reads[i].covers {
			reads[i].at = append(reads[i].at, e.wants(c.Place))
		}
	}
	t.spans = reads
}

func (e *Evaluation) wants(p Place) int {
	at, ok := e.at[p]
	if !ok {
		at = len(e.want)
		e.at[p], e.want = at, append(e.want, p)
	}
	return at
}

// Blocks says what TakeBlocks wants the bytes of.
func (e *Evaluation) Blocks() []Place { return e.want }

// TakeBlocks takes the bytes of Blocks, in order. It never fails: what is wrong with
// them shows in Rows.
func (e *Evaluation) TakeBlocks(got [][]byte) error {
	e.got = got
	return nil
}

// Rows returns the rows that match for certain, and all that may. The sets are the
// caller's; they may be one.
func (e *Evaluation) Rows() (certain, possible *roaring.Bitmap, err error) {
	b, err := e.root.eval(e)
	if err != nil {
		return nil, nil, fmt.Errorf("evaluate filter on attributes: %w", err)
	}
	return b.certain, b.possible, nil
}

// bounds are the rows that are in a set for certain, and all that may be. Where
// nothing is open they are one bitmap. They are never changed.
type bounds struct{ certain, possible *roaring.Bitmap }

func (b bounds) map2(o bounds, fn func(a, b *roaring.Bitmap) *roaring.Bitmap) bounds {
	out := bounds{certain: fn(b.certain, o.certain)}
	if out.possible = out.certain; b.certain != b.possible || o.certain != o.possible {
		out.possible = fn(b.possible, o.possible)
	}
	return out
}

// not is every row but those: what may be in the set is not certain to be outside.
func (b bounds) not(all *roaring.Bitmap) bounds {
	out := bounds{certain: roaring.AndNot(all, b.possible)}
	if out.possible = out.certain; b.certain != b.possible {
		out.possible = roaring.AndNot(all, b.certain)
	}
	return out
}

func (g *group) eval(e *Evaluation) (bounds, error) {
	out := bounds{e.all, e.all}
	for _, t := range g.must {
		b, err := t.eval(e)
		if err != nil {
			return out, err
		}
		out = out.map2(b, roaring.And)
	}
	any := func(terms []*term) (bounds, error) {
		none := roaring.New()
		union := bounds{none, none}
		for _, t := range terms {
			b, err := t.eval(e)
			if err != nil {
				return union, err
			}
			union = union.map2(b, roaring.Or)
		}
		return union, nil
	}
	if len(g.should) > 0 {
		union, err := any(g.should)
		if err != nil {
			return out, err
		}
		out = out.map2(union, roaring.And)
	}
	if len(g.mustNot) > 0 {
		union, err := any(g.mustNot)
		if err != nil {
			return out, err
		}
		out = out.map2(union.not(e.all), roaring.And)
	}
	return out, nil
}

func (t *term) eval(e *Evaluation) (bounds, error) {
	none := roaring.New()
	switch {
	case t.group != nil:
		return t.group.eval(e)
	case t.condition == nil:
		for _, id := range t.ids {
			if row, ok := e.ids[id]; ok {
				none.Add(row)
			}
		}
		return bounds{none, none}, nil
	case t.unknown:
		return bounds{none, e.all}, nil
	}
	out := bounds{none, none}
	if t.read != nil {
		var err error
		if out, err = t.passing(e); err != nil {
			return out, fmt.Errorf("%q: %w", t.read.path.Name, err)
		}
	}
	if t.condition.Absent {
		return out.not(e.all), nil
	}
	return out, nil
}

// passing are the rows with a value that passes the condition.
func (t *term) passing(e *Evaluation) (bounds, error) {
	certain := roaring.New()
	for i := range t.condition.Spans {
		if err := t.spans[i].addTo(certain, e, t.condition.Text); err != nil {
			return bounds{}, err
		}
	}
	out := bounds{certain, certain}
	if len(t.spans) == len(t.condition.Spans) {
		return out, nil
	}
	long := roaring.New()
	if err := t.spans[len(t.spans)-1].addTo(long, e, nil); err != nil {
		return out, err
	}
	if t.condition.LongTexts(TextBytes) == columns.Yes {
		certain.Or(long)
	} else {
		out.possible = roaring.Or(certain, long)
	}
	return out, nil
}

func (s *spanRead) addTo(set *roaring.Bitmap, e *Evaluation, text func([]byte) bool) error {
	for i, c := range s.covers {
		if err := c.AddTo(set, e.got[s.at[i]], e.rows, s.span, text); err != nil {
			return err
		}
	}
	return nil
}
