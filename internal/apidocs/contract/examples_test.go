package contract

import (
	"fmt"
	"maps"
	"math"
	"os/exec"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// An example of the document, ready to be run.
type example struct {
	op              *operation
	name, mediaType string
	body            string
}

// examples lists every example of a request, and one request for each
// operation without a body.
func (d *document) examples() (out []example) {
	for _, op := range d.ops {
		body, ok := op.node["requestBody"].(node)
		if !ok {
			out = append(out, example{op: op, name: "default"})
			continue
		}
		for mediaType, media := range body["content"].(node) {
			all, _ := media.(node)["examples"].(node)
			for name, e := range all {
				x := example{op, name, mediaType, ""}
				if text, ok := e.(node)["value"].(string); ok {
					x.body = text
				} else {
					x.body = render(e.(node)["value"])
				}
				out = append(out, x)
			}
		}
	}
	return out
}

// answer finds the response example of the same name; its status is what the
// request is expected to be answered with. Without one that is the first
// success.
func (d *document) answer(op *operation, name string) (status string, want any) {
	all := op.node["responses"].(node)
	keys := slices.Sorted(maps.Keys(all))
	for _, key := range keys {
		r, _ := d.resolve(all[key], "")
		content, _ := r["content"].(node)
		for _, media := range content {
			examples, _ := media.(node)["examples"].(node)
			if e, ok := examples[name].(node); ok {
				return key, e["value"]
			}
		}
	}
	return keys[0], nil
}

// path fills in the examples of the path parameters.
func (d *document) path(t testing.TB, op *operation) string {
	item := d.root["paths"].(node)[op.path].(node)
	path := op.path
	for _, p := range list(item["parameters"]) {
		p, _ := d.resolve(p, "")
		v, ok := p["example"].(string)
		if !ok {
			t.Fatalf("path parameter %v has no example", p["name"])
		}
		path = strings.ReplaceAll(path, "{"+p["name"].(string)+"}", v)
	}
	return path
}

// volatile are the members whose values no example can foretell.
var volatile = []string{"collection_id", "created_at", "snapshot_id", "took_ms", "token", "request_id"}

// differs says where got is not like want, "" for nowhere. Numbers may differ
// by what rounding a float32 does.
func differs(at string, want, got any) string {
	switch want := want.(type) {
	case node:
		got, ok := got.(node)
		if !ok || !reflect.DeepEqual(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got))) {
			return fmt.Sprintf("%s: got %s, want %s", at, render(got), render(want))
		}
		for name, w := range want {
			if slices.Contains(volatile, name) {
				continue
			}
			if diff := differs(at+"."+name, w, got[name]); diff != "" {
				return diff
			}
		}
		return ""
	case []any:
		got, ok := got.([]any)
		if !ok || len(got) != len(want) {
			return fmt.Sprintf("%s: got %s, want %s", at, render(got), render(want))
		}
		for i := range want {
			if diff := differs(fmt.Sprintf("%s[%d]", at, i), want[i], got[i]); diff != "" {
				return diff
			}
		}
		return ""
	case fmt.Stringer: // a number
		var w, g float64
		_, err1 := fmt.Sscan(want.String(), &w)
		_, err2 := fmt.Sscan(fmt.Sprint(got), &g)
		if err1 == nil && err2 == nil && math.Abs(w-g) < 1e-6 {
			return ""
		}
	}
	if !reflect.DeepEqual(want, got) {
		return fmt.Sprintf("%s: got %s, want %s", at, render(got), render(want))
	}
	return ""
}

// Every example is run, each on the same three films, and answers what the
// example of its response says.
func TestExamples(t *testing.T) {
	d := loadDocument(t)
	s := startDev(t, setup{})
	compared := map[string]bool{}
	for _, e := range d.examples() {
		t.Run(e.op.id+"/"+e.name, func(t *testing.T) {
			s.do(t, call{method: "DELETE", path: films + "-experiment"}) // which the example of a branch makes
			s.do(t, call{method: "DELETE", path: films})
			for _, c := range seed {
				if x := s.do(t, c); x.status >= 300 {
					t.Fatal(x)
				}
			}
			if e.op.id == "createCollection" {
				s.do(t, call{method: "DELETE", path: films})
			}
			if e.op.id == "restore" || e.op.id == "deleteSnapshot" {
				s.do(t, call{method: "POST", path: admin + "/snapshots", body: `{"name": "before-migration"}`})
			}
			header := ""
			if e.mediaType != "" {
				header = "Content-Type: " + e.mediaType
				if e.mediaType == "application/json" {
					if err := d.validate(e.op.at+"/requestBody/content/application~1json/schema", parse(t, []byte(e.body))); err != nil {
						t.Error(err)
					}
				}
			}
			x := s.do(t, call{method: e.op.method, path: d.path(t, e.op), body: e.body, header: header})
			status, want := d.answer(e.op, e.name)
			if fmt.Sprint(x.status) != status {
				t.Fatalf("%v; want %s", x, status)
			}
			for _, p := range d.check(x, nil) {
				t.Errorf("%v: %s", x, p)
			}
			compared[e.op.id+" "+status+" "+e.name] = true
			if want != nil {
				if diff := differs("answer", want, parse(t, x.received)); diff != "" {
					t.Errorf("%s\n%v", diff, x)
				}
			}
		})
	}
	for _, op := range d.ops {
		for key, r := range op.node["responses"].(node) {
			r, _ := d.resolve(r, "")
			content, _ := r["content"].(node)
			for _, media := range content {
				examples, _ := media.(node)["examples"].(node)
				for name := range examples {
					if !compared[op.id+" "+key+" "+name] {
						t.Errorf("the answer %q (%s) of %s belongs to no request", name, key, op.id)
					}
				}
			}
		}
	}
}

func TestPlanted_Examples(t *testing.T) {
	want := parse(t, []byte(`{"a": [1, {"b": "x"}], "token": "1"}`))
	for text, equal := range map[string]bool{
		`{"a": [1, {"b": "x"}], "token": "2"}`:       true,
		`{"a": [1.0000001, {"b": "x"}], "token": 0}`: true,
		`{"a": [2, {"b": "x"}], "token": "1"}`:       false,
		`{"a": [1, {"b": "y"}], "token": "1"}`:       false,
		`{"a": [1], "token": "1"}`:                   false,
		`{"a": [1, {"b": "x"}]}`:                     false,
		`{"a": [1, {"b": "x", "c": 1}], "token": 1}`: false,
	} {
		if diff := differs("", want, parse(t, []byte(text))); (diff == "") != equal {
			t.Errorf("%s: %q", text, diff)
		}
	}
}

var script = regexp.MustCompile("(?s)```sh\n(.*?)```")

// The commands of the introduction do what they say, as they are pasted.
func TestQuickStart(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("needs curl")
	}
	d := loadDocument(t)
	s := startDev(t, setup{})
	scripts := script.FindAllStringSubmatch(d.root["info"].(node)["description"].(string), -1)
	if len(scripts) != 1 {
		t.Fatalf("%d scripts in the introduction, want 1", len(scripts))
	}
	commands := strings.ReplaceAll(scripts[0][1], "http://localhost:8080", s.url)
	commands = strings.ReplaceAll(commands, "curl -s", "curl -sS --fail-with-body")
	out, err := exec.Command("sh", "-ec", commands).CombinedOutput()
	if err != nil || !strings.Contains(string(out), `"id":"a","score":0.98`) || !strings.Contains(string(out), `"id":"b","score":0`) {
		t.Errorf("%v\n%s", err, out)
	}
}
