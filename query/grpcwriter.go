package query

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/protobuf/proto"

	akidbv1 "github.com/akidb/akidb/api/akidb/v1"
	"github.com/akidb/akidb/internal/grpcapi"
	"github.com/akidb/akidb/internal/httpapi"
)

// GRPCWriter hands gRPC calls on to a writer.
type GRPCWriter struct{ conn *grpc.ClientConn }

// NewGRPCWriter returns what forwards to the writer at addr, host:port, over TLS
// if the writer is behind something that terminates it. It does no I/O.
func NewGRPCWriter(addr string, overTLS bool, limits httpapi.Limits) (*GRPCWriter, error) {
	creds := insecure.NewCredentials()
	if overTLS {
		creds = credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12})
	}
	most := limits.WithDefaults().BatchBytes
	// passthrough: the address is looked up for every connection, so that a writer
	// that moved is found at once.
	conn, err := grpc.NewClient("passthrough:///"+addr,
		grpc.WithTransportCredentials(creds),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			return (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", addr)
		}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 2 * time.Second,
		}),
		// A connection that nobody answers on is given up; see the server's policy.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 10 * time.Second}),
		// A write that was sent twice is a lie about how often it was applied.
		grpc.WithDisableRetry(),
		grpc.WithStatsHandler(sentWatcher{}),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(grpcapi.Codec), grpc.MaxCallSendMsgSize(most), grpc.MaxCallRecvMsgSize(maxTailBytes)),
	)
	if err != nil {
		return nil, fmt.Errorf("writer grpc address %q: %w", addr, err)
	}
	return &GRPCWriter{conn}, nil
}

// Close closes the connection.
func (w *GRPCWriter) Close() { _ = w.conn.Close() }

// ForwardGRPC has the writer answer what this process does not: what
// RegisterForwards does for REST. w is nil where there is no writer to ask.
func (s *Service) ForwardGRPC(r *grpcapi.Router, w *GRPCWriter) {
	r.Forward(func(c grpcapi.Call) error {
		if w == nil {
			e, _ := errors.AsType[*httpapi.Error](noWriter("a write"))
			return e.WithApplied(httpapi.NotApplied)
		}
		return w.forward(c)
	})
}

// forward passes a call on as it is. A failure says whether the write was sent.
func (w *GRPCWriter) forward(c grpcapi.Call) error {
	sent := new(atomic.Bool)
	ctx, cancel := context.WithCancel(context.WithValue(outgoing(c.Context()), sentKey{}, sent))
	defer cancel()
	pass := w.unary
	if c.Streams {
		pass = w.stream
	}
	var header, trailer metadata.MD
	answer, err := pass(ctx, c, grpc.Header(&header), grpc.Trailer(&trailer))
	for name, values := range header {
		if !reserved(name) && !strings.EqualFold(name, httpapi.HeaderRequestID) {
			grpcapi.SetHeader(c.Context(), name, values[0])
		}
	}
	for name := range trailer {
		if reserved(name) {
			delete(trailer, name)
		}
	}
	c.SetTrailer(trailer)
	if err == nil {
		return c.SendMsg(answer)
	}
	refused, ours := errors.AsType[*httpapi.Error](err)
	switch {
	case ours && refused.Applied == "":
		return refused.WithApplied(httpapi.NotApplied) // before anything was sent
	case ours || grpcapi.IsAnswer(err):
		return err
	}
	return unanswered(err, sent.Load())
}

// unanswered is the error of a call that the writer did not answer.
func unanswered(err error, sent bool) error {
	if sent {
		return forwardError(err)
	}
	return forwardError(&notSentError{err})
}

func (w *GRPCWriter) unary(ctx context.Context, c grpcapi.Call, opts ...grpc.CallOption) (*grpcapi.Frame, error) {
	in, err := c.Receive()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, forwardTimeout)
	defer cancel()
	out := new(grpcapi.Frame)
	return out, w.conn.Invoke(ctx, c.Method, &in, out, opts...)
}

// stream passes messages on one by one, as fast as the writer takes them.
func (w *GRPCWriter) stream(ctx context.Context, c grpcapi.Call, opts ...grpc.CallOption) (*grpcapi.Frame, error) {
	to, err := w.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, c.Method, opts...)
	if err != nil {
		return nil, err
	}
	answer := make(chan grpcapi.Arrival, 1)
	go func() { // the writer may answer, with an error, before it has all
		var got grpcapi.Arrival
		got.Err = to.RecvMsg(&got.Frame)
		answer <- got
	}()
	arrivals := c.Arrivals()
	var broken error // why the writer gets no more, though there was more
	for arrivals != nil {
		select {
		case got := <-arrivals:
			switch {
			case got.Err == io.EOF:
				arrivals = nil
			case grpcapi.Ended(got.Err):
				return nil, got.Err // the client has gone, and the writer learns it as ctx ends
			case got.Err != nil:
				arrivals, broken = nil, got.Err
			case to.SendMsg(&got.Frame) != nil:
				arrivals = nil // the writer's answer says why
			}
		case got := <-answer:
			return &got.Frame, got.Err
		case <-c.Drain.Done():
			arrivals, broken = nil, grpcapi.Draining
		}
	}
	if err := to.CloseSend(); err != nil {
		return nil, err
	}
	got := <-answer
	if broken == nil || got.Err != nil {
		return &got.Frame, got.Err
	}
	// The writer has taken all that came before.
	done := new(akidbv1.StreamUpsertResponse)
	if err := proto.Unmarshal(got.Frame.Bytes, done); err != nil {
		return nil, err
	}
	return nil, grpcapi.StreamError(httpapi.AsError(broken).WithApplied(httpapi.NotApplied), done)
}

// reserved tells metadata that belongs to a connection and not to a call.
func reserved(name string) bool {
	return strings.HasPrefix(name, ":") || strings.HasPrefix(name, "grpc-") || name == "content-type" || name == "user-agent" || name == "te" || name == "connection"
}

// outgoing is the context of a call that goes on with what the client sent along.
func outgoing(ctx context.Context) context.Context {
	in, _ := metadata.FromIncomingContext(ctx)
	out := metadata.MD{}
	for name, values := range in {
		if !reserved(name) {
			out[name] = values
		}
	}
	out.Set(httpapi.HeaderRequestID, grpcapi.RequestID(ctx))
	return metadata.NewOutgoingContext(ctx, out)
}

type sentKey struct{}

// sentWatcher notes that a call was given to a connection: from then on nobody
// here can say that it did not arrive.
type sentWatcher struct{}

func (sentWatcher) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }
func (sentWatcher) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if _, ok := s.(*stats.OutHeader); !ok {
		return
	}
	if sent, ok := ctx.Value(sentKey{}).(*atomic.Bool); ok {
		sent.Store(true)
	}
}
func (sentWatcher) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (sentWatcher) HandleConn(context.Context, stats.ConnStats)                       {}
