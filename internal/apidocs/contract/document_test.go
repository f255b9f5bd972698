// The tests in this folder hold the API's document against servers that run in
// this process, in both directions.
package contract

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/akidb/akidb/internal/apidocs"
)

// node is a JSON value of the document.
type node = map[string]any

// document is the API's document, made strict: an object that lists its members
// has no others. Clients are told no such thing, so that members can be added.
type document struct {
	root     node
	ops      []*operation
	compiler *jsonschema.Compiler
	schemas  map[string]*jsonschema.Schema // by JSON pointer
}

// operation is one method of one path.
type operation struct {
	id, method, path string
	node             node
	at               string // JSON pointer
	pattern          *regexp.Regexp
}

var methods = []string{"get", "post", "put", "patch", "delete"}

func loadDocument(t testing.TB) *document {
	t.Helper()
	return newDocument(t, apidocs.JSON())
}

func newDocument(t testing.TB, text []byte) *document {
	t.Helper()
	root, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	d := &document{root: root.(node), compiler: jsonschema.NewCompiler(), schemas: map[string]*jsonschema.Schema{}}
	closeObjects(d.root["components"].(node)["schemas"])
	d.compiler.AssertFormat()
	if err := d.compiler.AddResource("openapi.json", d.root); err != nil {
		t.Fatal(err)
	}
	for path, item := range d.root["paths"].(node) {
		for _, method := range methods {
			op, ok := item.(node)[method].(node)
			if !ok {
				continue
			}
			d.ops = append(d.ops, &operation{
				id: op["operationId"].(string), method: strings.ToUpper(method), path: path, node: op,
				at: "/paths/" + escape(path) + "/" + method, pattern: pathPattern(path),
			})
		}
	}
	// The most literal path first, as the router prefers it.
	slices.SortFunc(d.ops, func(a, b *operation) int {
		if n := strings.Count(a.path, "{") - strings.Count(b.path, "{"); n != 0 {
			return n
		}
		return strings.Compare(a.path+a.method, b.path+b.method)
	})
	return d
}

func closeObjects(v any) {
	switch v := v.(type) {
	case node:
		_, lists := v["properties"].(node)
		if _, open := v["additionalProperties"]; lists && !open {
			v["additionalProperties"] = false
		}
		for _, child := range v {
			closeObjects(child)
		}
	case []any:
		for _, child := range v {
			closeObjects(child)
		}
	}
}

func escape(token string) string {
	return strings.ReplaceAll(strings.ReplaceAll(token, "~", "~0"), "/", "~1")
}

var parameter = regexp.MustCompile(`\{[a-z]+\}`)

func pathPattern(path string) *regexp.Regexp {
	return regexp.MustCompile("^" + parameter.ReplaceAllString(path, "[^/]+") + "$")
}

// find returns the operation that answers method and path, nil for none.
func (d *document) find(method, path string) *operation {
	if method == "HEAD" {
		method = "GET"
	}
	for _, op := range d.ops {
		if op.method == method && op.pattern.MatchString(path) {
			return op
		}
	}
	return nil
}

// resolve follows a $ref and says where it led.
func (d *document) resolve(v any, at string) (node, string) {
	n := v.(node)
	ref, ok := n["$ref"].(string)
	if !ok {
		return n, at
	}
	at = strings.TrimPrefix(ref, "#")
	var target any = d.root
	for token := range strings.SplitSeq(strings.TrimPrefix(at, "/"), "/") {
		token = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
		target = target.(node)[token]
	}
	return d.resolve(target, at)
}

// response is what the document says of an answer with status: its own entry,
// or default.
func (d *document) response(op *operation, status int) (r node, at string, ok bool) {
	all := op.node["responses"].(node)
	key := fmt.Sprint(status)
	if _, own := all[key]; !own {
		if key = "default"; status < 400 {
			return nil, "", false
		}
	}
	r, at = d.resolve(all[key], op.at+"/responses/"+key)
	return r, at, true
}

// validate holds a value against the schema at a JSON pointer.
func (d *document) validate(at string, value any) error {
	s, ok := d.schemas[at]
	if !ok {
		var err error
		if s, err = d.compiler.Compile("openapi.json#" + at); err != nil {
			return err
		}
		d.schemas[at] = s
	}
	return s.Validate(value)
}

var code = regexp.MustCompile("`([a-z][a-z0-9_]*)`")

// codes are the error codes that a response's description lists: all that it
// puts into backticks.
func codes(response node) []string {
	var out []string
	for _, m := range code.FindAllStringSubmatch(response["description"].(string), -1) {
		out = append(out, m[1])
	}
	return out
}

// allCodes are the error codes of the whole document.
func (d *document) allCodes() []string {
	set := map[string]bool{}
	for _, op := range d.ops {
		for key, r := range op.node["responses"].(node) {
			if key == "default" || key[0] == '4' || key[0] == '5' {
				r, _ := d.resolve(r, "")
				for _, c := range codes(r) {
					set[c] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// parse reads JSON the way the schema validator wants it.
func parse(t testing.TB, text []byte) any {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

func render(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}
