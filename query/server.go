package query

import (
	"context"
	"errors"
	"strconv"

	"github.com/valyala/fasthttp"

	"github.com/akidb/akidb/cache"
	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/internal/token"
	"github.com/akidb/akidb/segments/blob"
)

// Register adds the routes that read.
func (s *Service) Register(r *httpapi.Router) {
	r.Handle(fasthttp.MethodGet, "/collections", s.listCollections)
	r.Handle(fasthttp.MethodGet, "/collections/{c}", s.getCollection)
	rows := func(method, path string, h httpapi.Handler) { r.Handle(method, path, s.gated(h)) }
	rows(fasthttp.MethodGet, "/collections/{c}/vectors/{id}", s.getVector)
	rows(fasthttp.MethodPost, "/collections/{c}/vectors/scroll", readJSON(s.Scroll))
	rows(fasthttp.MethodPost, "/collections/{c}/vectors/count", readJSON(s.Count))
	rows(fasthttp.MethodPost, "/collections/{c}/facet", readJSON(s.Facet))
	rows(fasthttp.MethodPost, "/collections/{c}/search", readJSON(s.Search))
	rows(fasthttp.MethodPost, "/collections/{c}/search/batch", s.searchBatch)
	r.Handle(fasthttp.MethodPost, "/collections/{c}/warm", s.warmCollection)
	rows(fasthttp.MethodPost, "/collections/{c}/recall", readJSON(s.Recall))
}

// gated refuses a request that has no chance to be served before its body is
// looked at: what that would cost is what there is too little of.
func (s *Service) gated(h httpapi.Handler) httpapi.Handler {
	return func(ctx *fasthttp.RequestCtx) error {
		name, err := httpapi.Param(ctx, "c")
		if err != nil {
			return err
		}
		if r := s.catalog.known(name); r != nil { // else its line is not known
			if err := s.admission.gate(r.id); err != nil {
				return err
			}
		}
		return h(ctx)
	}
}

// RegisterForwards adds the routes that write or administer; they are the writer's
// to answer.
func (s *Service) RegisterForwards(r *httpapi.Router) {
	for _, route := range []struct{ method, path string }{
		{fasthttp.MethodPost, "/collections"},
		{fasthttp.MethodDelete, "/collections/{c}"},
		{fasthttp.MethodPost, "/collections/{c}/vectors"},
		{fasthttp.MethodPatch, "/collections/{c}/vectors/{id}"},
		{fasthttp.MethodDelete, "/collections/{c}/vectors/{id}"},
		{fasthttp.MethodPost, "/collections/{c}/vectors/delete"},
		{fasthttp.MethodPost, "/admin/collections/{c}/flush"},
		{fasthttp.MethodPost, "/admin/collections/{c}/compact"},
		{fasthttp.MethodPost, "/admin/collections/{c}/snapshots"},
		{fasthttp.MethodGet, "/admin/collections/{c}/snapshots"},
		{fasthttp.MethodDelete, "/admin/collections/{c}/snapshots/{snapshot}"},
		{fasthttp.MethodPost, "/admin/collections/{c}/restore"},
		{fasthttp.MethodPost, "/admin/collections/{c}/branch"},
		{fasthttp.MethodPost, "/admin/collections/{c}/promote"},
		{fasthttp.MethodPost, "/admin/collections/{c}/demote"},
		{fasthttp.MethodPost, "/admin/collections/{c}/pin"},
		{fasthttp.MethodPost, "/admin/collections/{c}/unpin"},
		{fasthttp.MethodGet, "/admin/dlq"},
		{fasthttp.MethodPost, "/admin/dlq/retry-all"},
		{fasthttp.MethodPost, "/admin/dlq/{id}/retry"},
		{fasthttp.MethodDelete, "/admin/dlq/{id}"},
	} {
		r.Handle(route.method, route.path, func(ctx *fasthttp.RequestCtx) error {
			if s.cfg.Writer == nil {
				err := noWriter("a write")
				var known *httpapi.Error
				if errors.As(err, &known) {
					return known.WithApplied(httpapi.NotApplied)
				}
				return err
			}
			return s.cfg.Writer.Forward(ctx)
		})
	}
}

