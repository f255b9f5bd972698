package contract

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"

	"github.com/akidb/akidb/api"
	"github.com/akidb/akidb/internal/apidocs"
)

// problems is what a validator of OpenAPI 3.1 has to say about a document.
func problems(t *testing.T, text []byte) (out []string) {
	t.Helper()
	doc, err := libopenapi.NewDocument(text)
	if err != nil {
		return []string{err.Error()}
	}
	if v := doc.GetVersion(); !strings.HasPrefix(v, "3.1") {
		t.Fatalf("the document is of version %s, want 3.1", v)
	}
	v, errs := validator.NewValidator(doc)
	for _, err := range errs {
		out = append(out, err.Error())
	}
	if errs == nil {
		defer v.Release()
		_, invalid := v.ValidateDocument()
		for _, e := range invalid {
			out = append(out, e.Error())
			for _, s := range e.SchemaValidationErrors {
				out = append(out, s.Error())
			}
		}
	}
	return out
}

func TestDocumentIsValid(t *testing.T) {
	if p := problems(t, api.OpenAPI); p != nil {
		t.Errorf("openapi.yaml:\n%s", strings.Join(p, "\n"))
	}
	if p := problems(t, apidocs.JSON()); p != nil {
		t.Errorf("openapi.json:\n%s", strings.Join(p, "\n"))
	}
}

func TestPlanted_InvalidDocument(t *testing.T) {
	for _, c := range []struct{ old, new string }{
		{"operationId: getVector", "operationId: [getVector]"},
		{"in: path", "in: nowhere"},
		{"title: AkiDB\n", ""},
		{"'#/components/schemas/Row'", "'#/components/schemas/Rwo'"},
	} {
		planted := bytes.Replace(api.OpenAPI, []byte(c.old), []byte(c.new), 1)
		if bytes.Equal(planted, api.OpenAPI) {
			t.Fatalf("the document has no %q any more", c.old)
		}
		if problems(t, planted) == nil {
			t.Errorf("%q in place of %q was not found", c.new, c.old)
		}
	}
}

// Everything in the document is used, and every operation has what readers and
// generators of clients look for.
func TestDocumentIsComplete(t *testing.T) {
	d := loadDocument(t)
	text := string(apidocs.JSON())
	for kind, all := range d.root["components"].(node) {
		for name := range all.(node) {
			if !strings.Contains(text, `"#/components/`+kind+"/"+name+`"`) {
				t.Errorf("components/%s/%s is not used", kind, name)
			}
		}
	}
	var ids []string
	for _, op := range d.ops {
		ids = append(ids, op.id)
		for _, member := range []string{"summary", "tags"} {
			if op.node[member] == nil {
				t.Errorf("%s has no %s", op.id, member)
			}
		}
		if _, ok := op.node["responses"].(node)["default"]; !ok {
			t.Errorf("%s has no default response", op.id)
		}
	}
	slices.Sort(ids)
	if unique := slices.Compact(slices.Clone(ids)); len(unique) != len(ids) {
		t.Errorf("an operationId is given twice: %v", ids)
	}
}
