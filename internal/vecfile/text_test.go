package vecfile

import (
	"encoding/base64"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func readText(t *testing.T, name, data string, opts Options) ([]Row, []error) {
	t.Helper()
	r, err := Open(write(t, t.TempDir(), name, []byte(data)), opts)
	require.NoError(t, err)
	defer r.Close()
	rows, skipped, err := readAll(r)
	require.NoError(t, err)
	require.EqualValues(t, len(rows)+len(skipped), r.Position())
	return rows, skipped
}

func TestJSONLRows(t *testing.T) {
	vector := base64.StdEncoding.EncodeToString(appendFloats(nil, []float32{1.5, -2}))
	rows, skipped := readText(t, "x.jsonl", strings.Join([]string{
		`{"id":"a","vector":[1,2.5e-1],"metadata":{"year":12345678901234567890,"tags":["x"]}}`,
		``,
		`  {"vector":"` + vector + `","id":7,"lang":"en","metadata":{"n":null}}  `,
		`{"vector":[1,2]}`,
		`{"id":"é\u0000","vector":[1,2],"metadata":null}`,
	}, "\r\n"), Options{})
	require.Empty(t, skipped)
	require.Equal(t, []Row{
		{ID: "a", Vector: []float32{1, 0.25}, Metadata: []byte(`{"year":12345678901234567890,"tags":["x"]}`)},
		{ID: "7", Vector: []float32{1.5, -2}, Metadata: []byte(`{"lang":"en","n":null}`)},
		{ID: "2", Vector: []float32{1, 2}},
		{ID: "é\x00", Vector: []float32{1, 2}},
	}, rows)
}

func TestJSONLColumnNames(t *testing.T) {
	rows, skipped := readText(t, "x.ndjson", `{"key":"k","emb":[1],"id":"other","vector":"text"}`, Options{IDColumn: "key", VectorColumn: "emb", IDPrefix: "p/"})
	require.Empty(t, skipped)
	require.Equal(t, []Row{{ID: "p/k", Vector: []float32{1}, Metadata: []byte(`{"id":"other","vector":"text"}`)}}, rows)
}

func TestJSONLBadRowsCostOnlyThemselves(t *testing.T) {
	good := `{"vector":[1]}`
	for bad, want := range map[string]string{
		`{"vector":[1,]}`:                         "invalid character ','",
		`{"vector":[1]`:                           "unexpected EOF",
		`{"vector":[1]} {}`:                       "more follows the end of the value",
		`{"vector":[1],"vector":[2]}`:             `duplicate object member name "vector"`,
		`{"vector":[1],"a":1,"metadata":{"a":2}}`: `metadata field "a" is given twice`,
		`{"id":"x"}`:                              `no field "vector"`,
		`{"vector":null}`:                         "vector is null, want an array of numbers",
		`{"vector":[1,"2"]}`:                      "vector[1] is a string, want a number",
		`{"vector":[1e39]}`:                       "vector[0]: \"1e39\": value out of range as a float32",
		`{"vector":[NaN]}`:                        "invalid character 'N'",
		`{"vector":"AAAA"}`:                       "base64 of 3 bytes, want a multiple of 4",
		`{"vector":"%%"}`:                         "illegal base64 data",
		`{"id":1.5,"vector":[1]}`:                 "id is 1.5, want a string or an integer",
		`{"id":null,"vector":[1]}`:                "id is null",
		`{"id":"","vector":[1]}`:                  "id is empty",
		`{"vector":[1],"metadata":[]}`:            "metadata is an array, want an object",
		`[1]`:                                     "got an array, want an object",
		"{\"vector\":[1],\"a\":\"\xff\"}":         "invalid UTF-8",
		`{"vector":[` + strings.Repeat("1,", MaxDimension) + `1]}`: "vector has more than 16384 values",
	} {
		rows, skipped := readText(t, "x.jsonl", good+"\n"+bad+"\n"+good, Options{})
		require.Len(t, rows, 2, bad)
		require.Equal(t, "2", rows[1].ID, "a bad row keeps its number: %s", bad)
		require.Len(t, skipped, 1, bad)
		require.ErrorContains(t, skipped[0], "row 1 (line 2): ", bad)
		require.ErrorContains(t, skipped[0], want, bad)
	}
}

func TestCSVRows(t *testing.T) {
	rows, skipped := readText(t, "x.csv", "\ufeffid,vector,year,code,ok,note,metadata\n"+
		"a,\"[1, 2]\",1999,007,true,\"two\nlines\",\"{\"\"k\"\":[1]}\"\n"+
		"b,\"[3, 4]\",,1e999, true,-,\n", Options{})
	require.Empty(t, skipped)
	require.Equal(t, []Row{
		{ID: "a", Vector: []float32{1, 2}, Metadata: []byte(`{"k":[1],"year":1999,"code":"007","ok":true,"note":"two\nlines"}`)},
		{ID: "b", Vector: []float32{3, 4}, Metadata: []byte(`{"code":"1e999","ok":" true","note":"-"}`)},
	}, rows)
}

func TestCSVSpreadVector(t *testing.T) {
	rows, skipped := readText(t, "x.csv", "v1,name,v0,v3\n2,n, 1 ,x\n", Options{})
	require.Empty(t, skipped)
	require.Equal(t, []Row{{ID: "0", Vector: []float32{1, 2}, Metadata: []byte(`{"name":"n","v3":"x"}`)}}, rows)
}

func TestCSVNamedColumnsMustExist(t *testing.T) {
	path := write(t, t.TempDir(), "x.csv", []byte("id,v0\n1,2\n"))
	_, err := Open(path, Options{IDColumn: "key"})
	require.ErrorContains(t, err, `no column "key" among ["id" "v0"]`)
	_, err = Open(path, Options{VectorColumn: "emb"})
	require.ErrorContains(t, err, `no column "emb"`)
}

func TestCSVBadRowsCostOnlyThemselves(t *testing.T) {
	for bad, want := range map[string]string{
		`b`:                 "1 fields, want 2 as in the header",
		`b,1,2`:             "3 fields, want 2 as in the header",
		`b,"x"y`:            `extraneous or missing " in quoted-field`,
		`,[1]`:              `column "id" is empty, want an id`,
		`b,`:                `column "vector": vector is missing`,
		`b,[1] 2`:           `column "vector": more follows the end of the value`,
		`b,[1e99]`:          `column "vector": vector[0]: "1e99": value out of range`,
		`b,hello`:           `column "vector": `,
		`b,"[1,{""a"":2}]"`: `column "vector": vector[1] is an object, want a number`,
		`b,"[true]"`:        `column "vector": vector[0] is a boolean, want a number`,
	} {
		rows, skipped := readText(t, "x.csv", "id,vector\na,[1]\n"+bad+"\nc,[2]\n", Options{})
		require.Len(t, rows, 2, bad)
		require.Equal(t, []string{"a", "c"}, []string{rows[0].ID, rows[1].ID}, bad)
		require.Len(t, skipped, 1, bad)
		require.ErrorContains(t, skipped[0], "row 1 (line 3): ", bad)
		require.ErrorContains(t, skipped[0], want, bad)
	}
	_, skipped := readText(t, "x.csv", "v0,v1\n1,inf\n1,x\n", Options{})
	require.Len(t, skipped, 2)
	require.ErrorContains(t, skipped[0], `column "v1": "inf" is not finite`)
	require.ErrorContains(t, skipped[1], `column "v1": "x": invalid syntax as a float32`)
}

func TestSkipCountsBadRows(t *testing.T) {
	for name, data := range map[string]string{
		"x.jsonl": "{\"vector\":[1]}\nbad\n\n{\"vector\":[3]}\n",
		"x.csv":   "vector\n[1]\n\"a\"b\n[3]\n",
	} {
		r := open(t, write(t, t.TempDir(), name, []byte(data)))
		require.NoError(t, r.Skip(2))
		row, err := r.Next()
		require.NoError(t, err, name)
		require.Equal(t, Row{ID: "2", Vector: []float32{3}}, row, name)
	}
}

func TestNpyTypes(t *testing.T) {
	half := []byte{0x00, 0x3c, 0x00, 0xc0} // 1, -2
	for _, c := range []struct {
		major byte
		descr string
		data  []byte
	}{
		{1, "'<f2'", half},
		{2, "'>f2'", []byte{0x3c, 0x00, 0xc0, 0x00}},
		{3, "\"<f4\"", []byte{0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0}},
		{1, "'>f4'", []byte{0x3f, 0x80, 0, 0, 0xc0, 0, 0, 0}},
		{2, "'<f8'", []byte{0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0, 0, 0, 0, 0, 0, 0, 0xc0}},
		{3, "'>f8'", []byte{0x3f, 0xf0, 0, 0, 0, 0, 0, 0, 0xc0, 0, 0, 0, 0, 0, 0, 0}},
	} {
		header := npyHeader(c.major, "{'shape': (1, 2), 'fortran_order': False, 'descr': "+c.descr+"}")
		rows, _, err := readAll(open(t, write(t, t.TempDir(), "x.npy", append(header, c.data...))))
		require.NoError(t, err, c.descr)
		require.Equal(t, []Row{{ID: "0", Vector: []float32{1, -2}}}, rows, c.descr)
	}
}

// TestFloat16 holds the conversion of every half against the definition: (-1)^s x 2^(e-15) x 1.f, subnormals x 2^-14 x 0.f.
func TestFloat16(t *testing.T) {
	for h := range 1 << 16 {
		sign, exponent, fraction := h>>15, h>>10&0x1f, h&0x3ff
		want := math.Ldexp(1+float64(fraction)/1024, exponent-15)
		switch {
		case exponent == 0:
			want = math.Ldexp(float64(fraction)/1024, -14)
		case exponent == 0x1f && fraction == 0:
			want = math.Inf(1)
		case exponent == 0x1f:
			require.True(t, math.IsNaN(float64(float16(uint16(h)))), "%#x", h)
			continue
		}
		if sign == 1 {
			want = math.Copysign(want, -1)
		}
		got := float64(float16(uint16(h)))
		require.Equal(t, math.Float64bits(want), math.Float64bits(got), "%#x: got %v, want %v", h, got, want)
	}
}
