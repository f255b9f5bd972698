package contract

import (
	"bytes"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// exchange is one request and its answer.
type exchange struct {
	method, path string // path as it was sent, without query
	mediaType    string // of the request
	sent         []byte
	status       int
	header       http.Header
	received     []byte
}

func (x exchange) String() string {
	return fmt.Sprintf("%s %s %.300s → %d %.600s", x.method, x.path, x.sent, x.status, x.received)
}

// code is the answer's error code, "" for none.
func (x exchange) code() string {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(x.received))
	if err != nil {
		return ""
	}
	body, _ := v.(node)
	e, _ := body["error"].(node)
	c, _ := e["code"].(string)
	return c
}

// check holds an exchange against the document and says everything that is in
// one and not in the other.
func (d *document) check(x exchange, seen *coverage) (problems []string) {
	problem := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	op := d.find(x.method, x.path)
	if op == nil { // the router's own answers have the same shape everywhere
		op = d.ops[0]
		if x.status < 400 {
			problem("no operation in the document")
			return problems
		}
	} else if x.status < 300 {
		d.checkRequest(op, x, seen, problem)
	}
	r, at, ok := d.response(op, x.status)
	if !ok {
		problem("status %d is not in the document", x.status)
		return problems
	}
	if c := x.code(); c != "" {
		anyway, _, _ := d.response(op, 599)
		if !slices.Contains(codes(r), c) && !slices.Contains(codes(anyway), c) {
			problem("code %q is not listed for status %d of %s", c, x.status, op.id)
		}
		seen.add("code " + c)
	}
	seen.add(fmt.Sprintf("%s %d", op.id, x.status))
	d.checkHeaders(r, x, seen, problem)
	d.checkBody(r, at, x, seen, problem)
	return problems
}

func (d *document) checkRequest(op *operation, x exchange, seen *coverage, problem func(string, ...any)) {
	body, ok := op.node["requestBody"].(node)
	if !ok || len(x.sent) == 0 && body["required"] != true {
		return
	}
	media, ok := body["content"].(node)[x.mediaType].(node)
	if !ok {
		problem("accepted a %s body that the document does not list", x.mediaType)
		return
	}
	seen.add(op.id + " takes " + x.mediaType)
	if x.mediaType != "application/json" {
		return
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(x.sent))
	if err != nil {
		problem("accepted a body that is not JSON: %v", err)
		return
	}
	at := op.at + "/requestBody/content/application~1json/schema"
	if err := d.validate(at, value); err != nil {
		problem("accepted a request that the document does not allow: %v", err)
	}
	d.cover(media["schema"], at, value, seen)
}

// checkHeaders looks at headers of ours and at Retry-After; the rest is HTTP's.
func (d *document) checkHeaders(r node, x exchange, seen *coverage, problem func(string, ...any)) {
	documented := map[string]bool{}
	all, _ := r["headers"].(node)
	for name, v := range all {
		h, at := d.resolve(v, "")
		name = http.CanonicalHeaderKey(name)
		documented[name] = true
		got := x.header.Get(name)
		if got == "" {
			if h["required"] == true {
				problem("header %s is missing", name)
			}
			continue
		}
		seen.add("header " + at)
		var value any = got
		if h["schema"].(node)["type"] == "integer" {
			n, err := jsonschema.UnmarshalJSON(strings.NewReader(got))
			if err != nil {
				problem("header %s is %q, want an integer", name, got)
				continue
			}
			value = n
		}
		if err := d.validate(at+"/schema", value); err != nil {
			problem("header %s: %v", name, err)
		}
	}
	for name := range x.header {
		if (strings.HasPrefix(name, "X-") || name == "Retry-After") && !documented[name] && !(name == "Retry-After" && x.status == 503) {
			problem("header %s is not in the document for status %d", name, x.status)
		}
	}
}

