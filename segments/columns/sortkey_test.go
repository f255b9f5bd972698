package columns

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// genAnyNumber draws numbers of all sizes, many of them near each other and near
// where float64 stops being exact.
func genAnyNumber() *rapid.Generator[string] {
	return rapid.OneOf(
		genNumber,
		rapid.Map(rapid.Int64(), func(n int64) string { return strconv.FormatInt(n, 10) }),
		rapid.Map(rapid.Uint64(), func(n uint64) string { return strconv.FormatUint(n, 10) }),
		rapid.Map(rapid.Uint64Range(0, 5000), func(n uint64) string { return strconv.FormatUint(math.MaxUint64-n, 10) }),
		rapid.Map(rapid.Int64Range(0, 5000), func(n int64) string { return strconv.FormatInt(math.MinInt64+n, 10) }),
		rapid.Map(rapid.Int64Range(-50, 50), func(n int64) string { return strconv.FormatInt(n+1<<53, 10) }),
		rapid.Map(rapid.Float64(), func(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }),
		rapid.Map(rapid.Int32(), func(n int32) string { return strconv.FormatFloat(float64(n)/8, 'f', -1, 64) }),
	)
}

func keyOf(text string) []byte { return appendSortKey(nil, rawValue(text)) }

func TestSortKeysOrderAsNumbersDo(t *testing.T) {
	check := func(t require.TestingT, a, b string) {
		x, _ := parseNumber(rawValue(a))
		y, _ := parseNumber(rawValue(b))
		require.Equal(t, x.compare(y), bytes.Compare(keyOf(a), keyOf(b)), "%s and %s", a, b)
	}
	for _, a := range numberTexts {
		for _, b := range numberTexts {
			check(t, a, b)
		}
	}
	rapid.Check(t, func(t *rapid.T) { check(t, genAnyNumber().Draw(t, "a"), genAnyNumber().Draw(t, "b")) })
}

// A key gives the value back: what is told of it has the same key again.
func TestSortKeysGiveTheValueBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(genAnyNumber(), rapid.Just("true"), rapid.Just("false"), rapid.Just("null"),
			rapid.Map(rapid.OneOf(genString, rapid.String()), func(s string) string { return string(mustJSON(s)) })).Draw(t, "value")
		key := keyOf(text)
		require.True(t, ValidKey(key))
		told := AppendKeyJSON(nil, key)
		require.True(t, json.Valid(told), "%s", told)
		require.Equal(t, key, keyOf(string(told)), "%s told as %s", text, told)
	})
	for text, want := range map[string]string{
		"1.0": "1", "-0.0": "0", "18446744073709551615": "18446744073709551615", "-9223372036854775808": "-9223372036854775808",
		"9007199254740993": "9007199254740993", "0.1": "0.1", "1e-7": "1e-07", "-2.50": "-2.5", "1e400": "1e999", "1e30": "1e+30",
	} {
		require.Equal(t, want, string(AppendKeyJSON(nil, keyOf(text))))
	}
}

func TestSortKeysOfKindsDoNotMix(t *testing.T) {
	ordered := []string{"null", "false", "true", "-1e400", "-1", "0", "1e400", `""`, `"a"`, "{}"}
	for i, a := range ordered {
		for j, b := range ordered {
			require.Equal(t, cmp.Compare(i, j), bytes.Compare(keyOf(a), keyOf(b)), "%s and %s", a, b)
		}
	}
}

func TestKeyPathsHaveOneText(t *testing.T) {
	for given, want := range map[string]string{
		"a": "a", `"a".b`: "a.b", `"a.b".c`: `"a.b".c`, `a[]."b"`: "a[].b", "a[007]": "a[7]", `""`: `""`, `"x[]"`: `"x[]"`,
	} {
		p, err := ParseKey(given)
		require.NoError(t, err)
		require.Equal(t, want, p.String())
		again, err := ParseKey(p.String())
		require.NoError(t, err)
		require.Equal(t, p, again)
	}
}

// The keys of a condition say the same of a value as its test.
func TestConditionsSayTheSameOfKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := genClause(0).Draw(t, "clause")
		if c["key"] == nil {
			return
		}
		f, err := ParseFilter(mustJSON(map[string]any{"must": c}), FilterLimits{})
		require.NoError(t, err)
		for range 4 {
			value := mustJSON(genValue(0).Draw(t, "value"))
			want := f.must[0].keys.says(keyOf(string(value)))
			require.Equal(t, f.must[0].test(rawValue(value)), want, "%s on %s", mustJSON(c), value)
		}
	})
}

func (k keyTest) says(key []byte) bool {
	for _, s := range k.spans {
		if bytes.Compare(key, s.From) >= 0 && bytes.Compare(key, s.To) < 0 {
			return k.text == nil || k.text(key[1:])
		}
	}
	return false
}

type printer struct {
	bytes.Buffer
	names []string
}

func (p *printer) child(place int, name string) (int, bool) {
	p.names = append(p.names, p.names[place]+name)
	return len(p.names) - 1, true
}
func (p *printer) Member(place int, name []byte) (int, bool) { return p.child(place, "."+string(name)) }
func (p *printer) Each(place int) (int, bool)                { return p.child(place, "[]") }
func (p *printer) Value(place int, key []byte) {
	if key[0] == KeyFilled {
		fmt.Fprintf(p, "%s filled\n", p.names[place])
		return
	}
	fmt.Fprintf(p, "%s %d %s\n", p.names[place], key[0], AppendKeyJSON(nil, key))
}
func (p *printer) Shape(place int, shape Shape) {
	fmt.Fprintf(p, "%s shape %d\n", p.names[place], shape)
}

func TestWalk(t *testing.T) {
	p := &printer{names: []string{""}}
	Walk([]byte(`{"a":[1,null,{"b":[]},[2]],"c":{"d":"x"},"e":[],"f":null}`), p)
	require.Equal(t, `.a filled
.a 4 1
.a 1 null
.a 7 null
.a[].b shape 1
.a 7 null
.a shape 3
.c shape 4
.c filled
.c 7 null
.c.d shape 4
.c.d filled
.c.d 5 "x"
.e shape 1
.f shape 4
.f 1 null
`, p.String())
}
