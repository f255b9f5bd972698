package writer

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/valyala/fasthttp"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/writer/wal"
)

// Register adds the routes that write, administer, and serve query processes.
func (w *Writer) Register(r *httpapi.Router) {
	for _, route := range []struct {
		method, path string
		handle       httpapi.Handler
	}{
		{fasthttp.MethodPost, "/collections", w.postCollections},
		{fasthttp.MethodDelete, "/collections/{c}", w.deleteCollection},
		{fasthttp.MethodPost, "/collections/{c}/vectors", w.postVectors},
		{fasthttp.MethodDelete, "/collections/{c}/vectors/{id}", w.deleteVector},
		{fasthttp.MethodPatch, "/collections/{c}/vectors/{id}", w.patchVector},
		{fasthttp.MethodPost, "/collections/{c}/vectors/delete", w.postDelete},
		{fasthttp.MethodPost, "/admin/collections/{c}/flush", w.postFlush},
		{fasthttp.MethodPost, "/admin/collections/{c}/compact", w.postCompact},
		{fasthttp.MethodPost, "/admin/collections/{c}/snapshots", w.postSnapshots},
		{fasthttp.MethodGet, "/admin/collections/{c}/snapshots", w.getSnapshots},
		{fasthttp.MethodDelete, "/admin/collections/{c}/snapshots/{snapshot}", w.deleteSnapshot},
		{fasthttp.MethodPost, "/admin/collections/{c}/restore", w.postRestore},
		{fasthttp.MethodPost, "/admin/collections/{c}/branch", w.postBranch},
		{fasthttp.MethodPost, "/admin/collections/{c}/promote", w.postPromote},
		{fasthttp.MethodPost, "/admin/collections/{c}/demote", w.postDemote},
		{fasthttp.MethodPost, "/admin/collections/{c}/pin", w.postPin},
		{fasthttp.MethodPost, "/admin/collections/{c}/unpin", w.postUnpin},
		{fasthttp.MethodGet, "/admin/dlq", w.getDeadLetters},
		{fasthttp.MethodPost, "/admin/dlq/retry-all", w.postRetryAll},
		{fasthttp.MethodPost, "/admin/dlq/{id}/retry", w.postRetry},
		{fasthttp.MethodDelete, "/admin/dlq/{id}", w.deleteDeadLetter},
	} {
		r.Handle(route.method, route.path, writing(route.handle))
	}
	r.HandleRoot(fasthttp.MethodGet, "/internal/v1/collections", w.getInternalCollections)
	r.HandleRoot(fasthttp.MethodGet, "/internal/v1/collections/{c}/tail", w.getTail)
}

// RegisterReads adds what a writer without a query process at its side answers
// about its collections.
func (w *Writer) RegisterReads(r *httpapi.Router) {
	r.Handle(fasthttp.MethodGet, "/collections", reading(w.getCollections))
	r.Handle(fasthttp.MethodGet, "/collections/{c}", reading(w.getCollection))
}

// writing has every failure of a handler say whether it was applied.
func writing(h httpapi.Handler) httpapi.Handler {
	return func(ctx *fasthttp.RequestCtx) error {
		if err := h(ctx); err != nil {
			return asWriteError(err)
		}
		return nil
	}
}

func reading(h httpapi.Handler) httpapi.Handler {
	return func(ctx *fasthttp.RequestCtx) error {
		if err := h(ctx); err != nil {
			return classify(err).WithApplied("")
		}
		return nil
	}
}

// collection finds the one that the path names.
func (w *Writer) collection(ctx *fasthttp.RequestCtx) (*collection, error) {
	name, err := httpapi.Param(ctx, "c")
	if err != nil {
		return nil, err
	}
	return w.catalog.find(name)
}

// vectorID is the id that the path names.
func (w *Writer) vectorID(ctx *fasthttp.RequestCtx) (string, error) {
	id, err := httpapi.Param(ctx, "id")
	if err != nil {
		return "", err
	}
	return id, asError(w.cfg.Limits.CheckID("id", id))
}

// request is what a write asks for beside the rows it is about.
type request struct {
	durability string
	key        string // idempotency key; "" for none
	keyName    string // what the client calls it
	digest     digest // of all that the request says; only with a key
}

