package columns

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func parseFilter(t require.TestingT, text string) *Filter {
	f, err := ParseFilter([]byte(text), FilterLimits{})
	require.NoError(t, err, text)
	return f
}

// What Filter's comment promises, example by example.
func TestFilterSemantics(t *testing.T) {
	const metadata = `{"n": 5, "s": "red", "t": ["red", "blue", null], "e": [], "z": null, "yes": true, "a": {"b": 1, "c.d": 2},
		"l": [{"p": 1, "q": ["x"]}, {"p": 2}], "ll": [[1, 2]], "when": "2024-05-01T12:00:00+02:00", "text": "Größe: the Quick-brown FOX", "": 9}`
	for _, test := range []struct {
		filter string
		want   bool
	}{
		{`{}`, true},
		{`null`, true},
		{`{"must":[],"should":[],"must_not":null}`, true},
		{`{"must":{"key":"n","match":{"value":5}}}`, true},
		{`{"must":{"key":"n","match":{"value":5.0}}}`, true},
		{`{"must":{"key":"n","match":{"value":"5"}}}`, false},
		{`{"must":{"key":"yes","match":{"value":true}}}`, true},
		{`{"must":{"key":"yes","match":{"value":"true"}}}`, false},
		{`{"must":{"key":"s","match":{"value":"r\u0065d"}}}`, true},
		{`{"must":{"key":"t","match":{"value":"blue"}}}`, true},
		{`{"must":{"key":"ll","match":{"value":1}}}`, false},
		{`{"must":{"key":"ll[]","match":{"value":1}}}`, true},
		{`{"must":{"key":"t","match":{"any":["x","red"]}}}`, true},
		{`{"must":{"key":"t","match":{"any":[]}}}`, false},
		{`{"must":{"key":"s","match":{"except":["red"]}}}`, false},
		{`{"must":{"key":"t","match":{"except":["red"]}}}`, true},
		{`{"must":{"key":"t","match":{"except":["red","blue"]}}}`, false},
		{`{"must":{"key":"n","match":{"except":["red"]}}}`, true},
		{`{"must":{"key":"n","match":{"except":[]}}}`, true},
		{`{"must":{"key":"z","match":{"except":["red"]}}}`, false},
		{`{"must":{"key":"missing","match":{"except":["red"]}}}`, false},
		{`{"must_not":{"key":"missing","match":{"value":1}}}`, true},
		{`{"must":{"key":"text","match":{"text":"quick GRÖSSE"}}}`, false}, // simple folding: ß is not ss
		{`{"must":{"key":"text","match":{"text":"fox GRÖßE"}}}`, true},
		{`{"must":{"key":"text","match":{"text":"quick-fox"}}}`, true},
		{`{"must":{"key":"text","match":{"text":"qui"}}}`, false},
		{`{"must":{"key":"n","match":{"text":"5"}}}`, false},
		{`{"must":{"key":"n","range":{"gt":4,"lt":6}}}`, true},
		{`{"must":{"key":"n","range":{"gt":5}}}`, false},
		{`{"must":{"key":"n","range":{"gte":5,"lte":null}}}`, true},
		{`{"must":{"key":"s","range":{"gte":0}}}`, false},
		{`{"must":{"key":"when","range":{"gte":"2024-05-01T10:00:00Z","lte":"2024-05-01T10:00:00Z"}}}`, true},
		{`{"must":{"key":"when","range":{"gt":"2024-05-01"}}}`, true},
		{`{"must":{"key":"s","range":{"gt":"2024-05-01"}}}`, false},
		{`{"must":{"is_null":{"key":"z"}}}`, true},
		{`{"must":{"is_null":{"key":"t"}}}`, true},
		{`{"must":{"is_null":{"key":"missing"}}}`, false},
		{`{"must":{"is_empty":{"key":"missing"}}}`, true},
		{`{"must":{"is_empty":{"key":"z"}}}`, true},
		{`{"must":{"is_empty":{"key":"e"}}}`, true},
		{`{"must":{"is_empty":{"key":"t"}}}`, false},
		{`{"must":{"is_empty":{"key":"l[].r"}}}`, true},
		{`{"must":{"has_id":["other","row"]}}`, true},
		{`{"must":{"has_id":[7]}}`, false},
		{`{"must":{"has_id":[]}}`, false},
		{`{"must":{"key":"a.b","match":{"value":1}}}`, true},
		{`{"must":{"key":"a.\"c.d\"","match":{"value":2}}}`, true},
		{`{"must":{"key":"a.c.d","match":{"value":2}}}`, false},
		{`{"must":{"key":"l.p","match":{"value":2}}}`, false},
		{`{"must":{"key":"l[].p","match":{"value":2}}}`, true},
		{`{"must":{"key":"l[0].p","match":{"value":2}}}`, false},
		{`{"must":{"key":"l[].q","match":{"value":"x"}}}`, true},
		{`{"must":{"key":"\"\"","match":{"value":9}}}`, true},
		{`{"should":[{"key":"n","match":{"value":1}},{"key":"n","match":{"value":5}}]}`, true},
		{`{"must":{"key":"n","match":{"value":5}},"should":{"key":"n","match":{"value":1}}}`, false},
		{`{"must":[{"should":[{"key":"n","match":{"value":1}},{"must_not":{"key":"s","match":{"value":"blue"}}}]}]}`, true},
	} {
		require.Equal(t, test.want, parseFilter(t, test.filter).Match("row", []byte(metadata)), test.filter)
	}
	require.True(t, parseFilter(t, `{"must":{"is_empty":{"key":"a"}}}`).Match("row", nil))
	require.True(t, parseFilter(t, `{"must":{"has_id":[7]}}`).Match("7", nil))
}

