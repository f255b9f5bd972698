package columns

import (
	"fmt"
	"slices"
	"strings"
)

// FilterLimits bounds a filter.
type FilterLimits struct {
	// Clauses is how many clauses it may have, nested filters included.
	// 0 means 1000.
	Clauses int
	// Depth is how deep filters may nest; a filter without nested ones is 1
	// deep. 0 means 16.
	Depth int
}

// FilterError says what is wrong with a filter. Path is where, such as
// "filter.must[2].range.gte"; Problem says what was found and what is wanted.
type FilterError struct{ Path, Problem string }

func (e *FilterError) Error() string { return e.Path + ": " + e.Problem }

// ParseFilter reads a filter; [Filter] says what it may look like. Unknown keys
// are errors, and so is everything that could only be a mistake. The error is a
// *FilterError.
func ParseFilter(json []byte, limits FilterLimits) (*Filter, error) {
	if limits.Clauses == 0 {
		limits.Clauses = 1000
	}
	if limits.Depth == 0 {
		limits.Depth = 16
	}
	p := filterParser{limits: limits}
	f, err := p.document(json)
	if err != nil {
		return nil, err
	}
	return f, nil
}

type filterParser struct {
	limits  FilterLimits
	clauses int
}

func problem(path, format string, args ...any) *FilterError {
	return &FilterError{Path: path, Problem: fmt.Sprintf(format, args...)}
}

func wantKind(path string, v rawValue, want string) *FilterError {
	return problem(path, "is %s, want %s", kindName(v), want)
}

