package writer

import (
	"context"

	"github.com/valyala/fasthttp"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/internal/info"
	"github.com/akidb/akidb/segments/ivfpq"
	"github.com/akidb/akidb/segments/manifest"
)

// createBody asks for a collection.
type createBody struct {
	Name      string `json:"name"`
	Dimension int    `json:"dimension"`
	Metric    string `json:"metric"`
	Config    struct {
		Codebook string `json:"codebook"` // empty: sign
	} `json:"config"`
}

func (w *Writer) postCollections(ctx *fasthttp.RequestCtx) error {
	var body createBody
	if err := httpapi.ReadJSON(ctx, &body); err != nil {
		return err
	}
	made, err := w.createAs(httpapi.Context(ctx), body)
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(ctx, fasthttp.StatusCreated, made)
}

// createAs makes the collection that body asks for, and describes it.
func (w *Writer) createAs(ctx context.Context, body createBody) (info.Collection, error) {
	for _, e := range []*httpapi.Error{
		httpapi.CheckName("name", body.Name),
		w.cfg.Limits.CheckDimension("dimension", body.Dimension),
		httpapi.CheckMetric("metric", body.Metric),
	} {
		if e != nil {
			return info.Collection{}, e
		}
	}
	if book := body.Config.Codebook; book != "" {
		if _, err := ivfpq.ParseCodebook(book); err != nil {
			return info.Collection{}, httpapi.Unprocessable("invalid_codebook", "config.codebook", "config.codebook is %q, want sign or learned", book)
		}
	}
	c, err := w.create(ctx, manifest.Collection{
		Name: body.Name, Dimension: body.Dimension, Metric: body.Metric, Codebook: body.Config.Codebook,
	})
	if err != nil {
		return info.Collection{}, err
	}
	return c.infoOfNew(ctx)
}

// infoOfNew describes a collection that was just made: a failure to is not one to
// make it.
func (c *collection) infoOfNew(ctx context.Context) (info.Collection, error) {
	i, err := c.info(ctx)
	if err != nil {
		return i, asWriteError(err).WithApplied(httpapi.UnknownApplied)
	}
	return i, nil
}

func (w *Writer) getCollection(ctx *fasthttp.RequestCtx) error {
	c, err := w.collection(ctx)
	if err != nil {
		return err
	}
	described, err := c.info(httpapi.Context(ctx))
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(ctx, fasthttp.StatusOK, described)
}

type collectionList struct {
	Collections []info.Collection `json:"collections"`
}

func (w *Writer) getCollections(ctx *fasthttp.RequestCtx) error {
	infos, err := w.Collections(httpapi.Context(ctx))
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(ctx, fasthttp.StatusOK, collectionList{infos})
}

// Collections describes every collection, ordered by name.
func (w *Writer) Collections(ctx context.Context) ([]info.Collection, error) {
	infos := []info.Collection{}
	for _, c := range w.catalog.all() {
		info, err := c.info(ctx)
		if err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	return infos, nil
}

func (w *Writer) deleteCollection(ctx *fasthttp.RequestCtx) error {
	c, err := w.collection(ctx)
	if err == nil {
		err = w.drop(httpapi.Context(ctx), c)
	}
	if err == nil {
		ctx.SetStatusCode(fasthttp.StatusNoContent)
	}
	return err
}