// on runs fn on a state of collection nameOrID that is as fresh as asked for,
// and returns what that was. A collection that was dropped and made anew under
// its name is found again; an object that vanished under a state that was just
// replaced makes fn run once more, on the next. fn has a slot to compute in.
func (s *Service) on(ctx context.Context, nameOrID string, want Freshness, fn func(ctx context.Context, r *replica, st *state) error) (Served, error) {
	return s.onState(ctx, nameOrID, want, (*replica).acquire, func(ctx context.Context, r *replica, st *state) error {
		slot, err := s.admission.enter(ctx, r.id)
		if err != nil {
			return err
		}
		defer slot.leave()
		return fn(cache.WithWaiting(ctx, slot.wait), r, st)
	})
}

// acquirer is how a replica's state is come by.
type acquirer func(*replica, context.Context, Freshness) (*state, Served, error)

func (s *Service) onState(ctx context.Context, nameOrID string, want Freshness, acquire acquirer, fn func(ctx context.Context, r *replica, st *state) error) (Served, error) {
	for attempt := 0; ; attempt++ {
		r, err := s.catalog.find(ctx, nameOrID)
		if err != nil {
			return Served{}, asHTTP(err)
		}
		st, served, err := acquire(r, ctx, want)
		if err == nil {
			served.ManifestVersion = st.snapshot().Version
			if want.AsOf == nil {
				served.Token = st.token()
			}
			err = fn(ctx, r, st)
			if known, ok := errors.AsType[*httpapi.Error](err); err == nil || ok && known.Status < fasthttp.StatusInternalServerError {
				return served, err // an answer, if only that there is no such row
			}
		}
		switch {
		case errors.Is(err, errGone):
			s.catalog.forget(r.id)
			if attempt == 0 {
				continue
			}
			return Served{}, noSuchCollection(nameOrID)
		case want.AsOf != nil:
			return Served{}, asHTTP(r.pastError(*want.AsOf, err))
		case errors.Is(err, blob.ErrNotFound) && attempt == 0:
			err := r.refreshManifest(ctx)
			if errors.Is(err, errGone) {
				s.catalog.forget(r.id)
			} else if err != nil {
				return Served{}, asHTTP(err)
			}
			continue
		}
		return Served{}, asHTTP(err)
	}
}

// headers sets what a response says of the state it is of.
func (s Served) headers(set func(name, value string)) {
	if s.ManifestVersion == 0 {
		return
	}
	set(httpapi.HeaderConsistency, string(s.Consistency))
	set(httpapi.HeaderStalenessMs, strconv.FormatInt(s.Staleness.Milliseconds(), 10))
	set(httpapi.HeaderManifestVersion, strconv.FormatUint(s.ManifestVersion, 10))
	if s.Token != (token.Token{}) {
		set(httpapi.HeaderToken, s.Token.String())
	}
}

// answerJSON writes what a read ended with, and says of which state it is.
func answerJSON(ctx *fasthttp.RequestCtx, answer any, served Served, err error) error {
	served.headers(ctx.Response.Header.Set)
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(ctx, fasthttp.StatusOK, answer)
}

// readJSON is the handler of a read of one collection.
func readJSON[Q, A any](read func(ctx context.Context, collection string, req *Q) (*A, Served, error)) httpapi.Handler {
	return func(ctx *fasthttp.RequestCtx) error {
		req := new(Q)
		name, err := readBody(ctx, req)
		if err != nil {
			return err
		}
		answer, served, err := read(httpapi.Context(ctx), name, req)
		return answerJSON(ctx, answer, served, err)
	}
}

// readBody returns the collection's name of the path and decodes the body. No
// field of a read is required by its shape, so no body is an empty object.
func readBody(ctx *fasthttp.RequestCtx, body any) (collection string, err error) {
	if collection, err = httpapi.Param(ctx, "c"); err != nil {
		return "", err
	}
	if len(ctx.Request.Body()) == 0 {
		return collection, nil
	}
	return collection, httpapi.ReadJSON(ctx, body)
}

// readPath is what a request without a body says: the collection's name in the
// path, consistency and token, or as_of, in the query string.
func readPath(ctx *fasthttp.RequestCtx) (collection string, want Freshness, err error) {
	if collection, err = httpapi.Param(ctx, "c"); err != nil {
		return "", want, err
	}
	text := func(name string) *string {
		if !ctx.QueryArgs().Has(name) {
			return nil
		}
		v := string(ctx.QueryArgs().Peek(name))
		return &v
	}
	if want, err = parseFreshness(text("consistency"), text("token"), nil); err != nil {
		return collection, want, err
	}
	if asOf := text("as_of"); asOf != nil {
		if text("consistency") != nil || text("token") != nil {
			return collection, want, asOfAlone
		}
		want.AsOf, err = parseMomentText(*asOf)
	}
	return collection, want, err
}
