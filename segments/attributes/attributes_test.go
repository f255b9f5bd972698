package attributes

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/akidb/akidb/segments/columns"
)

// Generators of rows and of filters on them. The vocabulary is small so that
// filters often match, and has neighbours that a wrong comparison would confuse.

var long = strings.Repeat("long text ", TextBytes/10+1)

var (
	genName   = rapid.SampledFrom([]string{"a", "b", "c", "a.b", "é", `q"`, "", "x[]"})
	genNumber = rapid.SampledFrom([]string{
		"0", "-0", "1", "1.0", "1e0", "-1", "1.5", "2", "3", "1e400", "-1e400", "9007199254740992", "9007199254740993", "9223372036854775808", "18446744073709551615", "1.8446744073709552e19",
	})
	genText = rapid.SampledFrom([]string{
		"", "a", "A", "1", "true", "null", "x y", "Hello, wörld!", "say \"hi\"", "tab\there", "日本語 text", long, long + "1", long[:TextBytes], long[:TextBytes+1],
		"2024-01-02T03:04:05Z", "2024-01-02T03:04:05+01:00", "2024-01-02 03:04:05.5", "2024-01-02", "2023-12-31T23:59+24:00", "2024-13-01", "0000-01-01", "9999-12-31T23:59:59Z",
	})
	genKey = rapid.SampledFrom([]string{
		"a", "b", "c", `"a.b"`, "a.b", "a.b.c", "a[]", "b[]", "a[].b", "b[].a", "a[].b[].c", "a[].b[]", "a[0]", "a[1].b", "é", `c."a.b"`, "a[][]", "a[][].b", `""`, `"x[]"`, "nobody",
	})
)

func genScalar() *rapid.Generator[any] {
	return rapid.OneOf(
		rapid.Map(genNumber, func(s string) any { return json.Number(s) }),
		rapid.Map(genText, func(s string) any { return s }),
		rapid.Map(rapid.Bool(), func(b bool) any { return b }),
	)
}

func genValue(depth int) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		kinds := 6
		if depth == 0 {
			kinds = 2
		}
		switch rapid.IntRange(0, kinds).Draw(t, "kind") {
		case 0:
			return nil
		case 1, 2:
			return genScalar().Draw(t, "scalar")
		case 3:
			return rapid.SliceOfN(genScalar(), 0, 3).Draw(t, "scalars")
		case 4:
			return rapid.SliceOfN(genValue(depth-1), 0, 3).Draw(t, "array")
		default:
			return rapid.MapOfN(genName, genValue(depth-1), 0, 4).Draw(t, "object")
		}
	})
}

