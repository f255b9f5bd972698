package columns

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// The oracle evaluates the decoded JSON of a filter on the decoded JSON of a
// document, by the words of Filter's comment, slowly, sharing no code with it.

func oracleFilter(filter any, id string, document any) bool {
	f, _ := filter.(map[string]any)
	list := func(part string) []any {
		switch v := f[part].(type) {
		case nil:
			return nil
		case []any:
			return v
		default:
			return []any{v}
		}
	}
	for _, c := range list("must") {
		if !oracleClause(c.(map[string]any), id, document) {
			return false
		}
	}
	for _, c := range list("must_not") {
		if oracleClause(c.(map[string]any), id, document) {
			return false
		}
	}
	should := list("should")
	for _, c := range should {
		if oracleClause(c.(map[string]any), id, document) {
			return true
		}
	}
	return len(should) == 0
}

func oracleClause(c map[string]any, id string, document any) bool {
	if c["key"] != nil {
		values := oracleFlatten(oracleValues(document, c["key"].(string)))
		for _, v := range values {
			if c["match"] != nil && oracleMatch(c["match"].(map[string]any), v) {
				return true
			}
			if c["range"] != nil && oracleRange(c["range"].(map[string]any), v) {
				return true
			}
		}
		return false
	}
	if n, ok := c["is_null"].(map[string]any); ok {
		for _, v := range oracleFlatten(oracleValues(document, n["key"].(string))) {
			if v == nil {
				return true
			}
		}
		return false
	}
	if e, ok := c["is_empty"].(map[string]any); ok {
		for _, v := range oracleValues(document, e["key"].(string)) {
			if a, isArray := v.([]any); v != nil && !(isArray && len(a) == 0) {
				return false
			}
		}
		return true
	}
	if ids, ok := c["has_id"].([]any); ok {
		for _, want := range ids {
			if fmt.Sprint(want) == id {
				return true
			}
		}
		return false
	}
	return oracleFilter(c, id, document)
}

// oracleFlatten replaces arrays by their elements, once.
func oracleFlatten(values []any) (out []any) {
	for _, v := range values {
		if a, ok := v.([]any); ok {
			out = append(out, a...)
		} else {
			out = append(out, v)
		}
	}
	return out
}

var oracleStep = regexp.MustCompile(`"[^"]*"|\[\d*\]|[^.\[\]"]+`)

func oracleValues(document any, key string) []any {
	values := []any{document}
	for _, step := range oracleStep.FindAllString(key, -1) {
		var next []any
		for _, v := range values {
			a, _ := v.([]any)
			o, _ := v.(map[string]any)
			if step == "[]" {
				next = append(next, a...)
			} else if step[0] == '[' {
				if n, _ := strconv.Atoi(strings.Trim(step, "[]")); n < len(a) {
					next = append(next, a[n])
				}
			} else if member, ok := o[strings.Trim(step, `"`)]; ok {
				next = append(next, member)
			}
		}
		values = next
	}
	return values
}

func oracleMatch(m map[string]any, v any) bool {
	in := func(list []any) bool {
		for _, w := range list {
			if oracleEqual(v, w) {
				return true
			}
		}
		return false
	}
	if text, ok := m["text"].(string); ok {
		s, isString := v.(string)
		words := regexp.MustCompile(`[\p{L}\p{M}\p{Nd}]+`)
		for _, want := range words.FindAllString(text, -1) {
			found := false
			for _, word := range words.FindAllString(s, -1) {
				found = found || strings.EqualFold(word, want)
			}
			if !found {
				return false
			}
		}
		return isString
	}
	if list, ok := m["any"].([]any); ok {
		return in(list)
	}
	if list, ok := m["except"].([]any); ok {
		return v != nil && !in(list)
	}
	return oracleEqual(v, m["value"])
}

func oracleEqual(v, w any) bool {
	switch v := v.(type) {
	case json.Number:
		n, ok := w.(json.Number)
		return ok && oracleCompare(v, n) == 0
	case string:
		return v == w
	case bool:
		return v == w
	}
	return false
}