func TestFilterErrors(t *testing.T) {
	for text, want := range map[string]string{
		``:                      `filter: not json: empty`,
		`[]`:                    `filter: is an array, want an object`,
		`{} {}`:                 `filter: not json: more than one value, the second after byte 2`,
		`{"must":[],"must":[]}`: `filter: not json: duplicate object member name at byte 11, in /must`,
		`{"most":[]}`:           `filter: has an unknown key "most", want must, should or must_not`,
		`{"must":3}`:            `filter.must: is a number, want an array of clauses or one clause`,
		`{"must":[3]}`:          `filter.must[0]: is a number, want an object`,
		`{"must":[{}]}`:         `filter.must[0]: has no condition, want key with match or range, is_null, is_empty, has_id, must, should or must_not`,
		`{"must":{"kee":"a"}}`:  `filter.must: has an unknown key "kee", want key, match, range, is_null, is_empty, has_id, must, should or must_not`,
		`{"should":[{"has_id":["a"]},{"key":"a"}]}`:                                `filter.should[1]: has a key, want either match or range with it`,
		`{"must":{"key":"a","match":{"value":1},"range":{"gt":1}}}`:                `filter.must: has a key, want either match or range with it`,
		`{"must":{"key":"a","match":{"value":1},"must":[]}}`:                       `filter.must: has both "key" and "must", want one condition a clause`,
		`{"must":{"match":{"value":1}}}`:                                           `filter.must: has no condition, want key with match or range, is_null, is_empty, has_id, must, should or must_not`,
		`{"must":{"key":7,"match":{"value":1}}}`:                                   `filter.must.key: is a number, want a string`,
		`{"must":{"key":"a..b","match":{"value":1}}}`:                              `filter.must.key: is "a..b": name is empty`,
		`{"must":{"key":"a[x]","match":{"value":1}}}`:                              `filter.must.key: is "a[x]": index is "x", want a number or nothing`,
		`{"must":{"key":"a[","match":{"value":1}}}`:                                `filter.must.key: is "a[": bracket is not closed`,
		`{"must":{"key":"\"a","match":{"value":1}}}`:                               `filter.must.key: is "\"a": quote is not closed`,
		`{"must":{"key":"a[]b","match":{"value":1}}}`:                              `filter.must.key: is "a[]b": "b" follows a name, want a dot or a bracket`,
		`{"must":{"key":"a","match":{}}}`:                                          `filter.must.match: has 0 conditions, want one of value, any, except or text`,
		`{"must":{"key":"a","match":{"value":{}}}}`:                                `filter.must.match.value: is an object, want a string, a number or a boolean`,
		`{"must":{"key":"a","match":{"any":["x",null]}}}`:                          `filter.must.match.any[1]: is null, want a string, a number or a boolean`,
		`{"must":{"key":"a","match":{"except":"x"}}}`:                              `filter.must.match.except: is a string, want an array`,
		`{"must":{"key":"a","match":{"text":"-"}}}`:                                `filter.must.match.text: is "-", want at least one word`,
		`{"must":[{"has_id":[]},{"has_id":[]},{"key":"a","range":{"gte":true}}]}`:  `filter.must[2].range.gte: is a boolean, want a number or a date-time`,
		`{"must":{"key":"a","range":{"gte":"soon"}}}`:                              `filter.must.range.gte: is "soon", want a number or an RFC 3339 date-time`,
		`{"must":{"key":"a","range":{"gte":1,"lt":"2024-01-01"}}}`:                 `filter.must.range: mixes numbers and date-times`,
		`{"must":{"key":"a","range":{"above":1}}}`:                                 `filter.must.range: has an unknown key "above", want gt, gte, lt or lte`,
		`{"must":{"key":"a","range":{"gt":null}}}`:                                 `filter.must.range: has no bound, want gt, gte, lt or lte`,
		`{"must_not":{"has_id":"a"}}`:                                              `filter.must_not.has_id: is a string, want an array of ids`,
		`{"must_not":{"has_id":["a",1.5]}}`:                                        `filter.must_not.has_id[1]: is a number, want a string or an integer`,
		`{"must":{"is_null":"a"}}`:                                                 `filter.must.is_null: is a string, want an object`,
		`{"must":{"is_empty":{}}}`:                                                 `filter.must.is_empty.key: is nothing, want a string`,
		`{"must":[{"should":[{"must_not":[{"key":"a","match":{"regex":"a"}}]}]}]}`: `filter.must[0].should[0].must_not[0].match: has an unknown key "regex", want value, any, except or text`,
	} {
		_, err := ParseFilter([]byte(text), FilterLimits{})
		require.EqualError(t, err, want, text)
		var typed *FilterError
		require.True(t, errors.As(err, &typed))
		require.True(t, strings.HasPrefix(typed.Path, "filter"))
	}
}