func (d *document) checkBody(r node, at string, x exchange, seen *coverage, problem func(string, ...any)) {
	content, ok := r["content"].(node)
	if !ok {
		if len(x.received) > 0 {
			problem("has a body, and the document knows none")
		}
		return
	}
	mediaType, _, _ := mime.ParseMediaType(x.header.Get("Content-Type"))
	media, ok := content[mediaType].(node)
	if !ok {
		if _, any := content["*/*"]; !any {
			problem("content type %q is not in the document", mediaType)
		}
		return
	}
	if mediaType != "application/json" || x.method == "HEAD" {
		return
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(x.received))
	if err != nil {
		problem("the answer is not JSON: %v", err)
		return
	}
	at += "/content/application~1json/schema"
	if err := d.validate(at, value); err != nil {
		problem("the answer is not what the document says: %v", err)
	}
	d.cover(media["schema"], at, value, seen)
}

// coverage is what of the document has been seen.
type coverage struct{ what map[string]int }

func newCoverage() *coverage { return &coverage{map[string]int{}} }

func (c *coverage) add(what string) {
	if c != nil {
		c.what[what]++
	}
}

// cover notes every member of value that the schema at lists.
func (d *document) cover(schema any, at string, value any, seen *coverage) {
	s, at := d.resolve(schema, at)
	for _, kind := range []string{"oneOf", "anyOf"} {
		for i, alternative := range list(s[kind]) {
			at := fmt.Sprintf("%s/%s/%d", at, kind, i)
			if d.validate(at, value) == nil {
				d.cover(alternative, at, value, seen)
			}
		}
	}
	switch value := value.(type) {
	case node:
		properties, _ := s["properties"].(node)
		for name, v := range value {
			if p, ok := properties[name]; ok {
				here := at + "/properties/" + name
				seen.add("member " + here)
				d.cover(p, here, v, seen)
			}
		}
	case []any:
		if items, ok := s["items"]; ok {
			for _, v := range value {
				d.cover(items, at+"/items", v, seen)
			}
		}
	}
}

func list(v any) []any { l, _ := v.([]any); return l }

// everything is what of the document there is to see: members, statuses that
// are no errors, media types, headers and codes.
func (d *document) everything() []string {
	all := newCoverage()
	visited := map[string]bool{}
	var members func(schema any, at string)
	members = func(schema any, at string) {
		s, at := d.resolve(schema, at)
		if visited[at] {
			return
		}
		visited[at] = true
		for _, kind := range []string{"oneOf", "anyOf"} {
			for i, alternative := range list(s[kind]) {
				members(alternative, fmt.Sprintf("%s/%s/%d", at, kind, i))
			}
		}
		properties, _ := s["properties"].(node)
		for name, p := range properties {
			here := at + "/properties/" + name
			all.add("member " + here)
			members(p, here)
		}
		if items, ok := s["items"]; ok {
			members(items, at+"/items")
		}
	}
	content := func(holder node, at string) {
		media, _ := holder["content"].(node)
		for name, m := range media {
			if schema, ok := m.(node)["schema"]; ok {
				members(schema, at+"/content/"+escape(name)+"/schema")
			}
		}
	}
	for _, op := range d.ops {
		if body, ok := op.node["requestBody"].(node); ok {
			content(body, op.at+"/requestBody")
			for name := range body["content"].(node) {
				all.add(op.id + " takes " + name)
			}
		}
		for key, r := range op.node["responses"].(node) {
			r, at := d.resolve(r, op.at+"/responses/"+key)
			content(r, at)
			if key[0] == '2' {
				all.add(op.id + " " + key)
			}
			headers, _ := r["headers"].(node)
			for _, h := range headers {
				_, at := d.resolve(h, "")
				all.add("header " + at)
			}
		}
	}
	for _, c := range d.allCodes() {
		all.add("code " + c)
	}
	var out []string
	for what := range all.what {
		out = append(out, what)
	}
	slices.Sort(out)
	return out
}