func genRow() *rapid.Generator[[]byte] {
	return rapid.Custom(func(t *rapid.T) []byte {
		if rapid.IntRange(0, 9).Draw(t, "metadata") == 0 {
			return nil
		}
		b := mustJSON(rapid.MapOfN(genName, genValue(3), 0, 5).Draw(t, "row"))
		if rapid.Bool().Draw(t, "escape") {
			b = bytes.ReplaceAll(b, []byte(`"a`), []byte(`"\u0061`))
		}
		if rapid.Bool().Draw(t, "indent") {
			var out bytes.Buffer
			if err := json.Indent(&out, b, " ", "\t"); err != nil {
				t.Fatal(err)
			}
			b = out.Bytes()
		}
		return b
	})
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func genClause(depth int) *rapid.Generator[map[string]any] {
	return rapid.Custom(func(t *rapid.T) map[string]any {
		key := genKey.Draw(t, "key")
		match := func(kind string, v any) map[string]any {
			return map[string]any{"key": key, "match": map[string]any{kind: v}}
		}
		kinds := 9
		if depth == 0 {
			kinds = 7
		}
		switch rapid.IntRange(0, kinds).Draw(t, "kind") {
		case 0:
			return match("value", genScalar().Draw(t, "value"))
		case 1:
			return match("any", rapid.SliceOfN(genScalar(), 0, 4).Draw(t, "any"))
		case 2:
			return match("except", rapid.SliceOfN(genScalar(), 0, 4).Draw(t, "except"))
		case 3:
			return match("text", rapid.SampledFrom([]string{"hello", "long", "日本語", "a", "1"}).Draw(t, "text"))
		case 4, 5:
			limit := rapid.Map(genNumber, func(s string) any { return json.Number(s) })
			if rapid.Bool().Draw(t, "dates") {
				limit = rapid.Map(rapid.SampledFrom([]string{"2024-01-02T03:04:05Z", "2024-01-02T02:04:05Z", "2024-01-02", "2025-01-01 00:00", "0000-01-01", "9999-12-31"}), func(s string) any { return s })
			}
			bounds := map[string]any{}
			for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"gt", "gte", "lt", "lte"}), 1, 3, rapid.ID[string]).Draw(t, "bounds") {
				bounds[name] = limit.Draw(t, name)
			}
			return map[string]any{"key": key, "range": bounds}
		case 6:
			return map[string]any{rapid.SampledFrom([]string{"is_null", "is_empty"}).Draw(t, "is"): map[string]any{"key": key}}
		case 7:
			return map[string]any{"has_id": rapid.SliceOfN(rapid.SampledFrom([]any{"id0", "id1", "id2", 7}), 0, 3).Draw(t, "ids")}
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
		for _, part := range []string{"must", "should", "must_not"} {
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

// index is an index in memory.
type index struct {
	base int64
	data []byte
	dir  *Directory
	rows [][]byte
	read int // bytes
}

func build(t testing.TB, limits Limits, rows [][]byte) *index {
	t.Helper()
	x := &index{base: 4096, rows: rows}
	b := NewBuilder(limits)
	for _, row := range rows {
		b.Add(row)
	}
	directory, err := b.Encode(x.base, func(p []byte) error { x.data = append(x.data, p...); return nil })
	if err != nil {
		t.Fatal(err)
	}
	if x.dir, err = DecodeDirectory(directory, uint32(len(rows)), x.base+int64(len(x.data))); err != nil {
		t.Fatal(err)
	}
	return x
}

func (x *index) fetch(places []Place) [][]byte {
	out := make([][]byte, len(places))
	for i, p := range places {
		out[i] = x.data[p.Offset-x.base:][:p.Length]
		x.read += p.Length
	}
	return out
}

func rowID(i int) string { return fmt.Sprintf("id%d", i) }

// evaluate answers a filter from the index, and what is open by looking at the
// rows, as readers do.
func (x *index) evaluate(f *columns.Filter) (matching *roaring.Bitmap, looked int, err error) {
	e := Evaluate(f, x.dir, uint32(len(x.rows)))
	for _, id := range e.IDs() {
		for i := range x.rows {
			if rowID(i) == id {
				e.TakeIDs(id, uint32(i))
			}
		}
	}
	if err := e.TakeFences(x.fetch(e.Fences())); err != nil {
		return nil, 0, err
	}
	if err := e.TakeBlocks(x.fetch(e.Blocks())); err != nil {
		return nil, 0, err
	}
	certain, possible, err := e.Rows()
	if err != nil {
		return nil, 0, err
	}
	open := roaring.AndNot(possible, certain)
	matching = certain.Clone()
	open.Iterate(func(row uint32) bool {
		if f.Match(rowID(int(row)), x.rows[row]) {
			matching.Add(row)
		}
		return true
	})
	return matching, int(open.GetCardinality()), nil
}

func (x *index) oracle(f *columns.Filter) *roaring.Bitmap {
	out := roaring.New()
	for i, row := range x.rows {
		if f.Match(rowID(i), row) {
			out.Add(uint32(i))
		}
	}
	return out
}

func parse(t require.TestingT, text []byte) *columns.Filter {
	f, err := columns.ParseFilter(text, columns.FilterLimits{})
	require.NoError(t, err, "%s", text)
	return f
}

// TestEvaluationEqualsTheScan: the index gives exactly the rows that Match does,
// within any limits.
func TestEvaluationEqualsTheScan(t *testing.T) {
	open, all := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		rows := rapid.SliceOfN(genRow(), 1, 40).Draw(rt, "rows")
		limits := rapid.SampledFrom([]Limits{{}, {}, {Paths: 3}, {Paths: 1}, {Bytes: 2000}}).Draw(rt, "limits")
		x := build(t, limits, rows)
		for range 8 {
			text := mustJSON(genFilter(2).Draw(rt, "filter"))
			f := parse(rt, text)
			got, looked, err := x.evaluate(f)
			require.NoError(rt, err)
			if want := x.oracle(f); !got.Equals(want) {
				rt.Fatalf("filter %s on %q\ngot  %v\nwant %v", text, rows, got.ToArray(), want.ToArray())
			}
			open, all = open+looked, all+len(rows)
		}
	})
	t.Logf("%d of %d rows were looked at", open, all)
	require.Less(t, open, all/2, "hardly anything came from the index")
}

// TestLargeIndexEqualsTheScan has many blocks, unions and bitmaps.
func TestLargeIndexEqualsTheScan(t *testing.T) {
	const n = 30000
	rng := rand.New(rand.NewPCG(1, 2))
	rows := make([][]byte, n)
	for i := range rows {
		rows[i] = fmt.Appendf(nil, `{"u":%d,"f":%v,"c":"c%d","s":"name %d","tags":["t%d","t%d",%d],"o":{"d":"2024-%02d-%02dT%02d:00:00Z"}}`,
			i*7%n, rng.NormFloat64(), rng.IntN(5), rng.IntN(20000), rng.IntN(50), rng.IntN(50), rng.IntN(9), 1+rng.IntN(12), 1+rng.IntN(28), rng.IntN(24))
	}
	x := build(t, Limits{}, rows)
	for _, c := range []struct {
		filter string
		read   int // bytes, at most
	}{
		{`{"must":{"key":"u","match":{"value":77}}}`, 32 << 10},
		{`{"must":{"key":"u","range":{"gte":1000,"lt":25000}}}`, 150 << 10},
		{`{"must_not":{"key":"u","match":{"any":[1,5000,29999]}}}`, 80 << 10},
		{`{"must":{"key":"u","match":{"except":[1,5000,29999]}}}`, 200 << 10},
		{`{"must":{"key":"f","range":{"gt":0}}}`, 150 << 10},
		{`{"must":[{"key":"c","match":{"value":"c3"}},{"key":"tags","match":{"any":["t1","t49",3]}}]}`, 200 << 10},
		{`{"must":{"key":"s","match":{"text":"NAME 77"}}}`, 600 << 10},
		{`{"must":{"key":"s","match":{"value":"name 12345"}}}`, 32 << 10},
		{`{"must":{"key":"o.d","range":{"gte":"2024-05-01","lt":"2024-05-03T12:00:00+02:00"}}}`, 64 << 10},
		{`{"should":[{"key":"tags[]","match":{"value":"t7"}},{"is_empty":{"key":"c"}}]}`, 64 << 10},
	} {
		f := parse(t, []byte(c.filter))
		x.read = 0
		got, looked, err := x.evaluate(f)
		require.NoError(t, err)
		require.True(t, got.Equals(x.oracle(f)), c.filter)
		require.Zero(t, looked, c.filter)
		t.Logf("%8d bytes, %5d rows: %s", x.read, got.GetCardinality(), c.filter)
		require.LessOrEqual(t, x.read, c.read, c.filter)
	}
	t.Logf("%d bytes for %d rows", len(x.data), n)
}

// A checker that cannot fail proves nothing.
func TestEvaluationCatchesPlantedBugs(t *testing.T) {
	for name, plant := range map[string]func(e *Evaluation){
		"the last span of a condition is left out": func(e *Evaluation) {
			eachTerm(e.root, func(t *term) {
				if t.condition != nil && len(t.condition.Spans) > 1 {
					t.condition.Spans = t.condition.Spans[:len(t.condition.Spans)-1]
				}
			})
		},
		"absent is forgotten":            func(e *Evaluation) { eachTerm(e.root, func(t *term) { dropAbsent(t) }) },
		"open conditions hold nowhere":   func(e *Evaluation) { eachTerm(e.root, func(t *term) { t.unknown = false }) },
		"should is optional beside must": func(e *Evaluation) { e.root.should = nil },
		"long strings are not there": func(e *Evaluation) {
			for _, r := range e.reads {
				r.path.Long = 0
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			caught := false
			draw := rapid.Custom(func(rt *rapid.T) bool {
				x := build(t, Limits{}, rapid.SliceOfN(genRow(), 1, 20).Draw(rt, "rows"))
				f := parse(rt, mustJSON(genFilter(1).Draw(rt, "filter")))
				e := Evaluate(f, x.dir, uint32(len(x.rows)))
				plant(e)
				require.NoError(t, e.TakeFences(x.fetch(e.Fences())))
				require.NoError(t, e.TakeBlocks(x.fetch(e.Blocks())))
				certain, possible, err := e.Rows()
				require.NoError(t, err)
				want := x.oracle(f)
				return len(e.IDs()) == 0 && (!roaring.AndNot(certain, want).IsEmpty() || !roaring.AndNot(want, possible).IsEmpty())
			})
			for seed := 0; seed < 20_000 && !caught; seed++ {
				caught = draw.Example(seed)
			}
			require.True(t, caught, "nothing noticed that %s", name)
		})
	}
}

func dropAbsent(t *term) {
	if t.condition != nil {
		t.condition.Absent = false
	}
}

func eachTerm(g *group, fn func(*term)) {
	for _, terms := range [][]*term{g.must, g.should, g.mustNot} {
		for _, t := range terms {
			if t.group != nil {
				eachTerm(t.group, fn)
			}
			fn(t)
		}
	}
}

func TestStatistics(t *testing.T) {
	rows := [][]byte{nil, []byte(`{}`)}
	for i := range 20 {
		rows = append(rows, fmt.Appendf(nil, `{"n":%d,"tags":["x","x","y%d"],"maybe":null,"text":%q}`, i%4, i, long))
	}
	d := build(t, Limits{}, rows).dir
	require.True(t, d.Complete)
	n, ok := d.Path("n")
	require.True(t, ok)
	require.Equal(t, []any{uint32(20), uint32(0), uint32(4), uint64(20), 4}, []any{n.Rows, n.Nulls, n.Values, n.Pairs, len(n.Common)})
	require.Equal(t, "0 3", string(columns.AppendKeyJSON(nil, n.Least))+" "+string(columns.AppendKeyJSON(nil, n.Most)))
	tags, _ := d.Path("tags")
	require.Equal(t, []any{uint32(20), uint32(21), uint64(40), `"x"`, uint32(20)},
		[]any{tags.Rows, tags.Values, tags.Pairs, string(columns.AppendKeyJSON(nil, tags.Common[0].Key)), tags.Common[0].Rows})
	maybe, _ := d.Path("maybe")
	require.Equal(t, []any{uint32(0), uint32(20)}, []any{maybe.Rows, maybe.Nulls})
	text, _ := d.Path("text")
	require.Equal(t, []any{uint32(20), uint32(20), uint32(0)}, []any{text.Rows, text.Long, text.Values})
}

func FuzzDirectory(f *testing.F) {
	x := build(f, Limits{}, [][]byte{[]byte(`{"a":1,"b":["x",null],"c":{"d":"e"}}`), []byte(`{"a":2}`)})
	f.Add(x.dir.encode(), uint32(2))
	f.Fuzz(func(t *testing.T, b []byte, rows uint32) {
		d, err := DecodeDirectory(b, rows, 1<<40)
		if err != nil {
			return
		}
		for i := range d.Paths {
			p := &d.Paths[i]
			if fences, err := DecodeFences(p, b); err == nil {
				for i := range fences.Len() {
					_ = fences.Block(i)
				}
				fences.Touching(columns.Span{From: []byte{1}, To: []byte{9}})
			}
		}
	})
}

func FuzzBlock(f *testing.F) {
	x := build(f, Limits{}, [][]byte{[]byte(`{"a":1}`), []byte(`{"a":2}`), []byte(`{"a":["x","xy"]}`)})
	f.Add(x.data, uint32(3))
	f.Add(appendRows(nil, make([]uint32, 300)), uint32(3))
	f.Fuzz(func(t *testing.T, b []byte, rows uint32) {
		_ = EachValue(b, rows, func(v Value) bool {
			v.Rows.Each(func(row uint32) bool {
				if row >= rows {
					t.Fatalf("row %d of %d", row, rows)
				}
				return true
			})
			return v.Rows.Len() > 0
		})
		_, _ = openUnion(b, rows)
	})
}

// FuzzEvaluation is TestEvaluationEqualsTheScan with rows and a filter of any text.
func FuzzEvaluation(f *testing.F) {
	f.Add([]byte(`{"a":[1,2,{"b":"x"}]}`), []byte(`{"a":null}`), []byte(`{"must":{"key":"a","range":{"gt":1}}}`))
	f.Add([]byte(`{"a":{"b":"2024-01-02"}}`), []byte(`{"a":[]}`), []byte(`{"must_not":{"key":"a.b","match":{"except":["x"]}}}`))
	f.Fuzz(func(t *testing.T, a, b, text []byte) {
		if columns.ValidateMetadata(a, 1<<16) != nil || columns.ValidateMetadata(b, 1<<16) != nil {
			return
		}
		filter, err := columns.ParseFilter(text, columns.FilterLimits{})
		if err != nil {
			return
		}
		x := build(t, Limits{}, [][]byte{a, b})
		got, _, err := x.evaluate(filter)
		if err != nil {
			t.Fatal(err)
		}
		if want := x.oracle(filter); !got.Equals(want) {
			t.Fatalf("filter %s: got %v, want %v", text, got.ToArray(), want.ToArray())
		}
	})
}

// TestFormatDocument holds FORMAT.md to the constants.
func TestFormatDocument(t *testing.T) {
	b, err := os.ReadFile("../FORMAT.md")
	require.NoError(t, err)
	doc := strings.Join(strings.Fields(string(b)), " ")
	for _, want := range []string{
		fmt.Sprintf("| %d | something that is neither null nor `[]`", columns.KeyFilled),
		fmt.Sprintf("| %d, %d, %d | null, false, true |", columns.KeyNull, columns.KeyFalse, columns.KeyTrue),
		fmt.Sprintf("| %d | a number |", columns.KeyNumber),
		fmt.Sprintf("| %d | a string of at most %d bytes |", columns.KeyString, TextBytes),
		fmt.Sprintf("| %d | a longer string |", columns.KeyLong),
		fmt.Sprintf("| %d | an object, or an array in an array |", columns.KeyOther),
		fmt.Sprintf("reach %d bytes", blockBytes),
		fmt.Sprintf("for up to %d rows", deltaRows),
		fmt.Sprintf("how many paths, at most %d,", maxPaths),
		fmt.Sprintf("the fences, at most %d bytes", inlineFences),
		fmt.Sprintf("cut off after %d bytes", statKeyBytes),
		fmt.Sprintf("frequent values follow, at most %d,", commonValues),
	} {
		require.Contains(t, doc, want)
	}
	require.Equal(t, []int{1, 2, 4, 8, 16}, []int{int(columns.ShapeArray), int(columns.ShapeNested), int(columns.ShapePlain), flagDropped, flagInline})
}
