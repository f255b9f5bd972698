package columns

import (
	"fmt"
	"slices"
)

// valueTest is a condition on one value, on its JSON and on its sort key.
type valueTest struct {
	test func(rawValue) bool
	keys keyTest
}

// parseMatch reads {"value" | "any" | "except" | "text": …} into a test of one
// value.
func parseMatch(v rawValue, path string) (valueTest, *FilterError) {
	kinds := []string{"value", "any", "except", "text"}
	m, err := members(v, path, kinds...)
	if err != nil {
		return valueTest{}, err
	}
	if len(m) != 1 {
		return valueTest{}, problem(path, "has %d conditions, want one of %s", len(m), orList(kinds))
	}
	var set scalars
	for kind, operand := range m {
		path += "." + kind
		switch kind {
		case "value":
			if err := set.add(operand, path); err != nil {
				return valueTest{}, err
			}
			return set.isOne(), nil
		case "text":
			return parseText(operand, path)
		}
		if operand.kind() != '[' {
			return valueTest{}, wantKind(path, operand, "an array")
		}
		i := 0
		for it := operand.iterate(); it.next(); i++ {
			if err := set.add(it.value, fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return valueTest{}, err
			}
		}
		if kind == "except" {
			return set.isNone(), nil
		}
	}
	return set.isOne(), nil
}

func (s *scalars) add(v rawValue, path string) *FilterError {
	if text, ok := v.text(); ok {
		if s.texts == nil {
			s.texts = map[string]struct{}{}
		}
		s.texts[string(text)] = struct{}{}
		return nil
	}
	switch n, isNumber := parseNumber(v); {
	case isNumber:
		s.numbers = append(s.numbers, n)
	case v.kind() == 't':
		s.yes = true
	case v.kind() == 'f':
		s.no = true
	default:
		return wantKind(path, v, "a string, a number or a boolean")
	}
	return nil
}

func (s *scalars) sorted() *scalars {
	slices.SortFunc(s.numbers, number.compare)
	return s
}

func parseText(v rawValue, path string) (valueTest, *FilterError) {
	text, ok := v.text()
	if !ok {
		return valueTest{}, wantKind(path, v, "a string")
	}
	var words []string
	for token := range textTokens(text) {
		words = append(words, string(token))
	}
	if len(words) == 0 {
		return valueTest{}, problem(path, "is %q, want at least one word", text)
	}
	return valueTest{
		test: func(v rawValue) bool {
			text, ok := v.text()
			return ok && hasTokens(text, words)
		},
		keys: keyTest{
			kind: textTest, spans: []Span{kindSpan(KeyString)},
			text: func(text []byte) bool { return hasTokens(text, words) },
		},
	}, nil
}

// parseRange reads {gt, gte, lt, lte} into a test of one value.
func parseRange(v rawValue, path string) (valueTest, *FilterError) {
	names := []string{"gt", "gte", "lt", "lte"}
	bounds := []bound{
		{holds: func(order int) bool { return order > 0 }, lower: true},
		{holds: func(order int) bool { return order >= 0 }, lower: true, closed: true},
		{holds: func(order int) bool { return order < 0 }},
		{holds: func(order int) bool { return order <= 0 }, closed: true},
	}
	m, err := members(v, path, names...)
	if err != nil {
		return valueTest{}, err
	}
	var r interval
	for i, name := range names {
		operand, ok := m[name]
		if !ok {
			continue
		}
		b := bounds[i]
		if n, ok := parseNumber(operand); ok {
			b.number = &n
		} else if text, ok := operand.text(); !ok {
			return valueTest{}, wantKind(path+"."+name, operand, "a number or a date-time")
		} else if t, ok := parseTime(text); ok {
			b.time = &t
		} else {
			return valueTest{}, problem(path+"."+name, "is %q, want a number or an RFC 3339 date-time", text)
		}
		if len(r) > 0 && (r[0].time == nil) != (b.time == nil) {
			return valueTest{}, problem(path, "mixes numbers and date-times")
		}
		r = append(r, b)
	}
	if len(r) == 0 {
		return valueTest{}, problem(path, "has no bound, want %s", orList(names))
	}
	return valueTest{r.has, r.keyTest()}, nil
}
