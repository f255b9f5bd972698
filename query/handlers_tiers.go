package query

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/valyala/fasthttp"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/internal/info"
	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/columns"
)

// WarmRequest asks for a collection's data to be brought near.
type WarmRequest struct {
	// Parts are some of routing, postings and vectors; none means the first two.
	Parts []string `json:"parts"`
	// Wait answers when it is done, and not at once.
	Wait bool `json:"wait"`
}

// What of a collection can be warmed.
const (
	// routingPart is what a search needs before it reads a list: footers and
	// quantizers. They are in memory as long as a process knows the collection.
	routingPart = "routing"
	// postingsPart is what a search reads most of: lists and ids.
	postingsPart = "postings"
	// vectorsPart is what the last candidates are scored with.
	vectorsPart = "vectors"
)

// WarmResponse says what there is to warm, and how much of it is in memory now.
type WarmResponse struct {
	CollectionID  string    `json:"collection_id"`
	Parts         []string  `json:"parts"`
	Tier          info.Tier `json:"tier"`
	SegmentCount  int       `json:"segment_count"`
	PostingsBytes int64     `json:"postings_bytes"` // what lists and ids take in memory
	ResidentBytes int64     `json:"resident_bytes"` // of them, in memory
	// Condition is no_room when not all of it fits in memory; only after a wait.
	Condition info.Condition `json:"condition,omitempty"`
}

func (s *Service) warmCollection(ctx *fasthttp.RequestCtx) error {
	var req WarmRequest
	name, err := readBody(ctx, &req)
	if err != nil {
		return err
	}
	resp, served, err := s.Warm(httpapi.Context(ctx), name, &req)
	err = answerJSON(ctx, resp, served, err)
	if err == nil && !req.Wait {
		ctx.SetStatusCode(fasthttp.StatusAccepted)
	}
	return err
}

// Warm brings data of a collection into memory and onto the disk of this
// process, in the background unless the request waits for it. Errors are
// *httpapi.Error where the client is to be told something.
func (s *Service) Warm(ctx context.Context, collection string, req *WarmRequest) (*WarmResponse, Served, error) {
	parts, err := warmParts(req.Parts)
	if err != nil {
		return nil, Served{}, err
	}
	var resp *WarmResponse
	served, err := s.onState(ctx, collection, Freshness{Consistency: Latest}, (*replica).described, func(ctx context.Context, r *replica, st *state) error {
		condition := info.Condition("")
		if req.Wait {
			err := s.warmParts(ctx, st.view, parts)
			if errors.Is(err, errNoRoom) {
				condition, err = info.NoRoom, nil
			}
			if err != nil {
				return err
			}
		} else {
			s.warmSoon(st, parts)
		}
		resp = &WarmResponse{CollectionID: r.id, Parts: parts, Tier: r.tier(), SegmentCount: len(st.view.Segments), Condition: condition}
		resp.ResidentBytes, _ = s.resident.describe(st.view)
		for _, seg := range st.view.Segments {
			resp.PostingsBytes += seg.ResidentSize()
		}
		return nil
	})
	return resp, served, err
}

// warmSoon warms parts of a state in the background. While that goes on for one
// of the collection's versions, it is not begun again for it.
func (s *Service) warmSoon(st *state, parts []string) {
	doing := fmt.Sprint(st.collection().ID, st.snapshot().Version, parts)
	if _, already := s.warming.LoadOrStore(doing, true); already {
		return
	}
	s.catalog.background(func(ctx context.Context) {
		defer s.warming.Delete(doing)
		if err := s.warmParts(ctx, st.view, parts); err != nil && !errors.Is(err, context.Canceled) {
			s.cfg.Logger.Warn("collection not warmed", "collection", st.collection().Name, "err", err)
		}
	})
}

func warmParts(asked []string) ([]string, error) {
	if len(asked) == 0 {
		return []string{routingPart, postingsPart}, nil
	}
	for _, part := range asked {
		if !slices.Contains([]string{routingPart, postingsPart, vectorsPart}, part) {
			return nil, httpapi.Unprocessable("invalid_part", "parts", "parts has %.40q, want some of %s, %s and %s", part, routingPart, postingsPart, vectorsPart)
		}
	}
	return slices.Compact(slices.Sorted(slices.Values(asked))), nil
}

// warmParts reads parts of a view. Lists and ids go into memory, unless the
// collection is placed elsewhere: then they are read for the caches alone.
func (s *Service) warmParts(ctx context.Context, view *segments.View, parts []string) error {
	var full error
	if slices.Contains(parts, postingsPart) {
		var err error
		if rankOf(view.Snapshot) == keptOut {
			err = s.touchLists(ctx, view)
		} else {
			err = s.resident.warm(ctx, view, func(string) bool { return true })
		}
		if errors.Is(err, errNoRoom) {
			full, err = err, nil
		}
		if err != nil {
			return err
		}
	}
	if slices.Contains(parts, vectorsPart) {
		for _, seg := range slices.Backward(view.Segments) {
			if err := s.touchRows(ctx, seg, columns.ProjectVector); err != nil {
				return err
			}
		}
	}
	return full
}

// listsAtOnce is how many lists are read for the caches between two looks at
// whether searches run, and rowsAtOnce how many vectors.
const (
	listsAtOnce = 256
	rowsAtOnce  = 1024
)

// touchLists reads all lists and ids once, newest segments first, as searches
// would.
func (s *Service) touchLists(ctx context.Context, view *segments.View) error {
	for i, seg := range slices.Backward(view.Segments) {
		var refs []segments.ListRef
		if p := seg.Postings(); p != nil {
			refs = make([]segments.ListRef, len(p.Lists()))
		}
		for n := range refs {
			refs[n] = segments.ListRef{Segment: i, List: uint32(n)}
		}
		for some := range slices.Chunk(refs, listsAtOnce) {
			s.Quiet()
			if _, err := view.Lists(ctx, some); err != nil {
				return err
			}
		}
		if err := s.touchRows(ctx, seg, columns.ProjectID); err != nil {
			return err
		}
	}
	return nil
}

// touchRows reads a column of all rows of a segment once, as searches would.
func (s *Service) touchRows(ctx context.Context, seg segments.LiveSegment, want columns.Projection) error {
	ordinals := make([]uint32, 0, rowsAtOnce)
	for first := uint32(0); first < seg.Rows(); first += rowsAtOnce {
		ordinals = ordinals[:0]
		for o := first; o < min(first+rowsAtOnce, seg.Rows()); o++ {
			ordinals = append(ordinals, o)
		}
		s.Quiet()
		if _, err := seg.RowsAt(ctx, ordinals, want); err != nil {
			return err
		}
	}
	return nil
}
