package httpapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
	"go.opentelemetry.io/otel/trace"
)

// Config configures a Server.
type Config struct {
	// Logger takes the access log and request failures. Nil discards them.
	Logger *slog.Logger
	// Registerer takes the HTTP metrics. Nil keeps them to itself.
	Registerer prometheus.Registerer
	// Tracer makes the server span of each request. Nil traces nothing.
	Tracer trace.Tracer
	// Limits bounds request bodies. Zero fields mean the defaults.
	Limits Limits
	// ShutdownGrace is how long Run waits for requests in flight once its context
	// ended. 0 means 30 s.
	ShutdownGrace time.Duration
	// ReadTimeout bounds reading one whole request, IdleTimeout waiting for the
	// next on a kept-alive connection. 0 means 5 min and 2 min.
	ReadTimeout, IdleTimeout time.Duration
	// Connections is how many may be open at once; each holds some 32 KiB. One
	// too many is told so and closed. 0 means 8192.
	Connections int
	// NewID makes ids for requests that bring none. Nil means ULIDs.
	NewID func() string
	// Now is the clock of the access log and the duration histogram. Nil means
	// time.Now.
	Now func() time.Time
}

// Validate reports every problem of c at once.
func (c Config) Validate() error {
	var errs []error
	for name, d := range map[string]time.Duration{
		"shutdown grace": c.ShutdownGrace, "read timeout": c.ReadTimeout, "idle timeout": c.IdleTimeout,
	} {
		if d < 0 {
			errs = append(errs, fmt.Errorf("http: %s is %v, want at least 0", name, d))
		}
	}
	if c.Connections < 0 {
		errs = append(errs, fmt.Errorf("http: connections are %d, want at least 0", c.Connections))
	}
	return errors.Join(append(errs, c.Limits.WithDefaults().Validate())...)
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Registerer == nil {
		c.Registerer = prometheus.NewRegistry()
	}
	if c.NewID == nil {
		c.NewID = func() string { return ulid.Make().String() }
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	c.Limits = c.Limits.WithDefaults()
	c.Connections = cmp.Or(c.Connections, 8192)
	c.ShutdownGrace = orDefault(c.ShutdownGrace, 30*time.Second)
	c.ReadTimeout = orDefault(c.ReadTimeout, 5*time.Minute)
	c.IdleTimeout = orDefault(c.IdleTimeout, 2*time.Minute)
	return c
}

func orDefault(d, def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return d
}

// Server serves a Handler, usually a Router's Serve, over HTTP/1.1.
type Server struct {
	cfg     Config
	handler Handler
	metrics *metrics
	http    *fasthttp.Server
	base    context.Context // of every request; ends when Run gives up draining
	giveUp  context.CancelFunc

	draining atomic.Bool
}

// bodySlack is what fasthttp reads beyond the body limit, so that a body a
// little too large is answered on a connection that stays usable.
const bodySlack = 1 << 20

// NewServer returns a server that is not listening yet. It registers its
// metrics, so one registry takes one server.
func NewServer(cfg Config, h Handler) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg.withDefaults(), handler: h}
	var err error
	if s.metrics, err = newMetrics(s.cfg.Registerer); err != nil {
		return nil, err
	}
	s.base, s.giveUp = context.WithCancel(context.Background())
	s.http = &fasthttp.Server{
		Handler:                      s.serve,
		ErrorHandler:                 s.serveProtocolError,
		Logger:                       protocolLogger{s.cfg.Logger},
		NoDefaultServerHeader:        true,
		NoDefaultContentType:         true,
		DisablePreParseMultipartForm: true,
		SecureErrorLogMessage:        true,
		CloseOnShutdown:              true,
		MaxRequestBodySize:           s.cfg.Limits.BatchBytes + bodySlack,
		ReadBufferSize:               16 << 10, // also the most a request's headers may take
		ReadTimeout:                  s.cfg.ReadTimeout,
		IdleTimeout:                  s.cfg.IdleTimeout,
		Concurrency:                  2 * s.cfg.Connections, // the listener sees to it
	}
	return s, nil
}