func (p *filterParser) document(json []byte) (*Filter, error) {
	if err := checkJSON(json); err != nil {
		return nil, problem("filter", "%v", err)
	}
	v := rawDocument(json)
	if isNull(v) {
		return new(Filter), nil
	}
	f, err := p.filter(v, "filter", 1)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// members returns the members of an object that are not null, after checking
// their names.
func members(v rawValue, path string, allowed ...string) (map[string]rawValue, *FilterError) {
	if v.kind() != '{' {
		return nil, wantKind(path, v, "an object")
	}
	out := map[string]rawValue{}
	for it := v.iterate(); it.next(); {
		name, _ := it.name.text()
		if !slices.Contains(allowed, string(name)) {
			return nil, problem(path, "has an unknown key %q, want %s", name, orList(allowed))
		}
		if !isNull(it.value) {
			out[string(name)] = it.value
		}
	}
	return out, nil
}

// orList is "a, b or c".
func orList(names []string) string {
	if len(names) == 1 {
		return names[0]
	}
	return strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
}

var filterParts = []string{"must", "should", "must_not"}

func (p *filterParser) filter(v rawValue, path string, depth int) (*Filter, *FilterError) {
	if depth > p.limits.Depth {
		return nil, problem(path, "filters nest deeper than %d", p.limits.Depth)
	}
	parts, err := members(v, path, filterParts...)
	if err != nil {
		return nil, err
	}
	f := new(Filter)
	for i, clauses := range []*[]clause{&f.must, &f.should, &f.mustNot} {
		part, ok := parts[filterParts[i]]
		if !ok {
			continue
		}
		if err := p.part(f, clauses, part, path+"."+filterParts[i], depth); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// part reads the clauses of must, should or must_not.
func (p *filterParser) part(f *Filter, clauses *[]clause, v rawValue, path string, depth int) *FilterError {
	add := func(v rawValue, path string) *FilterError {
		if p.clauses++; p.clauses > p.limits.Clauses {
			return problem(path, "filter has more than %d clauses", p.limits.Clauses)
		}
		c, err := p.clause(v, path, depth)
		if err != nil {
			return err
		}
		switch {
		case c.group != nil:
			f.needsID = f.needsID || c.group.needsID
			f.needsData = f.needsData || c.group.needsData
		case c.ids != nil:
			f.needsID = true
		default:
			f.needsData = true
		}
		*clauses = append(*clauses, c)
		return nil
	}
	switch v.kind() {
	case '{':
		return add(v, path)
	case '[':
		i := 0
		for it := v.iterate(); it.next(); i++ {
			if err := add(it.value, fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
		return nil
	}
	return wantKind(path, v, "an array of clauses or one clause")
}

func (p *filterParser) clause(v rawValue, path string, depth int) (clause, *FilterError) {
	m, err := members(v, path, "key", "match", "range", "is_null", "is_empty", "has_id", "must", "should", "must_not")
	if err != nil {
		return clause{}, err
	}
	// What a clause is about decides which keys may stand beside.
	about, beside := "", []string(nil)
	for _, kind := range []struct {
		key    string
		beside []string
	}{
		{"key", []string{"match", "range"}}, {"is_null", nil}, {"is_empty", nil}, {"has_id", nil},
		{"must", filterParts}, {"should", filterParts}, {"must_not", filterParts},
	} {
		if _, ok := m[kind.key]; ok {
			about, beside = kind.key, kind.beside
			break
		}
	}
	if about == "" {
		return clause{}, problem(path, "has no condition, want key with match or range, is_null, is_empty, has_id, must, should or must_not")
	}
	for name := range m {
		if name != about && !slices.Contains(beside, name) {
			return clause{}, problem(path, "has both %q and %q, want one condition a clause", about, name)
		}
	}
	switch about {
	case "key":
		return p.fieldClause(m, path)
	case "is_null":
		keys, err := keyOnly(m["is_null"], path+".is_null")
		return clause{path: keys, test: onElements(isNull), keys: keyTest{spans: []Span{kindSpan(KeyNull)}}}, err
	case "is_empty":
		keys, err := keyOnly(m["is_empty"], path+".is_empty")
		return clause{path: keys, test: isFilled, absent: true, keys: keyTest{spans: []Span{kindSpan(KeyFilled)}}}, err
	case "has_id":
		ids, err := parseIDs(m["has_id"], path+".has_id")
		return clause{ids: ids}, err
	}
	group, err := p.filter(v, path, depth+1)
	return clause{group: group}, err
}

func keyOnly(v rawValue, path string) (keyPath, *FilterError) {
	m, err := members(v, path, "key")
	if err != nil {
		return nil, err
	}
	return parseKey(m["key"], path+".key")
}

func parseKey(v rawValue, path string) (keyPath, *FilterError) {
	text, ok := v.text()
	if !ok {
		return nil, wantKind(path, v, "a string")
	}
	keys, err := parseKeyPath(string(text))
	if err != nil {
		return nil, problem(path, "is %q: %v", text, err)
	}
	return keys, nil
}

func parseIDs(v rawValue, path string) (map[string]struct{}, *FilterError) {
	if v.kind() != '[' {
		return nil, wantKind(path, v, "an array of ids")
	}
	ids := map[string]struct{}{}
	i := 0
	for it := v.iterate(); it.next(); i++ {
		text, ok := it.value.text()
		if n, isNumber := parseNumber(it.value); !ok && isNumber && !n.isFloat {
			text, ok = it.value, true
		}
		if !ok {
			return nil, wantKind(fmt.Sprintf("%s[%d]", path, i), it.value, "a string or an integer")
		}
		ids[string(text)] = struct{}{}
	}
	return ids, nil
}

func (p *filterParser) fieldClause(m map[string]rawValue, path string) (clause, *FilterError) {
	keys, err := parseKey(m["key"], path+".key")
	if err != nil {
		return clause{}, err
	}
	match, hasMatch := m["match"]
	limits, hasRange := m["range"]
	if hasMatch == hasRange {
		return clause{}, problem(path, "has a key, want either match or range with it")
	}
	var t valueTest
	if hasMatch {
		t, err = parseMatch(match, path+".match")
	} else {
		t, err = parseRange(limits, path+".range")
	}
	if err != nil {
		return clause{}, err
	}
	return clause{path: keys, test: onElements(t.test), keys: t.keys}, nil
}
