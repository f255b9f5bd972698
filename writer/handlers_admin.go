package writer

import (
	"context"

	"github.com/valyala/fasthttp"

	"github.com/akidb/akidb/internal/httpapi"
)

// maintained is the answer to flush and compact: the collection afterwards.
type maintained struct {
	ManifestVersion uint64 `json:"manifest_version"`
	FlushedSeq      uint64 `json:"flushed_seq"`
	SegmentCount    int    `json:"segment_count"`
}

func (w *Writer) postFlush(ctx *fasthttp.RequestCtx) error   { return w.postMaintain(ctx, w.flush) }
func (w *Writer) postCompact(ctx *fasthttp.RequestCtx) error { return w.postMaintain(ctx, w.compact) }

func (w *Writer) postMaintain(ctx *fasthttp.RequestCtx, work func(context.Context, string) (maintained, error)) error {
	name, err := httpapi.Param(ctx, "c")
	if err != nil {
		return err
	}
	after, err := work(httpapi.Context(ctx), name)
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(ctx, fasthttp.StatusOK, after)
}

// flush brings all rows of a collection, given by its name or id, to the store.
func (w *Writer) flush(ctx context.Context, nameOrID string) (maintained, error) {
	return w.maintain(ctx, nameOrID, func(ctx context.Context, c *collection) error {
		return c.flushTo(ctx, c.state().seq)
	})
}

// compact merges a collection's segments.
func (w *Writer) compact(ctx context.Context, nameOrID string) (maintained, error) {
	return w.maintain(ctx, nameOrID, func(_ context.Context, c *collection) error { return c.compactAll() })
}

func (w *Writer) maintain(ctx context.Context, nameOrID string, work func(context.Context, *collection) error) (maintained, error) {
	c, err := w.claimed(nameOrID)
	if err != nil {
		return maintained{}, err
	}
	return detached(ctx, w, func(ctx context.Context) (maintained, error) {
		if err := work(ctx, c); err != nil {
			return maintained{}, err
		}
		s := c.state().view.Snapshot
		return maintained{s.Version, s.FlushedSeq, len(s.Segments)}, nil
	})
}

func (w *Writer) getTail(ctx *fasthttp.RequestCtx) error {
	id, err := httpapi.Param(ctx, "c")
	if err != nil {
		return err
	}
	from, err := after(ctx)
	if err != nil {
		return err
	}
	delta, err := w.Tail(httpapi.Context(ctx), id, from)
	if err != nil {
		return err
	}
	ctx.Response.Header.SetContentType("application/octet-stream")
	ctx.SetBody(delta)
	return nil
}

// Summary is what a query process needs to know of a collection before it reads
// the manifest.
type Summary struct {
	ID              string `json:"collection_id"`
	Name            string `json:"name"`
	Dimension       int    `json:"dimension"`
	Metric          string `json:"metric"`
	Epoch           uint64 `json:"epoch"`
	ManifestVersion uint64 `json:"manifest_version"`
	FlushedSeq      uint64 `json:"flushed_seq"`
	Seq             uint64 `json:"seq"`
}

// Summaries lists the collections there are at this moment, ordered by name. It
// does no I/O.
func (w *Writer) Summaries() []Summary {
	out := []Summary{}
	for _, c := range w.catalog.all() {
		s := c.state()
		out = append(out, Summary{
			ID: c.meta.ID, Name: c.meta.Name, Dimension: c.meta.Dimension, Metric: c.meta.Metric,
			Epoch: c.epoch(), ManifestVersion: s.view.Snapshot.Version, FlushedSeq: s.view.Snapshot.FlushedSeq, Seq: s.seq,
		})
	}
	return out
}

type summaryList struct {
	Collections []Summary `json:"collections"`
}

func (w *Writer) getInternalCollections(ctx *fasthttp.RequestCtx) error {
	return httpapi.WriteJSON(ctx, fasthttp.StatusOK, summaryList{w.Summaries()})
}