func TestFilterLimits(t *testing.T) {
	wide := func(n int) []byte {
		return []byte(`{"must":[` + strings.TrimSuffix(strings.Repeat(`{"has_id":[]},`, n), ",") + `]}`)
	}
	deep := func(n int) []byte {
		return []byte(strings.Repeat(`{"must":`, n-1) + `{"must":[]}` + strings.Repeat(`}`, n-1))
	}
	for _, test := range []struct {
		filter []byte
		limits FilterLimits
		want   string
	}{
		{wide(1000), FilterLimits{}, ""},
		{wide(1001), FilterLimits{}, "filter.must[1000]: filter has more than 1000 clauses"},
		{wide(3), FilterLimits{Clauses: 2}, "filter.must[2]: filter has more than 2 clauses"},
		{deep(16), FilterLimits{}, ""},
		{deep(17), FilterLimits{}, "filter" + strings.Repeat(".must", 16) + ": filters nest deeper than 16"},
		{deep(2), FilterLimits{Depth: 1}, "filter.must: filters nest deeper than 1"},
	} {
		_, err := ParseFilter(test.filter, test.limits)
		if test.want == "" {
			require.NoError(t, err)
		} else {
			require.EqualError(t, err, test.want)
		}
	}
}

func TestFilterNeeds(t *testing.T) {
	for text, want := range map[string][3]bool{ // id, metadata, all
		`{}`:                                {false, false, true},
		`{"must":{"has_id":["a"]}}`:         {true, false, false},
		`{"must":{"is_empty":{"key":"a"}}}`: {false, true, false},
		`{"must":{"should":[{"has_id":[]},{"is_null":{"key":"a"}}]}}`: {true, true, false},
	} {
		f := parseFilter(t, text)
		require.Equal(t, want, [3]bool{f.NeedsID(), f.NeedsMetadata(), f.MatchesAll()}, text)
	}
}

func TestValidateMetadata(t *testing.T) {
	for text, want := range map[string]string{
		`{}`:                         "",
		" {\"a\": [1e999, -0.10]}\n": "",
		``:                           "metadata: not json: empty",
		`[]`:                         "metadata is an array, want an object",
		`"a"`:                        "metadata is a string, want an object",
		`{"a":1,"a":2}`:              "metadata: not json: duplicate object member name at byte 7, in /a",
		`{"o":{"a":1,"\u0061":2}}`:   "metadata: not json: duplicate object member name at byte 12, in /o/a",
		"{\"a\":\"\xff\"}":           "metadata: not json: invalid UTF-8 at byte 6, in /a",
		`{"a":01}`:                   "metadata: not json: invalid character",
		`{"a":1}{}`:                  "metadata: not json: more than one value, the second after byte 7",
		`{"a":"` + strings.Repeat("x", 100) + `"}`: "metadata has 108 bytes, at most 64 are allowed",
	} {
		err := ValidateMetadata([]byte(text), 64)
		if want == "" {
			require.NoError(t, err, text)
		} else {
			require.ErrorContains(t, err, want, text)
		}
	}
	require.NoError(t, ValidateMetadata(nil, 0))
}

