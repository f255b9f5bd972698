package writer

import (
	"errors"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/valyala/fasthttp"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/segments/columns"
)

var writableTypes = []string{httpapi.TypeJSON, httpapi.TypeNDJSON, httpapi.TypeParquet}

type upserted struct {
	Upserted uint64 `json:"upserted"`
	Token    string `json:"token"`
}

func (w *Writer) postVectors(ctx *fasthttp.RequestCtx) error {
	c, err := w.collection(ctx)
	if err != nil {
		return err
	}
	mediaType, err := httpapi.ContentType(ctx, writableTypes...)
	if err != nil {
		return err
	}
	body, err := httpapi.Body(ctx)
	if err != nil {
		return err
	}
	b := newBatch(w.cfg.Limits, c.meta)
	if err := b.parse(mediaType, body); err != nil {
		return err
	}
	a, err := w.mutate(ctx, c, body, func(r request) (answer, error) {
		return c.upsert(httpapi.Context(ctx), b, r)
	})
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(ctx, fasthttp.StatusOK, upserted{a.affected, a.token.String()})
}

type deleted struct {
	Deleted uint64 `json:"deleted"`
	Token   string `json:"token"`
}

func writeDeleted(ctx *fasthttp.RequestCtx, a answer) error {
	return httpapi.WriteJSON(ctx, fasthttp.StatusOK, deleted{a.affected, a.token.String()})
}

func (w *Writer) deleteVector(ctx *fasthttp.RequestCtx) error {
	c, err := w.collection(ctx)
	if err != nil {
		return err
	}
	id, err := w.vectorID(ctx)
	if err != nil {
		return err
	}
	a, err := w.mutate(ctx, c, nil, func(r request) (answer, error) {
		return c.deleteIDs(httpapi.Context(ctx), deletion{ids: []string{id}, request: r})
	})
	if err != nil {
		return err
	}
	return writeDeleted(ctx, a)
}

// deleteBody names the rows to delete, in one of two ways.
type deleteBody struct {
	IDs    httpapi.List[string] `json:"ids"`
	Filter jsontext.Value       `json:"filter"`
}

func (w *Writer) postDelete(ctx *fasthttp.RequestCtx) error {
	c, err := w.collection(ctx)
	if err != nil {
		return err
	}
	body := deleteBody{IDs: httpapi.List[string]{Most: w.cfg.Limits.BatchRows}}
	if err := httpapi.ReadJSON(ctx, &body); err != nil {
		return err
	}
	remove, err := w.planDelete(c, body)
	if err != nil {
		return err
	}
	raw, err := httpapi.Body(ctx)
	if err != nil {
		return err
	}
	a, err := w.mutate(ctx, c, raw, func(r request) (answer, error) { return remove(ctx, r) })
	if err != nil {
		return err
	}
	return writeDeleted(ctx, a)
}

// planDelete checks what the body asks for and returns what does it.
func (w *Writer) planDelete(c *collection, body deleteBody) (func(*fasthttp.RequestCtx, request) (answer, error), error) {
	byFilter := len(body.Filter) > 0 && body.Filter.Kind() != 'n'
	if byFilter == body.IDs.Given {
		return nil, httpapi.Unprocessable("ambiguous_body", "", "the body needs either ids or filter")
	}
	if byFilter {
		filter, err := parseFilter(w.cfg.Limits, body.Filter)
		if err != nil {
			return nil, err
		}
		return func(ctx *fasthttp.RequestCtx, r request) (answer, error) {
			return c.deleteMatching(httpapi.Context(ctx), filter, r)
		}, nil
	}
	if e := w.cfg.Limits.CheckRows("ids", body.IDs.Count); e != nil {
		return nil, e
	}
	for i, id := range body.IDs.Items {
		if e := w.cfg.Limits.CheckID(fmt.Sprintf("ids[%d]", i), id); e != nil {
			return nil, e
		}
	}
	ids := slices.Compact(slices.Sorted(slices.Values(body.IDs.Items)))
	return func(ctx *fasthttp.RequestCtx, r request) (answer, error) {
		return c.deleteIDs(httpapi.Context(ctx), deletion{ids: ids, request: r})
	}, nil
}

func parseFilter(limits httpapi.Limits, raw []byte) (*columns.Filter, error) {
	f, err := columns.ParseFilter(raw, columns.FilterLimits{Clauses: limits.FilterClauses, Depth: limits.FilterDepth})
	if e, ok := errors.AsType[*columns.FilterError](err); ok {
		return nil, httpapi.BadRequest("invalid_filter", e.Path, "%s", e.Error())
	}
	return f, err
}

// patchBody is what is merged into a row.
type patchBody struct {
	Metadata jsontext.Value `json:"metadata"`
}

type patched struct {
	ID       string         `json:"id"`
	Metadata jsontext.Value `json:"metadata"`
	Version  uint64         `json:"version"`
	Token    string         `json:"token"`
}

func (w *Writer) patchVector(ctx *fasthttp.RequestCtx) error {
	c, err := w.collection(ctx)
	if err != nil {
		return err
	}
	id, err := w.vectorID(ctx)
	if err != nil {
		return err
	}
	var body patchBody
	if err := httpapi.ReadJSON(ctx, &body); err != nil {
		return err
	}
	change, err := checkMetadata(w.cfg.Limits, "metadata", body.Metadata)
	if err != nil {
		return err
	}
	if change == nil {
		return httpapi.Unprocessable("missing_field", "metadata", "metadata is missing").
			WithHint("null values in it remove single members")
	}
	raw, err := httpapi.Body(ctx)
	if err != nil {
		return err
	}
	a, err := w.mutate(ctx, c, raw, func(r request) (answer, error) {
		return c.patch(httpapi.Context(ctx), id, change, r)
	})
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(ctx, fasthttp.StatusOK, patched{a.id, a.metadata, a.token.Seq, a.token.String()})
}
