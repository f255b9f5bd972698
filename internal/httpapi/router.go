package httpapi

import (
	"context"
	"net/url"
	"slices"
	"strings"

	"github.com/fasthttp/router"
	"github.com/valyala/fasthttp"
)

// Base is the prefix of the versioned API.
const Base = "/api/v1"

// Response headers of the contract.
const (
	HeaderRequestID       = "X-Request-Id"
	HeaderWriteApplied    = "X-Akidb-Write-Applied"
	HeaderDurability      = "X-Akidb-Durability"
	HeaderConsistency     = "X-Akidb-Consistency"
	HeaderStalenessMs     = "X-Akidb-Staleness-Ms"
	HeaderManifestVersion = "X-Akidb-Manifest-Version"
	HeaderToken           = "X-Akidb-Token"
	HeaderIdempotencyKey  = "Idempotency-Key"
)

// Handler answers one request. It either writes a response (see [WriteJSON]) and
// returns nil, or returns an error for the server to write. The RequestCtx and
// every byte slice taken from it are only valid until it returns. For work on
// behalf of the request use [Context], never the RequestCtx itself, which is
// cancelled as soon as draining begins.
type Handler func(*fasthttp.RequestCtx) error

// Router dispatches by method and path. Routes are registered before it serves;
// registering a pattern twice panics. Its Serve method is itself a Handler, so
// one router can hand requests to another in the same process.
type Router struct {
	mux *router.Router
}

// NewRouter returns a router without routes: everything is 404.
func NewRouter() *Router {
	m := router.New()
	// A redirect would turn a typo in a path into a silent second request, and
	// ids may contain slashes, escaped.
	m.RedirectTrailingSlash = false
	m.RedirectFixedPath = false
	m.NotFound = func(ctx *fasthttp.RequestCtx) {
		stateOf(ctx).err = NotFound("no_such_route", "there is no %s", printable(ctx.Path())).
			WithHint("the API lives below %s", Base)
	}
	m.MethodNotAllowed = func(ctx *fasthttp.RequestCtx) {
		stateOf(ctx).err = &Error{
			Status:  fasthttp.StatusMethodNotAllowed,
			Code:    "method_not_allowed",
			Message: printable(ctx.Method()) + " is not allowed here; allowed: " + string(ctx.Response.Header.Peek("Allow")),
		}
	}
	return &Router{mux: m}
}

// Handle registers h for method and Base+path. Path parameters are written
// `{name}` and read with [Param].
func (r *Router) Handle(method, path string, h Handler) { r.HandleRoot(method, Base+path, h) }

// HandleRoot registers h for a path outside the versioned API. A GET route
// answers HEAD too.
func (r *Router) HandleRoot(method, path string, h Handler) {
	wrapped := func(ctx *fasthttp.RequestCtx) {
		st := stateOf(ctx)
		st.route = path
		st.err = h(ctx)
	}
	r.mux.Handle(method, path, wrapped)
	if method == fasthttp.MethodGet {
		r.mux.Handle(fasthttp.MethodHead, path, wrapped)
	}
}

// Serve dispatches one request. It is a [Handler].
func (r *Router) Serve(ctx *fasthttp.RequestCtx) error {
	r.mux.Handler(ctx)
	return stateOf(ctx).err
}

// Routes lists "METHOD /pattern" of everything registered, sorted.
func (r *Router) Routes() []string {
	var all []string
	for method, paths := range r.mux.List() {
		for _, p := range paths {
			all = append(all, method+" "+p)
		}
	}
	slices.Sort(all)
	return all
}

// Param returns a path parameter, percent-decoded. An escape that cannot be
// decoded is a 400.
func Param(ctx *fasthttp.RequestCtx, name string) (string, error) {
	raw, ok := ctx.UserValue(name).(string)
	if !ok {
		panic("BUG: the route has no path parameter " + name)
	}
	v, err := url.PathUnescape(raw)
	if err != nil {
		return "", BadRequest("malformed_path", name, "path parameter %s has a malformed percent escape: %s", name, printable([]byte(raw)))
	}
	return strings.Clone(v), nil // raw aliases the connection's buffer
}

// state is what the middleware and the router know of one request.
type state struct {
	id    string
	route string // the matched pattern, "" when none
	err   error
	ctx   context.Context
}

type stateKey struct{}

// stateOf returns the request's state, adding an empty one when the request did
// not come through a Server (a router driven directly, as tests do).
func stateOf(ctx *fasthttp.RequestCtx) *state {
	if st, ok := ctx.UserValue(stateKey{}).(*state); ok {
		return st
	}
	st := &state{ctx: context.Background()}
	ctx.SetUserValue(stateKey{}, st)
	return st
}

// RequestID returns the id under which the request is logged and answered.
func RequestID(ctx *fasthttp.RequestCtx) string { return stateOf(ctx).id }

// Context returns the context for work on behalf of the request. It carries the
// trace span and ends only when the server gives up waiting for the request.
func Context(ctx *fasthttp.RequestCtx) context.Context { return stateOf(ctx).ctx }

// printable quotes what a client sent so that it cannot garble a message or a
// terminal, and cuts it short.
func printable(b []byte) string {
	const most = 80
	s := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return '?'
		}
		return r
	}, string(b[:min(len(b), most)]))
	if len(b) > most {
		s += "…"
	}
	return s
}
