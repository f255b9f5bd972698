package query

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/valyala/fasthttp"
	"golang.org/x/sync/errgroup"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/internal/info"
	"github.com/akidb/akidb/internal/memtable"
	"github.com/akidb/akidb/segments/columns"
	"github.com/akidb/akidb/segments/manifest"
)

func (r *replica) info(st *state) *info.Collection {
	out := r.infoOf(st.snapshot(), st.seq())
	out.VectorCount, out.UnindexedCount = st.rowCount(), uint64(len(st.tailRows(nil)))
	out.ResidentBytes, out.Placement = r.service.resident.describe(st.view)
	return out
}

// describeParallel is how many collections are described at once.
const describeParallel = 16

// describe tells of the collection as it is after a request has arrived.
func (r *replica) describe(ctx context.Context, arrived time.Time) (*info.Collection, error) {
	if r.state.Load() == nil {
		if known, err := r.glance(ctx, arrived); known != nil || err != nil {
			return known, err
		}
	}
	st, _, err := r.described(ctx, Freshness{Consistency: Latest})
	if err != nil {
		return nil, err
	}
	return r.info(st), nil
}

// glance describes a collection whose segments are not open by its manifest
// alone. It returns nil where that does not do: rows that are not in it yet may
// replace others, and what is to be in memory will be opened anyway.
func (r *replica) glance(ctx context.Context, arrived time.Time) (*info.Collection, error) {
	for range 2 { // once more with a newer manifest
		snap, verifiedAt := r.snapshot()
		if rankOf(snap) >= placed {
			return nil, nil
		}
		if r.service.writerUp(arrived) {
			b, err := r.service.cfg.Writer.Tail(ctx, r.id, snap.FlushedSeq)
			if err != nil {
				return nil, nil // described has to find out what that means
			}
			delta, err := memtable.DecodeDelta(b, snap.Collection.Dimension)
			if err != nil {
				return nil, fmt.Errorf("tail of collection %q: %w", r.id, err)
			}
			if delta.Version <= snap.Version && delta.After <= snap.FlushedSeq {
				if len(delta.Ops) > 0 {
					return nil, nil
				}
				return r.infoOf(snap, max(delta.Upto, snap.FlushedSeq)), nil
			}
		} else if !verifiedAt.Before(arrived) {
			return r.infoOf(snap, snap.FlushedSeq), nil
		}
		if _, err := r.readHead(ctx); err != nil {
			if errors.Is(err, errGone) {
				return nil, err
			}
			return nil, nil
		}
	}
	return nil, nil
}

// infoOf is info of a manifest with nothing after it up to seq.
func (r *replica) infoOf(snap *manifest.Snapshot, seq uint64) *info.Collection {
	c := snap.Collection
	out := &info.Collection{
		ID: c.ID, Name: c.Name, Dimension: c.Dimension, Metric: c.Metric, CreatedAt: c.CreatedAt,
		VectorCount: snap.Rows(), SegmentCount: len(snap.Segments), SizeBytes: snap.Bytes(), Tier: r.tier(),
		ManifestVersion: snap.Version, Seq: seq,
	}
	if p := snap.Placement; p != nil {
		out.Placement = &info.Placement{Tier: info.Tier(p.Tier), Pinned: p.Pinned, Since: p.Since}
	}
	return out
}

func (s *Service) listCollections(ctx *fasthttp.RequestCtx) error {
	infos, err := s.ListCollections(httpapi.Context(ctx))
	return answerJSON(ctx, struct {
		Collections []*info.Collection `json:"collections"`
	}{infos}, Served{}, err)
}

