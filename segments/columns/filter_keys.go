package columns

import (
	"bytes"
	"maps"
	"slices"
	"time"
)

// Span is a run of sort keys: From ≤ key < To, bytewise.
type Span struct{ From, To []byte }

// kindSpan has all keys of one kind.
func kindSpan(kind byte) Span { return Span{[]byte{kind}, []byte{kind + 1}} }

// keySpan has one key.
func keySpan(key []byte) Span { return Span{key, append(slices.Clone(key), 0)} }

// Condition is a condition on the values that a path leads to, said of their sort
// keys.
type Condition struct {
	Key Key
	// Spans are the keys that pass, ascending and apart. With Text a key of a
	// string has to pass that as well; there are no others then.
	Spans []Span
	Text  func(text []byte) bool
	// Absent: the condition holds for rows that no value of passes.
	Absent bool

	kind    testKind
	longest int // bytes of the longest string compared with
}

// Certainty is what is known of something that was not looked at.
type Certainty uint8

// Certainties.
const (
	No Certainty = iota
	Maybe
	Yes
)

// LongTexts says whether strings of more than limit bytes pass.
func (c *Condition) LongTexts(limit int) Certainty {
	switch {
	case c.kind == textTest, c.longest > limit:
		return Maybe
	case c.kind == exceptTest:
		return Yes
	}
	return No
}

// Term is one of: a condition, ids, a filter.
type Term struct {
	Condition *Condition
	IDs       []string // ascending; not nil for a condition on ids
	Group     *Filter
}

// Terms takes the filter apart: see [Filter] for what the three parts mean.
func (f *Filter) Terms() (must, should, mustNot []Term) {
	return terms(f.must), terms(f.should), terms(f.mustNot)
}

func terms(clauses []clause) []Term {
	out := make([]Term, len(clauses))
	for i, c := range clauses {
		switch {
		case c.group != nil:
			out[i].Group = c.group
		case c.ids != nil:
			out[i].IDs = slices.AppendSeq(make([]string, 0, len(c.ids)), maps.Keys(c.ids))
			slices.Sort(out[i].IDs)
		default:
			out[i].Condition = &Condition{
				Key: Key{c.path}, Spans: c.keys.spans, Text: c.keys.text, Absent: c.absent, kind: c.keys.kind, longest: c.keys.longest,
			}
		}
	}
	return out
}

type testKind uint8

const (
	spanTest testKind = iota
	exceptTest
	textTest
)

// keyTest is the test of a clause as a Condition has it.
type keyTest struct {
	kind    testKind
	spans   []Span
	text    func([]byte) bool
	longest int
}

// sortKeys are the keys of the set, ascending.
func (s *scalars) sortKeys() [][]byte {
	var keys [][]byte
	if s.no {
		keys = append(keys, []byte{KeyFalse})
	}
	if s.yes {
		keys = append(keys, []byte{KeyTrue})
	}
	for i, n := range s.numbers {
		if i == 0 || n.compare(s.numbers[i-1]) != 0 {
			keys = append(keys, n.appendSortKey(nil))
		}
	}
	for _, text := range slices.Sorted(maps.Keys(s.texts)) {
		keys = append(keys, append([]byte{KeyString}, text...))
	}
	return keys
}

func (s *scalars) longest() (n int) {
	for text := range s.texts {
		n = max(n, len(text))
	}
	return n
}

// isOne tests for one of the set.
func (s *scalars) isOne() valueTest {
	s.sorted()
	keys := keyTest{longest: s.longest()}
	for _, key := range s.sortKeys() {
		keys.spans = append(keys.spans, keySpan(key))
	}
	return valueTest{s.has, keys}
}

// isNone tests for a value, not null, that is none of the set.
func (s *scalars) isNone() valueTest {
	s.sorted()
	keys := keyTest{kind: exceptTest, longest: s.longest()}
	from := []byte{KeyFalse}
	for _, key := range s.sortKeys() {
		one := keySpan(key)
		keys.spans = append(keys.spans, Span{from, one.From})
		from = one.To
	}
	keys.spans = append(keys.spans, Span{from, []byte{KeyLong}}, kindSpan(KeyOther))
	return valueTest{s.hasNot, keys}
}

// keyTest is the range on sort keys. One that holds for nothing has a span that
// ends before it begins.
func (r interval) keyTest() keyTest {
	if r[0].time != nil {
		return r.timeTest()
	}
	span := kindSpan(KeyNumber)
	for _, b := range r {
		one := keySpan(b.number.appendSortKey(nil))
		at := one.From
		if b.lower != b.closed { // the bound itself is below
			at = one.To
		}
		if b.lower && bytes.Compare(at, span.From) > 0 {
			span.From = at
		} else if !b.lower && bytes.Compare(at, span.To) < 0 {
			span.To = at
		}
	}
	return keyTest{spans: []Span{span}}
}

// timeSlack is more than a date in some zone can differ from that in another.
const timeSlack = 48 * time.Hour

// timeTest looks only at strings that begin like a date not far from the range.
func (r interval) timeTest() keyTest {
	span := Span{[]byte{KeyString, '0'}, []byte{KeyString, '9' + 1}}
	for _, b := range r {
		at := b.time.UTC().Add(timeSlack)
		if b.lower {
			at = b.time.UTC().Add(-timeSlack)
		}
		if at.Year() < 0 || at.Year() > 9999 {
			continue
		}
		key := append([]byte{KeyString}, at.Format(time.DateOnly)...)
		if b.lower && bytes.Compare(key, span.From) > 0 {
			span.From = key
		} else if !b.lower && bytes.Compare(key, span.To) < 0 {
			span.To = key
		}
	}
	return keyTest{kind: textTest, spans: []Span{span}, text: func(text []byte) bool {
		t, ok := parseTime(text)
		return ok && r.holds(t)
	}}
}