func oracleCompare(a, b json.Number) int {
	value := func(n json.Number) *big.Float {
		if _, err := strconv.ParseInt(string(n), 10, 64); err == nil {
			f, _, _ := big.ParseFloat(string(n), 10, 200, big.ToNearestEven)
			return f
		}
		if _, err := strconv.ParseUint(string(n), 10, 64); err == nil {
			f, _, _ := big.ParseFloat(string(n), 10, 200, big.ToNearestEven)
			return f
		}
		f, _ := n.Float64()
		if math.IsInf(f, 0) {
			return new(big.Float).SetInf(f < 0)
		}
		return new(big.Float).SetFloat64(f)
	}
	return value(a).Cmp(value(b))
}

func oracleRange(r map[string]any, v any) bool {
	for name, limit := range r {
		order := 0
		switch limit := limit.(type) {
		case nil:
			continue
		case json.Number:
			n, ok := v.(json.Number)
			if !ok {
				return false
			}
			order = oracleCompare(n, limit)
		case string:
			t, ok := oracleTime(v)
			want, _ := oracleTime(limit)
			if !ok {
				return false
			}
			order = t.Compare(want)
		}
		if holds := map[string]bool{"gt": order > 0, "gte": order >= 0, "lt": order < 0, "lte": order <= 0}[name]; !holds {
			return false
		}
	}
	return true
}

func oracleTime(v any) (time.Time, bool) {
	s, _ := v.(string)
	for _, layout := range []string{
		time.RFC3339Nano, "2006-01-02 15:04:05Z07:00", "2006-01-02T15:04Z07:00", "2006-01-02 15:04Z07:00",
		"2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02",
	} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

func decodeJSON(b []byte) any {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		panic(fmt.Sprintf("%v: %s", err, b))
	}
	return v
}

// Generators. The vocabulary is small so that filters often match, and full of
// neighbours that a wrong comparison would confuse.

var numberTexts = []string{
	"0", "-0", "1", "1.0", "1e0", "-1", "1.5", "-1.5", "2", "0.1", "1e400", "-1e400", "1e-400", "9007199254740992", "9007199254740993",
	"9007199254740993.0", "9223372036854775807", "-9223372036854775808", "9223372036854775808", "18446744073709551615", "18446744073709551616", "1.8446744073709552e19",
}