// TestMetadataDepth: what nests deeper than an answer can carry is refused when
// it is written, or every read of the row would fail.
func TestMetadataDepth(t *testing.T) {
	nested := func(open, shut string, n int) []byte {
		return []byte(`{"brackets in \\\" a [[[{{{ string":` + strings.Repeat(open, n-1) + "0" + strings.Repeat(shut, n-1) + "}")
	}
	for _, c := range []struct{ open, shut string }{{"[", "]"}, {`{"a":`, "}"}} {
		require.NoError(t, ValidateMetadata(nested(c.open, c.shut, 100), 1<<20))
		require.EqualError(t, ValidateMetadata(nested(c.open, c.shut, 101), 1<<20), "metadata nests 101 deep, at most 100 are allowed")
	}
	wide := []byte(`{"a":[` + strings.Repeat("[],", 1000) + "{}]}")
	require.NoError(t, ValidateMetadata(wide, 1<<20))
}

func FuzzParseFilter(f *testing.F) {
	f.Add([]byte(`{"must":[{"key":"a[].b","match":{"any":[1,"x"]}},{"key":"a","range":{"gt":"2024-01-01"}}],"should":{"has_id":[1]}}`))
	f.Add([]byte(`{"must_not":[{"is_null":{"key":"\"a.b\"[0]"}},{"must":{"is_empty":{"key":"c"}}}]}`))
	f.Add([]byte(`{"must":{"key":"a","match":{"text":"ſ é"}}}`))
	documents := []string{"", "{}", `{"a":[{"b":1},{"b":"x"}],"c":null}`, `{"a":"2024-02-03 04:05","a.b":[[]]}`}
	f.Fuzz(func(t *testing.T, b []byte) {
		filter, err := ParseFilter(b, FilterLimits{})
		if err != nil {
			var typed *FilterError
			if !errors.As(err, &typed) {
				t.Fatalf("error is %T", err)
			}
			return
		}
		decoded := decodeJSON(b)
		for _, text := range documents {
			document := any(map[string]any{})
			if text != "" {
				document = decodeJSON([]byte(text))
			}
			got := filter.Match("1", []byte(text))
			if strings.Contains(string(b), "\\") { // the oracle takes keys apart more simply
				continue
			}
			if want := oracleFilter(decoded, "1", document); got != want {
				t.Fatalf("filter %s on %s: got %v, want %v", b, text, got, want)
			}
		}
	})
}

func FuzzMatch(f *testing.F) {
	f.Add([]byte(`{"a":[{"b":1},{"b":"x\u0061"}],"c":null,"d":-1.5e3}`))
	f.Add([]byte(`{"a":"2024-02-03T04:05:06.7Z","a.b":[[]],"c":true}`))
	f.Add([]byte(`{"a" "b`))
	var filters []*Filter
	var decoded []any
	for _, key := range []string{"a", "a[].b", "a[0]", "c"} {
		for _, test := range []string{
			`"match":{"value":"xa"}`, `"match":{"any":[1,true,"x"]}`, `"match":{"except":[-1500]}`, `"match":{"text":"xa"}`,
			`"range":{"gt":0}`, `"range":{"lte":"2024-02-03T04:05:06.7Z"}`,
		} {
			text := fmt.Sprintf(`{"must":{"key":%q,%s},"must_not":{"is_null":{"key":%q}},"should":[{"is_empty":{"key":"z"}}]}`, key, test, key)
			filters = append(filters, parseFilter(f, text))
			decoded = append(decoded, decodeJSON([]byte(text)))
		}
	}
	f.Fuzz(func(t *testing.T, metadata []byte) {
		valid := metadata != nil && ValidateMetadata(metadata, 1<<20) == nil
		for i, filter := range filters {
			got := filter.Match("id", metadata) // must not panic, valid or not
			if valid && got != oracleFilter(decoded[i], "id", decodeJSON(metadata)) {
				t.Fatalf("filter %s on %s: got %v", mustJSON(decoded[i]), metadata, got)
			}
		}
	})
}
