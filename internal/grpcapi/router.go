// Package grpcapi is the gRPC edge of a server process: what httpapi is for
// REST. It has no semantics of its own. Handlers take and return the messages of
// api/akidb/v1 and fail with the errors that REST answers, which become gRPC
// statuses in one place.
//
// A method is one of a service in api/akidb/v1 and is answered by whoever
// registered it: a query service its reads, a writer its writes, each in its own
// process or both in one. What a query process does not answer itself it may
// forward.
package grpcapi

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	akidbv1 "github.com/akidb/akidb/api/akidb/v1"
	"github.com/akidb/akidb/internal/httpapi"
)

// files are the descriptions of all services there are.
var files = []protoreflect.FileDescriptor{
	akidbv1.File_akidb_v1_collections_proto,
	akidbv1.File_akidb_v1_vectors_proto,
	akidbv1.File_akidb_v1_search_proto,
	akidbv1.File_akidb_v1_admin_proto,
}

// Router says who answers which method. Methods are registered before it serves;
// registering one twice, or with messages that are not its own, panics.
type Router struct {
	methods map[string]protoreflect.MethodDescriptor // by full name, /service/method
	answers map[string]answerer
	forward func(Call) error // nil: what nobody answers is an error
}

// Call is one call under way.
type Call struct {
	grpc.ServerStream
	Method  string // its full name, /service/method
	Streams bool   // the client sends messages until it has no more
	Limits  httpapi.Limits
	Drain   context.Context // ends when the server begins to drain
}

type answerer func(Call) error

// NewRouter returns a router without answers.
func NewRouter() *Router {
	r := &Router{methods: map[string]protoreflect.MethodDescriptor{}, answers: map[string]answerer{}}
	for _, f := range files {
		for i := range f.Services().Len() {
			service := f.Services().Get(i)
			for j := range service.Methods().Len() {
				m := service.Methods().Get(j)
				r.methods[fmt.Sprintf("/%s/%s", service.FullName(), m.Name())] = m
			}
		}
	}
	return r
}

// Forward has all calls that nobody registered for answered by fn.
func (r *Router) Forward(fn func(Call) error) { r.forward = fn }

// Unary registers h for a method that takes one message and answers one. Every
// repeated field of the request that holds messages or strings has a bound.
func Unary[Req, Resp proto.Message](r *Router, method string, h func(context.Context, Req) (Resp, error), bounds ...Bound) {
	Write(r, method, func(err error) error { return err }, h, bounds...)
}

// Write is Unary for a method of which every failure goes through failed first:
// those of h, and those of a request that never got there.
func Write[Req, Resp proto.Message](r *Router, method string, failed func(error) error, h func(context.Context, Req) (Resp, error), bounds ...Bound) {
	decode := decoderOf[Req](register[Resp](r, method, false), bounds)
	r.answers[method] = func(c Call) error {
		f, err := c.Receive()
		if Ended(err) {
			return err // nobody is there to be told
		}
		var req Req
		if err == nil {
			req, err = decode(f)
		}
		var resp Resp
		if err == nil {
			resp, err = h(c.Context(), req)
		}
		if err != nil {
			return failed(err)
		}
		return c.SendMsg(resp)
	}
}

// ClientStream registers h for a method that takes messages until the client has
// no more and then answers one. next returns them one after the other: io.EOF
// after the last, and an error when the server drains. At most one message is
// read ahead; the rest waits at the client.
func ClientStream[Req, Resp proto.Message](r *Router, method string, h func(ctx context.Context, next func() (Req, error)) (Resp, error), bounds ...Bound) {
	decode := decoderOf[Req](register[Resp](r, method, true), bounds)
	r.answers[method] = func(c Call) error {
		ctx, arrivals := c.Context(), c.Arrivals()
		resp, err := h(ctx, func() (req Req, err error) {
			select {
			case got := <-arrivals:
				if got.Err != nil {
					return req, got.Err
				}
				return decode(got.Frame)
			case <-c.Drain.Done():
				return req, Draining
			case <-ctx.Done():
				return req, context.Cause(ctx)
			}
		})
		if err != nil {
			return err
		}
		return c.SendMsg(resp)
	}
}

