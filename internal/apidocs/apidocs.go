// Package apidocs serves the API's reference: GET /openapi.json for programs
// and GET /docs for people. Everything is embedded: the page loads nothing from
// elsewhere and works without a network.
package apidocs

import (
	"bytes"
	"fmt"
	"net/http"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/swaggest/swgui"
	"github.com/swaggest/swgui/v5emb"
	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttpadaptor"
	"go.yaml.in/yaml/v3"

	"github.com/akidb/akidb/api"
	"github.com/akidb/akidb/internal/httpapi"
)

const (
	documentPath = "/openapi.json"
	pagePath     = "/docs"
)

// JSON returns the API's document as JSON, its members in the order in which
// they are written. The result is shared and must not be changed.
var JSON = sync.OnceValue(func() []byte {
	doc, err := toJSON(api.OpenAPI)
	if err != nil {
		panic(fmt.Sprintf("BUG: the embedded openapi.yaml: %v", err))
	}
	return doc
})

// Register adds the document and the page that shows it.
func Register(r *httpapi.Router) {
	r.HandleRoot(fasthttp.MethodGet, documentPath, func(ctx *fasthttp.RequestCtx) error {
		ctx.Response.Header.SetContentType(httpapi.TypeJSON)
		ctx.Response.SetBodyRaw(JSON())
		return nil
	})
	page := fasthttpadaptor.NewFastHTTPHandler(newPage())
	show := func(ctx *fasthttp.RequestCtx) error {
		page(ctx)
		if ctx.Response.StatusCode() != http.StatusNotFound {
			return nil
		}
		ctx.Response.Header.Del("X-Content-Type-Options") // of the answer this one replaces
		return httpapi.NotFound("no_such_route", "the documentation has no such file").WithHint("it begins at %s", pagePath)
	}
	r.HandleRoot(fasthttp.MethodGet, pagePath, show)
	r.HandleRoot(fasthttp.MethodGet, pagePath+"/{file}", show)
}

// newPage shows the document with Swagger UI: all operations listed, none
// unfolded, schemas beside them.
func newPage() http.Handler {
	return v5emb.NewHandlerWithConfig(swgui.Config{
		Title: "AkiDB", SwaggerJSON: documentPath, BasePath: pagePath,
		SettingsUI: map[string]string{
			"docExpansion":             `"list"`,
			"defaultModelsExpandDepth": "0",
			"tryItOutEnabled":          "true",
		},
	})
}

// toJSON converts YAML and keeps the order of members, which is the order in
// which a reader meets them.
func toJSON(text []byte) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	if len(doc.Content) != 1 {
		return nil, fmt.Errorf("has %d documents, want one", len(doc.Content))
	}
	var out bytes.Buffer
	if err := writeNode(jsontext.NewEncoder(&out), doc.Content[0]); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func writeNode(enc *jsontext.Encoder, n *yaml.Node) error {
	switch n.Kind {
	case yaml.MappingNode:
		return writeAll(enc, jsontext.BeginObject, jsontext.EndObject, n.Content)
	case yaml.SequenceNode:
		return writeAll(enc, jsontext.BeginArray, jsontext.EndArray, n.Content)
	case yaml.ScalarNode:
		return writeScalar(enc, n)
	}
	return fmt.Errorf("line %d: anchors and aliases have no place here", n.Line)
}

// writeAll writes what lies between begin and end. The names of a mapping come
// as scalars before their values, which is how the encoder takes them too.
func writeAll(enc *jsontext.Encoder, begin, end jsontext.Token, nodes []*yaml.Node) error {
	if err := enc.WriteToken(begin); err != nil {
		return err
	}
	for _, n := range nodes {
		if err := writeNode(enc, n); err != nil {
			return err
		}
	}
	return enc.WriteToken(end)
}

func writeScalar(enc *jsontext.Encoder, n *yaml.Node) error {
	switch n.ShortTag() {
	case "!!str", "!!timestamp":
		return enc.WriteToken(jsontext.String(n.Value))
	case "!!null":
		return enc.WriteToken(jsontext.Null)
	case "!!bool", "!!int", "!!float":
		// Numbers stay as they are written; what JSON does not know is refused.
		return enc.WriteValue(jsontext.Value(n.Value))
	}
	return fmt.Errorf("line %d: a %s has no place in JSON", n.Line, n.ShortTag())
}