// ListCollections describes every collection, by name.
func (s *Service) ListCollections(ctx context.Context) ([]*info.Collection, error) {
	arrived := s.cfg.Now()
	all, err := s.catalog.all(ctx)
	if err != nil {
		return nil, asHTTP(err)
	}
	infos := make([]*info.Collection, len(all))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(describeParallel)
	for i, r := range all {
		g.Go(func() (err error) {
			if infos[i], err = r.describe(ctx, arrived); errors.Is(err, errGone) {
				s.catalog.forget(r.id)
				return nil
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, asHTTP(err)
	}
	return slices.DeleteFunc(infos, func(i *info.Collection) bool { return i == nil }), nil
}

func (s *Service) getCollection(ctx *fasthttp.RequestCtx) error {
	name, want, err := readPath(ctx)
	if err != nil {
		return err
	}
	described, served, err := s.GetCollection(httpapi.Context(ctx), name, want)
	return answerJSON(ctx, described, served, err)
}

// GetCollection describes a collection, given by its name or id.
func (s *Service) GetCollection(ctx context.Context, collection string, want Freshness) (described *info.Collection, served Served, err error) {
	served, err = s.onState(ctx, collection, want, (*replica).described, func(_ context.Context, r *replica, st *state) error {
		described = r.info(st)
		return nil
	})
	return described, served, err
}

// Row is a stored row as clients see it: with a vector and metadata where they
// were asked for.
type Row struct {
	ID       string         `json:"id"`
	Vector   httpapi.Vector `json:"vector,omitempty"`
	Metadata jsontext.Value `json:"metadata,omitempty"`
	Version  uint64         `json:"version,omitzero"`
}

// wholeRow is a Row of which every column was asked for, null metadata included.
type wholeRow struct {
	ID       string         `json:"id"`
	Vector   httpapi.Vector `json:"vector"`
	Metadata jsontext.Value `json:"metadata"`
	Version  uint64         `json:"version"`
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
	got, served, err := s.GetVector(httpapi.Context(ctx), name, id, want)
	if err != nil {
		return answerJSON(ctx, nil, served, err)
	}
	return answerJSON(ctx, wholeRow(*got), served, nil)
}

// GetVector returns a row of a collection, all of it. The error is a 404 where
// there is none.
func (s *Service) GetVector(ctx context.Context, collection, id string, want Freshness) (*Row, Served, error) {
	var out *Row
	served, err := s.on(ctx, collection, want, func(ctx context.Context, _ *replica, st *state) error {
		got, ok, err := st.get(ctx, id)
		if err != nil {
			return err
		}
		if !ok {
			return noSuchVector(st.collection().Name, id)
		}
		out = &Row{got.id, got.vector, jsonOrNull(got.metadata), got.version}
		return nil
	})
	return out, served, err
}

func jsonOrNull(b []byte) jsontext.Value {
	if b == nil {
		return jsontext.Value("null")
	}
	return b
}

// ScrollResponse is a page of a scroll.
type ScrollResponse struct {
	Vectors []Row   `json:"vectors"`
	Next    *string `json:"next_cursor"` // null after the last page
}

// Scroll returns a page of the rows of a collection that match, in order of id or
// of what OrderBy names.
func (s *Service) Scroll(ctx context.Context, collection string, req *ScrollRequest) (*ScrollResponse, Served, error) {
	limit, err := s.parseLimit(req.Limit, defaultScrollLimit)
	if err != nil {
		return nil, Served{}, err
	}
	by, err := req.OrderBy.parse()
	if err != nil {
		return nil, Served{}, err
	}
	after, err := by.decodeCursor(req.Cursor)
	if err != nil {
		return nil, Served{}, err
	}
	include, err := parseInclude(req.Include)
	if err != nil {
		return nil, Served{}, err
	}
	f, err := s.parseFilter(req.Filter)
	if err != nil {
		return nil, Served{}, err
	}
	want, err := parseFreshness(req.Consistency, req.Token, req.AsOf)
	if err != nil {
		return nil, Served{}, err
	}
	var out *ScrollResponse
	served, err := s.on(ctx, collection, want, func(ctx context.Context, _ *replica, st *state) error {
		rows, next, err := s.scroll(ctx, st, f, by, after, limit, include)
		if err != nil {
			return err
		}
		out = &ScrollResponse{Vectors: make([]Row, len(rows))}
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
		if next != nil {
			cursor := by.encodeCursor(next)
			out.Next = &cursor
		}
		return nil
	})
	return out, served, err
}

// CountResponse is how many rows matched.
type CountResponse struct {
	Count uint64 `json:"count"`
}

// Count counts the rows of a collection that match.
func (s *Service) Count(ctx context.Context, collection string, req *CountRequest) (*CountResponse, Served, error) {
	f, err := s.parseFilter(req.Filter)
	if err != nil {
		return nil, Served{}, err
	}
	want, err := parseFreshness(req.Consistency, req.Token, req.AsOf)
	if err != nil {
		return nil, Served{}, err
	}
	var out CountResponse
	served, err := s.on(ctx, collection, want, func(ctx context.Context, _ *replica, st *state) (err error) {
		out.Count, err = s.count(ctx, st, f)
		return err
	})
	return &out, served, err
}

// FacetResponse has the most frequent values of a key.
type FacetResponse struct {
	Hits []FacetHit `json:"hits"` // most rows first, then by value
}

// FacetHit is a value and how many rows have it.
type FacetHit struct {
	Value jsontext.Value `json:"value"` // a string, a number or a boolean
	Count uint64         `json:"count"`
}

const defaultFacetLimit = 10

// Facet counts the rows of a collection that match, by the values that they have
// at a key.
func (s *Service) Facet(ctx context.Context, collection string, req *FacetRequest) (*FacetResponse, Served, error) {
	if req.Key == nil {
		return nil, Served{}, httpapi.Unprocessable("invalid_key", "key", "a facet needs the key to count values of")
	}
	key, err := columns.ParseKey(*req.Key)
	if err != nil {
		return nil, Served{}, invalidKey("key", *req.Key, err)
	}
	limit, err := s.parseLimit(req.Limit, defaultFacetLimit)
	if err != nil {
		return nil, Served{}, err
	}
	f, err := s.parseFilter(req.Filter)
	if err != nil {
		return nil, Served{}, err
	}
	want, err := parseFreshness(req.Consistency, req.Token, req.AsOf)
	if err != nil {
		return nil, Served{}, err
	}
	out := &FacetResponse{}
	served, err := s.on(ctx, collection, want, func(ctx context.Context, _ *replica, st *state) (err error) {
		out.Hits, err = s.facet(ctx, st, f, key, limit)
		return err
	})
	return out, served, err
}

func invalidKey(field, key string, err error) error {
	return httpapi.Unprocessable("invalid_key", field, "%s is %.80q, want a key like a.b: %v", field, key, err)
}
