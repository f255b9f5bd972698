package columns

import (
	"slices"
	"time"
)

// Filter says which rows a query may return. It has the shape that Qdrant's
// clients send:
//
//	{"must": […], "should": […], "must_not": […]}
//
// each an array of clauses or a single one. All of must, at least one of should
// and none of must_not have to hold; an absent, null or empty part always holds,
// so {} matches every row. A clause is one of
//
//	{"key": K, "match": {"value": V}}      the value is V
//	{"key": K, "match": {"any": [V…]}}     the value is one of them
//	{"key": K, "match": {"except": [V…]}}  there is a value, not null, and it is none of them
//	{"key": K, "match": {"text": T}}       every word of T is a word of the value
//	{"key": K, "range": {gt, gte, lt, lte}}
//	{"is_null": {"key": K}}                the value is null, or an array with a null in it
//	{"is_empty": {"key": K}}               there is no value, or it is null or []
//	{"has_id": [ID…]}                      the row has one of these ids
//	{"must": …, …}                         a filter
//
// Semantics are Qdrant's where it documents any:
//
//   - A key is a path through objects, "a.b". Arrays of objects are entered with
//     brackets, "a[].b" for every element and "a[0].b" for one; a name with a dot
//     in it is quoted, "\"a.b\".c". A path that leads nowhere matches nothing but
//     is_empty; row metadata that is absent is like {}.
//   - match and range on an array hold when they hold for any of its elements.
//     Arrays inside arrays are not entered.
//   - V is a string, a number or a boolean. Kinds never equal each other: 1 is
//     not "1" and not true. Strings are compared byte by byte after decoding.
//   - Numbers are compared by value: 1, 1.0 and 1e0 are the same. Integers of 64
//     bits, signed and unsigned, are exact; any other number is the nearest
//     float64, and comparing it with an integer is exact again.
//   - range takes numbers or date-times, not both. Date-times are RFC 3339, or
//     without zone (UTC), seconds or time of day, in the filter and in the
//     metadata; strings that are no date-times do not match. A null bound is no
//     bound.
//   - A word is a longest run of Unicode letters, marks and digits; case does not
//     matter (simple folding). Only strings have words.
//   - Ids are strings; an integer in has_id stands for its digits.
//
// A Filter is immutable and safe for concurrent use.
type Filter struct {
	must, should, mustNot []clause
	needsID, needsData    bool
}

// clause is one of: a condition on the values a path leads to, ids, a filter.
type clause struct {
	path   keyPath
	test   func(rawValue) bool // on values, with path
	absent bool                // the clause holds when no value passes test, not when one does
	keys   keyTest             // what test does, on sort keys
	ids    map[string]struct{}
	group  *Filter
}

// Match says whether a row passes. metadata is its JSON object, validated by
// [ValidateMetadata]; nil for none. It allocates for escaped strings and for
// date-times only.
func (f *Filter) Match(id string, metadata []byte) bool {
	return f.match(id, rawDocument(metadata))
}

// MatchesAll says whether the filter has no clause.
func (f *Filter) MatchesAll() bool {
	return len(f.must) == 0 && len(f.should) == 0 && len(f.mustNot) == 0
}

// NeedsMetadata says whether Match looks at metadata; else nil will do.
func (f *Filter) NeedsMetadata() bool { return f.needsData }

// NeedsID says whether Match looks at the id; else any will do.
func (f *Filter) NeedsID() bool { return f.needsID }

func (f *Filter) match(id string, document rawValue) bool {
	for i := range f.must {
		if !f.must[i].match(id, document) {
			return false
		}
	}
	for i := range f.mustNot {
		if f.mustNot[i].match(id, document) {
			return false
		}
	}
	for i := range f.should {
		if f.should[i].match(id, document) {
			return true
		}
	}
	return len(f.should) == 0
}

func (c *clause) match(id string, document rawValue) bool {
	switch {
	case c.group != nil:
		return c.group.match(id, document)
	case c.ids != nil:
		_, ok := c.ids[id]
		return ok
	}
	return c.path.any(document, c.test) != c.absent
}

// onElements tests a value, or the elements of an array until one passes.
func onElements(test func(rawValue) bool) func(rawValue) bool {
	return func(v rawValue) bool {
		if v.kind() != '[' {
			return test(v)
		}
		for it := v.iterate(); it.next(); {
			if test(it.value) {
				return true
			}
		}
		return false
	}
}

func isNull(v rawValue) bool { return v.kind() == 'n' }

// isFilled is false for null and [].
func isFilled(v rawValue) bool {
	if v.kind() == '[' {
		it := v.iterate()
		return it.next()
	}
	return !isNull(v)
}

// scalars is a set of strings, numbers and booleans.
type scalars struct {
	texts   map[string]struct{}
	numbers []number // sorted
	yes, no bool
}

func (s *scalars) has(v rawValue) bool {
	switch v.kind() {
	case '"':
		if len(s.texts) == 0 {
			return false
		}
		text, ok := v.text()
		if !ok {
			return false
		}
		_, ok = s.texts[string(text)]
		return ok
	case 't':
		return s.yes
	case 'f':
		return s.no
	}
	if len(s.numbers) == 0 {
		return false
	}
	n, ok := parseNumber(v)
	if !ok {
		return false
	}
	_, ok = slices.BinarySearchFunc(s.numbers, n, number.compare)
	return ok
}

// hasNot is has turned round, for values only: null is none.
func (s *scalars) hasNot(v rawValue) bool { return !isNull(v) && !s.has(v) }

// bound is one end of a range. Exactly one of its values is set.
type bound struct {
	holds         func(order int) bool // of the value compared with the bound
	lower, closed bool                 // gt or gte; gte or lte
	number        *number
	time          *time.Time
}

// interval is a range: all of its bounds must hold.
type interval []bound

func (r interval) has(v rawValue) bool {
	if r[0].time != nil {
		text, ok := v.text()
		if !ok {
			return false
		}
		t, ok := parseTime(text)
		return ok && r.holds(t)
	}
	n, ok := parseNumber(v)
	if !ok {
		return false
	}
	for _, b := range r {
		if !b.holds(n.compare(*b.number)) {
			return false
		}
	}
	return true
}

func (r interval) holds(t time.Time) bool {
	for _, b := range r {
		if !b.holds(t.Compare(*b.time)) {
			return false
		}
	}
	return true
}