var (
	genName   = rapid.SampledFrom([]string{"a", "b", "c", "a.b", "é", `q\`, ""})
	genNumber = rapid.SampledFrom(numberTexts)
	genString = rapid.SampledFrom([]string{
		"", "a", "A", "1", "true", "null", "x y", "Hello, wörld!", "WÖRLD hello", "say \"hi\"", `back\slash`, "tab\there", "a\u0000b", "日本語 text", "ſ", "S",
		"2024-01-02T03:04:05Z", "2024-01-02T03:04:05+01:00", "2024-01-02 03:04:05.5", "2024-01-02", "2024-01-02T03:04", "2024-13-01", "2024-01-02Tjunk",
	})
	genKey = rapid.SampledFrom([]string{
		"a", "b", "c", `"a.b"`, "a.b", "a.b.c", "a[]", "a[].b", "a[0]", "a[1].b", "b[].a[]", "é", `c."a.b"`, "a[][]", `""`, "q\\",
	})
)

func genValue(depth int) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		kinds := 7
		if depth == 0 {
			kinds = 4
		}
		switch rapid.IntRange(0, kinds).Draw(t, "kind") {
		case 0:
			return nil
		case 1:
			return rapid.Bool().Draw(t, "bool")
		case 2:
			return json.Number(genNumber.Draw(t, "number"))
		case 3, 4:
			return genString.Draw(t, "string")
		case 5:
			return rapid.SliceOfN(genValue(depth-1), 0, 3).Draw(t, "array")
		default:
			return rapid.MapOfN(genName, genValue(depth-1), 0, 4).Draw(t, "object")
		}
	})
}

func genClause(depth int) *rapid.Generator[map[string]any] {
	scalar := rapid.Custom(func(t *rapid.T) any {
		return rapid.OneOf(
			rapid.Map(genNumber, func(s string) any { return json.Number(s) }),
			rapid.Map(genString, func(s string) any { return s }),
			rapid.Map(rapid.Bool(), func(b bool) any { return b }),
		).Draw(t, "scalar")
	})
	return rapid.Custom(func(t *rapid.T) map[string]any {
		key := genKey.Draw(t, "key")
		kinds := 9
		if depth == 0 {
			kinds = 7
		}
		match := func(kind string, v any) map[string]any {
			return map[string]any{"key": key, "match": map[string]any{kind: v}}
		}
		switch rapid.IntRange(0, kinds).Draw(t, "kind") {
		case 0:
			return match("value", scalar.Draw(t, "value"))
		case 1:
			return match("any", rapid.SliceOfN(scalar, 0, 4).Draw(t, "any"))
		case 2:
			return match("except", rapid.SliceOfN(scalar, 0, 4).Draw(t, "except"))
		case 3:
			return match("text", rapid.SampledFrom([]string{"hello", "wörld Hello", "日本語", "a", "1", "s"}).Draw(t, "text"))
		case 4, 5:
			limit := rapid.Map(genNumber, func(s string) any { return json.Number(s) })
			if rapid.Bool().Draw(t, "dates") {
				limit = rapid.Map(rapid.SampledFrom([]string{"2024-01-02T03:04:05Z", "2024-01-02T02:04:05Z", "2024-01-02", "2025-01-01 00:00"}), func(s string) any { return s })
			}
			names := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"gt", "gte", "lt", "lte"}), 1, 3, rapid.ID[string]).Draw(t, "bounds")
			bounds := map[string]any{}
			for _, name := range names {
				bounds[name] = limit.Draw(t, name)
			}
			return map[string]any{"key": key, "range": bounds}
		case 6:
			return map[string]any{rapid.SampledFrom([]string{"is_null", "is_empty"}).Draw(t, "is"): map[string]any{"key": key}}
		case 7:
			return map[string]any{"has_id": rapid.SliceOfN(rapid.OneOf(
				rapid.Map(rapid.SampledFrom([]string{"x", "y", "7"}), func(s string) any { return s }),
				rapid.Just[any](json.Number("7")),
			), 0, 3).Draw(t, "ids")}
		default:
			f := genFilter(depth-1).Draw(t, "nested")
			if len(f) == 0 {
				f["must"] = []any{}
			}
			return f
		}
	})
}

func genFilter(depth int) *rapid.Generator[map[string]any] {
	return rapid.Custom(func(t *rapid.T) map[string]any {
		f := map[string]any{}
		for _, part := range filterParts {
			switch rapid.IntRange(0, 4).Draw(t, part) {
			case 0:
				f[part] = genClause(depth).Draw(t, "single")
			case 1, 2:
				f[part] = rapid.SliceOfN(genClause(depth), 0, 3).Draw(t, "clauses")
			}
		}
		return f
	})
}

// encodeDocument writes a document the way users do: indented at times, with
// escapes that need not be.
func encodeDocument(t *rapid.T, v any) []byte {
	b := mustJSON(v)
	if rapid.Bool().Draw(t, "indent") {
		var out bytes.Buffer
		if err := json.Indent(&out, b, " ", "\t"); err != nil {
			t.Fatal(err)
		}
		b = out.Bytes()
	}
	if rapid.Bool().Draw(t, "escape") {
		b = bytes.ReplaceAll(b, []byte(`"a`), []byte(`"\u0061`))
	}
	return b
}

// checkOracle compares matches of a parsed filter with the oracle.
func checkOracle(t *rapid.T, match func(f *Filter, id string, metadata []byte) bool) {
	text := mustJSON(genFilter(2).Draw(t, "filter"))
	f, err := ParseFilter(text, FilterLimits{})
	require.NoError(t, err, "%s", text)
	for range 4 {
		id := rapid.SampledFrom([]string{"x", "y", "7", "z"}).Draw(t, "id")
		var metadata []byte
		document := any(map[string]any{})
		if rapid.IntRange(0, 9).Draw(t, "metadata") > 0 {
			metadata = encodeDocument(t, rapid.MapOfN(genName, genValue(3), 0, 5).Draw(t, "document"))
			require.NoError(t, ValidateMetadata(metadata, 1<<20))
			document = decodeJSON(metadata)
		}
		want := oracleFilter(decodeJSON(text), id, document)
		if got := match(f, id, metadata); got != want {
			t.Fatalf("filter %s\nid %q\nmetadata %s\ngot %v, want %v", text, id, metadata, got, want)
		}
		if !f.NeedsMetadata() && match(f, id, nil) != want {
			t.Fatalf("filter %s says it needs no metadata", text)
		}
		if !f.NeedsID() && match(f, "", metadata) != want {
			t.Fatalf("filter %s says it needs no id", text)
		}
	}
}

func TestFilterMatchesOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		for range 5 {
			checkOracle(t, (*Filter).Match)
		}
	})
}

// wrongMatch is Match with classic mistakes planted.
var wrongMatch = map[string]func(f *Filter, id string, metadata []byte) bool{
	"should is optional beside must": func(f *Filter, id string, metadata []byte) bool {
		g := *f
		if len(g.must) > 0 {
			g.should = nil
		}
		return g.Match(id, metadata)
	},
	"null counts as missing": func(f *Filter, id string, metadata []byte) bool {
		return f.Match(id, bytes.ReplaceAll(metadata, []byte("null"), []byte("[]")))
	},
	"escapes are not decoded": func(f *Filter, id string, metadata []byte) bool {
		return f.Match(id, bytes.ReplaceAll(metadata, []byte(`\u0061`), []byte(`\\u0061`)))
	},
}

// A checker that cannot fail proves nothing: each planted bug must be caught.
func TestFilterOracleCatchesPlantedBugs(t *testing.T) {
	for name, wrong := range wrongMatch {
		t.Run(name, func(t *testing.T) {
			caught := false
			draw := rapid.Custom(func(rt *rapid.T) bool {
				text := mustJSON(genFilter(1).Draw(rt, "filter"))
				f, err := ParseFilter(text, FilterLimits{})
				if err != nil {
					return false
				}
				metadata := encodeDocument(rt, rapid.MapOfN(genName, genValue(2), 0, 5).Draw(rt, "document"))
				return wrong(f, "x", metadata) != oracleFilter(decodeJSON(text), "x", decodeJSON(metadata))
			})
			for seed := 0; seed < 50_000 && !caught; seed++ {
				caught = draw.Example(seed)
			}
			require.True(t, caught, "the oracle let the bug %q pass", name)
		})
	}
}

// Every pair of numbers, by every comparison; and the same with the document's
// integers passed through float64, which must be noticed.
func TestFilterNumbers(t *testing.T) {
	differs := 0
	for _, limit := range numberTexts {
		for _, operation := range []string{`"match":{"value":%s}`, `"match":{"any":[%s]}`, `"match":{"except":[%s]}`, `"range":{"gt":%s}`, `"range":{"gte":%s}`, `"range":{"lt":%s}`, `"range":{"lte":%s}`} {
			text := []byte(`{"must":{"key":"n",` + fmt.Sprintf(operation, limit) + `}}`)
			f, err := ParseFilter(text, FilterLimits{})
			require.NoError(t, err)
			for _, value := range numberTexts {
				metadata := []byte(`{"n":` + value + `}`)
				want := oracleFilter(decodeJSON(text), "", decodeJSON(metadata))
				require.Equal(t, want, f.Match("", metadata), "%s on %s", text, metadata)
				if asFloat, err := strconv.ParseFloat(value, 64); err == nil {
					lossy := fmt.Appendf(nil, `{"n":%s}`, strconv.FormatFloat(asFloat, 'f', -1, 64))
					if f.Match("", lossy) != want {
						differs++
					}
				}
			}
		}
	}
	require.Positive(t, differs, "passing integers through float64 went unnoticed")
}
