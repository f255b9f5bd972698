package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"

	"github.com/akidb/akidb/internal/httpapi"
)

// Config configures a Server.
type Config struct {
	// Logger takes the access log and failures of calls. Nil discards them.
	Logger *slog.Logger
	// Registerer takes the metrics of calls. Nil keeps them to itself.
	Registerer prometheus.Registerer
	// Tracer makes the server span of each call. Nil traces nothing.
	Tracer trace.Tracer
	// Limits bounds messages. Zero fields mean the defaults.
	Limits httpapi.Limits
	// ShutdownGrace is how long Run waits for calls in flight once its context
	// ended. 0 means 30 s.
	ShutdownGrace time.Duration
	// NewID makes ids for calls that bring none. Nil means ULIDs.
	NewID func() string
	// Now is the clock of the access log and the duration histogram. Nil means
	// time.Now.
	Now func() time.Time
}

// Validate reports every problem of c at once.
func (c Config) Validate() error {
	var errs []error
	if c.ShutdownGrace < 0 {
		errs = append(errs, fmt.Errorf("grpc: shutdown grace is %v, want at least 0", c.ShutdownGrace))
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
	if c.ShutdownGrace == 0 {
		c.ShutdownGrace = 30 * time.Second
	}
	c.Limits = c.Limits.WithDefaults()
	return c
}

// Server serves a Router, the standard health service and reflection.
type Server struct {
	cfg     Config
	router  *Router
	metrics *metrics
	grpc    *grpc.Server
	health  *health.Server
	known   map[string]label // of every method there is, by its full name

	drain      context.Context // ends when Run begins to drain
	beginDrain context.CancelFunc
}

const (
	// messageSlack is what is read beyond the limit, so that a message a little
	// too large is answered with the error of the contract.
	messageSlack = 1 << 20
	headerBytes  = 16 << 10 // as REST takes
	// callsPerConnection bounds the calls under way on one connection; more wait
	// at the client.
	callsPerConnection = 1024
)

// NewServer returns a server that is not listening yet. It registers its metrics,
// so one registry takes one server.
func NewServer(cfg Config, r *Router) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg.withDefaults(), router: r, health: health.NewServer(), known: map[string]label{}}
	var err error
	if s.metrics, err = newMetrics(s.cfg.Registerer); err != nil {
		return nil, err
	}
	s.drain, s.beginDrain = context.WithCancel(context.Background())
	s.grpc = grpc.NewServer(
		grpc.ForceServerCodecV2(Codec),
		grpc.StreamInterceptor(s.stream), grpc.UnaryInterceptor(s.unary),
		grpc.UnknownServiceHandler(s.serveUnknown),
		grpc.MaxRecvMsgSize(s.cfg.Limits.BatchBytes+messageSlack),
		grpc.MaxHeaderListSize(headerBytes),
		grpc.MaxConcurrentStreams(callsPerConnection),
		// Clients may ask often, so that they notice a network that has gone.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
	)
	for _, d := range r.services(s.serve) {
		s.grpc.RegisterService(d, nil)
	}
	grpc_health_v1.RegisterHealthServer(s.grpc, s.health)
	reflection.Register(s.grpc)
	for service, info := range s.grpc.GetServiceInfo() {
		for _, m := range info.Methods {
			s.known["/"+service+"/"+m.Name] = label{service, m.Name}
		}
	}
	return s, nil
}

// Run serves connections from ln until ctx ends, then turns unhealthy, accepts
// nobody new and waits for calls in flight; streams are ended after the message
// they are at. It returns nil after a drain, even one that the grace cut short,
// and an error when accepting failed. A server runs once.
func (s *Server) Run(ctx context.Context, ln net.Listener) error {
	served := make(chan error, 1)
	go func() { served <- s.grpc.Serve(ln) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve grpc: %w", err)
	case <-ctx.Done():
	}
	s.health.Shutdown() // watchers learn it before their connection goes
	s.beginDrain()
	httpapi.StopAccepting(context.WithoutCancel(ctx), ln)
	stopNow := time.AfterFunc(s.cfg.ShutdownGrace, s.grpc.Stop)
	defer stopNow.Stop()
	s.grpc.GracefulStop()
	if err := <-served; !errors.Is(err, grpc.ErrServerStopped) { // stopped before it had begun
		return err
	}
	return nil
}

