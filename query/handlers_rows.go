package query

import (
	"context"
	"errors"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/valyala/fasthttp"
	"golang.org/x/sync/errgroup"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/internal/info"
)

func (r *replica) info(st *state) *info.Collection {
	c, snap := st.collection(), st.snapshot()
	return &info.Collection{
		ID: c.ID, Name: c.Name, Dimension: c.Dimension, Metric: c.Metric, CreatedAt: c.CreatedAt,
		VectorCount: st.rowCount(), UnindexedCount: uint64(len(st.tailRows(nil))),
		SegmentCount: len(snap.Segments), SizeBytes: snap.Bytes(), Tier: r.tier(),
		ManifestVersion: snap.Version, Seq: st.seq(),
	}
}

func (s *Service) listCollections(ctx *fasthttp.RequestCtx) error {
	c := httpapi.Context(ctx)
	all, err := s.catalog.all(c)
	if err != nil {
		return asHTTP(err)
	}
	infos := make([]*info.Collection, len(all))
	g, c := errgroup.WithContext(c)
	g.SetLimit(loadParallel)
	for i, r := range all {
		g.Go(func() error {
			st, _, err := r.described(c, Freshness{Consistency: Latest})
			if errors.Is(err, errGone) {
				s.catalog.forget(r.id)
				return nil
			}
			if err == nil {
				infos[i] = r.info(st)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return asHTTP(err)
	}
	infos = slices.DeleteFunc(infos, func(i *info.Collection) bool { return i == nil })
	return httpapi.WriteJSON(ctx, fasthttp.StatusOK, struct {
		Collections []*info.Collection `json:"collections"`
	}{infos})
}

func (s *Service) getCollection(ctx *fasthttp.RequestCtx) error {
	name, want, err := readPath(ctx)
	if err != nil {
		return err
	}
	return s.onState(httpapi.Context(ctx), ctx, name, want, (*replica).described, func(_ context.Context, r *replica, st *state) error {
		return httpapi.WriteJSON(ctx, fasthttp.StatusOK, r.info(st))
	})
}

// vectorJSON is a stored row as clients see it.
type vectorJSON struct {
	ID       string         `json:"id"`
	Vector   httpapi.Vector `json:"vector,omitempty"`
	Metadata jsontext.Value `json:"metadata,omitempty"`
	Version  uint64         `json:"version,omitzero"`
}

func (s *Service) getVector(ctx *fasthttp.RequestCtx) error {
	name, want, err := readPath(ctx)
	if err != nil {
		return err
	}
	id, err := httpapi.Param(ctx, "id")
	if err != nil {
		return err
	}
	return s.on(httpapi.Context(ctx), ctx, name, want, func(c context.Context, _ *replica, st *state) error {
		got, ok, err := st.get(c, id)
		if err != nil {
			return err
		}
		if !ok {
			return noSuchVector(st.collection().Name, id)
		}
		return httpapi.WriteJSON(ctx, fasthttp.StatusOK, struct {
			ID       string         `json:"id"`
			Vector   httpapi.Vector `json:"vector"`
			Metadata jsontext.Value `json:"metadata"`
			Version  uint64         `json:"version"`
		}{got.id, got.vector, jsonOrNull(got.metadata), got.version})
	})
}

func jsonOrNull(b []byte) jsontext.Value {
	if b == nil {
		return jsontext.Value("null")
	}
	return b
}

func (s *Service) scrollVectors(ctx *fasthttp.RequestCtx) error {
	var req scrollRequest
	name, err := readBody(ctx, &req)
	if err != nil {
		return err
	}
	limit := defaultScrollLimit
	if req.Limit != nil {
		limit = *req.Limit
	}
	if limit < 1 || limit > s.cfg.Limits.BatchRows {
		return httpapi.Unprocessable("out_of_range", "limit", "limit is %d, want 1 to %d", limit, s.cfg.Limits.BatchRows)
	}
	after := ""
	if req.Cursor != nil {
		if after, err = decodeCursor(*req.Cursor); err != nil {
			return err
		}
	}
	include, err := parseInclude(req.Include)
	if err != nil {
		return err
	}
	f, err := s.parseFilter(req.Filter)
	if err != nil {
		return err
	}
	want, err := parseFreshness(req.Consistency, req.Token, req.AsOf)
	if err != nil {
		return err
	}
	return s.on(httpapi.Context(ctx), ctx, name, want, func(c context.Context, _ *replica, st *state) error {
		rows, more, err := s.scroll(c, st, f, after, limit, include)
		if err != nil {
			return err
		}
		out := struct {
			Vectors []vectorJSON `json:"vectors"`
			Next    *string      `json:"next_cursor"`
		}{Vectors: make([]vectorJSON, len(rows))}
		for i, r := range rows {
			out.Vectors[i].ID = r.id
			if include.vector {
				out.Vectors[i].Vector = r.vector
			}
			if include.metadata {
				out.Vectors[i].Metadata = jsonOrNull(r.metadata)
			}
			if include.version {
				out.Vectors[i].Version = r.version
			}
		}
		if more {
			next := encodeCursor(rows[len(rows)-1].id)
			out.Next = &next
		}
		return httpapi.WriteJSON(ctx, fasthttp.StatusOK, out)
	})
}

func (s *Service) countVectors(ctx *fasthttp.RequestCtx) error {
	var req countRequest
	name, err := readBody(ctx, &req)
	if err != nil {
		return err
	}
	f, err := s.parseFilter(req.Filter)
	if err != nil {
		return err
	}
	want, err := parseFreshness(req.Consistency, req.Token, req.AsOf)
	if err != nil {
		return err
	}
	return s.on(httpapi.Context(ctx), ctx, name, want, func(c context.Context, _ *replica, st *state) error {
		n, err := s.count(c, st, f)
		if err != nil {
			return err
		}
		return httpapi.WriteJSON(ctx, fasthttp.StatusOK, struct {
			Count uint64 `json:"count"`
		}{n})
	})
}
