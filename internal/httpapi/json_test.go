package httpapi

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/valyala/fasthttp"
	"pgregory.net/rapid"
)

type row struct {
	ID       string         `json:"id"`
	Vector   Vector         `json:"vector"`
	Metadata jsontext.Value `json:"metadata,omitzero"`
}

type common struct {
	TimeoutMs int `json:"timeout_ms"`
}

type request struct {
	Vectors []row `json:"vectors"`
	K       int   `json:"k"`
	Exact   bool  `json:"exact"`
	Count   uint  `json:"count"`
	Ratio   *float64
	common
}

func TestDecodeJSONErrors(t *testing.T) {
	for _, c := range []struct {
		name, body  string
		status      int
		code, field string
		message     string // a part of it
		hint        string // a part of it
	}{
		{"empty", ``, 400, "malformed_json", "", "the body is empty", ""},
		{"cut off", `{"vectors":[{"id":"a"`, 400, "malformed_json", "vectors[0]", "ends in the middle of vectors[0]", ""},
		{"not json", `{"k":NaN}`, 400, "malformed_json", "k", "malformed JSON at byte 5", ""},
		{"trailing garbage", `{"k":1} x`, 400, "malformed_json", "", "malformed JSON at byte 8", ""},
		{"two values", `{"k":1}{"k":2}`, 400, "malformed_json", "", "malformed JSON at byte 7", ""},
		{"invalid utf-8", "{\"vectors\":[{\"id\":\"\xff\"}]}", 400, "malformed_json", "vectors[0].id", "UTF-8", ""},
		{"duplicate", `{"k":1,"k":2}`, 400, "duplicate_field", "k", "k is given twice", ""},
		{"duplicate in metadata", `{"vectors":[{"metadata":{"a":1,"a":2}}]}`, 400, "duplicate_field", "vectors[0].metadata.a", "given twice", ""},
		{"unknown", `{"vectrs":[]}`, 400, "unknown_field", "vectrs", "vectrs is not a known field", `did you mean "vectors"?`},
		{"unknown in a row", `{"vectors":[{"vectr":[]}]}`, 400, "unknown_field", "vectors[0].vectr", "vectors[0].vectr is not", `"vector"`},
		{"unknown, embedded known", `{"timeout":1}`, 400, "unknown_field", "timeout", "", `"timeout_ms"`},
		{"unknown, nothing near", `{"zzzzzz":1}`, 400, "unknown_field", "zzzzzz", "", "known fields: vectors, k, exact, count, Ratio, timeout_ms"},
		{"unknown, odd name", `{"a b":1}`, 400, "unknown_field", `["a b"]`, `["a b"] is not`, ""},
		{"wrong case", `{"K":1}`, 400, "unknown_field", "K", "", ""},
		{"string for integer", `{"k":"ten"}`, 400, "wrong_type", "k", "k is a string, want an integer", ""},
		{"fraction for integer", `{"k":1.5}`, 400, "wrong_type", "k", "k is 1.5, want an integer", ""},
		{"huge integer", `{"k":99999999999999999999}`, 400, "wrong_type", "k", "out of range, want an integer", ""},
		{"negative", `{"count":-1}`, 400, "wrong_type", "count", "count is -1", ""},
		{"object for array", `{"vectors":{}}`, 400, "wrong_type", "vectors", "vectors is an object, want an array", ""},
		{"array for object", `[]`, 400, "wrong_type", "", "the body is an array, want an object", ""},
		{"number for string", `{"vectors":[{"id":7}]}`, 400, "wrong_type", "vectors[0].id", "vectors[0].id is a number, want a string", ""},
		{"number for boolean", `{"exact":1}`, 400, "wrong_type", "exact", "exact is a number, want a boolean", ""},
		{"string for number", `{"Ratio":"x"}`, 400, "wrong_type", "Ratio", "Ratio is a string, want a number", ""},

		{"null vector", `{"vectors":[{"vector":null}]}`, 400, "wrong_type", "vectors[0].vector", "vectors[0].vector is null, want an array of numbers or a base64", ""},
		{"object vector", `{"vectors":[{"vector":{}}]}`, 400, "wrong_type", "vectors[0].vector", "is an object", ""},
		{"string in vector", `{"vectors":[{},{},{},{"vector":[1,"2"]}]}`, 400, "wrong_type", "vectors[3].vector[1]", "vectors[3].vector[1] is a string, want a number", ""},
		{"nested vector", `{"vectors":[{"vector":[[1]]}]}`, 400, "wrong_type", "vectors[0].vector[0]", "is an array, want a number", ""},
		{"null in vector", `{"vectors":[{"vector":[1,null]}]}`, 400, "wrong_type", "vectors[0].vector[1]", "is null, want a number", ""},
		{"NaN in vector", `{"vectors":[{"vector":[1,NaN]}]}`, 400, "malformed_json", "vectors[0].vector[1]", "malformed JSON", ""},
		{"overflow", `{"vectors":[{"vector":[0,1e39]}]}`, 422, "not_finite", "vectors[0].vector[1]", "vectors[0].vector[1] is 1e39, which does not fit a float32", ""},
		{"overflow of float64", `{"vectors":[{"vector":[-1e999]}]}`, 422, "not_finite", "vectors[0].vector[0]", "is -1e999", ""},
		{"base64 NaN", `{"vectors":[{"vector":"AACAPwAAwH8="}]}`, 422, "not_finite", "vectors[0].vector[1]", "vectors[0].vector[1] is not finite", ""},
		{"base64 Inf", `{"vectors":[{"vector":"AACAfw=="}]}`, 422, "not_finite", "vectors[0].vector[0]", "is not finite", ""},
		{"base64 of 3 bytes", `{"vectors":[{"vector":"AAAA"}]}`, 400, "malformed_vector", "vectors[0].vector", "decodes to 3 bytes", ""},
		{"not base64", `{"vectors":[{"vector":"[1,2]"}]}`, 400, "malformed_vector", "vectors[0].vector", "not valid base64", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var v request
			err := DecodeJSON([]byte(c.body), &v)
			e, ok := errors.AsType[*Error](err)
			if !ok {
				t.Fatalf("got %v, want an *Error", err)
			}
			if e.Status != c.status || e.Code != c.code || e.Field != c.field {
				t.Errorf("got %d %s %q, want %d %s %q", e.Status, e.Code, e.Field, c.status, c.code, c.field)
			}
			if !strings.Contains(e.Message, c.message) {
				t.Errorf("message %q, want it to contain %q", e.Message, c.message)
			}
			if !strings.Contains(e.Hint, c.hint) {
				t.Errorf("hint %q, want it to contain %q", e.Hint, c.hint)
			}
		})
	}
}