// serve answers a call of a method of ours, or of one there is not.
func (s *Server) serve(stream grpc.ServerStream, method string) error {
	return s.call(stream.Context(), method, func(ctx context.Context) error {
		return s.router.serve(Call{ServerStream: contextStream{stream, ctx, false}, Method: method, Limits: s.cfg.Limits, Drain: s.drain})
	})
}

// serveUnknown answers calls of what is no method of this process.
func (s *Server) serveUnknown(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	return s.serve(stream, method)
}

// stream is the way of calls of services that are not ours. A watch on the health
// service, or reflection, lives as long as its client: a drain must not wait for
// it.
func (s *Server) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if l, known := s.known[info.FullMethod]; !known || s.router.has(l.service) {
		return handler(srv, stream) // which is serve
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(s.drain, cancel)()
	return s.call(ctx, info.FullMethod, func(ctx context.Context) error {
		return handler(srv, contextStream{stream, ctx, true})
	})
}

func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	err = s.call(ctx, info.FullMethod, func(ctx context.Context) error {
		resp, err = handler(ctx, req)
		return err
	})
	return resp, err
}

type contextStream struct {
	grpc.ServerStream
	ctx   context.Context
	leave bool // a read ends with ctx, which it does not by itself
}

func (s contextStream) Context() context.Context { return s.ctx }

func (s contextStream) RecvMsg(m any) error {
	if !s.leave {
		return s.ServerStream.RecvMsg(m)
	}
	got := make(chan error, 1)
	go func() { got <- s.ServerStream.RecvMsg(m) }()
	select {
	case err := <-got:
		return err
	case <-s.ctx.Done():
		return Draining
	}
}

type requestIDKey struct{}

// RequestID returns the id under which a call is logged and answered.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// call is the middleware, in the order in which it acts. Who may call what would
// be decided between startSpan and handle, by method and by what req says.
func (s *Server) call(ctx context.Context, method string, handle func(context.Context) error) error {
	start := s.cfg.Now()
	id := s.requestID(ctx)
	ctx = context.WithValue(ctx, requestIDKey{}, id)
	SetHeader(ctx, httpapi.HeaderRequestID, id)
	ctx, end := s.startSpan(ctx, method)

	answer, known := statusOf(guarded(ctx, handle), id)
	if known != nil {
		s.logFailure(ctx, id, known)
		if known.Applied != "" {
			_ = grpc.SetTrailer(ctx, metadata.Pairs(httpapi.HeaderWriteApplied, known.Applied))
		}
	}

	end(answer.Code())
	s.observe(ctx, method, id, answer.Code(), s.cfg.Now().Sub(start))
	return answer.Err()
}

// guarded turns a panic into an error: one broken call must not take the others
// down.
func guarded(ctx context.Context, handle func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return handle(ctx)
}

// requestID takes over the client's id when it is harmless, else makes one.
func (s *Server) requestID(ctx context.Context) string {
	if ids := metadata.ValueFromIncomingContext(ctx, httpapi.HeaderRequestID); len(ids) == 1 && httpapi.SaneRequestID(ids[0]) {
		return ids[0]
	}
	return s.cfg.NewID()
}

// SetHeader sets metadata of the answer, under the name of REST's header in lower
// case. It is sent with the answer, an error too.
func SetHeader(ctx context.Context, name, value string) {
	// It fails only where there is no call any more to answer.
	_ = grpc.SetHeader(ctx, metadata.Pairs(name, value))
}
