package writer

import (
	"context"
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
	a, err := w.mutateAs(ctx, c, body, b.upsert(c))
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
	a, err := w.mutateAs(ctx, c, nil, func(ctx context.Context, r request) (answer, error) {
		return c.deleteIDs(ctx, deletion{ids: []string{id}, request: r})
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
	a, err := w.mutateAs(ctx, c, raw, remove)
	if err != nil {
		return err
	}
	return writeDeleted(ctx, a)
}

// planDelete checks what the body asks for and returns what does it.
func (w *Writer) planDelete(c *collection, body deleteBody) (mutation, error) {
	byFilter := len(body.Filter) > 0 && body.Filter.Kind() != 'n'
	if byFilter == body.IDs.Given {
		return nil, httpapi.Unprocessable("ambiguous_body", "", "the body needs either ids or filter")
	}
	if byFilter {
		return w.planDeleteMatching(c, body.Filter)
	}
	if e := w.cfg.Limits.CheckRows("ids", body.IDs.Count); e != nil {
		return nil, e
	}
	return w.planDeleteIDs(c, body.IDs.Items)
}

func (w *Writer) planDeleteMatching(c *collection, filter []byte) (mutation, error) {
	f, err := parseFilter(w.cfg.Limits, filter)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, r request) (answer, error) { return c.deleteMatching(ctx, f, r) }, nil
}

func (w *Writer) planDeleteIDs(c *collection, ids []string) (mutation, error) {
	for i, id := range ids {
		if e := w.cfg.Limits.CheckID(fmt.Sprintf("ids[%d]", i), id); e != nil {
			return nil, e
		}
	}
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	return func(ctx context.Context, r request) (answer, error) {
		return c.deleteIDs(ctx, deletion{ids: ids, request: r})
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
	change, err := w.planPatch(c, id, body.Metadata)
	if err != nil {
		return err
	}
	raw, err := httpapi.Body(ctx)
	if err != nil {
		return err
	}
	a, err := w.mutateAs(ctx, c, raw, change)
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(ctx, fasthttp.StatusOK, patched{a.id, a.metadata, a.token.Seq, a.token.String()})
}

// planPatch checks what is to be merged into a row and returns what does it.
func (w *Writer) planPatch(c *collection, id string, metadata jsontext.Value) (mutation, error) {
	change, err := checkMetadata(w.cfg.Limits, "metadata", metadata)
	if err != nil {
		return nil, err
	}
	if change == nil {
		return nil, httpapi.Unprocessable("missing_field", "metadata", "metadata is missing").
			WithHint("null values in it remove single members")
	}
	return func(ctx context.Context, r request) (answer, error) { return c.patch(ctx, id, change, r) }, nil
}
