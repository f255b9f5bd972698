package apidocs

import (
	"regexp"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"github.com/akidb/akidb/internal/httpapi"
)

func get(t *testing.T, path string) (status int, contentType, body string) {
	t.Helper()
	r := httpapi.NewRouter()
	Register(r)
	var ctx fasthttp.RequestCtx
	ctx.Request.SetRequestURI(path)
	if err := r.Serve(&ctx); err != nil {
		t.Fatalf("GET %s: %v", path, err)
	}
	return ctx.Response.StatusCode(), string(ctx.Response.Header.ContentType()), string(ctx.Response.Body())
}

// Everything that the page loads is served beside it, and nothing comes from
// elsewhere.
func TestPageIsSelfContained(t *testing.T) {
	status, contentType, page := get(t, "/docs")
	if status != fasthttp.StatusOK || !strings.HasPrefix(contentType, "text/html") {
		t.Fatalf("got %d %s", status, contentType)
	}
	loads := regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllStringSubmatch(page, -1)
	if len(loads) < 3 {
		t.Fatalf("the page loads %q; want a style sheet and scripts", loads)
	}
	for _, l := range loads {
		if !strings.HasPrefix(l[1], "/docs/") {
			t.Errorf("the page loads %s", l[1])
			continue
		}
		if status, _, body := get(t, l[1]); status != fasthttp.StatusOK || body == "" {
			t.Errorf("%s: %d, %d bytes", l[1], status, len(body))
		}
	}
	if !strings.Contains(page, `"swaggerJsonUrl":"/openapi.json"`) || !strings.Contains(page, "validatorUrl: null") {
		t.Errorf("the page shows another document or asks another host about it:\n%s", page)
	}
}

func TestDocument(t *testing.T) {
	status, contentType, body := get(t, "/openapi.json")
	if status != fasthttp.StatusOK || contentType != httpapi.TypeJSON || !strings.HasPrefix(body, `{"openapi":"3.1`) {
		t.Errorf("got %d %s %.40s", status, contentType, body)
	}
}

func TestToJSON(t *testing.T) {
	for yaml, want := range map[string]string{
		"b: 1\na: [x, '1', 1.5, true, null, 2026-01-02]": `{"b":1,"a":["x","1",1.5,true,null,"2026-01-02"]}`,
		"a: |\n  x\n  y\n":    `{"a":"x\ny\n"}`,
		"a: &x 1\nb: *x":      "",
		"a: .nan":             "",
		"1: a":                "",
		"a: 1\na: 2":          "",
		"a: !!binary aGVsbG8": "",
		"":                    "",
		"a: [":                "",
	} {
		got, err := toJSON([]byte(yaml))
		if strings.TrimSpace(string(got)) != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %s, %v; want %s", yaml, got, err, want)
		}
	}
}