func TestDecodeJSONTopLevelVector(t *testing.T) {
	var v Vector
	e, ok := errors.AsType[*Error](DecodeJSON([]byte(`[1,true]`), &v))
	if !ok || e.Field != "[1]" || e.Message != "the body's [1] is a boolean, want a number" {
		t.Errorf("got %+v", e)
	}
	err := DecodeJSON([]byte(`null`), &v)
	if e, ok := errors.AsType[*Error](err); !ok || e.Field != "" || !strings.HasPrefix(e.Message, "the body is null") {
		t.Errorf("got %+v", e)
	}
}

type broken struct{}

func (*broken) UnmarshalJSONFrom(*jsontext.Decoder) error { return errors.New("no such colour") }

func TestDecodeJSONForeignError(t *testing.T) {
	var v struct {
		Colour broken `json:"colour"`
	}
	e, ok := errors.AsType[*Error](DecodeJSON([]byte(`{"colour":"x"}`), &v))
	if !ok || e.Status != 400 || e.Message != "colour is not valid: no such colour" {
		t.Errorf("got %+v", e)
	}
}

func TestDecodeJSONKeepsNothingOfTheBody(t *testing.T) {
	body := []byte(`{"vectors":[{"id":"abc","vector":[1.5, -2e-3 ,3],"metadata":{"a":"b"}},{"vector":[]},{}],"k":3}`)
	var v request
	if err := DecodeJSON(body, &v); err != nil {
		t.Fatal(err)
	}
	for i := range body {
		body[i] = 'x'
	}
	r := v.Vectors[0]
	if r.ID != "abc" || string(r.Metadata) != `{"a":"b"}` || v.K != 3 {
		t.Errorf("got %+v", v)
	}
	if want := (Vector{1.5, -2e-3, 3}); !equal(r.Vector, want) {
		t.Errorf("vector %v, want %v", r.Vector, want)
	}
	if v.Vectors[1].Vector == nil || v.Vectors[2].Vector != nil {
		t.Error("an empty vector and an absent one must differ")
	}
}