// register checks that method is one of those, and that it answers with a Resp.
func register[Resp proto.Message](r *Router, method string, streams bool) protoreflect.MethodDescriptor {
	m := r.methods[method]
	if m == nil || r.answers[method] != nil || m.IsStreamingClient() != streams || m.IsStreamingServer() {
		panic(fmt.Sprintf("BUG: %s is no such method, or registered twice", method))
	}
	var resp Resp
	if resp.ProtoReflect().Descriptor() != m.Output() {
		panic(fmt.Sprintf("BUG: %s answers with %s", method, m.Output().FullName()))
	}
	return m
}

// Receive returns the next message: io.EOF after the last, and an error of the
// contract for one that is too large.
func (c Call) Receive() (f Frame, err error) {
	if err = c.RecvMsg(&f); err != nil {
		return f, err // answered by gRPC itself, if the client is still there
	}
	if n := len(f.Bytes); n > c.Limits.BatchBytes {
		return f, httpapi.TooLarge(bodyTooLarge, "", "the message has %d bytes; at most %d are allowed", n, c.Limits.BatchBytes).
			WithHint("send several smaller batches")
	}
	return f, nil
}

// Arrival is a message of a stream, or why there are no more.
type Arrival struct {
	Frame Frame
	Err   error
}

// Arrivals reads a stream to its end, one message ahead of who takes them. It
// ends with the call, which is soon after its handler has returned.
func (c Call) Arrivals() <-chan Arrival {
	arrivals := make(chan Arrival)
	go func() {
		for {
			var got Arrival
			got.Frame, got.Err = c.Receive()
			select {
			case arrivals <- got:
			case <-c.Context().Done():
				return
			}
			if got.Err != nil {
				return
			}
		}
	}()
	return arrivals
}

// Draining ends streams of a server that is about to stop.
var Draining = httpapi.Unavailable("shutting_down", 0, "the server is shutting down")

// serve answers a call.
func (r *Router) serve(c Call) error {
	m := r.methods[c.Method]
	if m == nil {
		return notServed("there is no method %.128q", strings.ToValidUTF8(c.Method, "?"))
	}
	c.Streams = m.IsStreamingClient()
	switch answer := r.answers[c.Method]; {
	case answer != nil:
		return answer(c)
	case r.forward != nil:
		return r.forward(c)
	}
	return notServed("%s is not answered by this process", c.Method).WithHint("query processes answer reads, the writer answers writes; akidb dev answers both")
}

func notServed(format string, args ...any) *httpapi.Error {
	return httpapi.NotFound(noSuchMethod, format, args...)
}

// has tells services of ours.
func (r *Router) has(service string) bool {
	return slices.ContainsFunc(files, func(f protoreflect.FileDescriptor) bool {
		return f.Services().ByName(protoreflect.FullName(service).Name()) != nil && protoreflect.FullName(service).Parent() == f.Package()
	})
}

// services are the descriptions that a grpc.Server wants.
func (r *Router) services(handle func(stream grpc.ServerStream, method string) error) []*grpc.ServiceDesc {
	var out []*grpc.ServiceDesc
	for _, f := range files {
		for i := range f.Services().Len() {
			service := f.Services().Get(i)
			d := &grpc.ServiceDesc{ServiceName: string(service.FullName()), Metadata: f.Path()}
			for j := range service.Methods().Len() {
				m := service.Methods().Get(j)
				method := fmt.Sprintf("/%s/%s", service.FullName(), m.Name())
				d.Streams = append(d.Streams, grpc.StreamDesc{
					StreamName: string(m.Name()), ClientStreams: m.IsStreamingClient(), ServerStreams: m.IsStreamingServer(),
					Handler: func(_ any, stream grpc.ServerStream) error { return handle(stream, method) },
				})
			}
			out = append(out, d)
		}
	}
	return out
}
