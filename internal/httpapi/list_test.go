package httpapi

import (
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"
)

type listRow struct {
	ID     string `json:"id"`
	Vector Vector `json:"vector"`
}

type listBody struct {
	Rows List[listRow] `json:"rows"`
}

func TestListCountsWhatItDoesNotDecode(t *testing.T) {
	body := listBody{Rows: List[listRow]{Most: 2}}
	text := `{"rows":[{"id":"a"},{"id":"b"},{"id":"c"},{"unknown":1},7]}`
	if err := DecodeJSON([]byte(text), &body); err != nil {
		t.Fatal(err)
	}
	ids := make([]string, len(body.Rows.Items))
	for i, r := range body.Rows.Items {
		ids[i] = r.ID
	}
	if !slices.Equal(ids, []string{"a", "b"}) || body.Rows.Count != 5 || !body.Rows.Given {
		t.Errorf("got %v of %d, given %v; want a and b of 5, given", ids, body.Rows.Count, body.Rows.Given)
	}
}

func TestListAbsentNullAndEmpty(t *testing.T) {
	for text, given := range map[string]bool{`{}`: false, `{"rows":null}`: false, `{"rows":[]}`: true} {
		body := listBody{Rows: List[listRow]{Most: 2}}
		if err := DecodeJSON([]byte(text), &body); err != nil || body.Rows.Given != given || body.Rows.Count != 0 {
			t.Errorf("%s: %v, got %+v, want given %v", text, err, body.Rows, given)
		}
	}
}

// TestListErrorsNameTheElement: as those of a slice do.
func TestListErrorsNameTheElement(t *testing.T) {
	for text, want := range map[string]Error{
		`{"rows":7}`:                                 {Field: "rows", Code: "wrong_type", Message: "rows is a number, want an array"},
		`{"rows":[{"id":"a"},{"id":1}]}`:             {Field: "rows[1].id", Code: "wrong_type", Message: "rows[1].id is a number, want a string"},
		`{"rows":[{"id":"a"},7]}`:                    {Field: "rows[1]", Code: "wrong_type", Message: "rows[1] is a number, want an object"},
		`{"rows":[{"id":"a"},{"idd":"b"}]}`:          {Field: "rows[1].idd", Code: "unknown_field", Message: "rows[1].idd is not a known field"},
		`{"rows":[{"id":"a"},{"vector":[1,"x"]}]}`:   {Field: "rows[1].vector[1]", Code: "wrong_type", Message: "rows[1].vector[1] is a string, want a number"},
		`{"rows":[{"id":"a"},{"vector":[1,1e99]}]}`:  {Field: "rows[1].vector[1]", Code: "not_finite", Message: "rows[1].vector[1] is 1e99, which does not fit a float32"},
		`{"rows":[{"id":"a","id":"b"}]}`:             {Field: "rows[0].id", Code: "duplicate_field", Message: "rows[0].id is given twice"},
		`{"rows":[{"id":"a"},{"id":"b"},{"id":"c"`:   {Field: "rows[2]", Code: "malformed_json"},
		`{"rows":[{"id":"a"},{"id":"b"},{"id":"c"}}`: {Field: "rows", Code: "malformed_json"},
		`{"rows":[`: {Field: "rows", Code: "malformed_json"},
		`{"rows":`:  {Field: "", Code: "malformed_json"},
	} {
		body := listBody{Rows: List[listRow]{Most: 2}}
		err := DecodeJSON([]byte(text), &body)
		got, ok := errors.AsType[*Error](err)
		if !ok || got.Code != want.Code || got.Status >= 500 {
			t.Errorf("%s: got %v, want %s", text, err, want.Code)
			continue
		}
		if want.Message != "" && (got.Message != want.Message || got.Field != want.Field) {
			t.Errorf("%s: got %q about %q, want %q about %q", text, got.Message, got.Field, want.Message, want.Field)
		}
	}
}

// TestListTakesNoMemoryForWhatItRefuses: a megabyte of empty objects is a third
// of a million of them.
func TestListTakesNoMemoryForWhatItRefuses(t *testing.T) {
	text := []byte(`{"rows":[` + strings.Repeat("{},", 1<<20/3) + `{}]}`)
	body := listBody{Rows: List[listRow]{Most: 100}}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := DecodeJSON(text, &body)
	runtime.ReadMemStats(&after)
	if err != nil || body.Rows.Count != 1<<20/3+1 {
		t.Fatalf("%v, %d elements", err, body.Rows.Count)
	}
	if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 1<<20 {
		t.Errorf("decoding %d bytes allocates %d", len(text), allocated)
	}
}