// Run serves connections from ln until ctx ends, then stops accepting, closes
// idle connections and waits for requests in flight. It returns nil after a
// complete drain, and an error when the grace ran out or accepting failed.
// A server runs once.
func (s *Server) Run(ctx context.Context, ln net.Listener) error {
	defer s.giveUp()
	served := make(chan error, 1)
	accepting := &announcingListener{
		Listener: ln, began: make(chan struct{}), most: int64(s.cfg.Connections), leaving: make(chan struct{}, turnAwayAtOnce),
		turnedAway: func() string {
			s.metrics.requests.WithLabelValues("OTHER", "unmatched", "503").Inc()
			return s.cfg.NewID()
		},
	}
	go func() { served <- s.http.Serve(accepting) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve %q: %w", ln.Addr(), err)
	case <-accepting.began: // before that, fasthttp knows no listener to shut down
	}
	select {
	case err := <-served:
		return fmt.Errorf("serve %q: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.ShutdownGrace)
	defer cancel()
	s.sayGoodbye(drain, accepting)
	if err := s.http.ShutdownWithContext(drain); err != nil {
		return fmt.Errorf("drain %q: %d connections still open after %v: %w",
			ln.Addr(), s.http.GetOpenConnectionsCount(), s.cfg.ShutdownGrace, err)
	}
	return <-served
}

// goodbye is how long kept-alive connections have for one more request once the
// server drains.
const goodbye = time.Second

// sayGoodbye accepts who has connected and nobody new, and has clients that are in the middle of
// something leave by themselves: their next answer says that the connection
// closes. Closing idle connections at once would reset the requests that are on
// their way over them.
func (s *Server) sayGoodbye(ctx context.Context, ln *announcingListener) {
	s.draining.Store(true)
	ctx, cancel := context.WithTimeout(ctx, goodbye)
	defer cancel()
	StopAccepting(ctx, ln.Listener)
	_ = ln.Close()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for ln.open.Load() > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// serve is the middleware, in the order in which it acts.
func (s *Server) serve(ctx *fasthttp.RequestCtx) {
	start := s.cfg.Now()
	st := &state{id: s.requestID(ctx), ctx: s.base}
	ctx.SetUserValue(stateKey{}, st)
	ctx.SetUserValue(limitsKey{}, s.cfg.Limits)
	ctx.Response.Header.Set(HeaderRequestID, st.id)
	end := s.startSpan(ctx, st)

	if err := s.call(ctx); err != nil {
		writeError(ctx, s.cfg.Logger, err)
	}
	ensureRetryAfter(ctx)
	if s.draining.Load() {
		ctx.SetConnectionClose()
	}

	end()
	s.observe(ctx, st, s.cfg.Now().Sub(start))
}

// call runs the handler and turns a panic into an error: one broken request must
// not take the others down.
func (s *Server) call(ctx *fasthttp.RequestCtx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return s.handler(ctx)
}

// serveProtocolError answers what never became a request: fasthttp calls it
// instead of the handler and closes the connection afterwards.
func (s *Server) serveProtocolError(ctx *fasthttp.RequestCtx, err error) {
	lingerOnClose(ctx.Conn())
	start := s.cfg.Now()
	ctx.Response.Reset()
	st := &state{id: s.requestID(ctx), ctx: s.base}
	ctx.SetUserValue(stateKey{}, st)
	ctx.Response.Header.Set(HeaderRequestID, st.id)
	writeError(ctx, s.cfg.Logger, protocolError(err, s.cfg.Limits))
	s.observe(ctx, st, s.cfg.Now().Sub(start))
}

func protocolError(err error, limits Limits) *Error {
	netErr, isNet := errors.AsType[net.Error](err)
	_, headerTooLarge := errors.AsType[*fasthttp.ErrSmallBuffer](err)
	switch {
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		return bodyTooLarge(limits.BatchBytes)
	case headerTooLarge:
		return &Error{Status: fasthttp.StatusRequestHeaderFieldsTooLarge, Code: "headers_too_large", Message: "the request's headers are too large"}
	case isNet && netErr.Timeout():
		return &Error{Status: fasthttp.StatusRequestTimeout, Code: "request_timeout", Message: "the request did not arrive in time"}
	}
	return BadRequest("malformed_http", "", "the request is not well-formed HTTP/1.1")
}

// requestID takes over the client's id when it is harmless, else makes one.
func (s *Server) requestID(ctx *fasthttp.RequestCtx) string {
	if id := string(ctx.Request.Header.Peek(HeaderRequestID)); SaneRequestID(id) {
		return id
	}
	return s.cfg.NewID()
}

// SaneRequestID admits what cannot garble a log or a header: 1 to 128 visible
// ASCII characters that need no quoting.
func SaneRequestID(id string) bool {
	if id == "" || len(id) > 128 {
		return false
	}
	return !strings.ContainsFunc(id, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.:/+=@", r)
	})
}

// protocolLogger routes what fasthttp logs about connections to slog.
type protocolLogger struct{ log *slog.Logger }

func (l protocolLogger) Printf(format string, args ...any) {
	l.log.Debug("connection", slog.String("error", fmt.Sprintf(format, args...)))
}