func equal(a, b Vector) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			return false
		}
	}
	return true
}

func drawVector(t *rapid.T) Vector {
	bits := rapid.SliceOfN(rapid.Uint32(), 0, 40).Draw(t, "bits")
	v := make(Vector, 0, len(bits))
	for _, b := range bits {
		if f := math.Float32frombits(b); finite(f) {
			v = append(v, f)
		}
	}
	return v
}

func TestVectorRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := drawVector(t)
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		escaped := strings.ReplaceAll(v.Base64(), "/", `\/`)
		unpadded := strings.TrimRight(v.Base64(), "=")
		for _, form := range []string{string(text), `"` + v.Base64() + `"`, `"` + escaped + `"`, `"` + unpadded + `"`} {
			var got Vector
			if err := DecodeJSON([]byte(form), &got); err != nil {
				t.Fatalf("%s: %v", form, err)
			}
			if !equal(got, v) {
				t.Fatalf("%s: got %v, want %v", form, got, v)
			}
		}
	})
}

func TestVectorMarshal(t *testing.T) {
	got, err := json.Marshal(Vector{0, 1, -0.5, 0.1, 1e-7, 3.4028235e38, 16777216, 1e20})
	if err != nil {
		t.Fatal(err)
	}
	if want := `[0,1,-0.5,0.1,1e-07,3.4028235e+38,16777216,100000000000000000000]`; string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, f := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		if _, err := json.Marshal(Vector{1, float32(f)}); err == nil {
			t.Errorf("%v was written", f)
		}
	}
}

func TestVectorDecodesWithoutAllocatingPerValue(t *testing.T) {
	v := make(Vector, 1000)
	for i := range v {
		v[i] = float32(i) / 7
	}
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	allocs := testing.AllocsPerRun(20, func() {
		var got Vector
		if err := DecodeJSON(text, &got); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > 20 {
		t.Errorf("%v allocations for 1000 values, want a constant few", allocs)
	}
}

func FuzzDecodeJSON(f *testing.F) {
	for _, seed := range []string{`{"vectors":[{"id":"a","vector":[1,2]}],"k":1}`, `{"vectors":[{"vector":"AACAPw=="}]}`, `{"vectors":[{"vector":[1e39]}]}`, `[`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var v request
		err := DecodeJSON(body, &v)
		if err != nil {
			if e, ok := errors.AsType[*Error](err); !ok || e.Status != 400 && e.Status != 422 || e.Message == "" {
				t.Fatalf("%q: %v", body, err)
			}
			return
		}
		for _, r := range v.Vectors {
			for _, x := range r.Vector {
				if !finite(x) {
					t.Fatalf("%q: decoded %v", body, x)
				}
			}
		}
	})
}

func TestWriteJSONRefusesWhatDoesNotMarshal(t *testing.T) {
	var ctx fasthttp.RequestCtx
	if err := WriteJSON(&ctx, 200, Vector{float32(math.NaN())}); err == nil {
		t.Error("NaN was written")
	}
	if len(ctx.Response.Body()) != 0 {
		t.Errorf("a part was written: %q", ctx.Response.Body())
	}
}
