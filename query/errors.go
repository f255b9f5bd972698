package query

import (
	"context"
	"errors"
	"time"

	"github.com/akidb/akidb/cache"
	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/internal/token"
	"github.com/akidb/akidb/segments/blob"
)

// retryAfter is what a client is told to wait when something out of this
// process's hands is away: long enough not to pile up, short enough to notice.
const retryAfter = time.Second

func noSuchCollection(nameOrID string) error {
	return httpapi.NotFound("collection_not_found", "collection %q does not exist", nameOrID)
}

func noSuchVector(collection, id string) error {
	return httpapi.NotFound("vector_not_found", "collection %q has no vector with id %q", collection, id)
}

func noWriter(what string) error {
	return httpapi.Unavailable("no_writer", retryAfter, "%s needs the writer, and this process knows none", what).
		WithHint("start it with --writer-url")
}

func tokenNotVisible(t token.Token, st *state) error {
	return httpapi.Unavailable("token_not_visible", retryAfter, "the write of token %q is not visible here yet: want sequence number %d, have %d", t, t.Seq, st.seq())
}

// unavailable is a 503 about err, unless err is no matter of availability.
func unavailable(message string, err error) error {
	var known *httpapi.Error
	switch {
	case errors.As(err, &known), errors.Is(err, errGone), errors.Is(err, blob.ErrCorrupt), errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, context.DeadlineExceeded), !mayServeStale(err):
		return err
	}
	return httpapi.Unavailable("unavailable", retryAfter, "%s", message).WithCause(err)
}

// asHTTP turns what a read ended with into what the client is told.
func asHTTP(err error) error {
	var known *httpapi.Error
	var over *cache.OverBudgetError
	switch {
	case err == nil, errors.As(err, &known):
		return err
	case errors.As(err, &over):
		return overBudget(over)
	case errors.Is(err, context.DeadlineExceeded):
		return httpapi.Unavailable("timeout", retryAfter, "the request took longer than it was allowed").WithCause(err).
			WithHint("raise timeout_ms, or ask for less: a lower k, target_recall or limit")
	case errors.Is(err, blob.ErrUnavailable):
		return httpapi.Unavailable("store_unavailable", retryAfter, "the object store cannot be read now").WithCause(err)
	}
	return err
}