// named is a value of a request and what the client calls it.
type named struct{ name, value string }

const (
	durableOnDisk  = "disk"
	durableInStore = "object"
)

// newRequest checks what a write asks for.
func newRequest(durability, key named, digest func() digest) (request, error) {
	r := request{durability: durability.value, key: key.value, keyName: key.name}
	switch r.durability {
	case "":
		r.durability = durableOnDisk
	case durableOnDisk, durableInStore:
	default:
		return request{}, httpapi.Unprocessable("invalid_durability", durability.name,
			"%s is %.40q, want disk or object", durability.name, r.durability)
	}
	if len(r.key) > wal.MaxKeyBytes {
		return request{}, httpapi.Unprocessable("invalid_idempotency_key", key.name,
			"%s has %d bytes; at most %d are allowed", key.name, len(r.key), wal.MaxKeyBytes)
	}
	if r.key != "" {
		r.digest = digest()
	}
	return r, nil
}

// request reads the headers of a write to c; body is what the request says.
func (w *Writer) request(ctx *fasthttp.RequestCtx, c *collection, body []byte) (request, error) {
	header := func(name string) named { return named{name, string(ctx.Request.Header.Peek(name))} }
	return newRequest(header(httpapi.HeaderDurability), header(httpapi.HeaderIdempotencyKey), func() digest {
		return digestOf(ctx.Method(), []byte(c.meta.ID), ctx.Path(), ctx.Request.Header.ContentType(), body)
	})
}

// digestOf hashes parts so that no two sequences of them collide by shifting.
func digestOf(parts ...[]byte) digest {
	h := sha256.New()
	for _, p := range parts {
		h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(p))))
		h.Write(p)
	}
	return digest(h.Sum(nil))
}

// mutateAs carries out a write with what its headers ask for, and says in the
// response how durable it is.
func (w *Writer) mutateAs(ctx *fasthttp.RequestCtx, c *collection, body []byte, do mutation) (answer, error) {
	r, err := w.request(ctx, c, body)
	if err != nil {
		return answer{}, err
	}
	a, err := w.mutate(httpapi.Context(ctx), c, r, do)
	if err != nil {
		return answer{}, err
	}
	ctx.Response.Header.Set(httpapi.HeaderDurability, r.durability)
	return a, nil
}

// mutation is the part of a write that comes once for an idempotency key.
type mutation func(ctx context.Context, r request) (answer, error)

// mutate carries out a write to c.
func (w *Writer) mutate(ctx context.Context, c *collection, r request, do mutation) (answer, error) {
	if r.durability == durableInStore {
		if err := c.online(); err != nil {
			return answer{}, err
		}
	}
	began := w.cfg.Now()
	w.owns.expect()
	a, err := c.once(ctx, r, func() (answer, error) { return do(ctx, r) })
	if err != nil {
		return answer{}, err
	}
	if r.durability == durableInStore {
		if err := w.awaitStore(ctx, c, a.token.Seq); err != nil {
			return answer{}, asWriteError(err).WithApplied(httpapi.UnknownApplied).
				WithHint("the write is in the log and will reach the object store; token %s", a.token)
		}
	}
	if err := w.owns.confirm(ctx); err != nil {
		return answer{}, fmt.Errorf("write to collection %q: %w", c.meta.Name, err)
	}
	if a.kind == kindUpsert {
		w.metrics.insert.Observe(r.durability, w.cfg.Now().Sub(began))
	}
	return a, nil
}

// awaitStore waits, within WaitLimit, until everything up to seq is in the
// object store.
func (w *Writer) awaitStore(ctx context.Context, c *collection, seq uint64) error {
	_, err := detached(ctx, w, func(bg context.Context) (struct{}, error) {
		return struct{}{}, c.flushTo(bg, seq)
	})
	return err
}

// after reads the query parameter of the same name.
func after(ctx *fasthttp.RequestCtx) (uint64, error) {
	raw := ctx.QueryArgs().Peek("after")
	if len(raw) == 0 {
		return 0, nil
	}
	n, err := strconv.ParseUint(string(raw), 10, 64)
	if err != nil {
		return 0, httpapi.BadRequest("malformed_query", "after", "after is %.40q, want a sequence number", raw)
	}
	return n, nil
}
